//! What a report says, as plain data.
//!
//! Formats nothing: the sibling modules do, all from these structs, which `build` fills in. The JSON form of a report is exactly these
//! structs; fields are added to it, never renamed or removed, without a new [`Report::SCHEMA`].

use std::collections::BTreeMap;

use serde::Serialize;

use super::fleet::FleetReport;
use super::verdict::{Verdict, VerdictPolicy};
use crate::journal::{Example, JournalError, PathEvidence, StoredDifference};

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

/// The run that a report is about, or the fleet.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Its number in the journal; 0 for a fleet.
    pub id: i64,
    /// Where it was kept: `journal`, or `redis` for a fleet.
    pub store: &'static str,
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
    /// What its pauses took: nothing was captured and replayed meanwhile. Of a fleet, 0.
    pub paused_seconds: u64,
}

/// What one experiment showed.
#[derive(Clone, Debug, Serialize)]
pub struct ExperimentReport {
    /// Its name.
    pub name: String,
    /// B's URL.
    pub candidate: String,
    /// Labels of its results, as configured.
    pub context: BTreeMap<String, String>,
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
    /// Comparisons with a difference that counts.
    pub mismatched: u64,
    /// Comparisons with a difference of which it is not known yet whether it is noise, and none that counts.
    pub undecided: u64,
    /// Comparisons that differ only in values that always differ, such as ids, where nothing can ever tell whether that
    /// is noise.
    pub withheld: u64,
    /// Comparisons with differences that rules hide.
    pub ignored: u64,
    /// Comparisons with differences that turned out to be noise.
    pub noise: u64,
    /// Exchanges that were replayed and could not be compared.
    pub incomparable: u64,
    /// Those by reason.
    pub incomparable_reasons: Vec<Count>,
    /// What is certain about the share of mismatches among all exchanges.
    pub mismatch_share: ShareReport,
    /// The same by route: those that are configured, and those that were seen.
    pub routes: Vec<RouteReport>,
    /// Causes of mismatches: those that count, then those that are undecided; the most frequent first.
    pub causes: Vec<CauseReport>,
    /// Mismatches whose cause was one too many to keep.
    pub causes_omitted: u64,
    /// What is known of the noise at paths where something differed, by route and path.
    pub paths: Vec<PathReport>,
    /// Rules, in the order of the configuration.
    pub rules: Vec<RuleReport>,
    /// What would make the report say more, in sentences.
    pub advice: Vec<String>,
    /// What was asked of it.
    pub policy: VerdictPolicy,
    /// The verdict.
    pub verdict: Verdict,
    /// Its hosts, where it had several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetReport>,
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
#[derive(Clone, Debug, Serialize)]
pub struct RouteReport {
    /// The route.
    pub route: String,
    /// As in [`ExperimentReport::matched`].
    pub matched: u64,
    /// As in [`ExperimentReport::mismatched`].
    pub mismatched: u64,
    /// As in [`ExperimentReport::undecided`].
    pub undecided: u64,
    /// As in [`ExperimentReport::withheld`].
    pub withheld: u64,
    /// As in [`ExperimentReport::ignored`].
    pub ignored: u64,
    /// As in [`ExperimentReport::noise`].
    pub noise: u64,
    /// As in [`ExperimentReport::incomparable`].
    pub incomparable: u64,
    /// How long both branches took; null when B never answered.
    pub latency: Option<LatencyReport>,
    /// As in [`ExperimentReport::mismatch_share`].
    pub mismatch_share: ShareReport,
    /// The verdict.
    pub verdict: Verdict,
}

/// A share with bounds that hold however often one looks.
#[derive(Clone, Debug, Serialize)]
pub struct ShareReport {
    /// What was seen, 0 to 1.
    pub observed: f64,
    /// No smaller than this.
    pub low: f64,
    /// No larger than this.
    pub high: f64,
    /// Probability that both bounds hold at all times.
    pub confidence: f64,
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
    /// Level of all intervals of the route together.
    pub confidence: f64,
    /// `slower`, `not_slower`, `not_enough_data`, or `not_judged` where the policy wants no judgement.
    pub verdict: &'static str,
    /// First pairs that were left out, since caches are cold.
    pub warm_up_pairs: usize,
    /// What B is slower at.
    pub slower: Option<SlowerReport>,
    /// The 95th percentile.
    pub p95: TailReport,
    /// The 99th percentile.
    pub p99: TailReport,
}

/// One percentile of B's times against the same one of A's.
#[derive(Clone, Debug, Serialize)]
pub struct TailReport {
    /// A's.
    pub control_ms: f64,
    /// B's.
    pub candidate_ms: f64,
    /// B/A; null when there are too few pairs for an interval at this level.
    pub ratio: Option<IntervalReport>,
    /// B − A; null as above.
    pub extra_ms: Option<IntervalReport>,
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
    pub(super) words: &'static str,
}

/// A median, or what compares two percentiles, with its confidence interval.
#[derive(Clone, Debug, Serialize)]
pub struct IntervalReport {
    /// Lower end.
    pub low: f64,
    /// The value that was seen.
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
    /// Paths and kinds in one line.
    pub signature: String,
    /// Paths and kinds.
    pub changes: Vec<ChangeReport>,
    /// `counts`, `undecided` when it may turn out to be noise, or `withheld` when nothing can ever tell.
    pub state: &'static str,
    /// For what is withheld: lines for `[experiment.compare]` with rules that would hide it.
    pub rules: Vec<String>,
    /// Sets of paths that make this one when noise is left out.
    pub merged: u64,
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

/// Where answers differ in a cause, and in which way.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeReport {
    /// The normalised path.
    pub path: String,
    /// The kind of difference.
    pub kind: String,
    /// The classes of A's and B's value where they are not the same, such as `number→null`.
    pub classes: Option<String>,
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
    /// The example as it is kept.
    #[serde(skip)]
    pub(super) kept: Example,
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

/// Whether the differences at one path are noise.
#[derive(Clone, Debug, Serialize)]
pub struct PathReport {
    /// The route.
    pub route: String,
    /// The normalised path.
    pub path: String,
    /// `reported`, `ceased`, `undecided`, `withheld`, `unmeasured` or `noise`.
    pub state: String,
    /// What the state rests on; null where it was not kept.
    pub evidence: Option<PathEvidence>,
}

/// What one rule hid.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// The rule.
    pub rule: String,
    /// Comparisons in which it hid something.
    pub comparisons: u64,
    /// Differences that it hid.
    pub differences: u64,
    /// Differences at its place that no earlier rule hid; at least `differences`.
    pub met: u64,
    /// Times that it failed.
    pub failed: u64,
    /// Of the differences at its place: `nothing`, `some` or `everything`; `unmet` when there was none.
    pub hid: &'static str,
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
    /// There is no such cause to show.
    #[error(transparent)]
    Cause(#[from] super::UnknownCause),
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
