//! Compares the header fields that carry meaning.
//!
//! Leaves out what names the server, the moment or the transport: `Date`, `Server`, `Age`, `Via`, `Connection`,
//! `Content-Length`, `Content-Encoding` and the like differ between two healthy servers. `Content-Encoding` is a
//! choice about transport; bodies are compared after decoding.

mod cookies;
mod grammar;
mod lifetime;
mod link;

#[cfg(test)]
mod tests;

use super::findings::Lossy;
use super::join::by_name;
use super::{Check, CompareConfigError, Findings, Pair, Place};
use crate::model::{DifferenceKind, Headers, IncomparableReason, REDACTED, is_secret, is_token};

use grammar::{Grammar, Part};

/// Header fields that are compared unless the configuration says otherwise; a final `*` stands for any ending.
///
/// How each is read stands in `docs/comparison.md`. Of `ETag` and `Last-Modified` only the presence is compared: a
/// tag is a name that a server invents (RFC 9110 section 8.8.3), so two servers invent two; but a client that is given
/// none cannot ask whether its copy is fresh.
pub const MEANINGFUL_HEADERS: [&str; 40] = [
    "accept-patch",
    "accept-post",
    "accept-ranges",
    "access-control-*",
    "allow",
    "cache-control",
    "clear-site-data",
    "content-disposition",
    "content-language",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cross-origin-*",
    "deprecation",
    "etag",
    "expires",
    "last-modified",
    "link",
    "location",
    "permissions-policy",
    "proxy-authenticate",
    "referrer-policy",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "sunset",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
    "x-next-page",
    "x-page*",
    "x-pagination*",
    "x-per-page",
    "x-prev-page",
    "x-robots-tag",
    "x-total",
    "x-total-*",
];

/// Asks whether the header fields that carry meaning agree.
#[derive(Debug)]
pub(super) struct HeadersCheck {
    wanted: Vec<NamePattern>,
    unwanted: Vec<NamePattern>,
}

#[derive(Debug)]
struct NamePattern {
    /// In lower case.
    stem: String,
    any_ending: bool,
}

// === impl HeadersCheck ===

impl HeadersCheck {
    pub(super) fn new(plus: &[String], minus: &[String]) -> Result<Self, CompareConfigError> {
        let mut wanted = Vec::new();
        for name in MEANINGFUL_HEADERS.into_iter().chain(plus.iter().map(String::as_str)) {
            wanted.push(NamePattern::parse("headers_plus", name)?);
        }
        let unwanted = minus.iter().map(|name| NamePattern::parse("headers_minus", name));
        Ok(Self { wanted, unwanted: unwanted.collect::<Result<_, _>>()? })
    }

    fn wants(&self, name: &[u8]) -> bool {
        self.wanted.iter().any(|pattern| pattern.matches(name))
            && !self.unwanted.iter().any(|pattern| pattern.matches(name))
    }
}

impl Check for HeadersCheck {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn check(&self, pair: &Pair<'_>, found: &mut Findings<'_>) -> Result<(), IncomparableReason> {
        let (a, b) = (&pair.control.headers, &pair.candidate.headers);
        let mut done: Vec<&[u8]> = Vec::new();
        for (name, value) in a.iter() {
            if !done.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                done.push(name);
                // Most fields are in both heads with one value, and most of them are equal.
                let equal = is_only(b, name, value) && is_only(a, name, value);
                if !equal && self.wants(name) {
                    compare_field(name, a, b, found);
                }
            }
        }
        for (name, _) in b.iter() {
            if !done.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                done.push(name);
                if self.wants(name) {
                    compare_field(name, a, b, found);
                }
            }
        }
        Ok(())
    }
}

/// True when the field is there once, with this value.
fn is_only(headers: &Headers, name: &[u8], value: &[u8]) -> bool {
    let mut values =
        headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    values.next() == Some(value) && values.next().is_none()
}

/// Reports where one field differs, however often each head has it.
fn compare_field(raw_name: &[u8], a: &Headers, b: &Headers, found: &mut Findings<'_>) {
    let name = String::from_utf8_lossy(raw_name).to_ascii_lowercase();
    let all = |headers: &Headers| headers.get_all(&name).map(|value| value.trim_ascii().to_vec()).collect();
    let (in_a, in_b): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (all(a), all(b));
    if in_a == in_b && !in_a.is_empty() {
        return;
    }
    if name == "set-cookie" {
        return cookies::compare(a, b, found);
    }
    compare_values(&name, (a, &in_a), (b, &in_b), found);
}

/// Reports where the values of one field differ; also used for fields that are not in the head of an answer.
pub(super) fn compare_values(
    name: &str,
    (headers_a, a): (&Headers, &[Vec<u8>]),
    (headers_b, b): (&Headers, &[Vec<u8>]),
    found: &mut Findings<'_>,
) {
    let secret = is_secret(name);
    let shown = |values: &[Vec<u8>]| match secret {
        true => REDACTED.to_owned(),
        false => Lossy(&values.join(&b", "[..])).to_string(),
    };
    let whole = Place::Header { name, part: None };
    let kind = match (a.is_empty(), b.is_empty()) {
        (true, true) => return,
        (true, false) => DifferenceKind::Added,
        (false, true) => DifferenceKind::Missing,
        (false, false) => DifferenceKind::Value,
    };
    if kind != DifferenceKind::Value {
        let (in_a, in_b) = (shown(a), shown(b));
        let (in_a, in_b) = ((!a.is_empty()).then_some(&in_a as _), (!b.is_empty()).then_some(&in_b as _));
        return found.add(&whole, kind, in_a, in_b);
    }
    let grammar = Grammar::of(name);
    if grammar == Grammar::Presence {
        return;
    }
    if grammar == Grammar::Lifetime {
        if !lifetime::same(headers_a, a, headers_b, b) {
            found.add(&whole, kind, Some(&shown(a)), Some(&shown(b)));
        }
        return;
    }
    let origin = found.origin();
    match (grammar.parts(a, &origin), grammar.parts(b, &origin)) {
        (Some(parts_a), Some(parts_b)) if !secret && first_agrees(&parts_a, &parts_b) => {
            compare_parts(name, parts_a, parts_b, found);
        }
        (parts_a, parts_b) if parts_a.is_none() || parts_a != parts_b => {
            found.add(&whole, kind, Some(&shown(a)), Some(&shown(b)));
        }
        (_, _) => {}
    }
}

/// The value of a parameter (RFC 9110 section 5.6.6) without its quotes; `name` is in lower case.
pub(super) fn parameter(value: &[u8], name: &str) -> Option<Vec<u8>> {
    grammar::split_quoted(value, b';')
        .skip(1)
        .map(grammar::name_and_value)
        .find_map(|(have, value)| (have == name).then_some(value))
}

/// False when the unnamed parts differ (the type before its parameters): parameters of two types are not comparable.
fn first_agrees(a: &[Part], b: &[Part]) -> bool {
    let unnamed = |parts: &[Part]| {
        parts.iter().filter(|part| part.name.is_empty()).map(|part| part.meaning.clone()).collect::<Vec<_>>()
    };
    unnamed(a) == unnamed(b)
}

/// Pairs parts by name, the first of a name with the first, and reports each that differs.
fn compare_parts(field: &str, mut a: Vec<Part>, mut b: Vec<Part>, found: &mut Findings<'_>) {
    // Stable, so that repetitions stay in the order they were sent.
    a.sort_by(|x, y| x.name.cmp(&y.name));
    b.sort_by(|x, y| x.name.cmp(&y.name));
    for (x, y) in by_name(&a, &b, |part| &part.name) {
        let kind = match (x, y) {
            (Some(x), Some(y)) if x.meaning == y.meaning => continue,
            (Some(_), Some(_)) => DifferenceKind::Value,
            (Some(_), None) => DifferenceKind::Missing,
            (None, _) => DifferenceKind::Added,
        };
        let part = x.or(y).map(|part| part.name.as_str()).filter(|part| !part.is_empty());
        let (x, y) = (x.map(|x| Lossy(&x.shown)), y.map(|y| Lossy(&y.shown)));
        found.add(
            &Place::Header { name: field, part },
            kind,
            x.as_ref().map(|x| x as _),
            y.as_ref().map(|y| y as _),
        );
    }
}

// === impl NamePattern ===

impl NamePattern {
    fn parse(list: &'static str, name: &str) -> Result<Self, CompareConfigError> {
        let (stem, any_ending) = match name.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        if !is_field_name(stem) {
            return Err(CompareConfigError::HeaderName { list, name: name.to_owned() });
        }
        Ok(Self { stem: stem.to_ascii_lowercase(), any_ending })
    }

    fn matches(&self, name: &[u8]) -> bool {
        let compared = if self.any_ending { name.get(..self.stem.len()) } else { Some(name) };
        compared.is_some_and(|compared| compared.eq_ignore_ascii_case(self.stem.as_bytes()))
    }
}

/// A field name without `*`, which a token may hold and which stands for any ending here.
pub(super) fn is_field_name(name: &str) -> bool {
    is_token(name.as_bytes()) && !name.contains('*')
}
