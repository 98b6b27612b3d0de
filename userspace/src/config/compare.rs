//! `[experiment.compare]` word by word, and its check.
//!
//! A rule is a string where it is a place and nothing else, and a table where it says more.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::error::Fault;
use super::experiment::{plain, span_of};
use super::raw::{set, set_duration};
use crate::branch::HttpBranchConfig;
use crate::compare::{
    CleanRule, Comparator, CompareConfig, CompareConfigError, CompareErrors, IgnoreRule, MatchRule,
    ToleranceRule, When,
};
use crate::pipeline::comparator::ExternalConfig;

/// `[experiment.compare]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCompare {
    #[serde(default)]
    pub(super) ignore: Vec<Spanned<RawIgnore>>,
    #[serde(default)]
    clean: Vec<Spanned<RawClean>>,
    #[serde(default)]
    unordered: Vec<Spanned<String>>,
    #[serde(default)]
    match_by: Vec<Spanned<RawMatch>>,
    #[serde(default)]
    tolerance: Vec<Spanned<RawTolerance>>,
    compare_errors: Option<Spanned<String>>,
    comparator: Option<Spanned<RawComparator>>,
    #[serde(default)]
    headers_plus: Vec<Spanned<String>>,
    #[serde(default)]
    headers_minus: Vec<Spanned<String>>,
    decoded_bytes_max: Option<usize>,
    codings_max: Option<usize>,
    depth_max: Option<usize>,
    values_max: Option<usize>,
    align_steps_max: Option<usize>,
    differences_max: Option<usize>,
    differences_per_path_max: Option<usize>,
    value_bytes_max: Option<usize>,
    path_bytes_max: Option<usize>,
    rule_value_bytes_max: Option<usize>,
}

/// `"json:$.a"`, or `{ at = "json:$.a", … }`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a place such as \"json:$.a\", or a table such as { at = \"json:$.a\", class = \"uuid\" } \
                               with at, class, kind, both_match, control_matches, candidate_matches, control_is, \
                               candidate_is"
)]
pub(super) enum RawIgnore {
    Place(String),
    Table(Box<RawWhen>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWhen {
    at: String,
    class: Option<String>,
    kind: Option<String>,
    both_match: Option<String>,
    control_matches: Option<String>,
    candidate_matches: Option<String>,
    control_is: Option<String>,
    candidate_is: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClean {
    at: String,
    replace: Option<String>,
    with: Option<String>,
    #[serde(default)]
    trim: bool,
    #[serde(default)]
    lower: bool,
    round: Option<u32>,
    #[serde(default)]
    sort: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatch {
    at: String,
    key: OneOrMany,
}

/// `"id"`, or `["region", "id"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "the name of a member, or a list of them")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTolerance {
    at: String,
    within: Option<NumberOrText>,
    within_time: Option<Spanned<String>>,
}

/// `0.01`, or `"1%"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a number such as 0.01, or a percentage such as \"1%\"")]
enum NumberOrText {
    Whole(i64),
    Number(f64),
    Text(String),
}

/// `[experiment.compare.comparator]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawComparator {
    command: Vec<String>,
    mode: Option<Spanned<String>>,
    secrets: Option<bool>,
    deadline: Option<Spanned<String>>,
    start_max: Option<Spanned<String>>,
    waiting_max: Option<usize>,
    message_bytes_max: Option<usize>,
    answer_bytes_max: Option<usize>,
    differences_max: Option<usize>,
    pause_min: Option<Spanned<String>>,
    pause_max: Option<Spanned<String>>,
}

/// Rules with the lines that they stand on.
type Placed<T> = Vec<(T, Range<usize>)>;

/// Where the rule stands that results name `text`.
fn span_of_rule<T: ToString>(text: &str, rules: &Placed<T>) -> Option<Range<usize>> {
    rules.iter().find(|(rule, _)| rule.to_string() == text).map(|(_, span)| span.clone())
}

fn rules_of<T: Clone>(rules: &Placed<T>) -> Vec<T> {
    rules.iter().map(|(rule, _)| rule.clone()).collect()
}

fn placed<R, T>(list: Vec<Spanned<R>>, rule: impl Fn(R) -> T) -> Placed<T> {
    list.into_iter().map(|raw| (raw.span(), raw.into_inner())).map(|(span, raw)| (rule(raw), span)).collect()
}

// === impl RawCompare ===

impl RawCompare {
    /// What the checks and rules are to do, without the candidate's authority; and the process that is asked.
    pub(super) fn finish(self) -> Result<(CompareConfig, Option<ExternalConfig>), Fault> {
        let comparator = self.comparator.map(RawComparator::finish).transpose()?;
        let ignore = placed(self.ignore, RawIgnore::finish);
        let clean = placed(self.clean, RawClean::finish);
        let match_by = placed(self.match_by, RawMatch::finish);
        let mut tolerance = Vec::new();
        for raw in self.tolerance {
            let span = raw.span();
            tolerance.push((raw.into_inner().finish()?, span));
        }
        let mut config = CompareConfig {
            ignore: rules_of(&ignore),
            clean: rules_of(&clean),
            unordered: plain(&self.unordered),
            match_by: rules_of(&match_by),
            tolerance: rules_of(&tolerance),
            compare_errors: self.compare_errors.as_ref().map(compare_errors).transpose()?.unwrap_or_default(),
            headers_plus: plain(&self.headers_plus),
            headers_minus: plain(&self.headers_minus),
            ..CompareConfig::default()
        };
        let limits = &mut config.limits;
        set(&mut limits.decoded_bytes_max, self.decoded_bytes_max);
        set(&mut limits.codings_max, self.codings_max);
        set(&mut limits.depth_max, self.depth_max);
        set(&mut limits.values_max, self.values_max);
        set(&mut limits.align_steps_max, self.align_steps_max);
        set(&mut limits.differences_max, self.differences_max);
        set(&mut limits.differences_per_path_max, self.differences_per_path_max);
        set(&mut limits.value_bytes_max, self.value_bytes_max);
        set(&mut limits.path_bytes_max, self.path_bytes_max);
        set(&mut limits.rule_value_bytes_max, self.rule_value_bytes_max);
        Comparator::new(config.clone()).map_err(|error| {
            let (key, span) = match &error {
                CompareConfigError::Rule { list, rule, problem: _ } => {
                    let span = match *list {
                        "ignore" => span_of_rule(rule, &ignore),
                        "clean" => span_of_rule(rule, &clean),
                        "match_by" => span_of_rule(rule, &match_by),
                        "tolerance" => span_of_rule(rule, &tolerance),
                        _ => Some(span_of(rule, &[&self.unordered])),
                    };
                    (*list, span.unwrap_or(0..0))
                }
                CompareConfigError::HeaderName { list, name } => {
                    (*list, span_of(name, &[&self.headers_plus, &self.headers_minus]))
                }
                CompareConfigError::Limit { key, least: _, most: _, value: _ } => (*key, 0..0),
            };
            Fault { key: format!("experiment.compare.{key}"), span, problem: error.to_string() }
        })?;
        Ok((config, comparator))
    }
}

/// B's `host:port`, as it may stand in a URL that B sends.
pub(super) fn authorities(candidate: &HttpBranchConfig, twin: Option<&HttpBranchConfig>) -> Vec<String> {
    let authority = |branch: &HttpBranchConfig| branch.authority().map(str::to_owned);
    authority(candidate).into_iter().chain(twin.and_then(authority)).collect()
}

fn compare_errors(given: &Spanned<String>) -> Result<CompareErrors, Fault> {
    let known = CompareErrors::ALL.into_iter().find(|errors| errors.label() == given.get_ref());
    known.ok_or_else(|| Fault {
        key: "experiment.compare.compare_errors".to_owned(),
        span: given.span(),
        problem: format!("must be {}", CompareErrors::ALL.map(CompareErrors::label).join(", ")),
    })
}

// === impl RawComparator ===

impl RawComparator {
    fn finish(raw: Spanned<Self>) -> Result<ExternalConfig, Fault> {
        let span = raw.span();
        let Self {
            command,
            mode,
            secrets,
            deadline,
            start_max,
            waiting_max,
            message_bytes_max,
            answer_bytes_max,
            differences_max,
            pause_min,
            pause_max,
        } = raw.into_inner();
        let key = |key: &str| format!("experiment.compare.comparator.{key}");
        if command.first().is_none_or(String::is_empty) {
            let problem = "must name a program, such as [\"/usr/bin/python3\", \"compare.py\"]".to_owned();
            return Err(Fault { key: key("command"), span, problem });
        }
        let mut config = ExternalConfig { command, ..ExternalConfig::default() };
        config.instead = match mode.as_ref().map(|mode| (mode.get_ref().as_str(), mode.span())) {
            None | Some(("also", _)) => false,
            Some(("instead", _)) => true,
            Some((other, span)) => {
                let problem = format!("must be `also` or `instead`, not `{other}`");
                return Err(Fault { key: key("mode"), span, problem });
            }
        };
        set(&mut config.secrets, secrets);
        set_duration(&mut config.deadline, &key("deadline"), deadline.as_ref())?;
        set_duration(&mut config.start_max, &key("start_max"), start_max.as_ref())?;
        set(&mut config.waiting_max, waiting_max);
        set(&mut config.message_bytes_max, message_bytes_max);
        set(&mut config.answer_bytes_max, answer_bytes_max);
        set(&mut config.differences_max, differences_max);
        set_duration(&mut config.pause_min, &key("pause_min"), pause_min.as_ref())?;
        set_duration(&mut config.pause_max, &key("pause_max"), pause_max.as_ref())?;
        Ok(config)
    }
}

// === impl RawIgnore ===

impl RawIgnore {
    fn finish(self) -> IgnoreRule {
        match self {
            RawIgnore::Place(at) => at.into(),
            RawIgnore::Table(table) => {
                let RawWhen {
                    at,
                    class,
                    kind,
                    both_match,
                    control_matches,
                    candidate_matches,
                    control_is,
                    candidate_is,
                } = *table;
                let when = When {
                    class,
                    kind,
                    both_match,
                    control_matches,
                    candidate_matches,
                    control_is,
                    candidate_is,
                };
                IgnoreRule { at, when }
            }
        }
    }
}

// === impl RawClean ===

impl RawClean {
    fn finish(self) -> CleanRule {
        let Self { at, replace, with, trim, lower, round, sort } = self;
        CleanRule { at, replace, with, trim, lower, round, sort }
    }
}

// === impl RawMatch ===

impl RawMatch {
    fn finish(self) -> MatchRule {
        let Self { at, key } = self;
        let keys = match key {
            OneOrMany::One(key) => vec![key],
            OneOrMany::Many(keys) => keys,
        };
        MatchRule { at, keys }
    }
}

// === impl RawTolerance ===

impl RawTolerance {
    fn finish(self) -> Result<ToleranceRule, Fault> {
        let Self { at, within, within_time } = self;
        let within = within.map(|within| match within {
            NumberOrText::Whole(number) => number.to_string(),
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        });
        let mut time = std::time::Duration::ZERO;
        set_duration(&mut time, "experiment.compare.tolerance", within_time.as_ref())?;
        Ok(ToleranceRule { at, within, within_time: within_time.map(|_| time) })
    }
}
