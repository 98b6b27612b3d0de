//! What a run would be judged as if it ended now.
//!
//! Reads no journal and no clock: it counts comparisons as they are made, within the bounds of a journal.
//!
//! Counts and times are those that the journal gets, so that a look says what the report would.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::causes::{CauseState, JudgePath, PathName, Standing, standing};
use super::latency::{latency, slower};
use super::verdict::{Conclusion, Evidence, RouteEvidence, Tally, Verdict, VerdictPolicy};
use crate::compare::group::cause_of;
use crate::compare::latency::{LatencyPair, LatencySample, LatencyShare, LatencyTally};
use crate::journal::{RuleCount, RuleTotals};
use crate::model::{Change, Comparison, Observation, Outcome};

/// Bounds of what is known while a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveLimits {
    /// Causes told apart in one experiment; mismatches of further ones count. Default 1,000.
    pub causes_max: usize,
}

/// Counts the comparisons of one experiment.
#[derive(Debug)]
pub struct LiveExperiment {
    name: Arc<str>,
    policy: VerdictPolicy,
    limits: LiveLimits,
    routes: BTreeMap<Arc<str>, LiveRoute>,
    /// By `Cause::id`.
    causes: HashMap<String, LiveCause>,
    /// What rules hid: comparisons, differences.
    hidden: BTreeMap<Arc<str>, (u64, u64)>,
}

/// What can be said of an experiment now.
#[derive(Clone, Debug)]
pub struct Look {
    /// The experiment.
    pub experiment: Arc<str>,
    /// Comparisons that could be made.
    pub compared: u64,
    /// Those that differ where it counts.
    pub mismatched: u64,
    /// What the verdict would be.
    pub verdict: Verdict,
    /// True when it would be PASS if something could measure what nothing can: it stays as it is.
    pub lacks_a_source: bool,
}

#[derive(Debug, Default)]
struct LiveRoute {
    tally: Tally,
    /// None until a pair of times was seen.
    times: Option<LatencyTally>,
}

#[derive(Debug)]
struct LiveCause {
    route: Arc<str>,
    changes: Vec<Change>,
    count: u64,
}

// === impl LiveLimits ===

impl Default for LiveLimits {
    fn default() -> Self {
        Self { causes_max: 1_000 }
    }
}

// === impl LiveExperiment ===

impl LiveExperiment {
    /// Nothing was compared yet. `routes` are those that are configured.
    pub fn new(
        name: Arc<str>,
        policy: VerdictPolicy,
        routes: impl IntoIterator<Item = Arc<str>>,
        limits: LiveLimits,
    ) -> Self {
        let routes = routes.into_iter().map(|route| (route, LiveRoute::default())).collect();
        Self { name, policy, limits, routes, causes: HashMap::new(), hidden: BTreeMap::new() }
    }

    /// The experiment's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts one comparison.
    pub fn observe(&mut self, comparison: &Comparison) {
        let Comparison { experiment: _, route, exchange, candidate, compared_at, outcome } = comparison;
        let live = self.routes.entry(Arc::clone(route)).or_default();
        *match outcome {
            Outcome::Match => &mut live.tally.matched,
            Outcome::Mismatch { differences: _, ignored: _, omitted: _ } => &mut live.tally.mismatched,
            Outcome::Ignored(_) => &mut live.tally.ignored,
            Outcome::Incomparable(_) => &mut live.tally.incomparable,
        } += 1;
        if let Observation::Answered { response: _, ttfb, served } = candidate
            && let Some(control) = exchange.times.served()
        {
            let sample = LatencySample {
                first_byte: exchange.times.ttfb().map(|control| LatencyPair::of(control, *ttfb)),
                last_byte: LatencyPair::of(control, *served),
            };
            let times = live.times.get_or_insert_with(|| LatencyTally::new(self.policy.latency()));
            times.observe(*compared_at, &sample);
        }
        let hidden: &[(Arc<str>, u32)] = match outcome {
            Outcome::Mismatch { differences: _, ignored, omitted: _ } | Outcome::Ignored(ignored) => ignored,
            Outcome::Match | Outcome::Incomparable(_) => &[],
        };
        for (rule, differences) in hidden {
            let (comparisons, sum) = self.hidden.entry(Arc::clone(rule)).or_default();
            *comparisons = comparisons.saturating_add(1);
            *sum = sum.saturating_add(u64::from(*differences));
        }
        let Some(cause) = cause_of(comparison) else { return };
        if let Some(known) = self.causes.get_mut(&cause.id) {
            known.count += 1;
        } else if self.causes.len() < self.limits.causes_max {
            let route = Arc::clone(route);
            self.causes.insert(cause.id, LiveCause { route, changes: cause.changes, count: 1 });
        }
    }

    /// How long both branches took so far, by route, for other hosts.
    pub fn latency_shares(&self) -> BTreeMap<String, LatencyShare> {
        let share =
            |(route, live): (&Arc<str>, &LiveRoute)| Some((route.to_string(), live.times.as_ref()?.share()));
        self.routes.iter().filter_map(share).collect()
    }

    /// What rules hid so far, for other hosts; `totals` is what each met and how often it failed.
    pub fn rule_counts(&self, totals: &[RuleTotals]) -> Vec<RuleCount> {
        let names = totals.iter().map(|totals| &totals.rule).chain(self.hidden.keys());
        // In the order of the configuration, then what hides noise.
        let mut counts: Vec<RuleCount> = Vec::new();
        for rule in names {
            if counts.iter().any(|count| *count.rule == **rule) {
                continue;
            }
            let (comparisons, differences) = self.hidden.get(rule).copied().unwrap_or_default();
            let of_rule = totals.iter().find(|totals| totals.rule == *rule);
            counts.push(RuleCount {
                rule: rule.to_string(),
                comparisons,
                differences,
                met: of_rule.map_or(0, |totals| totals.met),
                failed: of_rule.map_or(0, |totals| totals.failed),
            });
        }
        counts
    }

    /// What can be said now, by what `judge` says of each path.
    pub fn look(&self, judge: JudgePath<'_>) -> Look {
        let mut tallies: BTreeMap<&Arc<str>, Tally> =
            self.routes.iter().map(|(route, live)| (route, live.tally)).collect();
        let mut counting = 0;
        for LiveCause { route, changes, count } in self.causes.values() {
            let of_path = |path: &str| judge(&PathName { experiment: &self.name, route, path });
            let state = match standing(changes, of_path) {
                Standing::Counts(_) => CauseState::Counts,
                Standing::Undecided(_) => CauseState::Undecided,
                Standing::Withheld(_) => CauseState::Withheld,
                Standing::Noise => CauseState::Noise,
            };
            counting += usize::from(state == CauseState::Counts);
            tallies.entry(route).or_default().rejudge(state, *count);
        }
        let routes = tallies.into_iter().map(|(route, tally)| {
            let times = self.routes.get(route).and_then(|live| live.times.as_ref());
            let latency = times.and_then(|times| latency(times, &self.policy));
            let slower = latency.and_then(|latency| slower(route, &latency));
            RouteEvidence { route: route.to_string(), tally, slower }
        });
        let evidence = Evidence { routes: routes.collect(), causes: counting, stopped: None };
        let tally = evidence.tally();
        let verdict = self.policy.judge(&evidence).0;
        let lacks_a_source = verdict.verdict == Conclusion::NotEnoughData
            && tally.withheld > 0
            && self.policy.judge(&evidence.with_nothing_withheld()).0.verdict == Conclusion::Pass;
        Look {
            experiment: Arc::clone(&self.name),
            compared: tally.compared(),
            mismatched: tally.mismatched,
            verdict,
            lacks_a_source,
        }
    }
}

// === impl Look ===

impl Look {
    /// True when the verdict is FAIL.
    pub fn fails(&self) -> bool {
        self.verdict.verdict == Conclusion::Fail
    }

    /// True when more comparisons are not needed: the verdict is PASS or FAIL, or lacks what no comparison brings.
    pub fn is_decided(&self) -> bool {
        match self.verdict.verdict {
            Conclusion::Pass | Conclusion::Fail => true,
            Conclusion::NotEnoughData => self.lacks_a_source,
        }
    }
}
