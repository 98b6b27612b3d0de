//! What replay and journal say of entries that were taken from Redis.
//!
//! Never waits and sends nothing: what is said is noted, and whoever talks to Redis is woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::deliveries::{Deliveries, EntryKey};
use super::stats::{QueueStats, set};
use crate::model::{Fate, Finding};

/// One entry that the replay has. One that is dropped without a fate is handed back, as one that a worker has met and not
/// done.
#[derive(Debug)]
pub struct Delivery {
    key: EntryKey,
    /// Absent once it has its fate.
    shared: Option<Arc<Shared>>,
}

/// Where the journal says what it has kept. Once it is dropped, what was compared and not kept goes back to Redis.
#[derive(Debug)]
pub struct Kept {
    shared: Arc<Shared>,
}

/// What reader, settler, replay and journal share.
#[derive(Debug)]
pub(super) struct Shared {
    deliveries: Mutex<Deliveries>,
    /// Redis has something to be told.
    pub(super) due: Notify,
    /// Something was settled, or no more is wanted: the reader may have room.
    pub(super) changed: Notify,
    /// The last thing that anybody but Redis has to do may have been done.
    pub(super) ended: Notify,
    closing: AtomicBool,
    /// The reader takes nothing more, and has handed on all it had.
    drained: AtomicBool,
    journal_ended: AtomicBool,
    /// What is counted.
    pub(super) stats: Arc<QueueStats>,
}

// === impl Delivery ===

impl Delivery {
    /// One that is in the deliveries.
    pub(super) fn new(key: EntryKey, shared: &Arc<Shared>) -> Self {
        Self { key, shared: Some(Arc::clone(shared)) }
    }

    /// Gives the entry its fate; says which one it has in the ledger of this worker.
    pub(in crate::queue) fn settle(mut self, fate: Fate) -> Fate {
        self.shared.take().map_or(fate, |shared| shared.settle(self.key, fate))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.settle(self.key, Fate::Lost);
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Of what is shared.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// The journal has kept these comparisons. Never waits.
    pub fn keep(&self, findings: impl IntoIterator<Item = Finding>) {
        let mut deliveries = self.shared.deliveries();
        findings.into_iter().for_each(|finding| deliveries.keep(finding));
        self.shared.publish(&deliveries);
        drop(deliveries);
        self.shared.due.notify_one();
        self.shared.changed.notify_one();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.deliveries().end_journal();
        self.shared.journal_ended.store(true, Ordering::Release);
        self.shared.wake();
    }
}

// === impl Shared ===

impl Shared {
    /// Nothing is taken yet.
    pub(super) fn new(stats: Arc<QueueStats>) -> Self {
        Self {
            deliveries: Mutex::default(),
            due: Notify::new(),
            changed: Notify::new(),
            ended: Notify::new(),
            closing: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            journal_ended: AtomicBool::new(false),
            stats,
        }
    }

    /// What was taken.
    pub(super) fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is wanted.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    /// True once nothing more is wanted.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The reader takes nothing more, and has handed on all it had.
    pub(super) fn drain(&self) {
        self.drained.store(true, Ordering::Release);
        self.wake();
    }

    /// True when nothing can change any more but what Redis is told.
    pub(super) fn is_ending(&self) -> bool {
        self.is_closing() && self.journal_ended.load(Ordering::Acquire) && self.deliveries().under_way() == 0
    }

    /// True when nothing is left to be done.
    pub(super) fn is_over(&self) -> bool {
        self.drained.load(Ordering::Acquire) && self.deliveries().len() == 0
    }

    /// Publishes how much there is now.
    pub(super) fn publish(&self, deliveries: &Deliveries) {
        set(&self.stats.under_way, deliveries.under_way());
        set(&self.stats.under_way_bytes, deliveries.bytes());
        set(&self.stats.unkept, deliveries.compared());
        set(&self.stats.unsettled, deliveries.len().saturating_sub(deliveries.under_way()));
    }

    fn settle(&self, key: EntryKey, fate: Fate) -> Fate {
        let mut deliveries = self.deliveries();
        let fate = deliveries.settle(key, fate);
        let is_due = deliveries.has_due();
        self.publish(&deliveries);
        drop(deliveries);
        if is_due {
            self.due.notify_one();
        }
        self.changed.notify_one();
        if self.is_closing() {
            self.wake();
        }
        fate
    }

    fn wake(&self) {
        self.due.notify_one();
        self.changed.notify_one();
        self.ended.notify_one();
    }
}
