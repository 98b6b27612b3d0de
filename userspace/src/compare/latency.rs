//! Says whether B is slower than A on the same requests, with a confidence interval.
//!
//! Makes no assumption on how latencies are distributed. Holds for one look at the end of a run: an interval
//! that is looked at again and again until it says something covers less than its level promises.
//!
//! Each pair gives a ratio B/A and a difference B − A. For the median of each, the interval runs from the
//! k-th smallest to the k-th largest value, where k is the largest rank with P(Bin(n, ½) < k) ≤ (1 − level)/2:
//! the number of values below the true median is binomial whatever the distribution, as long as pairs are
//! independent (W. J. Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2; G. J. Hahn and
//! W. Q. Meeker, "Statistical Intervals", 1991, section 5.2). Coverage is at least the level. B is called slower
//! only when the lower ends of both intervals clear their margins, so that neither a doubled 40 µs nor 5 ms on
//! top of 3 s is an alarm.

/// When B counts as slower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyPolicy {
    /// The median of B/A that is still allowed. Default 1.25.
    pub ratio_max: f64,
    /// The median of B − A in milliseconds that is still allowed. Default 5.
    pub extra_ms_max: f64,
    /// Pairs below which nothing is said. Default 30.
    pub pairs_min: usize,
    /// Level of both intervals, above 0 and below 1. Default 0.99.
    pub confidence: f64,
}

/// Time from the last request byte to the last response byte on both branches, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyPair {
    /// A's, in microseconds.
    pub control_us: u64,
    /// B's, in microseconds.
    pub candidate_us: u64,
}

/// A median with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// The median of the sample.
    pub median: f64,
    /// Upper end.
    pub high: f64,
}

/// What the pairs of one route say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencySummary {
    /// Number of pairs.
    pub pairs: usize,
    /// Median of A in microseconds.
    pub control_median_us: f64,
    /// Median of B in microseconds.
    pub candidate_median_us: f64,
    /// B/A over pairs; absent when there are too few pairs for any interval at this level.
    pub ratio: Option<Interval>,
    /// B − A over pairs in microseconds; absent as above.
    pub extra_us: Option<Interval>,
    /// The conclusion.
    pub verdict: LatencyVerdict,
}

/// Whether B is slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyVerdict {
    /// Both intervals lie above their margins.
    Slower,
    /// At least one does not.
    NotSlower,
    /// Fewer pairs than the policy asks for.
    NotEnoughData,
}

// === impl LatencyPolicy ===

impl Default for LatencyPolicy {
    fn default() -> Self {
        Self { ratio_max: 1.25, extra_ms_max: 5.0, pairs_min: 30, confidence: 0.99 }
    }
}

// === impl LatencyVerdict ===

impl LatencyVerdict {
    /// The conclusion as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            LatencyVerdict::Slower => "slower",
            LatencyVerdict::NotSlower => "not_slower",
            LatencyVerdict::NotEnoughData => "not_enough_data",
        }
    }
}

// === impl LatencySummary ===

impl LatencySummary {
    /// Sums the pairs of one route up; none when there are no pairs.
    pub fn new(pairs: &[LatencyPair], policy: &LatencyPolicy) -> Option<Self> {
        let control = sorted(pairs.iter().map(|pair| pair.control_us as f64));
        let candidate = sorted(pairs.iter().map(|pair| pair.candidate_us as f64));
        // Clocks have steps: an answer within the same microsecond counts as one microsecond.
        let whole = |us: u64| us.max(1) as f64;
        let ratio = sorted(pairs.iter().map(|pair| whole(pair.candidate_us) / whole(pair.control_us)));
        let extra = sorted(pairs.iter().map(|pair| pair.candidate_us as f64 - pair.control_us as f64));
        let (ratio, extra_us) =
            (median_interval(&ratio, policy.confidence), median_interval(&extra, policy.confidence));
        let verdict = match (ratio, extra_us) {
            (Some(ratio), Some(extra)) if pairs.len() >= policy.pairs_min => {
                let slower = ratio.low > policy.ratio_max && extra.low > policy.extra_ms_max * 1000.0;
                if slower { LatencyVerdict::Slower } else { LatencyVerdict::NotSlower }
            }
            (Some(_) | None, _) => LatencyVerdict::NotEnoughData,
        };
        Some(Self {
            pairs: pairs.len(),
            control_median_us: median(&control)?,
            candidate_median_us: median(&candidate)?,
            ratio,
            extra_us,
            verdict,
        })
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// The interval for the median of sorted values; none when even the extremes do not reach the level.
pub fn median_interval(sorted: &[f64], confidence: f64) -> Option<Interval> {
    let rank = interval_rank(sorted.len(), confidence)?;
    Some(Interval {
        low: *sorted.get(rank.checked_sub(1)?)?,
        median: median(sorted)?,
        high: *sorted.get(sorted.len().checked_sub(rank)?)?,
    })
}

/// The largest k with P(Bin(n, ½) < k) ≤ (1 − confidence)/2; none when there is none from 1 on.
fn interval_rank(n: usize, confidence: f64) -> Option<usize> {
    let tail = (1.0 - confidence) / 2.0;
    // In logarithms, since 2⁻ⁿ is zero as a float from n = 1075 on.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = log_term.exp();
    let mut rank = 0_usize;
    while sum <= tail && rank < n {
        rank = rank.saturating_add(1);
        log_term += (n.saturating_sub(rank).saturating_add(1) as f64 / rank as f64).ln();
        sum += log_term.exp();
    }
    (rank > 0).then_some(rank)
}
