//! `multipart/*` bodies, part by part (RFC 2046 section 5.1, RFC 7578).
//!
//! Believes no boundary within a line: what looks like one there is a part of a value.

use super::body::Kind;
use super::splice::Splice;
use super::{Place, RedactTally, Redactor, Rule};

/// Multipart bodies within parts that are read.
const NESTED_MAX: u32 = 2;

/// The fields of a part's head that say what it is, and hold nobody's secret but for a file's name.
const PROTOCOL: [&[u8]; 4] =
    [b"content-type", b"content-disposition", b"content-transfer-encoding", b"content-length"];

/// What lies between two boundaries.
struct Part {
    start: usize,
    end: usize,
}

impl Redactor {
    /// A body with this boundary; none when nothing of it is hidden.
    pub(super) fn multipart(&self, text: &[u8], boundary: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        self.multipart_nested(text, boundary, 0, tally)
    }

    fn multipart_nested(
        &self,
        text: &[u8],
        boundary: &[u8],
        nested: u32,
        tally: &mut RedactTally,
    ) -> Option<Vec<u8>> {
        let mut splice = Splice::new(text);
        let delimiter = [b"--", boundary].concat();
        let mut first = true;
        for Part { start, end } in parts(text, &delimiter) {
            let piece = text.get(start..end).unwrap_or_default();
            // What stands before the first boundary, and behind the last one, is read by nobody.
            if std::mem::take(&mut first) || piece.starts_with(b"--") {
                self.aside(piece, start, &mut splice, tally);
                continue;
            }
            let (head_bytes, gap) = head_end(piece);
            let (head, _) = piece.split_at_checked(head_bytes).unwrap_or_default();
            let at = start.saturating_add(head_bytes).saturating_add(gap);
            let content = text.get(at..end).unwrap_or_default();
            let content = content.strip_suffix(b"\n").unwrap_or(content);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            self.head(head, start, &mut splice, tally);
            if let Some(hidden) = self.part(head, content, nested, tally) {
                splice.replace(at..at.saturating_add(content.len()), &hidden);
            }
        }
        splice.finish()
    }

    /// What is in no part. Where only what is allowed passes, that does not.
    fn aside(&self, piece: &[u8], start: usize, splice: &mut Splice<'_>, tally: &mut RedactTally) {
        let dashes = if piece.starts_with(b"--") { 2 } else { 0 };
        let inner = piece.get(dashes..).unwrap_or_default();
        let shown = inner.trim_ascii();
        if self.is_strict()
            && let Some(token) = self.secret(shown, Rule::Form, tally)
        {
            let leading = inner.len().saturating_sub(inner.trim_ascii_start().len());
            let at = start.saturating_add(dashes).saturating_add(leading);
            splice.replace(at..at.saturating_add(shown.len()), &token);
        }
    }

    /// The head of a part: its fields by their names, and where only what is allowed passes the name of a file as well.
    fn head(&self, head: &[u8], start: usize, splice: &mut Splice<'_>, tally: &mut RedactTally) {
        let mut at = start;
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let line_start = at;
            at = at.saturating_add(line.len());
            let line = line.trim_ascii_end();
            let (name, value) =
                match memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
                    Some((name, value)) => {
                        (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii_start())
                    }
                    None => (&b""[..], line.trim_ascii_start()),
                };
            let value_end = line_start.saturating_add(line.len());
            if PROTOCOL.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                if self.is_strict()
                    && let Some(offset) = memchr::memmem::find(value, b"filename")
                {
                    // All that follows the name of a file: it is written in many ways.
                    let from = offset.saturating_add(8);
                    let rest = value.get(from..).unwrap_or_default();
                    let skipped = rest.iter().take_while(|byte| b"*= \"".contains(byte)).count();
                    let shown = rest.get(skipped..).unwrap_or_default();
                    let shown_bytes = shown.iter().take_while(|byte| **byte != b'"').count();
                    let shown_at = value_end.saturating_sub(shown.len());
                    let shown = shown.get(..shown_bytes).unwrap_or_default();
                    if let Some(token) = self.secret(shown, Rule::Form, tally) {
                        splice.replace(shown_at..shown_at.saturating_add(shown_bytes), &token);
                    }
                }
            } else if (self.is_strict() || self.headers.hide_field(name))
                && let Some(token) = self.secret(value, Rule::Header, tally)
            {
                splice.replace(value_end.saturating_sub(value.len())..value_end, &token);
            }
        }
    }

    fn part(&self, head: &[u8], content: &[u8], nested: u32, tally: &mut RedactTally) -> Option<Vec<u8>> {
        let name = name_of(head).unwrap_or_default();
        if self.allows(Place::Form, name) {
            return None;
        }
        if self.form.hide(name) || self.is_strict() {
            return self.secret(content, Rule::Form, tally);
        }
        match Kind::of(field(head, b"content-type").unwrap_or_default()).seen_in(content) {
            Kind::Multipart { boundary } if nested < NESTED_MAX => {
                self.multipart_nested(content, &boundary, nested.saturating_add(1), tally)
            }
            Kind::Multipart { boundary: _ } => None,
            kind @ (Kind::Json | Kind::Form | Kind::Markup | Kind::Text | Kind::Other) => {
                self.by_structure(&kind, content, tally)
            }
        }
    }
}

/// The pieces between lines that are boundaries (RFC 2046 section 5.1.1), the one before the first of them included.
fn parts<'t>(text: &'t [u8], delimiter: &'t [u8]) -> impl Iterator<Item = Part> + 't {
    let is_line = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        let behind = text.get(at.saturating_add(delimiter.len())..).unwrap_or_default();
        let ends = behind.first().is_none_or(u8::is_ascii_whitespace) || behind.starts_with(b"--");
        before.is_none_or(|byte| *byte == b'\n') && ends
    };
    let mut lines = memchr::memmem::find_iter(text, delimiter).filter(is_line);
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let next = lines.next();
        start = next.map(|at| at.saturating_add(delimiter.len()));
        Some(Part { start: from, end: next.unwrap_or(text.len()) })
    })
}

/// Bytes of a part's head, and of the empty line behind it. A part without one is a head alone.
fn head_end(part: &[u8]) -> (usize, usize) {
    let strict = memchr::memmem::find(part, b"\r\n\r\n").map(|at| (at, 4));
    let bare = memchr::memmem::find(part, b"\n\n").map(|at| (at, 2));
    strict.into_iter().chain(bare).min().unwrap_or((part.len(), 0))
}

/// The value of a field in the head of a part.
fn field<'a>(head: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        name.trim_ascii()
            .eq_ignore_ascii_case(wanted)
            .then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The name of the form's field that a part is (RFC 7578 section 4.2).
fn name_of(head: &[u8]) -> Option<&[u8]> {
    parameter(field(head, b"content-disposition")?, b"name")
}

/// A parameter of a field's value, without its quotes.
pub(super) fn parameter<'a>(value: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    value.split(|byte| *byte == b';').skip(1).find_map(|parameter| {
        let equals = memchr::memchr(b'=', parameter)?;
        let (name, value) = parameter.split_at_checked(equals)?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value);
        name.trim_ascii().eq_ignore_ascii_case(wanted).then_some(value)
    })
}
