//! Compares `Set-Cookie` by cookie and attribute (RFC 6265 section 4.1).
//!
//! Never shows a value, nor judges one that is made to differ: of two values that are random texts nothing more can be
//! said than that both are.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::grammar::name_and_value;
use super::lifetime::Lifetime;
use crate::compare::class::is_certainly_random;
use crate::compare::findings::Lossy;
use crate::compare::join::by_name;
use crate::compare::url::OwnOrigin;
use crate::compare::{Findings, Place};
use crate::model::{DifferenceKind, Headers, REDACTED};

struct Cookie {
    name: String,
    value: Vec<u8>,
    lifetime: Option<Lasting>,
    /// The rest, names in lower case, values as they compare.
    attributes: BTreeMap<String, Vec<u8>>,
}

/// How long a cookie is kept.
enum Lasting {
    For(Lifetime),
    /// A moment in an answer that does not say when it was made.
    Until(Vec<u8>),
}

/// Reports each cookie that only one answer sets, and each attribute that differs.
pub(super) fn compare(a: &Headers, b: &Headers, found: &mut Findings<'_>) {
    let origin = found.origin();
    let (a, b) = (cookies(a, &origin), cookies(b, &origin));
    for (x, y) in by_name(&a, &b, |cookie| &cookie.name) {
        match (x, y) {
            (Some(x), Some(y)) => attributes(x, y, found),
            (x, y) => {
                let Some(one) = x.or(y) else { continue };
                let place = Place::Cookie { name: &one.name, attribute: None };
                report(&place, x.map(|_| &REDACTED as _), y.map(|_| &REDACTED as _), found);
            }
        }
    }
}

fn report(place: &Place<'_>, a: Option<&dyn Display>, b: Option<&dyn Display>, found: &mut Findings<'_>) {
    let kind = match (a.is_some(), b.is_some()) {
        (true, false) => DifferenceKind::Missing,
        (false, true) => DifferenceKind::Added,
        (true, true) | (false, false) => DifferenceKind::Value,
    };
    found.add(place, kind, a, b);
}

fn attributes(a: &Cookie, b: &Cookie, found: &mut Findings<'_>) {
    let place = |attribute| Place::Cookie { name: &a.name, attribute: Some(attribute) };
    if a.value != b.value && !(is_certainly_random(&a.value) && is_certainly_random(&b.value)) {
        report(&place("value"), Some(&REDACTED), Some(&REDACTED), found);
    }
    let same_lifetime = match (&a.lifetime, &b.lifetime) {
        (None, None) => true,
        (Some(Lasting::For(x)), Some(Lasting::For(y))) => x.is_about(*y),
        (Some(Lasting::Until(x)), Some(Lasting::Until(y))) => x == y,
        (Some(_) | None, _) => false,
    };
    if !same_lifetime {
        let shown = |lasting: &Option<Lasting>| match lasting {
            None => None,
            Some(Lasting::For(lifetime)) => Some(lifetime.to_string()),
            Some(Lasting::Until(moment)) => Some(Lossy(moment).to_string()),
        };
        let (x, y) = (shown(&a.lifetime), shown(&b.lifetime));
        report(&place("expires"), x.as_ref().map(|x| x as _), y.as_ref().map(|y| y as _), found);
    }
    let only_b = b.attributes.keys().filter(|name| !a.attributes.contains_key(*name));
    for name in a.attributes.keys().chain(only_b) {
        let (x, y) = (a.attributes.get(name), b.attributes.get(name));
        if x != y {
            let (x, y) = (x.map(|x| Lossy(x)), y.map(|y| Lossy(y)));
            report(&place(name), x.as_ref().map(|x| x as _), y.as_ref().map(|y| y as _), found);
        }
    }
}

/// Sorted by name; cookies of one name stay in the order they were sent.
fn cookies(headers: &Headers, origin: &OwnOrigin<'_>) -> Vec<Cookie> {
    let mut cookies: Vec<Cookie> =
        headers.get_all("set-cookie").map(|value| Cookie::parse(value, headers, origin)).collect();
    cookies.sort_by(|x, y| x.name.cmp(&y.name));
    cookies
}

// === impl Cookie ===

impl Cookie {
    fn parse(text: &[u8], headers: &Headers, origin: &OwnOrigin<'_>) -> Self {
        let mut pieces = text.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let first = pieces.next().unwrap_or_default();
        let mut sides = first.splitn(2, |b| *b == b'=');
        let name = String::from_utf8_lossy(sides.next().unwrap_or_default().trim_ascii()).into_owned();
        let value = sides.next().unwrap_or_default().trim_ascii().to_vec();
        let mut attributes = BTreeMap::new();
        let (mut max_age, mut expires) = (None, None);
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            // The last of a name counts (section 5.3).
            let (name, value) = name_and_value(piece);
            match name.as_str() {
                "max-age" => max_age = Lifetime::of_seconds(&value),
                "expires" => expires = Some(value),
                "domain" => {
                    let domain = value.strip_prefix(b".").unwrap_or(&value).to_ascii_lowercase();
                    let own = origin.is_own_host(&domain);
                    drop(attributes.insert(name, if own { b"(own host)".to_vec() } else { domain }));
                }
                "samesite" | "priority" => drop(attributes.insert(name, value.to_ascii_lowercase())),
                // What follows `=` in `Secure=…` is not read.
                "secure" | "httponly" | "partitioned" => drop(attributes.insert(name, b"set".to_vec())),
                _ => drop(attributes.insert(name, value)),
            }
        }
        let until = |moment: Vec<u8>| match Lifetime::until(&moment, headers) {
            Some(lifetime) => Lasting::For(lifetime),
            None => Lasting::Until(moment),
        };
        // `Max-Age` wins over `Expires` (section 5.3, step 3).
        let lifetime = max_age.map(Lasting::For).or_else(|| expires.map(until));
        Self { name, value, lifetime, attributes }
    }
}
