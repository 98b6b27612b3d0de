//! What was shown against what was expected, connection by connection.
//!
//! Knows no tolerance: every fact of every line counts, and nothing may be left over.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::expected::{Capture, Facts, Line, Wanted};
use super::inspect::Shown;

/// What is wrong with what was shown.
pub(crate) struct Differences {
    /// One for each line that was missed, and for each that should not be there.
    pub(crate) problems: Vec<String>,
    /// How many lines were missed that the readers agree on.
    pub(crate) missed: usize,
}

/// Both sides of one connection.
#[derive(Default)]
struct Connection<'a> {
    lines: Vec<&'a Line>,
    shown: Vec<&'a Shown>,
}

/// Compares.
pub(crate) fn differences(capture: &Capture, shown: &[Shown]) -> Differences {
    let mut by_flow: BTreeMap<(SocketAddr, SocketAddr), Connection<'_>> = BTreeMap::new();
    for line in &capture.lines {
        by_flow.entry((line.client, line.server)).or_default().lines.push(line);
    }
    for one in shown {
        by_flow.entry((one.client, one.server)).or_default().shown.push(one);
    }
    let mut found = Differences { problems: Vec::new(), missed: 0 };
    for ((client, server), Connection { lines, shown: mut left }) in by_flow {
        let mut problem = |text: String| found.problems.push(format!("{client} > {server}: {text}"));
        let mut missed = Vec::new();
        for line in lines.iter().filter(|line| line.wanted == Wanted::Shown) {
            match left.iter().position(|one| one.facts == line.facts) {
                Some(index) => drop(left.remove(index)),
                None => missed.push(*line),
            }
        }
        found.missed += missed.iter().filter(|line| line.agreed).count();
        for line in missed {
            match left.iter().position(|one| one.facts.target == line.facts.target) {
                Some(index) => {
                    let one = left.remove(index);
                    problem(format!("expected {:?}\n  shown {:?} {:?}", line.facts, one.facts, one.marks));
                }
                None => problem(format!("not shown: {:?}", line.facts)),
            }
        }
        let may_be_shown = |facts: &Facts| {
            lines.iter().any(|line| line.wanted == Wanted::Optional && line.facts.target == facts.target)
        };
        for one in left.iter().filter(|one| !may_be_shown(&one.facts)) {
            problem(format!("shown, but not expected: {:?} {:?}", one.facts, one.marks));
        }
    }
    found
}
