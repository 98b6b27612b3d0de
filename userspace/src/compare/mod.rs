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
mod confidence;
mod decode;
mod events;
mod findings;
mod form;
pub mod group;
mod headers;
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

use crate::model::{Body, Exchange, Headers, IncomparableReason, Mark, Observation, Outcome, Response};

pub use findings::{Container, Findings, Language, MarkupStep, Place, Step};
pub use headers::MEANINGFUL_HEADERS;

use rules::Rule;
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
#[derive(Clone, Debug, Default)]
pub struct CompareConfig {
    /// Differences to hide. A rule is `status`, `text`, `body`, `header:NAME`, `header:*`, `header:NAME[PART]`,
    /// `header:set-cookie[NAME].ATTRIBUTE`, or `json:PATH` where PATH begins with `$` and goes on with `.key`,
    /// `['key']`, `[3]`, `.*` (any key), `[*]` (any array element) and `.**` (any number of steps, also none);
    /// or `html:PATH`, `xml:PATH`, `form:NAME`, `multipart:NAME`, `event:TYPE` as `docs/comparison.md` describes
    /// them. A rule names the whole place: `json:$.a` hides no difference at `$.a.b` nor at `$.ab`;
    /// `json:$.a.**` hides `$.a` and all below it. The first rule that matches is the one that counts the
    /// difference.
    pub ignore: Vec<String>,
    /// Arrays whose order carries no meaning, as `json:PATH`; compared as multisets.
    pub unordered: Vec<String>,
    /// Header fields to compare besides [`MEANINGFUL_HEADERS`]; a final `*` stands for any ending.
    pub headers_plus: Vec<String>,
    /// Header fields not to compare; wins over both other lists; a final `*` stands for any ending.
    pub headers_minus: Vec<String>,
    /// B's `host:port`. An absolute URL there counts as the same as one at A.
    pub candidate_authority: Option<String>,
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
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareConfigError {
    /// An `ignore` or `unordered` rule that does not parse.
    #[error("`{list}` rule `{rule}`: {problem}")]
    Rule {
        /// The list that it stands in.
        list: &'static str,
        /// The rule as written.
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

/// Compares the observations of one experiment.
pub struct Comparator {
    rules: Vec<Rule>,
    checks: Vec<Box<dyn Check>>,
    candidate_authority: Option<String>,
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
        let CompareConfig { ignore, unordered, headers_plus, headers_minus, candidate_authority, limits } =
            config;
        limits.validate()?;
        let mut rules = Vec::new();
        for text in &ignore {
            rules.push(Rule::ignore(text)?);
        }
        for text in &unordered {
            rules.push(Rule::unordered(text)?);
        }
        let headers = headers::HeadersCheck::new(&headers_plus, &headers_minus)?;
        let checks: Vec<Box<dyn Check>> =
            vec![Box::new(status::StatusCheck), Box::new(headers), Box::new(body::BodyCheck)];
        Ok(Self { rules, checks, candidate_authority, limits })
    }

    /// Adds a question of the caller's own; it is asked after the built-in ones.
    #[must_use]
    pub fn with_check(mut self, check: Box<dyn Check>) -> Self {
        self.checks.push(check);
        self
    }

    /// All rules as results name them: `ignore` rules as written, then `unordered json:PATH`.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().map(Rule::text)
    }

    /// Compares what A did in `exchange` with what B did.
    pub fn compare(&self, exchange: &Exchange, candidate: &Observation) -> Outcome {
        let pair = match pair_up(exchange, candidate) {
            Ok(pair) => pair,
            Err(reason) => return Outcome::Incomparable(reason),
        };
        let origin = OwnOrigin::new(exchange, self.candidate_authority.as_deref());
        let mut found = Findings::new(&self.rules, &self.limits, origin);
        let mut reason = None;
        for check in &self.checks {
            if let Err(why) = check.check(&pair, &mut found) {
                reason.get_or_insert(why);
            }
            if pair.classes_differ() && found.has_differences() {
                break;
            }
        }
        found.into_outcome(reason)
    }
}

impl std::fmt::Debug for Comparator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let checks: Vec<_> = self.checks.iter().map(|check| check.name()).collect();
        f.debug_struct("Comparator")
            .field("rules", &self.rules)
            .field("checks", &checks)
            .field("candidate_authority", &self.candidate_authority)
            .field("limits", &self.limits)
            .finish()
    }
}

fn pair_up<'a>(exchange: &'a Exchange, candidate: &'a Observation) -> Result<Pair<'a>, IncomparableReason> {
    let control = exchange.response.as_ref().ok_or(IncomparableReason::ControlIncomplete)?;
    let cut_off = exchange.marks.has(Mark::Gap) || exchange.marks.has(Mark::Truncated);
    if cut_off || !control.body.complete {
        return Err(IncomparableReason::ControlIncomplete);
    }
    match candidate {
        Observation::Failed(failure) => Err(IncomparableReason::from(*failure)),
        Observation::Answered { response, ttfb: _, served: _ } if !response.body.complete => {
            Err(IncomparableReason::CandidateClosed)
        }
        Observation::Answered { response, ttfb: _, served: _ } => {
            Ok(Pair { exchange, control, candidate: response })
        }
    }
}

// === impl Pair ===

impl Pair<'_> {
    /// True when the first digits of the statuses differ (RFC 9110 section 15).
    pub fn classes_differ(&self) -> bool {
        self.control.status / 100 != self.candidate.status / 100
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
