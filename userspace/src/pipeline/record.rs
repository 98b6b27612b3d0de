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

/// Whether the journal takes what it is given, each kind by itself: counts may fit in where comparisons do not.
#[derive(Debug, Default)]
struct Health {
    comparisons_fail: bool,
    counts_fail: bool,
}

/// What is to be said of the journal when that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    ComparisonsLost,
    ComparisonsAgain,
    CountsOld,
    CountsAgain,
    /// It fails, and others rely on it.
    Ends,
}

/// Comparisons that are kept in one transaction.
const BATCH_MAX: usize = 256;

/// How often ledgers are kept, so that `report` shows a run that is not over.
const LEDGERS_EVERY: Duration = Duration::from_secs(1);

// === impl Recorder ===

impl<J: Journal> Recorder<J> {
    /// Runs until nobody makes comparisons any more; gives the journal back, with the first thing that went wrong.
    pub(super) async fn run(mut self) -> (J, Result<(), JournalError>) {
        let mut first_error = Ok(());
        let mut health = Health::default();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut ledgers_at = clock::now();
        loop {
            let received = self.comparisons.recv_many(&mut batch, BATCH_MAX);
            let received = tokio::time::timeout_at(ledgers_at + LEDGERS_EVERY, received).await;
            let ended = received == Ok(0);
            let has_comparisons = !batch.is_empty();
            let kept = self.keep(&mut batch);
            // Only comparisons show that there is room again: counts may fit in where they do not.
            let of_comparisons = if has_comparisons { health.comparisons(&kept) } else { None };
            let (mut counts, mut of_counts) = (Ok(()), None);
            if ended || clock::now() >= ledgers_at + LEDGERS_EVERY {
                ledgers_at = clock::now();
                counts = self.keep_counts(ended);
                of_counts = health.counts(&counts);
            }
            let gives_up = (kept.is_err() || counts.is_err()) && self.on_kept.is_some();
            if gives_up {
                say(Some(Said::Ends), kept.as_ref().err().or(counts.as_ref().err()));
            } else {
                say(of_comparisons, kept.as_ref().err());
                say(of_counts, counts.as_ref().err());
            }
            first_error = first_error.and(kept).and(counts);
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

// === impl Health ===

impl Health {
    fn comparisons<T, E>(&mut self, kept: &Result<T, E>) -> Option<Said> {
        change(&mut self.comparisons_fail, kept, [Said::ComparisonsAgain, Said::ComparisonsLost])
    }

    fn counts<T, E>(&mut self, kept: &Result<T, E>) -> Option<Said> {
        change(&mut self.counts_fail, kept, [Said::CountsAgain, Said::CountsOld])
    }
}

fn change<T, E>(fails: &mut bool, kept: &Result<T, E>, [again, fail]: [Said; 2]) -> Option<Said> {
    let had_failed = std::mem::replace(fails, kept.is_err());
    match (had_failed, *fails) {
        (false, true) => Some(fail),
        (true, false) => Some(again),
        (false, false) | (true, true) => None,
    }
}

fn say(said: Option<Said>, error: Option<&JournalError>) {
    let error = error.map(|error| error as &dyn std::error::Error);
    match said {
        None => {}
        Some(Said::Ends) => tracing::error!(error, "The journal fails; nothing more is compared."),
        Some(Said::ComparisonsLost) => tracing::error!(error, "The journal fails; results are lost."),
        Some(Said::ComparisonsAgain) => {
            tracing::warn!("The journal takes comparisons again; the report lacks those that were lost.");
        }
        Some(Said::CountsOld) => {
            tracing::warn!(
                error,
                "The journal does not take counts; until it does, a report shows earlier ones."
            );
        }
        Some(Said::CountsAgain) => tracing::warn!("The journal takes counts again; none are lost."),
    }
}

#[cfg(test)]
mod tests;
