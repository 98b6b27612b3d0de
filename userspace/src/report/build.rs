//! Makes a report of what a journal holds.
//!
//! Formats nothing, and decides nothing but by the policy that the journal holds.

use std::collections::BTreeMap;

use super::causes::{CauseState, JudgePath, Judged, JudgedCause, PathName, merge};
use super::curl::{Curl, curl};
use super::facts::{
    CauseReport, ChangeReport, Count, ExampleReport, ExperimentReport, LatencyReport, PathReport, Report,
    ReportError, RequestReport, RouteReport, RuleReport, RunReport, ShareReport,
};
use super::latency::{latency, slower};
use super::rate::Bounds;
use super::remedy::{fitting, name_routes};
use super::verdict::{Evidence, RouteEvidence, Tally, Verdict, VerdictPolicy};
use super::words::{gloss, gloss_of_reason, time};
use crate::compare::latency::{LatencyPair, LatencySample, LatencyTally};
use crate::journal::{
    Example, ExperimentRecord, Journal, LatencyRow, OutcomeCount, PathRecord, RuleCount, RunId, RunRecord,
};
use crate::model::{Change, NOISE_RULE, PathState};

/// How long both branches took, by route.
pub(super) type Times = BTreeMap<String, LatencyTally>;

/// What a rule is called that hid every difference at its place.
const EVERYTHING: &str = "everything";

// === impl Report ===

impl Report {
    /// Version of the JSON form.
    pub const SCHEMA: u32 = 1;

    /// The report of a run, or of the newest one, by what the journal knows of the noise at each path.
    ///
    /// # Errors
    /// When there is no such run or the journal cannot be read.
    pub fn load(journal: &dyn Journal, run: Option<i64>) -> Result<Self, ReportError> {
        Self::new(Self::record(journal, run)?, None, Vec::new())
    }

    /// The same, by what `judge` says of each path.
    ///
    /// # Errors
    /// As for [`Report::load`].
    pub fn load_judged(
        journal: &dyn Journal,
        run: Option<i64>,
        judge: JudgePath<'_>,
    ) -> Result<Self, ReportError> {
        Self::new(Self::record(journal, run)?, Some(judge), Vec::new())
    }

    fn record(journal: &dyn Journal, run: Option<i64>) -> Result<RunRecord, ReportError> {
        let missing = run.map_or(ReportError::NoRun, ReportError::UnknownRun);
        journal.read(run.map(RunId))?.ok_or(missing)
    }

    /// `times` are those of each experiment, where the record has no rows of them.
    pub(super) fn new(
        record: RunRecord,
        judge: Option<JudgePath<'_>>,
        times: Vec<Option<Times>>,
    ) -> Result<Self, ReportError> {
        let RunRecord {
            id,
            started_at,
            ended_at,
            version,
            summary,
            ports,
            comparisons_removed,
            paused,
            experiments,
        } = record;
        let experiments: Vec<_> = experiments
            .into_iter()
            .zip(times.into_iter().chain(std::iter::repeat_with(|| None)))
            .map(|(experiment, times)| ExperimentReport::new(experiment, judge, times))
            .collect::<Result<_, _>>()?;
        let verdict = Verdict::worst(experiments.iter().map(|e| (e.name.as_str(), &e.verdict)));
        let run = RunReport {
            id: id.0,
            store: "journal",
            started_at: time(started_at),
            ended_at: ended_at.map(time),
            seconds: ended_at.map(|ended_at| ended_at.since(started_at).as_secs()),
            version,
            summary,
            ports,
            comparisons_removed,
            paused_seconds: paused.as_secs(),
        };
        Ok(Self { schema: Self::SCHEMA, run, experiments, verdict })
    }
}

// === impl ExperimentReport ===

impl ExperimentReport {
    fn new(
        record: ExperimentRecord,
        judge: Option<JudgePath<'_>>,
        times: Option<Times>,
    ) -> Result<Self, ReportError> {
        let ExperimentRecord {
            name,
            candidate,
            policy,
            stopped,
            seen,
            in_flight,
            fates,
            outcomes,
            causes,
            causes_omitted,
            rules,
            latencies,
            routes,
            paths,
            context,
        } = record;
        let policy = VerdictPolicy::from_text(&policy)
            .map_err(|source| ReportError::Policy { experiment: name.clone(), source })?;
        let known = states(&paths);
        let judged = merge(causes, |route, path| match judge {
            Some(judge) => judge(&PathName { experiment: &name, route, path }),
            None => known.get(&(route, path)).copied().unwrap_or(PathState::Unmeasured),
        });

        let mut tallies = tallies(&outcomes, &routes);
        let Judged { causes, noise } = judged;
        for (route, count) in noise {
            tallies.entry(route).or_default().rejudge(CauseState::Noise, count);
        }
        for cause in &causes {
            tallies.entry(cause.route.clone()).or_default().rejudge(cause.state, cause.count);
        }
        let times = times.unwrap_or_else(|| times_of(&latencies, &policy));
        let of_route = |(route, tally): (String, Tally)| {
            let latency = times.get(&route).and_then(|times| latency(times, &policy));
            let slower = latency.as_ref().and_then(|latency| slower(&route, latency));
            (RouteEvidence { route, tally, slower }, latency)
        };
        let (of_routes, latencies): (Vec<_>, Vec<_>) = tallies.into_iter().map(of_route).unzip();
        let counting = causes.iter().filter(|cause| cause.state == CauseState::Counts).count();
        let evidence = Evidence { routes: of_routes, causes: counting, stopped: stopped.clone() };
        let (verdict, verdicts) = policy.judge(&evidence);
        let tally = evidence.tally();

        let advice: Vec<_> = name_routes(evidence.routes.iter().map(|have| have.route.as_str()), &causes)
            .into_iter()
            .collect();
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for outcome in outcomes.into_iter().filter(|outcome| !outcome.reason.is_empty()) {
            *reasons.entry(outcome.reason).or_default() += outcome.count;
        }
        let of_reason = |(name, count): (String, u64)| Count { meaning: gloss_of_reason(&name), name, count };
        let of_fate = |(name, count): (String, u64)| Count { meaning: gloss(&name), name, count };
        let Tally { matched, mismatched, undecided, withheld, ignored, noise, incomparable } = tally;
        let route_reports = evidence.routes.iter().zip(latencies).zip(verdicts);
        Ok(Self {
            name,
            context,
            stopped,
            seen,
            in_flight,
            fates: fates.into_iter().map(of_fate).collect(),
            matched,
            mismatched,
            undecided,
            withheld,
            ignored,
            noise,
            incomparable,
            incomparable_reasons: reasons.into_iter().map(of_reason).collect(),
            mismatch_share: ShareReport::new(&tally, &policy),
            routes: route_reports
                .map(|((evidence, latency), verdict)| RouteReport::new(evidence, latency, verdict, &policy))
                .collect(),
            causes: causes
                .into_iter()
                .map(|cause| CauseReport::new(cause, tally.compared(), &candidate))
                .collect(),
            candidate,
            causes_omitted,
            paths: paths.into_iter().map(PathReport::new).collect(),
            rules: rules.into_iter().map(RuleReport::new).collect(),
            advice,
            policy,
            verdict,
            fleet: None,
        })
    }

    /// Comparisons that could be made.
    pub fn compared(&self) -> u64 {
        self.matched + self.mismatched + self.undecided + self.withheld + self.ignored + self.noise
    }
}

/// The times of each route, from the rows of a journal.
fn times_of(latencies: &[LatencyRow], policy: &VerdictPolicy) -> Times {
    let mut times = Times::new();
    for row in latencies {
        let LatencyRow { route, compared_at, control_us, candidate_us, first_byte_us } = row;
        let pair = |control_us, candidate_us| LatencyPair { control_us, candidate_us };
        let sample = LatencySample {
            first_byte: first_byte_us.map(|(control_us, candidate_us)| pair(control_us, candidate_us)),
            last_byte: pair(*control_us, *candidate_us),
        };
        let of_route = times.entry(route.clone()).or_insert_with(|| LatencyTally::new(policy.latency()));
        of_route.observe(*compared_at, &sample);
    }
    times
}

/// The state of each path that the journal knows something of.
fn states(paths: &[PathRecord]) -> BTreeMap<(&str, &str), PathState> {
    let mut states = BTreeMap::new();
    for PathRecord { route, path, state: label, detail: _ } in paths {
        let state = PathState::ALL.into_iter().find(|state| state.label() == label);
        states.extend(state.map(|state| ((route.as_str(), path.as_str()), state)));
    }
    states
}

/// What came of comparisons by route, also of those routes on which there were none.
fn tallies(outcomes: &[OutcomeCount], routes: &[String]) -> BTreeMap<String, Tally> {
    let mut tallies: BTreeMap<String, Tally> =
        routes.iter().map(|route| (route.clone(), Tally::default())).collect();
    for OutcomeCount { route, outcome, reason: _, count } in outcomes {
        let tally = tallies.entry(route.clone()).or_default();
        *match outcome.as_str() {
            "match" => &mut tally.matched,
            "mismatch" => &mut tally.mismatched,
            "ignored" => &mut tally.ignored,
            _ => &mut tally.incomparable,
        } += count;
    }
    tallies
}

// === impl RouteReport ===

impl RouteReport {
    fn new(
        evidence: &RouteEvidence,
        latency: Option<LatencyReport>,
        verdict: Verdict,
        policy: &VerdictPolicy,
    ) -> Self {
        let RouteEvidence { route, tally, slower: _ } = evidence;
        let Tally { matched, mismatched, undecided, withheld, ignored, noise, incomparable } = *tally;
        let mismatch_share = ShareReport::new(tally, policy);
        let route = route.clone();
        Self {
            route,
            matched,
            mismatched,
            undecided,
            withheld,
            ignored,
            noise,
            incomparable,
            latency,
            mismatch_share,
            verdict,
        }
    }

    /// Comparisons that could be made.
    pub fn compared(&self) -> u64 {
        self.matched + self.mismatched + self.undecided + self.withheld + self.ignored + self.noise
    }
}

// === impl ShareReport ===

impl ShareReport {
    fn new(tally: &Tally, policy: &VerdictPolicy) -> Self {
        let Bounds { low, high } = policy.bounds(tally);
        let compared = tally.compared();
        let observed = if compared == 0 { 0.0 } else { tally.mismatched as f64 / compared as f64 };
        Self { observed, low, high, confidence: policy.confidence }
    }
}

// === impl PathReport ===

impl PathReport {
    fn new(record: PathRecord) -> Self {
        let evidence = record.evidence();
        let PathRecord { route, path, state, detail: _ } = record;
        Self { route, path, state, evidence }
    }
}

// === impl RuleReport ===

impl RuleReport {
    pub(super) fn new(count: RuleCount) -> Self {
        let RuleCount { rule, comparisons, differences, met, failed } = count;
        // The two are kept at different moments.
        let met = met.max(differences);
        let hid = match (met, differences) {
            // What is measured has no place that could be too broad.
            (_, 1..) if rule == NOISE_RULE => "some",
            (0, _) => "unmet",
            (_, 0) => "nothing",
            (met, differences) if met == differences => EVERYTHING,
            (_, _) => "some",
        };
        Self { rule, comparisons, differences, met, failed, hid }
    }

    /// True when it hid every difference at its place. What hides noise has no place, and all that it meets is hidden.
    pub(super) fn is_broad(&self) -> bool {
        self.hid == EVERYTHING && self.rule != NOISE_RULE
    }
}

// === impl CauseReport ===

impl CauseReport {
    fn new(judged: JudgedCause, compared: u64, base: &str) -> Self {
        let share = if compared == 0 { 0.0 } else { judged.count as f64 / compared as f64 };
        let rules = match judged.state {
            CauseState::Withheld => fitting(&judged),
            CauseState::Counts | CauseState::Undecided | CauseState::Noise => Vec::new(),
        };
        let change = |Change { path, kind, classes }| ChangeReport { path, kind, classes };
        Self {
            id: judged.cause.id,
            signature: judged.cause.signature,
            changes: judged.cause.changes.into_iter().map(change).collect(),
            state: judged.state.label(),
            rules,
            merged: judged.merged,
            route: judged.route,
            count: judged.count,
            share,
            first_seen: time(judged.first_seen),
            last_seen: time(judged.last_seen),
            examples: judged.examples.into_iter().map(|example| ExampleReport::new(example, base)).collect(),
        }
    }
}

// === impl ExampleReport ===

impl ExampleReport {
    fn new(example: Example, base: &str) -> Self {
        let Curl { command, notes } = curl(&example, base);
        Self {
            exchange: example.exchange.clone(),
            request: RequestReport {
                method: example.method.clone(),
                target: example.target.clone(),
                body_bytes: example.body_bytes,
            },
            control_status: example.control_status,
            candidate_status: example.candidate_status,
            differences: example.differences.clone(),
            differences_omitted: example.differences_omitted,
            curl: command,
            curl_notes: notes,
            kept: example,
        }
    }
}
