//! Rounds: a batch of each shard on its way to Redis, and what comes of it.
//!
//! Keeps nothing that it sends: batches stay where they are, with their tickets, until their round is over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lane::Batch;
use super::spooled::{BatchEnd, Drain};
use super::{Append, Experiment, Uploader};
use crate::metrics::UploadStats;
use crate::model::Fate;
use crate::queue::entry::EncodedEntry;
use crate::queue::redis::{Appended, Numbered, RedisError};

/// Whose round it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of entries in memory, of the experiment with this index.
    Memory(usize),
    /// Of entries in the spool that this process numbered.
    Spool(usize),
    /// Of entries in the spool that another one did.
    Former(u128, Arc<str>),
}

/// A round that is over.
pub(super) struct RoundEnd<A> {
    whose: Whose,
    appender: A,
    /// In the order of the batches; nothing where the appender panicked.
    results: Option<Vec<Result<Appended, RedisError>>>,
}

/// A batch of each shard.
pub(super) type Shared = Vec<(u32, Arc<Vec<Numbered<EncodedEntry>>>)>;

/// Sends batches, which stay alive elsewhere with their tickets.
pub(super) fn start_round<A: Append>(
    rounds: &mut JoinSet<RoundEnd<A>>,
    whose: Whose,
    mut appender: A,
    batches: Shared,
) {
    rounds.spawn(async move {
        let slices: Vec<_> = batches.iter().map(|(shard, entries)| (*shard, entries.as_slice())).collect();
        let results = AssertUnwindSafe(appender.append_all(&slices)).catch_unwind().await.ok();
        RoundEnd { whose, appender, results }
    });
}

// === impl Uploader ===

impl<A: Append> Uploader<A> {
    /// Sends what waits of one experiment, if enough does, or for long enough.
    pub(super) fn send_waiting(&mut self, index: usize, now: Instant, at_once: bool) {
        let Self { experiments, limits, .. } = self;
        let Some(experiment) = experiments.get_mut(index) else { return };
        let is_full = || experiment.lanes.iter().any(|lane| lane.waiting() >= limits.batch_max);
        let is_due = experiment.due.is_some_and(|due| at_once || due <= now || is_full());
        if !experiment.round.is_empty() || !is_due {
            return;
        }
        let lanes = (0..).zip(&mut experiment.lanes);
        experiment.round =
            lanes.filter_map(|(shard, lane)| lane.next_batch(shard, limits.batch_max)).collect();
        let left = experiment.lanes.iter().any(|lane| lane.waiting() > 0);
        experiment.due = left.then_some(now);
        self.start_memory_round(index);
    }

    /// Sends the batches of one experiment that stand in its round.
    pub(super) fn start_memory_round(&mut self, index: usize) {
        let Some(experiment) = self.experiments.get_mut(index) else { return };
        let shared = experiment.round.iter().map(Batch::shared).collect();
        if let Some(appender) = experiment.appender.take() {
            start_round(&mut self.rounds, Whose::Memory(index), appender, shared);
        }
    }

    pub(super) fn finish_round(&mut self, end: RoundEnd<A>, now: Instant) {
        let RoundEnd { whose, appender, results } = end;
        let Some(results) = results else { return self.finish_panicked_round(whose, appender, now) };
        let errors = results.iter().filter_map(|result| result.as_ref().err());
        errors.for_each(|error| self.status.count(error));
        let failure = results.iter().find_map(|result| result.as_ref().err()).cloned();
        match whose {
            Whose::Memory(index) => {
                self.note(failure.as_ref(), now);
                self.finish_memory_round(index, appender, results);
            }
            Whose::Spool(_) | Whose::Former(_, _) => {
                self.finish_drain_round(whose, appender, &results);
                self.end_drain_batch(failure.map_or(BatchEnd::Taken, BatchEnd::Refused), now);
            }
        }
    }

    /// Nobody knows what became of the batches. The appender has lost nothing: it only notes answers, one at a time.
    fn finish_panicked_round(&mut self, whose: Whose, appender: A, now: Instant) {
        let Self { experiments, spool, spool_stats, producer, limits, .. } = self;
        let place = match &whose {
            Whose::Memory(index) | Whose::Spool(index) => Some(*index),
            Whose::Former(_, name) => experiments.iter().position(|experiment| experiment.name == *name),
        };
        if let Some(experiment) = place.and_then(|place| experiments.get_mut(place)) {
            experiment.stats.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                experiment = &*experiment.name,
                "Sending entries to Redis panicked, which is a defect; they are sent again."
            );
        }
        let Whose::Memory(index) = whose else {
            self.finish_drain_round(whose, appender, &[]);
            return self.end_drain_batch(BatchEnd::Panicked, now);
        };
        let Some(experiment) = experiments.get_mut(index) else { return };
        experiment.appender = Some(appender);
        for mut batch in std::mem::take(&mut experiment.round) {
            batch.panics = batch.panics.saturating_add(1);
            if batch.panics < limits.panics_max {
                experiment.put_back(batch, spool, spool_stats, *producer);
            } else {
                experiment.in_flight_bytes = experiment.in_flight_bytes.saturating_sub(batch.bytes());
                batch.settle(Fate::Lost);
            }
        }
        if self.drain.is_none() {
            self.drain = Some(Drain::new(now, self.limits.retry_min));
        }
    }

    fn finish_memory_round(&mut self, index: usize, appender: A, results: Vec<Result<Appended, RedisError>>) {
        let Self { experiments, spool, spool_stats, producer, .. } = self;
        let Some(experiment) = experiments.get_mut(index) else { return };
        experiment.appender = Some(appender);
        let batches = std::mem::take(&mut experiment.round);
        for (batch, result) in batches.into_iter().zip(results) {
            match result {
                Ok(appended) => {
                    experiment.count(&appended, batch.bytes());
                    experiment.in_flight_bytes = experiment.in_flight_bytes.saturating_sub(batch.bytes());
                    batch.settle(Fate::Queued);
                }
                // Redis may have a part of it, whatever the error says.
                Err(_) => experiment.put_back(batch, spool, spool_stats, *producer),
            }
        }
    }

    /// Says when Redis goes away and comes back, and turns to the spool.
    fn note(&mut self, failure: Option<&RedisError>, now: Instant) {
        let Some(error) = failure else { return };
        if self.status.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(%error, "Redis takes no entries; they wait in the spool.");
        }
        if self.drain.is_none() {
            self.drain = Some(Drain::new(now, self.limits.retry_min));
        }
    }
}

// === impl Experiment ===

impl<A> Experiment<A> {
    pub(super) fn count(&self, appended: &Appended, bytes: usize) {
        let Appended { taken, duplicates, trimmed, forgotten } = appended;
        let UploadStats {
            entries, bytes: all_bytes, duplicates: again, trimmed: gone, forgotten: lost, ..
        } = &*self.stats;
        entries.fetch_add(*taken, Ordering::Relaxed);
        again.fetch_add(*duplicates, Ordering::Relaxed);
        gone.fetch_add(*trimmed, Ordering::Relaxed);
        lost.fetch_add(*forgotten, Ordering::Relaxed);
        all_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
