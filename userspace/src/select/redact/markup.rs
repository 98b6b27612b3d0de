//! HTML and XML: elements and fields of forms whose name says that they hold a secret.
//!
//! Builds no tree: what is broken is read as far as it goes. Reads `<password>…</password>` with all that is in it, and `value`
//! or `content` of an element whose `name`, `id`, `key` or `property` is secret, such as a hidden field with a token against
//! forgery.

use std::ops::Range;

use super::splice::Splice;
use super::{RedactTally, Redactor, Rule};

/// Attributes that are read of one element.
const ATTRIBUTES_MAX: usize = 64;

/// Bytes of one tag.
const TAG_BYTES_MAX: usize = 64 << 10;

/// Tags whose quotes are never closed that are looked at to the end; the others end at their first `>`.
const TORN_TAGS_MAX: usize = 16;

/// How much of what follows a tag is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hidden<'a> {
    Nothing,
    /// Up to the next tag: its attributes say that the element holds one.
    Text,
    /// Up to the end of the element with this name, or of the document.
    Element {
        name: &'a [u8],
        depth: usize,
    },
}

impl Redactor {
    /// A document; none when nothing of it is hidden by its names.
    pub(super) fn markup(&self, text: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let mut splice = Splice::new(text);
        let mut hidden = Hidden::Nothing;
        let mut torn_tags = 0_usize;
        let mut from = 0_usize;
        loop {
            let rest = text.get(from..).unwrap_or_default();
            let next = memchr::memchr(b'<', rest);
            let end = next.map_or(text.len(), |offset| from.saturating_add(offset));
            if hidden != Hidden::Nothing {
                self.replace(text, from..end, &mut splice, tally);
            }
            let Some(_) = next else { break };
            let start = end.saturating_add(1);
            from = start;
            let window =
                text.get(start..text.len().min(start.saturating_add(TAG_BYTES_MAX))).unwrap_or_default();
            if let Some(inner) = window.strip_prefix(b"![CDATA[") {
                let inner_start = start.saturating_add(8);
                let bytes = memchr::memmem::find(inner, b"]]>").unwrap_or(inner.len());
                from = inner_start.saturating_add(bytes);
                if hidden != Hidden::Nothing {
                    self.replace(text, inner_start..from, &mut splice, tally);
                }
                continue;
            }
            if window.first() == Some(&b'/') {
                let name = window.get(1..).unwrap_or_default();
                hidden = hidden.closed(local_name(name));
                let bytes = memchr::memchr2(b'>', b'<', window).unwrap_or(window.len());
                let is_closed = window.get(bytes) == Some(&b'>');
                from = start.saturating_add(bytes).saturating_add(usize::from(is_closed));
                continue;
            }
            if !window.first().is_some_and(u8::is_ascii_alphabetic) {
                // No tag; what stands behind it is text, as it is.
                continue;
            }
            let tag_bytes = tag_end(window, &mut torn_tags);
            let tag = window.get(..tag_bytes).unwrap_or_default();
            let name_bytes =
                tag.iter().take_while(|byte| !byte.is_ascii_whitespace() && **byte != b'/').count();
            let (name, attributes) = tag.split_at_checked(name_bytes).unwrap_or_default();
            let holds = self.attributes(attributes, start.saturating_add(name_bytes), &mut splice, tally);
            let is_closed = window.get(tag_bytes) == Some(&b'>');
            from = start.saturating_add(tag_bytes).saturating_add(usize::from(is_closed));
            let local = local_name(name);
            let is_empty = tag.ends_with(b"/");
            hidden = match hidden {
                Hidden::Element { name, depth } if !is_empty && name.eq_ignore_ascii_case(local) => {
                    Hidden::Element { name, depth: depth.saturating_add(1) }
                }
                Hidden::Element { name, depth } => Hidden::Element { name, depth },
                Hidden::Nothing | Hidden::Text if is_empty => Hidden::Nothing,
                Hidden::Nothing | Hidden::Text if self.form.hide(local) => {
                    Hidden::Element { name: local, depth: 1 }
                }
                Hidden::Nothing | Hidden::Text if holds => Hidden::Text,
                Hidden::Nothing | Hidden::Text => Hidden::Nothing,
            };
        }
        splice.finish()
    }

    /// Hides the values of a tag that are secrets, and says whether its content is one.
    fn attributes(
        &self,
        text: &[u8],
        start: usize,
        splice: &mut Splice<'_>,
        tally: &mut RedactTally,
    ) -> bool {
        let (mut is_secret, mut holds) = (false, false);
        let mut values: Vec<Range<usize>> = Vec::new();
        let mut at = 0_usize;
        for _ in 0..ATTRIBUTES_MAX {
            let Some((name, value, behind)) = attribute(text, at) else { break };
            at = behind;
            let (name, shown) =
                (text.get(name).unwrap_or_default(), text.get(value.clone()).unwrap_or_default());
            let is = |wanted: &[&[u8]]| wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted));
            if is(&[b"type"]) {
                is_secret |= shown.eq_ignore_ascii_case(b"password");
            } else if is(&[b"name", b"id", b"property", b"key"]) {
                let says = self.form.hide(shown);
                is_secret |= says;
                // An `id` is one of a place in the page as well, with much in it.
                holds |= says && !is(&[b"id"]);
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
        holds
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

// === impl Hidden ===

impl Hidden<'_> {
    /// Behind the end of an element with this name.
    fn closed(self, local: &[u8]) -> Self {
        match self {
            Hidden::Element { name, depth } if !name.eq_ignore_ascii_case(local) => {
                Hidden::Element { name, depth }
            }
            Hidden::Element { name, depth } if depth > 1 => {
                Hidden::Element { name, depth: depth.saturating_sub(1) }
            }
            Hidden::Nothing | Hidden::Text | Hidden::Element { name: _, depth: _ } => Hidden::Nothing,
        }
    }
}

/// The name of a tag without its prefix.
fn local_name(tag: &[u8]) -> &[u8] {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>' | b'<');
    let bytes = tag.iter().take_while(|byte| !ends(byte)).count();
    let name = tag.get(..bytes).unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next().unwrap_or_default()
}

/// Bytes of a tag up to its `>`, which may stand within quotes without ending it; or up to its first `>`, or to the tag that
/// comes behind, where quotes are never closed.
fn tag_end(text: &[u8], torn_tags: &mut usize) -> usize {
    if *torn_tags < TORN_TAGS_MAX {
        let mut quote = None;
        for (at, byte) in text.iter().enumerate() {
            match (quote, byte) {
                (None, b'>') => return at,
                (None, b'"' | b'\'') => quote = Some(*byte),
                (Some(open), byte) if open == *byte => quote = None,
                _ => {}
            }
        }
        *torn_tags = torn_tags.saturating_add(1);
    }
    memchr::memchr2(b'>', b'<', text).unwrap_or(text.len())
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
