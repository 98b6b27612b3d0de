//! How long both branches took, in the words of a report.
//!
//! Judges nothing: `compare::latency` does, by the policy that the journal holds.

use super::facts::{IntervalReport, LatencyReport, SlowerReport, TailReport};
use super::verdict::VerdictPolicy;
use crate::compare::latency::{
    Interval, LatencyPart, LatencyPoint, LatencySummary, LatencyTally, LatencyVerdict, PointSummary, Slower,
    TailSummary,
};

/// The verdict on a route's latency where the policy wants none.
const NOT_JUDGED: &str = "not_judged";

/// One row of a table of times.
#[derive(Clone, Debug)]
pub(super) struct LatencyRow {
    /// `p50`, `p95` or `p99`.
    pub(super) part: &'static str,
    /// A's.
    pub(super) control_ms: f64,
    /// B's.
    pub(super) candidate_ms: f64,
    /// B/A with its interval; none when there are too few pairs.
    pub(super) ratio: Option<String>,
    /// B − A in milliseconds with its interval; none as above.
    pub(super) extra: Option<String>,
}

/// How long both branches took, as the policy judges it.
pub(super) fn latency(times: &LatencyTally, policy: &VerdictPolicy) -> Option<LatencyReport> {
    times.summary().map(|summary| LatencyReport::new(summary, policy))
}

/// That B is slower, with the measured words.
pub(super) fn slower(route: &str, latency: &LatencyReport) -> Option<String> {
    if !latency.is_slower() {
        return None;
    }
    let SlowerReport { point: _, part: _, ratio, extra_ms: extra, words } = latency.slower.as_ref()?;
    Some(format!(
        "{route} is slower: {words} {:.2} times A's time [{:.2}, {:.2}], {:+.1} ms [{:+.1}, {:+.1}].",
        ratio.median, ratio.low, ratio.high, extra.median, extra.low, extra.high
    ))
}

// === impl LatencyReport ===

impl LatencyReport {
    fn new(summary: LatencySummary, policy: &VerdictPolicy) -> Self {
        let LatencySummary { pairs, warm_up_pairs, last_byte, first_byte: _, verdict, slower } = summary;
        let PointSummary { control_median_us, candidate_median_us, ratio, extra_us, p95, p99 } = last_byte;
        Self {
            pairs,
            control_median_ms: control_median_us / 1000.0,
            candidate_median_ms: candidate_median_us / 1000.0,
            ratio: ratio.map(|interval| IntervalReport::new(interval, 1.0)),
            extra_ms: extra_us.map(|interval| IntervalReport::new(interval, 1000.0)),
            confidence: policy.latency_confidence,
            verdict: if policy.latency_judged { verdict.label() } else { NOT_JUDGED },
            warm_up_pairs,
            slower: slower.map(SlowerReport::new),
            p95: TailReport::new(p95),
            p99: TailReport::new(p99),
        }
    }

    pub(super) fn is_slower(&self) -> bool {
        self.verdict == LatencyVerdict::Slower.label()
    }

    /// The verdict as people read it, with what B is slower at where that is not the median of whole answers.
    pub(super) fn verdict_words(&self) -> String {
        let verdict = self.verdict.replace('_', " ");
        let Some(SlowerReport { point, part, ratio: _, extra_ms: _, words: _ }) =
            self.slower.as_ref().filter(|_| self.is_slower())
        else {
            return verdict;
        };
        let point = if *point == LatencyPoint::FirstByte.label() { " to the first byte" } else { "" };
        let part = if *part == LatencyPart::Median.label() { String::new() } else { format!(" at {part}") };
        format!("{verdict}{part}{point}")
    }

    /// The times as rows of a table: the medians, and those percentiles of which there are intervals.
    pub(super) fn rows(&self) -> Vec<LatencyRow> {
        let median = LatencyRow {
            part: "p50",
            control_ms: self.control_median_ms,
            candidate_ms: self.candidate_median_ms,
            ratio: self.ratio.as_ref().map(IntervalReport::factor),
            extra: self.extra_ms.as_ref().map(IntervalReport::signed),
        };
        let tails = [("p95", &self.p95), ("p99", &self.p99)].into_iter();
        let tails = tails.filter(|(_, tail)| tail.ratio.is_some()).map(|(part, tail)| {
            let TailReport { control_ms, candidate_ms, ratio, extra_ms } = tail;
            LatencyRow {
                part,
                control_ms: *control_ms,
                candidate_ms: *candidate_ms,
                ratio: ratio.as_ref().map(IntervalReport::factor),
                extra: extra_ms.as_ref().map(IntervalReport::signed),
            }
        });
        [median].into_iter().chain(tails).collect()
    }
}

// === impl SlowerReport ===

impl SlowerReport {
    fn new(slower: Slower) -> Self {
        let Slower { point, part, ratio, extra_us } = slower;
        Self {
            point: point.label(),
            part: part.label(),
            ratio: IntervalReport::new(ratio, 1.0),
            extra_ms: IntervalReport::new(extra_us, 1000.0),
            words: match (point, part) {
                (LatencyPoint::LastByte, LatencyPart::Median) => "B takes",
                (LatencyPoint::LastByte, LatencyPart::P95) => "at the 95th percentile B takes",
                (LatencyPoint::LastByte, LatencyPart::P99) => "at the 99th percentile B takes",
                (LatencyPoint::FirstByte, LatencyPart::Median) => "to its first byte B takes",
                (LatencyPoint::FirstByte, LatencyPart::P95) => {
                    "to its first byte at the 95th percentile B takes"
                }
                (LatencyPoint::FirstByte, LatencyPart::P99) => {
                    "to its first byte at the 99th percentile B takes"
                }
            },
        }
    }
}

// === impl TailReport ===

impl TailReport {
    fn new(tail: TailSummary) -> Self {
        let TailSummary { control_us, candidate_us, ratio, extra_us } = tail;
        Self {
            control_ms: control_us / 1000.0,
            candidate_ms: candidate_us / 1000.0,
            ratio: ratio.map(|interval| IntervalReport::new(interval, 1.0)),
            extra_ms: extra_us.map(|interval| IntervalReport::new(interval, 1000.0)),
        }
    }
}

// === impl IntervalReport ===

impl IntervalReport {
    fn new(interval: Interval, unit: f64) -> Self {
        let Interval { low, median, high } = interval;
        Self { low: low / unit, median: median / unit, high: high / unit }
    }
    /// `1.02 [0.98, 1.07]`
    fn factor(&self) -> String {
        format!("{:.2} [{:.2}, {:.2}]", self.median, self.low, self.high)
    }

    /// `+0.10 [-0.05, +0.31]`
    fn signed(&self) -> String {
        format!("{:+.2} [{:+.2}, {:+.2}]", self.median, self.low, self.high)
    }
}
