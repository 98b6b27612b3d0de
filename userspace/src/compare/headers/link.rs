//! Reads `Link` fields (RFC 8288 section 3).
//!
//! Does not resolve a relative target: two answers to one request have one base.

use super::grammar::{Part, name_and_value, split_quoted};
use crate::compare::url::OwnOrigin;

/// One part for each link, named by its relation types; none where a value is no list of links.
pub(super) fn links(values: &[Vec<u8>], origin: &OwnOrigin<'_>) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for value in values {
        let mut rest = value.as_slice();
        loop {
            // Empty elements of a list are allowed (RFC 9110 section 5.6.1.2).
            while let [b',' | b' ' | b'\t', after @ ..] = rest {
                rest = after;
            }
            if rest.is_empty() {
                break;
            }
            let (part, after) = link(rest, origin)?;
            parts.push(part);
            rest = after;
        }
    }
    Some(parts)
}

/// `<target>; name=value; …` and what follows it.
fn link<'v>(text: &'v [u8], origin: &OwnOrigin<'_>) -> Option<(Part, &'v [u8])> {
    let inside = text.strip_prefix(b"<")?;
    let close = inside.iter().position(|b| *b == b'>')?;
    let (target, after) = (inside.get(..close)?, inside.get(close.checked_add(1)?..)?);
    // The parameters end at a comma outside of quotes; a comma within the target was passed already.
    let parameters = split_at_comma(after);
    let mut relations: Vec<String> = Vec::new();
    let mut others: Vec<(String, Vec<u8>)> = Vec::new();
    for piece in split_quoted(parameters, b';') {
        let (name, value) = name_and_value(piece);
        if name == "rel" && relations.is_empty() {
            // Only the first `rel` counts (section 3.3); its words are without case (section 2.1.1).
            let words = String::from_utf8_lossy(&value).to_ascii_lowercase();
            relations = words.split_ascii_whitespace().map(str::to_owned).collect();
            relations.sort_unstable();
        } else if name != "rel" {
            others.push((name, value));
        }
    }
    others.sort();
    let mut meaning = origin.without_own(target.trim_ascii()).to_vec();
    for (name, value) in others {
        meaning.push(0);
        meaning.extend([name.as_bytes(), b"=", &value].concat());
    }
    let length = text.len().checked_sub(after.len())?.checked_add(parameters.len())?;
    let shown = text.get(..length)?.trim_ascii().to_vec();
    Some((Part { name: relations.join(" "), meaning, shown }, after.get(parameters.len()..)?))
}

fn split_at_comma(text: &[u8]) -> &[u8] {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return true,
            _ => {}
        }
        false
    });
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}
