//! The requests that a candidate will be asked again, until their time comes.
//!
//! Bounded in number and memory; what finds no room is not asked again, and counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::science::Again;

/// Bounds of the requests that wait to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgainLimits {
    /// Requests. Default: 1,024.
    pub waiting_max: usize,
    /// Memory of them and of the first answers, in bytes. Default: 16 MiB.
    pub waiting_bytes_max: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct AgainQueue {
    limits: AgainLimits,
    waiting: BinaryHeap<Reverse<Waiting>>,
    bytes: usize,
    /// Orders requests that are due at the same time.
    taken: u64,
}

/// One request that waits.
#[derive(Debug)]
struct Waiting {
    due: Due,
    order: u64,
    bytes: usize,
}

/// A request to ask again.
#[derive(Debug)]
pub(super) struct Due {
    /// When it may be sent.
    pub(super) at: Instant,
    /// When the candidate's first answer was there.
    pub(super) answered_at: Instant,
    /// What to ask.
    pub(super) again: Box<Again>,
}

// === impl AgainLimits ===

impl Default for AgainLimits {
    fn default() -> Self {
        Self { waiting_max: 1024, waiting_bytes_max: 16 << 20 }
    }
}

// === impl AgainQueue ===

impl AgainQueue {
    pub(super) fn new(limits: AgainLimits) -> Self {
        Self { limits, waiting: BinaryHeap::new(), bytes: 0, taken: 0 }
    }

    /// Keeps a request until its time; false when there is no room.
    pub(super) fn push(&mut self, again: Box<Again>, answered_at: Instant) -> bool {
        let Some(at) = answered_at.checked_add(again.wait) else { return false };
        let bytes = again.memory_bytes();
        let total = self.bytes.saturating_add(bytes);
        if self.waiting.len() >= self.limits.waiting_max || total > self.limits.waiting_bytes_max {
            return false;
        }
        self.bytes = total;
        self.taken = self.taken.wrapping_add(1);
        self.waiting.push(Reverse(Waiting { due: Due { at, answered_at, again }, order: self.taken, bytes }));
        true
    }

    /// The next one whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        self.waiting.peek().filter(|Reverse(next)| next.due.at <= now)?;
        let Reverse(Waiting { due, order: _, bytes }) = self.waiting.pop()?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(due)
    }

    /// When the next one is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(next)| next.due.at)
    }

    /// Forgets those that are due later than `until`; gives their number.
    pub(super) fn drop_after(&mut self, until: Instant) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|Reverse(waiting)| waiting.due.at <= until);
        self.bytes = self.waiting.iter().map(|Reverse(waiting)| waiting.bytes).sum();
        before.saturating_sub(self.waiting.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

// === impl Waiting ===

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due.at, self.order).cmp(&(other.due.at, other.order))
    }
}
