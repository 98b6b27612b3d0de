//! Says that this worker is there, and takes, keeps and gives up shards.
//!
//! Decides nothing: `lease` says what to ask for.

use std::sync::LazyLock;

use redis::{FromRedisValue as _, Value};
use tokio::time::Instant;

use super::Reader;
use crate::queue::redis::error::RedisError;
use crate::queue::redis::lease::{Holder, Want, share};
use crate::queue::redis::script::Script;
use crate::queue::redis::stats::set;
use crate::queue::redis::worker::WorkerLimits;

/// How long a worker is remembered that says nothing, so that a report finds what it did: a week, in milliseconds.
const REMEMBERED_MS: u64 = 7 * 24 * 3600 * 1000;

/// Workers that are remembered; the one that was silent longest is forgotten first.
const REMEMBERED_MAX: u64 = 10_000;

/// Rounds of one beat. A second one takes what the first did not know to be free.
const ROUNDS_MAX: usize = 3;

static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new("say that we are there", include_str!("../lua/beat.lua")));

static LEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new("own shards", include_str!("../lua/lease.lua")));

// === impl Reader ===

impl Reader {
    /// Says that this worker is there, and comes nearer to its share of the shards. One that closes gives up each shard
    /// when it is done with it.
    pub(super) async fn beat(&mut self, closing: bool) {
        let now = self.now();
        let WorkerLimits { lease, poll_min, .. } = self.config.limits;
        let period = lease.checked_div(3).unwrap_or_default().max(poll_min);
        self.beat_at = now.checked_add(period).unwrap_or(now);
        match self.try_beat(closing).await {
            Ok(()) => self.beat_trouble.pass(&self.shared.stats),
            Err(error) => {
                let pause = self.beat_trouble.meet(&self.shared.stats, &error);
                self.beat_at = now.checked_add(pause.min(period)).unwrap_or(now);
            }
        }
        set(&self.shared.stats.shards, self.leases.len());
        set(&self.shared.stats.workers, self.there.len());
    }

    async fn try_beat(&mut self, closing: bool) -> Result<(), RedisError> {
        self.there = self.say(closing).await?;
        let worker = &*self.config.worker;
        let target = if closing { 0 } else { share(self.config.shards, &self.there, worker) };
        // Where the shards of those before this one end, if all had as many.
        let place = self.there.iter().position(|other| other == worker).unwrap_or(0);
        let first = u32::try_from(place).unwrap_or(0).saturating_mul(target);
        for _ in 0..ROUNDS_MAX {
            let now = self.now();
            let owned = self.leases.len();
            let busy: Vec<u32> = self.raw.iter().map(|raw| raw.shard).collect();
            let wants = {
                let deliveries = self.shared.deliveries();
                let is_busy = |shard| deliveries.under_way_of(shard) > 0 || busy.contains(&shard);
                self.leases.plan(target, first, is_busy)
            };
            let again = self.ask(now, wants).await?;
            if self.leases.len() > owned {
                // What others have left there comes before anything new.
                self.scan_at = now;
            }
            if !again {
                break;
            }
        }
        Ok(())
    }

    /// Gives up everything at once, and is not there any more.
    pub(in crate::queue::redis) async fn leave(&mut self) {
        let now = self.now();
        let wants = self.leases.give_up();
        let told = self.ask(now, wants).await.map(drop);
        // Leases run out by themselves, and so does this worker's being there.
        if let Err(error) = told.and(self.say(true).await.map(drop)) {
            tracing::debug!(%error, "Redis does not know that this worker has left.");
        }
    }

    /// Says that this worker is there, or leaves; gives those that are there.
    async fn say(&self, leaving: bool) -> Result<Vec<String>, RedisError> {
        let mut call = BEAT.call(vec![self.config.keys.workers()]);
        call.arg(&*self.config.worker).arg(millis(self.config.limits.lease));
        call.arg(REMEMBERED_MS).arg(REMEMBERED_MAX).arg(u8::from(leaving));
        let answer = self.redis.invoke(&BEAT, call).await?;
        Vec::from_redis_value(answer).map_err(|error| {
            RedisError::answer(self.redis.address(), "say that we are there", error.to_string())
        })
    }

    /// Asks for shards; true when another round would get more.
    async fn ask(&mut self, now: Instant, wants: Vec<(u32, Want)>) -> Result<bool, RedisError> {
        let groups: Vec<&[(u32, Want)]> =
            if self.config.together { vec![&wants] } else { wants.chunks(1).collect() };
        let calls = groups.iter().filter(|group| !group.is_empty()).map(|group| {
            let mut call = LEASE.call(group.iter().map(|(shard, _)| self.keys(*shard).owner()).collect());
            call.arg(&*self.config.worker).arg(millis(self.config.limits.lease));
            for (_, want) in *group {
                call.arg(want.word());
            }
            call
        });
        let answers = self.redis.invoke_all(&LEASE, calls.collect()).await;
        let (mut noted, mut failed) = (Vec::with_capacity(wants.len()), None);
        for (group, answer) in groups.iter().zip(answers) {
            match answer {
                Ok(Value::Array(holders)) => {
                    for ((shard, want), holder) in group.iter().zip(holders) {
                        let holder = if holder == Value::Int(1) {
                            Holder::Us
                        } else if holder == Value::Int(0) {
                            Holder::Nobody
                        } else {
                            Holder::Another
                        };
                        noted.push((*shard, *want, holder));
                    }
                }
                Ok(answer) => {
                    failed = Some(RedisError::answer(self.redis.address(), "own shards", answer));
                }
                // Other nodes of the cluster have answered all the same.
                Err(error) => failed = Some(error),
            }
        }
        let again = self.leases.note(now, &noted);
        failed.map_or(Ok(again), Err)
    }
}

/// As scripts take a time.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
