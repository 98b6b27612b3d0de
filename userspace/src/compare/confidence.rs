//! Bounds of rates and of quantiles that hold at every moment of looking.
//!
//! Knows no latency and no path. Nothing is approximated by a normal distribution.
//!
//! Both kinds invert one test martingale: for independent trials with chance p, the likelihood mixed over a
//! Beta(½, ½) prior, divided by the likelihood at p, is a martingale that begins at 1. It ever reaches 1/α with a
//! chance of at most α (J. Ville, "Étude critique de la notion de collectif", 1939). What p, or what rank, it rules
//! out at that level stays ruled out rightly, however often one looks (H. Robbins, "Statistical methods related to the
//! law of the iterated logarithm", 1970; S. R. Howard and A. Ramdas, "Sequential estimation of quantiles with
//! applications to A/B testing and best-arm identification", 2022).

/// Halvings of the range in which a bound is looked for: more would not change a double.
const HALVINGS: u32 = 52;

/// Lower and upper bound of the chance behind `count` of `of` independent trials; 0 and 1 without any.
pub(super) fn rate_bounds(count: u64, of: u64, confidence: f64) -> (f64, f64) {
    let (s, n) = (count.min(of) as f64, of as f64);
    if of == 0 {
        return (0.0, 1.0);
    }
    let (mixed, limit) = (ln_mixed(s, n), -(1.0 - confidence).ln());
    let is_ruled_out = |p: f64| mixed - ln_likelihood(s, n, p) >= limit;
    let edge = |outside: f64| {
        if !is_ruled_out(outside) {
            return outside;
        }
        let (mut outside, mut inside) = (outside, s / n);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(outside, inside);
            if is_ruled_out(middle) {
                outside = middle;
            } else {
                inside = middle;
            }
        }
        // The side that is ruled out, so that rounding never makes a bound too bold.
        outside
    };
    (edge(0.0), edge(1.0))
}

/// Ranks, counted from 1, of the values of a sample of `n` between which the quantile lies; none on a side on which the
/// sample is too small for a bound.
pub(super) fn quantile_ranks(quantile: f64, n: u64, confidence: f64) -> (Option<u64>, Option<u64>) {
    let limit = -(1.0 - confidence).ln();
    let total = n as f64;
    let is_ruled_out = |below: u64| {
        let below = below as f64;
        ln_mixed(below, total) - ln_likelihood(below, total, quantile) >= limit
    };
    let middle = ((total * quantile).round() as u64).min(n);
    // Numbers of values below the quantile that are not ruled out form a range around the expected one, since the
    // logarithm of the martingale is convex in that number.
    let least = partition(0, middle, |below| !is_ruled_out(below));
    let most = partition(middle, n, is_ruled_out);
    let low = (least > 0).then_some(least);
    // `most` is the first number above that is ruled out: fewer values than that lie below the quantile.
    let high = (most <= n && is_ruled_out(most)).then_some(most);
    (low, high)
}

/// The first number from `from` to `to` that passes, where all behind it pass too; `to` when none before it does.
fn partition(mut from: u64, mut to: u64, passes: impl Fn(u64) -> bool) -> u64 {
    while from < to {
        let middle = from.midpoint(to);
        if passes(middle) {
            to = middle;
        } else {
            from = middle.saturating_add(1);
        }
    }
    from
}

/// Logarithm of the likelihood of `s` of `n` mixed over chances that are Beta(½, ½).
fn ln_mixed(s: f64, n: f64) -> f64 {
    ln_gamma(s + 0.5) + ln_gamma(n - s + 0.5) - ln_gamma(n + 1.0) - std::f64::consts::PI.ln()
}

fn ln_likelihood(s: f64, n: f64, p: f64) -> f64 {
    // 0 · ln 0 is 0: nothing that was not seen speaks against a chance of 0.
    let part = |count: f64, chance: f64| if count == 0.0 { 0.0 } else { count * chance.ln() };
    part(s, p) + part(n - s, 1.0 - p)
}

/// ln Γ(x) for x > 0, to ten digits: Stirling's series (DLMF 5.11.1) behind a shift to at least 10.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 1.0);
    while x < 10.0 {
        shift *= x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift.ln()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests fail by panicking")]
mod tests {
    use super::super::sim::Uniform;
    use super::*;

    #[test]
    fn gamma_of_known_numbers() {
        for (x, expected) in [
            (0.5, std::f64::consts::PI.sqrt().ln()),
            (1.0, 0.0),
            (5.0, 24_f64.ln()),
            (11.0, 3_628_800_f64.ln()),
        ] {
            assert!((ln_gamma(x) - expected).abs() < 1e-9, "x {x}: {}", ln_gamma(x));
        }
    }

    #[test]
    fn rate_bounds_enclose_and_shrink() {
        assert_eq!(rate_bounds(0, 0, 0.95), (0.0, 1.0));
        let (low, high) = rate_bounds(0, 1_000, 0.95);
        assert!(low == 0.0 && (0.003..0.02).contains(&high), "{high}");
        let widths: Vec<f64> = [10_u64, 100, 10_000]
            .iter()
            .map(|n| {
                let (low, high) = rate_bounds(n / 2, *n, 0.95);
                assert!(low < 0.5 && high > 0.5);
                high - low
            })
            .collect();
        assert!(widths[0] > widths[1] && widths[1] > widths[2] && widths[2] < 0.06, "{widths:?}");
    }

    #[test]
    fn a_rate_is_outside_its_bounds_at_some_look_no_more_often_than_the_level_says() {
        let (runs, mut missed) = (1_000, 0);
        for seed in 0..runs {
            let mut random = Uniform::new(seed);
            let mut count = 0;
            missed += u64::from((1..=400_u64).any(|n| {
                count += u64::from(random.chance(0.1));
                let (low, high) = rate_bounds(count, n, 0.95);
                !(low..=high).contains(&0.1)
            }));
        }
        assert!(missed <= runs / 20, "{missed} of {runs}");
    }

    #[test]
    fn ranks_of_a_small_sample_are_open_towards_the_tail() {
        assert_eq!(quantile_ranks(0.5, 3, 0.99), (None, None));
        assert_eq!(quantile_ranks(0.99, 200, 0.99).1, None);
        let (low, high) = quantile_ranks(0.5, 1_000, 0.99);
        let (low, high) = (low.unwrap(), high.unwrap());
        assert!((430..470).contains(&low) && (530..572).contains(&high), "{low} {high}");
    }
}
