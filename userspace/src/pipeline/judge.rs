//! How the answers of one experiment are compared, as of now: rules may change while it runs.
//!
//! Compares nothing itself. A change takes hold with the next comparison; one that is under way ends as it began.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::comparator::ExternalComparator;
use crate::compare::{Comparator, External, Purpose};
use crate::model::{Exchange, Observation, Outcome};

/// The comparing of one experiment.
#[derive(Debug)]
pub struct Judge {
    now: ArcSwap<Judging>,
}

/// What compares.
pub struct Judging {
    compare: Compare,
    comparator: Option<Arc<Comparator>>,
    external: Option<Arc<ExternalComparator>>,
}

/// Compares what two branches did, with what somebody else said about it.
type Compare = Arc<dyn Fn(&Exchange, &Observation, Option<&External>, Purpose) -> Outcome + Send + Sync>;

// === impl Judge ===

impl Judge {
    /// Compares in this way from now on.
    pub fn new(judging: Judging) -> Self {
        Self { now: ArcSwap::from_pointee(judging) }
    }

    /// Compares by a function, as tests and benches do.
    pub fn by(compare: impl Fn(&Exchange, &Observation) -> Outcome + Send + Sync + 'static) -> Arc<Self> {
        let compare: Compare = Arc::new(move |exchange, candidate, _, _| compare(exchange, candidate));
        Arc::new(Self::new(Judging { compare, comparator: None, external: None }))
    }

    /// What compares now.
    pub fn judging(&self) -> Arc<Judging> {
        self.now.load_full()
    }

    /// Compares in another way from the next comparison on.
    pub fn replace(&self, judging: Judging) {
        self.now.store(Arc::new(judging));
    }

    /// True when somebody else's process is asked as well.
    pub fn asks_others(&self) -> bool {
        self.now.load().external.is_some()
    }

    /// The outcome of one exchange. Safe to cancel.
    pub async fn judge(
        &self,
        route: &str,
        exchange: &Exchange,
        candidate: &Observation,
        purpose: Purpose,
    ) -> Outcome {
        let judging = self.now.load_full();
        let external = match &judging.external {
            Some(external) => external.ask(route, exchange, candidate).await,
            None => None,
        };
        (judging.compare)(exchange, candidate, external.as_ref(), purpose)
    }
}

// === impl Judging ===

impl Judging {
    /// Compares by these rules, and asks this process.
    pub fn new(comparator: Arc<Comparator>, external: Option<Arc<ExternalComparator>>) -> Self {
        let by = Arc::clone(&comparator);
        let compare: Compare = Arc::new(move |exchange, candidate, external, purpose| {
            by.compare_with(exchange, candidate, external, purpose)
        });
        Self { compare, comparator: Some(comparator), external }
    }

    /// The rules, where rules compare.
    pub fn comparator(&self) -> Option<&Arc<Comparator>> {
        self.comparator.as_ref()
    }

    /// The process, where one is asked.
    pub fn external(&self) -> Option<&Arc<ExternalComparator>> {
        self.external.as_ref()
    }
}

impl fmt::Debug for Judging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compare: _, comparator, external } = self;
        f.debug_struct("Judging").field("comparator", comparator).field("external", external).finish()
    }
}
