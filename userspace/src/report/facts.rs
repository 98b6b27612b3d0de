//! What a report says, as plain data.
//!
//! Formats nothing: the sibling modules do, all from these structs. The JSON form of a report is exactly these
//! structs; fields are added to it, never renamed or removed, without a new [`Report::SCHEMA`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::curl::{Curl, curl};
use super::verdict::{Evidence, Verdict, VerdictPolicy};
use super::words::{gloss, gloss_of_reason, time};
use crate::compare::latency::{
    Interval, LatencyPair, LatencyPart, LatencyPoint, LatencySummary, LatencyVerdict, PointSummary, Slower,
};
use crate::journal::{
    CauseRecord, Example, ExperimentRecord, Journal, JournalError, RunId, RunRecord, StoredDifference,
};

/// All that one run showed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`Report::SCHEMA`] of the program that made it.
    pub schema: u32,
    /// The run.
    pub run: RunReport,
    /// Its experiments, in the order of the configuration.
    pub experiments: Vec<ExperimentReport>,
    /// The worst verdict of its experiments.
    pub verdict: Verdict,
}

/// The run that a report is about.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Its number in the journal.
    pub id: i64,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC; null while it runs, or when it was killed.
    pub ended_at: Option<String>,
    /// Seconds between them.
    pub seconds: Option<u64>,
    /// Version of understudy.
    pub version: String,
    /// The configuration in one line.
    pub summary: String,
    /// Captured ports of A.
    pub ports: Vec<u16>,
    /// Comparisons removed for their age; latency is judged without them.
    pub comparisons_removed: u64,
}

/// What one experiment showed.
#[derive(Clone, Debug, Serialize)]
pub struct ExperimentReport {
    /// Its name.
    pub name: String,
    /// B's URL.
    pub candidate: String,
    /// Why it ended before its run; none when it did not.
    pub stopped: Option<String>,
    /// Exchanges that came in: `seen = in_flight + Σ fates`.
    pub seen: u64,
    /// Exchanges without a fate.
    pub in_flight: u64,
    /// Exchanges by how they left; all fates, also at zero.
    pub fates: Vec<Count>,
    /// Comparisons without a difference.
    pub matched: u64,
    /// Comparisons with a difference that no rule hides.
    pub mismatched: u64,
    /// Comparisons with differences that rules hide.
    pub ignored: u64,
    /// Exchanges that were replayed and could not be compared.
    pub incomparable: u64,
    /// Those by reason.
    pub incomparable_reasons: Vec<Count>,
    /// The same by route.
    pub routes: Vec<RouteReport>,
    /// Causes of mismatches, the most frequent first.
    pub causes: Vec<CauseReport>,
    /// Mismatches whose cause was one too many to keep.
    pub causes_omitted: u64,
    /// Rules, in the order of the configuration.
    pub rules: Vec<RuleReport>,
    /// What was asked of it.
    pub policy: VerdictPolicy,
    /// The verdict.
    pub verdict: Verdict,
}

/// A number with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The label, as in metrics.
    pub name: String,
    /// How many.
    pub count: u64,
    /// What the label means.
    pub meaning: &'static str,
}

/// What one route showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteReport {
    /// The route.
    pub route: String,
    /// As in [`ExperimentReport::matched`].
    pub matched: u64,
    /// As in [`ExperimentReport::mismatched`].
    pub mismatched: u64,
    /// As in [`ExperimentReport::ignored`].
    pub ignored: u64,
    /// As in [`ExperimentReport::incomparable`].
    pub incomparable: u64,
    /// How long both branches took; null when B never answered.
    pub latency: Option<LatencyReport>,
}

/// How long both branches took on one route, from the last request byte to the last response byte.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyReport {
    /// Pairs of times.
    pub pairs: usize,
    /// Median of A.
    pub control_median_ms: f64,
    /// Median of B.
    pub candidate_median_ms: f64,
    /// Median of B/A.
    pub ratio: Option<IntervalReport>,
    /// Median of B − A.
    pub extra_ms: Option<IntervalReport>,
    /// Level of both intervals.
    pub confidence: f64,
    /// `slower`, `not_slower`, `not_enough_data`, or `not_judged` where the policy wants no judgement.
    pub verdict: &'static str,
    /// First pairs that were left out, since caches are cold.
    pub warm_up_pairs: usize,
    /// What B is slower at.
    pub slower: Option<SlowerReport>,
}

/// What B is slower at.
#[derive(Clone, Debug, Serialize)]
pub struct SlowerReport {
    /// `first_byte` or `last_byte` of the answer.
    pub point: &'static str,
    /// `median`, `p95` or `p99`.
    pub part: &'static str,
    /// B/A there.
    pub ratio: IntervalReport,
    /// B − A there.
    pub extra_ms: IntervalReport,
    /// The same as people read it.
    #[serde(skip)]
    words: &'static str,
}

/// A median with its confidence interval.
#[derive(Clone, Debug, Serialize)]
pub struct IntervalReport {
    /// Lower end.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Upper end.
    pub high: f64,
}

/// One cause of mismatches.
#[derive(Clone, Debug, Serialize)]
pub struct CauseReport {
    /// Its short name, the same in every run.
    pub id: String,
    /// The route.
    pub route: String,
    /// Paths and kinds.
    pub signature: String,
    /// Mismatches.
    pub count: u64,
    /// Their share of all comparisons, 0 to 1.
    pub share: f64,
    /// RFC 3339, UTC.
    pub first_seen: String,
    /// RFC 3339, UTC.
    pub last_seen: String,
    /// The smallest requests that show it.
    pub examples: Vec<ExampleReport>,
}

/// One mismatch.
#[derive(Clone, Debug, Serialize)]
pub struct ExampleReport {
    /// The exchange.
    pub exchange: String,
    /// Its request.
    pub request: RequestReport,
    /// A's status.
    pub control_status: u16,
    /// B's status.
    pub candidate_status: u16,
    /// What differs.
    pub differences: Vec<DifferenceReport>,
    /// Differences beyond the limits of a comparison.
    pub differences_omitted: u64,
    /// A shell command that repeats the request against B.
    pub curl: String,
    /// What the command lacks.
    pub curl_notes: Vec<String>,
}

/// A request in short.
#[derive(Clone, Debug, Serialize)]
pub struct RequestReport {
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
    /// Bytes of the body.
    pub body_bytes: u64,
}

/// One place where two answers differ.
pub type DifferenceReport = StoredDifference;

/// What one rule hid.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// The rule.
    pub rule: String,
    /// Comparisons in which it hid something.
    pub comparisons: u64,
    /// Differences that it hid.
    pub differences: u64,
}

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The journal has no runs.
    #[error("the journal holds no run yet")]
    NoRun,
    /// The journal has no such run.
    #[error("the journal holds no run {0}")]
    UnknownRun(i64),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The policy of an experiment does not parse.
    #[error("the verdict policy of experiment `{experiment}` in the journal is not what this program writes")]
    Policy {
        /// The experiment.
        experiment: String,
        /// Why.
        source: super::PolicyError,
    },
    /// A number that JSON cannot hold.
    #[error("failed to write the report as JSON")]
    Json {
        /// Why.
        source: serde_json::Error,
    },
}

// === impl Report ===

impl Report {
    /// Version of the JSON form.
    pub const SCHEMA: u32 = 1;

    /// The report of a run, or of the newest one.
    ///
    /// # Errors
    /// When there is no such run or the journal cannot be read.
    pub fn load(journal: &dyn Journal, run: Option<i64>) -> Result<Self, ReportError> {
        let missing = run.map_or(ReportError::NoRun, ReportError::UnknownRun);
        Self::new(journal.read(run.map(RunId))?.ok_or(missing)?)
    }

    fn new(record: RunRecord) -> Result<Self, ReportError> {
        let RunRecord { id, started_at, ended_at, version, summary, ports, comparisons_removed, experiments } =
            record;
        let experiments: Vec<_> =
            experiments.into_iter().map(ExperimentReport::new).collect::<Result<_, _>>()?;
        let verdict = Verdict::worst(experiments.iter().map(|e| (e.name.as_str(), &e.verdict)));
        let run = RunReport {
            id: id.0,
            started_at: time(started_at),
            ended_at: ended_at.map(time),
            seconds: ended_at.map(|ended_at| ended_at.since(started_at).as_secs()),
            version,
            summary,
            ports,
            comparisons_removed,
        };
        Ok(Self { schema: Self::SCHEMA, run, experiments, verdict })
    }
}

// === impl ExperimentReport ===

impl ExperimentReport {
    fn new(record: ExperimentRecord) -> Result<Self, ReportError> {
        let policy = VerdictPolicy::from_text(&record.policy)
            .map_err(|source| ReportError::Policy { experiment: record.name.clone(), source })?;
        let routes = routes(&record, &policy);
        let sum = |part: fn(&RouteReport) -> u64| routes.iter().map(part).sum::<u64>();
        let evidence = Evidence {
            matched: sum(|route| route.matched),
            mismatched: sum(|route| route.mismatched),
            ignored: sum(|route| route.ignored),
            incomparable: sum(|route| route.incomparable),
            causes: record.causes.len(),
            stopped: record.stopped.clone(),
            slower: routes.iter().filter_map(slower).collect(),
        };
        let verdict = policy.judge(&evidence);
        let Evidence { matched, mismatched, ignored, incomparable, causes: _, slower: _, stopped: _ } =
            evidence;

        let compared = matched + mismatched + ignored;
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for outcome in record.outcomes.into_iter().filter(|outcome| !outcome.reason.is_empty()) {
            *reasons.entry(outcome.reason).or_default() += outcome.count;
        }
        let of_reason = |(name, count): (String, u64)| Count { meaning: gloss_of_reason(&name), name, count };
        let of_fate = |(name, count): (String, u64)| Count { meaning: gloss(&name), name, count };
        let base = record.candidate.clone();
        Ok(Self {
            name: record.name,
            candidate: record.candidate,
            stopped: record.stopped,
            seen: record.seen,
            in_flight: record.in_flight,
            fates: record.fates.into_iter().map(of_fate).collect(),
            matched,
            mismatched,
            ignored,
            incomparable,
            incomparable_reasons: reasons.into_iter().map(of_reason).collect(),
            routes,
            causes: record.causes.into_iter().map(|cause| CauseReport::new(cause, compared, &base)).collect(),
            causes_omitted: record.causes_omitted,
            rules: record
                .rules
                .into_iter()
                .map(|rule| RuleReport {
                    rule: rule.rule,
                    comparisons: rule.comparisons,
                    differences: rule.differences,
                })
                .collect(),
            policy,
            verdict,
        })
    }

    /// Comparisons that could be made.
    pub fn compared(&self) -> u64 {
        self.matched + self.mismatched + self.ignored
    }
}

fn routes(record: &ExperimentRecord, policy: &VerdictPolicy) -> Vec<RouteReport> {
    let mut routes: BTreeMap<&str, RouteReport> = BTreeMap::new();
    for outcome in &record.outcomes {
        let route = routes.entry(&outcome.route).or_default();
        match outcome.outcome.as_str() {
            "match" => route.matched += outcome.count,
            "mismatch" => route.mismatched += outcome.count,
            "ignored" => route.ignored += outcome.count,
            _ => route.incomparable += outcome.count,
        }
    }
    let mut pairs: BTreeMap<&str, Vec<LatencyPair>> = BTreeMap::new();
    for row in &record.latencies {
        let pair = LatencyPair { control_us: row.control_us, candidate_us: row.candidate_us };
        pairs.entry(&row.route).or_default().push(pair);
    }
    let with_latency = |(name, route): (&str, RouteReport)| {
        let pairs = pairs.get(name).map(Vec::as_slice).unwrap_or_default();
        let latency = LatencySummary::new(pairs, &policy.latency());
        let latency = latency.map(|summary| LatencyReport::new(summary, policy));
        RouteReport { route: name.to_owned(), latency, ..route }
    };
    routes.into_iter().map(with_latency).collect()
}

fn slower(route: &RouteReport) -> Option<String> {
    let latency = route.latency.as_ref().filter(|latency| latency.is_slower())?;
    let SlowerReport { point: _, part: _, ratio, extra_ms: extra, words } = latency.slower.as_ref()?;
    Some(format!(
        "{} is slower: {words} {:.2} times A's time [{:.2}, {:.2}], {:+.1} ms [{:+.1}, {:+.1}].",
        route.route, ratio.median, ratio.low, ratio.high, extra.median, extra.low, extra.high
    ))
}

/// The verdict on a route's latency where the policy wants none.
const NOT_JUDGED: &str = "not_judged";

// === impl LatencyReport ===

impl LatencyReport {
    fn new(summary: LatencySummary, policy: &VerdictPolicy) -> Self {
        let LatencySummary { pairs, warm_up_pairs, last_byte, first_byte: _, verdict, slower } = summary;
        let PointSummary { control_median_us, candidate_median_us, ratio, extra_us, p95: _, p99: _ } =
            last_byte;
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
        }
    }

    pub(super) fn is_slower(&self) -> bool {
        self.verdict == LatencyVerdict::Slower.label()
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

// === impl IntervalReport ===

impl IntervalReport {
    fn new(interval: Interval, unit: f64) -> Self {
        let Interval { low, median, high } = interval;
        Self { low: low / unit, median: median / unit, high: high / unit }
    }
}

// === impl CauseReport ===

impl CauseReport {
    fn new(record: CauseRecord, compared: u64, base: &str) -> Self {
        let CauseRecord { id, route, signature, count, first_seen, last_seen, examples } = record;
        Self {
            id,
            route,
            signature,
            count,
            share: if compared == 0 { 0.0 } else { count as f64 / compared as f64 },
            first_seen: time(first_seen),
            last_seen: time(last_seen),
            examples: examples.into_iter().map(|example| ExampleReport::new(example, base)).collect(),
        }
    }
}

// === impl ExampleReport ===

impl ExampleReport {
    fn new(example: Example, base: &str) -> Self {
        let Curl { command, notes } = curl(&example, base);
        Self {
            exchange: example.exchange,
            request: RequestReport {
                method: example.method,
                target: example.target,
                body_bytes: example.body_bytes,
            },
            control_status: example.control_status,
            candidate_status: example.candidate_status,
            differences: example.differences,
            differences_omitted: example.differences_omitted,
            curl: command,
            curl_notes: notes,
        }
    }
}
