//! Says whether B is slower than A on the same requests, with intervals that hold however often one looks.
//!
//! Makes no assumption on how latencies are distributed, and judges no single request.
//!
//! For each route, and for the first and the last byte of an answer, three things are compared: the median of the
//! paired ratio B/A together with the median of the paired difference B − A, and the 95th and 99th percentile of B
//! against those of A. Each quantile has an interval of order statistics that is valid at every moment at once, as
//! `compare::confidence` says. B is called slower at one of them only when the lower ends of both the ratio and the
//! difference clear their margins, so that neither a doubled 40 µs nor 5 ms on top of 3 s is an alarm.
//!
//! The allowance of the level is divided evenly over these six, and for a percentile over A's and B's interval: a route
//! on which B is within the margins is ever called slower with a chance of at most one minus the level. This takes pairs
//! to be independent of each other and their distribution to stay the same; pairs that wait in one queue are not
//! independent, and their intervals are too narrow. The first pairs of a route are left out, since caches are cold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::buckets::Buckets;
use super::confidence::quantile_ranks;
use crate::model::Timestamp;

/// When B counts as slower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencyPolicy {
    /// The ratio B/A that is still allowed. Default 1.25.
    pub ratio_max: f64,
    /// The difference B − A in milliseconds that is still allowed. Default 5.
    pub extra_ms_max: f64,
    /// The ratio that is still allowed at the 95th and the 99th percentile; the difference is the same. Default 1.5.
    pub tail_ratio_max: f64,
    /// Pairs below which nothing is said; those of the warm-up do not count. Default 30.
    pub pairs_min: usize,
    /// Level of all intervals of a route together, above 0 and below 1. Default 0.99.
    pub confidence: f64,
    /// First pairs of a route that are left out. Default 10.
    pub warm_up_pairs: usize,
    /// Time from the first pair of a route during which pairs are left out. Default none.
    pub warm_up: Duration,
}

/// How long both branches took for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyPair {
    /// A's, in microseconds.
    pub control_us: u64,
    /// B's, in microseconds.
    pub candidate_us: u64,
}

/// Both times of one request, from its last byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencySample {
    /// To the first byte of the answer, where both are known.
    pub first_byte: Option<LatencyPair>,
    /// To its last byte.
    pub last_byte: LatencyPair,
}

/// The pairs of one route, in bounded memory: usually some tens of kilobytes, at most 3 MB.
#[derive(Clone, Debug)]
pub struct LatencyTally {
    policy: LatencyPolicy,
    began: Option<Timestamp>,
    warm_up_pairs: usize,
    is_warm: bool,
    first_byte: PointTally,
    last_byte: PointTally,
}

#[derive(Clone, Debug, Default)]
struct PointTally {
    control: Buckets,
    candidate: Buckets,
    /// B/A, times [`RATIO_SCALE`].
    ratio: Buckets,
    extra: Buckets,
}

/// The pairs of one route as one worker saw them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyShare {
    /// Pairs of its warm-up.
    pub warm_up_pairs: usize,
    /// Whether the rest tells of other pairs than those.
    pub is_warm: bool,
    /// To the first byte.
    pub first_byte: PointShare,
    /// To the last byte.
    pub last_byte: PointShare,
}

/// One point of the answer: for each bucket how many numbers, the least and the largest one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointShare {
    /// A's times in microseconds.
    pub control: Vec<(u64, i64, i64)>,
    /// B's times in microseconds.
    pub candidate: Vec<(u64, i64, i64)>,
    /// B/A in millionths.
    pub ratio: Vec<(u64, i64, i64)>,
    /// B − A in microseconds.
    pub extra: Vec<(u64, i64, i64)>,
}

/// The middle with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// The value of the sample.
    pub median: f64,
    /// Upper end.
    pub high: f64,
}

/// What the pairs of one route say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencySummary {
    /// Number of pairs that the rest tells of: without those of the warm-up, or nothing but these.
    pub pairs: usize,
    /// Pairs of the warm-up.
    pub warm_up_pairs: usize,
    /// To the last byte of the answer.
    pub last_byte: PointSummary,
    /// To the first byte; none when it was never known.
    pub first_byte: Option<PointSummary>,
    /// The conclusion.
    pub verdict: LatencyVerdict,
    /// What B is slower at, most ordinary first: where, and by how much.
    pub slower: Option<Slower>,
}

/// One point of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointSummary {
    /// Median of A in microseconds.
    pub control_median_us: f64,
    /// Median of B in microseconds.
    pub candidate_median_us: f64,
    /// Median of B/A over pairs; absent when there are too few pairs for any interval at this level.
    pub ratio: Option<Interval>,
    /// Median of B − A over pairs in microseconds; absent as above.
    pub extra_us: Option<Interval>,
    /// The 95th percentile.
    pub p95: TailSummary,
    /// The 99th percentile.
    pub p99: TailSummary,
}

/// One percentile of B against the same one of A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailSummary {
    /// A's in microseconds.
    pub control_us: f64,
    /// B's in microseconds.
    pub candidate_us: f64,
    /// B's over A's; absent when there are too few pairs: about 200 for the 95th and 1,100 for the 99th percentile at a
    /// level of 0.99.
    pub ratio: Option<Interval>,
    /// B's minus A's in microseconds; absent as above.
    pub extra_us: Option<Interval>,
}

/// Where B is slower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slower {
    /// Which byte of the answer.
    pub point: LatencyPoint,
    /// What of its times.
    pub part: LatencyPart,
    /// B/A.
    pub ratio: Interval,
    /// B − A in microseconds.
    pub extra_us: Interval,
}

/// A point of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyPoint {
    /// Its first byte.
    FirstByte,
    /// Its last byte.
    LastByte,
}

/// What of many times is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyPart {
    /// The median over pairs.
    Median,
    /// The 95th percentile.
    P95,
    /// The 99th percentile.
    P99,
}

/// Whether B is slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyVerdict {
    /// Both intervals of some part lie above their margins.
    Slower,
    /// Of no part do both.
    NotSlower,
    /// Fewer pairs than the policy asks for.
    NotEnoughData,
}

/// Over these the allowance of the level is divided: two points, three parts.
const CLAIMS: f64 = 6.0;

/// What ratios are kept in: millionths, so that buckets are fine around 1 and below.
const RATIO_SCALE: f64 = 1e6;

// === impl LatencyPolicy ===

impl Default for LatencyPolicy {
    fn default() -> Self {
        Self {
            ratio_max: 1.25,
            extra_ms_max: 5.0,
            tail_ratio_max: 1.5,
            pairs_min: 30,
            confidence: 0.99,
            warm_up_pairs: 10,
            warm_up: Duration::ZERO,
        }
    }
}

// === impl LatencyPair ===

impl LatencyPair {
    /// Of times as they were measured.
    pub fn of(control: Duration, candidate: Duration) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { control_us: micros(control), candidate_us: micros(candidate) }
    }
}

// === impl LatencyTally ===

impl LatencyTally {
    /// An empty one, for one route.
    pub fn new(policy: LatencyPolicy) -> Self {
        Self {
            policy,
            began: None,
            warm_up_pairs: 0,
            is_warm: false,
            first_byte: PointTally::default(),
            last_byte: PointTally::default(),
        }
    }

    /// Takes in what one request took, compared at `at`.
    pub fn observe(&mut self, at: Timestamp, sample: &LatencySample) {
        let began = *self.began.get_or_insert(at);
        if !self.is_warm {
            self.is_warm =
                self.warm_up_pairs >= self.policy.warm_up_pairs && at.since(began) >= self.policy.warm_up;
            if self.is_warm {
                // Until now they were all there was to show.
                (self.first_byte, self.last_byte) = (PointTally::default(), PointTally::default());
            } else {
                self.warm_up_pairs = self.warm_up_pairs.saturating_add(1);
            }
        }
        // An answer that began before its request had ended took no time that could be compared.
        if let Some(pair) = sample.first_byte.as_ref().filter(|pair| pair.control_us > 0) {
            self.first_byte.add(pair);
        }
        self.last_byte.add(&sample.last_byte);
    }

    /// What this tally can tell others.
    pub fn share(&self) -> LatencyShare {
        let Self { policy: _, began: _, warm_up_pairs, is_warm, first_byte, last_byte } = self;
        LatencyShare {
            warm_up_pairs: *warm_up_pairs,
            is_warm: *is_warm,
            first_byte: first_byte.share(),
            last_byte: last_byte.share(),
        }
    }

    /// The pairs that several workers saw. Each has left out the first of its own, since its connections were cold; of
    /// those that saw nothing else, pairs count only where all are of that kind.
    pub fn merged<'s>(policy: LatencyPolicy, shares: impl IntoIterator<Item = &'s LatencyShare>) -> Self {
        let mut merged = Self::new(policy);
        for share in shares {
            let LatencyShare { warm_up_pairs, is_warm, first_byte, last_byte } = share;
            merged.warm_up_pairs = merged.warm_up_pairs.saturating_add(*warm_up_pairs);
            if *is_warm && !merged.is_warm {
                (merged.first_byte, merged.last_byte) = (PointTally::default(), PointTally::default());
            }
            if *is_warm || !merged.is_warm {
                merged.first_byte.merge(first_byte);
                merged.last_byte.merge(last_byte);
            }
            merged.is_warm |= is_warm;
        }
        merged
    }

    /// What the pairs say so far; none when there are none. Those of the warm-up are shown until others come, and
    /// never judged.
    pub fn summary(&self) -> Option<LatencySummary> {
        self.summary_at(self.policy.confidence)
    }

    /// True when B is slower than allowed at this level instead of the policy's.
    pub fn is_slower_at(&self, confidence: f64) -> bool {
        self.summary_at(confidence).is_some_and(|summary| summary.verdict == LatencyVerdict::Slower)
    }

    fn summary_at(&self, confidence: f64) -> Option<LatencySummary> {
        let last_byte = self.last_byte.summary(confidence)?;
        let first_byte = self.first_byte.summary(confidence);
        let pairs = usize::try_from(self.last_byte.ratio.len()).unwrap_or(usize::MAX);
        let is_enough =
            pairs >= self.policy.pairs_min && last_byte.ratio.is_some() && last_byte.extra_us.is_some();
        let slower = is_enough.then(|| {
            let last = last_byte.slower(LatencyPoint::LastByte, &self.policy);
            last.or_else(|| first_byte?.slower(LatencyPoint::FirstByte, &self.policy))
        });
        let (verdict, slower) = match slower {
            None => (LatencyVerdict::NotEnoughData, None),
            Some(None) => (LatencyVerdict::NotSlower, None),
            Some(Some(slower)) => (LatencyVerdict::Slower, Some(slower)),
        };
        Some(LatencySummary {
            pairs,
            warm_up_pairs: self.warm_up_pairs,
            last_byte,
            first_byte,
            verdict,
            slower,
        })
    }
}

// === impl PointTally ===

impl PointTally {
    fn add(&mut self, pair: &LatencyPair) {
        let (control, candidate) = (pair.control_us as f64, pair.candidate_us as f64);
        self.control.add(control);
        self.candidate.add(candidate);
        // Clocks have steps: an answer within the same microsecond counts as one microsecond.
        self.ratio.add(candidate.max(1.0) / control.max(1.0) * RATIO_SCALE);
        self.extra.add(candidate - control);
    }

    fn share(&self) -> PointShare {
        let Self { control, candidate, ratio, extra } = self;
        PointShare {
            control: control.share(),
            candidate: candidate.share(),
            ratio: ratio.share(),
            extra: extra.share(),
        }
    }

    fn merge(&mut self, share: &PointShare) {
        let PointShare { control, candidate, ratio, extra } = share;
        self.control.merge(&Buckets::of_share(control));
        self.candidate.merge(&Buckets::of_share(candidate));
        self.ratio.merge(&Buckets::of_share(ratio));
        self.extra.merge(&Buckets::of_share(extra));
    }

    fn summary(&self, confidence: f64) -> Option<PointSummary> {
        let each = 1.0 - (1.0 - confidence) / CLAIMS;
        Some(PointSummary {
            control_median_us: self.control.quantile(0.5)?,
            candidate_median_us: self.candidate.quantile(0.5)?,
            ratio: interval(&self.ratio, 0.5, each).map(|interval| interval.scaled(RATIO_SCALE)),
            extra_us: interval(&self.extra, 0.5, each),
            p95: self.tail(0.95, confidence)?,
            p99: self.tail(0.99, confidence)?,
        })
    }

    fn tail(&self, quantile: f64, confidence: f64) -> Option<TailSummary> {
        let each = 1.0 - (1.0 - confidence) / CLAIMS / 2.0;
        let (control_us, candidate_us) =
            (self.control.quantile(quantile)?, self.candidate.quantile(quantile)?);
        let both = interval(&self.control, quantile, each).zip(interval(&self.candidate, quantile, each));
        let over = |a: f64, b: f64| b.max(1.0) / a.max(1.0);
        Some(TailSummary {
            control_us,
            candidate_us,
            ratio: both.map(|(a, b)| Interval {
                low: over(a.high, b.low),
                median: over(a.median, b.median),
                high: over(a.low, b.high),
            }),
            extra_us: both.map(|(a, b)| Interval {
                low: b.low - a.high,
                median: b.median - a.median,
                high: b.high - a.low,
            }),
        })
    }
}

/// The interval of a quantile; none when the sample is too small for it.
fn interval(sample: &Buckets, quantile: f64, confidence: f64) -> Option<Interval> {
    let (low, high) = quantile_ranks(quantile, sample.len(), confidence);
    Some(Interval {
        low: sample.at_rank(low?)?.0,
        median: sample.quantile(quantile)?,
        high: sample.at_rank(high?)?.1,
    })
}

// === impl Interval ===

impl Interval {
    fn scaled(self, unit: f64) -> Self {
        Self { low: self.low / unit, median: self.median / unit, high: self.high / unit }
    }
}

// === impl PointSummary ===

impl PointSummary {
    fn slower(&self, point: LatencyPoint, policy: &LatencyPolicy) -> Option<Slower> {
        let Self { control_median_us: _, candidate_median_us: _, ratio, extra_us, p95, p99 } = *self;
        let parts = [
            (LatencyPart::Median, ratio, extra_us, policy.ratio_max),
            (LatencyPart::P95, p95.ratio, p95.extra_us, policy.tail_ratio_max),
            (LatencyPart::P99, p99.ratio, p99.extra_us, policy.tail_ratio_max),
        ];
        parts.into_iter().find_map(|(part, ratio, extra_us, ratio_max)| {
            let (ratio, extra_us) = (ratio?, extra_us?);
            let clears = ratio.low > ratio_max && extra_us.low > policy.extra_ms_max * 1000.0;
            clears.then_some(Slower { point, part, ratio, extra_us })
        })
    }
}

// === impl LatencyPoint ===

impl LatencyPoint {
    /// The point as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            LatencyPoint::FirstByte => "first_byte",
            LatencyPoint::LastByte => "last_byte",
        }
    }
}

// === impl LatencyPart ===

impl LatencyPart {
    /// The part as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            LatencyPart::Median => "median",
            LatencyPart::P95 => "p95",
            LatencyPart::P99 => "p99",
        }
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

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests fail by panicking")]
mod tests;
