//! Finds out in what two observations of one exchange differ.
//!
//! Knows no clock, no socket and no metric: the same two observations always give the same outcome.
//!
//! [`Comparator`] runs a list of [`Check`]s over the two answers. A check reports each place where they differ
//! to [`Findings`], which asks the rules whether the difference is to be hidden and keeps a bounded number of
//! the rest. The outcome follows from what is left, in this order: a difference that no rule hides makes a
//! mismatch, even when another part could not be compared (a changed status is certain whatever the body);
//! else a part that could not be compared makes the exchange incomparable; else hidden differences make it
//! ignored; else it is a match.
//!
//! When the statuses are of different classes (a 200 against a 500) only the status is reported: every other
//! part then belongs to a different kind of answer, and its differences would bury the one that matters.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod align;
mod body;
mod buckets;
mod class;
mod confidence;
mod decode;
mod events;
mod findings;
mod form;
pub mod group;
mod headers;
mod join;
mod json;
mod json_text;
pub mod latency;
mod markup;
mod media;
mod multipart;
pub mod noise;
mod patterns;
mod rules;
#[cfg(test)]
mod sim;
mod status;
mod text;
mod url;

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{
    Body, BranchFailure, DifferenceKind, Exchange, Headers, IncomparableReason, Mark, Observation, Outcome,
    Response,
};

pub use class::{Likeness, is_name_of_one, likeness};
pub use findings::{Container, Findings, Language, MarkupStep, Place, Step};
pub use headers::MEANINGFUL_HEADERS;
pub use rules::{CleanRule, CompareErrors, IgnoreRule, MatchRule, RuleCounts, ToleranceRule, When};

use rules::{NamedPlace, Rules, Uses};
use url::OwnOrigin;

/// One question asked of two answers.
pub trait Check: Send + Sync {
    /// The question's name; stable.
    fn name(&self) -> &'static str;

    /// Reports each place where the answers differ.
    ///
    /// # Errors
    /// The reason why the question has no answer here. What was reported before stays reported.
    fn check(&self, pair: &Pair<'_>, found: &mut Findings<'_>) -> Result<(), IncomparableReason>;
}

/// The two answers to one request.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The request, with what is known about its exchange.
    pub exchange: &'a Exchange,
    /// A's answer.
    pub control: &'a Response,
    /// B's answer.
    pub candidate: &'a Response,
}

/// What to compare and what to hide, as the configuration says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompareConfig {
    /// Differences to hide. A rule names the whole place: `json:$.a` hides no difference at `$.a.b` nor at `$.ab`;
    /// `json:$.a.**` hides `$.a` and all below it. `docs/comparison.md` lists the places.
    pub ignore: Vec<IgnoreRule>,
    /// How values are rewritten before they are compared. All that name a place rewrite there, in this order.
    pub clean: Vec<CleanRule>,
    /// Arrays whose order carries no meaning, as `json:PATH`; compared as multisets.
    pub unordered: Vec<String>,
    /// Arrays whose elements are named by a member.
    pub match_by: Vec<MatchRule>,
    /// Values that may lie apart.
    pub tolerance: Vec<ToleranceRule>,
    /// What counts as the same error. Default: [`CompareErrors::Full`].
    pub compare_errors: CompareErrors,
    /// Header fields to compare besides [`MEANINGFUL_HEADERS`]; a final `*` stands for any ending.
    pub headers_plus: Vec<String>,
    /// Header fields not to compare; wins over both other lists; a final `*` stands for any ending.
    pub headers_minus: Vec<String>,
    /// B's `host:port`. An absolute URL there counts as the same as one at A.
    pub candidate_authorities: Vec<String>,
    /// Bounds.
    pub limits: CompareLimits,
}

/// Bounds of one comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareLimits {
    /// Bytes that a body may have after content decoding; above, [`IncomparableReason::Undecodable`].
    /// Default 8 MiB.
    pub decoded_bytes_max: usize,
    /// Content codings stacked on one body; above, [`IncomparableReason::Undecodable`]. Default 3.
    pub codings_max: usize,
    /// Nesting of JSON and XML, at most 512; above, [`IncomparableReason::TooDeep`]. Elements of HTML that are
    /// deeper count as children of the last one that is not. Default 128.
    pub depth_max: usize,
    /// Values in one JSON body, nodes and attributes in one tree, fields, parts or events in one body: 40 to 100
    /// bytes of memory each; above, [`IncomparableReason::TooDeep`]. Lines of a text: above, the text is compared
    /// as one block from the first line that differs to the last. Default 500,000.
    pub values_max: usize,
    /// Steps of work spent on aligning arrays, trees and lines in one comparison; above, elements are paired by
    /// what only one of each side has, and the rest by position.
    /// Default 1,048,576.
    pub align_steps_max: usize,
    /// Differences kept of one comparison; the rest is counted in [`Outcome::Mismatch`]. Default 32.
    pub differences_max: usize,
    /// Differences kept of one path and kind, so that one path leaves room for others. Default 3.
    pub differences_per_path_max: usize,
    /// Bytes kept of a value that differs. Default 200.
    pub value_bytes_max: usize,
    /// Bytes kept of a path. Default 256.
    pub path_bytes_max: usize,
    /// Bytes of a value that a rule looks at; above, the rule fails. Default 64 KiB.
    pub rule_value_bytes_max: usize,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareConfigError {
    /// A rule that does not parse.
    #[error("`{list}` rule `{rule}`: {problem}")]
    Rule {
        /// The list that it stands in.
        list: &'static str,
        /// The rule as results name it; of `unordered`, its place.
        rule: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A header name that is not one.
    #[error("`{list}`: `{name}` is not the name of a header field")]
    HeaderName {
        /// The list that it stands in.
        list: &'static str,
        /// The name as written.
        name: String,
    },
    /// A limit outside its range.
    #[error("`{key}` must be between {least} and {most}, not {value}")]
    Limit {
        /// The limit.
        key: &'static str,
        /// The least allowed value.
        least: usize,
        /// The largest allowed value.
        most: usize,
        /// The value given.
        value: usize,
    },
}

/// What two answers are compared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To say what B did: what the rules met and hid is counted.
    Outcome,
    /// To see whether they match as they are, before they are compared in another way: counted only if they do.
    Glance,
    /// To see how one version differs from itself: nothing is counted.
    Evidence,
}

/// What an external comparator says about one exchange.
#[derive(Clone, Debug)]
pub struct External {
    /// True when it takes the place of the checks of this module.
    pub instead: bool,
    /// The differences; or why it gave no answer.
    pub answer: Result<Vec<ExternalDifference>, IncomparableReason>,
}

/// A difference that an external comparator found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalDifference {
    /// A place as rules write it, exact; or any other text, which is shown as `comparator:TEXT`.
    pub path: String,
    /// In which way.
    pub kind: DifferenceKind,
    /// A's value.
    pub control: Option<String>,
    /// B's value.
    pub candidate: Option<String>,
}

/// Compares the observations of one experiment.
pub struct Comparator {
    rules: Rules,
    checks: Vec<Box<dyn Check>>,
    candidate_authorities: Vec<String>,
    limits: CompareLimits,
}

// === impl CompareLimits ===

impl Default for CompareLimits {
    fn default() -> Self {
        Self {
            decoded_bytes_max: 8 << 20,
            codings_max: 3,
            depth_max: 128,
            values_max: 500_000,
            align_steps_max: 1 << 20,
            differences_max: 32,
            differences_per_path_max: 3,
            value_bytes_max: 200,
            path_bytes_max: 256,
            rule_value_bytes_max: 64 << 10,
        }
    }
}

impl CompareLimits {
    fn validate(&self) -> Result<(), CompareConfigError> {
        // Parsing and walking recurse once per level: 512 levels stay far below the smallest thread stack.
        let ranges = [
            ("depth_max", 1, 512, self.depth_max),
            ("differences_max", 1, 10_000, self.differences_max),
            ("differences_per_path_max", 1, 10_000, self.differences_per_path_max),
            ("value_bytes_max", 8, 1 << 20, self.value_bytes_max),
            ("path_bytes_max", 32, 1 << 16, self.path_bytes_max),
            ("rule_value_bytes_max", 64, 16 << 20, self.rule_value_bytes_max),
        ];
        match ranges.into_iter().find(|(_, least, most, value)| value < least || value > most) {
            None => Ok(()),
            Some((key, least, most, value)) => Err(CompareConfigError::Limit { key, least, most, value }),
        }
    }
}

// === impl Comparator ===

impl Comparator {
    /// A comparator that does what `config` says.
    ///
    /// # Errors
    /// Names the first rule, header name or limit that cannot be used.
    pub fn new(config: CompareConfig) -> Result<Self, CompareConfigError> {
        let rules = Rules::new(&config)?;
        let CompareConfig {
            ignore: _,
            clean: _,
            unordered: _,
            match_by: _,
            tolerance: _,
            compare_errors: _,
            headers_plus,
            headers_minus,
            candidate_authorities,
            limits,
        } = config;
        limits.validate()?;
        let headers = headers::HeadersCheck::new(&headers_plus, &headers_minus)?;
        let checks: Vec<Box<dyn Check>> =
            vec![Box::new(status::StatusCheck), Box::new(headers), Box::new(body::BodyCheck)];
        Ok(Self { rules, checks, candidate_authorities, limits })
    }

    /// Adds a question of the caller's own; it is asked after the built-in ones.
    #[must_use]
    pub fn with_check(mut self, check: Box<dyn Check>) -> Self {
        self.checks.push(check);
        self
    }

    /// All rules as results name them, list by list.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.texts()
    }

    /// What each rule did so far.
    pub fn rule_counts(&self) -> impl Iterator<Item = (&Arc<str>, &RuleCounts)> {
        self.rules.counts()
    }

    /// Counts on where `before` counted, for rules that it had, too.
    pub fn take_over_counts(&mut self, before: &Comparator) {
        self.rules.take_over(&before.rules);
    }

    /// Compares what A did in `exchange` with what B did.
    pub fn compare(&self, exchange: &Exchange, candidate: &Observation) -> Outcome {
        self.compare_with(exchange, candidate, None, Purpose::Outcome)
    }

    /// As [`Comparator::compare`], with what somebody else found, and for another purpose.
    pub fn compare_with(
        &self,
        exchange: &Exchange,
        candidate: &Observation,
        external: Option<&External>,
        purpose: Purpose,
    ) -> Outcome {
        let pair = match pair_up(exchange, candidate) {
            Ok(pair) => pair,
            Err(Unpaired::Failed(failure)) => return self.failed(exchange, failure, purpose),
            Err(Unpaired::Incomparable(reason)) => return Outcome::Incomparable(reason),
        };
        let origin = OwnOrigin::new(exchange, &self.candidate_authorities);
        let mut found = Findings::new(&self.rules, &self.limits, origin, pair.errors_alike());
        let mut reason = None;
        let own = external.is_none_or(|external| !external.instead);
        for check in self.checks.iter().filter(|_| own) {
            if let Err(why) = check.check(&pair, &mut found) {
                reason.get_or_insert(why);
            }
            if pair.classes_differ() && found.has_differences() {
                break;
            }
        }
        match external.map(|external| &external.answer) {
            None => {}
            Some(Ok(differences)) => differences.iter().for_each(|difference| difference.add_to(&mut found)),
            Some(Err(why)) => {
                reason.get_or_insert(*why);
            }
        }
        found.into_outcome(reason, purpose)
    }

    /// True when there are two whole answers, so that somebody else can be asked about them.
    pub fn is_comparable(exchange: &Exchange, candidate: &Observation) -> bool {
        pair_up(exchange, candidate).is_ok()
    }

    /// B gave no answer; where A answered 5xx, a rule may say that it failed likewise.
    fn failed(&self, exchange: &Exchange, failure: BranchFailure, purpose: Purpose) -> Outcome {
        let control_failed = exchange.response.as_ref().is_some_and(|response| response.status / 100 == 5);
        let rule = self.rules.failed_likewise().filter(|_| control_failed);
        match rule.and_then(|index| Some((index, self.rules.text(index)?))) {
            None => Outcome::Incomparable(failure.into()),
            Some((index, text)) => {
                let mut uses = Uses::default();
                self.rules.hide(&mut uses, index);
                if purpose == Purpose::Outcome {
                    self.rules.count(&uses);
                }
                Outcome::Ignored(vec![(Arc::clone(text), 1)])
            }
        }
    }
}

impl std::fmt::Debug for Comparator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let checks: Vec<_> = self.checks.iter().map(|check| check.name()).collect();
        f.debug_struct("Comparator")
            .field("rules", &self.rules)
            .field("checks", &checks)
            .field("candidate_authorities", &self.candidate_authorities)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Why there are no two answers to compare.
enum Unpaired {
    Failed(BranchFailure),
    Incomparable(IncomparableReason),
}

fn pair_up<'a>(exchange: &'a Exchange, candidate: &'a Observation) -> Result<Pair<'a>, Unpaired> {
    let incomplete = Unpaired::Incomparable(IncomparableReason::ControlIncomplete);
    let Some(control) = exchange.response.as_ref() else { return Err(incomplete) };
    let cut_off = exchange.marks.has(Mark::Gap) || exchange.marks.has(Mark::Truncated);
    if cut_off || !control.body.complete {
        return Err(incomplete);
    }
    match candidate {
        Observation::Failed(failure) => Err(Unpaired::Failed(*failure)),
        Observation::Answered { response, ttfb: _, served: _ } if !response.body.complete => {
            Err(Unpaired::Failed(BranchFailure::Closed))
        }
        Observation::Answered { response, ttfb: _, served: _ } => {
            Ok(Pair { exchange, control, candidate: response })
        }
    }
}

// === impl ExternalDifference ===

impl ExternalDifference {
    fn add_to(&self, found: &mut Findings<'_>) {
        let Self { path, kind, control, candidate } = self;
        let [control, candidate] = [control, candidate].map(|value| value.as_ref().map(|value| value as _));
        NamedPlace::parse(path).visit(|place| found.add(place, *kind, control, candidate));
    }
}

// === impl Pair ===

impl Pair<'_> {
    /// True when the first digits of the statuses differ (RFC 9110 section 15).
    pub fn classes_differ(&self) -> bool {
        self.control.status / 100 != self.candidate.status / 100
    }

    /// True when both answers are errors (RFC 9110 sections 15.5 and 15.6), of the client's or of the server's making.
    fn errors_alike(&self) -> bool {
        self.control.status >= 400 && self.candidate.status >= 400 && !self.classes_differ()
    }

    /// True when neither answer can have content (RFC 9112 section 6.3, rule 1).
    pub fn is_bodiless(&self) -> bool {
        let without = |status: u16| matches!(status, 100..=199 | 204 | 304);
        self.exchange.request.method.as_ref() == b"HEAD"
            || (without(self.control.status) && without(self.candidate.status))
    }
}

/// A body as it was before content coding; `None` when that cannot be undone within the limits, or the body is not
/// all there.
pub fn plain_body<'a>(headers: &Headers, body: &'a Body, limits: &CompareLimits) -> Option<Cow<'a, [u8]>> {
    if decode::codings(headers).next().is_none() {
        return Some(Cow::Borrowed(&body.kept));
    }
    let whole = body.complete && !body.is_cut();
    whole.then(|| decode::decode(headers, &body.kept, limits).ok()).flatten()
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking"
)]
mod tests;
