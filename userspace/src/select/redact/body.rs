//! Bodies: which kind one is, and what becomes of those that nobody can read.
//!
//! Decodes nothing beyond the cap that all comparisons have.

use bytes::Bytes;

use super::coded::stored;
use super::multipart::parameter;
use super::{Place, RedactTally, Redactor, Rule};
use crate::compare::{CompareLimits, plain_body};
use crate::model::{Body, Headers};

/// What a body is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Form,
    Multipart {
        boundary: Vec<u8>,
    },
    Markup,
    /// Text, or nobody says.
    Text,
    Other,
}

// === impl Kind ===

impl Kind {
    /// As `Content-Type` says it (RFC 9110 section 8.3).
    pub(super) fn of(value: &[u8]) -> Self {
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let essence = essence.to_ascii_lowercase();
        let mut parts = essence.splitn(2, |byte| *byte == b'/');
        let (kind, subtype) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let ends = |end: &[u8]| subtype.ends_with(end);
        match (kind, subtype) {
            (b"", _) | (_, b"") => Kind::Text,
            (b"multipart", _) => match parameter(value, b"boundary") {
                Some(boundary) if !boundary.is_empty() => Kind::Multipart { boundary: boundary.to_vec() },
                Some(_) | None => Kind::Text,
            },
            (_, b"x-www-form-urlencoded") => Kind::Form,
            (_, b"html" | b"xml" | b"xhtml+xml" | b"svg+xml") => Kind::Markup,
            _ if ends(b"+xml") => Kind::Markup,
            _ if ends(b"json") || ends(b"jsonl") || ends(b"json-lines") || ends(b"jsonlines") => Kind::Json,
            (b"image" | b"audio" | b"video" | b"font", _)
            | (_, b"octet-stream" | b"pdf" | b"zip" | b"gzip") => Kind::Other,
            _ => Kind::Text,
        }
    }
}

impl Redactor {
    /// A body without secrets; none when nothing of it is hidden.
    pub(super) fn body(&self, headers: &Headers, body: &Body, tally: &mut RedactTally) -> Option<Body> {
        if body.bytes == 0 {
            return None;
        }
        // Whether the rest of a body is the same as that of another one can be told by its hash alone.
        if self.is_strict() && body.is_cut() {
            return Some(self.dropped(body, tally));
        }
        let codings = codings(headers);
        if codings.is_empty() {
            let hidden = self.plain(headers, &body.kept, tally)?;
            return Some(match hidden {
                Hidden::Changed(kept) => changed(body, kept),
                Hidden::Dropped => self.dropped(body, tally),
            });
        }
        let limits =
            CompareLimits { decoded_bytes_max: self.limits.decoded_bytes_max, ..CompareLimits::default() };
        // What cannot be decoded hides its secrets from us and not from others.
        let Some(plain) = plain_body(headers, body, &limits) else { return Some(self.dropped(body, tally)) };
        let mut kept = match self.plain(headers, &plain, tally)? {
            Hidden::Changed(kept) => kept,
            Hidden::Dropped => return Some(self.dropped(body, tally)),
        };
        for coding in &codings {
            match stored(coding, &kept) {
                Some(coded) => kept = coded,
                None => return Some(self.dropped(body, tally)),
            }
        }
        Some(changed(body, kept))
    }

    fn plain(&self, headers: &Headers, plain: &[u8], tally: &mut RedactTally) -> Option<Hidden> {
        let kind = Kind::of(headers.get("content-type").unwrap_or_default());
        if self.is_strict() {
            let kind = if kind == Kind::Text && looks_like_json(plain) { Kind::Json } else { kind };
            return match kind {
                Kind::Json | Kind::Form | Kind::Multipart { boundary: _ } => {
                    self.by_structure(&kind, plain, tally).map(Hidden::Changed)
                }
                Kind::Markup | Kind::Text | Kind::Other => (!plain.is_empty()).then_some(Hidden::Dropped),
            };
        }
        let by_structure = self.by_structure(&kind, plain, tally);
        // Whatever it is said to be: an address outside of any string is one as well. What is allowed by its place in JSON
        // has been left alone, and must be.
        if kind == Kind::Json && self.has_json_allowed {
            return by_structure.map(Hidden::Changed);
        }
        let by_looks = self.text(by_structure.as_deref().unwrap_or(plain), tally);
        by_looks.or(by_structure).map(Hidden::Changed)
    }

    /// What the structure of a body says; none when it says nothing.
    pub(super) fn by_structure(&self, kind: &Kind, plain: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        match kind {
            Kind::Json => self.json(plain, tally),
            Kind::Form => self.form(plain, Place::Form, tally),
            Kind::Multipart { boundary } => self.multipart(plain, boundary, tally),
            Kind::Markup => self.markup(plain, tally),
            Kind::Text if looks_like_json(plain) => self.json(plain, tally),
            Kind::Text if looks_like_form(plain) => self.form(plain, Place::Form, tally),
            Kind::Text if looks_like_events(plain) => self.json(plain, tally),
            Kind::Text if plain.trim_ascii_start().starts_with(b"<") => self.markup(plain, tally),
            Kind::Text | Kind::Other => None,
        }
    }

    /// Length and hash alone. Where everything is hidden the hash is made with the key: whoever guesses a short body could
    /// try his guesses out.
    fn dropped(&self, body: &Body, tally: &mut RedactTally) -> Body {
        let Body { kept, bytes, digest, complete } = body;
        // One that was dropped before stays as it is.
        if kept.is_empty() && digest.is_some() && !self.is_strict() {
            return body.clone();
        }
        tally.count(Rule::Body);
        let digest = digest.unwrap_or_else(|| super::sha256(kept));
        let digest = if self.is_strict() { self.keyed_digest(digest) } else { digest };
        Body { kept: Bytes::new(), bytes: *bytes, digest: Some(digest), complete: *complete }
    }

    /// A digest of a kind that stays as it is when it is made again: its last bytes are made from the others.
    fn keyed_digest(&self, digest: [u8; 32]) -> [u8; 32] {
        let check = |front: &[u8]| self.key.hash("digest-check", front);
        let (front, back) = digest.split_at_checked(16).unwrap_or_default();
        if check(front).starts_with(back) {
            return digest;
        }
        let hash = self.key.hash("digest", &digest);
        let front = hash.get(..16).unwrap_or_default();
        let mut keyed = [0; 32];
        keyed.iter_mut().zip(front.iter().chain(&check(front))).for_each(|(place, byte)| *place = *byte);
        keyed
    }
}

/// What becomes of a body.
enum Hidden {
    Changed(Vec<u8>),
    Dropped,
}

/// The codings of a message in the order in which they were applied.
fn codings(headers: &Headers) -> Vec<Vec<u8>> {
    let names = headers.get_all("content-encoding").flat_map(|value| value.split(|byte| *byte == b','));
    let names = names.map(<[u8]>::trim_ascii);
    let names = names.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
    names.map(<[u8]>::to_vec).collect()
}

/// The body with these bytes; of one that was cut, what was not kept stays so.
fn changed(body: &Body, kept: Vec<u8>) -> Body {
    let rest = body.bytes.saturating_sub(body.kept.len() as u64);
    let bytes = rest.saturating_add(kept.len() as u64);
    Body { kept: kept.into(), bytes, digest: body.digest, complete: body.complete }
}

fn looks_like_json(plain: &[u8]) -> bool {
    matches!(plain.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn looks_like_form(plain: &[u8]) -> bool {
    plain.contains(&b'=')
        && plain.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'<' | b'"'))
}

/// Server-sent events carry JSON more often than not.
fn looks_like_events(plain: &[u8]) -> bool {
    [&b"data:"[..], b"event:", b"id:"].iter().any(|start| plain.starts_with(start))
}
