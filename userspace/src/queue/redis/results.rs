//! What the hosts of an experiment tell each other: each process writes down what it knows, and a report reads it all.
//!
//! Understands no field of it, and counts nothing: outcomes are counted where entries are settled.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, Value};

use super::connect::Redis;
use super::error::RedisError;
use super::keys::{GROUP, Keys, ShardKeys, experiments};
use super::script::{Call, Script};
use crate::model::{AsideEntry, FleetCopy, MemberCopy, ShardCopy, Timestamp};

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It replays. When it was heard of is also written by its queue, for leases.
    Worker,
    /// It captures.
    Capture,
}

/// Bounds of what is written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultsLimits {
    /// How long the words of a process are kept after its last. Default: 7 days.
    pub keep: Duration,
    /// How long an experiment is listed after it was last heard of. Default: 30 days.
    pub list: Duration,
    /// Paths with a place in the order of the fleet. Default: 100,000.
    pub ranks_max: u32,
    /// Processes of each kind that are read, those that were heard of last. Default: 1,000.
    pub members_max: u32,
}

/// The results of one experiment in Redis.
#[derive(Clone)]
pub struct Results {
    redis: Redis,
    keys: Keys,
    prefix: String,
    experiment: String,
    limits: ResultsLimits,
}

static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::new("publish results", include_str!("lua/publish.lua")));
static ENROL: LazyLock<Script> =
    LazyLock::new(|| Script::new("list an experiment", include_str!("lua/enrol.lua")));
static RANK: LazyLock<Script> = LazyLock::new(|| Script::new("rank paths", include_str!("lua/rank.lua")));
static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new("read results", include_str!("lua/results.lua")));

// === impl ResultsLimits ===

impl Default for ResultsLimits {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days.saturating_mul(24 * 60 * 60));
        Self { keep: days(7), list: days(30), ranks_max: 100_000, members_max: 1_000 }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The names of all experiments under a prefix, in order.
///
/// # Errors
/// [`RedisError`], when Redis does not answer.
pub async fn listed(redis: &Redis, prefix: &str) -> Result<Vec<String>, RedisError> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(experiments(prefix)).arg(0).arg(-1);
    let mut names: Vec<String> = redis.query("list experiments", &command).await?;
    names.sort();
    Ok(names)
}

// === impl Results ===

impl Results {
    /// Those of `experiment` under `prefix`.
    pub fn new(redis: Redis, prefix: &str, experiment: &str, limits: ResultsLimits) -> Self {
        let keys = Keys::new(prefix, experiment);
        Self { redis, keys, prefix: prefix.to_owned(), experiment: experiment.to_owned(), limits }
    }

    /// The experiment.
    pub fn experiment(&self) -> &str {
        &self.experiment
    }

    /// Lists the experiment, for reports that name none. Done now and then, since the list forgets.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn enrol(&self) -> Result<(), RedisError> {
        let mut call = ENROL.call(vec![experiments(&self.prefix)]);
        call.arg(&self.experiment).arg(milliseconds(self.limits.list));
        self.redis.invoke(&ENROL, call).await.map(drop)
    }

    /// Writes what a process knows, in place of what it wrote into these fields before.
    ///
    /// # Errors
    /// [`RedisError`]. Writing it again does no harm.
    pub async fn publish(
        &self,
        role: Role,
        id: &str,
        fields: &[(&'static str, Vec<u8>)],
    ) -> Result<(), RedisError> {
        let (hash, set, owns_times) = match role {
            Role::Worker => (self.keys.worker(id), self.keys.workers(), 0),
            Role::Capture => (self.keys.capture(id), self.keys.captures(), 1),
        };
        let mut call = PUBLISH.call(vec![hash, set]);
        call.arg(id).arg(milliseconds(self.limits.keep)).arg(owns_times);
        for (field, value) in fields {
            call.arg(*field).arg(value.as_slice());
        }
        self.redis.invoke(&PUBLISH, call).await.map(drop)
    }

    /// Gives those of these paths that have none the next places in the order in which the fleet came to know paths.
    /// Answers with the number of places given: fewer than were known before says that Redis has lost them.
    ///
    /// # Errors
    /// [`RedisError`]. Asking again does no harm.
    pub async fn rank(&self, paths: &[String]) -> Result<u64, RedisError> {
        let mut call = RANK.call(vec![self.keys.ranks()]);
        call.arg(milliseconds(self.limits.keep)).arg(self.limits.ranks_max);
        for path in paths {
            call.arg(path);
        }
        self.parsed("rank paths", self.redis.invoke(&RANK, call).await?)
    }

    /// All that is known of the experiment; none where there is no such experiment.
    ///
    /// Reads captures before shards: what Redis takes meanwhile is then more than captures say, never less.
    ///
    /// # Errors
    /// [`RedisError`], when Redis does not answer or a key holds what is not ours.
    pub async fn read(&self) -> Result<Option<FleetCopy>, RedisError> {
        let settings: BTreeMap<String, String> =
            self.redis.query("read settings", redis::cmd("HGETALL").arg(self.keys.settings())).await?;
        let captures = self.members(&self.keys.captures(), |id| self.keys.capture(id)).await?;
        let workers = self.members(&self.keys.workers(), |id| self.keys.worker(id)).await?;
        let ranks: BTreeMap<String, usize> =
            self.redis.query("read the order of paths", redis::cmd("HGETALL").arg(self.keys.ranks())).await?;
        if settings.is_empty() && captures.is_empty() && workers.is_empty() {
            return Ok(None);
        }
        let shards = settings.get("shards").and_then(|shards| shards.parse().ok()).unwrap_or(0_u16);
        let calls = (0..shards).map(|shard| read_call(&self.keys.shard(shard.into()))).collect();
        let values = self.redis.invoke_all(&READ, calls).await;
        let shards = values.into_iter().map(|value| self.shard(value?)).collect::<Result<_, _>>()?;
        let (seconds, micros): (u64, u64) = self.redis.query("read the time", &redis::cmd("TIME")).await?;
        let read_at = Timestamp::default()
            .after(Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros)));
        Ok(Some(FleetCopy {
            experiment: self.experiment.clone(),
            read_at,
            settings,
            shards,
            workers,
            captures,
            ranks,
        }))
    }

    /// The address of the candidate, as a worker has told it.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn candidate(&self) -> Result<Option<String>, RedisError> {
        let mut get = redis::cmd("HGET");
        self.redis.query("read settings", get.arg(self.keys.settings()).arg("candidate")).await
    }

    /// The newest entries of each shard that stand aside, at most this many of each.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn aside(&self, per_shard_max: u32) -> Result<Vec<AsideEntry>, RedisError> {
        let shards: Option<u16> = self
            .redis
            .query("read settings", redis::cmd("HGET").arg(self.keys.settings()).arg("shards"))
            .await?;
        let shards = shards.unwrap_or(0);
        let command = |shard: u16| {
            let mut command = redis::cmd("XREVRANGE");
            let key = self.keys.shard(shard.into()).aside();
            command.arg(key).arg("+").arg("-").arg("COUNT").arg(per_shard_max);
            command
        };
        let values = self.redis.query_all("read what stands aside", (0..shards).map(command).collect()).await;
        let mut entries = Vec::new();
        for (shard, value) in (0..shards).zip(values) {
            let rows: Vec<(String, BTreeMap<String, Vec<u8>>)> =
                self.parsed("read what stands aside", value?)?;
            entries.extend(rows.into_iter().map(|(id, fields)| {
                let at = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default();
                AsideEntry { shard, at: Timestamp::default().after(Duration::from_millis(at)), fields }
            }));
        }
        Ok(entries)
    }

    /// The processes in a set, with what they have published.
    async fn members(&self, set: &str, hash: impl Fn(&str) -> String) -> Result<Vec<MemberCopy>, RedisError> {
        let last = self.limits.members_max.saturating_sub(1);
        let ids: Vec<String> =
            self.redis.query("list processes", redis::cmd("ZREVRANGE").arg(set).arg(0).arg(last)).await?;
        let command = |id: &String| {
            let mut command = redis::cmd("HGETALL");
            command.arg(hash(id));
            command
        };
        let values = self.redis.query_all("read processes", ids.iter().map(command).collect()).await;
        let mut members = Vec::new();
        for (id, value) in ids.into_iter().zip(values) {
            let fields: BTreeMap<String, Vec<u8>> = self.parsed("read processes", value?)?;
            // Its words are forgotten before its name.
            if fields.is_empty() {
                continue;
            }
            let heard_ms = fields.get("heard_ms").and_then(|ms| std::str::from_utf8(ms).ok()?.parse().ok());
            let heard_of = heard_ms.map(|ms| Timestamp::default().after(Duration::from_millis(ms)));
            members.push(MemberCopy { id, heard_of, fields });
        }
        Ok(members)
    }

    fn shard(&self, value: Value) -> Result<ShardCopy, RedisError> {
        type Row = (
            u64,
            u64,
            u64,
            BTreeMap<String, i64>,
            BTreeMap<String, u64>,
            BTreeMap<String, String>,
            BTreeMap<String, Vec<u8>>,
        );
        let (waiting, delivered, aside, book, outcomes, causes, examples): Row =
            self.parsed("read results", value)?;
        // A counter of bytes can be below zero for a moment, where a size was estimated.
        let book = book.into_iter().map(|(name, count)| (name, u64::try_from(count).unwrap_or(0))).collect();
        Ok(ShardCopy { waiting, delivered, aside, book, outcomes, causes, examples })
    }

    fn parsed<T: FromRedisValue>(&self, operation: &'static str, value: Value) -> Result<T, RedisError> {
        redis::from_redis_value(value)
            .map_err(|error| RedisError::answer(self.redis.address(), operation, error.to_string()))
    }
}

impl std::fmt::Debug for Results {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Results").field("experiment", &self.experiment).finish_non_exhaustive()
    }
}

fn read_call(keys: &ShardKeys) -> Call {
    let keys =
        vec![keys.stream(), keys.book(), keys.outcomes(), keys.causes(), keys.examples(), keys.aside()];
    let mut call = READ.call(keys);
    call.arg(GROUP);
    call
}
