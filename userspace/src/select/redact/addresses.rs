//! E-mail addresses, as most people write them.
//!
//! Asks nobody whether there is one. Reads no comment and no quoted name (RFC 5322 section 3.4.1).

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Rule;
use super::patterns::{Found, WORDS_OF_TEXT, Words, is_plain_around, push, run, run_back};
use super::sets::{ByteSet, Kinds};
use super::token::{ADDRESS_DOMAIN, RedactKey};

/// Bytes of an address before and behind the `@` (RFC 5321 section 4.5.3.1).
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;

/// `@` as URLs, pages and JSON may write it, and what they write it with.
static AT_SIGNS: LazyLock<[(Kinds, Finder<'static>); 5]> = LazyLock::new(|| {
    [
        (Kinds::PERCENT, Finder::new(b"%40")),
        (Kinds::PERCENT, Finder::new(b"%2540")),
        (Kinds::AMPERSAND, Finder::new(b"&#64;")),
        (Kinds::AMPERSAND, Finder::new(b"&#x40;")),
        (Kinds::BACKSLASH, Finder::new(b"\\u0040")),
    ]
});

static LOCAL: ByteSet = ByteSet::letters_digits_and(b"._%+-'");
static LOCAL_OF_TEXT: ByteSet = ByteSet::letters_digits_and(b"._%+-'").and_beyond_ascii();
static DOMAIN: ByteSet = ByteSet::letters_digits_and(b".-");
static DOMAIN_OF_TEXT: ByteSet = ByteSet::letters_digits_and(b".-").and_beyond_ascii();

/// Finds addresses. `of_urls`: where `@` stand that are of no address, in order.
pub(super) fn addresses(
    text: &[u8],
    kinds: Kinds,
    words: Words,
    of_urls: &[usize],
    key: &RedactKey,
    found: &mut Vec<Found>,
) {
    let is_text = words.local_min == WORDS_OF_TEXT.local_min;
    let (local, domain) = if is_text { (&LOCAL_OF_TEXT, &DOMAIN_OF_TEXT) } else { (&LOCAL, &DOMAIN) };
    let mut last_end = 0;
    for (at, at_bytes) in signs(text, kinds, of_urls) {
        let mut start = run_back(text, at, LOCAL_BYTES_MAX, |byte| local.has(byte)).max(last_end);
        while text.get(start).is_some_and(|byte| matches!(byte, b'.' | b'\'' | b'%' | b'-')) && start < at {
            start = start.saturating_add(1);
        }
        let domain_start = at.saturating_add(at_bytes);
        let mut end = run(text, domain_start, DOMAIN_BYTES_MAX, |byte| domain.has(byte));
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
        push(found, Rule::Email, start..end, Some(key.address(local, sign, domain)));
    }
}

/// Where each `@` stands that may be of an address, and its bytes, in order.
fn signs(text: &[u8], kinds: Kinds, of_urls: &[usize]) -> Vec<(usize, usize)> {
    let mut signs: Vec<(usize, usize)> = Vec::new();
    if kinds.has(Kinds::AT) {
        let ats = memchr::memchr_iter(b'@', text).filter(|at| of_urls.binary_search(at).is_err());
        signs.extend(ats.map(|at| (at, 1)));
    }
    if kinds.has_any(&[Kinds::PERCENT, Kinds::AMPERSAND, Kinds::BACKSLASH]) {
        for (_, sign) in AT_SIGNS.iter().filter(|(kind, _)| kinds.has(*kind)) {
            signs.extend(sign.find_iter(text).map(|at| (at, sign.needle().len())));
        }
        signs.sort_unstable();
    }
    signs
}
