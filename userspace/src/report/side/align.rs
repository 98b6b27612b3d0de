//! Puts the lines of two texts beside each other.
//!
//! Knows nothing of terminals.

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::{AnswerReport, SideBySide, SideLimits, json};
use crate::journal::StoredDifference;

/// A line of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// What follows, and means nothing: a comma.
    pub(super) tail: &'static str,
    /// Where it stands, in JSON.
    pub(super) path: Option<String>,
}

/// Two lines beside each other, or one beside nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) mark: Mark,
    pub(super) control: Option<String>,
    pub(super) candidate: Option<String>,
}

/// Whether the sides of a row differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Same,
    /// They differ where it counts.
    Differs,
    /// They differ, and the comparison did not count it.
    Hidden,
}

/// The rows of two bodies, and how many lines there are beyond the bound.
pub(super) struct Aligned {
    pub(super) rows: Vec<Row>,
    pub(super) is_cut: bool,
}

/// Whether the status differs.
pub(super) fn status(control: &AnswerReport, candidate: &AnswerReport) -> Row {
    let is_same = control.status == candidate.status;
    let shown = |answer: &AnswerReport| Some(answer.status.to_string());
    let mark = if is_same { Mark::Same } else { Mark::Differs };
    Row { mark, control: shown(control), candidate: shown(candidate) }
}

/// The header fields: A's in their order, each with the one of B that has the same name and place among those; then the
/// ones that only B has.
pub(super) fn headers(side: &SideBySide, control: &AnswerReport, candidate: &AnswerReport) -> Vec<Row> {
    let mut rest: Vec<Option<&(String, String)>> = candidate.headers.iter().map(Some).collect();
    let shown = |(name, value): &(String, String)| format!("{name}: {value}");
    let mut rows = Vec::new();
    for field in &control.headers {
        let is_named = |other: &(String, String)| other.0.eq_ignore_ascii_case(&field.0);
        let other = rest.iter_mut().find(|other| other.is_some_and(is_named)).and_then(Option::take);
        let is_same = other.is_some_and(|other| other.1 == field.1);
        let mark = header_mark(side.differences(), &field.0, is_same);
        rows.push(Row { mark, control: Some(shown(field)), candidate: other.map(shown) });
    }
    for field in rest.into_iter().flatten() {
        let mark = header_mark(side.differences(), &field.0, false);
        rows.push(Row { mark, control: None, candidate: Some(shown(field)) });
    }
    rows
}

/// A secret that differs looks the same once it is redacted.
fn header_mark(differences: &[StoredDifference], name: &str, is_same: bool) -> Mark {
    let is_counted = differences.iter().any(|difference| {
        let field = difference.path.strip_prefix("header:").unwrap_or_default();
        field.split('[').next().is_some_and(|field| field.eq_ignore_ascii_case(name))
    });
    match (is_counted, is_same) {
        (true, _) => Mark::Differs,
        (false, false) => Mark::Hidden,
        (false, true) => Mark::Same,
    }
}

/// Both bodies, as JSON where both are, else by line.
pub(super) fn bodies(side: &SideBySide, control: &str, candidate: &str, limits: &SideLimits) -> Aligned {
    let of_text = |text: &str| {
        let lines = text.lines().take(limits.lines_max.saturating_add(1));
        lines.map(|line| Line { text: line.to_owned(), tail: "", path: None }).collect::<Vec<_>>()
    };
    let (mut a, mut b) = json::lines(control, candidate, limits.lines_max)
        .unwrap_or_else(|| (of_text(control), of_text(candidate)));
    let is_cut = a.len().max(b.len()) > limits.lines_max;
    a.truncate(limits.lines_max);
    b.truncate(limits.lines_max);
    Aligned { rows: rows(&a, &b, side.differences()), is_cut }
}

fn rows(a: &[Line], b: &[Line], differences: &[StoredDifference]) -> Vec<Row> {
    let texts = |lines: &[Line]| lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>();
    let mark = |line: &Line| match &line.path {
        Some(path) if !differences.iter().any(|difference| contains(&difference.path, path)) => Mark::Hidden,
        // Of a text, no line is hidden alone.
        Some(_) | None => Mark::Differs,
    };
    let shown = |line: &Line| format!("{}{}", line.text, line.tail);
    let mut rows = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &texts(a), &texts(b)) {
        let is_same = matches!(op, DiffOp::Equal { .. });
        let (_, of_a, of_b) = op.as_tag_tuple();
        let mut left = a.get(of_a).unwrap_or_default().iter();
        let mut right = b.get(of_b).unwrap_or_default().iter();
        loop {
            let (control, candidate) = (left.next(), right.next());
            let Some(line) = control.or(candidate) else { break };
            let either = [control, candidate].into_iter().flatten();
            let mark = if is_same {
                Mark::Same
            } else if either.map(mark).any(|mark| mark == Mark::Differs) {
                Mark::Differs
            } else {
                mark(line)
            };
            rows.push(Row { mark, control: control.map(shown), candidate: candidate.map(shown) });
        }
    }
    rows
}

/// True when the place at `path` is the one at `outer`, or lies in it.
fn contains(outer: &str, path: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
