//! What lies in the spool, on its way to Redis: in order, and again and again until Redis has it.
//!
//! Drops nothing that it could still send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::{Batch, bytes_of};
use super::refused::{Numbering, Outgoing, Sent};
use super::round::{Whose, start_round};
use super::{Append, Experiment, Uploader};
use crate::metrics::SpoolStats;
use crate::model::{Fate, Ticket};
use crate::queue::Offered;
use crate::queue::entry::{EncodedEntry, Encoding};
use crate::queue::redis::{Numbered, RedisError};
use crate::spool::{Frame, Spool, SpoolError};

/// The way back to Redis, while entries go through the spool.
#[derive(Debug)]
pub(super) struct Drain {
    /// When to try next.
    retry_at: Instant,
    pause: Duration,
    /// Rounds of the batch that is under way.
    rounds: usize,
    failed: bool,
    panicked: bool,
    /// Batches in a row that panicked. Past the limit they are of one frame, until one of these panics or all is sent.
    panics: u32,
    /// The batch.
    frames: Vec<Passing>,
    /// Entries of it that Redis refused, and that are not sent again.
    refused: BTreeSet<(Numbering, u64)>,
}

/// A frame on its way.
#[derive(Clone, Debug)]
struct Passing {
    /// The experiment, where this process has it.
    experiment: Option<usize>,
    /// This process numbered it.
    is_own: bool,
    name: (Numbering, u64),
}

/// How one round of a batch ended.
#[derive(Debug)]
pub(super) enum BatchEnd {
    /// Redis has all of it.
    Taken,
    /// Redis may have a part of it.
    Failed(RedisError),
    /// The appender panicked, and Redis may have a part of it.
    Panicked,
}

/// Bytes of the spool that are under way at once.
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// Entries of one producer, experiment and shard.
type Groups = BTreeMap<(u128, Arc<str>), BTreeMap<u32, Vec<Numbered<EncodedEntry>>>>;

// === impl Drain ===

impl Drain {
    /// Tries after this pause.
    pub(super) fn new(now: Instant, pause: Duration) -> Self {
        let retry_at = now.checked_add(pause).unwrap_or(now);
        Self {
            retry_at,
            pause,
            rounds: 0,
            failed: false,
            panicked: false,
            panics: 0,
            frames: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// When to try next; none while an attempt is under way.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        (self.rounds == 0).then_some(self.retry_at)
    }

    fn succeed(&mut self, now: Instant, pause: Duration) {
        self.retry_at = now;
        self.pause = pause;
    }

    fn fail(&mut self, now: Instant, pause_max: Duration) {
        self.retry_at = now.checked_add(self.pause).unwrap_or(now);
        self.pause = self.pause.saturating_mul(2).min(pause_max);
    }
}

// === impl Uploader ===

impl<A: Append> Uploader<A> {
    /// Moves what waits in memory to the spool, where nothing of the experiment is under way.
    pub(super) fn spool_waiting(&mut self) {
        let Self { experiments, spool, spool_stats, producer, .. } = self;
        for experiment in experiments.iter_mut().filter(|experiment| experiment.round.is_empty()) {
            experiment.spool_waiting(spool, spool_stats, *producer);
        }
    }

    /// Tries again when it is time: first batches that may be in Redis already, then the oldest of the spool.
    pub(super) fn advance_drain(&mut self, now: Instant) {
        let is_time = self.drain.as_ref().is_some_and(|drain| drain.rounds == 0 && drain.retry_at <= now);
        if !is_time || !self.rounds.is_empty() {
            return;
        }
        if self.send_doubts(now) {
            if let Some(drain) = &mut self.drain {
                // Whatever comes of it, the next attempt is not before its pause.
                drain.fail(now, self.limits.retry_max);
            }
            return;
        }
        let mut frames = Vec::new();
        let damaged_before = self.spool.counts().damaged_frames;
        let is_alone = self.drain.as_ref().is_some_and(|drain| drain.panics >= self.limits.panics_max);
        let bytes_max = if is_alone { 1 } else { DRAIN_BYTES_MAX };
        let peeked = self.spool.peek_batch(&mut frames, bytes_max);
        // Only what lies first is passed over.
        let damaged = self.spool.counts().damaged_frames.saturating_sub(damaged_before);
        let damaged_former = damaged.min(self.former_left);
        self.former_left = self.former_left.saturating_sub(damaged);
        // What cannot be read does not say whose it is; where there are several, nobody knows.
        if let [experiment] = self.experiments.as_slice() {
            experiment.stats.give_up(Fate::SpoolFull, damaged_former);
        }
        if let Err(error) = peeked {
            self.spool_stats.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(error = &error as &dyn std::error::Error, "The spool gives nothing back.");
            if frames.is_empty() {
                if let Some(drain) = &mut self.drain {
                    drain.fail(now, self.limits.retry_max);
                }
                return;
            }
        }
        if frames.is_empty() { self.end_drain() } else { self.send_frames(frames, now) }
    }

    /// Sends the oldest batch in doubt of each shard; false when there is none.
    fn send_doubts(&mut self, now: Instant) -> bool {
        let mut any = false;
        for index in 0..self.experiments.len() {
            let Some(experiment) = self.experiments.get_mut(index) else { continue };
            experiment.round = experiment.lanes.iter_mut().filter_map(|lane| lane.next_doubt()).collect();
            if !experiment.round.is_empty() {
                any = true;
                self.start_memory_round(index, now);
            }
        }
        any
    }

    fn send_frames(&mut self, frames: Vec<Frame>, now: Instant) {
        let mut groups = Groups::new();
        let mut passing = Vec::with_capacity(frames.len());
        for frame in frames {
            let Frame { producer, experiment, shard, seq, route, kind, value } = frame;
            let name = ((producer, Arc::clone(&experiment), shard), seq);
            let is_refused = self.drain.as_ref().is_some_and(|drain| drain.refused.contains(&name));
            passing.push(Passing {
                experiment: self.experiments.iter().position(|one| one.name == experiment),
                is_own: producer == self.producer,
                name,
            });
            if is_refused {
                continue;
            }
            // A frame of a kind that nobody knows is passed over: what wrote it is no version of ours.
            if let Some(encoding) = Encoding::of_number(kind) {
                let entry = Numbered { seq, entry: EncodedEntry { route, encoding, value } };
                groups.entry((producer, experiment)).or_default().entry(shard).or_default().push(entry);
            }
        }
        let rounds = groups.len();
        for ((producer, experiment), shards) in groups {
            let in_order = |(shard, mut entries): (u32, Vec<Numbered<EncodedEntry>>)| {
                // They are, unless somebody has touched the files.
                entries.sort_by_key(|entry| entry.seq);
                entries.dedup_by_key(|entry| entry.seq);
                let is_overdue = self.is_overdue(&(producer, Arc::clone(&experiment), shard), now);
                Outgoing { shard, entries: Arc::new(entries), is_overdue }
            };
            let batches = shards.into_iter().map(in_order).collect();
            let own = self.experiments.iter_mut().enumerate().find(|(_, one)| one.name == experiment);
            let own = own.filter(|_| producer == self.producer);
            let (whose, appender) = match own {
                Some((index, own)) => (Whose::Spool(index), own.appender.take()),
                None => {
                    let former = (producer, Arc::clone(&experiment));
                    let appender = self.former.remove(&former);
                    let appender = appender.unwrap_or_else(|| (self.make_appender)(&experiment, producer));
                    (Whose::Former(producer, experiment), Some(appender))
                }
            };
            if let Some(appender) = appender {
                start_round(&mut self.rounds, whose, appender, batches);
            }
        }
        if let Some(drain) = &mut self.drain {
            (drain.rounds, drain.frames) = (rounds, passing);
            (drain.failed, drain.panicked) = (false, false);
        }
        if rounds == 0 {
            self.end_drain_batch(BatchEnd::Taken, now);
        }
    }

    /// Takes the appender of one round back.
    pub(super) fn finish_drain_round(&mut self, whose: Whose, appender: A, sent: &[(u32, Sent)]) {
        let (producer, name) = match whose {
            Whose::Memory(index) | Whose::Spool(index) => {
                let Some(experiment) = self.experiments.get_mut(index) else { return };
                experiment.appender = Some(appender);
                let appended = sent.iter().filter_map(|(_, sent)| sent.result.as_ref().ok());
                appended.for_each(|appended| experiment.count(appended, 0));
                (self.producer, Arc::clone(&experiment.name))
            }
            Whose::Former(producer, experiment) => {
                self.former.insert((producer, Arc::clone(&experiment)), appender);
                (producer, experiment)
            }
        };
        let Some(drain) = &mut self.drain else { return };
        for (shard, sent) in sent {
            let name = |seq: &u64| ((producer, Arc::clone(&name), *shard), *seq);
            drain.refused.extend(sent.refused.iter().map(name));
        }
    }

    /// Lets the batch go once all of its rounds are done and Redis has all of it.
    pub(super) fn end_drain_batch(&mut self, end: BatchEnd, now: Instant) {
        let Self { drain: Some(drain), limits, status, .. } = self else { return };
        drain.rounds = drain.rounds.saturating_sub(1);
        match end {
            BatchEnd::Taken => {}
            BatchEnd::Failed(error) => {
                drain.failed = true;
                if status.up.swap(false, Ordering::Relaxed) {
                    tracing::warn!(%error, "Redis takes no entries; they wait in the spool.");
                }
            }
            BatchEnd::Panicked => drain.panicked = true,
        }
        if drain.rounds > 0 {
            return;
        }
        if drain.panicked {
            // One frame is one round: it alone is to blame.
            let was_alone = drain.panics >= limits.panics_max;
            drain.panics = drain.panics.saturating_add(1);
            drain.fail(now, limits.retry_max);
            if was_alone {
                drain.panics = 0;
                tracing::error!("An entry of the spool is given up: sending it panics each time.");
                self.let_go(Fate::Lost);
            }
            return;
        }
        if drain.failed {
            return drain.fail(now, limits.retry_max);
        }
        drain.succeed(now, limits.retry_min);
        if drain.panics < limits.panics_max {
            drain.panics = 0;
        }
        self.let_go(Fate::Queued);
        if !self.refusals.gives_up() && !self.status.up.swap(true, Ordering::Relaxed) {
            tracing::warn!("Redis takes entries again; the spool is drained.");
        }
    }

    /// Takes the batch out of the spool, and gives each entry its fate: this one, unless Redis refused it. That of an entry of
    /// an earlier process, whose ledger is closed, is counted apart.
    fn let_go(&mut self, fate: Fate) {
        let Self { drain: Some(drain), spool, spool_stats, experiments, former_left, .. } = self else {
            return;
        };
        let (frames, refused) = (std::mem::take(&mut drain.frames), std::mem::take(&mut drain.refused));
        if let Err(error) = spool.commit(frames.len()) {
            // They are gone from it all the same.
            spool_stats.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(error = &error as &dyn std::error::Error, "The spool cannot give room back.");
        }
        for Passing { experiment, is_own, name } in frames {
            *former_left = former_left.saturating_sub(u64::from(!is_own));
            let fate = if refused.contains(&name) { Fate::Refused } else { fate };
            let Some(experiment) = experiment.and_then(|index| experiments.get_mut(index)) else { continue };
            let ((_, _, shard), seq) = name;
            if is_own && experiment.strays.remove(&(shard, seq)) {
                // Its ticket got its fate with its batch.
            } else if is_own {
                experiment.spooled.settle_one(fate);
            } else if fate == Fate::Queued {
                experiment.stats.recovered.fetch_add(1, Ordering::Relaxed);
            } else {
                experiment.stats.give_up(fate, 1);
            }
        }
    }

    /// The spool is empty: entries go straight to Redis again.
    fn end_drain(&mut self) {
        self.drain = None;
        self.former.clear();
        self.refusals.keep_only(self.producer);
        for experiment in &mut self.experiments {
            // What could not be read again is lost to the disk.
            experiment.spooled.settle_all(Fate::SpoolFull);
            experiment.strays.clear();
        }
        self.note_up();
    }

    /// Gives everything that is left its fate: what the disk takes is for the next process.
    pub(super) async fn leave_rest(&mut self) {
        self.rounds.shutdown().await;
        let Self { experiments, spool, spool_stats, producer, .. } = self;
        for experiment in experiments {
            for batch in std::mem::take(&mut experiment.round) {
                experiment.put_back(batch, spool, spool_stats, *producer);
            }
            experiment.spool_waiting(spool, spool_stats, *producer);
            let mut doubts = Vec::new();
            for lane in &mut experiment.lanes {
                doubts.extend(lane.take_doubts());
            }
            doubts.into_iter().for_each(|batch| experiment.leave_doubt(batch));
            experiment.spooled.settle_all(Fate::Spooled);
            experiment.close();
            while let Some(Offered { exchange: _, route: _, ticket }) = experiment.queue.take().await {
                ticket.settle(Fate::Drained);
            }
            experiment.in_flight_bytes = 0;
        }
    }
}

// === impl Experiment ===

impl<A> Experiment<A> {
    /// Numbers everything that waits and puts it into the spool.
    pub(super) fn spool_waiting(&mut self, spool: &mut Spool, stats: &SpoolStats, producer: u128) {
        self.due = None;
        for shard in 0..self.lanes.len() {
            while let Some((entry, ticket)) = self.lanes.get_mut(shard).and_then(|lane| lane.next_entry()) {
                self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes_of(&entry.entry));
                let shard = u32::try_from(shard).unwrap_or(u32::MAX);
                match spool.push(&self.frame(producer, shard, &entry)) {
                    Ok(()) => self.keep(ticket),
                    Err(error) => ticket.settle(refused(&error, stats)),
                }
            }
        }
    }

    /// Puts a batch that failed into the spool. Where that cannot be, it stays in memory for good: Redis may have it.
    pub(super) fn put_back(&mut self, batch: Batch, spool: &mut Spool, stats: &SpoolStats, producer: u128) {
        if batch.tickets.is_empty() {
            return;
        }
        let push =
            |entry: &&Numbered<EncodedEntry>| spool.push(&self.frame(producer, batch.shard, entry)).is_ok();
        let attempted = if batch.stays { 0 } else { batch.entries.len() };
        let pushed = batch.entries.iter().take(attempted).take_while(push).count();
        if pushed == batch.entries.len() {
            self.in_flight_bytes = self.in_flight_bytes.saturating_sub(batch.bytes());
            batch.tickets.into_iter().for_each(|ticket| self.keep(ticket));
            return;
        }
        // What went in all the same comes to Redis twice, which Redis knows by the numbers.
        self.strays.extend(batch.entries.iter().take(pushed).map(|entry| (batch.shard, entry.seq)));
        stats.failures.fetch_add(u64::from(!batch.stays), Ordering::Relaxed);
        if let Some(lane) = super::lane_of(&mut self.lanes, batch.shard) {
            lane.doubt(batch);
        }
    }

    /// Gives a batch in doubt its fate at the end: what of it lies in the spool is sent by the next process. Of the rest
    /// nobody knows whether Redis has it; nothing here keeps it.
    fn leave_doubt(&mut self, batch: Batch) {
        let Batch { shard, entries, tickets, stays: _, panics: _ } = batch;
        for (entry, ticket) in entries.iter().zip(tickets) {
            if self.strays.contains(&(shard, entry.seq)) {
                self.keep(ticket);
            } else {
                ticket.settle(Fate::SpoolFull);
            }
        }
    }

    fn keep(&mut self, ticket: Ticket) {
        if let Err(ticket) = self.spooled.absorb(ticket) {
            ticket.settle(Fate::Lost);
        }
    }

    fn frame(&self, producer: u128, shard: u32, numbered: &Numbered<EncodedEntry>) -> Frame {
        let Numbered { seq, entry: EncodedEntry { route, encoding, value } } = numbered;
        Frame {
            producer,
            experiment: Arc::clone(&self.name),
            shard,
            seq: *seq,
            route: Arc::clone(route),
            kind: encoding.number(),
            value: value.clone(),
        }
    }
}

/// The fate of an entry that the spool did not take.
fn refused(error: &SpoolError, stats: &SpoolStats) -> Fate {
    stats.failures.fetch_add(1, Ordering::Relaxed);
    match error {
        SpoolError::TooLarge { bytes: _, limit: _ } => Fate::TooLarge,
        SpoolError::Open { path: _, source: _ }
        | SpoolError::Locked { path: _ }
        | SpoolError::Exposed { path: _ }
        | SpoolError::Newer { path: _, version: _ }
        | SpoolError::Full { bytes: _, limit: _ }
        | SpoolError::Scarce { free: _, limit: _ }
        | SpoolError::Write { path: _, source: _ }
        | SpoolError::Read { path: _, source: _ }
        | SpoolError::Remove { path: _, source: _ } => Fate::SpoolFull,
    }
}
