//! What Redis itself says of an experiment, read shard by shard: how many entries came in, and what became of them.
//!
//! Changes nothing. The sums are the truth of the whole fleet; what one process counted is a detail of it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use redis::{Cmd, Value, from_redis_value};
use understudy::queue::redis::{Keys, Redis};

/// What the names of fates start with in the book.
const FATE: &str = "fate:";

/// The counters of an experiment, summed over its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    /// Entries that the streams took.
    pub(crate) accepted: u64,
    /// Their bytes.
    pub(crate) accepted_bytes: u64,
    /// Bytes of those that still have no fate.
    pub(crate) bytes: u64,
    /// Entries that were removed unread, to keep the bounds.
    pub(crate) trimmed: u64,
    /// Entries that were set aside because every worker failed at them.
    pub(crate) set_aside: u64,
    /// Entries that Redis had confirmed and lost.
    pub(crate) forgotten: u64,
    /// Entries that were sent again although Redis had them.
    pub(crate) duplicates: u64,
    /// Entries by what a worker made of them.
    pub(crate) fates: BTreeMap<String, u64>,
    /// Entries that are still in the streams.
    pub(crate) waiting: u64,
    /// Of these, entries that a worker has taken and not settled.
    pub(crate) pending: u64,
    /// Counters that this version does not know.
    pub(crate) others: BTreeMap<String, u64>,
}

// === impl Book ===

impl Book {
    /// Reads the books of all shards. They are not read at one moment: only a quiet experiment balances to the last.
    pub(crate) async fn read(redis: &Redis, keys: &Keys, shards: u32) -> anyhow::Result<Self> {
        let mut commands = Vec::new();
        for shard in 0..shards {
            let keys = keys.shard(shard);
            commands.push(command(&["HGETALL", &keys.book()]));
            commands.push(command(&["XLEN", &keys.stream()]));
            commands.push(command(&["XINFO", "GROUPS", &keys.stream()]));
        }
        let mut book = Self::default();
        let answers = redis.query_all("read the book", commands).await;
        let mut answers = answers.into_iter();
        while let (Some(counters), Some(length), groups) = (answers.next(), answers.next(), answers.next()) {
            let counters: BTreeMap<String, i64> = from_redis_value(counters?).context("no book")?;
            for (name, count) in counters {
                book.add(&name, u64::try_from(count).unwrap_or(0));
            }
            let length: u64 = from_redis_value(length?).context("no length")?;
            book.waiting = book.waiting.saturating_add(length);
            // A shard that nobody has written to has no stream, and no groups either.
            if let Some(Ok(groups)) = groups {
                book.pending = book.pending.saturating_add(pending(groups));
            }
        }
        Ok(book)
    }

    /// Entries that have come to an end, or are still on their way.
    pub(crate) fn accounted(&self) -> u64 {
        let Self { trimmed, set_aside, fates, waiting, .. } = self;
        let counts = fates.values().chain([trimmed, set_aside, waiting]);
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// True when every entry that was accepted has exactly one fate, or still waits.
    pub(crate) fn balances(&self) -> bool {
        self.accepted == self.accounted()
    }

    /// Counts something, as a shard's book names it.
    fn add(&mut self, name: &str, count: u64) {
        let place = match name {
            "accepted" => &mut self.accepted,
            "accepted_bytes" => &mut self.accepted_bytes,
            "bytes" => &mut self.bytes,
            "trimmed" => &mut self.trimmed,
            "set_aside" => &mut self.set_aside,
            "forgotten" => &mut self.forgotten,
            "duplicates" => &mut self.duplicates,
            _ => match name.strip_prefix(FATE) {
                Some(fate) => self.fates.entry(fate.to_owned()).or_default(),
                None => self.others.entry(name.to_owned()).or_default(),
            },
        };
        *place = place.saturating_add(count);
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

/// Entries that the members of the groups have taken and not acknowledged.
fn pending(groups: Value) -> u64 {
    let groups: Vec<BTreeMap<String, Value>> = from_redis_value(groups).unwrap_or_default();
    let counts = groups.into_iter().filter_map(|mut group| match group.remove("pending") {
        Some(Value::Int(count)) => u64::try_from(count).ok(),
        _ => None,
    });
    counts.fold(0, u64::saturating_add)
}
