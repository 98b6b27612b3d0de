//! HTML and XML: elements and fields of forms whose name says that they hold a secret.
//!
//! Builds no tree: what is broken is read as far as it goes. Reads `<password>…</password>`, and `value` or `content` of an
//! element whose `name`, `id` or `property` is secret, such as a hidden field with a token against forgery.

use std::ops::Range;

use super::splice::Splice;
use super::{RedactTally, Redactor, Rule};

/// Attributes that are read of one element.
const ATTRIBUTES_MAX: usize = 64;

/// Bytes of one tag.
const TAG_BYTES_MAX: usize = 64 << 10;

impl Redactor {
    /// A document; none when nothing of it is hidden by its names.
    pub(super) fn markup(&self, text: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let mut splice = Splice::new(text);
        let mut from = 0_usize;
        while let Some(offset) = memchr::memchr(b'<', text.get(from..).unwrap_or_default()) {
            let start = from.saturating_add(offset).saturating_add(1);
            from = start;
            let window =
                text.get(start..text.len().min(start.saturating_add(TAG_BYTES_MAX))).unwrap_or_default();
            if !window.first().is_some_and(u8::is_ascii_alphabetic) {
                continue;
            }
            let tag_bytes = tag_end(window);
            let tag = window.get(..tag_bytes).unwrap_or_default();
            let name_bytes =
                tag.iter().take_while(|byte| !byte.is_ascii_whitespace() && **byte != b'/').count();
            let (name, attributes) = tag.split_at_checked(name_bytes).unwrap_or_default();
            let attributes_start = start.saturating_add(name_bytes);
            self.attributes(attributes, attributes_start, &mut splice, tally);
            let content_start = start.saturating_add(tag_bytes).saturating_add(1);
            from = content_start.min(text.len());
            let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
            if !tag.ends_with(b"/") && self.form.hide(local) {
                let rest = text.get(from..).unwrap_or_default();
                let end = from.saturating_add(memchr::memchr(b'<', rest).unwrap_or(rest.len()));
                self.replace(text, from..end, &mut splice, tally);
            }
        }
        splice.finish()
    }

    fn attributes(&self, text: &[u8], start: usize, splice: &mut Splice<'_>, tally: &mut RedactTally) {
        let mut is_secret = false;
        let mut values: Vec<Range<usize>> = Vec::new();
        let mut at = 0_usize;
        for _ in 0..ATTRIBUTES_MAX {
            let Some((name, value, behind)) = attribute(text, at) else { break };
            at = behind;
            let (name, shown) =
                (text.get(name).unwrap_or_default(), text.get(value.clone()).unwrap_or_default());
            let is = |wanted: &[&[u8]]| wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted));
            if is(&[b"name", b"id", b"property"]) {
                is_secret |= self.form.hide(shown);
            } else if is(&[b"value", b"content"]) || self.form.hide(name) {
                is_secret |= self.form.hide(name);
                values.push(value);
            }
        }
        for value in values.into_iter().filter(|_| is_secret) {
            let at = start.saturating_add(value.start)..start.saturating_add(value.end);
            let shown = text.get(value).unwrap_or_default();
            if let Some(token) = self.secret(shown, Rule::Markup, tally) {
                splice.replace(at, &token);
            }
        }
    }

    fn replace(&self, text: &[u8], at: Range<usize>, splice: &mut Splice<'_>, tally: &mut RedactTally) {
        let value = text.get(at.clone()).unwrap_or_default();
        let leading = value.len().saturating_sub(value.trim_ascii_start().len());
        let start = at.start.saturating_add(leading);
        let value = value.trim_ascii();
        if let Some(token) = self.secret(value, Rule::Markup, tally) {
            splice.replace(start..start.saturating_add(value.len()), &token);
        }
    }
}

/// Bytes of a tag up to its `>`, which may stand within quotes without ending it.
fn tag_end(text: &[u8]) -> usize {
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    text.len()
}

/// The next attribute from `at`: where its name and value are, and what is behind it.
fn attribute(text: &[u8], at: usize) -> Option<(Range<usize>, Range<usize>, usize)> {
    let skip = |from: usize, is_skipped: &dyn Fn(u8) -> bool| {
        let rest = text.get(from..).unwrap_or_default();
        from.saturating_add(rest.iter().take_while(|byte| is_skipped(**byte)).count())
    };
    let start = skip(at, &|byte| byte.is_ascii_whitespace() || byte == b'/');
    let end = skip(start, &|byte| !byte.is_ascii_whitespace() && byte != b'=');
    let equals = skip(end, &|byte| byte.is_ascii_whitespace());
    if start == end && equals >= text.len() {
        return None;
    }
    if text.get(equals) != Some(&b'=') {
        return Some((start..end, end..end, equals.max(at.saturating_add(1))));
    }
    let value = skip(equals.saturating_add(1), &|byte| byte.is_ascii_whitespace());
    match text.get(value) {
        Some(quote @ (b'"' | b'\'')) => {
            let inner = value.saturating_add(1);
            let close = skip(inner, &|byte| byte != *quote);
            Some((start..end, inner..close, close.saturating_add(1)))
        }
        Some(_) | None => {
            let close = skip(value, &|byte| !byte.is_ascii_whitespace());
            Some((start..end, value..close, close.max(at.saturating_add(1))))
        }
    }
}
