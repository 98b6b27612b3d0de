//! What other hosts may know of one comparison that this journal has kept.
//!
//! Sends nothing, and says nothing of a comparison that the journal has refused: it is made after the commit. Secrets
//! are redacted and sizes bounded as for the journal's own examples.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::example::{answers, example, example_bytes};
use super::{Answer, Answers, CauseOf, Example, JournalError, JournalLimits, StoredDifference};
use crate::model::{Comparison, Finding, FoundCause, IncomparableReason, Timestamp};

/// Bounds of what is told about comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindingLimits {
    /// Bytes of one example as JSON. Bodies of answers are left out first, then the request's body, then all but one
    /// difference. Default 16 KiB.
    pub example_bytes_max: usize,
    /// Causes whose smallest example is remembered; of further ones every example is given. Default 1,000.
    pub causes_max: usize,
    /// Time after which an example is given again although it is no smaller, in case the store lost it. Default one
    /// minute.
    pub example_again: Duration,
}

/// Makes findings out of comparisons, and gives an example only where it may be of use.
#[derive(Debug)]
pub struct Finder {
    limits: FindingLimits,
    /// For how much of a message an example has room at all.
    of_example: JournalLimits,
    cause_of: CauseOf,
    /// By experiment and cause: the smallest example that was given, and when.
    given: HashMap<(Arc<str>, String), Given>,
}

#[derive(Clone, Copy, Debug)]
struct Given {
    bytes: u64,
    at: Timestamp,
}

/// An example and what both branches answered, in the form in which hosts hand it to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredExample {
    /// As in [`Example::exchange`].
    pub exchange: String,
    /// As in [`Example::bytes`].
    pub bytes: u64,
    /// As in [`Example::method`].
    pub method: String,
    /// As in [`Example::target`].
    pub target: String,
    /// As in [`Example::headers`].
    pub headers: Vec<(String, String)>,
    /// As in [`Example::headers_omitted`].
    #[serde(default)]
    pub headers_omitted: u64,
    /// As in [`Example::body`]; base64 (RFC 4648 section 4).
    #[serde(default, with = "base64_text")]
    pub body: Vec<u8>,
    /// As in [`Example::body_bytes`].
    #[serde(default)]
    pub body_bytes: u64,
    /// As in [`Example::control_status`].
    pub control_status: u16,
    /// As in [`Example::candidate_status`].
    pub candidate_status: u16,
    /// As in [`Example::differences`].
    pub differences: Vec<StoredDifference>,
    /// As in [`Example::differences_omitted`].
    #[serde(default)]
    pub differences_omitted: u64,
    /// As in [`Answers::control`].
    #[serde(default)]
    pub control: Option<StoredAnswer>,
    /// As in [`Answers::candidate`].
    #[serde(default)]
    pub candidate: Option<StoredAnswer>,
}

/// An [`Answer`] in the form in which hosts hand it to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// As in [`Answer::status`].
    pub status: u16,
    /// As in [`Answer::headers`].
    pub headers: Vec<(String, String)>,
    /// As in [`Answer::headers_omitted`].
    #[serde(default)]
    pub headers_omitted: u64,
    /// As in [`Answer::body`]; base64.
    #[serde(default, with = "base64_text")]
    pub body: Vec<u8>,
    /// As in [`Answer::body_bytes`].
    #[serde(default)]
    pub body_bytes: u64,
}

// === impl FindingLimits ===

impl Default for FindingLimits {
    fn default() -> Self {
        Self { example_bytes_max: 16 << 10, causes_max: 1_000, example_again: Duration::from_secs(60) }
    }
}

// === impl Finder ===

impl Finder {
    /// Has given nothing yet. What of an example is kept at all is the journal's to say: `journal`.
    pub fn new(limits: FindingLimits, journal: &JournalLimits, cause_of: CauseOf) -> Self {
        let part = |bytes: usize| bytes.min(limits.example_bytes_max);
        let of_example = JournalLimits {
            example_head_bytes_max: part(journal.example_head_bytes_max),
            example_body_bytes_max: part(journal.example_body_bytes_max),
            example_answer_bytes_max: part(journal.example_answer_bytes_max),
            ..journal.clone()
        };
        Self { limits, of_example, cause_of, given: HashMap::new() }
    }

    /// What others may count of a comparison that was kept.
    pub fn find(&mut self, comparison: &Comparison) -> Finding {
        let Comparison { experiment: _, route, exchange, candidate: _, compared_at, outcome } = comparison;
        let cause = (self.cause_of)(comparison).map(|cause| {
            let example_bytes = example_bytes(comparison);
            let example = if self.is_wanted(comparison, &cause.id, example_bytes) {
                self.example(comparison, &cause.id).unwrap_or_default()
            } else {
                Vec::new()
            };
            FoundCause {
                id: cause.id,
                signature: cause.signature,
                changes: cause.changes,
                example,
                example_bytes,
            }
        });
        Finding {
            exchange: exchange.id,
            route: Arc::clone(route),
            outcome: outcome.label(),
            reason: outcome.reason().map_or("", IncomparableReason::label),
            compared_at: *compared_at,
            cause,
        }
    }

    /// True when no example of the cause was given that is as small, or none lately.
    fn is_wanted(&mut self, comparison: &Comparison, cause: &str, bytes: u64) -> bool {
        let at = comparison.compared_at;
        let key = (Arc::clone(&comparison.experiment), cause.to_owned());
        match self.given.get_mut(&key) {
            Some(given) => {
                let wanted = bytes < given.bytes || at.since(given.at) >= self.limits.example_again;
                if wanted {
                    *given = Given { bytes: bytes.min(given.bytes), at };
                }
                wanted
            }
            None => {
                if self.given.len() < self.limits.causes_max {
                    self.given.insert(key, Given { bytes, at });
                }
                true
            }
        }
    }

    /// The example as JSON, with as much of it as there is room for; none where there is no room at all.
    fn example(&self, comparison: &Comparison, cause: &str) -> Option<Vec<u8>> {
        let limits = &self.of_example;
        let mut stored =
            StoredExample::new(&example(comparison, cause, limits)?, &answers(comparison, limits));
        for lessen in StoredExample::LESS {
            let json = serde_json::to_vec(&stored).ok()?;
            if json.len() <= self.limits.example_bytes_max {
                return Some(json);
            }
            lessen(&mut stored);
        }
        let json = serde_json::to_vec(&stored).ok()?;
        (json.len() <= self.limits.example_bytes_max).then_some(json)
    }
}

// === impl StoredExample ===

impl StoredExample {
    /// Ways to make one smaller, to be gone in this order.
    const LESS: [fn(&mut Self); 4] = [
        |stored| {
            for answer in [&mut stored.control, &mut stored.candidate].into_iter().flatten() {
                answer.body.clear();
            }
        },
        |stored| (stored.control, stored.candidate) = (None, None),
        |stored| stored.body.clear(),
        |stored| {
            let left_out = stored.differences.len().saturating_sub(1) as u64;
            stored.differences.truncate(1);
            stored.differences_omitted = stored.differences_omitted.saturating_add(left_out);
            stored.headers_omitted = stored.headers_omitted.saturating_add(stored.headers.len() as u64);
            stored.headers.clear();
        },
    ];

    /// The form of an example with its answers.
    pub fn new(example: &Example, answers: &Answers) -> Self {
        let Example {
            cause: _,
            bytes,
            exchange,
            method,
            target,
            headers,
            headers_omitted,
            body,
            body_bytes,
            control_status,
            candidate_status,
            differences,
            differences_omitted,
        } = example.clone();
        let Answers { control, candidate } = answers;
        Self {
            exchange,
            bytes,
            method,
            target,
            headers,
            headers_omitted,
            body,
            body_bytes,
            control_status,
            candidate_status,
            differences,
            differences_omitted,
            control: control.as_ref().map(StoredAnswer::new),
            candidate: candidate.as_ref().map(StoredAnswer::new),
        }
    }

    /// Reads what another host has written about a cause.
    ///
    /// # Errors
    /// When it is not JSON of this form.
    pub fn read(cause: &str, json: &[u8]) -> Result<(Example, Answers), JournalError> {
        let stored: Self = serde_json::from_slice(json)
            .map_err(|source| JournalError::Json { what: "an example", source })?;
        let Self {
            exchange,
            bytes,
            method,
            target,
            headers,
            headers_omitted,
            body,
            body_bytes,
            control_status,
            candidate_status,
            differences,
            differences_omitted,
            control,
            candidate,
        } = stored;
        let example = Example {
            cause: cause.to_owned(),
            bytes,
            exchange,
            method,
            target,
            headers,
            headers_omitted,
            body,
            body_bytes,
            control_status,
            candidate_status,
            differences,
            differences_omitted,
        };
        let answers = Answers {
            control: control.map(StoredAnswer::into_answer),
            candidate: candidate.map(StoredAnswer::into_answer),
        };
        Ok((example, answers))
    }
}

// === impl StoredAnswer ===

impl StoredAnswer {
    fn new(answer: &Answer) -> Self {
        let Answer { status, headers, headers_omitted, body, body_bytes } = answer;
        Self {
            status: *status,
            headers: headers.clone(),
            headers_omitted: *headers_omitted,
            body: body.clone(),
            body_bytes: *body_bytes,
        }
    }

    fn into_answer(self) -> Answer {
        let Self { status, headers, headers_omitted, body, body_bytes } = self;
        Answer { status, headers, headers_omitted, body, body_bytes }
    }
}

/// Bytes as text in JSON.
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cause_of, comparison, mismatch};
    use super::*;
    use crate::model::{Body, Exchange, IncomparableReason, Outcome, Request};

    fn finder(limits: FindingLimits) -> Finder {
        Finder::new(limits, &JournalLimits::default(), cause_of)
    }

    fn with_body(number: u64, bytes: usize) -> Comparison {
        let mut comparison = comparison(number, "/b", mismatch("json:$.x"));
        let exchange = &comparison.exchange;
        let request = Request { body: Body::whole("x".repeat(bytes)), ..exchange.request.clone() };
        comparison.exchange = Arc::new(Exchange { request, ..Exchange::clone(exchange) });
        comparison
    }

    #[test]
    fn an_outcome_is_told_with_its_reason() {
        let mut finder = finder(FindingLimits::default());
        let mut check = |outcome: Outcome, expected: (&str, &str, bool)| {
            let found = finder.find(&comparison(1, "/a", outcome));
            assert_eq!((found.outcome, found.reason, found.cause.is_some()), expected);
        };
        check(Outcome::Match, ("match", "", false));
        check(Outcome::Incomparable(IncomparableReason::BodyCut), ("incomparable", "body_cut", false));
        check(Outcome::Ignored(Vec::new()), ("ignored", "", false));
        check(mismatch("status"), ("mismatch", "", true));
    }

    #[test]
    fn an_example_is_read_back_without_its_secrets() {
        let found = finder(FindingLimits::default()).find(&comparison(2, "/b", mismatch("header:cookie")));
        let cause = found.cause.unwrap();
        assert!(!String::from_utf8_lossy(&cause.example).contains("s3cret"));
        let (example, answers) = StoredExample::read(&cause.id, &cause.example).unwrap();
        assert_eq!(
            (example.target.as_str(), &example.body[..], example.bytes),
            ("/b", &b"0123456789"[..], cause.example_bytes)
        );
        let status = |answer: &Option<Answer>| answer.as_ref().map(|answer| answer.status);
        assert_eq!((status(&answers.control), status(&answers.candidate)), (Some(200), Some(500)));
    }

    #[test]
    fn an_example_comes_again_only_when_it_is_smaller_or_the_last_is_old() {
        let mut finder = finder(FindingLimits::default());
        let mut check = |number: u64, bytes: usize, expected: bool| {
            let found = finder.find(&with_body(number, bytes)).cause.unwrap();
            assert_eq!(!found.example.is_empty(), expected, "{number}: {bytes} bytes");
        };
        check(1, 100, true);
        check(2, 100, false);
        check(3, 200, false);
        check(4, 50, true);
        check(5, 60, false);
        check(60_000_000_004, 70, true);
        check(60_000_000_005, 60, false);
    }

    #[test]
    fn an_example_stays_within_its_bytes() {
        for bytes_max in [16 << 10, 4_000, 1_000, 600, 10] {
            let limits = FindingLimits { example_bytes_max: bytes_max, ..FindingLimits::default() };
            let example = finder(limits).find(&with_body(1, 100_000)).cause.unwrap().example;
            assert!(example.len() <= bytes_max, "{} of {bytes_max}", example.len());
            assert_eq!(example.is_empty(), bytes_max < 100, "{bytes_max}");
        }
    }

    #[test]
    fn what_is_no_example_is_an_error() {
        for json in [&b""[..], b"[]", b"{\"exchange\": 1}", b"\xff\xfe", b"null"] {
            assert!(StoredExample::read("cause", json).is_err(), "{json:?}");
        }
    }
}
