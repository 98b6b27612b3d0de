//! Rules: which differences are hidden, and how values are rewritten before they are compared.
//!
//! Finds no difference: checks do. Nothing here can stop a comparison; a rule that fails makes its outcome
//! [`IncomparableReason::RuleError`](crate::model::IncomparableReason::RuleError).
//!
//! For one difference they are asked in this order, whatever their order in the file: `ignore` rules without a
//! condition; `clean`, whose texts all later ones see; `ignore` rules with one; `tolerance`; `compare_errors`. The
//! first that hides it is the one that counts it. `unordered`, `match_by` and `clean` with `sort` work earlier, when
//! arrays are aligned.

mod clean;
mod guide;
mod kinds;
pub(super) mod path;
mod place;
mod predicate;
mod rule;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests fail by panicking")]
mod tests;
mod tolerance;
mod value;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::findings::Place;
use super::{CompareConfig, CompareConfigError};
use crate::model::DifferenceKind;

pub use clean::CleanRule;
pub(super) use guide::guide;
pub use kinds::{CompareErrors, IgnoreRule, MatchRule};
pub(super) use path::is_plain_key;
pub(super) use place::NamedPlace;
pub use predicate::When;
pub use tolerance::ToleranceRule;

use rule::{Effect, Rule};
use value::{OutOfRange, Text, TooLong};

/// What one rule did so far. Shared by comparators that have the same rule.
#[derive(Debug, Default)]
pub struct RuleCounts {
    /// Differences at its place that no earlier rule hid.
    pub met: AtomicU64,
    /// Those of them that it hid.
    pub hid: AtomicU64,
    /// Times that it failed.
    pub failed: AtomicU64,
}

/// The rules of one comparator.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    counts: Vec<Arc<RuleCounts>>,
    /// Which rules, by number, have a say in how elements of arrays are paired.
    guides: Vec<usize>,
}

/// What each rule did in one comparison, in the order of the rules; empty until one did something.
#[derive(Debug, Default)]
pub(super) struct Uses(Vec<Use>);

/// What one rule did in one comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use {
    pub(super) met: u32,
    pub(super) hid: u32,
    pub(super) failed: u32,
}

/// One difference as the rules are asked about it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) place: &'a Place<'a>,
    pub(super) kind: DifferenceKind,
    pub(super) control: Option<&'a dyn Display>,
    pub(super) candidate: Option<&'a dyn Display>,
    /// Both answers are errors of one class.
    pub(super) errors_alike: bool,
    /// Bytes of a value that a rule may look at.
    pub(super) value_bytes_max: usize,
}

/// What the rules say about one difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It stands, with the values as they were found.
    Stands,
    /// It stands, and this is what was compared.
    Rewritten(Option<String>, Option<String>),
    /// A rule hid it.
    Hidden,
    /// A rule failed: nobody can say.
    Failed,
}

/// Why a rule failed.
enum RuleFailure {
    TooLong,
    OutOfRange,
}

// === impl RuleCounts ===

impl RuleCounts {
    fn add(&self, used: Use) {
        let Use { met, hid, failed } = used;
        self.met.fetch_add(u64::from(met), Ordering::Relaxed);
        self.hid.fetch_add(u64::from(hid), Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }
}

// === impl Rules ===

impl Rules {
    pub(super) fn new(config: &CompareConfig) -> Result<Self, CompareConfigError> {
        let CompareConfig {
            ignore,
            clean,
            unordered,
            match_by,
            tolerance,
            compare_errors,
            headers_plus: _,
            headers_minus: _,
            candidate_authorities: _,
            limits: _,
        } = config;
        let mut rules = Vec::new();
        for rule in ignore {
            rules.push(Rule::ignore(rule)?);
        }
        for rule in clean {
            rules.push(Rule::clean(rule)?);
        }
        for at in unordered {
            rules.push(Rule::unordered(at)?);
        }
        for rule in match_by {
            rules.push(Rule::match_by(rule)?);
        }
        for rule in tolerance {
            rules.push(Rule::tolerance(rule)?);
        }
        if *compare_errors != CompareErrors::Full {
            rules.push(Rule::errors(*compare_errors));
        }
        let counts = rules.iter().map(|_| Arc::default()).collect();
        let guides =
            rules.iter().enumerate().filter(|(_, rule)| rule.guides()).map(|(index, _)| index).collect();
        Ok(Self { rules, counts, guides })
    }

    /// Counts on where `before` counted, for rules that it had, too.
    pub(super) fn take_over(&mut self, before: &Rules) {
        for (rule, counts) in self.rules.iter().zip(&mut self.counts) {
            let same = before.rules.iter().position(|old| old.text == rule.text);
            if let Some(known) = same.and_then(|index| before.counts.get(index)) {
                *counts = Arc::clone(known);
            }
        }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().map(|rule| &rule.text)
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&Arc<str>, &RuleCounts)> {
        self.texts().zip(self.counts.iter().map(|counts| &**counts))
    }

    /// Adds what the rules did in one comparison.
    pub(super) fn count(&self, uses: &Uses) {
        for (counts, used) in self.counts.iter().zip(&uses.0) {
            counts.add(*used);
        }
    }

    /// The rule that says that B, which gave no answer, failed as A did with its 5xx.
    pub(super) fn failed_likewise(&self) -> Option<usize> {
        let is_failure = |rule: &Rule| matches!(rule.effect, Effect::Errors(CompareErrors::Failure));
        self.rules.iter().position(is_failure)
    }

    pub(super) fn text(&self, index: usize) -> Option<&Arc<str>> {
        self.rules.get(index).map(|rule| &rule.text)
    }

    /// The number of the rule under which the order of this array means nothing.
    pub(super) fn unordered(&self, place: &Place<'_>) -> Option<usize> {
        self.rules.iter().position(|rule| rule.unorders(place))
    }

    /// The number of the rule that pairs elements of this array, and the members that name an element.
    pub(super) fn match_by(&self, place: &Place<'_>) -> Option<(usize, &[String])> {
        self.rules.iter().enumerate().find_map(|(index, rule)| match &rule.effect {
            Effect::MatchBy(at, keys) if at.matches(place) => Some((index, &keys[..])),
            Effect::MatchBy(_, _)
            | Effect::Ignore(_, _)
            | Effect::Clean(_, _)
            | Effect::Tolerance(_, _)
            | Effect::Unordered(_)
            | Effect::Errors(_) => None,
        })
    }

    /// What is to become of one difference. Values are written only where a rule has to see them.
    pub(super) fn judge(&self, asked: &Asked<'_>, uses: &mut Uses) -> Judgement {
        let mut needs_values = false;
        for (index, rule) in self.rules.iter().enumerate() {
            match &rule.effect {
                Effect::Ignore(at, predicate) if predicate.is_always() && at.matches(asked.place) => {
                    self.use_of(uses, index, |used| (used.met, used.hid) = (next(used.met), next(used.hid)));
                    return Judgement::Hidden;
                }
                Effect::Ignore(at, predicate) => {
                    needs_values |= predicate.needs_values() && at.matches(asked.place);
                }
                Effect::Clean(at, cleaning) => {
                    needs_values |= cleaning.rewrites() && at.matches(asked.place);
                }
                Effect::Tolerance(at, _) => needs_values |= at.matches(asked.place),
                Effect::Unordered(_) | Effect::MatchBy(_, _) | Effect::Errors(_) => {}
            }
        }
        if !needs_values {
            return self.judge_texts(asked, None, None, uses);
        }
        let text = |shown: Option<&dyn Display>| {
            shown.map(|shown| Text::of(asked.place, shown, asked.value_bytes_max)).transpose()
        };
        match (text(asked.control), text(asked.candidate)) {
            (Ok(control), Ok(candidate)) => self.judge_texts(asked, control, candidate, uses),
            (Err(TooLong), _) | (_, Err(TooLong)) => {
                for (index, _) in self.at(asked.place) {
                    self.fail(uses, index, &RuleFailure::TooLong);
                }
                Judgement::Failed
            }
        }
    }

    fn judge_texts(
        &self,
        asked: &Asked<'_>,
        mut control: Option<Text<'static>>,
        mut candidate: Option<Text<'static>>,
        uses: &mut Uses,
    ) -> Judgement {
        let mut rewritten = false;
        for (index, rule) in self.at(asked.place) {
            let Effect::Clean(_, cleaning) = &rule.effect else { continue };
            if !cleaning.rewrites() {
                continue;
            }
            self.use_of(uses, index, |used| used.met = next(used.met));
            control = control.map(|text| cleaning.apply(text));
            candidate = candidate.map(|text| cleaning.apply(text));
            rewritten = true;
            if control.is_some() && control == candidate {
                self.use_of(uses, index, |used| used.hid = next(used.hid));
                return Judgement::Hidden;
            }
        }
        for (index, rule) in self.at(asked.place) {
            let hides = match &rule.effect {
                Effect::Ignore(_, predicate) => Ok(predicate.allows_kind(asked.kind)
                    && (!predicate.needs_values() || predicate.holds(control.as_ref(), candidate.as_ref()))),
                Effect::Tolerance(_, tolerance) => match (&control, &candidate) {
                    (Some(control), Some(candidate)) => tolerance.covers(control, candidate),
                    (_, _) => Ok(false),
                },
                Effect::Errors(wanted) => Ok(asked.errors_alike && wanted.hides(asked.place)),
                Effect::Clean(_, _) | Effect::Unordered(_) | Effect::MatchBy(_, _) => continue,
            };
            let is_met = !matches!(&rule.effect, Effect::Errors(_)) || asked.errors_alike;
            if is_met {
                self.use_of(uses, index, |used| used.met = next(used.met));
            }
            match hides {
                Ok(true) => {
                    self.use_of(uses, index, |used| used.hid = next(used.hid));
                    return Judgement::Hidden;
                }
                Ok(false) => {}
                Err(OutOfRange) => {
                    self.fail(uses, index, &RuleFailure::OutOfRange);
                    return Judgement::Failed;
                }
            }
        }
        if rewritten {
            let shown = |text: Option<Text<'static>>| text.map(|text| text.to_string());
            return Judgement::Rewritten(shown(control), shown(candidate));
        }
        Judgement::Stands
    }

    /// The rules whose place this is, with their numbers.
    fn at<'r>(&'r self, place: &'r Place<'_>) -> impl Iterator<Item = (usize, &'r Rule)> {
        self.rules.iter().enumerate().filter(|(_, rule)| match &rule.effect {
            Effect::Ignore(at, _)
            | Effect::Clean(at, _)
            | Effect::Tolerance(at, _)
            | Effect::Unordered(at)
            | Effect::MatchBy(at, _) => at.matches(place),
            Effect::Errors(_) => true,
        })
    }

    /// Counts a difference that rule number `index` hid.
    pub(super) fn hide(&self, uses: &mut Uses, index: usize) {
        self.use_of(uses, index, |used| (used.met, used.hid) = (next(used.met), next(used.hid)));
    }

    /// Counts that rule number `index` failed.
    pub(super) fn fail_at(&self, uses: &mut Uses, index: usize) {
        self.use_of(uses, index, |used| used.failed = next(used.failed));
    }

    fn fail(&self, uses: &mut Uses, index: usize, failure: &RuleFailure) {
        let wants = |rule: &Rule| match failure {
            RuleFailure::TooLong => rule.sees_values(),
            RuleFailure::OutOfRange => true,
        };
        if self.rules.get(index).is_some_and(wants) {
            self.fail_at(uses, index);
        }
    }

    fn use_of(&self, uses: &mut Uses, index: usize, change: impl FnOnce(&mut Use)) {
        uses.0.resize(self.rules.len(), Use::default());
        if let Some(used) = uses.0.get_mut(index) {
            change(used);
        }
    }
}

fn next(count: u32) -> u32 {
    count.saturating_add(1)
}

// === impl Uses ===

impl Uses {
    /// What each rule did, with its number; only those that did something.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Use)> {
        self.0.iter().copied().enumerate()
    }

    pub(super) fn any_failed(&self) -> bool {
        self.0.iter().any(|used| used.failed > 0)
    }
}
