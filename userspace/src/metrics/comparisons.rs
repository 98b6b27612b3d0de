//! Metrics of comparisons: outcomes by route, and how long both branches took.
//!
//! Keeps no comparison.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::{Comparison, IncomparableReason, Observation, Outcome};

/// Counts comparisons. Clones count together.
#[derive(Clone, Debug)]
pub struct ComparisonMetrics {
    comparisons: Family<OutcomeLabels, Counter>,
    incomparable: Family<ReasonLabels, Counter>,
    durations: Family<BranchLabels, Histogram, fn() -> Histogram>,
    failures: Counter,
    reloads: Family<ReloadLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    experiment: Arc<str>,
    route: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    experiment: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BranchLabels {
    experiment: Arc<str>,
    route: Arc<str>,
    branch: &'static str,
}

/// Upper bounds in seconds: those of the client libraries, from half a millisecond.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

fn result_label(accepted: bool) -> &'static str {
    if accepted { "ok" } else { "failed" }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

// === impl ComparisonMetrics ===

impl ComparisonMetrics {
    /// Metrics whose series exist at zero for each experiment with its routes.
    pub fn new<'a>(experiments: impl IntoIterator<Item = (&'a Arc<str>, Vec<Arc<str>>)>) -> Self {
        let metrics = Self {
            comparisons: Family::default(),
            incomparable: Family::default(),
            durations: Family::new_with_constructor(histogram),
            failures: Counter::default(),
            reloads: Family::default(),
        };
        for result in [true, false].map(result_label) {
            drop(metrics.reloads.get_or_create(&ReloadLabels { result }));
        }
        for (experiment, routes) in experiments {
            metrics.add(experiment, routes);
        }
        metrics
    }

    /// Makes the series of an experiment with its routes, where they are not there yet.
    pub fn add(&self, experiment: &Arc<str>, routes: Vec<Arc<str>>) {
        for route in routes {
            for outcome in Outcome::LABELS {
                let (experiment, route) = (Arc::clone(experiment), Arc::clone(&route));
                drop(self.comparisons.get_or_create(&OutcomeLabels { experiment, route, outcome }));
            }
            for branch in ["a", "b"] {
                let (experiment, route) = (Arc::clone(experiment), Arc::clone(&route));
                drop(self.durations.get_or_create(&BranchLabels { experiment, route, branch }));
            }
        }
        for reason in IncomparableReason::ALL {
            let labels = ReasonLabels { experiment: Arc::clone(experiment), reason: reason.label() };
            drop(self.incomparable.get_or_create(&labels));
        }
    }

    /// Counts that the configuration was read again.
    pub fn reloaded(&self, accepted: bool) {
        self.reloads.get_or_create(&ReloadLabels { result: result_label(accepted) }).inc();
    }

    /// Counts one comparison.
    pub fn observe(&self, comparison: &Comparison) {
        let Comparison { experiment, route, exchange, candidate, compared_at: _, outcome } = comparison;
        let labels = OutcomeLabels {
            experiment: Arc::clone(experiment),
            route: Arc::clone(route),
            outcome: outcome.label(),
        };
        self.comparisons.get_or_create(&labels).inc();
        if let Some(reason) = outcome.reason() {
            let labels = ReasonLabels { experiment: Arc::clone(experiment), reason: reason.label() };
            self.incomparable.get_or_create(&labels).inc();
        }
        let control = exchange.times.served();
        let served = match candidate {
            Observation::Answered { response: _, ttfb: _, served } => Some(*served),
            Observation::Failed(_) => None,
        };
        for (branch, duration) in [("a", control), ("b", served)] {
            if let Some(duration) = duration {
                let (experiment, route) = (Arc::clone(experiment), Arc::clone(route));
                let labels = BranchLabels { experiment, route, branch };
                self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
            }
        }
    }

    /// How often it was read again: taken, refused.
    pub fn reloads(&self) -> [u64; 2] {
        [true, false].map(|accepted| {
            self.reloads.get_or_create(&ReloadLabels { result: result_label(accepted) }).get()
        })
    }

    /// Counts comparisons that could not be kept.
    pub fn lose(&self, comparisons: usize) {
        self.failures.inc_by(comparisons as u64);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("comparisons", "Comparisons by route and outcome", self.comparisons.clone());
        registry.register("incomparable", "Incomparable exchanges by reason", self.incomparable.clone());
        registry.register(
            "response_duration_seconds",
            "Last request byte to last response byte, by route and branch",
            self.durations.clone(),
        );
        registry.register(
            "config_reloads",
            "Times that the configuration was read again while running, by result",
            self.reloads.clone(),
        );
        registry.register(
            "journal_lost_comparisons",
            "Comparisons that the journal could not keep",
            self.failures.clone(),
        );
    }
}
