//! The entries of one shard of one experiment, on their way.
//!
//! Knows neither Redis nor the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Fate, Ticket};
use crate::queue::entry::EncodedEntry;
use crate::queue::redis::Numbered;

/// What waits of one shard, in order: first batches that may be in Redis or not, then entries without a number.
#[derive(Debug, Default)]
pub(super) struct ShardLane {
    numbered: u64,
    doubts: VecDeque<Batch>,
    waiting: VecDeque<(EncodedEntry, Ticket)>,
}

/// Entries with their numbers, and their tickets.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) shard: u32,
    pub(super) entries: Arc<Vec<Numbered<EncodedEntry>>>,
    pub(super) tickets: Vec<Ticket>,
    /// The spool did not take it when it should have. Newer entries may lie there since, and Redis takes an older one after
    /// a newer one for a copy: so it goes to Redis from memory, before anything of the spool.
    pub(super) stays: bool,
    /// Times that sending it panicked.
    pub(super) panics: u32,
}

/// What an entry takes, besides its value, in bytes.
const ENTRY_OVERHEAD: usize = 64;

/// The memory of one entry, about.
pub(super) fn bytes_of(entry: &EncodedEntry) -> usize {
    entry.value.len().saturating_add(ENTRY_OVERHEAD)
}

// === impl ShardLane ===

impl ShardLane {
    pub(super) fn push(&mut self, entry: EncodedEntry, ticket: Ticket) {
        self.waiting.push_back((entry, ticket));
    }

    /// Entries without a number.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.doubts.is_empty()
    }

    /// Numbers up to `batch_max` of what waits.
    pub(super) fn next_batch(&mut self, shard: u32, batch_max: usize) -> Option<Batch> {
        let count = self.waiting.len().min(batch_max);
        if count == 0 {
            return None;
        }
        let (entries, tickets) = self
            .waiting
            .drain(..count)
            .zip(self.numbered.saturating_add(1)..)
            .map(|((entry, ticket), seq)| (Numbered { seq, entry }, ticket))
            .unzip::<_, _, Vec<_>, _>();
        self.numbered = self.numbered.saturating_add(count as u64);
        Some(Batch { shard, entries: Arc::new(entries), tickets, stays: false, panics: 0 })
    }

    /// The oldest entry that waits, with its number.
    pub(super) fn next_entry(&mut self) -> Option<(Numbered<EncodedEntry>, Ticket)> {
        let (entry, ticket) = self.waiting.pop_front()?;
        self.numbered = self.numbered.saturating_add(1);
        Some((Numbered { seq: self.numbered, entry }, ticket))
    }

    /// Keeps a batch of which nobody knows whether Redis has it.
    pub(super) fn doubt(&mut self, batch: Batch) {
        self.doubts.push_front(Batch { stays: true, ..batch });
    }

    /// The oldest batch in doubt.
    pub(super) fn next_doubt(&mut self) -> Option<Batch> {
        self.doubts.pop_front()
    }

    pub(super) fn take_doubts(&mut self) -> VecDeque<Batch> {
        std::mem::take(&mut self.doubts)
    }
}

// === impl Batch ===

impl Batch {
    /// Takes those with these numbers out, as a batch of their own.
    pub(super) fn split_off(&mut self, numbers: &[u64]) -> Self {
        let Self { shard, entries, tickets, stays, panics } = self;
        let all = entries.iter().cloned().zip(std::mem::take(tickets));
        let (out, rest): (Vec<_>, Vec<_>) =
            all.partition(|(numbered, _)| numbers.binary_search(&numbered.seq).is_ok());
        let (rest, tickets_left) = rest.into_iter().unzip::<_, _, Vec<_>, _>();
        (*entries, *tickets) = (Arc::new(rest), tickets_left);
        let (out, tickets) = out.into_iter().unzip::<_, _, Vec<_>, _>();
        Self { shard: *shard, entries: Arc::new(out), tickets, stays: *stays, panics: *panics }
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|numbered| bytes_of(&numbered.entry)).sum()
    }

    /// Gives all of them one fate.
    pub(super) fn settle(self, fate: Fate) {
        self.tickets.into_iter().for_each(|ticket| ticket.settle(fate));
    }
}
