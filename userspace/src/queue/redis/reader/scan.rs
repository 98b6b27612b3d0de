//! Takes over what others have taken and not settled.
//!
//! Decides nothing about who may lose what: `pending` does.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Value};

use super::beat::millis;
use super::{Raw, Reader, Suspect};
use crate::model::Fate;
use crate::queue::redis::deliveries::{EntryKey, Order, Receipt, Settlement, StreamId, Why};
use crate::queue::redis::error::{RedisError, RedisErrorKind};
use crate::queue::redis::keys::GROUP;
use crate::queue::redis::pending::{Consumer, Course, Pending, consumers, course, newer_of, pending};
use crate::queue::redis::raw::RawEntry;
use crate::queue::redis::script::Script;
use crate::queue::redis::settle::{NEWER, RETURNED};
use crate::queue::redis::stats::add;
use crate::queue::redis::worker::WorkerLimits;

/// How often it is looked for, when nothing else makes it urgent.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// How soon when there was no room.
const SCAN_AGAIN: Duration = Duration::from_millis(20);

/// How often shards of others are looked through for what only this worker can read.
const OTHER_SHARDS_EVERY: Duration = Duration::from_secs(10);

/// Rows of one answer.
const ROWS_MAX: usize = 128;

/// Answers about one consumer in one scan. What is under way for long stands in front of what may be taken.
const PAGES_MAX: usize = 128;

/// Entries that wait to be done alone.
const SUSPECTS_MAX: usize = 256;

static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new("take over", concat!(include_str!("../lua/shape.lua"), include_str!("../lua/claim.lua")))
});

static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("forget consumers", include_str!("../lua/forget.lua")));

// === impl Reader ===

impl Reader {
    /// Takes over what others have left in owned shards, as far as there is room.
    pub(super) async fn scan(&mut self) {
        let now = self.now();
        self.scan_at = now.checked_add(SCAN_EVERY).unwrap_or(now);
        match self.try_scan().await {
            Ok(()) => self.scan_trouble.pass(&self.shared.stats),
            Err(error) => {
                let pause = self.scan_trouble.meet(&self.shared.stats, &error);
                self.scan_at = now.checked_add(pause).unwrap_or(now);
            }
        }
    }

    async fn try_scan(&mut self) -> Result<(), RedisError> {
        let shards: Vec<u32> = self.leases.staying(self.now()).collect();
        let commands = shards.iter().map(|shard| {
            let mut command = redis::cmd("XINFO");
            command.arg("CONSUMERS").arg(self.keys(*shard).stream()).arg(GROUP);
            command
        });
        let answers = self.redis.query_all("list consumers", commands.collect()).await;
        let (mut known, mut without, mut failed) = (Vec::new(), Vec::new(), None);
        for (shard, answer) in shards.into_iter().zip(answers) {
            match answer.map(consumers) {
                Ok(Some(list)) => {
                    match self.scan_shard(shard, &list).await {
                        Ok(true) => self.leases.look_through(shard),
                        // Soon, but not while nothing has changed.
                        Ok(false) => {
                            let pause = if self.raw.is_empty() { SCAN_AGAIN } else { Duration::ZERO };
                            self.scan_at = self.now().checked_add(pause).unwrap_or(self.scan_at);
                        }
                        Err(error) => failed = Some(error),
                    }
                    known.extend(list.into_iter().map(|consumer| consumer.name));
                }
                Ok(None) => {
                    failed =
                        Some(RedisError::answer(self.redis.address(), "list consumers", "of another form"));
                }
                // Without a stream or a group nothing was left there; else it is asked again in a second.
                Err(error) if !error.may_pass() || error.kind() == RedisErrorKind::NoGroup => {
                    without.push((shard, error.to_string()));
                }
                Err(error) => failed = Some(error),
            }
        }
        let mended: Vec<u32> = without.iter().map(|(shard, _)| *shard).collect();
        failed = self.mend(without).await.or(failed);
        if failed.is_none() {
            mended.into_iter().for_each(|shard| self.leases.look_through(shard));
        }
        self.gone.retain(|consumer| known.iter().any(|name| name == consumer));
        self.scan_others().await?;
        failed.map_or(Ok(()), Err)
    }

    /// Takes over what may be taken in one shard; true when nothing is left of it.
    async fn scan_shard(&mut self, shard: u32, list: &[Consumer]) -> Result<bool, RedisError> {
        let WorkerLimits { claim_after, .. } = self.config.limits;
        let now = self.now();
        let mut done = true;
        let mut forgotten = Vec::new();
        for Consumer { name, pending } in list {
            let is_us = *name == *self.config.worker;
            let idle_min = if is_us {
                // An answer may have been lost on its way here: then there is more than we know of. Nobody else has it, and
                // no answer is still to come, so it need not wait.
                let taken = self.shared.deliveries().taken_of(shard);
                (*pending > taken).then_some(Duration::ZERO)
            } else {
                let major = self.config.reads_major;
                self.gone.idle_min(name, &self.there, major, claim_after, now)
            };
            match idle_min {
                Some(idle_min) if *pending > 0 => done &= self.take_over(shard, name, idle_min).await?,
                Some(_) | None => {
                    let is_special = is_us || name == RETURNED || newer_of(name).is_some();
                    if *pending == 0 && !is_special && self.gone.is_long_gone(name, claim_after, now) {
                        forgotten.push(name);
                    }
                }
            }
        }
        if !forgotten.is_empty() {
            let mut call = FORGET.call(vec![self.keys(shard).stream()]);
            call.arg(GROUP).arg(forgotten.as_slice());
            self.redis.invoke(&FORGET, call).await?;
        }
        Ok(done)
    }

    /// Takes over what one consumer has; true when nothing is left of it that may be taken now.
    async fn take_over(
        &mut self,
        shard: u32,
        consumer: &str,
        idle_min: Duration,
    ) -> Result<bool, RedisError> {
        let mut start = "-".to_owned();
        for _ in 0..PAGES_MAX {
            let answer: Value = self
                .redis
                .query("list what is pending", &self.rows(shard, consumer, idle_min, &start))
                .await?;
            let rows = pending(answer).ok_or_else(|| {
                RedisError::answer(self.redis.address(), "list what is pending", "of another form")
            })?;
            let Some(last) = rows.last() else { return Ok(true) };
            start = format!("({}", last.id);
            let is_last = rows.len() < ROWS_MAX;
            if !self.take_rows(shard, &rows, idle_min).await? {
                return Ok(false);
            }
            if is_last {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rows(&self, shard: u32, consumer: &str, idle_min: Duration, start: &str) -> Cmd {
        let mut command = redis::cmd("XPENDING");
        command.arg(self.keys(shard).stream()).arg(GROUP).arg("IDLE").arg(millis(idle_min));
        command.arg(start).arg("+").arg(ROWS_MAX).arg(consumer);
        command
    }

    /// False when there is no room for all of them.
    async fn take_rows(
        &mut self,
        shard: u32,
        rows: &[Pending],
        idle_min: Duration,
    ) -> Result<bool, RedisError> {
        let WorkerLimits { alone_after, deliveries_max, .. } = self.config.limits;
        let mut along: Vec<Pending> = Vec::new();
        let mut all = true;
        for row in rows {
            let key = EntryKey { shard, id: row.id };
            let is_here = self.raw.iter().any(|raw| raw.shard == shard && raw.entry.id == row.id)
                || self.suspects.iter().any(|suspect| suspect.key == key);
            if is_here || self.shared.deliveries().knows(key) {
                continue;
            }
            match course(row.deliveries, alone_after, deliveries_max) {
                Course::Along => along.push(*row),
                Course::Alone if self.suspects.len() < SUSPECTS_MAX => {
                    let deliveries = row.deliveries.saturating_add(1);
                    self.suspects.push_back(Suspect { key, idle_min, deliveries });
                }
                Course::Alone => all = false,
                Course::Aside => self.set_aside(key, row.deliveries),
            }
        }
        if along.is_empty() {
            return Ok(all);
        }
        // While one is done alone, or waits for it, nothing else is taken; and what came before is looked at first.
        if self.alone || !self.suspects.is_empty() || !self.raw.is_empty() {
            return Ok(false);
        }
        let Some((entries, bytes)) = self.room() else { return Ok(false) };
        let wanted = along.len();
        along.truncate(entries);
        let taken = self.claim(shard, &along, idle_min, bytes).await?;
        // What came has to be looked at before more is taken; its memory is known only then.
        Ok(all && taken == wanted && self.raw.is_empty())
    }

    fn set_aside(&self, key: EntryKey, deliveries: u64) {
        add(&self.shared.stats.set_aside, 1);
        self.config.ledger.admit().settle(Fate::SetAside);
        let text = format!("{deliveries} workers had it and none settled it");
        let why = Why { text, with_fields: true };
        tracing::error!(
            experiment = %self.config.experiment,
            shard = key.shard,
            entry = %key.id,
            deliveries,
            "An entry is set aside: workers that took it did not come to settle it."
        );
        // Nobody has read the entry: settle.lua does.
        let receipt = Receipt { deliveries, ..Receipt::default() };
        self.order(Order::Settle(Settlement {
            key,
            receipt,
            fate: Fate::SetAside,
            finding: None,
            why: Some(why),
        }));
    }

    /// Claims entries; says how many of them were looked at.
    async fn claim(
        &mut self,
        shard: u32,
        rows: &[Pending],
        idle_min: Duration,
        bytes: usize,
    ) -> Result<usize, RedisError> {
        let WorkerLimits { read_bytes_max, value_bytes_max, .. } = self.config.limits;
        let mut call = CLAIM.call(vec![self.keys(shard).stream()]);
        call.arg(GROUP).arg(&*self.config.worker).arg(millis(idle_min));
        call.arg(bytes.min(read_bytes_max)).arg(value_bytes_max);
        for row in rows {
            call.arg(row.id.to_string());
        }
        let answer = self.redis.invoke(&CLAIM, call).await?;
        let other = || RedisError::answer(self.redis.address(), "take over", "of another form");
        let Value::Array(values) = answer else { return Err(other()) };
        let mut values = values.into_iter();
        let Some(Value::Int(looked)) = values.next() else { return Err(other()) };
        let entries: Vec<RawEntry> = values.map(RawEntry::parse).collect::<Option<_>>().ok_or_else(other)?;
        let taken = entries.len();
        let deliveries = |id: StreamId| {
            rows.iter().find(|row| row.id == id).map_or(1, |row| row.deliveries.saturating_add(1))
        };
        let raw = entries.into_iter().map(|entry| Raw { shard, deliveries: deliveries(entry.id), entry });
        self.raw.extend(raw);
        add(&self.shared.stats.taken_over, taken);
        self.note_taken(taken);
        usize::try_from(looked).ok().ok_or_else(other)
    }

    /// Begins with the next entry that is done alone, once nothing else is under way.
    pub(super) async fn claim_alone(&mut self) {
        if !self.is_quiet() {
            return;
        }
        self.alone = false;
        let now = self.now();
        let Some(Suspect { key, idle_min, deliveries }) = self.suspects.pop_front() else { return };
        // A shard that was lost meanwhile is somebody else's to look after.
        if !self.leases.owns(key.shard) || now < self.read_at {
            return;
        }
        let row = Pending { id: key.id, deliveries: deliveries.saturating_sub(1) };
        let bytes = self.config.limits.read_bytes_max;
        match self.claim(key.shard, &[row], idle_min, bytes).await {
            Ok(_) if self.raw.is_empty() => {}
            Ok(_) => {
                self.alone = true;
                add(&self.shared.stats.alone, 1);
            }
            // It is found again by the next scan.
            Err(error) => {
                let pause = self.scan_trouble.meet(&self.shared.stats, &error);
                self.read_at = now.checked_add(pause).unwrap_or(now);
            }
        }
    }

    /// Takes what only a worker of this version can read, also where the shard is another's.
    async fn scan_others(&mut self) -> Result<(), RedisError> {
        let now = self.now();
        // Nothing was ever left for those that read version 1.
        if self.config.reads_major < 2 || now < self.other_shards_at {
            return Ok(());
        }
        self.other_shards_at = now.checked_add(OTHER_SHARDS_EVERY).unwrap_or(now);
        let claim_after = self.config.limits.claim_after;
        for shard in (0..self.config.shards).filter(|shard| !self.leases.owns(*shard)).collect::<Vec<_>>() {
            for major in 2..=self.config.reads_major {
                self.take_over(shard, &format!("{NEWER}{major}"), claim_after).await?;
            }
        }
        Ok(())
    }
}
