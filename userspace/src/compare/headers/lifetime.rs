//! Compares moments and durations by how long they last from the answer on.
//!
//! Reads no clock: a moment is measured against the `Date` of the answer that names it.

use std::time::UNIX_EPOCH;

use crate::model::Headers;

/// Seconds by which two lifetimes may differ: each of two moments is rounded to a second.
const ROUNDING_SECONDS: i64 = 2;

/// How long something lasts, in seconds from the answer on; what has ended is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime(i64);

// === impl Lifetime ===

impl Lifetime {
    /// From a number of seconds.
    pub(super) fn of_seconds(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // More digits than fit mean for ever.
        Some(Self(text.parse::<i64>().unwrap_or(if text == digits { i64::MAX } else { 0 }).max(0)))
    }

    /// From a moment and the answer's own `Date`.
    pub(super) fn until(moment: &[u8], headers: &Headers) -> Option<Self> {
        let end = seconds_of(moment)?;
        // The beginning of the epoch is how people write "now".
        let now = headers.get("date").and_then(seconds_of);
        if end <= 86_400 || now.is_some_and(|now| end <= now) {
            return Some(Self(0));
        }
        now.map(|now| Self(end.saturating_sub(now)))
    }

    /// True when rounding explains the difference.
    pub(super) fn is_about(self, other: Self) -> bool {
        // What ends now and what lasts a second are not the same.
        (self.0 == 0) == (other.0 == 0) && self.0.abs_diff(other.0) <= ROUNDING_SECONDS.unsigned_abs()
    }
}

impl std::fmt::Display for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// True when two fields that hold a moment or a number of seconds mean the same.
pub(super) fn same(headers_a: &Headers, a: &[Vec<u8>], headers_b: &Headers, b: &[Vec<u8>]) -> bool {
    let lifetime = |headers: &Headers, values: &[Vec<u8>]| {
        let value = values.first()?;
        Lifetime::of_seconds(value).or_else(|| Lifetime::until(value, headers))
    };
    match (lifetime(headers_a, a), lifetime(headers_b, b)) {
        (Some(x), Some(y)) => x.is_about(y),
        // What is not a moment has passed (RFC 9111 section 5.3).
        (None, None) => seconds_of_first(a).is_none() && seconds_of_first(b).is_none(),
        (Some(x), None) => x == Lifetime(0) && seconds_of_first(b).is_none(),
        (None, Some(y)) => y == Lifetime(0) && seconds_of_first(a).is_none(),
    }
}

fn seconds_of_first(values: &[Vec<u8>]) -> Option<i64> {
    values.first().and_then(|value| seconds_of(value))
}

/// Seconds since 1970 of an HTTP date, or of one with hyphens, as cookies have it (RFC 6265 section 5.1.1).
fn seconds_of(moment: &[u8]) -> Option<i64> {
    let text = str::from_utf8(moment).ok()?.trim();
    let parsed = httpdate::parse_http_date(text)
        .or_else(|_| httpdate::parse_http_date(&text.replace('-', " ")))
        .ok()?;
    i64::try_from(parsed.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}
