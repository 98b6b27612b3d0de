//! Bodies: which kind one is, and what becomes of those that nobody can read.
//!
//! Decodes nothing beyond the cap that all comparisons have.

use bytes::Bytes;

use super::coded::stored;
use super::json::is_sound;
use super::multipart::parameter;
use super::wide::Width;
use super::{Part, Place, RedactTally, Redactor, Rule};
use crate::compare::{CompareLimits, plain_body};
use crate::model::{Body, Headers};

/// Bytes of a boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// Times that a text is looked at again after something was hidden in it.
pub(super) const SETTLES_MAX: usize = 8;

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

    /// The kind of a body that is said to be of this one.
    pub(super) fn seen_in(self, plain: &[u8]) -> Self {
        match self {
            Kind::Text | Kind::Other => Self::looks_of(plain).unwrap_or(self),
            // Programs send JSON and name it a form, since that is what their tool says by default.
            Kind::Form => match Self::looks_of(plain) {
                Some(seen @ (Kind::Json | Kind::Markup | Kind::Multipart { boundary: _ })) => seen,
                Some(Kind::Form | Kind::Text | Kind::Other) | None => Kind::Form,
            },
            Kind::Multipart { boundary } => {
                let delimiter = [b"--", &boundary[..]].concat();
                if memchr::memmem::find(plain, &delimiter).is_some() {
                    return Kind::Multipart { boundary };
                }
                Self::looks_of(plain).unwrap_or(Kind::Text)
            }
            Kind::Json | Kind::Markup => self,
        }
    }

    /// What a body looks like; none where it looks like nothing that has names.
    fn looks_of(plain: &[u8]) -> Option<Self> {
        let text = plain.strip_prefix(b"\xef\xbb\xbf").unwrap_or(plain).trim_ascii_start();
        match text.first()? {
            b'{' | b'[' => Some(Kind::Json),
            b'<' => Some(Kind::Markup),
            b'-' if text.starts_with(b"--") => {
                let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let boundary = line.get(2..).unwrap_or_default().trim_ascii_end();
                let is_sound = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len());
                is_sound.then(|| Kind::Multipart { boundary: boundary.to_vec() })
            }
            // Server-sent events carry JSON more often than not.
            _ if looks_like_events(text) => Some(Kind::Json),
            _ if looks_like_form(text) => Some(Kind::Form),
            _ => None,
        }
    }
}

impl Redactor {
    /// A body without secrets; none when nothing of it is hidden.
    pub(super) fn body(&self, headers: &Headers, body: &Body, tally: &mut RedactTally) -> Option<Body> {
        if body.bytes == 0 {
            return None;
        }
        tally.look_at(Part::Body);
        // Whether the rest of a body is the same as that of another one can be told by its hash alone.
        if self.is_strict() && body.is_cut() {
            return Some(self.dropped(body, tally));
        }
        let kind = Kind::of(headers.get("content-type").unwrap_or_default());
        let is_cut = body.is_cut() || !body.complete;
        let mut codings = codings(headers);
        let mut said = std::borrow::Cow::Borrowed(headers);
        // An archive, or a body whose coding is that of its transfer.
        if codings.is_empty()
            && let Some(coding) = coding_of(&body.kept)
        {
            codings.push(coding.as_bytes().to_vec());
            said = std::borrow::Cow::Owned(Headers::from_pairs([("content-encoding", coding)]));
        }
        if codings.is_empty() {
            return Some(match self.settled(&kind, &body.kept, is_cut, tally)? {
                Hidden::Changed(kept) => changed(body, kept),
                Hidden::Dropped => self.dropped(body, tally),
            });
        }
        let limits =
            CompareLimits { decoded_bytes_max: self.limits.decoded_bytes_max, ..CompareLimits::default() };
        // What cannot be decoded hides its secrets from us and not from others.
        let Some(plain) = plain_body(&said, body, &limits) else { return Some(self.dropped(body, tally)) };
        let mut kept = match self.settled(&kind, &plain, is_cut, tally) {
            Some(Hidden::Changed(kept)) => kept,
            Some(Hidden::Dropped) => return Some(self.dropped(body, tally)),
            // What stands around the stream, such as the name of a file.
            None if !self.is_strict() && self.text(&body.kept, tally).is_none() => return None,
            None => plain.into_owned(),
        };
        for coding in &codings {
            match stored(coding, &kept) {
                Some(coded) => kept = coded,
                None => return Some(self.dropped(body, tally)),
            }
        }
        (kept != *body.kept).then(|| changed(body, kept))
    }

    /// What is left of a text once nothing more is found in it. Where a structure is broken, tokens in the place of secrets may
    /// make it another one; what does not come to rest is dropped.
    fn settled(&self, kind: &Kind, plain: &[u8], is_cut: bool, tally: &mut RedactTally) -> Option<Hidden> {
        let mut hidden = match self.plain(kind, plain, is_cut, tally)? {
            Hidden::Changed(text) => text,
            Hidden::Dropped => return Some(Hidden::Dropped),
        };
        if !self.mode.hides() {
            return Some(Hidden::Changed(hidden));
        }
        for _ in 0..SETTLES_MAX {
            match self.plain(kind, &hidden, is_cut, tally) {
                Some(Hidden::Changed(again)) if again != hidden => hidden = again,
                Some(Hidden::Changed(_)) | None => return Some(Hidden::Changed(hidden)),
                Some(Hidden::Dropped) => return Some(Hidden::Dropped),
            }
        }
        Some(Hidden::Dropped)
    }

    fn plain(&self, kind: &Kind, plain: &[u8], is_cut: bool, tally: &mut RedactTally) -> Option<Hidden> {
        let Some(width) = Width::of(plain) else { return self.narrow(kind, plain, is_cut, tally) };
        Some(match self.narrow(kind, width.narrow(plain).as_bytes(), is_cut, tally)? {
            Hidden::Changed(text) => Hidden::Changed(width.widen(&text)),
            Hidden::Dropped => Hidden::Dropped,
        })
    }

    fn narrow(&self, kind: &Kind, plain: &[u8], is_cut: bool, tally: &mut RedactTally) -> Option<Hidden> {
        if self.is_strict() {
            return self.strict(kind, plain, tally);
        }
        let seen = kind.clone().seen_in(plain);
        let by_structure = self.by_structure(&seen, plain, tally);
        // Whatever it is said to be: an address outside of any string is one as well. What is allowed by its place in JSON
        // has been left alone, and must be.
        if *kind == Kind::Json && self.has_json_allowed {
            return by_structure.map(Hidden::Changed);
        }
        let parameters = if seen == Kind::Form { &self.form } else { &self.query };
        let by_looks = self.looks(by_structure.as_deref().unwrap_or(plain), parameters, is_cut, tally);
        by_looks.or(by_structure).map(Hidden::Changed)
    }

    /// Where only what is allowed passes, what is no sound body of its kind does not.
    fn strict(&self, kind: &Kind, plain: &[u8], tally: &mut RedactTally) -> Option<Hidden> {
        if plain.is_empty() {
            return None;
        }
        let seen =
            if *kind == Kind::Text { Kind::looks_of(plain).unwrap_or(Kind::Text) } else { kind.clone() };
        match seen {
            Kind::Json if !is_sound(plain) => Some(Hidden::Dropped),
            Kind::Json => self.json(plain, tally).map(Hidden::Changed),
            Kind::Form => self.form(plain, Place::Form, tally).map(Hidden::Changed),
            Kind::Multipart { boundary } => self.multipart(plain, &boundary, tally).map(Hidden::Changed),
            Kind::Markup | Kind::Text | Kind::Other => Some(Hidden::Dropped),
        }
    }

    /// What the structure of a body says, and that of the kind that it looks like, if that is another one; none when they say
    /// nothing.
    pub(super) fn by_structure(&self, kind: &Kind, plain: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        let hidden = self.by_kind(kind, plain, tally);
        match kind {
            // JSON and markup are read as far as they go, also where there is none of them.
            Kind::Json | Kind::Markup => {
                let Some(seen) = Kind::looks_of(plain).filter(|seen| seen != kind) else { return hidden };
                self.by_kind(&seen, hidden.as_deref().unwrap_or(plain), tally).or(hidden)
            }
            Kind::Form | Kind::Multipart { boundary: _ } | Kind::Text | Kind::Other => hidden,
        }
    }

    fn by_kind(&self, kind: &Kind, plain: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        match kind {
            Kind::Json => self.json(plain, tally),
            Kind::Markup => self.markup(plain, tally),
            Kind::Form => self.form(plain, Place::Form, tally),
            Kind::Multipart { boundary } => self.multipart(plain, boundary, tally),
            Kind::Text | Kind::Other => None,
        }
    }

    /// Length and hash alone. The hash is made with the key: whoever guesses a short body could try his guesses out.
    fn dropped(&self, body: &Body, tally: &mut RedactTally) -> Body {
        let Body { kept, bytes, digest, complete } = body;
        // One of which nothing was kept stays as it is.
        if kept.is_empty() && digest.is_some() && !self.is_strict() {
            return body.clone();
        }
        tally.count(Rule::Body);
        let digest = self.keyed_digest(digest.unwrap_or_else(|| super::sha256(kept)));
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

/// The coding that a body begins like (RFC 1952 section 2.3.1, RFC 8878 section 3.1.1), though nobody says that it is coded.
fn coding_of(kept: &[u8]) -> Option<&'static str> {
    if kept.starts_with(&[0x1f, 0x8b, 8]) {
        return Some("gzip");
    }
    kept.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]).then_some("zstd")
}

fn looks_like_form(plain: &[u8]) -> bool {
    plain.contains(&b'=')
        && plain.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'<' | b'"'))
}

fn looks_like_events(plain: &[u8]) -> bool {
    [&b"data:"[..], b"event:", b"id:"].iter().any(|start| plain.starts_with(start))
}
