//! Keys and tokens that say what they are by how they begin, and private keys between their lines.
//!
//! Asks nobody whether one is valid.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Rule;
use super::patterns::{Found, find, push, run};
use super::sets::{ByteSet, Kinds};
use super::token::RedactKey;

/// How a key begins, and the least characters behind that.
type Begin = (&'static [u8], usize);

/// How keys begin: those of clouds, forges, chats and payment services, as their makers describe them, so that secrets can be
/// found. By the mark at the end of the beginning, since few words of a text have one there.
const BEGINS: [(u8, &[Begin]); 3] = [
    (b'.', &[(b"SG.", 30), (b"hvs.", 20), (b"ya29.", 20)]),
    (b'-', &[(b"glpat-", 16), (b"xoxa-", 16), (b"xoxb-", 16), (b"xoxp-", 16), (b"xoxs-", 16)]),
    (
        b'_',
        &[
            (b"dop_v1_", 30),
            (b"gho_", 30),
            (b"ghp_", 30),
            (b"ghr_", 30),
            (b"ghs_", 30),
            (b"ghu_", 30),
            (b"github_pat_", 30),
            (b"npm_", 30),
            (b"rk_live_", 16),
            (b"sk_live_", 16),
            (b"sk_test_", 16),
        ],
    ),
];

/// Beginnings without a mark.
static PLAIN_BEGINS: LazyLock<[(Finder<'static>, usize); 3]> =
    LazyLock::new(|| [(Finder::new(b"AKIA"), 16), (Finder::new(b"ASIA"), 16), (Finder::new(b"AIza"), 30)]);

/// Bytes of the longest beginning.
const BEGIN_BYTES_MAX: usize = 11;

static PRIVATE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"PRIVATE KEY-----"));
static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"-----"));

static OF_KEYS: ByteSet = ByteSet::letters_digits_and(b"-_.");

/// Finds keys by their beginning. `is_cut`: nobody saw the end of the text, and a key that ends there may be a longer one.
pub(super) fn keys(text: &[u8], kinds: Kinds, is_cut: bool, key: &RedactKey, found: &mut Vec<Found>) {
    if kinds.has(Kinds::MARK) {
        let mut last_end = 0;
        for mark in memchr::memchr3_iter(b'_', b'-', b'.', text) {
            begins_at(text, mark, is_cut, key, &mut last_end, found);
        }
    }
    if kinds.has(Kinds::UPPER_A) && kinds.has(Kinds::UPPER_I) {
        for (begin, chars) in PLAIN_BEGINS.iter() {
            let mut from = 0;
            while let Some(start) = find(text, from, begin) {
                from = start.saturating_add(begin.needle().len());
                from = one(text, start, begin.needle().len(), *chars, is_cut, key, found).unwrap_or(from);
            }
        }
    }
    if kinds.has(Kinds::UPPER_Y) && kinds.has(Kinds::MARK) {
        private_keys(text, key, found);
    }
}

/// A beginning whose last byte stands at `mark`.
fn begins_at(
    text: &[u8],
    mark: usize,
    is_cut: bool,
    key: &RedactKey,
    last_end: &mut usize,
    found: &mut Vec<Found>,
) {
    let end = mark.saturating_add(1);
    let before = text.get(end.saturating_sub(BEGIN_BYTES_MAX)..end).unwrap_or_default();
    let [.., last_but_one, last] = before else { return };
    let begins = BEGINS.iter().find(|(mark, _)| mark == last).map_or(&[][..], |(_, begins)| *begins);
    // Most marks stand behind something else.
    let is_near = |begin: &[u8]| begin.iter().nth_back(1) == Some(last_but_one);
    let is_this = |(begin, _): &&Begin| is_near(begin) && before.ends_with(begin);
    let Some((begin, chars)) = begins.iter().find(is_this) else { return };
    let start = end.saturating_sub(begin.len());
    if start >= *last_end
        && let Some(behind) = one(text, start, begin.len(), *chars, is_cut, key, found)
    {
        *last_end = behind;
    }
}

fn one(
    text: &[u8],
    start: usize,
    begin_bytes: usize,
    chars_min: usize,
    is_cut: bool,
    key: &RedactKey,
    found: &mut Vec<Found>,
) -> Option<usize> {
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return None;
    }
    let mut end = run(text, start, usize::MAX, |byte| OF_KEYS.has(byte));
    let is_torn = is_cut && end == text.len();
    // A full stop behind it ends a sentence.
    while end > start && text.get(end.saturating_sub(1)) == Some(&b'.') {
        end = end.saturating_sub(1);
    }
    let chars = end.saturating_sub(start).saturating_sub(begin_bytes);
    if chars == 0 || (chars < chars_min && !is_torn) {
        return None;
    }
    push(found, Rule::Key, start..end, text.get(start..end).and_then(|piece| key.secret(piece)));
    Some(end)
}

/// What stands between the lines that say that a private key does, or behind the first one (RFC 7468).
fn private_keys(text: &[u8], key: &RedactKey, found: &mut Vec<Found>) {
    let mut from = 0;
    while let Some(at) = find(text, from, &PRIVATE_KEY) {
        let start = at.saturating_add(PRIVATE_KEY.needle().len());
        from = start;
        let line = text.get(start.saturating_sub(64)..at).unwrap_or_default();
        if memchr::memmem::rfind(line, b"-----BEGIN ").is_none() {
            continue;
        }
        let end = find(text, start, &DASHES).unwrap_or(text.len());
        from = end;
        let inner = text.get(start..end).unwrap_or_default();
        let leading = inner.len().saturating_sub(inner.trim_ascii_start().len());
        let start = start.saturating_add(leading);
        let piece = inner.trim_ascii();
        push(found, Rule::Key, start..start.saturating_add(piece.len()), key.secret(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_end_with_their_mark_and_are_not_longer_than_what_is_compared() {
        for (mark, begins) in BEGINS {
            let is_sound = |begin: &[u8]| begin.last() == Some(&mark) && begin.len() <= BEGIN_BYTES_MAX;
            assert!(begins.iter().all(|(begin, _)| is_sound(begin)));
        }
    }

    #[test]
    fn each_beginning_makes_a_key_of_enough_characters() {
        let key = RedactKey::new(&[7; 32]).unwrap();
        let check = |begin: &[u8], chars: usize| {
            for (chars, expected) in [(chars, 1), (chars.saturating_sub(1), 0)] {
                let text = [b"x: ", begin, &b"a".repeat(chars)].concat();
                let mut found = Vec::new();
                keys(&text, Kinds::of(&text), false, &key, &mut found);
                let is_whole = |found: &Found| found.at.start == 3 && found.at.end == text.len();
                assert!(found.len() == expected && found.iter().all(is_whole), "{}", text.escape_ascii());
            }
        };
        BEGINS.iter().flat_map(|(_, begins)| *begins).for_each(|(begin, chars)| check(begin, *chars));
        PLAIN_BEGINS.iter().for_each(|(begin, chars)| check(begin.needle(), *chars));
    }
}
