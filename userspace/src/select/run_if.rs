//! Conditions on a request: its method, a header field, a parameter of its query, a cookie.
//!
//! Decodes nothing: a parameter is compared as it was sent.

use crate::model::{Request, is_token};

use super::SelectConfigError;
use super::header::{Condition, Wanted};

/// One condition.
#[derive(Debug)]
pub(super) enum RunIf {
    Header(Condition),
    Method(Wanted),
    Query { name: Box<[u8]>, wanted: Wanted },
    Cookie { name: Box<[u8]>, wanted: Wanted },
}

// === impl RunIf ===

impl RunIf {
    /// Parses `header NAME`, `query NAME`, `cookie NAME`, each alone (present), with `!` in front (absent), or with
    /// `: value` or `: ~regex` behind; or `method: NAME`, `method: ~regex`.
    pub(super) fn parse(text: &str) -> Result<Self, SelectConfigError> {
        let error = || SelectConfigError::RunIf { condition: text.to_owned() };
        let (absent, rest) = match text.trim().strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text.trim()),
        };
        let (subject, value) = match rest.split_once(':') {
            Some((subject, value)) => (subject.trim(), Some(value)),
            None => (rest, None),
        };
        let wanted = match (value, absent) {
            (Some(value), false) => Wanted::value(value, text)?,
            (None, true) => Wanted::Absent,
            (None, false) => Wanted::Present,
            (Some(_), true) => return Err(error()),
        };
        match subject.split_once(char::is_whitespace).map(|(kind, name)| (kind, name.trim())) {
            None if subject == "method" && value.is_some() => Ok(RunIf::Method(wanted)),
            Some(("header", name)) if is_token(name.as_bytes()) => {
                Ok(RunIf::Header(Condition { name: name.to_owned(), wanted }))
            }
            Some(("query", name)) if is_plain(name) => {
                Ok(RunIf::Query { name: name.as_bytes().into(), wanted })
            }
            Some(("cookie", name)) if is_token(name.as_bytes()) => {
                Ok(RunIf::Cookie { name: name.as_bytes().into(), wanted })
            }
            Some((_, _)) | None => Err(error()),
        }
    }

    /// True when the request is as wanted.
    pub(super) fn holds(&self, request: &Request) -> bool {
        match self {
            RunIf::Header(condition) => condition.holds(&request.headers),
            RunIf::Method(wanted) => wanted.holds(std::iter::once(&request.method[..])),
            RunIf::Query { name, wanted } => wanted.holds(parameters(&request.target, name)),
            RunIf::Cookie { name, wanted } => wanted.holds(cookies(request, name)),
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.bytes().any(|b| b.is_ascii_whitespace() || b"&=#?".contains(&b))
}

/// The values of a parameter: `a=1&a=2&a` has `1`, `2` and an empty one.
fn parameters<'r>(target: &'r [u8], name: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
    let query = target.splitn(2, |b| *b == b'?').nth(1).unwrap_or_default();
    query.split(|b| *b == b'&').filter_map(move |pair| value_of(pair, name))
}

/// RFC 6265 section 4.2.1: `a=1; b=2`.
pub(super) fn cookies<'r>(request: &'r Request, name: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
    let pairs = request.headers.get_all("cookie").flat_map(|field| field.split(|b| *b == b';'));
    pairs.filter_map(move |pair| value_of(pair.trim_ascii(), name))
}

fn value_of<'r>(pair: &'r [u8], name: &[u8]) -> Option<&'r [u8]> {
    let mut sides = pair.splitn(2, |b| *b == b'=');
    (sides.next()? == name).then(|| sides.next().unwrap_or_default())
}
