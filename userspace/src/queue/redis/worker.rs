//! The replay side of the queue between hosts: what a worker gets, and what has to run for it.
//!
//! Spawns nothing: whoever sets a worker up runs [`RedisWorker::run`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connect::Redis;
use super::error::RedisError;
use super::hold::{Kept, Shared};
use super::keys::Keys;
use super::reader::Reader;
use super::settle::{SettleLimits, Settler};
use super::stats::QueueStats;
use crate::model::Ledger;
use crate::queue::entry::{EntryError, EntryLimits};
use crate::queue::{Claim, Queue};

/// Bounds of the replay side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Entries that are taken and not confirmed as settled. At it nothing is read. Default: 8,192, twice what a replay
    /// lets wait.
    pub entries_max: usize,
    /// Bytes of memory of exchanges that the replay has; one exchange more may be decoded. Default: 32 MiB.
    pub bytes_max: usize,
    /// New entries of one shard in one answer. Default: 128.
    pub read_entries_max: usize,
    /// Bytes of one answer, which the last entry in it may pass. Default: 2 MiB.
    pub read_bytes_max: usize,
    /// Bytes of one value in a stream; of a longer one only the length is read. Default: 1 MiB, four times what
    /// producers put there: larger exchanges come in parts.
    pub value_bytes_max: usize,
    /// Parts of one exchange. Default: 1,024.
    pub parts_max: usize,
    /// Pause between two reads when entries come. Default: 2 ms.
    pub poll_min: Duration,
    /// Pause between two reads when none come; not less than `poll_min`. Default: 50 ms.
    pub poll_max: Duration,
    /// How long a shard stays with a worker that says nothing. Renewed three times as often, but not more often
    /// than reads may come. Default: 5 s.
    pub lease: Duration,
    /// How long an entry is left to a worker that does not settle it, though its shard has another owner; and how long
    /// a worker must be gone before all it had is taken. Default: 15 s.
    pub claim_after: Duration,
    /// Deliveries after which an entry is done with nothing else under way: two workers had it and did not settle it.
    /// Default: 2.
    pub alone_after: u64,
    /// Deliveries after which an entry is set aside. Default: 4.
    pub deliveries_max: u64,
    /// How long the last settlements may take when the worker ends. What is not confirmed then is done again by others.
    /// Default: 2 s.
    pub flush_max: Duration,
    /// What is kept of what was settled.
    pub settle: SettleLimits,
    /// Bounds of one exchange.
    pub entry: EntryLimits,
}

/// One experiment on one worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The experiment's name, for the log.
    pub experiment: Arc<str>,
    /// The names of its keys.
    pub keys: Keys,
    /// The name of this worker, that no other one has or had: a new one for each start.
    pub worker: Arc<str>,
    /// Shards of the experiment.
    pub shards: u32,
    /// All shards lie on one server, and one script may read several. False for a cluster.
    pub together: bool,
    /// Major version of the wire form up to which entries are read.
    pub reads_major: u16,
    /// Bounds.
    pub limits: WorkerLimits,
    /// Where entries are counted.
    pub ledger: Arc<Ledger>,
    /// What is counted of the queue itself.
    pub stats: Arc<QueueStats>,
    /// The runtime's clock.
    pub clock: fn() -> Instant,
}

/// The queue as the replay sees it.
#[derive(Debug)]
pub struct RedisQueue {
    claims: mpsc::Receiver<Claim>,
    shared: Arc<Shared>,
}

/// What has to run so that the queue has something in it and Redis learns what became of it.
#[derive(Debug)]
pub struct RedisWorker {
    reader: Reader,
    settler: Settler,
    shared: Arc<Shared>,
    flush_max: Duration,
}

/// The replay side of one experiment. Asks Redis once, so that what nobody will mend by waiting is known at the start.
///
/// # Errors
/// When Redis refuses: a password, a permission, a key of another type. One that is only away or full is no error.
pub async fn redis_queue(
    redis: Redis,
    config: WorkerConfig,
) -> Result<(RedisQueue, RedisWorker, Kept), RedisError> {
    let shared = Arc::new(Shared::new(Arc::clone(&config.stats)));
    let (sender, claims) = mpsc::channel(config.limits.entries_max.max(1));
    let flush_max = config.limits.flush_max;
    let settler = Settler::new(redis.clone(), &config, Arc::clone(&shared));
    let mut reader =
        Reader::new(redis, config, sender, Arc::clone(&shared)).map_err(|error: EntryError| {
            RedisError::Settings { address: "this host".to_owned(), said: error.to_string() }
        })?;
    match reader.prepare().await {
        Err(error) if !error.may_pass() => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let kept = Kept::new(&shared);
    let queue = RedisQueue { claims, shared: Arc::clone(&shared) };
    Ok((queue, RedisWorker { reader, settler, shared, flush_max }, kept))
}

// === impl WorkerLimits ===

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            entries_max: 8_192,
            bytes_max: 32 << 20,
            read_entries_max: 128,
            read_bytes_max: 2 << 20,
            value_bytes_max: 1 << 20,
            parts_max: 1_024,
            poll_min: Duration::from_millis(2),
            poll_max: Duration::from_millis(50),
            lease: Duration::from_secs(5),
            claim_after: Duration::from_secs(15),
            alone_after: 2,
            deliveries_max: 4,
            flush_max: Duration::from_secs(2),
            settle: SettleLimits::default(),
            entry: EntryLimits::default(),
        }
    }
}

// === impl RedisQueue ===

impl Queue for RedisQueue {
    async fn claim(&mut self) -> Option<Claim> {
        self.claims.recv().await
    }

    fn close(&mut self) {
        self.claims.close();
        self.shared.close();
    }
}

impl Drop for RedisQueue {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl RedisWorker ===

impl RedisWorker {
    /// Runs until the queue is closed, every claim has its fate, the journal has ended ([`Kept`] is dropped), and Redis
    /// knows; or until [`WorkerLimits::flush_max`] after all but the last of these.
    pub async fn run(self) {
        let Self { mut reader, settler, shared, flush_max } = self;
        {
            let work = async { tokio::join!(reader.run(), settler.run()) };
            let flushed = async {
                while !shared.is_ending() {
                    shared.ended.notified().await;
                }
                tokio::time::sleep(flush_max).await;
            };
            tokio::select! {
                ((), ()) = work => {}
                () = flushed => tracing::warn!("Redis did not confirm in time what was settled; others do it again."),
            }
        }
        // Whoever comes next need not wait for the leases to run out; but nobody waits here for a Redis that is away.
        drop(tokio::time::timeout(flush_max, reader.leave()).await);
    }
}
