//! What a run would be judged as if it ended now, shared between whoever compares and whoever looks.
//!
//! Judges nothing itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::science::Science;
use crate::model::{Comparison, PathState};
use crate::report::{LiveExperiment, Look, PathName};

/// The experiments of a run as they stand.
pub struct Live {
    experiments: Vec<Mutex<LiveExperiment>>,
    sciences: BTreeMap<Arc<str>, Arc<Science>>,
}

// === impl Live ===

impl Live {
    /// Nothing was compared yet.
    pub(super) fn new(experiments: Vec<LiveExperiment>, sciences: BTreeMap<Arc<str>, Arc<Science>>) -> Self {
        Self { experiments: experiments.into_iter().map(Mutex::new).collect(), sciences }
    }

    /// Counts comparisons.
    pub(super) fn observe(&self, comparisons: &[Comparison]) {
        for experiment in &self.experiments {
            // Counts are whole whatever happened to a thread that had them.
            let mut experiment = experiment.lock().unwrap_or_else(PoisonError::into_inner);
            let name = Arc::clone(experiment.name());
            comparisons
                .iter()
                .filter(|comparison| comparison.experiment == name)
                .for_each(|comparison| experiment.observe(comparison));
        }
    }

    /// What can be said of each experiment now, in the order of the configuration.
    pub fn look(&self) -> Vec<Look> {
        let look = |experiment: &Mutex<LiveExperiment>| {
            experiment.lock().unwrap_or_else(PoisonError::into_inner).look(&|path| self.state(path))
        };
        self.experiments.iter().map(look).collect()
    }

    /// What `ask` says of one experiment; none where there is no such experiment.
    pub(super) fn ask<T>(&self, experiment: &str, ask: impl FnOnce(&LiveExperiment) -> T) -> Option<T> {
        let mut ask = Some(ask);
        self.experiments.iter().find_map(|have| {
            let have = have.lock().unwrap_or_else(PoisonError::into_inner);
            let is_asked = **have.name() == *experiment;
            is_asked.then(|| ask.take().map(|ask| ask(&have))).flatten()
        })
    }

    fn state(&self, path: &PathName<'_>) -> PathState {
        let science = self.sciences.get(path.experiment);
        science.map_or(PathState::Unmeasured, |science| science.state(path.route, path.path))
    }

    /// True when more comparisons would not change the verdict: one experiment fails for certain, or all pass.
    pub fn is_decided(&self) -> bool {
        let looks = self.look();
        looks.iter().all(Look::is_decided) || looks.iter().any(Look::fails)
    }
}
