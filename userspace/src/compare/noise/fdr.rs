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

/// What is reported now. A hypothesis counts by its *order*: with how many reported ones it would be one of them. So the
/// cost of one that changed follows the number of those that could be reported at all, not that of all.
#[derive(Debug)]
pub(super) struct Discoveries {
    level: f64,
    prices: Prices,
    /// How many hypotheses are of each order, from 1.
    orders: Vec<u32>,
    /// Of any order.
    eligible: usize,
    /// How many are reported now.
    reported: usize,
}

/// What ranks cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    harmonic: f64,
}

/// With how many reported hypotheses one would be among them; none where it never would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order(Option<usize>);

// === impl Prices ===

impl Prices {
    /// Minus the logarithm of the weight of a rank.
    pub(super) fn ln_price(self, rank: usize) -> f64 {
        (rank as f64 * self.harmonic).ln()
    }
}

// === impl Discoveries ===

impl Discoveries {
    /// For up to `ranks` hypotheses.
    pub(super) fn new(level: f64, ranks: usize) -> Self {
        let harmonic: f64 = (1..=ranks).map(|rank| 1.0 / rank as f64).sum();
        Self {
            level,
            prices: Prices { harmonic: harmonic.max(1.0) },
            orders: vec![0; ranks],
            eligible: 0,
            reported: 0,
        }
    }

    /// What ranks cost.
    pub(super) fn prices(&self) -> Prices {
        self.prices
    }

    /// Takes note that a hypothesis has a new weighted e-value; `order` is what this gave for the last one.
    pub(super) fn change(&mut self, order: Order, weighted: f64) -> Order {
        let new = self.order(weighted);
        if new != order {
            if let Some(count) = self.count(order) {
                *count = count.saturating_sub(1);
                self.eligible = self.eligible.saturating_sub(1);
            }
            if let Some(count) = self.count(new) {
                *count = count.saturating_add(1);
                self.eligible = self.eligible.saturating_add(1);
            }
        }
        new
    }

    /// Finds out how many are reported, and gives that number.
    pub(super) fn judge(&mut self) -> usize {
        // The largest k for which k hypotheses are of order k or less; there are no more than the eligible ones.
        let (mut with, mut reported) = (0_usize, 0);
        for (k, count) in (1_usize..).zip(&self.orders).take(self.eligible) {
            with = with.saturating_add(*count as usize);
            if with >= k {
                reported = k;
            }
        }
        self.reported = reported;
        reported
    }

    fn count(&mut self, Order(order): Order) -> Option<&mut u32> {
        self.orders.get_mut(order?.checked_sub(1)?)
    }

    /// The smallest number of reported hypotheses with which this e-value suffices.
    fn order(&self, weighted: f64) -> Order {
        let ranks = self.orders.len();
        if ranks == 0 || weighted.is_nan() || weighted < self.needed(ranks) {
            return Order(None);
        }
        let close = ((-weighted).exp() / self.level).ceil();
        // The two ways to say it may round differently, by one.
        let mut order = (close as usize).clamp(1, ranks);
        while order > 1 && weighted >= self.needed(order.saturating_sub(1)) {
            order = order.saturating_sub(1);
        }
        while order < ranks && weighted < self.needed(order) {
            order = order.saturating_add(1);
        }
        Order(Some(order))
    }

    /// How many are reported.
    pub(super) fn reported(&self) -> usize {
        self.reported
    }

    /// True when a hypothesis with this weighted e-value is reported.
    pub(super) fn reports(&self, weighted: f64) -> bool {
        self.reported > 0 && weighted >= self.needed(self.reported)
    }

    /// Logarithm of the e-value from which on one more hypothesis would be reported.
    pub(super) fn ln_e_needed(&self, rank: usize) -> f64 {
        self.needed(self.reported.saturating_add(1)) + self.prices.ln_price(rank)
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
        let ranked = |rank: usize, e: &f64| e.ln() - Discoveries::new(0.1, 4).prices().ln_price(rank);
        let weighted: Vec<f64> = (1..).zip(e_values).map(|(rank, e)| ranked(rank, e)).collect();
        for weighted in &weighted {
            discoveries.change(Order::default(), *weighted);
        }
        discoveries.judge();
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
        discoveries.change(Order::default(), 4.0);
        discoveries.judge();
        assert!((before - discoveries.ln_e_needed(2) - 2_f64.ln()).abs() < 1e-9);
    }

    /// The procedure as it is written down: the k best, for the largest k that all of them suffice for.
    fn reported_of(weighted: &[f64], level: f64) -> usize {
        let mut best = weighted.to_vec();
        best.sort_by(|a, b| b.total_cmp(a));
        let passing = (1_usize..).zip(&best).filter(|(k, ln)| **ln >= -(level * *k as f64).ln());
        passing.last().map_or(0, |(k, _)| k)
    }

    proptest::proptest! {
        #[test]
        fn one_change_at_a_time_gives_what_judging_all_anew_gives(
            changes in proptest::collection::vec((0..12_usize, -6.0..6.0_f64), 1..200)
        ) {
            let mut discoveries = Discoveries::new(0.05, 12);
            let (mut weighted, mut orders) = ([f64::NEG_INFINITY; 12], [Order::default(); 12]);
            for (at, value) in changes {
                let (Some(weight), Some(order)) = (weighted.get_mut(at), orders.get_mut(at)) else { continue };
                *weight = value;
                *order = discoveries.change(*order, value);
                proptest::prop_assert_eq!(discoveries.judge(), reported_of(&weighted, 0.05));
            }
        }
    }
}
