//! The journal's own thread: keeps comparisons in batches, and the ledgers once a second.
//!
//! A disk that is slow makes the replay wait once the handover is full; never the capture.

mod noted;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock;
use super::handover::{ComparisonReceiver, Handed};
use super::live::Live;
use crate::journal::{Journal, JournalError, RuleTotals, RunId};

use crate::metrics::{ComparisonMetrics, ExperimentStatus, Status};
use crate::model::Comparison;

pub(super) use noted::Noted;

/// Keeps what a run finds.
pub(super) struct Recorder<J> {
    /// Where it is kept.
    pub(super) journal: J,
    /// The run.
    pub(super) run: RunId,
    /// Comparisons as they are made.
    pub(super) comparisons: ComparisonReceiver,
    /// Metrics of them.
    pub(super) metrics: ComparisonMetrics,
    /// The ledgers to keep.
    pub(super) status: Arc<Status>,
    /// What the run would be judged as now.
    pub(super) live: Arc<Live>,
    /// Whose rules' counts and noise to keep.
    pub(super) sciences: Vec<Noted>,
    /// Whom to tell of comparisons that are kept. With somebody to tell, a journal that fails ends the recorder: what is not
    /// kept here must be done by somebody else.
    pub(super) on_kept: Option<OnKept>,
}

/// Is told of comparisons once the journal has kept them. Must not wait.
pub(super) type OnKept = Box<dyn FnMut(&[Comparison]) + Send>;

/// Comparisons that are kept in one transaction.
const BATCH_MAX: usize = 256;

/// How often ledgers are kept, so that `report` shows a run that is not over.
const LEDGERS_EVERY: Duration = Duration::from_secs(1);

// === impl Recorder ===

impl<J: Journal> Recorder<J> {
    /// Runs until nobody makes comparisons any more; gives the journal back, with the first thing that went wrong.
    pub(super) async fn run(mut self) -> (J, Result<(), JournalError>) {
        let mut first_error = Ok(());
        let mut is_failing = false;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut ledgers_at = clock::now();
        loop {
            let received = self.comparisons.recv_many(&mut batch, BATCH_MAX);
            let received = tokio::time::timeout_at(ledgers_at + LEDGERS_EVERY, received).await;
            let ended = received == Ok(0);
            let has_comparisons = !batch.is_empty();
            let mut outcome = self.keep(&mut batch);
            // Only comparisons show that there is room again: a ledger may fit in where they do not.
            if has_comparisons && outcome.is_ok() && std::mem::take(&mut is_failing) {
                tracing::warn!("The journal takes comparisons again; the report lacks those that were lost.");
            }
            if ended || clock::now() >= ledgers_at + LEDGERS_EVERY {
                ledgers_at = clock::now();
                outcome = outcome.and(self.keep_counts(ended));
            }
            let gives_up = outcome.is_err() && self.on_kept.is_some();
            if let Err(failed) = outcome {
                let error = &failed as &dyn std::error::Error;
                if !std::mem::replace(&mut is_failing, true) {
                    if gives_up {
                        tracing::error!(error, "The journal fails; nothing more is compared.");
                    } else {
                        tracing::error!(error, "The journal fails; results are lost.");
                    }
                }
                first_error = first_error.and(Err(failed));
            }
            if ended || gives_up {
                break;
            }
        }
        (self.journal, first_error)
    }

    fn keep(&mut self, batch: &mut Vec<Handed>) -> Result<(), JournalError> {
        if batch.is_empty() {
            return Ok(());
        }
        let handed = batch.drain(..).map(|Handed { comparison, room }| (comparison, room));
        // The room stays taken until the comparisons are gone.
        let (comparisons, _room): (Vec<Comparison>, Vec<_>) = handed.unzip();
        comparisons.iter().for_each(|comparison| self.metrics.observe(comparison));
        self.live.observe(&comparisons);
        let kept = self.keep_news().and_then(|()| self.journal.record(self.run, &comparisons));
        match (&kept, &mut self.on_kept) {
            (Ok(()), Some(tell)) => tell(&comparisons),
            (Ok(()), None) => {}
            (Err(_), _) => self.metrics.lose(comparisons.len()),
        }
        drop(comparisons);
        kept
    }

    /// Keeps what is known of paths that the journal does not know yet. Done before comparisons are kept, since a
    /// difference at a path of which nothing is known counts.
    fn keep_news(&mut self) -> Result<(), JournalError> {
        let Self { journal, run, sciences, .. } = self;
        sciences.iter_mut().try_for_each(|noted| noted.keep_news(journal, *run))
    }

    /// Keeps what is counted; what is known of paths in turn, and all of it at the end.
    fn keep_counts(&mut self, ended: bool) -> Result<(), JournalError> {
        let Self { journal, run, status, sciences, comparisons: _, metrics: _, live: _, on_kept: _ } = self;
        // What is not replayed, such as a recording, is no experiment of the journal.
        for ExperimentStatus { name, ledger, replay: _ } in
            status.experiments.iter().filter(|experiment| experiment.replay.is_some())
        {
            journal.record_ledger(*run, name, &ledger.snapshot())?;
        }
        for noted in sciences {
            if ended {
                noted.keep_all(journal, *run)?
            } else {
                noted.keep_turn(journal, *run)?
            }
            let (name, science) = (noted.experiment(), noted.science());
            let judging = science.judge().judging();
            let counts = judging.comparator().into_iter().flat_map(|comparator| comparator.rule_counts());
            let totals = counts.map(|(rule, counts)| RuleTotals {
                rule: Arc::clone(rule),
                met: counts.met.load(Ordering::Relaxed),
                failed: counts.failed.load(Ordering::Relaxed),
            });
            journal.record_rules(*run, name, &totals.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
