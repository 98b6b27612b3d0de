//! How large a share of all exchanges may differ, from those that were compared, however often one looks.
//!
//! Assumes that exchanges differ independently of each other with one probability; repeats of a few requests say less
//! than the numbers here.
//!
//! The bounds are a confidence sequence: they hold for all numbers of comparisons at once, so that a run may look after
//! each one and stop when it likes. With k of n comparisons different, the mixture likelihood ratio
//!
//! M(p) = B(a + k, b + n − k) / B(a, b) / (pᵏ (1 − p)ⁿ⁻ᵏ)
//!
//! is a martingale that begins at 1 when p is the true share, so by Ville's inequality it ever reaches 1/α with
//! probability α at most; the shares that it has not ruled out lie in one interval, because ln M is convex in p.
//! (H. Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical Statistics
//! 41, 1970; S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences", Annals of Statistics 49, 2021.) The mixture over p is nine parts of Beta(½, 1 / share of interest), which
//! makes the bounds narrow where the verdict is decided, and one part of Beta(½, ½), for shares far from there.

/// A share with what is certain about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    /// No smaller than this.
    pub(super) low: f64,
    /// No larger than this.
    pub(super) high: f64,
}

/// How bounds are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateBounds {
    /// Probability that the bounds hold at all numbers of comparisons, above 0 and below 1.
    pub(super) confidence: f64,
    /// The share around which they are to be narrow, above 0.
    pub(super) of_interest: f64,
}

/// Halvings of an interval until no bit of it is left to gain.
const HALVINGS: usize = 60;

// === impl RateBounds ===

impl RateBounds {
    /// The bounds after `hits` of `trials`.
    pub(super) fn of(&self, hits: u64, trials: u64) -> Bounds {
        if trials == 0 {
            return Bounds { low: 0.0, high: 1.0 };
        }
        let observed = hits as f64 / trials as f64;
        let is_inside = |share: f64| self.log_ratio(hits, trials, share) < -(1.0 - self.confidence).ln();
        let edge = |mut inside: f64, mut outside: f64| {
            for _ in 0..HALVINGS {
                let middle = f64::midpoint(inside, outside);
                *(if is_inside(middle) { &mut inside } else { &mut outside }) = middle;
            }
            outside
        };
        Bounds {
            low: if hits == 0 { 0.0 } else { edge(observed, 0.0) },
            high: if hits >= trials { 1.0 } else { edge(observed, 1.0) },
        }
    }

    /// The e-value against "the share is no larger than this": 0 where what was seen does not speak against it.
    pub(super) fn evalue_above(&self, hits: u64, trials: u64, share: f64) -> f64 {
        if trials == 0 || hits as f64 <= share * trials as f64 {
            return 0.0;
        }
        // M is smallest at the observed share, so that no smaller share has less evidence against it.
        self.log_ratio(hits, trials, share).exp()
    }

    /// The least number of trials with no further hit after which the upper bound is at most `share`.
    pub(super) fn trials_for(&self, hits: u64, share: f64) -> u64 {
        let is_enough = |trials: &u64| self.of(hits.min(*trials), *trials).high <= share;
        let Some(enough) = (0..63).map(|power| 1_u64 << power).find(is_enough) else { return u64::MAX };
        let (mut few, mut enough) = (enough / 2, enough);
        while few + 1 < enough {
            let middle = u64::midpoint(few, enough);
            *(if is_enough(&middle) { &mut enough } else { &mut few }) = middle;
        }
        enough
    }

    /// The parts of the mixture: weight, a, b.
    fn parts(&self) -> [(f64, f64, f64); 2] {
        [(0.9, 0.5, 1.0 / self.of_interest), (0.1, 0.5, 0.5)]
    }

    /// ln M(share).
    fn log_ratio(&self, hits: u64, trials: u64, share: f64) -> f64 {
        let (hits, misses) = (hits as f64, trials.saturating_sub(hits) as f64);
        let power = |times: f64, base_ln: f64| if times == 0.0 { 0.0 } else { times * base_ln };
        let likelihood = power(hits, share.ln()) + power(misses, (-share).ln_1p());
        let parts = self
            .parts()
            .map(|(weight, a, b)| weight.ln() + log_beta(a + hits, b + misses) - log_beta(a, b) - likelihood);
        // The sum of their exponentials, which may be out of range themselves.
        let largest = parts.into_iter().fold(f64::NEG_INFINITY, f64::max);
        largest + parts.map(|part| (part - largest).exp()).iter().sum::<f64>().ln()
    }
}

fn log_beta(a: f64, b: f64) -> f64 {
    log_gamma(a) + log_gamma(b) - log_gamma(a + b)
}

/// ln Γ(x) for x > 0 by Stirling's series (NIST Digital Library of Mathematical Functions, 5.11.1), after
/// Γ(x + 1) = x Γ(x) has made x large enough for four terms of it.
fn log_gamma(x: f64) -> f64 {
    let (mut x, mut correction) = (x, 0.0);
    while x < 16.0 {
        correction += x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series =
        (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - correction
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: RateBounds = RateBounds { confidence: 0.95, of_interest: 0.01 };

    #[track_caller]
    fn check(hits: u64, trials: u64, low: f64, high: f64) {
        let bounds = BOUNDS.of(hits, trials);
        let near = |got: f64, wanted: f64| (got - wanted).abs() < 0.0006;
        assert!(near(bounds.low, low) && near(bounds.high, high), "{hits} of {trials}: {bounds:?}");
    }

    #[test]
    fn bounds_close_as_comparisons_come_in() {
        check(0, 0, 0.0, 1.0);
        check(0, 20, 0.0, 0.1469);
        check(0, 387, 0.0, 0.0100);
        check(1, 1, 0.0027, 1.0);
        check(10, 1_000, 0.0031, 0.0232);
        check(1_000, 1_000, 0.9907, 1.0);
    }

    #[test]
    fn says_how_many_more_are_needed() {
        let needed = BOUNDS.trials_for(0, 0.01);
        assert_eq!(needed, 387);
        assert!(BOUNDS.of(0, needed).high <= 0.01 && BOUNDS.of(0, needed - 1).high > 0.01);
        assert!(BOUNDS.trials_for(3, 0.01) > needed);
    }

    #[test]
    fn the_gamma_function_has_its_known_values() {
        for (x, factorial) in [(1.0, 1.0), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((log_gamma(x) - f64::ln(factorial)).abs() < 1e-12, "{x}");
        }
        assert!((log_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
    }

    /// Numbers that look random and are the same each time (G. Marsaglia, "Xorshift RNGs", 2003).
    struct Random(u64);

    impl Random {
        fn is_below(&mut self, share: f64) -> bool {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64 <= share
        }
    }

    /// M(p) made step by step, as the product of what was foretold of each comparison over what p says of it.
    struct Steps {
        parts: [(f64, f64, f64); 2],
        hits: f64,
        trials: f64,
    }

    impl Steps {
        fn new() -> Self {
            Self { parts: BOUNDS.parts(), hits: 0.0, trials: 0.0 }
        }

        fn take(&mut self, hit: bool, share: f64) -> f64 {
            for (ratio, a, b) in &mut self.parts {
                let foretold = (*a + self.hits) / (*a + *b + self.trials);
                *ratio *= if hit { foretold / share } else { (1.0 - foretold) / (1.0 - share) };
            }
            self.hits += f64::from(u8::from(hit));
            self.trials += 1.0;
            self.parts.iter().map(|(ratio, _, _)| ratio).sum()
        }
    }

    /// The share of runs in which a look at any time rules out the truth; 2,000 runs, a look after each comparison.
    fn wrong_share(share: f64) -> f64 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let wrong = (0..2_000).filter(|_| {
            let mut steps = Steps::new();
            (0..2_000).any(|_| steps.take(random.is_below(share), share) >= 20.0)
        });
        wrong.count() as f64 / 2_000.0
    }

    #[test]
    fn looking_after_each_comparison_keeps_the_level() {
        for share in [0.001, 0.01, 0.05, 0.5] {
            let wrong = wrong_share(share);
            // Three standard errors of a share of 0.05 in 2,000 runs above the level itself.
            assert!(wrong <= 0.05 + 0.0147, "share {share}: wrong in {wrong}");
        }
    }

    proptest! {
        /// The closed form is the product that the simulation above makes step by step.
        #[test]
        fn the_ratio_is_the_product_of_its_steps(steps in proptest::collection::vec(any::<bool>(), 1..200), share in 0.001_f64..0.999) {
            let mut by_step = Steps::new();
            let ratio = steps.iter().map(|hit| by_step.take(*hit, share)).last().unwrap().ln();
            let hits = steps.iter().filter(|hit| **hit).count() as u64;
            let closed = BOUNDS.log_ratio(hits, steps.len() as u64, share);
            prop_assert!((closed - ratio).abs() < 1e-8 * (1.0 + ratio.abs()), "{closed} {ratio}");
        }

        #[test]
        fn the_observed_share_lies_within(trials in 1..100_000_u64, part in 0.0..=1.0) {
            let hits = (trials as f64 * part) as u64;
            let Bounds { low, high } = BOUNDS.of(hits, trials);
            let observed = hits as f64 / trials as f64;
            prop_assert!((0.0..=observed).contains(&low) && (observed..=1.0).contains(&high));
        }
    }
}
