//! Takes the values of a header field apart by the field's grammar.
//!
//! Does not compare: it writes values of one meaning as equal bytes.

use std::collections::BTreeSet;

use super::link;
use crate::compare::url::OwnOrigin;

/// How a field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// Byte by byte.
    Exact,
    /// Words without case, in their order.
    Words,
    /// A list of words without case, in any order.
    Set,
    /// A list of words with case, in any order.
    CasedSet,
    /// Directives with a comma between them, `name` or `name=value` (RFC 9111 section 5.2).
    CommaDirectives,
    /// Directives with a semicolon between them, `name=value` (RFC 6797 section 6.1).
    SemicolonDirectives,
    /// Directives with a semicolon between them, `name word word` (CSP, level 3, section 2.2).
    Policy,
    /// A value and its parameters (RFC 9110 section 5.6.6).
    Parameters,
    /// A reference to a resource.
    Reference,
    /// Links (RFC 8288 section 3).
    Links,
    /// Challenges: scheme and realm; the rest may hold a nonce (RFC 9110 section 11.6.1, RFC 7616 section 3.3).
    Challenges,
    /// A time or a number of seconds.
    Lifetime,
    /// Only whether it is there.
    Presence,
}

/// A part of a field's value that can differ for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What the part is called; empty for a value as a whole.
    pub(super) name: String,
    /// Equal for parts of one meaning.
    pub(super) meaning: Vec<u8>,
    /// As people see it.
    pub(super) shown: Vec<u8>,
}

// === impl Grammar ===

impl Grammar {
    /// The grammar of a field; `name` is in lower case.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "cache-control" => Grammar::CommaDirectives,
            "strict-transport-security" => Grammar::SemicolonDirectives,
            "content-security-policy" | "content-security-policy-report-only" => Grammar::Policy,
            "content-type" | "content-disposition" => Grammar::Parameters,
            "location" | "content-location" | "access-control-allow-origin" => Grammar::Reference,
            "link" => Grammar::Links,
            "www-authenticate" | "proxy-authenticate" => Grammar::Challenges,
            "expires" | "retry-after" => Grammar::Lifetime,
            "etag" | "last-modified" => Grammar::Presence,
            "allow" | "access-control-allow-methods" => Grammar::CasedSet,
            "vary" | "content-language" | "accept-patch" | "accept-post" | "clear-site-data"
            | "x-robots-tag" => Grammar::Set,
            "accept-ranges" | "referrer-policy" | "x-content-type-options" | "x-frame-options" => {
                Grammar::Words
            }
            list if list.starts_with("access-control-") => Grammar::Set,
            word if word.starts_with("cross-origin-") => Grammar::Words,
            _ => Grammar::Exact,
        }
    }

    /// The parts of a field that is there; none where the values do not follow the grammar.
    pub(super) fn parts(self, values: &[Vec<u8>], origin: &OwnOrigin<'_>) -> Option<Vec<Part>> {
        let joined = || values.join(&b", "[..]);
        let whole = |meaning: Vec<u8>| Some(vec![Part { name: String::new(), meaning, shown: joined() }]);
        // A field that may stand once: a second one is read by nobody.
        let first = values.first().map(Vec::as_slice).unwrap_or_default();
        match self {
            Grammar::Exact | Grammar::Lifetime | Grammar::Presence => whole(joined()),
            Grammar::Words => whole(joined().to_ascii_lowercase()),
            Grammar::Set => whole(set(values, <[u8]>::to_ascii_lowercase)),
            Grammar::CasedSet => whole(set(values, <[u8]>::to_vec)),
            Grammar::CommaDirectives => Some(directives(values, b',')),
            Grammar::SemicolonDirectives => Some(directives(values, b';')),
            Grammar::Policy => Some(policy(values)),
            Grammar::Parameters => Some(parameters(first)),
            Grammar::Reference => whole(origin.without_own(first).to_vec()),
            Grammar::Links => link::links(values, origin),
            Grammar::Challenges => Some(challenges(values)),
        }
    }
}

/// Splits at `separator` outside of quoted strings (RFC 9110 section 5.6.4); without empty pieces.
pub(super) fn split_quoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |byte| {
        let ends = !quoted && *byte == separator;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        ends
    })
    .map(<[u8]>::trim_ascii)
    .filter(|piece| !piece.is_empty())
}

/// `name=value` as a name in lower case and a value without quotes; the value is empty where there is none.
pub(super) fn name_and_value(piece: &[u8]) -> (String, Vec<u8>) {
    let mut sides = piece.splitn(2, |b| *b == b'=');
    let name = sides.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let value = sides.next().unwrap_or_default().trim_ascii();
    (String::from_utf8_lossy(&name).into_owned(), unquoted(value))
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return value.to_vec();
    };
    let mut escaped = false;
    let keep = |byte: &u8| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    };
    inner.iter().copied().filter(keep).collect()
}

fn set(values: &[Vec<u8>], normal: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let words: BTreeSet<Vec<u8>> =
        values.iter().flat_map(|value| split_quoted(value, b',')).map(normal).collect();
    words.into_iter().collect::<Vec<_>>().join(&b", "[..])
}

fn directives(values: &[Vec<u8>], separator: u8) -> Vec<Part> {
    let pieces = values.iter().flat_map(|value| split_quoted(value, separator));
    let part = |piece: &[u8]| {
        let (name, value) = name_and_value(piece);
        let shown = if value.is_empty() { piece.to_vec() } else { value.clone() };
        Part { name, meaning: value.to_ascii_lowercase(), shown }
    };
    without_repetition(pieces.map(part).collect())
}

/// A directive that is said twice in the same words is said once.
fn without_repetition(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by(|x, y| (&x.name, &x.meaning).cmp(&(&y.name, &y.meaning)));
    parts.dedup_by(|x, y| x.name == y.name && x.meaning == y.meaning);
    parts
}

/// Each source of a directive counts, in any order; a nonce is new in every answer.
fn policy(values: &[Vec<u8>]) -> Vec<Part> {
    let pieces = values.iter().flat_map(|value| value.split(|b| matches!(b, b';' | b',')));
    let part = |piece: &[u8]| {
        let mut words = piece.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let name = String::from_utf8_lossy(words.next()?).to_ascii_lowercase();
        let is_nonce = |word: &[u8]| word.get(..7).is_some_and(|w| w.eq_ignore_ascii_case(b"'nonce-"));
        let sources: BTreeSet<&[u8]> =
            words.map(|word| if is_nonce(word) { &b"'nonce-*'"[..] } else { word }).collect();
        let meaning = sources.into_iter().collect::<Vec<_>>().join(&b" "[..]);
        Some(Part { name, meaning, shown: piece.trim_ascii().to_vec() })
    };
    without_repetition(pieces.filter_map(part).collect())
}

/// Type and parameter names are without case, and so is the charset; quotes and spaces mean nothing. The boundary of a
/// multipart body is invented for each message (RFC 2046 section 5.1.1).
fn parameters(value: &[u8]) -> Vec<Part> {
    let mut pieces = split_quoted(value, b';');
    let main = pieces.next().unwrap_or_default();
    let meaning = main.to_ascii_lowercase();
    let is_multipart = meaning.starts_with(b"multipart/");
    let mut parts = vec![Part { name: String::new(), meaning, shown: value.to_vec() }];
    for piece in pieces {
        let (name, value) = name_and_value(piece);
        if is_multipart && name == "boundary" {
            continue;
        }
        let meaning = if name == "charset" { value.to_ascii_lowercase() } else { value.clone() };
        parts.push(Part { name, meaning, shown: value });
    }
    parts
}

fn challenges(values: &[Vec<u8>]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for piece in values.iter().flat_map(|value| split_quoted(value, b',')) {
        let end = piece.iter().position(u8::is_ascii_whitespace).unwrap_or(piece.len());
        let (word, rest) = piece.split_at_checked(end).unwrap_or((piece, b""));
        // `Basic realm="x"` and `Negotiate` begin a challenge, `charset="UTF-8"` goes on with one.
        let parameter = if word.contains(&b'=') {
            piece
        } else {
            let scheme = String::from_utf8_lossy(word).to_ascii_lowercase();
            parts.push(Part { name: scheme, meaning: Vec::new(), shown: word.to_vec() });
            rest.trim_ascii()
        };
        let (name, value) = name_and_value(parameter);
        if let Some(last) = parts.last_mut().filter(|_| name == "realm") {
            last.shown = parameter.to_vec();
            last.meaning = value;
        }
    }
    parts
}
