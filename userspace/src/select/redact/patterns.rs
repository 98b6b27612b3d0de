//! Secrets that are known by how they look, anywhere in a text: addresses, card numbers, tokens of several kinds, and values
//! by the names before them.
//!
//! Knows no format. Looks at each byte a bounded number of times.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::bytes::Regex;

use super::cut::cut_end;
use super::known::keys;
use super::pairs::{Sought, elements, pairs};
use super::splice::Splice;
use super::tally::Echo;
use super::token::{ADDRESS_DOMAIN, RedactKey, is_luhn};
use super::urls::userinfos;
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

/// Bytes of an address before and behind the `@` (RFC 5321 section 4.5.3.1).
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;
/// Least bytes of a bearer token: a shorter word behind `bearer` is prose.
const BEARER_BYTES_MIN: usize = 8;
/// Times that a text with secrets is looked at.
const LOOKS_MAX: usize = 4;
/// Bytes of a user and a password in Base64.
const BASIC_BYTES_MAX: usize = 1024;
/// Base64 as credentials are written, whether or not they are padded.
const CREDENTIALS: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Bytes around a short word that must be text, so that it is no chance hit among random bytes.
const AROUND_BYTES: usize = 4;

/// Least bytes of what is looked for, by what it is looked for in.
#[derive(Clone, Copy)]
pub(super) struct Words {
    pub(super) name_min: usize,
    local_min: usize,
    domain_min: usize,
}

const WORDS_OF_TEXT: Words = Words { name_min: 1, local_min: 1, domain_min: 4 };
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
    /// The text without what is known by its looks; none when nothing is.
    pub(super) fn hide(
        &self,
        text: &[u8],
        about: About<'_>,
        key: &RedactKey,
        tally: &mut RedactTally,
    ) -> Option<Vec<u8>> {
        let mut hidden = self.hide_once(text, about, key, tally)?;
        // What stood beside a secret may look like another one beside its token.
        for _ in 1..LOOKS_MAX {
            match self.hide_once(&hidden, about, key, tally) {
                Some(again) => hidden = again,
                None => break,
            }
        }
        Some(hidden)
    }

    fn hide_once(
        &self,
        text: &[u8],
        about: About<'_>,
        key: &RedactKey,
        tally: &mut RedactTally,
    ) -> Option<Vec<u8>> {
        let About { names, is_cut } = about;
        let mut found = Vec::new();
        // First, since what a secret was replaced by in the request counts.
        for Echo { secret, token } in tally.echoes() {
            let pieces = memchr::memmem::find_iter(text, secret);
            found.extend(pieces.map(|at| Found {
                at: at..at.saturating_add(secret.len()),
                rule: Rule::Echo,
                with: Some(String::from_utf8_lossy(token).into_owned()),
            }));
        }
        if self.jwt {
            jwts(text, is_cut, key, &mut found);
        }
        if self.bearer {
            bearers(text, is_cut, key, &mut found);
            basics(text, key, &mut found);
        }
        if self.key {
            keys(text, is_cut, key, &mut found);
        }
        // Among random bytes, short words and addresses come about by chance.
        let words = if std::str::from_utf8(text).is_ok() { WORDS_OF_TEXT } else { WORDS_OF_BYTES };
        pairs(text, words, names, key, &mut found);
        elements(text, names.members, key, &mut found);
        let of_urls = if self.url { userinfos(text, is_cut, key, &mut found) } else { Vec::new() };
        if self.email {
            addresses(text, words, &of_urls, key, &mut found);
        }
        if self.card {
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
        if found.is_empty() {
            return None;
        }
        // The first that begins counts, and of those that begin together the longest.
        found.sort_by_key(|found| (found.at.start, std::cmp::Reverse(found.at.end)));
        let mut splice = Splice::new(text);
        for Found { at, rule, with } in apart(found, text, key) {
            if let Some(with) = with {
                tally.count(rule);
                splice.replace(at, with.as_bytes());
            }
        }
        splice.finish()
    }
}

/// The pieces, in order, without those that lie in others. Two that touch or overlap become one: a token with more letters
/// behind it would not be known as one.
fn apart(found: Vec<Found>, text: &[u8], key: &RedactKey) -> Vec<Found> {
    let mut apart: Vec<Found> = Vec::with_capacity(found.len());
    for next in found {
        match apart.last_mut() {
            Some(last) if next.at.start <= last.at.end => {
                if next.at.end <= last.at.end {
                    continue;
                }
                last.at.end = next.at.end;
                last.with = text.get(last.at.clone()).and_then(|both| key.secret(both));
            }
            Some(_) | None => apart.push(next),
        }
    }
    apart
}

/// The end of the bytes from `from` that are as wanted, at most `max` of them.
pub(super) fn run(text: &[u8], from: usize, max: usize, is_wanted: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let count = rest.iter().take(max).take_while(|byte| is_wanted(**byte)).count();
    from.saturating_add(count)
}

/// The start of the bytes before `to` that are as wanted, at most `max` of them.
pub(super) fn run_back(text: &[u8], to: usize, max: usize, is_wanted: impl Fn(u8) -> bool) -> usize {
    let before = text.get(..to).unwrap_or_default();
    let count = before.iter().rev().take(max).take_while(|byte| is_wanted(**byte)).count();
    to.saturating_sub(count)
}

/// True when what stands before a place and at the beginning of a value is text.
pub(super) fn is_plain_around(text: &[u8], at: usize, value: Range<usize>) -> bool {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let before = text.get(at.saturating_sub(1)..at).unwrap_or_default();
    let value = text.get(value).unwrap_or_default();
    let value = value.get(..value.len().min(AROUND_BYTES)).unwrap_or_default();
    before.iter().all(is_text) && value.iter().all(is_text)
}

fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)
}

/// JSON Web Tokens: parts in Base64, of which the first begins like a JSON object. Without its signature one gives nobody
/// access, but its claims say who somebody is.
fn jwts(text: &[u8], is_cut: bool, key: &RedactKey, found: &mut Vec<Found>) {
    let mut from = 0;
    while let Some(start) = find(text, from, b"eyJ") {
        let end = run(text, start, usize::MAX, |byte| is_base64url(byte) || byte == b'.');
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
    for (space, bytes) in spaces_behind(text, b"earer") {
        let start = space.saturating_add(bytes);
        let is_word =
            space.checked_sub(6).and_then(|at| text.get(at)).is_some_and(|b| matches!(b, b'b' | b'B'));
        let end = run(text, start, usize::MAX, is_token68);
        let piece = text.get(start..end).unwrap_or_default();
        // Prose has no digits in its words.
        let looks_random = piece.iter().any(u8::is_ascii_digit) || piece.len() >= 24;
        let is_whole = piece.len() >= BEARER_BYTES_MIN && looks_random;
        let is_torn = is_cut && end == text.len() && !piece.is_empty();
        if is_word && (is_whole || is_torn) {
            push(found, Rule::Bearer, start..end, key.secret(piece));
        }
    }
}

/// What stands behind the word `basic`, where it is a user and a password in Base64 (RFC 7617 section 2).
fn basics(text: &[u8], key: &RedactKey, found: &mut Vec<Found>) {
    for (space, bytes) in spaces_behind(text, b"asic") {
        let start = space.saturating_add(bytes);
        let is_word =
            space.checked_sub(5).and_then(|at| text.get(at)).is_some_and(|b| matches!(b, b'b' | b'B'));
        let end = run(text, start, BASIC_BYTES_MAX, is_token68);
        let piece = text.get(start..end).unwrap_or_default();
        if is_word && basic_password(piece).is_some() {
            push(found, Rule::Bearer, start..end, key.secret(piece));
        }
    }
}

/// Where a space stands behind a word, as it is or encoded, and its bytes.
fn spaces_behind<'t>(text: &'t [u8], word: &'static [u8]) -> impl Iterator<Item = (usize, usize)> + 't {
    memchr::memmem::find_iter(text, word).filter_map(move |at| {
        let end = at.saturating_add(word.len());
        let rest = text.get(end..)?;
        let space = [&b" "[..], b"\t", b"+", b"%20"].into_iter().find(|space| rest.starts_with(space))?;
        Some((end, space.len()))
    })
}

/// The password of a user, where this is one with his name in Base64.
pub(super) fn basic_password(credentials: &[u8]) -> Option<Vec<u8>> {
    let decoded = CREDENTIALS.decode(credentials).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    let is_text = std::str::from_utf8(&decoded).is_ok_and(|text| !text.chars().any(char::is_control));
    is_text.then(|| decoded.get(colon.saturating_add(1)..).unwrap_or_default().to_vec())
}

/// `@` as URLs, pages and JSON may write it.
const AT_SIGNS: [&[u8]; 5] = [b"%40", b"%2540", b"&#64;", b"&#x40;", b"\\u0040"];

/// E-mail addresses, as most people write them.
fn addresses(text: &[u8], words: Words, of_urls: &[usize], key: &RedactKey, found: &mut Vec<Found>) {
    let is_text = words.local_min == WORDS_OF_TEXT.local_min;
    let is_local =
        |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte) || (byte >= 0x80 && is_text);
    let is_domain =
        |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte) || (byte >= 0x80 && is_text);
    let mut last_end = 0;
    let mut ats: Vec<(usize, usize)> = memchr::memchr_iter(b'@', text)
        .filter(|at| of_urls.binary_search(at).is_err())
        .map(|at| (at, 1))
        .collect();
    for sign in AT_SIGNS {
        ats.extend(memchr::memmem::find_iter(text, sign).map(|at| (at, sign.len())));
    }
    ats.sort_unstable();
    for (at, at_bytes) in ats {
        let mut start = run_back(text, at, LOCAL_BYTES_MAX, is_local).max(last_end);
        while text.get(start).is_some_and(|byte| matches!(byte, b'.' | b'\'' | b'%' | b'-')) && start < at {
            start = start.saturating_add(1);
        }
        let domain_start = at.saturating_add(at_bytes);
        let mut end = run(text, domain_start, DOMAIN_BYTES_MAX, is_domain);
        while end > domain_start
            && text.get(end.saturating_sub(1)).is_some_and(|byte| matches!(byte, b'.' | b'-'))
        {
            end = end.saturating_sub(1);
        }
        let domain = text.get(domain_start..end).unwrap_or_default();
        let top = domain.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
        let sound = top.len() >= 2
            && top.len() < domain.len()
            && top.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
        let is_short = at.saturating_sub(start) < words.local_min || domain.len() < words.domain_min;
        let is_by_chance = is_short && !is_plain_around(text, start, start..end);
        if start >= at || domain.len() < WORDS_OF_TEXT.domain_min || is_by_chance || !sound {
            continue;
        }
        last_end = end;
        if domain.eq_ignore_ascii_case(ADDRESS_DOMAIN.as_bytes()) {
            continue;
        }
        let (local, sign) =
            (text.get(start..at).unwrap_or_default(), text.get(at..domain_start).unwrap_or_default());
        let with = key.address(&[local, b"@", domain].concat()).replace('@', &String::from_utf8_lossy(sign));
        push(found, Rule::Email, start..end, Some(with));
    }
}

/// Numbers of payment cards: 13 to 19 digits that check themselves, as one word or in the groups of a card.
fn cards(text: &[u8], key: &RedactKey, found: &mut Vec<Found>) {
    let mut at = 0;
    while at < text.len() {
        let Some(next) = text.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) else {
            return;
        };
        let start = at.saturating_add(next);
        // 19 digits and four separators; a longer run is no card.
        let end = run(text, start, 24, |byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'+'));
        let word_end = run(text, start, usize::MAX, |byte| byte.is_ascii_alphanumeric());
        let before = start.checked_sub(1).and_then(|at| text.get(at));
        let begins =
            before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.' && *byte != b'_');
        let card = begins.then(|| card_end(text, start, end)).flatten();
        match card {
            Some(card_end) => {
                let with = key.card(text.get(start..card_end).unwrap_or_default());
                push(found, Rule::Card, start..card_end, Some(with));
                at = card_end;
            }
            None => at = word_end.max(start.saturating_add(1)),
        }
    }
}

/// Where the card number ends that begins at `start`; none when there is none.
fn card_end(text: &[u8], start: usize, end: usize) -> Option<usize> {
    // The networks' numbers begin with 2 to 6; times and most counters do not.
    text.get(start).filter(|byte| (b'2'..=b'6').contains(byte))?;
    let is_end = |at: usize| {
        let behind = text.get(at);
        let fraction =
            behind == Some(&b'.') && text.get(at.saturating_add(1)).is_some_and(u8::is_ascii_digit);
        !fraction && behind.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
    };
    let word_end = run(text, start, 24, |byte| byte.is_ascii_digit());
    if is_luhn(text.get(start..word_end)?) {
        return is_end(word_end).then_some(word_end);
    }
    // 4-4-4-4(-3) or 4-6-5, with one separator between.
    let separator = *text.get(start.checked_add(4)?).filter(|byte| matches!(byte, b' ' | b'-' | b'+'))?;
    for groups in [&[4_usize, 4, 4, 4, 3][..], &[4, 4, 4, 4], &[4, 6, 5]] {
        let width: usize = groups.iter().sum::<usize>().saturating_add(groups.len().saturating_sub(1));
        let card_end = start.saturating_add(width);
        let Some(piece) = text.get(start..card_end).filter(|_| card_end <= end) else { continue };
        let parts: Vec<&[u8]> = piece.split(|byte| *byte == separator).collect();
        let fits = parts.len() == groups.len()
            && parts
                .iter()
                .zip(groups)
                .all(|(part, chars)| part.len() == *chars && part.iter().all(u8::is_ascii_digit));
        if fits && is_luhn(&parts.concat()) && is_end(card_end) {
            return Some(card_end);
        }
    }
    None
}

pub(super) fn find(text: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(text.get(from..)?, wanted)?;
    from.checked_add(at)
}

pub(super) fn push(found: &mut Vec<Found>, rule: Rule, at: Range<usize>, with: Option<String>) {
    found.push(Found { at, rule, with });
}
