//! What was hidden before it was kept or sent.
//!
//! Holds no value that was hidden.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;

use super::collect::{Rows, export};
use super::table;

/// Values that were hidden, by rule and part of a message.
#[derive(Debug)]
pub struct RedactStats {
    hides: bool,
    counts: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    rule: &'static str,
    part: &'static str,
    count: AtomicU64,
}

// === impl RedactStats ===

impl RedactStats {
    /// Nothing yet, by these rules, in these parts of a message. `hides` is false where they only count.
    pub fn new(hides: bool, rules: &[&'static str], parts: &[&'static str]) -> Self {
        let of_rule = |rule: &&'static str| {
            let rule = *rule;
            parts.iter().map(move |part| Counted { rule, part, count: AtomicU64::new(0) })
        };
        Self { hides, counts: rules.iter().flat_map(of_rule).collect() }
    }

    /// Counts values of one rule in one part.
    pub fn add(&self, rule: &str, part: &str, count: u64) {
        if let Some(counted) = self.counts.iter().find(|have| have.rule == rule && have.part == part) {
            counted.count.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// True when values were replaced, not only counted.
    pub fn hides(&self) -> bool {
        self.hides
    }

    /// Each rule and part, and how many values were found.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts.iter().map(|have| (have.rule, have.part, have.count.load(Ordering::Relaxed)))
    }
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, stats: &RedactStats) -> fmt::Result {
    let rows: Rows<'_, u64> = stats.counts().map(|(rule, part, count)| (vec![rule, part], count)).collect();
    let zeros: Rows<'_, u64> = stats.counts().map(|(rule, part, _)| (vec![rule, part], 0)).collect();
    let (hidden, found) = if stats.hides { (rows, zeros) } else { (zeros, rows) };
    export(encoder, &table::REDACTED, &hidden)?;
    export(encoder, &table::REDACT_DRY_RUN, &found)
}
