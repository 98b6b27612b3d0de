//! Keys and tokens that say what they are by how they begin, and private keys between their lines.
//!
//! Asks nobody whether one is valid.

use super::Rule;
use super::patterns::{Found, find, push, run};
use super::token::RedactKey;

/// How keys begin, and the least characters behind that: those of clouds, forges, chats and payment services, as their
/// makers describe them, so that secrets can be found.
const BEGINS: [(&[u8], usize); 22] = [
    (b"AKIA", 16),
    (b"ASIA", 16),
    (b"AIza", 30),
    (b"SG.", 30),
    (b"dop_v1_", 30),
    (b"gho_", 30),
    (b"ghp_", 30),
    (b"ghr_", 30),
    (b"ghs_", 30),
    (b"ghu_", 30),
    (b"github_pat_", 30),
    (b"glpat-", 16),
    (b"hvs.", 20),
    (b"npm_", 30),
    (b"rk_live_", 16),
    (b"sk_live_", 16),
    (b"sk_test_", 16),
    (b"xoxa-", 16),
    (b"xoxb-", 16),
    (b"xoxp-", 16),
    (b"xoxs-", 16),
    (b"ya29.", 20),
];

/// Bytes of the longest beginning.
const BEGIN_BYTES_MAX: usize = 11;

const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

/// Finds keys by their beginning. `is_cut`: nobody saw the end of the text, and a key that ends there may be a longer one.
pub(super) fn keys(text: &[u8], is_cut: bool, key: &RedactKey, found: &mut Vec<Found>) {
    let mut last_end = 0;
    // Each beginning has one of these at its end, or at its first place: few words of a text have.
    for mark in memchr::memchr3_iter(b'_', b'-', b'.', text) {
        begins_at(text, mark, is_cut, key, &mut last_end, found);
    }
    for begin in [&b"AKIA"[..], b"ASIA", b"AIza"] {
        let mut from = 0;
        while let Some(start) = find(text, from, begin) {
            from = start.saturating_add(begin.len());
            let chars = BEGINS.iter().find(|(known, _)| *known == begin).map_or(0, |(_, chars)| *chars);
            from = one(text, start, begin.len(), chars, is_cut, key, found).unwrap_or(from);
        }
    }
    private_keys(text, key, found);
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
    let Some((begin, chars)) = BEGINS.iter().find(|(begin, _)| before.ends_with(begin)) else { return };
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
    let is_of_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let mut end = run(text, start, usize::MAX, is_of_key);
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
    while let Some(at) = find(text, from, PRIVATE_KEY) {
        let start = at.saturating_add(PRIVATE_KEY.len());
        from = start;
        let line = text.get(start.saturating_sub(64)..at).unwrap_or_default();
        if memchr::memmem::rfind(line, b"-----BEGIN ").is_none() {
            continue;
        }
        let end = find(text, start, b"-----").unwrap_or(text.len());
        from = end;
        let inner = text.get(start..end).unwrap_or_default();
        let leading = inner.len().saturating_sub(inner.trim_ascii_start().len());
        let start = start.saturating_add(leading);
        let piece = inner.trim_ascii();
        push(found, Rule::Key, start..start.saturating_add(piece.len()), key.secret(piece));
    }
}
