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

    /// Minus the logarithm of the weight of a rank.
    pub(super) fn ln_price(&self, rank: usize) -> f64 {
        (rank as f64 * self.harmonic).ln()
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
        self.needed(self.reported.saturating_add(1)) + self.ln_price(rank)
    }

    fn needed(&self, reported: usize) -> f64 {
        -(self.level * reported.max(1) as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `reported` of the hypotheses with these e-values, by rank.
    #[track_caller]
    fn check(e_values: &[f64], reported: &[bool]) {
        let mut discoveries = Discoveries::new(0.1, 4);
        let ranked = |rank: usize, e: &f64| e.ln() - Discoveries::new(0.1, 4).ln_price(rank);
        let weighted: Vec<f64> = (1..).zip(e_values).map(|(rank, e)| ranked(rank, e)).collect();
        discoveries.judge(weighted.iter().copied(), weighted.len());
        let judged: Vec<bool> = weighted.iter().map(|weighted| discoveries.reports(*weighted)).collect();
        assert_eq!(judged, reported, "{e_values:?}");
    }

    #[test]
    fn the_more_is_reported_the_less_each_must_show() {
        // H = 1 + 1/2 + 1/3 + 1/4 = 25/12: alone, rank j needs 10 j H, two need half of it.
        check(&[], &[]);
        check(&[20.0, 1.0], &[false, false]);
        check(&[21.0, 1.0], &[true, false]);
        check(&[11.0, 22.0], &[true, true]);
        check(&[11.0, 20.0], &[false, false]);
        check(&[1.0, 1.0, 1.0, 84.0], &[false, false, false, true]);
        check(&[1.0, 1.0, 1.0, 83.0], &[false; 4]);
    }

    #[test]
    fn what_is_needed_for_one_more_falls_with_what_is_reported() {
        let mut discoveries = Discoveries::new(0.1, 4);
        let before = discoveries.ln_e_needed(2);
        discoveries.judge([4.0].into_iter(), 1);
        assert!((before - discoveries.ln_e_needed(2) - 2_f64.ln()).abs() < 1e-9);
    }
}
