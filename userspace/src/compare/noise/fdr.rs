//! Which e-values are large enough, given how many others are asked at the same time.
//!
//! Knows no path: it sees weighted e-values.
//!
//! This is e-BH (R. Wang and A. Ramdas, "False discovery rate control with e-values", JRSS B 84(3), 2022) with weights.
//! Paths are found while testing, so that their number is not known beforehand. Each gets the weight 1/(j·H) of
//! its rank j, in the order in which paths had their first trial; H = 1 + ½ + … + 1/N makes the weights of all N ranks
//! sum to 1. The k best are reported for the largest k such that each of them has weight · e-value ≥ 1/(level · k).
//! Then the share of false ones is at most Σ level · weight · e-value over the paths without a difference of their
//! own, whose expectation is at most the level, however the e-values hang together and whenever one looks.

/// Ranks and the level.
#[derive(Clone, Debug)]
pub(super) struct Discoveries {
    level: f64,
    harmonic: f64,
    /// How many are reported now.
    reported: usize,
}

// === impl Discoveries ===

impl Discoveries {
    /// For up to `ranks` hypotheses.
    pub(super) fn new(level: f64, ranks: usize) -> Self {
        let harmonic: f64 = (1..=ranks).map(|rank| 1.0 / rank as f64).sum();
        Self { level, harmonic: harmonic.max(1.0), reported: 0 }
    }

    /// Logarithm of weight times e-value.
    pub(super) fn weighted(&self, ln_e: f64, rank: usize) -> f64 {
        ln_e - (rank as f64 * self.harmonic).ln()
    }

    /// Judges all weighted e-values anew.
    pub(super) fn judge(&mut self, weighted: impl Iterator<Item = f64>, hypotheses: usize) {
        // Below what suffices if all of them were reported, none can be.
        let least = self.needed(hypotheses);
        let mut best: Vec<f64> = weighted.filter(|ln| *ln >= least).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let passing = (1_usize..).zip(&best).filter(|(k, ln)| **ln >= self.needed(*k));
        self.reported = passing.last().map_or(0, |(k, _)| k);
    }

    /// True when a hypothesis with this weighted e-value is reported.
    pub(super) fn reports(&self, weighted: f64) -> bool {
        self.reported > 0 && weighted >= self.needed(self.reported)
    }

    /// Logarithm of the e-value from which on one more hypothesis would be reported.
    pub(super) fn ln_e_needed(&self, rank: usize) -> f64 {
        self.needed(self.reported.saturating_add(1)) + (rank as f64 * self.harmonic).ln()
    }

    fn needed(&self, reported: usize) -> f64 {
        -(self.level * reported.max(1) as f64).ln()
    }
}
