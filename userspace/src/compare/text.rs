//! Compares texts by line.
//!
//! Reports one difference: from the first line that differs to the last. Does not align lines within it.

use super::findings::Lossy;
use super::{Findings, Place};
use crate::model::DifferenceKind;

/// Reports where the lines of `a` and `b` begin to differ, with the lines from there to the common end.
pub(super) fn compare(a: &[u8], b: &[u8], found: &mut Findings<'_>) {
    let same_start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let head = a.get(..same_start).unwrap_or_default();
    let start = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline.saturating_add(1));
    let rest_a = a.get(start..).unwrap_or_default();
    let rest_b = b.get(start..).unwrap_or_default();

    let same_end = rest_a.iter().rev().zip(rest_b.iter().rev()).take_while(|(x, y)| x == y).count();
    let tail = rest_a.get(rest_a.len().saturating_sub(same_end)..).unwrap_or_default();
    // Only whole lines are common: where the tail begins within a line, that line is not.
    let begins_line = |rest: &[u8]| matches!(without_end(rest, same_end).last(), None | Some(b'\n'));
    let common = if begins_line(rest_a) && begins_line(rest_b) {
        same_end
    } else {
        let partial = tail.iter().position(|byte| *byte == b'\n');
        partial.map_or(0, |newline| tail.len().saturating_sub(newline).saturating_sub(1))
    };
    let lines_a = without_end(rest_a, common);
    let lines_b = without_end(rest_b, common);

    let kind = match (lines_a.is_empty(), lines_b.is_empty()) {
        (false, true) => DifferenceKind::Missing,
        (true, false) => DifferenceKind::Added,
        (false, false) | (true, true) => DifferenceKind::Value,
    };
    let line = a.iter().take(start).filter(|byte| **byte == b'\n').count().saturating_add(1);
    let (shown_a, shown_b) = (Lossy(lines_a.trim_ascii_end()), Lossy(lines_b.trim_ascii_end()));
    found.add(
        &Place::Text { line },
        kind,
        (kind != DifferenceKind::Added).then_some(&shown_a as _),
        (kind != DifferenceKind::Missing).then_some(&shown_b as _),
    );
}

fn without_end(text: &[u8], common: usize) -> &[u8] {
    text.get(..text.len().saturating_sub(common)).unwrap_or_default()
}
