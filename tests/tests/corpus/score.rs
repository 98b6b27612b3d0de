//! How many of the exchanges that readers agree on were met, by what is in their captures.
//!
//! Fails nothing; it is for people who want to know where to look.

use std::collections::BTreeMap;
use std::fmt;

use super::expected::{Capture, Wanted};

/// Exchanges met and expected, by tag and in all.
#[derive(Default)]
pub(crate) struct Score {
    captures: usize,
    all: Part,
    by_tag: BTreeMap<String, Part>,
}

#[derive(Clone, Copy, Default)]
struct Part {
    met: usize,
    expected: usize,
}

// === impl Score ===

impl Score {
    /// Counts one capture, of whose exchanges so many were missed.
    pub(crate) fn add(&mut self, capture: &Capture, missed: usize) {
        let expected =
            capture.lines.iter().filter(|line| line.agreed && line.wanted == Wanted::Shown).count();
        let part = Part { met: expected.saturating_sub(missed), expected };
        self.captures += 1;
        self.all.add(part);
        for tag in &capture.tags {
            self.by_tag.entry(tag.clone()).or_default().add(part);
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { captures, all, by_tag } = self;
        if *captures == 0 {
            return Ok(());
        }
        for (tag, part) in by_tag.iter().filter(|(_, part)| part.expected > 0) {
            writeln!(f, "corpus: {tag:<28} {part}")?;
        }
        writeln!(f, "corpus: {captures} captures, {all} exchanges that readers agree on")
    }
}

// === impl Part ===

impl Part {
    fn add(&mut self, Part { met, expected }: Part) {
        self.met += met;
        self.expected += expected;
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { met, expected } = self;
        write!(f, "{met} of {expected}")
    }
}
