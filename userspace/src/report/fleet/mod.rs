//! One report for all hosts of an experiment, from what they wrote into the store between them.
//!
//! Reads no socket, and judges nothing of its own: what was read becomes the record of a run, of which `build` makes the
//! report as it does of a journal's.

mod balance;
mod facts;
mod member;
mod text;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::build::Times;
use super::facts::{Count, Report, ReportError};
use super::verdict::VerdictPolicy;
use crate::compare::latency::LatencyTally;
use crate::compare::noise::NoiseModel;
use crate::journal::{
    Answers, CauseRecord, Example, ExperimentRecord, OutcomeCount, PathRecord, RuleCount, RunId, RunRecord,
    StoredExample,
};
use crate::model::{Change, FleetCopy, ShardCopy, Timestamp};

use balance::Balance;
pub use facts::{BookReport, FleetReport, MemberReport};
use member::Member;
pub use member::{CaptureShare, Field, MemberName, PauseShare, WorkerShare};

/// Between the parts of a name in the store.
const SEPARATOR: char = '\u{1f}';

/// Examples of one cause, the smallest ones: each shard keeps one.
const EXAMPLES_MAX: usize = 3;

/// What both branches answered in the examples of a fleet.
#[derive(Clone, Debug, Default)]
pub struct FleetAnswers {
    /// By experiment, cause and exchange.
    answers: BTreeMap<(String, String, String), Answers>,
}

/// A cause as the store keeps it.
#[derive(Deserialize)]
struct CauseForm {
    signature: String,
    #[serde(default)]
    changes: Vec<(String, String, Option<String>)>,
    count: u64,
    first_seen_ns: u64,
    last_seen_ns: u64,
}

/// What one experiment comes to.
struct Read {
    record: ExperimentRecord,
    times: Times,
    fleet: FleetReport,
    started_at: Option<Timestamp>,
    /// When the last of its processes was heard of; none while one of them lives.
    ended_at: Option<Timestamp>,
    version: String,
}

// === impl Report ===

impl Report {
    /// The report on these experiments, with the answers of its examples.
    ///
    /// # Errors
    /// When a verdict's policy is not what this program writes.
    pub fn of_fleet(copies: Vec<FleetCopy>) -> Result<(Self, FleetAnswers), ReportError> {
        let mut answers = FleetAnswers::default();
        let reads: Vec<Read> =
            copies.into_iter().map(|copy| Read::new(copy, &mut answers)).collect::<Result<_, _>>()?;
        let started_at = reads.iter().filter_map(|read| read.started_at).min().unwrap_or_default();
        // It has ended when all of it has.
        let ends: Option<Vec<Timestamp>> = reads.iter().map(|read| read.ended_at).collect();
        let (records, rest): (Vec<_>, Vec<_>) =
            reads.into_iter().map(|read| (read.record, (read.times, read.fleet, read.version))).unzip();
        let (mut times, mut fleets, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        for (of_experiment, fleet, version) in rest {
            times.push(Some(of_experiment));
            fleets.push(fleet);
            versions.push(version);
        }
        let record = RunRecord {
            id: RunId(0),
            started_at,
            ended_at: ends.and_then(|ends| ends.into_iter().max()),
            version: versions.into_iter().max().unwrap_or_default(),
            summary: fleets.first().map_or_else(String::new, FleetReport::summary),
            ports: Vec::new(),
            comparisons_removed: 0,
            paused: std::time::Duration::ZERO,
            experiments: records,
        };
        let mut report = Self::new(record, None, times)?;
        report.run.store = "redis";
        for (experiment, fleet) in report.experiments.iter_mut().zip(fleets) {
            experiment.fleet = Some(fleet);
        }
        Ok((report, answers))
    }
}

// === impl FleetAnswers ===

impl FleetAnswers {
    /// What both branches answered in an example.
    pub fn of(&self, experiment: &str, example: &Example) -> Answers {
        let key = (experiment.to_owned(), example.cause.clone(), example.exchange.clone());
        self.answers.get(&key).cloned().unwrap_or_default()
    }
}

// === impl Read ===

impl Read {
    fn new(copy: FleetCopy, answers: &mut FleetAnswers) -> Result<Self, ReportError> {
        let FleetCopy { experiment: name, read_at, settings, shards, workers, captures, ranks } = copy;
        let setting = |key: &str| settings.get(key).cloned().unwrap_or_default();
        let policy = match setting("policy") {
            none if none.is_empty() => VerdictPolicy::default(),
            text => VerdictPolicy::from_text(&text)
                .map_err(|source| ReportError::Policy { experiment: name.clone(), source })?,
        };
        let workers: Vec<Member> = workers.into_iter().map(Member::new).collect();
        let captures: Vec<Member> = captures.into_iter().map(Member::new).collect();
        let members = || captures.iter().chain(&workers);
        let balance = Balance::new(&captures, &shards, read_at);
        let shares = || workers.iter().map(|worker| &worker.latency);
        let times = times(&policy, shares);
        let place = |route: &str, path: &str| ranks.get(&format!("{route}{SEPARATOR}{path}")).copied();
        let noise = NoiseModel::merged(workers.iter().filter_map(|worker| worker.noise.as_ref()), place);
        let paths = match noise {
            Ok(model) => model.report().paths.iter().map(PathRecord::new).collect::<Result<_, _>>()?,
            // A worker that weighs evidence by what is no level cannot say what is noise.
            Err(_) => Vec::new(),
        };
        let created = setting("created_ns").parse().ok().map(Timestamp);
        let started = members().filter_map(|member| member.started_at).min();
        let is_live = members().any(|member| balance::state(member, read_at) == balance::LIVE);
        let heard = members().filter_map(|member| member.heard_of).max();
        let version = members().map(|member| member.version.as_str()).max().unwrap_or_default().to_owned();
        let fleet = FleetReport {
            shards: shards.len(),
            captures: captures.iter().map(|member| MemberReport::new(member, read_at)).collect(),
            workers: workers.iter().map(|member| MemberReport::new(member, read_at)).collect(),
            book: balance.book.clone(),
            unheard: balance.unheard,
            ahead: balance.ahead,
            packets_dropped: dropped(&captures),
            latency_omitted: workers.iter().map(|worker| worker.latency_omitted).max().unwrap_or_default(),
        };
        let record = ExperimentRecord {
            candidate: setting("candidate"),
            policy: match policy.to_text() {
                Ok(policy) => policy,
                Err(source) => return Err(ReportError::Policy { experiment: name, source }),
            },
            context: serde_json::from_str(&setting("context")).unwrap_or_default(),
            stopped: members().find_map(|member| member.stopped.clone()),
            seen: balance.seen,
            in_flight: balance.in_flight,
            fates: balance.fates,
            outcomes: outcomes(&shards),
            causes: causes(&name, &shards, answers),
            causes_omitted: balance.causes_omitted,
            rules: rules(
                &serde_json::from_str::<Vec<String>>(&setting("rules")).unwrap_or_default(),
                &workers,
            ),
            latencies: Vec::new(),
            routes: serde_json::from_str(&setting("routes")).unwrap_or_default(),
            paths,
            name,
        };
        let ended_at = if is_live { None } else { heard };
        Ok(Self { record, times, fleet, started_at: started.or(created), ended_at, version })
    }
}

/// The times of each route over all workers.
fn times<'w, W>(policy: &VerdictPolicy, workers: impl Fn() -> W) -> Times
where
    W: Iterator<Item = &'w BTreeMap<String, crate::compare::latency::LatencyShare>>,
{
    let routes = workers().flat_map(BTreeMap::keys);
    let merged = |route: &String| {
        let shares = workers().filter_map(|worker| worker.get(route));
        (route.clone(), LatencyTally::merged(policy.latency(), shares))
    };
    routes.collect::<std::collections::BTreeSet<_>>().into_iter().map(merged).collect()
}

fn outcomes(shards: &[ShardCopy]) -> Vec<OutcomeCount> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in shards.iter().flat_map(|shard| &shard.outcomes) {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(*count);
    }
    let outcome = |(name, count): (&str, u64)| {
        let mut parts = name.rsplitn(3, SEPARATOR).map(str::to_owned);
        let (reason, outcome, route) = (parts.next()?, parts.next()?, parts.next()?);
        Some(OutcomeCount { route, outcome, reason, count })
    };
    sums.into_iter().filter_map(outcome).collect()
}

fn causes(experiment: &str, shards: &[ShardCopy], answers: &mut FleetAnswers) -> Vec<CauseRecord> {
    let mut causes: BTreeMap<&str, CauseRecord> = BTreeMap::new();
    for (name, json) in shards.iter().flat_map(|shard| &shard.causes) {
        let Ok(form) = serde_json::from_str::<CauseForm>(json) else { continue };
        let Some((route, id)) = name.rsplit_once(SEPARATOR) else { continue };
        let CauseForm { signature, changes, count, first_seen_ns, last_seen_ns } = form;
        let (first, last) = (Timestamp(first_seen_ns), Timestamp(last_seen_ns));
        let cause = causes.entry(name).or_insert_with(|| CauseRecord {
            id: id.to_owned(),
            route: route.to_owned(),
            signature,
            changes: changes
                .into_iter()
                .map(|(path, kind, classes)| Change { path, kind, classes })
                .collect(),
            count: 0,
            first_seen: first,
            last_seen: last,
            examples: Vec::new(),
        });
        cause.count = cause.count.saturating_add(count);
        cause.first_seen = cause.first_seen.min(first);
        cause.last_seen = cause.last_seen.max(last);
    }
    for (name, json) in shards.iter().flat_map(|shard| &shard.examples) {
        let Some(cause) = causes.get_mut(name.as_str()) else { continue };
        let Ok((example, of_example)) = StoredExample::read(&cause.id, json) else { continue };
        let key = (experiment.to_owned(), cause.id.clone(), example.exchange.clone());
        answers.answers.insert(key, of_example);
        cause.examples.push(example);
    }
    let mut causes: Vec<CauseRecord> = causes.into_values().collect();
    for cause in &mut causes {
        cause.examples.sort_by(|a, b| (a.bytes, &a.exchange).cmp(&(b.bytes, &b.exchange)));
        cause.examples.truncate(EXAMPLES_MAX);
    }
    causes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.id.cmp(&b.id)));
    causes
}

/// What rules hid on all workers: those that are configured in their order, then others.
fn rules(configured: &[String], workers: &[Member]) -> Vec<RuleCount> {
    let empty =
        |rule: &str| RuleCount { rule: rule.to_owned(), comparisons: 0, differences: 0, met: 0, failed: 0 };
    let mut counts: Vec<RuleCount> = configured.iter().map(|rule| empty(rule)).collect();
    for RuleCount { rule, comparisons, differences, met, failed } in
        workers.iter().flat_map(|worker| &worker.rules)
    {
        let at = match counts.iter().position(|count| count.rule == *rule) {
            Some(at) => at,
            None => {
                counts.push(empty(rule));
                counts.len() - 1
            }
        };
        let Some(sum) = counts.get_mut(at) else { continue };
        sum.comparisons = sum.comparisons.saturating_add(*comparisons);
        sum.differences = sum.differences.saturating_add(*differences);
        sum.met = sum.met.saturating_add(*met);
        sum.failed = sum.failed.saturating_add(*failed);
    }
    counts
}

fn dropped(captures: &[Member]) -> Vec<Count> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in captures.iter().flat_map(|capture| &capture.drops) {
        let sum = sums.entry(reason).or_default();
        *sum = sum.saturating_add(*count);
    }
    let count = |(name, count): (&str, u64)| Count { name: name.to_owned(), count, meaning: "" };
    sums.into_iter().filter(|(_, count)| *count > 0).map(count).collect()
}

#[cfg(test)]
mod tests;
