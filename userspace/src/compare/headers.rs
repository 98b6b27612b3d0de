//! Compares the header fields that carry meaning.
//!
//! Leaves out what names the server, the moment or the transport: `Date`, `Server`, `ETag`, `Last-Modified`,
//! `Age`, `Via`, `Connection`, `Content-Length`, `Content-Encoding` and the like differ between two healthy
//! servers. An ETag is a name that a server invents (RFC 9110 section 8.8.3), so two servers invent two.
//! `Content-Encoding` is a choice about transport; bodies are compared after decoding.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::findings::Lossy;
use super::{Check, CompareConfigError, Findings, Pair, Place};
use crate::model::{
    DifferenceKind, Exchange, Headers, IncomparableReason, REDACTED, host_of, is_secret, is_token,
};

/// Header fields that are compared unless the configuration says otherwise; a final `*` stands for any ending.
///
/// Of `Set-Cookie` the names of the cookies are compared, of `WWW-Authenticate` the scheme. `Allow`, `Vary`,
/// `Cache-Control` and the lists of CORS are sets without order or case; `Content-Type` is compared by
/// RFC 9110 section 8.3.1; `Location` without the branch's own origin.
pub const MEANINGFUL_HEADERS: [&str; 19] = [
    "accept-ranges",
    "access-control-*",
    "allow",
    "cache-control",
    "content-disposition",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    "link",
    "location",
    "referrer-policy",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
];

/// Asks whether the header fields that carry meaning agree.
#[derive(Debug)]
pub(super) struct HeadersCheck {
    wanted: Vec<NamePattern>,
    unwanted: Vec<NamePattern>,
    candidate_authority: Option<String>,
}

#[derive(Debug)]
struct NamePattern {
    /// In lower case.
    stem: String,
    any_ending: bool,
}

/// What the branches may call themselves in a URL.
struct Origin<'a> {
    exchange: &'a Exchange,
    candidate: Option<&'a str>,
}

// === impl HeadersCheck ===

impl HeadersCheck {
    pub(super) fn new(
        plus: &[String],
        minus: &[String],
        candidate_authority: Option<String>,
    ) -> Result<Self, CompareConfigError> {
        let mut wanted = Vec::new();
        for name in MEANINGFUL_HEADERS.into_iter().chain(plus.iter().map(String::as_str)) {
            wanted.push(NamePattern::parse("headers_plus", name)?);
        }
        let unwanted = minus.iter().map(|name| NamePattern::parse("headers_minus", name));
        Ok(Self { wanted, unwanted: unwanted.collect::<Result<_, _>>()?, candidate_authority })
    }

    fn wants(&self, name: &[u8]) -> bool {
        self.wanted.iter().any(|pattern| pattern.matches(name))
            && !self.unwanted.iter().any(|pattern| pattern.matches(name))
    }

    fn compare_field(&self, name: &[u8], pair: &Pair<'_>, found: &mut Findings<'_>) {
        let raw_name = String::from_utf8_lossy(name);
        let control = || pair.control.headers.get_all(&raw_name);
        let candidate = || pair.candidate.headers.get_all(&raw_name);
        if control().eq(candidate()) {
            return;
        }
        let name = raw_name.to_ascii_lowercase();
        if name == "set-cookie" {
            compare_cookies(&pair.control.headers, &pair.candidate.headers, found);
            return;
        }
        let origin = Origin { exchange: pair.exchange, candidate: self.candidate_authority.as_deref() };
        let (a, b) = (origin.meaning(&name, control()), origin.meaning(&name, candidate()));
        let kind = match (&a, &b) {
            (Some(a), Some(b)) if a == b => return,
            (Some(_), Some(_)) => DifferenceKind::Value,
            (Some(_), None) => DifferenceKind::Missing,
            (None, Some(_)) => DifferenceKind::Added,
            (None, None) => return,
        };
        let secret = is_secret(&name);
        let shown = |values: Vec<&[u8]>| match secret {
            true => REDACTED.to_owned(),
            false => Lossy(&values.join(&b", "[..])).to_string(),
        };
        let a = a.map(|_| shown(control().collect()));
        let b = b.map(|_| shown(candidate().collect()));
        let place = Place::Header { name: &name, part: None };
        found.add(&place, kind, a.as_ref().map(|v| v as _), b.as_ref().map(|v| v as _));
    }
}

impl Check for HeadersCheck {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn check(&self, pair: &Pair<'_>, found: &mut Findings<'_>) -> Result<(), IncomparableReason> {
        let mut done: Vec<&[u8]> = Vec::new();
        for (name, _) in pair.control.headers.iter().chain(pair.candidate.headers.iter()) {
            if self.wants(name) && !done.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                done.push(name);
                self.compare_field(name, pair, found);
            }
        }
        Ok(())
    }
}

/// Cookies are compared by name: their values are made to differ.
fn compare_cookies(control: &Headers, candidate: &Headers, found: &mut Findings<'_>) {
    let (a, b) = (cookie_names(control), cookie_names(candidate));
    let sides = [(&a, &b, DifferenceKind::Missing), (&b, &a, DifferenceKind::Added)];
    for (has, lacks, kind) in sides {
        for name in has.difference(lacks) {
            let place = Place::Header { name: "set-cookie", part: Some(name) };
            let shown: &dyn std::fmt::Display = &REDACTED;
            let of_control = kind == DifferenceKind::Missing;
            found.add(&place, kind, of_control.then_some(shown), (!of_control).then_some(shown));
        }
    }
}

/// RFC 6265 section 4.1.1: `name=value`, then attributes.
fn cookie_names(headers: &Headers) -> BTreeSet<String> {
    headers
        .get_all("set-cookie")
        .map(|value| value.split(|b| matches!(b, b'=' | b';')).next().unwrap_or_default().trim_ascii())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

// === impl Origin ===

impl Origin<'_> {
    /// A form in which two values of one meaning are equal bytes; none where the field is absent.
    fn meaning<'v>(&self, name: &str, values: impl Iterator<Item = &'v [u8]>) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = values.map(<[u8]>::trim_ascii).collect();
        let first = values.first()?;
        Some(match name {
            "content-type" => media_type(first),
            "www-authenticate" => values.iter().flat_map(|value| scheme(value)).collect(),
            "location" | "content-location" => self.without_own_origin(first).to_vec(),
            "allow" | "vary" | "cache-control" => set_of_tokens(&values),
            list if list.starts_with("access-control-") => set_of_tokens(&values),
            _ => values.join(&b", "[..]),
        })
    }

    /// `http://own.host:8080/path` as `/path`.
    ///
    /// A server writes its own name and port into redirects (nginx does so with every directory), and the two
    /// branches listen on different ones.
    fn without_own_origin<'v>(&self, url: &'v [u8]) -> &'v [u8] {
        let after_scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
            .and_then(|scheme| url.get(scheme.len()..));
        let Some(rest) = after_scheme else { return url };
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let own_host = self.exchange.request.headers.get("host").map(host_of);
        let server = self.exchange.flow.key.server.to_string();
        let is_own = own_host.is_some_and(|own| own.eq_ignore_ascii_case(host_of(authority)))
            || authority == server.as_bytes()
            || self.candidate.is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(authority));
        match (is_own, path.is_empty()) {
            (false, _) => url,
            (true, true) => b"/",
            (true, false) => path,
        }
    }
}

fn set_of_tokens(values: &[&[u8]]) -> Vec<u8> {
    let tokens: BTreeSet<Vec<u8>> = values
        .iter()
        .flat_map(|value| value.split(|b| *b == b','))
        .map(|token| token.trim_ascii().to_ascii_lowercase())
        .filter(|token| !token.is_empty())
        .collect();
    tokens.into_iter().collect::<Vec<_>>().join(&b", "[..])
}

/// Type and parameter names are without case, and so is the charset; quotes and spaces mean nothing.
fn media_type(value: &[u8]) -> Vec<u8> {
    let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let mut meaning = parts.next().unwrap_or_default().to_ascii_lowercase();
    let mut parameters: Vec<Vec<u8>> = parts.filter(|part| !part.is_empty()).map(parameter).collect();
    parameters.sort();
    for parameter in parameters {
        meaning.push(b';');
        meaning.extend(parameter);
    }
    meaning
}

fn parameter(part: &[u8]) -> Vec<u8> {
    let mut sides = part.splitn(2, |b| *b == b'=');
    let name = sides.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let value = sides.next().unwrap_or_default().trim_ascii();
    let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    let value = if name == b"charset" { Cow::Owned(bare.to_ascii_lowercase()) } else { Cow::Borrowed(bare) };
    [&name[..], b"=", &value[..]].concat()
}

/// The scheme of a challenge; what follows may hold a nonce (RFC 7616 section 3.3).
fn scheme(value: &[u8]) -> Vec<u8> {
    let token = value.split(|b| matches!(b, b' ' | b',')).next().unwrap_or_default();
    let mut scheme = token.to_ascii_lowercase();
    scheme.push(b' ');
    scheme
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
