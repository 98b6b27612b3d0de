//! Puts entries into Redis, each of them once, however often it takes to say so.
//!
//! Numbers nothing and keeps nothing: the caller holds its entries until they are confirmed, and then repeats what was
//! not, with the same numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::queue::entry::EncodedEntry;

use super::connect::Redis;
use super::error::RedisError;
use super::keys::{Keys, ShardKeys};
use super::script::{Call, Script};

/// What an entry takes in Redis besides its route and its value, about.
pub const ENTRY_OVERHEAD_BYTES: usize = 160;

static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new("append", include_str!("lua/append.lua")));

/// Bounds of what is put into Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendLimits {
    /// Entries in the stream of one shard; the oldest are trimmed. Default: 100,000.
    pub stream_entries_max: u64,
    /// Bytes of the entries in the stream of one shard; the oldest are trimmed. Default: 64 MiB.
    pub stream_bytes_max: u64,
    /// A larger value is cut into parts of this size. Default: 256 KiB.
    pub part_bytes_max: usize,
    /// How long the parts of an entry live that nobody reads. Default: 1 h.
    pub part_lifetime: Duration,
    /// Entries that one call of the script takes; Redis does nothing else meanwhile. Default: 1,024.
    pub call_entries_max: usize,
    /// Bytes that one call of the script takes, unless one entry has more. Default: 4 MiB.
    pub call_bytes_max: usize,
}

/// Whoever numbers entries: one process from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerId(u128);

/// Not a [`ProducerId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a producer is written as 32 hexadecimal digits")]
pub struct ProducerIdError;

/// An entry with its number: those of one producer and shard grow, and none is used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered<T> {
    /// From 1 on; numbers may be left out.
    pub seq: u64,
    /// What is numbered.
    pub entry: T,
}

/// What came of a batch: all of its entries are in Redis, or have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Entries that Redis took now.
    pub taken: u64,
    /// Entries that it had taken before.
    pub duplicates: u64,
    /// Older entries, of whomever, that had to go to keep the bounds.
    pub trimmed: u64,
    /// Entries of this producer that Redis had confirmed and does not know any more.
    pub forgotten: u64,
}

/// Puts entries of one producer into the shards of one experiment.
#[derive(Debug)]
pub struct Appender {
    redis: Redis,
    keys: Keys,
    limits: AppendLimits,
    producer: String,
    shards: BTreeMap<u32, Progress>,
    forgotten: u64,
}

/// How far one shard has come.
#[derive(Debug)]
struct Progress {
    keys: ShardKeys,
    /// The greatest number that Redis has confirmed.
    confirmed_seq: u64,
    /// How many entries it had confirmed then.
    confirmed: u64,
    /// How many of them it had forgotten then; unknown before its first answer.
    forgotten: Option<u64>,
}

/// A batch on its way, in as many calls as it takes.
struct Way<'a> {
    shard: u32,
    left: &'a [Numbered<EncodedEntry>],
    result: Result<Appended, RedisError>,
}

// === impl AppendLimits ===

impl Default for AppendLimits {
    fn default() -> Self {
        Self {
            stream_entries_max: 100_000,
            stream_bytes_max: 64 << 20,
            part_bytes_max: 256 << 10,
            part_lifetime: Duration::from_secs(3600),
            call_entries_max: 1024,
            call_bytes_max: 4 << 20,
        }
    }
}

// === impl ProducerId ===

impl ProducerId {
    /// An id from 128 random bits.
    pub fn new(random: u128) -> Self {
        Self(random)
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ProducerId {
    type Err = ProducerIdError;

    fn from_str(text: &str) -> Result<Self, ProducerIdError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(ProducerIdError)
    }
}

// === impl Appended ===

impl Appended {
    /// Adds what came of another call.
    pub fn add(&mut self, other: Self) {
        let Self { taken, duplicates, trimmed, forgotten } = other;
        self.taken = self.taken.saturating_add(taken);
        self.duplicates = self.duplicates.saturating_add(duplicates);
        self.trimmed = self.trimmed.saturating_add(trimmed);
        self.forgotten = self.forgotten.saturating_add(forgotten);
    }
}

// === impl Appender ===

impl Appender {
    /// An appender for `producer`: one that has sent nothing yet, or one of an earlier process whose entries are still
    /// to be sent.
    pub fn new(redis: Redis, keys: Keys, limits: AppendLimits, producer: ProducerId) -> Self {
        Self { redis, keys, limits, producer: producer.to_string(), shards: BTreeMap::new(), forgotten: 0 }
    }

    /// Entries of this producer that Redis had confirmed and lost, as far as is known: the sum of what every
    /// [`Appended`] told, also of those that nobody waited for.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Makes sure that Redis answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.redis.ping().await
    }

    /// Appends a batch to one shard, in the order of its numbers.
    ///
    /// # Errors
    /// As [`Appender::append_all`].
    pub async fn append(
        &mut self,
        shard: u32,
        entries: &[Numbered<EncodedEntry>],
    ) -> Result<Appended, RedisError> {
        let mut results = self.append_all(&[(shard, entries)]).await;
        results.pop().unwrap_or_else(|| Ok(Appended::default()))
    }

    /// Appends batches to several shards side by side. The results stand in the order of the batches.
    ///
    /// # Errors
    /// [`RedisError`] for a batch of which Redis has a part, or all, or nothing. Repeat it, with the same numbers and
    /// before any greater number of this shard, until it is confirmed: what Redis has is not taken again. Only after
    /// an error that is not [`RedisError::is_unsettled`] the entries from the first unconfirmed one on may get another
    /// fate instead; or where one is refused each time that it is sent alone.
    pub async fn append_all(
        &mut self,
        batches: &[(u32, &[Numbered<EncodedEntry>])],
    ) -> Vec<Result<Appended, RedisError>> {
        let mut ways: Vec<Way<'_>> = batches
            .iter()
            .map(|(shard, entries)| {
                debug_assert!(entries.is_sorted_by(|a, b| a.seq < b.seq), "numbers grow");
                Way { shard: *shard, left: entries, result: Ok(Appended::default()) }
            })
            .collect();
        // One call for each shard at a time: when a call fails, none with greater numbers may have been taken.
        loop {
            let mut busy = BTreeSet::new();
            let round: Vec<&mut Way<'_>> = ways
                .iter_mut()
                .filter(|way| way.result.is_ok() && !way.left.is_empty() && busy.insert(way.shard))
                .collect();
            if round.is_empty() {
                break;
            }
            self.round(round).await;
        }
        ways.into_iter().map(|way| way.result).collect()
    }

    /// Sends one call for each way, all in one round trip.
    async fn round(&mut self, mut ways: Vec<&mut Way<'_>>) {
        let mut calls = Vec::with_capacity(ways.len());
        let mut sent = Vec::with_capacity(ways.len());
        for (index, way) in ways.iter_mut().enumerate() {
            let chunk = self.chunk(way.left);
            if let Err(error) = self.send_parts(way.shard, chunk).await {
                way.result = Err(error);
                continue;
            }
            calls.push(self.call(way.shard, chunk));
            sent.push((index, chunk));
        }
        let answers = self.redis.invoke_all(&APPEND, calls).await;
        for ((index, chunk), answer) in sent.into_iter().zip(answers) {
            let Some(way) = ways.get_mut(index) else { continue };
            match answer.and_then(|answer| self.confirm(way.shard, chunk, &answer)) {
                Ok(appended) => {
                    way.left = way.left.get(chunk.len()..).unwrap_or_default();
                    if let Ok(sum) = &mut way.result {
                        sum.add(appended);
                    }
                }
                Err(error) => way.result = Err(error),
            }
        }
    }

    /// What goes into one call: at least one entry.
    fn chunk<'a>(&self, entries: &'a [Numbered<EncodedEntry>]) -> &'a [Numbered<EncodedEntry>] {
        let mut bytes = 0_usize;
        let fits = entries.iter().take(self.limits.call_entries_max).take_while(|numbered| {
            bytes = bytes.saturating_add(size(&numbered.entry));
            bytes <= self.limits.call_bytes_max
        });
        let count = fits.count().max(1);
        entries.get(..count).unwrap_or(entries)
    }

    /// Sends the parts of large entries, which the script then only counts.
    async fn send_parts(&mut self, shard: u32, chunk: &[Numbered<EncodedEntry>]) -> Result<(), RedisError> {
        let lifetime = u64::try_from(self.limits.part_lifetime.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut commands: Vec<Cmd> = Vec::new();
        let mut bytes = 0_usize;
        for Numbered { seq, entry } in chunk {
            if self.parts(entry) == 0 {
                continue;
            }
            for (number, part) in entry.value.chunks(self.limits.part_bytes_max.max(1)).enumerate() {
                let key = self.keys.shard(shard).part(&self.producer, *seq, number);
                let mut command = redis::cmd("SET");
                command.arg(key).arg(part).arg("PX").arg(lifetime);
                commands.push(command);
                bytes = bytes.saturating_add(part.len());
                if bytes >= self.limits.call_bytes_max {
                    self.send_commands(&mut commands).await?;
                    bytes = 0;
                }
            }
        }
        self.send_commands(&mut commands).await
    }

    async fn send_commands(&self, commands: &mut Vec<Cmd>) -> Result<(), RedisError> {
        let results = self.redis.query_all("store a part", std::mem::take(commands)).await;
        results.into_iter().try_for_each(|result| result.map(drop))
    }

    /// Parts that an entry is cut into; 0 when it goes in one piece.
    fn parts(&self, entry: &EncodedEntry) -> usize {
        let part = self.limits.part_bytes_max.max(1);
        if entry.value.len() > part { entry.value.len().div_ceil(part) } else { 0 }
    }

    fn call(&mut self, shard: u32, chunk: &[Numbered<EncodedEntry>]) -> Call {
        let AppendLimits { stream_entries_max, stream_bytes_max, .. } = self.limits;
        let progress = self.progress(shard);
        let keys = &progress.keys;
        let mut call = APPEND.call(vec![keys.stream(), keys.book(), keys.producers()]);
        let (confirmed_seq, confirmed, parts) = (progress.confirmed_seq, progress.confirmed, keys.any_part());
        call.arg(&self.producer).arg(confirmed_seq).arg(confirmed);
        call.arg(stream_entries_max).arg(stream_bytes_max).arg(parts);
        for Numbered { seq, entry } in chunk {
            let EncodedEntry { route, encoding, value } = entry;
            let parts = self.parts(entry);
            let value = if parts == 0 { value.as_ref() } else { &[] };
            call.arg(*seq).arg(route.as_bytes()).arg(encoding.field()).arg(parts).arg(size(entry)).arg(value);
        }
        call
    }

    /// Reads an answer: all entries of the chunk are confirmed.
    fn confirm(
        &mut self,
        shard: u32,
        chunk: &[Numbered<EncodedEntry>],
        answer: &Value,
    ) -> Result<Appended, RedisError> {
        let unreadable = || RedisError::answer(self.redis.address(), APPEND.name(), answer);
        let Value::Array(items) = answer else { return Err(unreadable()) };
        let [Value::Int(accepted), Value::Int(forgotten), Value::Int(taken), Value::Int(trimmed)] =
            items.as_slice()
        else {
            return Err(unreadable());
        };
        let number = |value: &i64| u64::try_from(*value).map_err(|_negative| unreadable());
        let (accepted, forgotten) = (number(accepted)?, number(forgotten)?);
        let (taken, trimmed) = (number(taken)?, number(trimmed)?);
        let progress = self.progress(shard);
        // What an earlier process had lost, its ledger has told.
        let before = progress.forgotten.unwrap_or(forgotten);
        progress.forgotten = Some(forgotten);
        progress.confirmed = accepted.saturating_add(forgotten);
        let last = chunk.last().map_or(0, |numbered| numbered.seq);
        progress.confirmed_seq = progress.confirmed_seq.max(last);
        let duplicates = (chunk.len() as u64).saturating_sub(taken);
        let forgotten = forgotten.saturating_sub(before);
        self.forgotten = self.forgotten.saturating_add(forgotten);
        Ok(Appended { taken, duplicates, trimmed, forgotten })
    }

    fn progress(&mut self, shard: u32) -> &mut Progress {
        let keys = &self.keys;
        self.shards.entry(shard).or_insert_with(|| Progress {
            keys: keys.shard(shard),
            confirmed_seq: 0,
            confirmed: 0,
            forgotten: None,
        })
    }
}

/// What an entry takes in Redis, about.
fn size(entry: &EncodedEntry) -> usize {
    let EncodedEntry { route, encoding: _, value } = entry;
    value.len().saturating_add(route.len()).saturating_add(ENTRY_OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_written_in_one_way() {
        let id = ProducerId::new(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "ab", "+00000000000000000000000000000ab", "000000000000000000000000000000ag"] {
            assert_eq!(text.parse::<ProducerId>(), Err(ProducerIdError), "{text}");
        }
    }
}
