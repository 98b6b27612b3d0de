//! What the bench of the queue runs with: a Redis, exchanges, and an uploader on a thread of its own.
//!
//! Measures nothing.
#![expect(clippy::disallowed_methods, reason = "a bench stands where `pipeline` stands, and reads clocks")]

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use understudy::metrics::QueueStatus;
use understudy::model::{Exchange, Fate, Ledger, Timestamp};
use understudy::pipeline::upload::{Channel, UploadLimits, UploadParts, Uploader};
use understudy::queue::entry::{EntryEncoder, EntryLimits};
use understudy::queue::memory::{MemoryQueue, MemoryQueueLimits, memory_queue};
use understudy::queue::redis::config::Server;
use understudy::queue::redis::{AppendLimits, Appender, Keys, ProducerId, Redis, RedisConfig};
use understudy::queue::{Offer as _, Offered};
use understudy::select::SessionBy;
use understudy::spool::{Spool, SpoolConfig};

use crate::shared::{answer, exchange};

pub(crate) const SHARDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);
pub(crate) const ROUTE: &str = "/items/{id}";

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A Redis of this process, and a way to ask it.
pub(crate) struct Stage {
    server: Child,
    pub(crate) config: RedisConfig,
    runtime: Runtime,
    redis: Redis,
}

/// What exchanges look like.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// An answer of 22 bytes.
    Small,
    /// An answer with 4 KB of JSON.
    Page,
}

/// The middle one.
pub(crate) fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

/// The value below which this part of the others is; `sorted` is.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part) as usize).copied().unwrap_or_default()
}

pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A's answer. Its price is what a candidate gets wrong.
pub(crate) fn body(load: Load, price: u32) -> String {
    match load {
        Load::Small => format!("{{\"id\":7,\"price\":{price:5}}}"),
        Load::Page => {
            let item = |id: u32| {
                format!(r#"{{"id":{id},"name":"item number {id}","price":{price},"tags":["red"]}}"#)
            };
            format!("[{}]", (0..64).map(item).collect::<Vec<_>>().join(","))
        }
    }
}

/// So many exchanges of one kind, captured now.
pub(crate) fn exchanges(load: Load, count: u64) -> Vec<Arc<Exchange>> {
    let (answer, at) = (answer(body(load, 5)), wall());
    (0..count).map(|number| Arc::new(exchange(number, at, answer.clone()))).collect()
}

/// Uploads all of them, in batches of at most so many for each shard.
pub(crate) fn upload(stage: &Stage, exchanges: &[Arc<Exchange>], batch_max: usize) -> Result<(), Failure> {
    let limits = MemoryQueueLimits { exchanges_max: exchanges.len(), bytes_max: 1 << 30 };
    let (offer, queue) = memory_queue(limits);
    let ledger = Arc::new(Ledger::default());
    let route: Arc<str> = ROUTE.into();
    for exchange in exchanges {
        let ticket = ledger.admit();
        let offered = Offered { exchange: Arc::clone(exchange), route: Arc::clone(&route), ticket };
        offer.offer(offered).unwrap_or_else(|ticket| ticket.settle(Fate::Shed));
    }
    drop(offer);
    run_upload(&stage.config, queue, &ledger, batch_max)?;
    all_queued(&ledger, exchanges.len() as u64)
}

/// Uploads exchanges at a constant rate, each captured when it is handed over; says how many Redis took, and how many
/// found no room in memory, as in a daemon that gets no CPU time.
pub(crate) fn upload_paced(stage: &Stage, rate: u64, time: Duration) -> Result<(u64, u64), Failure> {
    let (offer, queue) = memory_queue(MemoryQueueLimits::default());
    let ledger = Arc::new(Ledger::default());
    let uploader = {
        let (config, ledger) = (stage.config.clone(), Arc::clone(&ledger));
        std::thread::spawn(move || run_upload(&config, queue, &ledger, 256))
    };
    let (start, route, answer): (_, Arc<str>, _) =
        (Instant::now(), ROUTE.into(), answer(body(Load::Small, 5)));
    let mut sent = 0;
    while start.elapsed() < time {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        for number in sent..due {
            let exchange = Arc::new(exchange(number, wall(), answer.clone()));
            let offered = Offered { exchange, route: Arc::clone(&route), ticket: ledger.admit() };
            offer.offer(offered).unwrap_or_else(|ticket| ticket.settle(Fate::Shed));
        }
        sent = due.max(sent);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(offer);
    uploader.join().map_err(|_panicked| "the upload panicked")??;
    let shed = ledger.snapshot().count(Fate::Shed);
    all_queued(&ledger, sent.saturating_sub(shed))?;
    Ok((sent.saturating_sub(shed), shed))
}

fn all_queued(ledger: &Ledger, expected: u64) -> Result<(), Failure> {
    let queued = ledger.snapshot().count(Fate::Queued);
    if queued == expected { Ok(()) } else { Err(format!("{queued} of {expected} are in Redis").into()) }
}

fn run_upload(
    config: &RedisConfig,
    queue: MemoryQueue,
    ledger: &Arc<Ledger>,
    batch_max: usize,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let (spool, _) =
        Spool::open(SpoolConfig { path: folder.path().join("spool"), ..SpoolConfig::default() })?;
    let limits = UploadLimits { batch_max, ..UploadLimits::default() };
    let encoder = EntryEncoder::new(EntryLimits::default())?;
    runtime.block_on(async {
        let redis = Redis::connect(config).await?;
        let append = move |producer| {
            Appender::new(redis.clone(), keys(), AppendLimits::default(), ProducerId::new(producer))
        };
        let channel = Channel {
            name: "bench".into(),
            queue,
            appender: append(1),
            ledger: Arc::clone(ledger),
            stats: Arc::default(),
        };
        let uploader = Uploader::new(UploadParts {
            limits,
            channels: vec![channel],
            shards: SHARDS,
            session: SessionBy::default(),
            encoder,
            spool,
            spool_stats: Arc::default(),
            producer: 1,
            make_appender: Box::new(move |_, producer| append(producer)),
            status: Arc::new(QueueStatus::default()),
            secrets: None,
        });
        tokio::spawn(uploader.run(std::future::pending())).await?;
        Ok(())
    })
}

pub(crate) fn keys() -> Keys {
    Keys::new("bench", "queue")
}

// === impl Load ===

impl Load {
    pub(crate) const ALL: [Load; 2] = [Load::Small, Load::Page];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Small => "small",
            Load::Page => "4 KB of JSON",
        }
    }
}

// === impl Stage ===

impl Stage {
    pub(crate) fn start() -> Result<Self, Failure> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()?;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let server_at = Server { host: "127.0.0.1".to_owned(), port };
        let config = RedisConfig { servers: vec![server_at], ..RedisConfig::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let redis = runtime.block_on(Redis::connect(&config))?;
        Ok(Self { server, config, runtime, redis })
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, Failure> {
        let mut command = redis::cmd(words.first().copied().unwrap_or_default());
        command.arg(words.get(1..).unwrap_or_default());
        Ok(self.runtime.block_on(self.redis.query("measure", &command))?)
    }

    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.ask::<()>(&["FLUSHALL"])
    }

    fn info(&self, section: &str, field: &str) -> Result<f64, Failure> {
        let text: String = self.ask(&["INFO", section])?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.ok_or("Redis does not say it")?.trim().parse()?)
    }

    /// Bytes that Redis has been sent since its start.
    pub(crate) fn received(&self) -> Result<u64, Failure> {
        Ok(self.info("stats", "total_net_input_bytes")? as u64)
    }

    /// CPU time of Redis since its start.
    pub(crate) fn redis_cpu(&self) -> Result<Duration, Failure> {
        let seconds = self.info("cpu", "used_cpu_user")? + self.info("cpu", "used_cpu_sys")?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Bytes that the streams take.
    pub(crate) fn stored(&self) -> Result<u64, Failure> {
        let usage =
            |shard| self.ask::<u64>(&["MEMORY", "USAGE", &keys().shard(shard).stream(), "SAMPLES", "0"]);
        (0..SHARDS.get()).map(usage).sum()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing left to stop.
        drop((self.server.kill(), self.server.wait()));
    }
}
