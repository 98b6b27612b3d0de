//! Metrics of comparisons: outcomes by route, and how long both branches took.
//!
//! Keeps no comparison.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars};
use prometheus_client::metrics::family::Family;

use super::Kind;
use super::collect::one;
use super::table::{self, BRANCHES, Descriptor};
use crate::model::{Comparison, ExchangeId, IncomparableReason, Observation, Outcome};

/// Counts comparisons. Clones count together.
#[derive(Clone, Debug)]
pub struct ComparisonMetrics {
    comparisons: Family<OutcomeLabels, Counter>,
    incomparable: Family<ReasonLabels, Counter>,
    mismatches: Family<KindLabels, CounterWithExemplar<ExchangeLabels>>,
    durations: Family<BranchLabels, Durations, fn() -> Durations>,
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
struct KindLabels {
    experiment: Arc<str>,
    route: Arc<str>,
    kind: &'static str,
}

/// The labels of an exemplar: which exchange to look at.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExchangeLabels {
    exchange: String,
}

/// What came of reading the configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadResult {
    /// It holds.
    Ok,
    /// It was refused, and nothing changes.
    Failed,
    /// It is good, but takes a restart; nothing changes until then.
    RestartNeeded,
}

type Durations = HistogramWithExemplars<ExchangeLabels>;

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

fn histogram() -> Durations {
    HistogramWithExemplars::new(BUCKETS.into_iter())
}

// === impl ReloadResult ===

impl ReloadResult {
    /// All results.
    pub const ALL: [Self; 3] = [ReloadResult::Ok, ReloadResult::Failed, ReloadResult::RestartNeeded];

    /// The result as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            ReloadResult::Ok => "ok",
            ReloadResult::Failed => "failed",
            ReloadResult::RestartNeeded => "restart_needed",
        }
    }
}

// === impl ComparisonMetrics ===

impl ComparisonMetrics {
    /// Metrics whose series exist at zero for each experiment with its routes.
    pub fn new<'a>(experiments: impl IntoIterator<Item = (&'a Arc<str>, Vec<Arc<str>>)>) -> Self {
        let metrics = Self {
            comparisons: Family::default(),
            incomparable: Family::default(),
            mismatches: Family::default(),
            durations: Family::new_with_constructor(histogram),
            failures: Counter::default(),
            reloads: Family::default(),
        };
        for result in ReloadResult::ALL.map(ReloadResult::label) {
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
            for kind in Kind::OF_DIFFERENCES.map(Kind::label) {
                let (experiment, route) = (Arc::clone(experiment), Arc::clone(&route));
                drop(self.mismatches.get_or_create(&KindLabels { experiment, route, kind }));
            }
            for branch in BRANCHES {
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
    pub fn reloaded(&self, result: ReloadResult) {
        self.reloads.get_or_create(&ReloadLabels { result: result.label() }).inc();
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
        let mismatch = exemplar(exchange.id, outcome);
        for kind in kinds(outcome) {
            let (experiment, route) = (Arc::clone(experiment), Arc::clone(route));
            let labels = KindLabels { experiment, route, kind: kind.label() };
            self.mismatches.get_or_create(&labels).inc_by(1, mismatch.clone(), None);
        }
        let control = exchange.times.served();
        let served = match candidate {
            Observation::Answered { response: _, ttfb: _, served } => Some(*served),
            Observation::Failed(_) => None,
        };
        for (branch, duration) in BRANCHES.into_iter().zip([control, served]) {
            if let Some(duration) = duration {
                let (experiment, route) = (Arc::clone(experiment), Arc::clone(route));
                let labels = BranchLabels { experiment, route, branch };
                self.durations.get_or_create(&labels).observe(duration.as_secs_f64(), mismatch.clone(), None);
            }
        }
    }

    /// How often it was read again, in the order of [`ReloadResult::ALL`].
    pub fn reloads(&self) -> [u64; ReloadResult::ALL.len()] {
        ReloadResult::ALL
            .map(|result| self.reloads.get_or_create(&ReloadLabels { result: result.label() }).get())
    }

    /// Counts comparisons that could not be kept.
    pub fn lose(&self, comparisons: usize) {
        self.failures.inc_by(comparisons as u64);
    }
}

impl Collector for ComparisonMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { comparisons, incomparable, mismatches, durations, failures, reloads } = self;
        let encoder = &mut encoder;
        family(encoder, &table::COMPARISONS, comparisons)?;
        family(encoder, &table::INCOMPARABLE, incomparable)?;
        family(encoder, &table::MISMATCH, mismatches)?;
        family(encoder, &table::RESPONSE_DURATION, durations)?;
        family(encoder, &table::CONFIG_RELOADS, reloads)?;
        one(encoder, &table::JOURNAL_LOST, failures.get())
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Descriptor,
    family: &impl EncodeMetric,
) -> fmt::Result {
    let Descriptor { name, kind, labels: _, help } = metric;
    family.encode(encoder.encode_descriptor(name, help, None, *kind)?)
}

/// The exchange, where it is worth a look.
fn exemplar(exchange: ExchangeId, outcome: &Outcome) -> Option<ExchangeLabels> {
    matches!(outcome, Outcome::Mismatch { differences: _, ignored: _, omitted: _ })
        .then(|| ExchangeLabels { exchange: exchange.to_string() })
}

/// The kinds of a mismatch, each once.
fn kinds(outcome: &Outcome) -> BTreeSet<Kind> {
    match outcome {
        Outcome::Mismatch { differences, ignored: _, omitted: _ } => {
            differences.iter().map(|one| Kind::of_path(&one.path)).collect()
        }
        Outcome::Match | Outcome::Ignored(_) | Outcome::Incomparable(_) => BTreeSet::new(),
    }
}
