//! What was hidden before it was kept or sent.
//!
//! Holds no value that was hidden.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;

use super::collect::{Rows, export};
use super::table;

/// Values that were hidden, by rule.
#[derive(Debug)]
pub struct RedactStats {
    hides: bool,
    counts: Vec<(&'static str, AtomicU64)>,
}

// === impl RedactStats ===

impl RedactStats {
    /// Nothing yet, by these rules. `hides` is false where they only count.
    pub fn new(hides: bool, rules: impl IntoIterator<Item = &'static str>) -> Self {
        Self { hides, counts: rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect() }
    }

    /// Counts values of one rule.
    pub fn add(&self, rule: &str, count: u64) {
        if let Some((_, counted)) = self.counts.iter().find(|(have, _)| *have == rule) {
            counted.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// True when values were replaced, not only counted.
    pub fn hides(&self) -> bool {
        self.hides
    }

    /// Each rule, and how many values it found.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(rule, count)| (*rule, count.load(Ordering::Relaxed)))
    }
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, stats: &RedactStats) -> fmt::Result {
    let rows: Rows<'_, u64> = stats.counts().map(|(rule, count)| (vec![rule], count)).collect();
    let zeros: Rows<'_, u64> = stats.counts().map(|(rule, _)| (vec![rule], 0)).collect();
    let (hidden, found) = if stats.hides { (rows, zeros) } else { (zeros, rows) };
    export(encoder, &table::REDACTED, &hidden)?;
    export(encoder, &table::REDACT_DRY_RUN, &found)
}
