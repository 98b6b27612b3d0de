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
use super::refused::{Numbering, Outgoing, Sent, send};
use super::spooled::{BatchEnd, Drain};
use super::{Append, Experiment, Uploader};
use crate::metrics::UploadStats;
use crate::model::Fate;
use crate::queue::redis::{Appended, RedisError};

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
    /// With their shards, in the order of the batches; nothing where the appender panicked.
    sent: Option<Vec<(u32, Sent)>>,
}

/// Sends batches, which stay alive elsewhere with their tickets.
pub(super) fn start_round<A: Append>(
    rounds: &mut JoinSet<RoundEnd<A>>,
    whose: Whose,
    mut appender: A,
    batches: Vec<Outgoing>,
) {
    rounds.spawn(async move {
        let sent = AssertUnwindSafe(send(&mut appender, &batches)).catch_unwind().await.ok();
        let sent = sent.map(|sent| batches.iter().map(|batch| batch.shard).zip(sent).collect());
        RoundEnd { whose, appender, sent }
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
        self.start_memory_round(index, now);
    }

    /// Sends the batches of one experiment that stand in its round.
    pub(super) fn start_memory_round(&mut self, index: usize, now: Instant) {
        let Some(experiment) = self.experiments.get(index) else { return };
        let outgoing = |batch: &Batch| {
            let of = (self.producer, Arc::clone(&experiment.name), batch.shard);
            let (shard, entries) = (batch.shard, Arc::clone(&batch.entries));
            Outgoing { shard, entries, is_overdue: self.is_overdue(&of, now) }
        };
        let batches = experiment.round.iter().map(outgoing).collect();
        let appender = self.experiments.get_mut(index).and_then(|experiment| experiment.appender.take());
        if let Some(appender) = appender {
            start_round(&mut self.rounds, Whose::Memory(index), appender, batches);
        }
    }

    /// True when Redis has refused this shard for as long as may be waited.
    pub(super) fn is_overdue(&self, of: &Numbering, now: Instant) -> bool {
        // Who has entries in the spool and is not refused has not had a turn.
        let waits = |experiment: &Experiment<A>| {
            experiment.spooled.count() > 0 && !self.refusals.concerns(&experiment.name)
        };
        let others_wait = self.experiments.iter().any(waits);
        self.refusals.is_overdue(of, now, self.limits.refused_wait_max, others_wait)
    }

    pub(super) fn finish_round(&mut self, end: RoundEnd<A>, now: Instant) {
        let RoundEnd { whose, appender, sent } = end;
        let Some(sent) = sent else { return self.finish_panicked_round(whose, appender, now) };
        self.note_refusals(&whose, &sent, now);
        let failure = sent.iter().find_map(|(_, sent)| sent.result.as_ref().err()).cloned();
        match whose {
            Whose::Memory(index) => {
                self.note(failure.as_ref(), now);
                self.finish_memory_round(index, appender, sent);
            }
            Whose::Spool(_) | Whose::Former(_, _) => {
                self.finish_drain_round(whose, appender, &sent);
                self.end_drain_batch(failure.map_or(BatchEnd::Taken, BatchEnd::Failed), now);
            }
        }
        if self.drain.is_none() {
            self.note_up();
        }
    }

    fn note_refusals(&mut self, whose: &Whose, sent: &[(u32, Sent)], now: Instant) {
        let (producer, experiment) = match whose {
            Whose::Memory(index) | Whose::Spool(index) => {
                let Some(experiment) = self.experiments.get(*index) else { return };
                (self.producer, Arc::clone(&experiment.name))
            }
            Whose::Former(producer, experiment) => (*producer, Arc::clone(experiment)),
        };
        for (shard, sent) in sent {
            if let Some(error) = sent.error() {
                self.status.count(error);
            }
            let of = (producer, Arc::clone(&experiment), *shard);
            self.refusals.note(of, sent, now, self.limits.refused_wait_max);
        }
        if self.refusals.gives_up() {
            self.status.up.store(false, Ordering::Relaxed);
        }
    }

    /// Redis takes what it is sent: says so where it did not.
    pub(super) fn note_up(&self) {
        if !self.refusals.gives_up() && !self.status.up.swap(true, Ordering::Relaxed) {
            tracing::warn!("Redis takes entries again.");
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

    fn finish_memory_round(&mut self, index: usize, appender: A, sent: Vec<(u32, Sent)>) {
        let Self { experiments, spool, spool_stats, producer, .. } = self;
        let Some(experiment) = experiments.get_mut(index) else { return };
        experiment.appender = Some(appender);
        let batches = std::mem::take(&mut experiment.round);
        for (mut batch, (_, Sent { result, refused, reason: _ })) in batches.into_iter().zip(sent) {
            if !refused.is_empty() {
                let refused = batch.split_off(&refused);
                experiment.in_flight_bytes = experiment.in_flight_bytes.saturating_sub(refused.bytes());
                refused.settle(Fate::Refused);
            }
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
