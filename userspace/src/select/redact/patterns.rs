//! Secrets that are known by how they look, anywhere in a text: addresses, card numbers, tokens of several kinds, and values
//! by the names before them.
//!
//! Knows no format. Looks at each byte a bounded number of times, and for nothing that cannot be there.

use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem::Finder;
use regex::bytes::Regex;

use super::addresses::addresses;
use super::cards::cards;
use super::cut::cut_end;
use super::known::keys;
use super::pairs::{Sought, elements, pairs};
use super::sets::{ByteSet, Kinds};
use super::splice::Splice;
use super::token::RedactKey;
use super::urls::userinfos;
use super::work::looked_at;
use super::{RedactTally, Rule};

/// What is looked for.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    pub(super) email: bool,
    pub(super) card: bool,
    pub(super) bearer: bool,
    pub(super) jwt: bool,
    /// Keys that say by their beginning what they are, and private ones.
    pub(super) key: bool,
    /// User and password before a URL's host.
    pub(super) url: bool,
    /// The configuration's own, with their names.
    pub(super) own: Vec<Regex>,
}

/// Least bytes of a bearer token: a shorter word behind `bearer` is prose.
const BEARER_BYTES_MIN: usize = 8;
/// Bytes of a user and a password in Base64.
const BASIC_BYTES_MAX: usize = 1024;
/// Base64 as credentials are written, whether or not they are padded.
const CREDENTIALS: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// How the first part of a JSON Web Token begins.
static JWT_BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"eyJ"));
/// The ends of the words `bearer` and `basic`, of which the first letter may be of either case.
static BEARER_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"earer"));
static BASIC_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"asic"));
/// What credentials are made of (RFC 9110 section 11.2), and the parts of a JSON Web Token.
static TOKEN68: ByteSet = ByteSet::letters_digits_and(b"-._~+/=");
static BASE64URL: ByteSet = ByteSet::letters_digits_and(b"-_=");
/// Bytes around a short word that must be text, so that it is no chance hit among random bytes.
pub(super) const AROUND_BYTES: usize = 4;

/// Least bytes of what is looked for, by what it is looked for in.
#[derive(Clone, Copy)]
pub(super) struct Words {
    pub(super) name_min: usize,
    pub(super) local_min: usize,
    pub(super) domain_min: usize,
}

pub(super) const WORDS_OF_TEXT: Words = Words { name_min: 1, local_min: 1, domain_min: 4 };
/// So that one in a thousand megabytes of random bytes is hit, and not each.
const WORDS_OF_BYTES: Words = Words { name_min: 5, local_min: 4, domain_min: 8 };

/// A piece of a text, and what is to stand there; none for a token, which stays unless something overlaps it.
pub(super) struct Found {
    pub(super) at: Range<usize>,
    pub(super) rule: Rule,
    pub(super) with: Option<String>,
}

/// What is known of a text before it is looked at.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// Names whose values are secrets.
    pub(super) names: Sought<'a>,
    /// Nobody saw its end.
    pub(super) is_cut: bool,
}

// === impl Patterns ===

impl Default for Patterns {
    fn default() -> Self {
        Self { email: true, card: true, bearer: true, jwt: true, key: true, url: true, own: Vec::new() }
    }
}

impl Patterns {
    /// The text without what is known by its looks; none when nothing is. What stood beside a secret may look like another
    /// one beside its token: whoever asks looks again, until nothing is found.
    pub(super) fn hide(
        &self,
        text: &[u8],
        about: About<'_>,
        key: &RedactKey,
        tally: &mut RedactTally,
    ) -> Option<Vec<u8>> {
        let found = self.found(text, Kinds::of(text), about, key, tally);
        if found.is_empty() {
            return None;
        }
        let mut splice = Splice::new(text);
        for Found { at, rule, with } in apart(found, text, key) {
            if let Some(with) = with {
                tally.count(rule);
                splice.replace(at, with.as_bytes());
            }
        }
        splice.finish()
    }

    /// What is found in a text that has these kinds of bytes.
    fn found(
        &self,
        text: &[u8],
        kinds: Kinds,
        about: About<'_>,
        key: &RedactKey,
        tally: &RedactTally,
    ) -> Vec<Found> {
        let About { names, is_cut } = about;
        let mut found = Vec::new();
        // First, since what a secret was replaced by in the request counts.
        for echo in tally.echoes_in(text) {
            let pieces = echo.finder.find_iter(text);
            found.extend(pieces.map(|at| Found {
                at: at..at.saturating_add(echo.finder.needle().len()),
                rule: Rule::Echo,
                with: Some(String::from_utf8_lossy(&echo.token).into_owned()),
            }));
        }
        if self.jwt && kinds.has(Kinds::UPPER_J) {
            jwts(text, is_cut, key, &mut found);
        }
        if self.bearer && kinds.has(Kinds::SPACE) {
            bearers(text, is_cut, key, &mut found);
            basics(text, key, &mut found);
        }
        if self.key {
            keys(text, kinds, is_cut, key, &mut found);
        }
        // Among random bytes, short words and addresses come about by chance.
        let is_text = !kinds.has(Kinds::BEYOND_ASCII) || std::str::from_utf8(text).is_ok();
        let words = if is_text { WORDS_OF_TEXT } else { WORDS_OF_BYTES };
        if kinds.has_any(&[Kinds::EQUALS, Kinds::COLON, Kinds::PERCENT]) {
            pairs(text, words, names, key, &mut found);
        }
        elements(text, kinds, names.members, key, &mut found);
        let has_scheme = self.url && kinds.has(Kinds::COLON) && kinds.has(Kinds::SLASH);
        let of_urls = if has_scheme { userinfos(text, is_cut, key, &mut found) } else { Vec::new() };
        if self.email {
            addresses(text, kinds, words, &of_urls, key, &mut found);
        }
        if self.card && kinds.has(Kinds::DIGIT) {
            cards(text, key, &mut found);
        }
        for own in &self.own {
            let pieces = own.find_iter(text).filter(|piece| !piece.is_empty());
            found.extend(pieces.map(|piece| Found {
                at: piece.range(),
                rule: Rule::Pattern,
                with: key.secret(piece.as_bytes()),
            }));
        }
        if is_cut {
            cut_end(text, key, &mut found);
        }
        found
    }
}

/// The pieces, in order, without those that lie in others. Those that touch or overlap become one: a token with more letters
/// behind it would not be known as one.
fn apart(mut found: Vec<Found>, text: &[u8], key: &RedactKey) -> Vec<Found> {
    // The first that begins counts, and of those that begin together the longest.
    found.sort_by_key(|found| (found.at.start, std::cmp::Reverse(found.at.end)));
    let mut apart: Vec<Found> = Vec::with_capacity(found.len());
    // Many may touch, each the next one: what they become is made once, when it is known where they end.
    let mut is_joined = false;
    let join = |last: Option<&mut Found>, is_joined: bool| {
        if let Some(last) = last.filter(|_| is_joined) {
            last.with = text.get(last.at.clone()).and_then(|all| key.secret(all));
        }
    };
    for next in found {
        match apart.last_mut() {
            Some(last) if next.at.start <= last.at.end => {
                is_joined |= next.at.end > last.at.end;
                last.at.end = last.at.end.max(next.at.end);
            }
            last => {
                join(last, std::mem::take(&mut is_joined));
                apart.push(next);
            }
        }
    }
    join(apart.last_mut(), is_joined);
    apart
}

/// The end of the bytes from `from` that are as wanted, at most `max` of them.
pub(super) fn run(text: &[u8], from: usize, max: usize, is_wanted: impl Fn(u8) -> bool) -> usize {
    let end = from.saturating_add(max).min(text.len());
    let wanted = text.get(from..end).unwrap_or_default();
    let bytes = wanted.iter().position(|byte| !is_wanted(*byte)).unwrap_or(wanted.len());
    looked_at(bytes);
    from.saturating_add(bytes)
}

/// The start of the bytes before `to` that are as wanted, at most `max` of them.
pub(super) fn run_back(text: &[u8], to: usize, max: usize, is_wanted: impl Fn(u8) -> bool) -> usize {
    let wanted = text.get(to.saturating_sub(max)..to).unwrap_or_default();
    let start = to.saturating_sub(wanted.len());
    let before = wanted.iter().rposition(|byte| !is_wanted(*byte));
    looked_at(wanted.len());
    before.map_or(start, |before| start.saturating_add(before).saturating_add(1))
}

/// True when what stands before a place and at the beginning of a value is text.
pub(super) fn is_plain_around(text: &[u8], at: usize, value: Range<usize>) -> bool {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let before = text.get(at.saturating_sub(1)..at).unwrap_or_default();
    let value = text.get(value).unwrap_or_default();
    let value = value.get(..value.len().min(AROUND_BYTES)).unwrap_or_default();
    before.iter().all(is_text) && value.iter().all(is_text)
}

/// JSON Web Tokens: parts in Base64, of which the first begins like a JSON object. Without its signature one gives nobody
/// access, but its claims say who somebody is.
fn jwts(text: &[u8], is_cut: bool, key: &RedactKey, found: &mut Vec<Found>) {
    let mut from = 0;
    while let Some(start) = find(text, from, &JWT_BEGIN) {
        let end = run(text, start, usize::MAX, |byte| BASE64URL.has(byte) || byte == b'.');
        from = end.max(start.saturating_add(3));
        let piece = text.get(start..end).unwrap_or_default();
        let begins = start
            .checked_sub(1)
            .and_then(|at| text.get(at))
            .is_none_or(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_' | b'.'));
        // A full stop behind it ends a sentence.
        let piece =
            piece.strip_suffix(b".").filter(|_| piece.split(|b| *b == b'.').count() > 3).unwrap_or(piece);
        let parts = piece.split(|byte| *byte == b'.').count();
        let second = piece.split(|byte| *byte == b'.').nth(1).unwrap_or_default();
        let is_claims = second.starts_with(b"eyJ") || (is_cut && end == text.len() && !second.is_empty());
        if begins && piece.len() >= 20 && (parts >= 3 || (parts == 2 && is_claims)) {
            push(found, Rule::Jwt, start..start.saturating_add(piece.len()), key.secret(piece));
        }
    }
}

/// What stands behind the word `bearer` (RFC 6750 section 2.1).
fn bearers(text: &[u8], is_cut: bool, key: &RedactKey, found: &mut Vec<Found>) {
    let mut last_end = 0;
    for (space, bytes) in spaces_behind(text, b'b', &BEARER_END) {
        let start = space.saturating_add(bytes);
        // A plus is a space here, and may be of a token: one that is found already may have the word in it, time and again.
        if start < last_end {
            continue;
        }
        let end = run(text, start, usize::MAX, |byte| TOKEN68.has(byte));
        let piece = text.get(start..end).unwrap_or_default();
        // Prose has no digits in its words.
        let looks_random = piece.iter().any(u8::is_ascii_digit) || piece.len() >= 24;
        let is_whole = piece.len() >= BEARER_BYTES_MIN && looks_random;
        let is_torn = is_cut && end == text.len() && !piece.is_empty();
        if is_whole || is_torn {
            push(found, Rule::Bearer, start..end, key.secret(piece));
            last_end = end;
        }
    }
}

/// What stands behind the word `basic`, where it is a user and a password in Base64 (RFC 7617 section 2).
fn basics(text: &[u8], key: &RedactKey, found: &mut Vec<Found>) {
    let mut last_end = 0;
    for (space, bytes) in spaces_behind(text, b'b', &BASIC_END) {
        let start = space.saturating_add(bytes);
        if start < last_end {
            continue;
        }
        let end = run(text, start, BASIC_BYTES_MAX, |byte| TOKEN68.has(byte));
        let piece = text.get(start..end).unwrap_or_default();
        if basic_password(piece).is_some() {
            push(found, Rule::Bearer, start..end, key.secret(piece));
            last_end = end;
        }
    }
}

/// Where a space stands behind a word, as it is or encoded, and its bytes. The word begins with `first`, of either case.
fn spaces_behind<'t>(
    text: &'t [u8],
    first: u8,
    word: &'static Finder<'static>,
) -> impl Iterator<Item = (usize, usize)> + 't {
    word.find_iter(text).filter_map(move |at| {
        let before = at.checked_sub(1).and_then(|at| text.get(at))?;
        let end = at.saturating_add(word.needle().len());
        let rest = text.get(end..)?;
        let space = [&b" "[..], b"\t", b"+", b"%20"].into_iter().find(|space| rest.starts_with(space))?;
        before.eq_ignore_ascii_case(&first).then_some((end, space.len()))
    })
}

/// The password of a user, where this is one with his name in Base64.
pub(super) fn basic_password(credentials: &[u8]) -> Option<Vec<u8>> {
    let decoded = CREDENTIALS.decode(credentials).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    let is_text = std::str::from_utf8(&decoded).is_ok_and(|text| !text.chars().any(char::is_control));
    is_text.then(|| decoded.get(colon.saturating_add(1)..).unwrap_or_default().to_vec())
}

pub(super) fn find(text: &[u8], from: usize, wanted: &Finder<'_>) -> Option<usize> {
    let at = wanted.find(text.get(from..)?)?;
    from.checked_add(at)
}

pub(super) fn push(found: &mut Vec<Found>, rule: Rule, at: Range<usize>, with: Option<String>) {
    found.push(Found { at, rule, with });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::names::Names;
    use super::*;

    /// What secrets are made of, whole and in pieces.
    const PIECES: [&str; 36] = [
        "alice",
        "@",
        "example.org",
        "%40",
        "%2540",
        "&#64;",
        "&#x40;",
        "\\u0040",
        "://",
        "password",
        "=",
        ":",
        "%3D",
        "%3A",
        "\"",
        "token",
        "<",
        ">",
        "&lt;",
        "&gt;",
        "%3C",
        "%3e",
        "\\u003c",
        "\\u003e",
        "Bearer",
        "basic",
        " ",
        "+",
        "%20",
        "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "eyJhbGciOiJSUzI1NiJ9.eyJh.x",
        "4111111111111111",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "-----BEGIN PRIVATE KEY-----",
        "\u{17c}",
    ];

    proptest! {
        /// Nothing is missed that would be found if everything were looked for.
        #[test]
        fn what_cannot_be_there_is_not_missed(
            pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 1..7),
            odd in any::<[u8; 1]>(),
            is_cut: bool,
        ) {
            let key = RedactKey::new(&[7; 32]).unwrap();
            let names = Names::default();
            let about = About { names: Sought { parameters: &names, members: &names }, is_cut };
            let mut text = pieces.concat().into_bytes();
            text.extend(odd);
            let found = |kinds: Kinds| -> Vec<_> {
                let found = Patterns::default().found(&text, kinds, about, &key, &RedactTally::default());
                found.into_iter().map(|found| (found.at, found.rule, found.with)).collect()
            };
            prop_assert_eq!(found(Kinds::of(&text)), found(Kinds::ALL));
        }
    }
}
