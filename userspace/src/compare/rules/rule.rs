//! One rule, checked.
//!
//! Counts nothing and judges no difference: the rules together do.

use std::sync::Arc;

use super::super::CompareConfigError;
use super::super::findings::Place;
use super::clean::{CleanRule, Cleaning};
use super::kinds::{CompareErrors, IgnoreRule, MatchRule};
use super::path::{PathStep, Pattern, parse_pattern};
use super::predicate::Predicate;
use super::tolerance::{Tolerance, ToleranceRule};

/// One rule of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) text: Arc<str>,
    pub(super) effect: Effect,
}

/// What a rule does, and where.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Ignore(Pattern, Box<Predicate>),
    Clean(Pattern, Box<Cleaning>),
    Tolerance(Pattern, Tolerance),
    Unordered(Pattern),
    MatchBy(Pattern, Vec<String>),
    Errors(CompareErrors),
}

// === impl Rule ===

impl Rule {
    pub(super) fn ignore(rule: &IgnoreRule) -> Result<Self, CompareConfigError> {
        let text = rule.to_string();
        let at = parse_pattern(&rule.at).map_err(|problem| bad("ignore", &text, problem))?;
        let predicate = Predicate::new(&rule.when).map_err(|problem| bad("ignore", &text, problem))?;
        Ok(Self { text: text.into(), effect: Effect::Ignore(at, Box::new(predicate)) })
    }

    pub(super) fn clean(rule: &CleanRule) -> Result<Self, CompareConfigError> {
        let text = rule.to_string();
        let at = parse_pattern(&rule.at).map_err(|problem| bad("clean", &text, problem))?;
        let cleaning = Cleaning::new(rule).map_err(|problem| bad("clean", &text, problem))?;
        Ok(Self { text: text.into(), effect: Effect::Clean(at, Box::new(cleaning)) })
    }

    pub(super) fn tolerance(rule: &ToleranceRule) -> Result<Self, CompareConfigError> {
        let text = rule.to_string();
        let at = parse_pattern(&rule.at).map_err(|problem| bad("tolerance", &text, problem))?;
        let tolerance = Tolerance::new(rule).map_err(|problem| bad("tolerance", &text, problem))?;
        Ok(Self { text: text.into(), effect: Effect::Tolerance(at, tolerance) })
    }

    pub(super) fn unordered(at: &str) -> Result<Self, CompareConfigError> {
        let pattern = array_pattern(at).map_err(|problem| bad("unordered", at, problem))?;
        Ok(Self { text: format!("unordered {at}").into(), effect: Effect::Unordered(pattern) })
    }

    pub(super) fn match_by(rule: &MatchRule) -> Result<Self, CompareConfigError> {
        let text = rule.to_string();
        let at = array_pattern(&rule.at).map_err(|problem| bad("match_by", &text, problem))?;
        if rule.keys.is_empty() {
            return Err(bad("match_by", &text, "names no member: add `key = \"id\"`".to_owned()));
        }
        Ok(Self { text: text.into(), effect: Effect::MatchBy(at, rule.keys.clone()) })
    }

    pub(super) fn errors(errors: CompareErrors) -> Self {
        let text = format!("compare_errors {}", errors.label()).into();
        Self { text, effect: Effect::Errors(errors) }
    }

    /// True when the order of this array means nothing to it.
    pub(super) fn unorders(&self, place: &Place<'_>) -> bool {
        match &self.effect {
            Effect::Unordered(at) => at.matches(place),
            Effect::Clean(at, cleaning) => cleaning.sort && at.matches(place),
            Effect::Ignore(_, _) | Effect::Tolerance(_, _) | Effect::MatchBy(_, _) | Effect::Errors(_) => {
                false
            }
        }
    }

    /// True when it changes what an element of an array looks like.
    pub(super) fn guides(&self) -> bool {
        let (at, has_say) = match &self.effect {
            Effect::Ignore(at, predicate) => (at, predicate.is_always()),
            Effect::Clean(at, _) | Effect::Unordered(at) => (at, true),
            Effect::Tolerance(_, _) | Effect::MatchBy(_, _) | Effect::Errors(_) => return false,
        };
        let Pattern::Json(steps) = at else { return false };
        has_say
            && steps.iter().any(|step| match step {
                PathStep::Index(_) | PathStep::AnyIndex | PathStep::Many => true,
                PathStep::Key(_) | PathStep::AnyKey => false,
            })
    }

    pub(super) fn sees_values(&self) -> bool {
        match &self.effect {
            Effect::Ignore(_, predicate) => predicate.needs_values(),
            Effect::Clean(_, cleaning) => cleaning.rewrites(),
            Effect::Tolerance(_, _) => true,
            Effect::Unordered(_) | Effect::MatchBy(_, _) | Effect::Errors(_) => false,
        }
    }
}

fn array_pattern(at: &str) -> Result<Pattern, String> {
    match parse_pattern(at)? {
        pattern @ Pattern::Json(_) => Ok(pattern),
        Pattern::Status
        | Pattern::Text
        | Pattern::Body
        | Pattern::AnyHeader
        | Pattern::Header { name: _, part: _ }
        | Pattern::Kind(_)
        | Pattern::Named(_) => Err("must begin with `json:`".to_owned()),
    }
}

fn bad(list: &'static str, rule: &str, problem: String) -> CompareConfigError {
    CompareConfigError::Rule { list, rule: rule.to_owned(), problem }
}
