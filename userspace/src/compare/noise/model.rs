//! Keeps the evidence of one experiment, path by path.
//!
//! Counts comparisons instead of time. Holds no answer and no value.

use super::triple::{DifferingPaths, Triple};
use crate::model::{NoiseReport, PathState};

/// How evidence is weighed. Levels are above 0 and below 1.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseConfig {
    /// Share of false ones among reported paths, in expectation, at any moment of looking. Default 0.05.
    pub false_discovery_rate: f64,
    /// Chance that a path is ever called noise of which at least `excess_max` of what differs is B's doing. Default 0.05.
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
    /// Paths with evidence; beyond, a path is unmeasured. Default 4,096.
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
    config: NoiseConfig,
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

// === impl NoiseModel ===

impl NoiseModel {
    /// A model that knows nothing yet.
    ///
    /// # Errors
    /// Names the first key that is out of its range.
    pub fn new(config: NoiseConfig) -> Result<Self, NoiseConfigError> {
        Ok(Self { config })
    }

    /// Counts one comparison of A and B. Call it for each that could be made, also where nothing differs.
    pub fn observe(&mut self, route: &str, candidate: &DifferingPaths) {
        let _ = (route, candidate);
    }

    /// Takes one triple in, after the comparison of its A and B was counted. One exchange gives at most one triple.
    pub fn evidence(&mut self, route: &str, triple: &Triple<'_>) {
        let _ = (route, triple);
    }

    /// What is known about one path; two look-ups, no allocation. [`PathState::Unmeasured`] for one never seen.
    pub fn state(&self, route: &str, path: &str) -> PathState {
        let _ = (route, path);
        PathState::Unmeasured
    }

    /// All that is known, for the journal and the report.
    pub fn report(&self) -> NoiseReport {
        NoiseReport {
            false_discovery_rate: self.config.false_discovery_rate,
            confidence: self.config.confidence,
            routes: Vec::new(),
            paths: Vec::new(),
            differences_unmeasured: 0,
        }
    }
}
