//! A value as rules see it: its text, and what number or time that is.
//!
//! Decides nothing about values: predicates, tolerances and rewriting do.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use super::super::findings::Place;
use super::super::json_text::{self, Node};

/// The text of a value: of a JSON string its contents, of anything else what a report shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    pub(super) text: Cow<'a, str>,
    /// True for a JSON string, so that `"1"` and `1` stay two values.
    pub(super) quoted: bool,
}

/// A value whose text is longer than a rule may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// A number that no type of ours can hold, such as `1e999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfRange;

/// A number as exactly as it can be had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Up to 28 digits.
    Exact(Decimal),
    /// Beyond what [`Decimal`] holds.
    Float(f64),
}

/// Takes the text whole, or fails.
struct Whole {
    text: String,
    bytes_max: usize,
}

/// Above these, a number of seconds, milliseconds and microseconds since 1970 would lie beyond the year 5000.
const SECONDS_BELOW: i64 = 100_000_000_000;
const MILLIS_BELOW: i64 = 100_000_000_000_000;
const MICROS_BELOW: i64 = 100_000_000_000_000_000;

// === impl Text ===

impl Text<'static> {
    /// The text of a value at `place`, which may take `bytes_max` bytes.
    pub(super) fn of(place: &Place<'_>, shown: &dyn Display, bytes_max: usize) -> Result<Self, TooLong> {
        let mut whole = Whole { text: String::new(), bytes_max };
        if write!(whole, "{shown}").is_err() {
            return Err(TooLong);
        }
        let Whole { text, bytes_max: _ } = whole;
        let in_json = matches!(place, Place::Json(_));
        let unquoted = (in_json && text.starts_with('"')).then(|| unquote(&text)).flatten();
        Ok(match unquoted {
            Some(text) => Self { text: Cow::Owned(text), quoted: true },
            None => Self { text: Cow::Owned(text), quoted: false },
        })
    }
}

impl Text<'_> {
    /// The number that this is; none when it is none.
    pub(super) fn number(&self) -> Result<Option<Number>, OutOfRange> {
        let text = self.text.trim();
        let is_number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
            && text.bytes().any(|b| b.is_ascii_digit());
        if !is_number {
            return Ok(None);
        }
        let exact = if text.contains(['e', 'E']) { Decimal::from_scientific(text) } else { text.parse() };
        if let Ok(exact) = exact {
            return Ok(Some(Number::Exact(exact)));
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Some(Number::Float(float))),
            Ok(_) => Err(OutOfRange),
            Err(_) => Ok(None),
        }
    }

    /// The time that this is: RFC 3339, RFC 9110 section 5.6.7 (`Sun, 06 Nov 1994 08:49:37 GMT`), a date and a time
    /// without a zone, or a number since 1970 in seconds, milliseconds, microseconds or nanoseconds, by its size.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let text = self.text.trim();
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return since_1970(text);
        }
        if let Ok(time) = text.parse() {
            return Some(time);
        }
        if let Ok(time) = rfc2822::DateTimeParser::new().parse_timestamp(text) {
            return Some(time);
        }
        let civil: DateTime = text.parse().ok()?;
        civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    }
}

fn unquote(text: &str) -> Option<String> {
    match json_text::parse(text.as_bytes(), 1, 1, None) {
        Ok(Node { hash: _, value: json_text::Value::Text(text) }) => Some(text.into_owned()),
        Ok(Node { hash: _, value: _ }) | Err(_) => None,
    }
}

fn since_1970(text: &str) -> Option<Timestamp> {
    let (whole, _) = text.split_once('.').unwrap_or((text, ""));
    let count: i64 = whole.parse().ok()?;
    if count < SECONDS_BELOW {
        let seconds: f64 = text.parse().ok()?;
        return Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok();
    }
    if count < MILLIS_BELOW {
        return Timestamp::from_millisecond(count).ok();
    }
    if count < MICROS_BELOW {
        return Timestamp::from_microsecond(count).ok();
    }
    Timestamp::from_nanosecond(i128::from(count)).ok()
}

/// How far apart two times are.
pub(super) fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.duration_since(b).unsigned_abs()
}

/// Shows a JSON string with its quotes, anything else as it is.
impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.quoted {
            return f.write_str(&self.text);
        }
        Node { hash: 0, value: json_text::Value::Text(Cow::Borrowed(&self.text)) }.fmt(f)
    }
}

// === impl Whole ===

impl Write for Whole {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if more.len() > self.bytes_max.saturating_sub(self.text.len()) {
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

// === impl Number ===

impl Number {
    /// As a float, to the nearest.
    pub(super) fn to_f64(self) -> f64 {
        match self {
            // Its own text is the one way that loses nothing on the way.
            Number::Exact(exact) => exact.to_string().parse().unwrap_or(f64::NAN),
            Number::Float(float) => float,
        }
    }
}
