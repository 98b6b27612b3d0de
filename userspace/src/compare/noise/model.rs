//! Keeps the evidence of one experiment over all its routes and paths.
//!
//! Counts comparisons instead of time. Holds no answer and no value.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::fdr::Discoveries;
use super::path::{Bet, Faded, PathRecord};
use super::triple::{DifferingPaths, Triple};
use crate::model::{EvidenceSource, PathState, Transition};

/// How evidence is weighed. Levels are above 0 and below 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseConfig {
    /// Share of false ones among reported paths, in expectation, at any moment of looking. Default 0.05.
    pub false_discovery_rate: f64,
    /// Chance that a path is ever called noise of which at least `excess_max` of what differs is B's doing.
    /// Default 0.05.
    pub noise_error_max: f64,
    /// Share of hits among what differs from which on a path is never noise; above 0.5. Default 0.75.
    pub excess_max: f64,
    /// Level of the bounds that are shown. Default 0.95.
    pub confidence: f64,
    /// Comparisons on a route after which one weighs half in a recent rate. Default 1,000.
    pub half_life: u32,
    /// Comparisons on a route that must lie between two triples that count at one path. More than 0 helps where noise
    /// comes in runs, such as caches that each keep their own value for a while. Default 0.
    pub spacing: u32,
    /// Paths with evidence, about 800 bytes each with their names; beyond, a path is unmeasured. Default 4,096.
    pub paths_max: usize,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}` must be {range}, not {value}")]
pub struct NoiseConfigError {
    /// The key.
    pub key: &'static str,
    /// What it may be.
    pub range: &'static str,
    /// The value given.
    pub value: f64,
}

/// What is known about the noise of one experiment.
#[derive(Debug)]
pub struct NoiseModel {
    pub(super) config: NoiseConfig,
    pub(super) routes: Vec<RouteRecord>,
    route_by_name: HashMap<Arc<str>, usize, RandomState>,
    pub(super) paths: Vec<PathRecord>,
    pub(super) discoveries: Discoveries,
    /// Paths that have a rank.
    pub(super) ranked: usize,
    pub(super) differences_unmeasured: u64,
    /// See [`NoiseModel::take_news`]; no path twice.
    news: Vec<PathId>,
    /// See [`NoiseModel::changes`].
    changes: u64,
}

/// The number of a path of a model, in the order in which paths were first seen; it stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(usize);

/// One route.
#[derive(Debug)]
pub(super) struct RouteRecord {
    pub(super) name: Arc<str>,
    pub(super) paths: HashMap<Arc<str>, usize, RandomState>,
    pub(super) comparisons: u64,
    /// Those about which no source of evidence can ever say anything.
    pub(super) unmeasurable: u64,
    pub(super) comparisons_recently: Faded,
    pub(super) triples: [u64; 3],
    /// Those of twins and repeats.
    pub(super) triples_recently: Faded,
}

// === impl NoiseConfig ===

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            false_discovery_rate: 0.05,
            noise_error_max: 0.05,
            excess_max: 0.75,
            confidence: 0.95,
            half_life: 1_000,
            spacing: 0,
            paths_max: 4_096,
        }
    }
}

impl NoiseConfig {
    fn validate(&self) -> Result<(), NoiseConfigError> {
        let Self {
            false_discovery_rate,
            noise_error_max,
            excess_max,
            confidence,
            half_life,
            spacing: _,
            paths_max,
        } = *self;
        let level = |value: f64| value > 0.0 && value < 1.0;
        let checks = [
            (
                "false_discovery_rate",
                "above 0 and below 1",
                false_discovery_rate,
                level(false_discovery_rate),
            ),
            ("noise_error_max", "above 0 and below 1", noise_error_max, level(noise_error_max)),
            ("excess_max", "above 0.5 and below 1", excess_max, excess_max > 0.5 && excess_max < 1.0),
            ("confidence", "above 0 and below 1", confidence, level(confidence)),
            ("half_life", "at least 1", f64::from(half_life), half_life > 0),
            ("paths_max", "between 1 and 1,000,000", paths_max as f64, (1..=1_000_000).contains(&paths_max)),
        ];
        match checks.into_iter().find(|(_, _, _, fits)| !fits) {
            None => Ok(()),
            Some((key, range, value, _)) => Err(NoiseConfigError { key, range, value }),
        }
    }
}

// === impl NoiseModel ===

impl NoiseModel {
    /// A model that knows nothing yet.
    ///
    /// # Errors
    /// Names the first key that is out of its range.
    pub fn new(config: NoiseConfig) -> Result<Self, NoiseConfigError> {
        config.validate()?;
        Ok(Self {
            discoveries: Discoveries::new(config.false_discovery_rate, config.paths_max),
            config,
            routes: Vec::new(),
            route_by_name: HashMap::default(),
            paths: Vec::new(),
            ranked: 0,
            differences_unmeasured: 0,
            news: Vec::new(),
            changes: 0,
        })
    }

    /// Counts one comparison of A and B. Call it for each that could be made, also where nothing differs. It is
    /// `measurable` where a source of evidence may say something about it, now or later.
    ///
    /// Routes come from the configuration: their number is not bounded here.
    pub fn observe(&mut self, route: &str, candidate: &DifferingPaths, measurable: bool) {
        self.changes = self.changes.wrapping_add(1);
        let at = self.route(route);
        let half_life = self.config.half_life;
        let Some(record) = self.routes.get_mut(at) else { return };
        record.comparisons = record.comparisons.saturating_add(1);
        record.unmeasurable = record.unmeasurable.saturating_add(u64::from(!measurable));
        let now = record.comparisons;
        record.comparisons_recently.add(now, half_life);
        for difference in candidate.iter() {
            match self.path(at, &difference.path, difference.transition) {
                Some(path) => path.differs(difference, measurable, now, half_life),
                None => self.differences_unmeasured = self.differences_unmeasured.saturating_add(1),
            }
        }
    }

    /// Takes note that a triple will follow on a comparison that was counted: what differs there is not called
    /// [`PathState::Unmeasured`] meanwhile.
    pub fn expect(&mut self, route: &str, candidate: &DifferingPaths) {
        self.changes = self.changes.wrapping_add(1);
        let at = self.route(route);
        for difference in candidate.iter() {
            let Some(known) = self.path_at(at, &difference.path, difference.transition) else { continue };
            let Some(path) = self.paths.get_mut(known) else { continue };
            if !std::mem::replace(&mut path.is_awaited, true) {
                note_news(&mut self.news, known, path);
            }
        }
    }

    /// Takes one triple in, after the comparison of its A and B was counted. One exchange gives at most one triple.
    pub fn evidence(&mut self, route: &str, triple: &Triple<'_>) {
        self.changes = self.changes.wrapping_add(1);
        let at = self.route(route);
        let (half_life, spacing) = (self.config.half_life, self.config.spacing);
        let excess_max = self.config.excess_max;
        let Some(record) = self.routes.get_mut(at) else { return };
        let now = record.comparisons;
        let source = triple.source;
        let slot = EvidenceSource::ALL.iter().position(|have| *have == source).unwrap_or(0);
        if let Some(count) = record.triples.get_mut(slot) {
            *count = count.saturating_add(1);
        }
        if source != EvidenceSource::Again {
            record.triples_recently.add(now, half_life);
        }
        let bet = Bet { source, fair: triple.fair, now, half_life, spacing, excess_max };
        let signs = triple.signs();
        let mut ranked = self.ranked;
        let prices = self.discoveries.prices();
        let mut touched = Vec::with_capacity(signs.len());
        for signed in &signs {
            let Some(known) = self.path_at(at, signed.path, signed.transition) else { continue };
            let Some(path) = self.paths.get_mut(known) else { continue };
            if !path.is_measured() {
                note_news(&mut self.news, known, path);
            }
            path.take(signed, &bet, &mut ranked);
            path.ln_price = path.rank.map(|rank| prices.ln_price(rank));
            if let Some(weighted) = path.ln_weighted() {
                path.order = self.discoveries.change(path.order, weighted);
            }
            touched.push(known);
        }
        self.ranked = ranked;
        if !touched.is_empty() {
            self.judge(&touched);
        }
    }

    /// What is known about one path; two look-ups, no allocation. [`PathState::Unmeasured`] for one never seen.
    pub fn state(&self, route: &str, path: &str) -> PathState {
        let record = self
            .route_by_name
            .get(route)
            .and_then(|at| self.routes.get(*at))
            .and_then(|route| route.paths.get(path))
            .and_then(|at| self.paths.get(*at));
        record.map_or(PathState::Unmeasured, |record| self.state_of(record))
    }

    pub(super) fn state_of(&self, record: &PathRecord) -> PathState {
        let route = self.routes.get(record.route);
        let (comparisons, unmeasurable) =
            route.map_or((0, 0), |route| (route.comparisons, route.unmeasurable));
        if self.is_reported(record) {
            return match record.quiet_since(comparisons) {
                Some(_) => PathState::Ceased,
                None => PathState::Reported,
            };
        }
        let is_noise = record.noise.ln() >= self.ln_noise_needed() && !record.only_candidate_strays();
        if is_noise {
            PathState::Noise
        } else if record.was_reported {
            PathState::Ceased
        } else if record.is_measured() || record.is_awaited {
            PathState::Undecided
        } else if record.is_withheld(unmeasurable) {
            PathState::Withheld
        } else if record.is_volatile() {
            PathState::Undecided
        } else {
            PathState::Unmeasured
        }
    }

    /// Paths that are reported now, or may come to be, each with its route and the logarithm of its e-value against "B
    /// does as A does", less the price of looking at many paths: what suffices for one is about the same for all. Of no
    /// path that has ceased or is noise.
    pub fn evidence_in_force(&self) -> impl Iterator<Item = (&str, &str, PathState, f64)> {
        self.paths.iter().filter_map(|record| {
            let (route, weighted) = (self.routes.get(record.route)?, record.ln_weighted()?);
            let state = self.state_of(record);
            let in_force = matches!(state, PathState::Reported | PathState::Undecided);
            in_force.then_some((&*route.name, &*record.path, state, weighted))
        })
    }

    /// Paths of which something is known for the first time since this was asked last: that one differs, that a triple
    /// will follow, that one came. Whoever keeps a copy would wrongly call them unmeasured.
    pub fn take_news(&mut self) -> Vec<PathId> {
        let news = std::mem::take(&mut self.news);
        for PathId(at) in &news {
            if let Some(path) = self.paths.get_mut(*at) {
                path.is_news = false;
            }
        }
        news
    }

    /// Another number than before when anything has changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What is known about all paths, in the order of their numbers.
    pub fn states(&self) -> Vec<PathState> {
        self.paths.iter().map(|record| self.state_of(record)).collect()
    }

    /// How many paths had a trial.
    pub(super) fn ranks_given(&self) -> usize {
        self.ranked
    }

    pub(super) fn ln_noise_needed(&self) -> f64 {
        -self.config.noise_error_max.ln()
    }

    fn is_reported(&self, record: &PathRecord) -> bool {
        record.ln_weighted().is_some_and(|weighted| self.discoveries.reports(weighted))
    }

    /// Judges anew after the evidence at some paths has changed: what one path shows changes what suffices for another.
    pub(super) fn judge(&mut self, touched: &[usize]) {
        let before = self.discoveries.reported();
        let now = self.discoveries.judge();
        let discoveries = &self.discoveries;
        let note = |record: &mut PathRecord| {
            record.was_reported |= record.ln_weighted().is_some_and(|weighted| discoveries.reports(weighted));
        };
        // Where more suffices than before, paths at which nothing changed may be reported, too.
        if now > before {
            self.paths.iter_mut().for_each(note);
            return;
        }
        for at in touched {
            self.paths.get_mut(*at).into_iter().for_each(note);
        }
    }

    pub(super) fn route(&mut self, name: &str) -> usize {
        if let Some(at) = self.route_by_name.get(name) {
            return *at;
        }
        let (at, name) = (self.routes.len(), Arc::<str>::from(name));
        self.route_by_name.insert(Arc::clone(&name), at);
        self.routes.push(RouteRecord {
            name,
            paths: HashMap::default(),
            comparisons: 0,
            unmeasurable: 0,
            comparisons_recently: Faded::default(),
            triples: [0; 3],
            triples_recently: Faded::default(),
        });
        at
    }

    /// The record of a path, a new one if need be; none beyond the bound.
    pub(super) fn path(
        &mut self,
        route: usize,
        path: &str,
        transition: Transition,
    ) -> Option<&mut PathRecord> {
        let at = self.path_at(route, path, transition)?;
        self.paths.get_mut(at)
    }

    /// Where the record of a path is.
    fn path_at(&mut self, route: usize, path: &str, transition: Transition) -> Option<usize> {
        let paths = &mut self.routes.get_mut(route)?.paths;
        match paths.get(path) {
            Some(at) => Some(*at),
            None if self.paths.len() >= self.config.paths_max => None,
            None => {
                let (at, path) = (self.paths.len(), Arc::<str>::from(path));
                paths.insert(Arc::clone(&path), at);
                let mut record = PathRecord::new(route, path, transition);
                note_news(&mut self.news, at, &mut record);
                self.paths.push(record);
                Some(at)
            }
        }
    }
}

// === impl PathId ===

impl PathId {
    /// The path with this number.
    pub fn new(number: usize) -> Self {
        Self(number)
    }

    /// The number, from 0 and without gaps.
    pub fn number(self) -> usize {
        self.0
    }
}

fn note_news(news: &mut Vec<PathId>, at: usize, path: &mut PathRecord) {
    if !std::mem::replace(&mut path.is_news, true) {
        news.push(PathId(at));
    }
}
