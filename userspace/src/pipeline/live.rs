//! What a run would be judged as if it ended now, shared between whoever compares and whoever looks.
//!
//! Judges nothing itself.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{Comparison, PathState};
use crate::report::{LiveExperiment, Look, PathName};

/// The experiments of a run as they stand.
pub struct Live {
    experiments: Vec<Mutex<LiveExperiment>>,
    judge: Judge,
}

/// Says what state a path is in while a run goes on.
pub type Judge = Box<dyn Fn(&PathName<'_>) -> PathState + Send + Sync>;

// === impl Live ===

impl Live {
    /// Nothing was compared yet.
    pub(super) fn new(experiments: Vec<LiveExperiment>, judge: Judge) -> Self {
        Self { experiments: experiments.into_iter().map(Mutex::new).collect(), judge }
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
            experiment.lock().unwrap_or_else(PoisonError::into_inner).look(&*self.judge)
        };
        self.experiments.iter().map(look).collect()
    }

    /// True when more comparisons would not change the verdict: one experiment fails for certain, or all pass.
    pub fn is_decided(&self) -> bool {
        let looks = self.look();
        looks.iter().all(Look::is_decided) || looks.iter().any(Look::fails)
    }
}
