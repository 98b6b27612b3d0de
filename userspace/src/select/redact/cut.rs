//! The end of a text whose rest nobody saw: what ends there may be the first half of a secret.
//!
//! Guesses no rest: what could be the beginning of an address, of a card's number or of a token goes.

use super::Rule;
use super::patterns::{Found, push};
use super::token::RedactKey;

/// Bytes at the end that are looked at: an address has at most 64 before its `@`, and 255 behind it.
const END_BYTES_MAX: usize = 320;
/// Least digits that may be the beginning of a card's number.
const DIGITS_MIN: usize = 6;
/// Most digits of one.
const DIGITS_MAX: usize = 19;
/// Least bytes of a word that may be the beginning of an address: one with a full stop, or with letters and digits.
const WORD_BYTES_MIN: usize = 8;

/// Finds what a text may end with.
pub(super) fn cut_end(text: &[u8], key: &RedactKey, found: &mut Vec<Found>) {
    let from = text.len().saturating_sub(END_BYTES_MAX);
    let end = text.get(from..).unwrap_or_default();
    let breaks = |byte: &u8| byte.is_ascii_whitespace() || b"\"'<>\\,;=&(){}[]`/?#:".contains(byte);
    let word_bytes = end.iter().rev().take_while(|byte| !breaks(byte)).count();
    let start = text.len().saturating_sub(word_bytes);
    let word = text.get(start..).unwrap_or_default();
    // Digits in groups go on over a space or a dash.
    let is_group = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'+');
    let group_bytes = end.iter().rev().take_while(is_group).count();
    let group = text.get(text.len().saturating_sub(group_bytes)..).unwrap_or_default();
    let group_start = text.len().saturating_sub(group.len());
    // From the first group on with which it may be one.
    let is_start = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| group.get(at));
        before.is_none_or(|byte| !byte.is_ascii_digit())
            && group.get(*at).is_some_and(|byte| (b'2'..=b'6').contains(byte))
            && is_begun_card(group.get(*at..).unwrap_or_default())
    };
    if let Some(at) = (0..group.len()).find(is_start).filter(|_| group.len() >= word.len()) {
        let piece = group.get(at..).unwrap_or_default().trim_ascii_end();
        let start = group_start.saturating_add(at);
        push(found, Rule::Card, start..start.saturating_add(piece.len()), key.secret(piece));
        return;
    }
    let is_mixed = word.iter().any(u8::is_ascii_alphabetic)
        && word.iter().any(|byte| byte.is_ascii_digit() || b".@_-%+".contains(byte));
    if word.contains(&b'@') || (word.len() >= WORD_BYTES_MIN && is_mixed) {
        push(found, Rule::Cut, start..text.len(), key.secret(word));
    }
}

fn is_begun_card(piece: &[u8]) -> bool {
    let digits = piece.iter().filter(|byte| byte.is_ascii_digit()).count();
    (DIGITS_MIN..=DIGITS_MAX).contains(&digits) && piece.len() <= DIGITS_MAX.saturating_add(5)
}
