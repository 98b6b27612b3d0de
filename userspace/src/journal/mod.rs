//! Keeps what was found: runs, comparisons and examples, each within bounds.
//!
//! Decides nothing about results, and keeps no value of a field that [`crate::model::is_secret`] names.
//!
//! A run has experiments; an experiment has counts (fates, outcomes, rules, causes), a bounded number of
//! comparisons for people who ask in SQL and for latency, and a few examples of each cause.

mod error;
mod example;
mod finding;
mod noise;
mod read;
mod schema;
mod sqlite;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Cause, Change, Comparison, LedgerSnapshot, Timestamp};

pub use error::{JournalError, Trouble};
pub use finding::{Finder, FindingLimits, StoredAnswer, StoredExample};
pub use noise::{PathEvidence, RateEvidence};
pub use sqlite::SqliteJournal;

/// Names the cause of a mismatch: `compare::group::cause_of` outside of tests.
pub type CauseOf = fn(&Comparison) -> Option<Cause>;

/// Where results are kept. Calls block: the pipeline gives the journal a thread of its own.
pub trait Journal: Send {
    /// Opens a run. Runs beyond the limit are removed, the oldest first.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn begin(&mut self, run: &RunStart) -> Result<RunId, JournalError>;

    /// Keeps a batch of comparisons, whole or not at all. A comparison that is there already (same experiment,
    /// same exchange, same time of capture) changes nothing, as long as it has not been removed for its age.
    ///
    /// # Errors
    /// When the store cannot be written, or a comparison names an experiment that the run does not have.
    fn record(&mut self, run: RunId, batch: &[Comparison]) -> Result<(), JournalError>;

    /// Keeps the counts of one experiment, in place of those kept before.
    ///
    /// # Errors
    /// As for [`Journal::record`].
    fn record_ledger(
        &mut self,
        run: RunId,
        experiment: &str,
        ledger: &LedgerSnapshot,
    ) -> Result<(), JournalError>;

    /// Keeps what is known of the noise at these paths, in place of what was kept of them before.
    ///
    /// # Errors
    /// As for [`Journal::record`].
    fn record_paths(
        &mut self,
        run: RunId,
        experiment: &str,
        paths: &[PathRecord],
    ) -> Result<(), JournalError>;

    /// Keeps what the rules of one experiment met and failed at, in place of what was kept before.
    ///
    /// # Errors
    /// As for [`Journal::record`].
    fn record_rules(
        &mut self,
        run: RunId,
        experiment: &str,
        rules: &[RuleTotals],
    ) -> Result<(), JournalError>;

    /// Notes that an experiment ended before its run, and why in one sentence.
    ///
    /// # Errors
    /// As for [`Journal::record`].
    fn stop_experiment(&mut self, run: RunId, experiment: &str, why: &str) -> Result<(), JournalError>;

    /// Notes for how long a run stood still because somebody or the time table said so.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn note_pauses(&mut self, run: RunId, paused: std::time::Duration) -> Result<(), JournalError>;

    /// Closes a run.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn finish(&mut self, run: RunId, ended_at: Timestamp) -> Result<(), JournalError>;

    /// All that is known about a run, or about the newest one; none when there is no such run.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn read(&self, run: Option<RunId>) -> Result<Option<RunRecord>, JournalError>;

    /// What both branches answered in an example; [`Journal::read`] leaves it out for its size.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn answers(&self, run: RunId, experiment: &str, example: &Example) -> Result<Answers, JournalError>;
}

/// Names a run in one journal; counts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

/// What is known when a run begins.
#[derive(Clone, Debug, Default)]
pub struct RunStart {
    /// When.
    pub started_at: Timestamp,
    /// Version of this program.
    pub version: String,
    /// The configuration in one line.
    pub summary: String,
    /// Captured ports.
    pub ports: Vec<u16>,
    /// The experiments.
    pub experiments: Vec<ExperimentStart>,
}

/// What is known about an experiment when its run begins.
#[derive(Clone, Debug)]
pub struct ExperimentStart {
    /// Its name, unique in the run.
    pub name: Arc<str>,
    /// B's URL.
    pub candidate: String,
    /// Its rules as `Comparator::rules` names them, so that those that hide nothing are known.
    pub rules: Vec<Arc<str>>,
    /// The verdict's policy, in a form that `report` reads back.
    pub policy: String,
    /// Its routes by name, so that those on which nothing was compared are known.
    pub routes: Vec<Arc<str>>,
    /// Labels of its results.
    pub context: BTreeMap<String, String>,
}

/// What a rule met so far in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTotals {
    /// The rule.
    pub rule: Arc<str>,
    /// Differences at its place.
    pub met: u64,
    /// Times that it failed.
    pub failed: u64,
}

/// Bounds of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Comparisons kept over all runs; beyond, the oldest are removed in bulk and counted. Default 250,000,
    /// about 50 MB.
    pub comparisons_max: u64,
    /// Runs kept. Default 50.
    pub runs_max: u64,
    /// Causes told apart in one experiment; mismatches of further ones are counted without a cause.
    /// Default 1,000.
    pub causes_max: usize,
    /// Examples kept of one cause; the smallest win. Default 3.
    pub examples_per_cause_max: usize,
    /// Bytes of header fields kept of the request and of each answer of an example; further fields are left out.
    /// Default 16 KiB.
    pub example_head_bytes_max: usize,
    /// Bytes of the request's body kept of an example. Default 64 KiB.
    pub example_body_bytes_max: usize,
    /// Bytes of each answer's body kept of an example, as they were on the wire. Default 64 KiB; zero keeps heads only.
    pub example_answer_bytes_max: usize,
    /// Bytes of answers kept of all examples of an experiment; beyond, examples are kept without them. Default 32 MiB.
    pub answers_bytes_max: u64,
}

/// A run as it was kept. Its size is bounded by [`JournalLimits`].
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its name.
    pub id: RunId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; none while it runs, or when it was killed.
    pub ended_at: Option<Timestamp>,
    /// Version of the program that made it.
    pub version: String,
    /// The configuration in one line.
    pub summary: String,
    /// Captured ports.
    pub ports: Vec<u16>,
    /// Comparisons removed for their age, of this and older runs.
    pub comparisons_removed: u64,
    /// What all its pauses took, once it has ended: nothing was captured and replayed meanwhile.
    pub paused: std::time::Duration,
    /// Its experiments, in the order of the configuration.
    pub experiments: Vec<ExperimentRecord>,
}

/// An experiment as it was kept.
#[derive(Clone, Debug)]
pub struct ExperimentRecord {
    /// Its name.
    pub name: String,
    /// B's URL.
    pub candidate: String,
    /// As in [`ExperimentStart::policy`].
    pub policy: String,
    /// Labels of its results.
    pub context: BTreeMap<String, String>,
    /// Why it ended before its run; none when it did not.
    pub stopped: Option<String>,
    /// Exchanges seen.
    pub seen: u64,
    /// Exchanges without a fate.
    pub in_flight: u64,
    /// Exchanges by fate label, in the order of `Fate::ALL`.
    pub fates: Vec<(String, u64)>,
    /// Comparisons by route and outcome.
    pub outcomes: Vec<OutcomeCount>,
    /// Causes, the most frequent first.
    pub causes: Vec<CauseRecord>,
    /// Mismatches whose cause was one too many.
    pub causes_omitted: u64,
    /// Rules, in the order of the configuration.
    pub rules: Vec<RuleCount>,
    /// Times of the comparisons that are kept and in which B answered.
    pub latencies: Vec<LatencyRow>,
    /// As in [`ExperimentStart::routes`].
    pub routes: Vec<String>,
    /// What is known of the noise at paths, by route and path.
    pub paths: Vec<PathRecord>,
}

/// What is known of the noise at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRecord {
    /// The route.
    pub route: String,
    /// The normalised path.
    pub path: String,
    /// Whether its differences count: the label of a state of the noise model.
    pub state: String,
    /// The evidence: a [`PathEvidence`] as JSON.
    pub detail: String,
}

/// How many comparisons of one route came out in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeCount {
    /// The route.
    pub route: String,
    /// `Outcome::label`.
    pub outcome: String,
    /// `IncomparableReason::label`, empty for other outcomes.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// A cause as it was kept.
#[derive(Clone, Debug)]
pub struct CauseRecord {
    /// `Cause::id`.
    pub id: String,
    /// The route.
    pub route: String,
    /// `Cause::signature`.
    pub signature: String,
    /// `Cause::changes`; empty where an older program kept it.
    pub changes: Vec<Change>,
    /// Mismatches.
    pub count: u64,
    /// Time of the first comparison.
    pub first_seen: Timestamp,
    /// Time of the last comparison.
    pub last_seen: Timestamp,
    /// Examples, the smallest first.
    pub examples: Vec<Example>,
}

/// One mismatch, with the request that repeats it.
#[derive(Clone, Debug)]
pub struct Example {
    /// `Cause::id` under which it is kept.
    pub cause: String,
    /// Bytes of the request and of both answers, roughly.
    pub bytes: u64,
    /// `ExchangeId` in its text form.
    pub exchange: String,
    /// Method of the request.
    pub method: String,
    /// Target of the request.
    pub target: String,
    /// Header fields of the request as sent; secrets redacted.
    pub headers: Vec<(String, String)>,
    /// Header fields left out, since the head is longer than the limit.
    pub headers_omitted: u64,
    /// Body of the request, all of it or its beginning.
    pub body: Vec<u8>,
    /// Bytes of the whole body.
    pub body_bytes: u64,
    /// A's status.
    pub control_status: u16,
    /// B's status.
    pub candidate_status: u16,
    /// What differs.
    pub differences: Vec<StoredDifference>,
    /// Differences beyond the limits of the comparison.
    pub differences_omitted: u64,
}

/// What both branches answered to one request; none where nothing is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// A's answer.
    pub control: Option<Answer>,
    /// B's answer.
    pub candidate: Option<Answer>,
}

/// An answer as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields as sent; secrets redacted.
    pub headers: Vec<(String, String)>,
    /// Header fields left out, since the head is longer than the limit.
    pub headers_omitted: u64,
    /// The body as it was on the wire, all of it or its beginning.
    pub body: Vec<u8>,
    /// Bytes of the whole body.
    pub body_bytes: u64,
}

/// A `Difference` in the form in which it is kept and exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDifference {
    /// The normalised path.
    pub path: String,
    /// `DifferenceKind::label`.
    pub kind: String,
    /// The exact place.
    pub place: String,
    /// A's value, shortened.
    pub control: Option<String>,
    /// B's value, shortened.
    pub candidate: Option<String>,
}

/// What one rule hid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// The rule.
    pub rule: String,
    /// Comparisons in which it hid something.
    pub comparisons: u64,
    /// Differences that it hid.
    pub differences: u64,
    /// Differences at its place that no earlier rule hid.
    pub met: u64,
    /// Times that it failed.
    pub failed: u64,
}

/// How long both branches took with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyRow {
    /// The route.
    pub route: String,
    /// When it was compared.
    pub compared_at: Timestamp,
    /// A: last request byte to last response byte, in microseconds.
    pub control_us: u64,
    /// B: the same.
    pub candidate_us: u64,
    /// A and B to the first response byte, in microseconds; none in files of older programs.
    pub first_byte_us: Option<(u64, u64)>,
}

// === impl JournalLimits ===

impl Default for JournalLimits {
    fn default() -> Self {
        Self {
            comparisons_max: 250_000,
            runs_max: 50,
            causes_max: 1_000,
            examples_per_cause_max: 3,
            example_head_bytes_max: 16 << 10,
            example_body_bytes_max: 64 << 10,
            example_answer_bytes_max: 64 << 10,
            answers_bytes_max: 32 << 20,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Bytes that keeping it takes, roughly.
    fn bytes(&self) -> u64 {
        let head = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.body.len().saturating_add(head) as u64
    }
}

#[cfg(test)]
mod tests;
