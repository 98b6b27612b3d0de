//! Tells what kind of value a shown value is.
//!
//! Guesses from the text alone, and is never a reason alone: a class only sets how boldly evidence is weighed.

use std::net::{IpAddr, SocketAddr};

use crate::model::{Difference, Transition, ValueClass};

/// Steps after which a number that kept rising is a counter.
const RISES_MIN: u32 = 8;

/// Seconds since 1970 that are taken for a time: the years 2000 to 2099.
const EPOCH_SECONDS: std::ops::Range<f64> = 946_684_800.0..4_102_444_800.0;

/// Whether the numbers at one path keep rising; 24 bytes whatever it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Trend {
    last: Option<f64>,
    rises: u32,
    falls: u32,
}

// === impl Trend ===

impl Trend {
    /// Takes A's next value in.
    pub(super) fn observe(&mut self, number: f64) {
        match self.last.replace(number) {
            Some(last) if number > last => self.rises = self.rises.saturating_add(1),
            Some(last) if number < last => self.falls = self.falls.saturating_add(1),
            Some(_) | None => {}
        }
    }

    /// True when at least eight steps went up, and no more than one in eight went down: exchanges are compared in
    /// another order than they were answered in.
    pub(super) fn is_counter(&self) -> bool {
        self.rises >= RISES_MIN && self.falls.saturating_mul(8) <= self.rises
    }
}

/// The classes of both values of a difference.
pub fn transition_of(difference: &Difference) -> Transition {
    Transition {
        control: class_of(difference.control.as_deref()),
        candidate: class_of(difference.candidate.as_deref()),
    }
}

/// The number that a value is, in quotes or without.
pub(super) fn number_of(shown: &str) -> Option<f64> {
    let text = unquoted(shown);
    // `parse` also takes `inf` and `nan`.
    let plain = text.ends_with(|c: char| c.is_ascii_digit())
        && text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The class of a value as a [`Difference`] shows it: JSON in its compact form, else plain text.
pub fn class_of(shown: Option<&str>) -> ValueClass {
    let Some(shown) = shown else { return ValueClass::Absent };
    match shown {
        "null" => return ValueClass::Null,
        "true" | "false" => return ValueClass::Bool,
        _ if shown.starts_with('[') => return ValueClass::List,
        _ if shown.starts_with('{') && !is_uuid(shown) => return ValueClass::Object,
        _ => {}
    }
    let text = unquoted(shown);
    if text.is_empty() {
        return ValueClass::Empty;
    }
    if let Some(number) = number_of(text) {
        return if is_epoch(number) { ValueClass::Timestamp } else { ValueClass::Number };
    }
    if is_date(text) {
        ValueClass::Timestamp
    } else if is_uuid(text) {
        ValueClass::Uuid
    } else if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        ValueClass::Ip
    } else if is_opaque(text) {
        ValueClass::Hash
    } else {
        ValueClass::Text
    }
}

/// Without the quotes of JSON or of an entity tag (RFC 9110 section 8.8.3), the mark of a shortened value, and white
/// space around it.
fn unquoted(shown: &str) -> &str {
    let text = shown.strip_suffix('…').unwrap_or(shown).trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    let text = text.strip_prefix('"').unwrap_or(text);
    text.strip_suffix('"').unwrap_or(text).trim()
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970.
fn is_epoch(number: f64) -> bool {
    [1.0, 1e3, 1e6, 1e9].iter().any(|unit| EPOCH_SECONDS.contains(&(number / unit)))
}

/// RFC 3339 section 5.6, also with a blank for the `T`, without an offset, or the date alone; the three forms of RFC
/// 9110 section 5.6.7; a time of day.
fn is_date(text: &str) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let named = DAYS.iter().any(|day| text.starts_with(day))
        && MONTHS.iter().any(|month| text.contains(month))
        && text.contains(':');
    named || fits(text, "0000-00-00") || fits(text, "00:00:00")
}

/// True when the text begins like the pattern, in which 0 stands for a digit, and no letter or digit but `T` follows.
fn fits(text: &str, pattern: &str) -> bool {
    let mut rest = text.chars();
    let alike = pattern.chars().all(|wanted| match rest.next() {
        Some(c) if wanted == '0' => c.is_ascii_digit(),
        Some(c) => c == wanted,
        None => false,
    });
    alike && rest.next().is_none_or(|c| c == 'T' || c == 't' || !c.is_alphanumeric())
}

/// RFC 9562 section 4, also in braces and as a URN.
fn is_uuid(text: &str) -> bool {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let mut lengths = text.split('-').map(str::len);
    [8, 4, 4, 4, 12].into_iter().all(|length| lengths.next() == Some(length))
        && lengths.next().is_none()
        && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// One word with a part that no person wrote: `3f9ac01e`, `req_8fK2mQ04xTz1`, `sha256:…`, a JSON web token. A cookie
/// counts by its value, not by its attributes.
fn is_opaque(text: &str) -> bool {
    let text = text.split(';').next().unwrap_or(text);
    !text.contains(char::is_whitespace)
        && text.split([':', '.', '_', '-', '=', '"', ',']).any(|part| is_hex(part) || is_random(part))
}

/// At least eight hexadecimal digits, of both kinds, so that neither a word nor a number is one.
fn is_hex(part: &str) -> bool {
    let digits = part.chars().filter(char::is_ascii_digit).count();
    let all = part.chars().filter(char::is_ascii_hexdigit).count();
    all == part.len() && all >= 8 && digits >= 2 && digits < all
}

/// At least twelve letters, digits and signs of base64 (RFC 4648) that change between kinds as words do not.
fn is_random(part: &str) -> bool {
    let kind = |c: char| match c {
        'a'..='z' => Some(0),
        'A'..='Z' => Some(1),
        '0'..='9' => Some(2),
        '+' | '/' => Some(3),
        _ => None,
    };
    let (mut length, mut digits, mut changes, mut last) = (0_usize, 0_usize, 0_usize, None);
    for c in part.chars() {
        let Some(kind) = kind(c) else { return false };
        length = length.saturating_add(1);
        digits = digits.saturating_add(usize::from(kind == 2));
        changes = changes.saturating_add(usize::from(last.is_some_and(|last| last != kind)));
        last = Some(kind);
    }
    length >= 12 && digits >= 2 && changes.saturating_mul(4) >= length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: ValueClass, values: &[&str]) {
        for value in values {
            assert_eq!(class_of(Some(value)), expected, "{value}");
        }
    }

    #[test]
    fn classes_of_shown_values() {
        assert_eq!(class_of(None), ValueClass::Absent);
        check(ValueClass::Null, &["null"]);
        check(ValueClass::Bool, &["true", "false"]);
        check(ValueClass::Empty, &["\"\"", "\"  \"", ""]);
        check(ValueClass::List, &["[]", "[1,2"]);
        check(ValueClass::Object, &["{}"]);
        check(ValueClass::Number, &["0", "-1.5e3", "\"42\"", "12345", "99.90"]);
        check(
            ValueClass::Timestamp,
            &[
                "\"2026-08-22T10:11:12Z\"",
                "\"2026-08-22T10:11:12.123456+02:00\"",
                "2026-08-22 10:11:12",
                "2026-08-22",
                "10:11:12",
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994",
                "1787400000",
                "1787400000.25",
                "1787400000123",
                "\"1787400000123456789\"",
            ],
        );
        check(
            ValueClass::Uuid,
            &[
                "\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
                "urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
                "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}",
            ],
        );
        check(
            ValueClass::Hash,
            &[
                "\"9e107d9d372bb6826bd81d3542a419d6\"",
                "W/\"3f9ac01e\"",
                "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
                "req_8fK2mQ04xTz1",
                "01ARZ3NDEKTSV4RRFFQ69G5FAV",
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
                "8fK2mQ04xTz1; Path=/; HttpOnly",
                "\"2c26b46b68ffc68ff99b453c1d304134134…",
            ],
        );
        check(ValueClass::Ip, &["192.0.2.7", "\"2001:db8::1\"", "192.0.2.7:8080"]);
        check(
            ValueClass::Text,
            &[
                "\"The quick brown fox\"",
                "internationalisation",
                "text/html; charset=utf-8",
                "/users/anna/albums/summer",
                "cafebabe",
                "HelloWorldAgain",
                "v1.2.3",
                "20-08-x",
            ],
        );
    }

    #[test]
    fn a_counter_is_a_number_that_keeps_rising() {
        let counts = |values: &[f64]| {
            let mut trend = Trend::default();
            values.iter().for_each(|value| trend.observe(*value));
            trend.is_counter()
        };
        let rising: Vec<f64> = (0..20).map(f64::from).collect();
        assert!(counts(&rising));
        assert!(!counts(&[1.0, 2.0, 3.0, 4.0, 5.0]));
        assert!(!counts(&[
            5.0, 7.0, 3.0, 9.0, 1.0, 8.0, 2.0, 9.0, 4.0, 6.0, 5.0, 9.0, 3.0, 8.0, 1.0, 9.0, 2.0, 3.0
        ]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_class(text: String) {
            assert!(ValueClass::ALL.contains(&class_of(Some(&text))));
        }
    }
}
