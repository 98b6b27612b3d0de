//! Forms and queries: names and values between `&` (URL standard, section 5).
//!
//! Changes nothing but values that are hidden: how others were written stays.

use std::borrow::Cow;

use super::splice::Splice;
use super::{Place, RedactTally, Redactor, Rule};

/// Bytes of a value as they were before percent-encoding; `plus_is_space` in forms and queries.
pub(super) fn decoded(value: &[u8], plus_is_space: bool) -> Cow<'_, [u8]> {
    let is_coded = |byte: &u8| *byte == b'%' || (plus_is_space && *byte == b'+');
    if !value.iter().any(is_coded) {
        return Cow::Borrowed(value);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' if plus_is_space => plain.push(b' '),
            b'%' => match (hex(behind.first()), hex(behind.get(1))) {
                (Some(high), Some(low)) => {
                    plain.push(u8::try_from(high.saturating_mul(16).saturating_add(low)).unwrap_or(b'?'));
                    rest = behind.get(2..).unwrap_or_default();
                }
                _ => plain.push(b'%'),
            },
            other => plain.push(*other),
        }
    }
    Cow::Owned(plain)
}

/// Characters that stand for themselves in a segment of a path (RFC 3986 section 3.3), and in a form.
pub(super) const OF_PATHS: &[u8] = b"-._~!$&'()*+,;=:@";
pub(super) const OF_FORMS: &[u8] = b"-._~@:/";

/// A value as it may stand where these characters stand for themselves, written as the one was that stood there: whoever
/// repeats it repeats that as well.
pub(super) fn encoded(plain: &[u8], before: &[u8], plain_chars: &[u8]) -> Vec<u8> {
    let plus_is_space = before.contains(&b'+');
    let codes_at = memchr::memmem::find(before, b"%40").is_some();
    let mut value = Vec::with_capacity(plain.len());
    for byte in plain {
        let is_plain =
            byte.is_ascii_alphanumeric() || (plain_chars.contains(byte) && !(codes_at && *byte == b'@'));
        if is_plain {
            value.push(*byte);
        } else if *byte == b' ' && plus_is_space {
            value.push(b'+');
        } else {
            value.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    value
}

impl Redactor {
    /// A form or a query; none when nothing of it is hidden.
    pub(super) fn form(&self, text: &[u8], place: Place, tally: &mut RedactTally) -> Option<Vec<u8>> {
        let mut splice = Splice::new(text);
        let mut start: usize = 0;
        for pair in text.split(|byte| *byte == b'&') {
            let end = start.saturating_add(pair.len());
            let equals = memchr::memchr(b'=', pair);
            let (name, value) = match equals.and_then(|at| pair.split_at_checked(at)) {
                Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
                // What has no name is a value: `?alice@example.com`.
                None => (&b""[..], pair),
            };
            let value_start = end.saturating_sub(value.len());
            if let Some(hidden) = self.form_value(name, value, place, tally) {
                splice.replace(value_start..end, &hidden);
            }
            start = end.saturating_add(1);
        }
        splice.finish()
    }

    fn form_value(
        &self,
        name: &[u8],
        value: &[u8],
        place: Place,
        tally: &mut RedactTally,
    ) -> Option<Vec<u8>> {
        let name = decoded(name, true);
        let plain = decoded(value, true);
        let (names, rule) = match place {
            Place::Query => (&self.query, Rule::Query),
            Place::Form => (&self.form, Rule::Form),
        };
        if self.allows(place, &name) {
            return None;
        }
        if names.hide(&name) || self.is_strict() {
            let token = self.secret(&plain, rule, tally)?;
            return Some(encoded(&token, value, OF_FORMS));
        }
        let is_document = matches!(plain.trim_ascii_start().first(), Some(b'{' | b'['));
        let by_structure = if is_document { self.json(&plain, tally) } else { None };
        let by_looks = self.text(by_structure.as_deref().unwrap_or(&plain), tally);
        by_looks.or(by_structure).map(|hidden| encoded(&hidden, value, OF_FORMS))
    }
}
