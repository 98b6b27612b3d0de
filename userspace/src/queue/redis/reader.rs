//! Takes entries from Redis: new ones, and those that others have left.
//!
//! Decides nothing about an exchange, and takes nothing that there is no room for. One thing at a time: while Redis is
//! slow, requests do not pile up.

mod beat;
mod scan;

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connect::Redis;
use super::deliveries::{EntryKey, HandBack, Order, Receipt, Recipient, Settlement, Why};
use super::error::RedisError;
use super::hold::{Delivery, Shared};
use super::keys::{GROUP, ShardKeys};
use super::lease::Leases;
use super::pending::Gone;
use super::raw::{Content, Place, RawEntry, Unreadable};
use super::script::Script;
use super::stats::add;
use super::trouble::Trouble;
use super::worker::{WorkerConfig, WorkerLimits};
use crate::model::{Exchange, Fate};
use crate::queue::entry::{EntryDecoder, EntryError};
use crate::queue::{Claim, Held};

/// Takes entries from Redis.
#[derive(Debug)]
pub(super) struct Reader {
    redis: Redis,
    config: WorkerConfig,
    claims: mpsc::Sender<Claim>,
    shared: Arc<Shared>,
    decoder: EntryDecoder,
    leases: Leases,
    /// Workers that are there, this one included, in order.
    there: Vec<String>,
    gone: Gone,
    /// Entries that were taken and not looked at, since there is no room for what may be in them.
    raw: VecDeque<Raw>,
    /// Entries that others have and that are done one at a time.
    suspects: VecDeque<Suspect>,
    /// One of them is under way, and so nothing else may be.
    alone: bool,
    /// The shard that is asked first; the next one the next time.
    turn: usize,
    pause: Duration,
    beat_at: Instant,
    scan_at: Instant,
    other_shards_at: Instant,
    /// Nothing is read before.
    read_at: Instant,
    /// Nothing that was taken is looked into before: the parts of the first could not be had.
    look_at: Instant,
    newest_seen: u16,
    read_trouble: Trouble,
    scan_trouble: Trouble,
    beat_trouble: Trouble,
}

/// An entry that nobody has looked at.
#[derive(Debug)]
struct Raw {
    shard: u32,
    entry: RawEntry,
    deliveries: u64,
}

/// An entry that workers may have died of.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    key: EntryKey,
    idle_min: Duration,
    deliveries: u64,
}

/// What came of looking into an entry.
enum Looked {
    Read(String, Box<Exchange>),
    Unreadable(Unreadable),
    Newer(u16),
}

/// Characters of the reason why an entry is set aside; it may repeat bytes of the entry.
const WHY_CHARS_MAX: usize = 300;

/// Entries of one step of read.lua.
const STEP: usize = 16;

static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new("read", concat!(include_str!("lua/shape.lua"), include_str!("lua/read.lua")))
});

static GROUPS: LazyLock<Script> =
    LazyLock::new(|| Script::new("make the group", include_str!("lua/group.lua")));

// === impl Reader ===

impl Reader {
    /// One that owns nothing and has taken nothing.
    pub(super) fn new(
        redis: Redis,
        config: WorkerConfig,
        claims: mpsc::Sender<Claim>,
        shared: Arc<Shared>,
    ) -> Result<Self, EntryError> {
        let now = (config.clock)();
        let WorkerLimits { lease, poll_min, entry, .. } = config.limits;
        let trouble = |what| Trouble::new(what, &config.experiment);
        Ok(Self {
            decoder: EntryDecoder::new(entry)?,
            leases: Leases::new(config.shards, lease),
            there: Vec::new(),
            gone: Gone::default(),
            raw: VecDeque::new(),
            suspects: VecDeque::new(),
            alone: false,
            turn: 0,
            pause: poll_min,
            beat_at: now,
            scan_at: now,
            other_shards_at: now,
            read_at: now,
            look_at: now,
            newest_seen: 0,
            read_trouble: trouble("read"),
            scan_trouble: trouble("take over"),
            beat_trouble: trouble("own shards"),
            redis,
            config,
            claims,
            shared,
        })
    }

    /// Makes sure that the groups are there and that Redis takes what we need.
    pub(super) async fn prepare(&mut self) -> Result<(), RedisError> {
        let shards: Vec<u32> = (0..self.config.shards).collect();
        self.make_groups(&shards).await.map(drop)
    }

    /// Runs until nothing more is wanted and everything has been told to Redis.
    pub(super) async fn run(&mut self) {
        while !self.shared.is_over() {
            let closing = self.shared.is_closing();
            if self.now() >= self.beat_at {
                self.beat(closing).await;
            }
            if closing {
                self.hand_back_raw();
                self.shared.drain();
            } else {
                if self.now() >= self.scan_at && self.raw.is_empty() {
                    self.scan().await;
                }
                self.claim_alone().await;
                self.read().await;
                self.hand_over().await;
            }
            self.wait(closing).await;
        }
    }

    fn now(&self) -> Instant {
        (self.config.clock)()
    }

    fn keys(&self, shard: u32) -> ShardKeys {
        self.config.keys.shard(shard)
    }

    /// Waits until there may be something to do.
    async fn wait(&self, closing: bool) {
        let blocked = closing || !self.raw.is_empty() || self.alone || !self.suspects.is_empty();
        let until = self.beat_at.saturating_duration_since(self.now());
        if blocked {
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = tokio::time::sleep(until.min(self.config.limits.poll_max)) => {}
            }
        } else {
            tokio::time::sleep(self.pause.min(until)).await;
        }
    }

    /// Entries and bytes that may be taken; `None` while it is not worth asking.
    fn room(&self) -> Option<(usize, usize)> {
        let WorkerLimits { entries_max, bytes_max, .. } = self.config.limits;
        let deliveries = self.shared.deliveries();
        let entries = entries_max.saturating_sub(deliveries.len());
        let bytes = bytes_max.saturating_sub(deliveries.bytes());
        // Else each settled entry would make room for a request of its own.
        let worth = entries > entries_max / 8 && bytes > bytes_max / 8;
        worth.then_some((entries, bytes))
    }

    /// Reads new entries of all shards that are owned.
    async fn read(&mut self) {
        let now = self.now();
        if !self.raw.is_empty() || self.alone || !self.suspects.is_empty() || now < self.read_at {
            return;
        }
        let Some((entries, bytes)) = self.room() else {
            self.pause = self.config.limits.poll_min;
            return;
        };
        let mut shards: Vec<u32> = self.leases.readable(now).collect();
        if shards.is_empty() {
            self.pause = self.config.limits.poll_max;
            return;
        }
        self.turn = self.turn.wrapping_add(1);
        let count = shards.len();
        shards.rotate_left(self.turn.checked_rem(count).unwrap_or(0));
        let WorkerLimits { read_entries_max, read_bytes_max, value_bytes_max, poll_min, poll_max, .. } =
            self.config.limits;
        let each = |all: usize| all.checked_div(count).unwrap_or(all).max(1);
        let entries_max = read_entries_max.min(each(entries));
        let mut bytes_max = read_bytes_max.min(bytes);
        let calls: Vec<&[u32]> = if self.config.together {
            vec![&shards]
        } else {
            bytes_max = each(bytes_max);
            shards.chunks(1).collect()
        };
        let invoked = calls.iter().map(|of_call| {
            let streams = of_call.iter().map(|shard| self.keys(*shard).stream()).collect();
            let mut call = READ.call(streams);
            call.arg(GROUP).arg(&*self.config.worker).arg(entries_max).arg(bytes_max);
            call.arg(value_bytes_max).arg(STEP);
            call
        });
        let invoked = invoked.collect();
        let answers = self.redis.invoke_all(&READ, invoked).await;
        add(&self.shared.stats.reads, calls.len());
        let (mut without, mut taken, mut full, mut failed) = (Vec::new(), 0usize, false, None);
        for (of_call, answer) in calls.iter().zip(answers) {
            match answer.and_then(|answer| self.read_answer(answer, of_call.len())) {
                Ok(streams) => {
                    for (shard, (said, entries)) in of_call.iter().zip(streams) {
                        if !said.is_empty() {
                            without.push((*shard, said));
                        }
                        full |= entries.len() >= entries_max;
                        taken = taken.saturating_add(entries.len());
                        self.raw.extend(entries.into_iter().map(|entry| Raw {
                            shard: *shard,
                            entry,
                            deliveries: 1,
                        }));
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        self.note_taken(taken);
        if let Some(error) = self.mend(without).await.or(failed) {
            let pause = self.read_trouble.meet(&self.shared.stats, &error);
            self.read_at = self.now().checked_add(pause).unwrap_or(now);
        } else {
            self.read_trouble.pass(&self.shared.stats);
        }
        self.pause = match taken {
            // Not `clamp`: nobody promises here that the least is not more than the most.
            0 => self.pause.saturating_mul(2).max(poll_min).min(poll_max),
            _ if full => Duration::ZERO,
            _ => poll_min,
        };
    }

    /// Does something about streams that gave an error; says what could not be mended.
    async fn mend(&mut self, without: Vec<(u32, String)>) -> Option<RedisError> {
        let said = without.first()?.1.clone();
        let shards: Vec<u32> = without.into_iter().map(|(shard, _)| shard).collect();
        match self.make_groups(&shards).await {
            Err(error) => Some(error),
            Ok(0) => Some(RedisError::answer(self.redis.address(), "read", said)),
            Ok(made) => {
                add(&self.shared.stats.groups_made, made);
                tracing::warn!(
                    experiment = %self.config.experiment,
                    streams = made,
                    "The group of workers was gone from Redis and is made again; what it had is read anew."
                );
                None
            }
        }
    }

    /// Makes the groups of these shards; says how many were not there.
    async fn make_groups(&self, shards: &[u32]) -> Result<usize, RedisError> {
        let calls = shards.iter().map(|shard| {
            let mut call = GROUPS.call(vec![self.keys(*shard).stream()]);
            call.arg(GROUP);
            call
        });
        let answers = self.redis.invoke_all(&GROUPS, calls.collect()).await;
        answers.into_iter().try_fold(0usize, |made, answer| {
            Ok(made.saturating_add(usize::from(matches!(answer?, Value::Int(1)))))
        })
    }

    fn read_answer(&self, answer: Value, streams: usize) -> Result<Vec<(String, Vec<RawEntry>)>, RedisError> {
        let of_stream = |list| {
            let Value::Array(list) = list else { return None };
            let mut list = list.into_iter();
            let Some(Value::BulkString(said)) = list.next() else { return None };
            let entries = list.map(RawEntry::parse).collect::<Option<_>>()?;
            Some((String::from_utf8_lossy(&said).into_owned(), entries))
        };
        let parsed = if let Value::Array(lists) = answer
            && lists.len() == streams
        {
            lists.into_iter().map(of_stream).collect::<Option<_>>()
        } else {
            None
        };
        parsed.ok_or_else(|| RedisError::answer(self.redis.address(), "read", "of another form"))
    }

    fn note_taken(&self, entries: usize) {
        let from = self.raw.len().saturating_sub(entries);
        let bytes = self.raw.iter().skip(from).fold(0usize, |sum, raw| sum.saturating_add(raw.entry.bytes()));
        add(&self.shared.stats.entries, entries);
        add(&self.shared.stats.entry_bytes, bytes);
    }

    /// Hands entries to the replay while there is room for what is in them.
    async fn hand_over(&mut self) {
        if self.now() < self.look_at {
            return;
        }
        while let Some(raw) = self.raw.pop_front() {
            let now = self.now();
            if now >= self.beat_at {
                // Parts may come slowly, and a lease does not wait for them.
                self.raw.push_front(raw);
                break;
            }
            let key = EntryKey { shard: raw.shard, id: raw.entry.id };
            let (knows, full) = {
                let deliveries = self.shared.deliveries();
                (deliveries.knows(key), deliveries.bytes() >= self.config.limits.bytes_max)
            };
            if knows {
                // It is under way, or its settlement is; a group that was made again gives everything again.
                add(&self.shared.stats.duplicates, 1);
                self.config.ledger.admit().settle(Fate::Duplicate);
                continue;
            }
            if full {
                self.raw.push_front(raw);
                break;
            }
            let Raw { shard, entry, deliveries } = raw;
            let receipt = entry.receipt(deliveries);
            // Redis may be away when the parts are asked for; then it begins anew.
            let kept = (receipt.parts > 0).then(|| entry.clone());
            match self.look(entry, shard, &receipt).await {
                Ok(looked) => self.hand_on(key, receipt, looked),
                Err(error) => {
                    self.raw.extend(kept.map(|entry| Raw { shard, entry, deliveries }));
                    self.raw.rotate_right(1.min(self.raw.len()));
                    let pause = self.read_trouble.meet(&self.shared.stats, &error);
                    self.look_at = now.checked_add(pause).unwrap_or(now);
                    break;
                }
            }
        }
    }

    fn hand_on(&mut self, key: EntryKey, receipt: Receipt, looked: Looked) {
        let ticket = self.config.ledger.admit();
        let settle =
            |fate, receipt, why| Order::Settle(Settlement { key, receipt, fate, finding: None, why });
        match looked {
            Looked::Read(route, exchange) => {
                let bytes = exchange.memory_bytes();
                let is_new = self.shared.deliveries().take(key, exchange.id, receipt.clone(), bytes);
                if is_new {
                    let held = Held::Redis(Delivery::new(key, &self.shared));
                    let claim = Claim { exchange: Arc::new(*exchange), route: route.into(), ticket, held };
                    // There is a place for every entry that may be taken; an error means that nobody wants any more.
                    if let Err(error) = self.claims.try_send(claim) {
                        error.into_inner().settle(Fate::Drained);
                    }
                    return;
                }
                add(&self.shared.stats.duplicates, 1);
                self.order(settle(Fate::Duplicate, receipt, None));
                ticket.settle(Fate::Duplicate);
            }
            Looked::Unreadable(why) => {
                add(&self.shared.stats.unreadable, 1);
                let text = why.to_string().chars().take(WHY_CHARS_MAX).collect();
                let with_fields = !matches!(why, Unreadable::TooLong { bytes: _, limit: _ });
                let why = Why { text, with_fields };
                self.order(settle(Fate::Unreadable, receipt, Some(why)));
                ticket.settle(Fate::Unreadable);
            }
            Looked::Newer(major) => {
                add(&self.shared.stats.newer, 1);
                if major > self.newest_seen {
                    self.newest_seen = major;
                    tracing::warn!(
                        experiment = %self.config.experiment,
                        version = major,
                        reads = self.config.reads_major,
                        "Entries of a newer major version come; they are left for workers that read it. Update this one."
                    );
                }
                let deliveries = Some(receipt.deliveries_before());
                self.order(Order::HandBack(HandBack { key, to: Recipient::Newer(major), deliveries }));
                ticket.settle(Fate::Returned);
            }
        }
    }

    fn order(&self, order: Order) {
        let mut deliveries = self.shared.deliveries();
        deliveries.order(order);
        self.shared.publish(&deliveries);
        drop(deliveries);
        self.shared.due.notify_one();
    }

    /// What is in an entry.
    async fn look(&mut self, entry: RawEntry, shard: u32, receipt: &Receipt) -> Result<Looked, RedisError> {
        let WorkerLimits { value_bytes_max, parts_max, .. } = self.config.limits;
        let content = match entry.into_content(value_bytes_max, parts_max) {
            Ok(content) => content,
            Err(why) => return Ok(Looked::Unreadable(why)),
        };
        let Content { route, encoding, value } = content;
        let value = match value {
            Place::Here(value) => value,
            Place::Parts => match self.fetch(shard, receipt).await? {
                Ok(value) => value,
                Err(why) => return Ok(Looked::Unreadable(why)),
            },
        };
        Ok(match self.decoder.decode(encoding, &value) {
            Ok(exchange) => Looked::Read(route, Box::new(exchange)),
            Err(error) => match error.newer_major() {
                Some(version) if version.major > self.config.reads_major => Looked::Newer(version.major),
                Some(_) | None => Looked::Unreadable(Unreadable::Exchange(error.to_string())),
            },
        })
    }

    /// The value of an entry that came in parts.
    async fn fetch(&self, shard: u32, receipt: &Receipt) -> Result<Result<Vec<u8>, Unreadable>, RedisError> {
        let limit = self.config.limits.entry.wire.exchange_bytes_max;
        let prefix = self.keys(shard).any_part();
        let Receipt { parts, part_of, .. } = receipt;
        let mut value = Vec::new();
        for part in 0..*parts {
            // One byte more than there is room for shows that it is too long.
            let room = limit.saturating_sub(value.len());
            let mut command = redis::cmd("GETRANGE");
            command.arg(format!("{prefix}{part_of}:{part}")).arg(0).arg(room);
            let bytes: Vec<u8> = self.redis.query("read a part", &command).await?;
            if bytes.is_empty() || bytes.len() > room {
                return Ok(Err(Unreadable::PartGone { part, parts: *parts }));
            }
            value.extend(bytes);
        }
        Ok(Ok(value))
    }

    /// Gives back what was taken and not looked at.
    fn hand_back_raw(&mut self) {
        for Raw { shard, entry, deliveries } in std::mem::take(&mut self.raw) {
            let key = EntryKey { shard, id: entry.id };
            if !self.shared.deliveries().knows(key) {
                let deliveries = Some(deliveries.saturating_sub(1));
                self.order(Order::HandBack(HandBack { key, to: Recipient::Anybody, deliveries }));
            }
        }
        self.suspects.clear();
    }

    /// True when nothing is here that a death of this worker would leave behind.
    fn is_quiet(&self) -> bool {
        self.raw.is_empty() && self.shared.deliveries().len() == 0
    }
}
