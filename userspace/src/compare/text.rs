//! Compares texts by line.
//!
//! Knows no words: a line that differs in one letter is another line. Reports each run of lines that differ once.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::align::equal_in_order;
use super::findings::Lossy;
use super::{Findings, Place};
use crate::model::DifferenceKind;

/// Reports each run of lines in which `b` differs from `a`.
pub(super) fn compare(a: &[u8], b: &[u8], found: &mut Findings<'_>) {
    let lines_max = found.limits().values_max;
    let (lines_a, lines_b) = (lines(a, lines_max), lines(b, lines_max));
    let (Some(lines_a), Some(lines_b)) = (lines_a, lines_b) else {
        return report((0, a), (0, b), found);
    };
    let hashes = |lines: &[&[u8]]| {
        let hash = |line: &&[u8]| {
            let mut hasher = FixedState::default().build_hasher();
            hasher.write(line);
            hasher.finish()
        };
        lines.iter().map(hash).collect::<Vec<u64>>()
    };
    let pairs = equal_in_order(&hashes(&lines_a), &hashes(&lines_b), found.budget());
    let (mut i, mut j) = (0, 0);
    for (next_i, next_j) in pairs.into_iter().chain([(lines_a.len(), lines_b.len())]) {
        // Hashes only guide: lines of one hash are compared all the same.
        let equal = lines_a.get(next_i) == lines_b.get(next_j);
        if i < next_i || j < next_j || !equal {
            let to = |next: usize| if equal { next } else { next.saturating_add(1) };
            let in_a = lines_a.get(i..to(next_i).min(lines_a.len())).unwrap_or_default();
            let in_b = lines_b.get(j..to(next_j).min(lines_b.len())).unwrap_or_default();
            report_run(i, in_a, in_b, found);
        }
        (i, j) = (next_i.saturating_add(1), next_j.saturating_add(1));
    }
}

/// The lines of a text without their ends; none when there are more than `lines_max`.
fn lines(text: &[u8], lines_max: usize) -> Option<Vec<&[u8]>> {
    let count = memchr::memchr_iter(b'\n', text).count();
    (count < lines_max).then(|| text.split(|byte| *byte == b'\n').collect())
}

fn report_run(at: usize, a: &[&[u8]], b: &[&[u8]], found: &mut Findings<'_>) {
    if a.is_empty() && b.is_empty() {
        return;
    }
    // A value is cut at a limit, and each line has at least its end.
    let most = found.limits().value_bytes_max.saturating_add(1);
    let joined = |lines: &[&[u8]]| lines.get(..lines.len().min(most)).unwrap_or_default().join(&b'\n');
    let (shown_a, shown_b) = (joined(a), joined(b));
    let (shown_a, shown_b) = (Lossy(&shown_a), Lossy(&shown_b));
    let kind = match (a.is_empty(), b.is_empty()) {
        (false, true) => DifferenceKind::Missing,
        (true, false) => DifferenceKind::Added,
        (false, false) | (true, true) => DifferenceKind::Value,
    };
    found.add(
        &Place::Text { line: at.saturating_add(1) },
        kind,
        (!a.is_empty()).then_some(&shown_a as _),
        (!b.is_empty()).then_some(&shown_b as _),
    );
}

/// One difference from the first byte that differs on.
fn report((line, a): (usize, &[u8]), (_, b): (usize, &[u8]), found: &mut Findings<'_>) {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let before = a.get(..same).unwrap_or_default();
    let line = line.saturating_add(memchr::memchr_iter(b'\n', before).count());
    let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline.saturating_add(1));
    report_run(line, &[a.get(start..).unwrap_or_default()], &[b.get(start..).unwrap_or_default()], found);
}
