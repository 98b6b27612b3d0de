//! Heads: fields, cookies and the request target.
//!
//! Changes no name, and nothing that frames a message or says what it is.

use bytes::Bytes;

use super::body::SETTLES_MAX;
use super::form::{OF_PATHS, decoded, encoded};
use super::patterns::basic_password;
use super::splice::Splice;
use super::{Allowed, Part, Place, RedactTally, Redactor, Rule};
use crate::model::{Headers, REPLAY_HEADER};

/// Fields that say what a message is and where it goes: only looked through for what does not belong there, in `strict` as
/// well; in lower case and sorted.
const PROTOCOL: [&str; 46] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "expect",
    "expires",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "pragma",
    "range",
    "retry-after",
    "server",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    REPLAY_HEADER,
    "upgrade",
    "upgrade-insecure-requests",
    "vary",
    "www-authenticate",
    "x-content-type-options",
    "x-frame-options",
];

/// Attributes of a cookie, in which no secret stands.
const ATTRIBUTES: [&[u8]; 9] = [
    b"domain",
    b"expires",
    b"httponly",
    b"max-age",
    b"partitioned",
    b"path",
    b"priority",
    b"samesite",
    b"secure",
];

/// Schemes of credentials, in lower case: those of IANA's registry that are in use, and those that are used without it.
const SCHEMES: [&str; 12] = [
    "apikey",
    "aws4-hmac-sha256",
    "basic",
    "bearer",
    "digest",
    "hawk",
    "key",
    "negotiate",
    "ntlm",
    "oauth",
    "signature",
    "token",
];

/// Bytes of the longest of them.
pub(super) const SCHEME_BYTES_MAX: usize = 16;

pub(super) fn is_scheme(word: &[u8]) -> bool {
    SCHEMES.iter().any(|scheme| scheme.as_bytes().eq_ignore_ascii_case(word))
}

/// True for a URL, and for one without scheme and host.
fn is_reference(value: &[u8]) -> bool {
    let begins = value.starts_with(b"/") || memchr::memmem::find(value, b"://").is_some();
    begins && !value.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'>' | b'"'))
}

fn is_protocol(name: &[u8]) -> bool {
    let lower = || name.iter().map(u8::to_ascii_lowercase);
    PROTOCOL.binary_search_by(|known| known.bytes().cmp(lower())).is_ok()
}

impl Redactor {
    /// Fields without secrets; none when nothing changes.
    pub(super) fn fields(&self, headers: &Headers, tally: &mut RedactTally) -> Option<Headers> {
        tally.look_at(Part::Field);
        let mut changed = false;
        let mut fields: Vec<(&[u8], std::borrow::Cow<'_, [u8]>)> = Vec::with_capacity(headers.len());
        for (name, value) in headers.iter() {
            let hidden = self.settle(value, tally, |value, tally| self.field(name, value, tally));
            changed |= hidden.is_some();
            fields.push((name, hidden.map_or(value.into(), Into::into)));
        }
        changed.then(|| Headers::from_pairs(fields))
    }

    /// What is left of a text once nothing more is found in it; none when nothing is. What does not come to rest is a token.
    pub(super) fn settle(
        &self,
        text: &[u8],
        tally: &mut RedactTally,
        hide: impl Fn(&[u8], &mut RedactTally) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let mut hidden = hide(text, tally)?;
        if !self.mode.hides() {
            return Some(hidden);
        }
        for _ in 0..SETTLES_MAX {
            match hide(&hidden, tally) {
                Some(again) if again != hidden => hidden = again,
                Some(_) | None => return Some(hidden),
            }
        }
        self.key.secret(&hidden).map(String::into_bytes)
    }

    /// The value of one field; none when nothing of it is hidden.
    fn field(&self, name: &[u8], value: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        if self.allowed.fields.has(name) || name.eq_ignore_ascii_case(REPLAY_HEADER.as_bytes()) {
            return None;
        }
        if is_protocol(name) {
            return self.text(value, tally);
        }
        let hides = self.headers.hide_field(name);
        let plain = name.trim_ascii();
        if hides && plain.eq_ignore_ascii_case(b"cookie") {
            return self.cookies(value, tally);
        }
        if hides && plain.eq_ignore_ascii_case(b"set-cookie") {
            return self.set_cookie(value, tally);
        }
        if hides || self.is_strict() {
            return self.secret(value, Rule::Header, tally);
        }
        if is_reference(value) { self.reference(value, tally) } else { self.text(value, tally) }
    }

    /// A URL, or the end of one, as fields such as `Referer` and `Location` have them.
    fn reference(&self, value: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let hash = memchr::memchr(b'#', value).unwrap_or(value.len());
        let (front, fragment) = value.split_at_checked(hash)?;
        let target = self.target_once(front, tally);
        // Applications hand over tokens there (RFC 6749 section 4.2.2).
        let hidden = fragment.get(1..).and_then(|inner| self.form(inner, Place::Query, tally));
        if target.is_none() && hidden.is_none() {
            return None;
        }
        let mut whole = target.unwrap_or_else(|| front.to_vec());
        match hidden {
            Some(hidden) => {
                whole.push(b'#');
                whole.extend_from_slice(&hidden);
            }
            None => whole.extend_from_slice(fragment),
        }
        Some(whole)
    }

    /// The token of a secret, wherever it stands: counts it, and remembers it. A scheme before it is none, and stays, also
    /// where somebody repeats it: `Bearer …`, `Basic …` (RFC 9110 section 11.4).
    pub(super) fn secret(&self, value: &[u8], rule: Rule, tally: &mut RedactTally) -> Option<Vec<u8>> {
        // Where everything is hidden, a text may repeat a secret: whoever was sent the token repeats that.
        let known = if self.is_strict() { self.text(value, tally) } else { None };
        let plain = known.as_deref().unwrap_or(value);
        let space = memchr::memchr(b' ', plain).and_then(|at| plain.split_at_checked(at));
        let (scheme, secret) = match space.filter(|(scheme, _)| is_scheme(scheme)) {
            Some((scheme, rest)) => (Some(scheme), rest.trim_ascii()),
            None => (None, plain),
        };
        // What was made here a moment ago is known as a token without asking for its check.
        let token = if tally.has_token(secret) { None } else { self.key.secret(secret) };
        let Some(token) = token else { return known };
        tally.count(rule);
        let whole = match scheme {
            Some(scheme) => [scheme, b" ", token.as_bytes()].concat(),
            None => token.as_bytes().to_vec(),
        };
        if known.is_some() {
            tally.remember(value, &whole);
        } else {
            tally.remember(secret, token.as_bytes());
        }
        if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
            && let Some(password) = basic_password(secret)
            && let Some(token) = self.key.secret(&password)
        {
            tally.remember(&password, token.as_bytes());
        }
        Some(whole)
    }

    /// Every cookie's value; names stay (RFC 6265 section 4.2.1).
    fn cookies(&self, value: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let mut splice = Splice::new(value);
        let mut start = 0_usize;
        for pair in value.split(|byte| *byte == b';') {
            self.cookie(pair, start, Rule::Cookie, &mut splice, tally);
            start = start.saturating_add(pair.len()).saturating_add(1);
        }
        splice.finish()
    }

    /// The cookie's value; its name and attributes stay (RFC 6265 section 4.1.1). What is no attribute is another cookie's, of
    /// one that was put behind it by whoever joined two fields, or by mistake.
    fn set_cookie(&self, value: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let mut splice = Splice::new(value);
        let mut start = 0_usize;
        for (index, part) in value.split(|byte| *byte == b';').enumerate() {
            let at = start;
            start = start.saturating_add(part.len()).saturating_add(1);
            let equals = memchr::memchr(b'=', part);
            let (name, rest) = part.split_at_checked(equals.unwrap_or(part.len())).unwrap_or_default();
            let is_attribute = ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(name.trim_ascii()));
            if index == 0 || !is_attribute {
                self.cookie(part, at, Rule::SetCookie, &mut splice, tally);
                continue;
            }
            // A date has a comma as well, and no `=` behind it.
            if let Some(comma) = memchr::memrchr(b',', rest)
                && rest.get(comma..).is_some_and(|joined| joined.contains(&b'='))
            {
                let skipped = name.len().saturating_add(comma).saturating_add(1);
                let joined = part.get(skipped..).unwrap_or_default();
                self.cookie(joined, at.saturating_add(skipped), Rule::SetCookie, &mut splice, tally);
            }
        }
        splice.finish()
    }

    fn cookie(
        &self,
        pair: &[u8],
        start: usize,
        rule: Rule,
        splice: &mut Splice<'_>,
        tally: &mut RedactTally,
    ) {
        let equals = memchr::memchr(b'=', pair);
        let (name, value) = match equals.and_then(|at| pair.split_at_checked(at)) {
            Some((name, value)) => (name.trim_ascii(), value.get(1..).unwrap_or_default()),
            None => (&b""[..], pair),
        };
        let value_start = start.saturating_add(pair.len().saturating_sub(value.len()));
        let leading = value.len().saturating_sub(value.trim_ascii_start().len());
        let value = value.trim_ascii();
        let quoted = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\""));
        let (inner, quote) = quoted.map_or((value, 0), |inner| (inner, 1));
        if self.allowed.cookies.has(name) {
            return;
        }
        // Scripts send the decoded value of a cookie elsewhere, to show that they can read it.
        if let Some(token) = self.secret(&decoded(inner, false), rule, tally) {
            let at = value_start.saturating_add(leading).saturating_add(quote);
            splice.replace(at..at.saturating_add(inner.len()), &token);
        }
    }

    /// The request target: its query by names, its path by looks, or by `path:` where only what is allowed passes.
    pub(super) fn target(&self, target: &[u8], tally: &mut RedactTally) -> Option<Bytes> {
        self.settle(target, tally, |target, tally| self.target_once(target, tally)).map(Bytes::from)
    }

    fn target_once(&self, target: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let question = memchr::memchr(b'?', target).unwrap_or(target.len());
        let (path, query) = target.split_at_checked(question)?;
        let hidden_path = self.path(path, tally);
        let query = query.get(1..);
        let hidden_query = query.and_then(|query| self.form(query, Place::Query, tally));
        if hidden_path.is_none() && hidden_query.is_none() {
            return None;
        }
        let mut whole = hidden_path.unwrap_or_else(|| path.to_vec());
        if let Some(query) = query {
            whole.push(b'?');
            whole.extend_from_slice(hidden_query.as_deref().unwrap_or(query));
        }
        Some(whole)
    }

    fn path(&self, path: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        // The absolute form begins with a scheme and a host, which are no part of the path.
        let host_end = match memchr::memmem::find(path, b"://") {
            Some(scheme) if !path.starts_with(b"/") => {
                let host = scheme.saturating_add(3);
                let rest = path.get(host..).unwrap_or_default();
                host.saturating_add(memchr::memchr(b'/', rest).unwrap_or(rest.len()))
            }
            Some(_) | None => 0,
        };
        let (host, inner) = path.split_at_checked(host_end)?;
        let mut splice = Splice::new(path);
        if let Some(hidden) = self.text(host, tally) {
            splice.replace(0..host_end, &hidden);
        }
        let pass = self.is_strict().then(|| self.allowed.path(inner));
        let mut start = host_end;
        for (index, segment) in inner.split(|byte| *byte == b'/').enumerate() {
            let end = start.saturating_add(segment.len());
            let plain = decoded(segment, false);
            // The authority form has no path (RFC 9112 section 3.2.3).
            if host_end == 0
                && index == 0
                && let Some(at) = memchr::memrchr(b'@', segment)
            {
                let info = segment.get(..at).unwrap_or_default();
                if let Some(token) = self.secret(info, Rule::UrlCredentials, tally) {
                    splice.replace(start..start.saturating_add(at), &token);
                }
                start = end.saturating_add(1);
                continue;
            }
            let passes = pass.as_ref().is_none_or(|pass| pass.get(index).copied().unwrap_or(false));
            let hidden = if passes || segment.is_empty() {
                self.text(&plain, tally).map(|hidden| encoded(&hidden, segment, OF_PATHS))
            } else {
                self.secret(&plain, Rule::Path, tally).map(|token| encoded(&token, segment, OF_PATHS))
            };
            if let Some(hidden) = hidden {
                splice.replace(start..end, &hidden);
            }
            start = end.saturating_add(1);
        }
        splice.finish()
    }
}

// === impl Allowed ===

impl Allowed {
    /// Which segments of a path pass: by the first pattern that it fits. A pattern's words and its `*` pass, its `{…}` do
    /// not.
    fn path(&self, path: &[u8]) -> Vec<bool> {
        let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let fits = |pattern: &&Vec<String>| {
            pattern.len() == segments.len()
                && pattern.iter().zip(&segments).all(|(wanted, have)| {
                    wanted == "*" || wanted.starts_with('{') || wanted.as_bytes() == *have
                })
        };
        match self.paths.iter().find(fits) {
            Some(pattern) => pattern.iter().map(|wanted| !wanted.starts_with('{')).collect(),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_protocol_are_sorted() {
        assert!(PROTOCOL.is_sorted());
    }

    #[test]
    fn no_scheme_is_longer_than_what_is_looked_at() {
        assert_eq!(SCHEMES.map(str::len).into_iter().max(), Some(SCHEME_BYTES_MAX));
    }
}
