//! `multipart/*` bodies, part by part (RFC 2046 section 5.1, RFC 7578).
//!
//! Reads no multipart body within a part.

use super::body::Kind;
use super::splice::Splice;
use super::{Place, RedactTally, Redactor, Rule};

/// The parts that are looked at by their names; what comes behind is looked at for its looks only.
const PARTS_MAX: usize = 10_000;

impl Redactor {
    /// A body with this boundary; none when nothing of it is hidden.
    pub(super) fn multipart(&self, text: &[u8], boundary: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let delimiter = [b"--", boundary].concat();
        let mut splice = Splice::new(text);
        let starts: Vec<usize> = memchr::memmem::find_iter(text, &delimiter).take(PARTS_MAX).collect();
        let ends = starts.iter().copied().skip(1).chain([text.len()]);
        for (start, end) in starts.iter().zip(ends) {
            let part_start = start.saturating_add(delimiter.len());
            let Some(part) = text.get(part_start..end) else { continue };
            let Some(head_end) = memchr::memmem::find(part, b"\r\n\r\n") else { continue };
            let (head, content) = part.split_at_checked(head_end).unwrap_or_default();
            let content = content.get(4..).unwrap_or_default();
            let content = content.strip_suffix(b"\r\n").unwrap_or(content);
            let at = part_start.saturating_add(head_end).saturating_add(4);
            if let Some(hidden) = self.part(head, content, tally) {
                splice.replace(at..at.saturating_add(content.len()), &hidden);
            }
        }
        splice.finish()
    }

    fn part(&self, head: &[u8], content: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let name = name_of(head).unwrap_or_default();
        if self.allows(Place::Form, name) {
            return None;
        }
        if self.form.hide(name) || self.is_strict() {
            return self.secret(content, Rule::Form, tally);
        }
        match Kind::of(field(head, b"content-type").unwrap_or_default()) {
            // A part of parts is looked at as text, with everything else, when all of the body is.
            Kind::Multipart { boundary: _ } => None,
            kind @ (Kind::Json | Kind::Form | Kind::Markup | Kind::Text | Kind::Other) => {
                self.by_structure(&kind, content, tally)
            }
        }
    }
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
