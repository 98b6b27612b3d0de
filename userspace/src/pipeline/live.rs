//! What a run would be judged as if it ended now, shared between whoever compares and whoever looks.
//!
//! Judges nothing itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::science::Science;
use crate::model::{Comparison, PathState, Regression};
use crate::report::{EvidenceInForce, LiveExperiment, Look, PathName, RegressionWatch};

/// The experiments of a run as they stand.
pub struct Live {
    experiments: Vec<Mutex<LiveExperiment>>,
    /// In the same order.
    watches: Vec<Mutex<RegressionWatch>>,
    sciences: BTreeMap<Arc<str>, Arc<Science>>,
}

// === impl Live ===

impl Live {
    /// Nothing was compared yet.
    pub(super) fn new(
        experiments: Vec<(LiveExperiment, RegressionWatch)>,
        sciences: BTreeMap<Arc<str>, Arc<Science>>,
    ) -> Self {
        let (experiments, watches) =
            experiments.into_iter().map(|(live, watch)| (Mutex::new(live), Mutex::new(watch))).unzip();
        Self { experiments, watches, sciences }
    }

    /// Counts comparisons.
    pub(super) fn observe(&self, comparisons: &[Comparison]) {
        for (experiment, watch) in self.experiments.iter().zip(&self.watches) {
            // Counts are whole whatever happened to a thread that had them.
            let mut experiment = experiment.lock().unwrap_or_else(PoisonError::into_inner);
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            let name = Arc::clone(experiment.name());
            for comparison in comparisons.iter().filter(|comparison| comparison.experiment == name) {
                experiment.observe(comparison);
                watch.observe(comparison);
            }
        }
    }

    /// What can be said of each experiment now, in the order of the configuration.
    pub fn look(&self) -> Vec<Look> {
        let look = |experiment: &Mutex<LiveExperiment>| {
            experiment.lock().unwrap_or_else(PoisonError::into_inner).look(&|path| self.state(path))
        };
        self.experiments.iter().map(look).collect()
    }

    /// What the evidence says now, for each route of each experiment.
    pub fn regressions(&self) -> Vec<Regression> {
        let mut all = Vec::new();
        for watch in &self.watches {
            let name = Arc::clone(watch.lock().unwrap_or_else(PoisonError::into_inner).experiment());
            let mut in_force = EvidenceInForce::default();
            if let Some(science) = self.sciences.get(&name) {
                science.evidence_in_force(|route, path, state, ln| in_force.hear(route, path, state, ln));
            }
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            all.append(&mut watch.look(&|path| self.state(path), &in_force));
        }
        all
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
