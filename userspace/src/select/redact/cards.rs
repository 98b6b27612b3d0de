//! Numbers of payment cards: 13 to 19 digits that check themselves, as one word or in the groups of a card.
//!
//! Asks nobody whether there is such a card.

use super::Rule;
use super::patterns::{Found, push, run, run_back};
use super::token::{RedactKey, is_luhn};

/// Digits at the beginning of a card's number that nothing stands between.
const DIGITS_TOGETHER: usize = 4;

/// 19 digits and four separators; a longer run is no card.
const CARD_BYTES_MAX: usize = 24;

/// Finds the numbers of cards in a text.
pub(super) fn cards(text: &[u8], key: &RedactKey, found: &mut Vec<Found>) {
    let mut last_end = 0;
    // One in four bytes is looked at: so many digits stand together at the beginning, and one of them is hit.
    for (group, bytes) in text.chunks_exact(DIGITS_TOGETHER).enumerate() {
        if !bytes.last().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let hit = group.saturating_mul(DIGITS_TOGETHER).saturating_add(DIGITS_TOGETHER - 1);
        let start = run_back(text, hit, DIGITS_TOGETHER, |byte| byte.is_ascii_digit());
        // One of these digits was hit before.
        let is_late = hit.saturating_sub(start) == DIGITS_TOGETHER;
        if !is_late
            && start >= last_end
            && begins(text, start)
            && let Some(end) = card_end(text, start)
        {
            let with = key.card(text.get(start..end).unwrap_or_default());
            push(found, Rule::Card, start..end, Some(with));
            last_end = end;
        }
    }
}

/// True where what stands before a digit lets a number begin there. The networks' numbers begin with 2 to 6; times and most
/// counters do not.
fn begins(text: &[u8], start: usize) -> bool {
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    text.get(start).is_some_and(|byte| (b'2'..=b'6').contains(byte))
        && before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.' && *byte != b'_')
}

/// Where the card number ends that begins at `start`; none when there is none.
fn card_end(text: &[u8], start: usize) -> Option<usize> {
    let is_end = |at: usize| {
        let behind = text.get(at);
        let fraction =
            behind == Some(&b'.') && text.get(at.saturating_add(1)).is_some_and(u8::is_ascii_digit);
        !fraction && behind.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
    };
    let word_end = run(text, start, CARD_BYTES_MAX, |byte| byte.is_ascii_digit());
    if is_luhn(text.get(start..word_end)?) {
        return is_end(word_end).then_some(word_end);
    }
    // 4-4-4-4(-3) or 4-6-5, with one separator between.
    let separator = *text.get(start.checked_add(DIGITS_TOGETHER)?).filter(|byte| is_separator(**byte))?;
    let end = run(text, start, CARD_BYTES_MAX, |byte| byte.is_ascii_digit() || is_separator(byte));
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

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'+')
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    /// From every digit on that may be the first one.
    fn slowly(text: &[u8]) -> Vec<Range<usize>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let end = begins(text, at).then(|| card_end(text, at)).flatten();
            found.extend(end.map(|end| at..end));
            at = end.unwrap_or(at.saturating_add(1));
        }
        found
    }

    proptest! {
        #[test]
        fn cards_are_found_as_by_trying_each_place(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["4111 1111 1111 1111", "5500005555555559", "378282246310005", "3782-822463-10005", "4", "41", "411", "6", "-", " ", ".", "_", "a", "4111"]),
                0..8,
            ),
        ) {
            let text = pieces.concat();
            let key = RedactKey::new(&[7; 32]).unwrap();
            let mut found = Vec::new();
            cards(text.as_bytes(), &key, &mut found);
            let found: Vec<_> = found.into_iter().map(|found| found.at).collect();
            prop_assert_eq!(found, slowly(text.as_bytes()), "{}", text);
        }
    }
}
