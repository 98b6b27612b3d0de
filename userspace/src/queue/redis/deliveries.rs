//! What this worker has taken from Redis and Redis does not know as settled.
//!
//! Asks nobody and reads no clock: it says what is to be told to Redis, and holds each entry until Redis has confirmed.
//! What is in here is bounded by what may be taken.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::model::{ExchangeId, Fate, Finding};

/// Names an entry of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamId {
    /// Milliseconds, by the clock of Redis.
    pub(super) ms: u64,
    /// Counts entries of one millisecond.
    pub(super) seq: u64,
}

/// Names an entry of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryKey {
    /// Its shard.
    pub(super) shard: u32,
    /// Its place there.
    pub(super) id: StreamId,
}

/// What Redis has to be told of an entry besides its fate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Bytes that it takes in Redis; what was added to the book when it came in.
    pub(super) bytes: u64,
    /// Keys that hold parts of it.
    pub(super) parts: u32,
    /// What their names share behind the shard's prefix: `producer:seq`.
    pub(super) part_of: String,
    /// How often it has been delivered, this time included.
    pub(super) deliveries: u64,
    /// No producer of ours has written it, so that the book has not counted it in.
    pub(super) is_foreign: bool,
}

/// An entry that has its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settlement {
    /// The entry.
    pub(super) key: EntryKey,
    /// What Redis has to know of it.
    pub(super) receipt: Receipt,
    /// Its fate.
    pub(super) fate: Fate,
    /// What the journal has kept of it.
    pub(super) finding: Option<Finding>,
    /// Why people should look at it: then it is set aside.
    pub(super) why: Option<Why>,
}

/// Why an entry is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    /// In words.
    pub(super) text: String,
    /// Its fields are copied. Not those of a huge one: to read it stops Redis for seconds.
    pub(super) with_fields: bool,
}

/// An entry that somebody else has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandBack {
    /// The entry.
    pub(super) key: EntryKey,
    /// Who may take it.
    pub(super) to: Recipient,
    /// Deliveries that it is to have had; absent for as many as Redis has counted. This one is taken off where nothing was
    /// wrong with the entry; earlier ones stay, or an entry that workers die of would look like a new one.
    pub(super) deliveries: Option<u64>,
}

/// Who may take an entry that is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// Whoever owns the shard.
    Anybody,
    /// Who reads this major version of the wire form.
    Newer(u16),
}

/// One thing to tell Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are settlements")]
pub(super) enum Order {
    /// That an entry is settled.
    Settle(Settlement),
    /// That this worker does not do it.
    HandBack(HandBack),
}

/// What became of an entry that was given a fate, for the ledger of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It was compared, and counts once the journal has it.
    Compared,
    /// It is settled.
    Settled,
    /// It was not begun, or cut off: somebody else does it.
    Unbegun,
    /// A defect of this worker met it, perhaps because of what it is.
    Failed,
}

/// Everything that was taken and is not confirmed.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    entries: HashMap<EntryKey, Taken>,
    /// Entries under way or waiting for the journal.
    by_exchange: HashMap<ExchangeId, EntryKey>,
    shards: HashMap<u32, Shard>,
    under_way: usize,
    compared: usize,
    bytes: usize,
    /// No more findings will come.
    journal_ended: bool,
}

#[derive(Debug)]
struct Taken {
    receipt: Receipt,
    /// Absent where nobody could read it.
    exchange: Option<ExchangeId>,
    /// Bytes of memory that it takes while it is under way.
    bytes: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The replay has it. The journal may be quicker to say that it has kept the comparison.
    UnderWay(Option<Finding>),
    /// It was compared; the journal has not said that it has kept it.
    Compared(Fate),
    /// Redis is to be told.
    Due(Order),
    /// Redis is being told.
    Sent,
}

#[derive(Debug, Default)]
struct Shard {
    taken: usize,
    under_way: usize,
    due: VecDeque<EntryKey>,
}

// === impl StreamId ===

impl StreamId {
    /// Reads what Redis calls an entry: `1526919030474-55`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ms, seq } = self;
        write!(f, "{ms}-{seq}")
    }
}

// === impl Receipt ===

impl Receipt {
    /// How often it was delivered before this time.
    pub(super) fn deliveries_before(&self) -> u64 {
        self.deliveries.saturating_sub(1)
    }
}

// === impl Order ===

impl Order {
    /// The entry that it is about.
    pub(super) fn key(&self) -> EntryKey {
        match self {
            Order::Settle(settlement) => settlement.key,
            Order::HandBack(hand_back) => hand_back.key,
        }
    }
}

// === impl Ending ===

impl Ending {
    fn of(fate: Fate) -> Self {
        match fate {
            Fate::Matched | Fate::Mismatched | Fate::Ignored | Fate::Incomparable => Ending::Compared,
            Fate::Paused | Fate::Drained | Fate::Stopped | Fate::Returned => Ending::Unbegun,
            Fate::Lost => Ending::Failed,
            Fate::Shown
            | Fate::Recorded
            | Fate::NotRecorded
            | Fate::FilteredMethod
            | Fate::FilteredRoute
            | Fate::FilteredHost
            | Fate::FilteredHeader
            | Fate::FilteredRunIf
            | Fate::SampledOut
            | Fate::Replay
            | Fate::NoResponse
            | Fate::NotReplayable
            | Fate::UnsafeMethod
            | Fate::Shed
            | Fate::RateLimited
            | Fate::Overdue
            | Fate::BreakerOpen
            | Fate::Queued
            | Fate::SpoolFull
            | Fate::Refused
            | Fate::TooLarge
            | Fate::Spooled
            | Fate::Unreadable
            | Fate::SetAside
            | Fate::Duplicate => Ending::Settled,
        }
    }
}

// === impl Deliveries ===

impl Deliveries {
    /// Entries that Redis does not know as settled.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries that the replay has.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Entries that wait for the journal.
    pub(super) fn compared(&self) -> usize {
        self.compared
    }

    /// Bytes of memory of entries that the replay has.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries of one shard that the replay has.
    pub(super) fn under_way_of(&self, shard: u32) -> usize {
        self.shards.get(&shard).map_or(0, |shard| shard.under_way)
    }

    /// Entries of one shard that Redis does not know as settled.
    pub(super) fn taken_of(&self, shard: u32) -> usize {
        self.shards.get(&shard).map_or(0, |shard| shard.taken)
    }

    /// True when the entry is in here.
    pub(super) fn knows(&self, key: EntryKey) -> bool {
        self.entries.contains_key(&key)
    }

    /// True when Redis has something to be told.
    pub(super) fn has_due(&self) -> bool {
        self.shards.values().any(|shard| !shard.due.is_empty())
    }

    /// Takes an entry for the replay. False when its exchange is under way already or waits for the journal, and nothing
    /// has changed: then it is a copy, and one comparison is enough. The entry itself must not be in here.
    pub(super) fn take(
        &mut self,
        key: EntryKey,
        exchange: ExchangeId,
        receipt: Receipt,
        bytes: usize,
    ) -> bool {
        if self.knows(key) || self.by_exchange.contains_key(&exchange) {
            return false;
        }
        self.by_exchange.insert(exchange, key);
        self.under_way = self.under_way.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let shard = self.shards.entry(key.shard).or_default();
        shard.taken = shard.taken.saturating_add(1);
        shard.under_way = shard.under_way.saturating_add(1);
        let state = State::UnderWay(None);
        self.entries.insert(key, Taken { receipt, exchange: Some(exchange), bytes, state });
        true
    }

    /// Takes an entry that never goes to the replay; false when it is in here already.
    pub(super) fn order(&mut self, order: Order) -> bool {
        let key = order.key();
        if self.knows(key) {
            return false;
        }
        let shard = self.shards.entry(key.shard).or_default();
        shard.taken = shard.taken.saturating_add(1);
        shard.due.push_back(key);
        let state = State::Due(order);
        self.entries.insert(key, Taken { receipt: Receipt::default(), exchange: None, bytes: 0, state });
        true
    }

    /// The replay has given an entry its fate; says which one it has in the ledger of this worker.
    pub(super) fn settle(&mut self, key: EntryKey, fate: Fate) -> Fate {
        let Some(taken) = self.entries.get_mut(&key) else { return fate };
        let State::UnderWay(finding) = &mut taken.state else { return fate };
        let finding = finding.take();
        let bytes = std::mem::take(&mut taken.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(shard) = self.shards.get_mut(&key.shard) {
            shard.under_way = shard.under_way.saturating_sub(1);
        }
        let before = taken.receipt.deliveries_before();
        let hand_back = |deliveries| Order::HandBack(HandBack { key, to: Recipient::Anybody, deliveries });
        match (Ending::of(fate), finding) {
            (Ending::Compared, None) if !self.journal_ended => {
                taken.state = State::Compared(fate);
                self.compared = self.compared.saturating_add(1);
                fate
            }
            (Ending::Compared, None) => {
                self.due(key, hand_back(Some(before)));
                Fate::Returned
            }
            (Ending::Compared | Ending::Settled, finding) => {
                let receipt = std::mem::take(&mut taken.receipt);
                self.due(key, Order::Settle(Settlement { key, receipt, fate, finding, why: None }));
                fate
            }
            (Ending::Unbegun, _) => {
                self.due(key, hand_back(Some(before)));
                Fate::Returned
            }
            (Ending::Failed, _) => {
                self.due(key, hand_back(None));
                fate
            }
        }
    }

    /// The journal has kept a comparison. One of an exchange that is not in here is passed over.
    pub(super) fn keep(&mut self, finding: Finding) {
        let Some(key) = self.by_exchange.get(&finding.exchange).copied() else { return };
        let Some(taken) = self.entries.get_mut(&key) else { return };
        match &mut taken.state {
            State::UnderWay(kept) => *kept = Some(finding),
            State::Compared(fate) => {
                let (fate, receipt) = (*fate, std::mem::take(&mut taken.receipt));
                self.compared = self.compared.saturating_sub(1);
                let settlement = Settlement { key, receipt, fate, finding: Some(finding), why: None };
                self.due(key, Order::Settle(settlement));
            }
            State::Due(_) | State::Sent => {}
        }
    }

    /// The journal keeps nothing more: what was compared and not kept is somebody else's to do.
    pub(super) fn end_journal(&mut self) {
        self.journal_ended = true;
        let waiting = |(key, taken): (&EntryKey, &Taken)| {
            matches!(taken.state, State::Compared(_)).then(|| (*key, taken.receipt.deliveries_before()))
        };
        let mut waiting: Vec<_> = self.entries.iter().filter_map(waiting).collect();
        waiting.sort_unstable();
        self.compared = 0;
        for (key, before) in waiting {
            let deliveries = Some(before);
            self.due(key, Order::HandBack(HandBack { key, to: Recipient::Anybody, deliveries }));
        }
    }

    /// What to tell Redis next of one shard, at most `max` things.
    pub(super) fn batch(&mut self, shard: u32, max: usize) -> Vec<Order> {
        let Self { entries, shards, .. } = self;
        let Some(shard) = shards.get_mut(&shard) else { return Vec::new() };
        let keys = shard.due.drain(..max.min(shard.due.len()));
        keys.filter_map(|key| {
            let taken = entries.get_mut(&key)?;
            match std::mem::replace(&mut taken.state, State::Sent) {
                State::Due(order) => Some(order),
                other @ (State::UnderWay(_) | State::Compared(_) | State::Sent) => {
                    taken.state = other;
                    None
                }
            }
        })
        .collect()
    }

    /// Shards with something to tell.
    pub(super) fn due_shards(&self) -> Vec<u32> {
        let due = self.shards.iter().filter(|(_, shard)| !shard.due.is_empty());
        let mut numbers: Vec<u32> = due.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Redis did not confirm: the orders are told again before those that came since.
    pub(super) fn retry(&mut self, orders: Vec<Order>) {
        for order in orders.into_iter().rev() {
            let key = order.key();
            if let Some(taken) = self.entries.get_mut(&key) {
                taken.state = State::Due(order);
                self.shards.entry(key.shard).or_default().due.push_front(key);
            }
        }
    }

    /// Redis knows: the entries are nothing of ours any more.
    pub(super) fn confirm(&mut self, keys: impl IntoIterator<Item = EntryKey>) {
        for key in keys {
            if !matches!(self.entries.get(&key), Some(Taken { state: State::Sent, .. })) {
                continue;
            }
            self.entries.remove(&key);
            if let Some(shard) = self.shards.get_mut(&key.shard) {
                shard.taken = shard.taken.saturating_sub(1);
                if shard.taken == 0 {
                    self.shards.remove(&key.shard);
                }
            }
        }
    }

    fn due(&mut self, key: EntryKey, order: Order) {
        let Some(taken) = self.entries.get_mut(&key) else { return };
        taken.state = State::Due(order);
        if let Some(exchange) = taken.exchange.take() {
            self.by_exchange.remove(&exchange);
        }
        self.shards.entry(key.shard).or_default().due.push_back(key);
    }
}

#[cfg(test)]
mod tests;
