//! Compares `multipart/*` bodies by part (RFC 2046 section 5.1).
//!
//! Does not undo `Content-Transfer-Encoding`, which HTTP has no use for (RFC 7578 section 4.7), and reads no multipart
//! body within a part.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::align::{Element, pair_up};
use super::findings::{Container, Findings, Lossy, Place};
use super::headers;
use super::json_text::ParseError;
use crate::model::{DifferenceKind, Headers, IncomparableReason};

/// How a part without a name is called.
const UNNAMED: &str = "[*]";

/// The head of a part has no more fields than this; more make the body no multipart body.
const FIELDS_MAX: usize = 100;

/// The fields of a part that are compared.
const FIELDS: [&str; 2] = ["content-disposition", "content-type"];

/// The parts of a body, sorted by name; parts of one name in the order they were sent.
#[derive(Debug)]
pub(super) struct Parts<'a>(Vec<Part<'a>>);

/// One part.
#[derive(Debug)]
pub(super) struct Part<'a> {
    name: String,
    headers: Headers,
    body: &'a [u8],
}

/// Reads a body with its boundary.
///
/// # Errors
/// When the body has no such boundary or does not end with it, or there are more parts than `parts_max`.
pub(super) fn read<'a>(text: &'a [u8], boundary: &[u8], parts_max: usize) -> Result<Parts<'a>, ParseError> {
    let delimiter = [b"\n--", boundary].concat();
    // What comes before the first delimiter is for readers that know no multipart.
    let first = delimiter.get(1..).unwrap_or_default();
    let mut rest = match text.strip_prefix(first) {
        Some(rest) => rest,
        None => after(text, &delimiter).ok_or(ParseError::Malformed)?.1,
    };
    let mut parts = Vec::new();
    // `--` behind a delimiter ends the body.
    while !rest.starts_with(b"--") {
        let line_end = memchr::memchr(b'\n', rest).ok_or(ParseError::Malformed)?;
        let (padding, part) = rest.split_at_checked(line_end).ok_or(ParseError::Malformed)?;
        if !padding.trim_ascii().is_empty() {
            return Err(ParseError::Malformed);
        }
        // The line end stays, so that a part without a body still has one before the delimiter.
        let (content, next) = after(part, &delimiter).ok_or(ParseError::Malformed)?;
        if parts.len() >= parts_max {
            return Err(ParseError::TooMany);
        }
        parts.push(Part::read(content.get(1..).unwrap_or_default())?);
        rest = next;
    }
    parts.sort_by(|x, y| x.name.cmp(&y.name));
    Ok(Parts(parts))
}

/// What stands before and behind a delimiter.
fn after<'a>(text: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(text, delimiter)?;
    let (before, rest) = text.split_at_checked(at)?;
    Some((before.strip_suffix(b"\r").unwrap_or(before), rest.get(delimiter.len()..)?))
}

/// Reports each part that only one body has, and what `compare_bodies` and the fields of a part tell about the rest.
pub(super) fn compare(
    a: &Parts<'_>,
    b: &Parts<'_>,
    found: &mut Findings<'_>,
    compare_bodies: impl Fn(
        (&Headers, &[u8]),
        (&Headers, &[u8]),
        &mut Findings<'_>,
    ) -> Result<(), IncomparableReason>,
) -> Result<(), IncomparableReason> {
    let (Parts(a), Parts(b)) = (a, b);
    for (i, j) in pair_up(a, b, found.budget()) {
        match (i.and_then(|i| a.get(i)), j.and_then(|j| b.get(j))) {
            (Some(x), Some(y)) if x.name == y.name => found.within(Container::Part, &x.name, |found| {
                for field in FIELDS {
                    let all = |part: &Part<'_>| {
                        part.headers.get_all(field).map(<[u8]>::to_vec).collect::<Vec<Vec<u8>>>()
                    };
                    headers::compare_values(field, (&x.headers, &all(x)), (&y.headers, &all(y)), found);
                }
                compare_bodies((&x.headers, x.body), (&y.headers, y.body), found)
            })?,
            (x, y) => {
                if let Some(x) = x {
                    found.add(&x.place(), DifferenceKind::Missing, Some(&Lossy(x.body)), None);
                }
                if let Some(y) = y {
                    found.add(&y.place(), DifferenceKind::Added, None, Some(&Lossy(y.body)));
                }
            }
        }
    }
    Ok(())
}

// === impl Part ===

impl<'a> Part<'a> {
    /// Fields, an empty line, the body.
    fn read(text: &'a [u8]) -> Result<Self, ParseError> {
        let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
        let mut rest = text;
        loop {
            let end = memchr::memchr(b'\n', rest);
            let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            rest = end.and_then(|end| rest.get(end.saturating_add(1)..)).unwrap_or_default();
            let line = line.trim_ascii_end();
            if line.is_empty() {
                break;
            }
            if fields.len() >= FIELDS_MAX {
                return Err(ParseError::Malformed);
            }
            let colon = memchr::memchr(b':', line).ok_or(ParseError::Malformed)?;
            let (name, value) = line.split_at_checked(colon).ok_or(ParseError::Malformed)?;
            fields.push((name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii()));
        }
        let headers = Headers::from_pairs(fields);
        let disposition = headers.get("content-disposition").unwrap_or_default();
        let name = headers::parameter(disposition, "name").filter(|name| !name.is_empty());
        // A place writes what lies in the part behind a slash.
        let name = name.map(|name| String::from_utf8_lossy(&name).replace('/', "%2F"));
        Ok(Self { name: name.unwrap_or_else(|| UNNAMED.to_owned()), headers, body: rest })
    }

    fn place(&self) -> Place<'_> {
        Place::Within { container: Container::Part, name: &self.name, place: None }
    }
}

fn hash_of(tag: u8, parts: &[&[u8]]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u8(tag);
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    hasher.finish()
}

impl Element for Part<'_> {
    fn hash(&self) -> u64 {
        let mut all = vec![self.name.as_bytes(), self.body];
        for field in FIELDS {
            all.push(self.headers.get(field).unwrap_or_default());
        }
        hash_of(b'p', &all)
    }

    fn features(&self) -> Vec<u64> {
        vec![hash_of(b'n', &[self.name.as_bytes()]), hash_of(b'b', &[self.body])]
    }
}
