//! What the evidence says now about B, route by route, for alerts.
//!
//! Judges no run: the verdict does. What it says may be taken back, since a candidate can be healed while it is compared.
//!
//! A difference counts by what the noise model says of its path. Where nothing can measure noise, a difference counts as it
//! does in a report, and the share of answers that differ there is tested against the share that is allowed. Times are
//! judged as in a report. The noise model forgets by itself; shares and times are those of the last two generations of
//! comparisons on a route. Each generation begins a test of its own, so that the level is stricter than that of a verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::causes::{JudgePath, PathName};
use super::rate::RateBounds;
use super::verdict::VerdictPolicy;
use crate::compare::latency::{LatencyPair, LatencyPolicy, LatencySample, LatencyTally};
use crate::model::{Comparison, Observation, Outcome, PathState, Regression, RegressionKind, Timestamp};

/// How much is remembered, and how certain is certain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegressionConfig {
    /// A generation lasts at least this long. Default 5 minutes.
    pub generation_min: Duration,
    /// A generation has at least so many comparisons. Default 500.
    pub generation_comparisons_min: u64,
    /// Chance that one generation on one route names a share or a time that is within its margin. Default 0.0001.
    pub error_max: f64,
    /// Paths told apart on one route in one generation; what differs at further ones counts by the noise model only.
    /// Default 200.
    pub paths_max: usize,
}

/// What is known of one experiment lately.
#[derive(Debug)]
pub struct RegressionWatch {
    experiment: Arc<str>,
    config: RegressionConfig,
    /// None where times are not judged.
    latency: Option<LatencyPolicy>,
    share: RateBounds,
    routes: BTreeMap<Arc<str>, RouteWatch>,
}

/// What a noise model says, by route and kind.
#[derive(Debug, Default)]
pub struct EvidenceInForce(HashMap<String, BTreeMap<RegressionKind, InForce>>);

#[derive(Clone, Copy, Debug, Default)]
struct InForce {
    is_reported: bool,
    evalue: f64,
}

#[derive(Debug, Default)]
struct RouteWatch {
    current: Generation,
    before: Option<Generation>,
    /// Evidence of latency, with the number of comparisons it was judged after.
    judged: Option<(u64, f64)>,
    observed: u64,
}

#[derive(Debug, Default)]
struct Generation {
    began: Option<Timestamp>,
    comparisons: u64,
    /// Comparisons with a difference, by path.
    differing: HashMap<String, u64>,
    times: Option<LatencyTally>,
}

/// A policy that asks for no certainty allows this share of differences where nothing measures noise.
const SHARE_UNSEEN_MAX: f64 = 0.01;

/// Powers of ten by which evidence of latency is told: e-values from 10 to 10¹².
const LATENCY_POWERS: i32 = 12;

// === impl RegressionConfig ===

impl Default for RegressionConfig {
    fn default() -> Self {
        Self {
            generation_min: Duration::from_secs(300),
            generation_comparisons_min: 500,
            error_max: 0.000_1,
            paths_max: 200,
        }
    }
}

// === impl EvidenceInForce ===

impl EvidenceInForce {
    /// Takes note of a path: its state, and the logarithm of its e-value less the price of looking at many paths.
    pub fn hear(&mut self, route: &str, path: &str, state: PathState, ln_evalue: f64) {
        let of_route = match self.0.get_mut(route) {
            Some(of_route) => of_route,
            None => self.0.entry(route.to_owned()).or_default(),
        };
        let have = of_route.entry(RegressionKind::of_path(path)).or_default();
        have.is_reported |= state == PathState::Reported;
        have.evalue = have.evalue.max(ln_evalue.exp());
    }

    fn of(&self, route: &str, kind: RegressionKind) -> InForce {
        self.0.get(route).and_then(|kinds| kinds.get(&kind)).copied().unwrap_or_default()
    }
}

// === impl RegressionWatch ===

impl RegressionWatch {
    /// Nothing was compared yet. `routes` are those that are configured.
    pub fn new(
        experiment: Arc<str>,
        policy: &VerdictPolicy,
        routes: impl IntoIterator<Item = Arc<str>>,
        config: RegressionConfig,
    ) -> Self {
        let of_interest = policy.mismatch_share_max + policy.mismatch_share_unseen_max.min(SHARE_UNSEEN_MAX);
        let share = RateBounds { confidence: policy.confidence, of_interest };
        let latency = policy.latency_judged.then(|| policy.latency());
        let routes = routes.into_iter().map(|route| (route, RouteWatch::default())).collect();
        Self { experiment, config, latency, share, routes }
    }

    /// The experiment's name.
    pub fn experiment(&self) -> &Arc<str> {
        &self.experiment
    }

    /// Counts one comparison.
    pub fn observe(&mut self, comparison: &Comparison) {
        let Comparison { experiment: _, route, exchange, candidate, compared_at, outcome } = comparison;
        let watch = match self.routes.get_mut(route) {
            Some(watch) => watch,
            None => self.routes.entry(Arc::clone(route)).or_default(),
        };
        watch.observed = watch.observed.saturating_add(1);
        let generation = watch.generation(*compared_at, &self.config);
        match outcome {
            Outcome::Match | Outcome::Ignored(_) => generation.comparisons += 1,
            Outcome::Mismatch { differences, ignored: _, omitted: _ } => {
                generation.comparisons += 1;
                let paths: BTreeSet<&str> = differences.iter().map(|one| &*one.path).collect();
                for path in paths {
                    if let Some(count) = generation.differing.get_mut(path) {
                        *count += 1;
                    } else if generation.differing.len() < self.config.paths_max {
                        generation.differing.insert(path.to_owned(), 1);
                    }
                }
            }
            Outcome::Incomparable(_) => {}
        }
        if let Some(policy) = self.latency
            && let Observation::Answered { response: _, ttfb, served } = candidate
            && let Some(control) = exchange.times.served()
        {
            let sample = LatencySample {
                first_byte: exchange.times.ttfb().map(|control| LatencyPair::of(control, *ttfb)),
                last_byte: LatencyPair::of(control, *served),
            };
            let times = generation.times.get_or_insert_with(|| LatencyTally::new(policy));
            times.observe(*compared_at, &sample);
        }
    }

    /// What can be said now of each route in each way, by what the noise model says.
    pub fn look(&mut self, judge: JudgePath<'_>, in_force: &EvidenceInForce) -> Vec<Regression> {
        let Self { experiment, config, latency, share, routes } = self;
        let enough = 1.0 / config.error_max;
        let mut all = Vec::with_capacity(routes.len().saturating_mul(RegressionKind::ALL.len()));
        for (route, watch) in routes {
            let is_unmeasured =
                |path: &str| judge(&PathName { experiment, route, path }) == PathState::Unmeasured;
            for kind in RegressionKind::OF_DIFFERENCES {
                let InForce { is_reported, evalue } = in_force.of(route, kind);
                let unmeasured = watch.unmeasured(kind, share, is_unmeasured);
                let (detected, evalue) = (is_reported || unmeasured >= enough, evalue.max(unmeasured));
                all.push(regression(experiment, route, kind, detected, evalue));
            }
            let evalue = latency.map_or(0.0, |policy| watch.slower(policy));
            all.push(regression(experiment, route, RegressionKind::Latency, evalue >= enough, evalue));
        }
        all
    }
}

fn regression(
    experiment: &Arc<str>,
    route: &Arc<str>,
    kind: RegressionKind,
    detected: bool,
    evalue: f64,
) -> Regression {
    let (experiment, route) = (Arc::clone(experiment), Arc::clone(route));
    Regression { experiment, route, kind, detected, evalue: evalue.min(Regression::EVALUE_MAX) }
}

// === impl RouteWatch ===

impl RouteWatch {
    /// The generation that a comparison at `at` belongs to.
    fn generation(&mut self, at: Timestamp, config: &RegressionConfig) -> &mut Generation {
        let began = *self.current.began.get_or_insert(at);
        let is_over = self.current.comparisons >= config.generation_comparisons_min
            && at.since(began) >= config.generation_min;
        if is_over {
            let next = Generation { began: Some(at), ..Generation::default() };
            self.before = Some(std::mem::replace(&mut self.current, next));
        }
        &mut self.current
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.before.iter().chain([&self.current])
    }

    /// The e-value against "at none of the paths at which nothing measures noise more differ than are allowed": the
    /// largest over these paths, divided by their number, which is no more than their mean.
    fn unmeasured(
        &self,
        kind: RegressionKind,
        share: &RateBounds,
        is_unmeasured: impl Fn(&str) -> bool,
    ) -> f64 {
        let comparisons = self.generations().map(|generation| generation.comparisons).sum();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (path, count) in self.generations().flat_map(|generation| &generation.differing) {
            if RegressionKind::of_path(path) == kind {
                *counts.entry(path).or_default() += count;
            }
        }
        counts.retain(|path, _| is_unmeasured(path));
        let evalues = counts.values().map(|count| share.evalue_above(*count, comparisons, share.of_interest));
        evalues.fold(0.0, f64::max) / counts.len().max(1) as f64
    }

    /// The e-value against "B is within the margins", rounded down to a power of ten.
    fn slower(&mut self, policy: LatencyPolicy) -> f64 {
        if let Some((observed, evalue)) = self.judged
            && observed == self.observed
        {
            return evalue;
        }
        let shares: Vec<_> =
            self.generations().filter_map(|generation| Some(generation.times.as_ref()?.share())).collect();
        let times = LatencyTally::merged(policy, &shares);
        let is_slower = |power: i32| times.is_slower_at(1.0 - 10_f64.powi(-power));
        // What is certain at one level is certain at each lower one.
        let (mut certain, mut open) = (0, LATENCY_POWERS + 1);
        while certain + 1 < open {
            let middle = i32::midpoint(certain, open);
            *(if is_slower(middle) { &mut certain } else { &mut open }) = middle;
        }
        let evalue = if certain == 0 { 0.0 } else { 10_f64.powi(certain) };
        self.judged = Some((self.observed, evalue));
        evalue
    }
}

#[cfg(test)]
mod tests;
