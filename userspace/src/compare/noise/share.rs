//! What several workers have found out about the noise of one experiment, put together.
//!
//! Bets on nothing, and keeps nothing: a share is what one worker's model knows now, and what is merged of shares is
//! only looked at.
//!
//! E-values are multiplied. The hypothesis at a path is about the next triple given the past, whoever sees it; so each
//! triple multiplies the product by one factor whose expectation is at most 1, and the product is an e-process as each
//! factor is (V. Vovk and R. Wang, "E-values: Calibration, combination and applications", Annals of Statistics 49(3),
//! 2021, section 4). Ranks come from outside, as they must be those of the whole fleet.

use serde::{Deserialize, Serialize};

use super::model::{NoiseConfig, NoiseConfigError, NoiseModel, RouteRecord};
use super::path::{Faded, Looks, PathRecord};
use super::wealth::Wealth;
use crate::model::{EvidenceCounts, Transition, ValueClass};

/// What one worker knows about the noise of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseShare {
    /// How it weighs evidence.
    pub config: NoiseConfig,
    /// Its routes.
    pub routes: Vec<RouteShare>,
    /// Differences at paths beyond its bound.
    pub differences_unmeasured: u64,
}

/// What one worker knows about one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteShare {
    /// The route.
    pub route: String,
    /// Comparisons of A and B that could be made.
    pub comparisons: u64,
    /// Those about which nothing can be measured.
    pub unmeasurable: u64,
    /// Those of late: older ones have lost weight.
    pub comparisons_recently: f64,
    /// Triples by source.
    pub triples: [u64; 3],
    /// Those of twins and repeats of late.
    pub triples_recently: f64,
    /// Paths at which something differed.
    pub paths: Vec<PathShare>,
}

/// What one worker knows about one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathShare {
    /// The normalised path.
    pub path: String,
    /// Labels of the classes of A's and B's value at the last difference.
    pub classes: (String, String),
    /// Comparisons that differ by how their values look: volatile, numbers, plain, of two classes.
    pub looks: [u64; 4],
    /// How often A's numbers rose and did not, then B's.
    pub steps: [(u32, u32); 2],
    /// Comparisons with a difference here about which nothing can be measured.
    pub unmeasurable: u64,
    /// Comparisons with a difference here.
    pub differing: u64,
    /// Those of late.
    pub differing_recently: f64,
    /// What triples said, by source: hits, misses, all different, the middle one different.
    pub sources: [[u64; 4]; 3],
    /// Triples of late in which one version differed from itself.
    pub same_recently: f64,
    /// Trials that were hits.
    pub hits: u64,
    /// Trials.
    pub trials: u64,
    /// Hits of late.
    pub hits_recently: f64,
    /// Trials of late.
    pub trials_recently: f64,
    /// Natural logarithm of the e-value against "B does as A does".
    pub ln_against: f64,
    /// Natural logarithm of the e-value against "most of what differs is B's doing".
    pub ln_noise: f64,
    /// Its place in the order of first trials on this worker, from 1; none before the first.
    pub rank: Option<usize>,
    /// Whether a triple is on its way.
    pub is_awaited: bool,
    /// Whether nothing speaks for a difference of B's own any more.
    pub is_quiet: bool,
}

// === impl NoiseModel ===

impl NoiseModel {
    /// What this model can tell others.
    pub fn share(&self) -> NoiseShare {
        let mut routes: Vec<RouteShare> =
            self.routes.iter().map(|route| RouteShare::new(route, &self.config)).collect();
        for record in &self.paths {
            let share = routes.get_mut(record.route);
            let comparisons = share.as_ref().map_or(0, |route| route.comparisons);
            let path = PathShare::new(record, comparisons, self.config.half_life);
            if let Some(route) = share {
                route.paths.push(path);
            }
        }
        NoiseShare {
            config: self.config.clone(),
            routes,
            differences_unmeasured: self.differences_unmeasured,
        }
    }

    /// What several workers know together. `rank` says at which place of the fleet's order of first trials a path of a
    /// route stands, from 1, no two at one place; a path without a place is never reported.
    ///
    /// # Errors
    /// When the configuration of a share is out of its range. The strictest of their levels is used.
    pub fn merged<'s>(
        shares: impl IntoIterator<Item = &'s NoiseShare>,
        rank: impl Fn(&str, &str) -> Option<usize>,
    ) -> Result<Self, NoiseConfigError> {
        let shares: Vec<&NoiseShare> = shares.into_iter().collect();
        let config = shares.iter().map(|share| share.config.clone()).reduce(|a, b| a.strictest(&b));
        let mut model = Self::new(config.unwrap_or_default())?;
        let routes = shares.iter().flat_map(|share| &share.routes);
        routes.clone().for_each(|route| model.merge_route(route));
        routes.for_each(|route| model.merge_paths(route));
        for share in shares {
            model.differences_unmeasured =
                model.differences_unmeasured.saturating_add(share.differences_unmeasured);
        }
        model.rank_paths(rank);
        let all: Vec<usize> = (0..model.paths.len()).collect();
        model.judge(&all);
        Ok(model)
    }

    fn merge_route(&mut self, share: &RouteShare) {
        let RouteShare {
            route,
            comparisons,
            unmeasurable,
            comparisons_recently,
            triples,
            triples_recently,
            paths: _,
        } = share;
        let (at, half_life) = (self.route(route), self.config.half_life);
        let Some(record) = self.routes.get_mut(at) else { return };
        let recently = record.comparisons_recently.get(record.comparisons, half_life);
        let triples_before = record.triples_recently.get(record.comparisons, half_life);
        record.comparisons = record.comparisons.saturating_add(*comparisons);
        record.unmeasurable = record.unmeasurable.saturating_add(*unmeasurable);
        let now = record.comparisons;
        record.comparisons_recently = Faded::new(recently + finite(*comparisons_recently), now);
        record.triples_recently = Faded::new(triples_before + finite(*triples_recently), now);
        for (sum, more) in record.triples.iter_mut().zip(triples) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// Done once the comparisons of all workers on the route are known, since sums fade with their number.
    fn merge_paths(&mut self, share: &RouteShare) {
        let (at, half_life) = (self.route(&share.route), self.config.half_life);
        let now = self.routes.get(at).map_or(0, |route| route.comparisons);
        for path in &share.paths {
            match self.path(at, &path.path, path.transition()) {
                Some(record) => path.merge_into(record, now, half_life),
                None => {
                    self.differences_unmeasured = self.differences_unmeasured.saturating_add(path.differing);
                }
            }
        }
    }

    fn rank_paths(&mut self, rank: impl Fn(&str, &str) -> Option<usize>) {
        let ranks = 1..=self.config.paths_max;
        let prices = self.discoveries.prices();
        for record in &mut self.paths {
            let route = self.routes.get(record.route).map_or("", |route| &route.name);
            // Only a path with a trial has a place in the order.
            record.rank =
                record.rank.and_then(|_| rank(route, &record.path)).filter(|rank| ranks.contains(rank));
            record.ln_price = record.rank.map(|rank| prices.ln_price(rank));
            if let Some(weighted) = record.ln_weighted() {
                record.order = self.discoveries.change(record.order, weighted);
            }
        }
        self.ranked = self.paths.iter().filter_map(|record| record.rank).max().unwrap_or(0);
    }
}

// === impl NoiseConfig ===

impl NoiseConfig {
    /// What promises no more than either of both.
    fn strictest(&self, other: &Self) -> Self {
        let Self {
            false_discovery_rate,
            noise_error_max,
            excess_max,
            confidence,
            half_life,
            spacing,
            paths_max,
        } = other;
        Self {
            false_discovery_rate: self.false_discovery_rate.min(*false_discovery_rate),
            noise_error_max: self.noise_error_max.min(*noise_error_max),
            excess_max: self.excess_max.max(*excess_max),
            confidence: self.confidence.max(*confidence),
            half_life: self.half_life.max(*half_life),
            spacing: self.spacing.max(*spacing),
            // The weights of all ranks of the larger one sum to 1.
            paths_max: self.paths_max.max(*paths_max),
        }
    }
}

// === impl RouteShare ===

impl RouteShare {
    fn new(record: &RouteRecord, config: &NoiseConfig) -> Self {
        let RouteRecord {
            name,
            paths: _,
            comparisons,
            unmeasurable,
            comparisons_recently,
            triples,
            triples_recently,
        } = record;
        let recently = |sum: &Faded| sum.get(*comparisons, config.half_life);
        Self {
            route: name.to_string(),
            comparisons: *comparisons,
            unmeasurable: *unmeasurable,
            comparisons_recently: recently(comparisons_recently),
            triples: *triples,
            triples_recently: recently(triples_recently),
            paths: Vec::new(),
        }
    }
}

// === impl PathShare ===

impl PathShare {
    fn new(record: &PathRecord, comparisons: u64, half_life: u32) -> Self {
        let recently = |sum: &Faded| sum.get(comparisons, half_life);
        let Transition { control, candidate } = record.transition;
        let looks = record.looks;
        let counts = |counts: EvidenceCounts| {
            let EvidenceCounts { hits, misses, all_different, middle_different } = counts;
            [hits, misses, all_different, middle_different]
        };
        Self {
            path: record.path.to_string(),
            classes: (control.label().to_owned(), candidate.label().to_owned()),
            looks: [looks.volatile, looks.numbers, looks.plain, looks.changed],
            steps: record.trends.map(|trend| trend.steps()),
            unmeasurable: record.unmeasurable,
            differing: record.differing,
            differing_recently: recently(&record.differing_recently),
            sources: record.sources.map(counts),
            same_recently: recently(&record.same_recently),
            hits: record.hits,
            trials: record.trials,
            hits_recently: recently(&record.hits_recently),
            trials_recently: recently(&record.trials_recently),
            ln_against: record.ln_against(),
            ln_noise: record.noise.ln(),
            rank: record.rank,
            is_awaited: record.is_awaited,
            is_quiet: record.quiet_since(comparisons).is_some(),
        }
    }

    /// The classes, text for one that this program does not know.
    fn transition(&self) -> Transition {
        let class = |label: &String| {
            ValueClass::ALL.into_iter().find(|class| class.label() == label).unwrap_or(ValueClass::Text)
        };
        Transition { control: class(&self.classes.0), candidate: class(&self.classes.1) }
    }

    /// Adds what this worker knows to what others do.
    fn merge_into(&self, record: &mut PathRecord, now: u64, half_life: u32) {
        let more = |sum: &mut Faded, share: f64| {
            *sum = Faded::new(sum.get(now, half_life) + finite(share), now);
        };
        more(&mut record.differing_recently, self.differing_recently);
        more(&mut record.same_recently, self.same_recently);
        more(&mut record.hits_recently, self.hits_recently);
        more(&mut record.trials_recently, self.trials_recently);
        if self.differing > record.differing {
            // Whoever saw most of it knows best what stands there.
            record.transition = self.transition();
        }
        let Looks { volatile, numbers, plain, changed } = &mut record.looks;
        for (sum, more) in [volatile, numbers, plain, changed].into_iter().zip(self.looks) {
            *sum = sum.saturating_add(more);
        }
        for (trend, (rises, falls)) in record.trends.iter_mut().zip(self.steps) {
            trend.stepped_elsewhere(rises, falls);
        }
        record.unmeasurable = record.unmeasurable.saturating_add(self.unmeasurable);
        // It is quiet where it is so on all workers that saw it differ.
        if self.differing > 0 {
            record.is_quiet = self.is_quiet && (record.is_quiet || record.differing == 0);
            record.quiet_since = now;
            (record.first_seen, record.last_seen) = (1, now);
        }
        record.differing = record.differing.saturating_add(self.differing);
        record.hits = record.hits.saturating_add(self.hits);
        record.trials = record.trials.saturating_add(self.trials);
        for (sum, [hits, misses, all_different, middle_different]) in
            record.sources.iter_mut().zip(self.sources)
        {
            sum.hits = sum.hits.saturating_add(hits);
            sum.misses = sum.misses.saturating_add(misses);
            sum.all_different = sum.all_different.saturating_add(all_different);
            sum.middle_different = sum.middle_different.saturating_add(middle_different);
        }
        record.against = Wealth::won_elsewhere(record.against.ln() + finite(self.ln_against));
        record.noise = Wealth::won_elsewhere(record.noise.ln() + finite(self.ln_noise));
        record.rank = record.rank.or(self.rank);
        record.is_awaited |= self.is_awaited;
    }
}

/// What another host wrote may be any number.
fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests fail by panicking")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::compare::noise::{DifferingPaths, Triple};
    use crate::compare::sim::Uniform;
    use crate::model::{EvidenceSource, PathState};

    const ROUTE: &str = "/items/{id}";

    /// Several workers with a twin, and the order in which they came to know paths.
    struct Fleet {
        workers: Vec<NoiseModel>,
        ranks: HashMap<String, usize>,
    }

    impl Fleet {
        fn new(workers: usize) -> Self {
            let new = || NoiseModel::new(NoiseConfig::default()).unwrap();
            Self { workers: std::iter::repeat_with(new).take(workers).collect(), ranks: HashMap::new() }
        }

        /// One exchange on one worker: for each path whether A/B and A/A′ differ.
        fn exchange(&mut self, worker: usize, values: &[(&'static str, bool, bool)]) {
            let differing = |which: fn(&(&'static str, bool, bool)) -> bool| {
                let paths: Vec<_> = values
                    .iter()
                    .filter(|value| which(value))
                    .map(|(path, ..)| (*path, ValueClass::Text, 0.0))
                    .collect();
                DifferingPaths::of(&paths)
            };
            let (candidate, same_version) = (differing(|value| value.1), differing(|value| value.2));
            let model = &mut self.workers[worker];
            model.observe(ROUTE, &candidate, true);
            let source = EvidenceSource::Twin;
            let third = Some(&candidate);
            model.evidence(
                ROUTE,
                &Triple { source, candidate: &candidate, same_version: &same_version, third, fair: true },
            );
            for (path, b, kin) in values {
                let next = self.ranks.len() + 1;
                if b != kin {
                    self.ranks.entry((*path).to_owned()).or_insert(next);
                }
            }
        }

        fn merged(&self) -> NoiseModel {
            let shares: Vec<_> = self.workers.iter().map(NoiseModel::share).collect();
            NoiseModel::merged(&shares, |_, path| self.ranks.get(path).copied()).unwrap()
        }
    }

    #[test]
    fn what_one_worker_knows_is_the_same_merged() {
        let mut fleet = Fleet::new(1);
        let mut random = Uniform::new(3);
        for _ in 0..200 {
            let values = [
                ("noise", random.chance(0.3), random.chance(0.3)),
                ("wrong", random.chance(0.3), false),
                ("rare", random.chance(0.01), random.chance(0.01)),
            ];
            fleet.exchange(0, &values);
        }
        let (one, merged) = (fleet.workers[0].report(), fleet.merged().report());
        assert_eq!(one.routes, merged.routes);
        for (one, merged) in one.paths.iter().zip(&merged.paths) {
            assert_eq!(
                (&one.path, one.state, one.sources, one.candidate),
                (&merged.path, merged.state, merged.sources, merged.candidate)
            );
            assert!((one.evidence - merged.evidence).abs() < 1e-9, "{one:?} {merged:?}");
        }
        assert_eq!(merged.paths.len(), 3);
    }

    #[test]
    fn what_no_worker_knows_for_certain_all_of_them_do() {
        let mut fleet = Fleet::new(4);
        for exchange in 0..16 {
            fleet.exchange(exchange % 4, &[("wrong", true, false), ("noise", true, true)]);
        }
        let alone: Vec<_> = fleet.workers.iter().map(|worker| worker.state(ROUTE, "wrong")).collect();
        assert_eq!(alone, [PathState::Undecided; 4]);
        assert_eq!(fleet.merged().state(ROUTE, "wrong"), PathState::Reported);
        assert_ne!(fleet.merged().state(ROUTE, "noise"), PathState::Reported);
    }

    #[test]
    fn a_path_without_a_place_in_the_order_is_not_reported() {
        let mut fleet = Fleet::new(2);
        (0..40).for_each(|exchange| fleet.exchange(exchange % 2, &[("wrong", true, false)]));
        fleet.ranks.clear();
        assert_eq!(fleet.merged().state(ROUTE, "wrong"), PathState::Undecided);
    }

    /// With nothing real any alarm is a false discovery: at most 10 of 200 runs may have one, looked at each time.
    #[test]
    fn noise_seen_by_many_workers_raises_no_alarm() {
        let alarms = (0..200_u64).filter(|seed| {
            let mut random = Uniform::new(*seed);
            let mut fleet = Fleet::new(4);
            (0..100).any(|exchange| {
                fleet.exchange(
                    exchange % 4,
                    &[
                        ("often", random.chance(0.5), random.chance(0.5)),
                        ("seldom", random.chance(0.1), random.chance(0.1)),
                    ],
                );
                let merged = fleet.merged();
                ["often", "seldom"].iter().any(|path| merged.state(ROUTE, path) == PathState::Reported)
            })
        });
        let alarms = alarms.count();
        println!("noise on four workers: {alarms} of 200 runs with an alarm");
        assert!(alarms <= 10, "{alarms}");
    }

    #[test]
    fn what_is_no_number_counts_for_nothing() {
        let mut fleet = Fleet::new(1);
        (0..40).for_each(|_| fleet.exchange(0, &[("wrong", true, false)]));
        let mut share = fleet.workers[0].share();
        let path = &mut share.routes[0].paths[0];
        (path.ln_against, path.differing_recently) = (f64::INFINITY, f64::NAN);
        let merged = NoiseModel::merged([&share], |_, _| Some(1)).unwrap();
        assert_ne!(merged.state(ROUTE, "wrong"), PathState::Reported);
        share.config.confidence = 7.0;
        assert!(NoiseModel::merged([&share], |_, _| Some(1)).is_err());
    }
}
