//! What a worker's side of the queue counts.
//!
//! Plain counters; whoever exports them gives them their names.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::RedisErrorKind;

/// Counts of one experiment's queue on one worker. Totals only grow; what is said to be "now" goes up and down.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Requests for new entries.
    pub reads: AtomicU64,
    /// Entries that Redis has handed over, taken over ones included.
    pub entries: AtomicU64,
    /// Bytes of those entries, as they came.
    pub entry_bytes: AtomicU64,
    /// Entries taken over from workers that had not settled them.
    pub taken_over: AtomicU64,
    /// Entries that were handed over one at a time, since workers may have died of them.
    pub alone: AtomicU64,
    /// Entries that were delivered again while they were here: passed over.
    pub duplicates: AtomicU64,
    /// Entries that could not be read.
    pub unreadable: AtomicU64,
    /// Entries that were set aside after too many deliveries.
    pub set_aside: AtomicU64,
    /// Entries left for workers that read a newer version of the wire form.
    pub newer: AtomicU64,
    /// Entries given back to others.
    pub handed_back: AtomicU64,
    /// Settlements that Redis has counted.
    pub settled: AtomicU64,
    /// Settlements of entries that had been trimmed from the stream; counted all the same.
    pub settled_trimmed: AtomicU64,
    /// Settlements that Redis has not counted, since somebody had settled the entry.
    pub settled_before: AtomicU64,
    /// Settlements that Redis refused each time, and which were set aside instead.
    pub refused: AtomicU64,
    /// Settlements that Redis refuses now, though they were told one by one; they are told again later.
    pub held: AtomicU64,
    /// Groups of workers that had to be made again.
    pub groups_made: AtomicU64,
    /// Shards owned now.
    pub shards: AtomicU64,
    /// Workers there now, this one included.
    pub workers: AtomicU64,
    /// Entries now that the replay has.
    pub under_way: AtomicU64,
    /// Bytes of memory of those now.
    pub under_way_bytes: AtomicU64,
    /// Entries now that are compared and wait for the journal.
    pub unkept: AtomicU64,
    /// Entries now that are compared or have another fate, and are not confirmed by Redis.
    pub unsettled: AtomicU64,
    /// Kinds of requests that fail now; zero when all is well.
    pub failing: AtomicU64,
    /// Errors in the order of [`RedisErrorKind::ALL`].
    pub errors: [AtomicU64; RedisErrorKind::ALL.len()],
}

// === impl QueueStats ===

impl QueueStats {
    /// Counts one error.
    pub(super) fn count_error(&self, kind: RedisErrorKind) {
        let place = RedisErrorKind::ALL.iter().position(|other| *other == kind);
        if let Some(count) = place.and_then(|place| self.errors.get(place)) {
            add(count, 1);
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Sets what is counted now.
pub(super) fn set(gauge: &AtomicU64, count: usize) {
    gauge.store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
}
