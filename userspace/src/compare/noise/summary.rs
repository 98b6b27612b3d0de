//! Puts what a model knows into words and numbers for people.
//!
//! Changes nothing.

use super::model::{NoiseModel, PathId, RouteRecord};
use super::path::{PathRecord, growth};
use crate::compare::confidence::rate_bounds;
use crate::model::{Needs, NoiseReport, PathState, PathSummary, Rate, RouteMeasure};

/// What a summary of one path is made of, copied out of its model. The bounds of rates are costly, and are computed without
/// the model.
#[derive(Clone, Debug)]
pub struct PathSketch {
    /// With bounds of 0 and 1.
    summary: PathSummary,
    confidence: f64,
}

// === impl NoiseModel ===

impl NoiseModel {
    /// All that is known, for the journal and the report.
    pub fn report(&self) -> NoiseReport {
        let mut routes: Vec<RouteMeasure> = self.routes.iter().map(RouteRecord::measure).collect();
        routes.sort_by(|a, b| a.route.cmp(&b.route));
        let mut paths: Vec<PathSummary> = self
            .paths
            .iter()
            .filter_map(|record| Some(self.sketch(record, self.routes.get(record.route)?).finish()))
            .collect();
        paths.sort_by(|a, b| (&a.route, a.state, &a.path).cmp(&(&b.route, b.state, &b.path)));
        NoiseReport {
            false_discovery_rate: self.config.false_discovery_rate,
            confidence: self.config.confidence,
            routes,
            paths,
            differences_unmeasured: self.differences_unmeasured,
        }
    }

    /// What is known of these paths, without those that are not in here.
    pub fn sketches(&self, paths: &[PathId]) -> Vec<(PathId, PathSketch)> {
        let known = paths.iter().filter_map(|id| {
            let record = self.paths.get(id.number())?;
            Some((*id, self.sketch(record, self.routes.get(record.route)?)))
        });
        known.collect()
    }

    fn sketch(&self, record: &PathRecord, route: &RouteRecord) -> PathSketch {
        let state = self.state_of(record);
        let (now, half_life) = (route.comparisons, self.config.half_life);
        let [twin, _, repeat] = record.sources;
        let [twin_triples, _, repeat_triples] = route.triples;
        let triples = twin_triples.saturating_add(repeat_triples);
        let same = [twin, repeat].iter().fold(0_u64, |sum, counts| {
            [counts.misses, counts.all_different, counts.middle_different]
                .iter()
                .fold(sum, |sum, n| sum.saturating_add(*n))
        });
        let recent = |part: f64, whole: f64| if whole > 0.0 { (part / whole).min(1.0) } else { 0.0 };
        let summary = PathSummary {
            route: route.name.to_string(),
            path: record.path.to_string(),
            state,
            transition: record.transition,
            candidate: unbounded(
                record.differing,
                route.comparisons,
                recent(
                    record.differing_recently.get(now, half_life),
                    route.comparisons_recently.get(now, half_life),
                ),
            ),
            noise: (triples > 0).then(|| {
                unbounded(
                    same,
                    triples,
                    recent(
                        record.same_recently.get(now, half_life),
                        route.triples_recently.get(now, half_life),
                    ),
                )
            }),
            excess: (record.trials > 0).then(|| {
                unbounded(
                    record.hits,
                    record.trials,
                    recent(
                        record.hits_recently.get(now, half_life),
                        record.trials_recently.get(now, half_life),
                    ),
                )
            }),
            evidence: record.ln_against(),
            evidence_needed: self.evidence_needed(record),
            noise_evidence: record.noise.ln(),
            noise_evidence_needed: self.ln_noise_needed(),
            sources: record.sources,
            needs: (state == PathState::Undecided).then(|| self.needs(record, now)).flatten(),
            first_seen: record.first_seen,
            last_seen: record.last_seen,
            ceased_since: record.was_reported.then(|| record.quiet_since(now)).flatten(),
        };
        PathSketch { summary, confidence: self.config.confidence }
    }

    /// A path without a rank would get the next one.
    fn evidence_needed(&self, record: &PathRecord) -> f64 {
        self.discoveries.ln_e_needed(record.rank.unwrap_or_else(|| self.ranks_given().saturating_add(1)))
    }

    /// How many more triples it takes, if hits and misses keep their shares, and comparisons their rate of triples.
    fn needs(&self, record: &PathRecord, now: u64) -> Option<Needs> {
        let told = record.sources.iter().fold(0_u64, |sum, counts| {
            [counts.hits, counts.misses, counts.all_different, counts.middle_different]
                .iter()
                .fold(sum, |sum, n| sum.saturating_add(*n))
        });
        if told == 0 {
            return None;
        }
        let (against, noise) = growth(record, self.config.excess_max);
        let lacking = |growth: f64, needed: f64, have: f64, counting: u64| {
            // Of those that tell anything, only some count in this bet.
            let share = counting as f64 / told as f64;
            (growth > 0.0 && share > 0.0).then(|| ((needed - have).max(0.0) / growth / share).ceil().max(1.0))
        };
        let reported = lacking(against, self.evidence_needed(record), record.ln_against(), record.trials);
        let hidden = match record.only_candidate_strays() {
            true => None,
            false => lacking(noise, self.ln_noise_needed(), record.noise.ln(), told),
        };
        let nearer = match (reported, hidden) {
            (Some(a), Some(b)) if a <= b => (PathState::Reported, a),
            (_, Some(b)) => (PathState::Noise, b),
            (Some(a), None) => (PathState::Reported, a),
            (None, None) => return None,
        };
        let (towards, differing) = nearer;
        let rate = told as f64 / now.max(1) as f64;
        Some(Needs {
            towards,
            differing: differing as u64,
            comparisons: Some((differing / rate).ceil() as u64),
        })
    }
}

// === impl PathSketch ===

impl PathSketch {
    /// The summary.
    pub fn finish(self) -> PathSummary {
        let Self { mut summary, confidence } = self;
        let PathSummary { candidate, noise, excess, .. } = &mut summary;
        for rate in [Some(candidate), noise.as_mut(), excess.as_mut()].into_iter().flatten() {
            (rate.low, rate.high) = rate_bounds(rate.count, rate.of, confidence);
        }
        summary
    }
}

fn unbounded(count: u64, of: u64, recent: f64) -> Rate {
    Rate { count, of, low: 0.0, high: 1.0, recent }
}

// === impl RouteRecord ===

impl RouteRecord {
    fn measure(&self) -> RouteMeasure {
        RouteMeasure { route: self.name.to_string(), comparisons: self.comparisons, triples: self.triples }
    }
}
