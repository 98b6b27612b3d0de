//! What the bench of the queue runs with: a Redis, exchanges, an uploader and workers, each on a thread of its own.
//!
//! Measures nothing.
#![expect(clippy::disallowed_methods, reason = "a bench stands where `pipeline` stands, and reads clocks")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio::sync::watch;
use understudy::branch::{Branch, LoopGuard, OwnFields, Sent};
use understudy::compare::noise::{NoiseConfig, NoiseModel};
use understudy::compare::{Comparator, CompareConfig, CompareLimits, group::cause_of};
use understudy::journal::{
    ExperimentStart, Finder, FindingLimits, Journal as _, JournalLimits, RunStart, SqliteJournal,
};
use understudy::metrics::{QueueStatus, ReplayStats};
use understudy::model::{
    Body, Comparison, Endpoint, Exchange, ExchangeId, Fate, Flow, FlowKey, Headers, Ledger, Marks,
    Observation, Request, Response, Times, Timestamp, Version,
};
use understudy::pipeline::handover::{ComparisonReceiver, HandoverLimits, handover};
use understudy::pipeline::judge::{Judge, Judging};
use understudy::pipeline::pace::{Anchor, Pace};
use understudy::pipeline::protect::pause::PauseFlag;
use understudy::pipeline::replay::{ReplayLimits, Replayer};
use understudy::pipeline::science::{NoiseSettings, Science};
use understudy::pipeline::upload::{Channel, UploadLimits, UploadParts, Uploader};
use understudy::queue::entry::{EntryEncoder, EntryLimits};
use understudy::queue::memory::{MemoryQueue, MemoryQueueLimits, memory_queue};
use understudy::queue::redis::config::Server;
use understudy::queue::redis::{
    AppendLimits, Appender, Kept, Keys, ProducerId, QueueStats, Redis, RedisConfig, WorkerConfig,
    WorkerLimits, redis_queue,
};
use understudy::queue::{Offer as _, Offered, Queue as _};
use understudy::select::SessionBy;
use understudy::spool::{Spool, SpoolConfig};
use understudy::wire;

const SHARDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);
const ROUTE: &str = "/items/{id}";

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A Redis of this process, and a way to ask it.
pub(crate) struct Stage {
    server: Child,
    config: RedisConfig,
    runtime: Runtime,
    redis: Redis,
}

/// What exchanges look like.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// An answer of 22 bytes.
    Small,
    /// An answer with 4 KB of JSON.
    Page,
}

/// One worker: a thread with a runtime for all but the journal, and one for that.
pub(crate) struct Worker {
    pub(crate) stats: Arc<QueueStats>,
    /// From the last byte of A's answer until the worker had it.
    pub(crate) delays: Arc<Mutex<Vec<Duration>>>,
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<(), String>>,
}

/// Answers as A did, but for one request in a hundred.
struct Echo {
    same: Response,
    other: Response,
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

/// User and system time of all threads.
pub(crate) fn cpu_of_this_process() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn response(load: Load, price: u32) -> Response {
    let body = match load {
        Load::Small => format!("{{\"id\":7,\"price\":{price:5}}}"),
        Load::Page => {
            let item = |id: u32| {
                format!(r#"{{"id":{id},"name":"item number {id}","price":{price},"tags":["red"]}}"#)
            };
            format!("[{}]", (0..64).map(item).collect::<Vec<_>>().join(","))
        }
    };
    let headers = [
        ("Server", "nginx"),
        ("Date", "Sun, 22 Nov 2026 06:00:00 GMT"),
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Encoding"),
    ];
    Response {
        status: 200,
        version: Version::Http11,
        headers: Headers::from_pairs(headers),
        trailers: Headers::default(),
        body: Body::whole(body),
    }
}

fn exchange(number: u64, response: &Response, at: Timestamp) -> Arc<Exchange> {
    let end = |host: u8, port| Endpoint::from(SocketAddr::from(([10, 0, 0, host], port)));
    Arc::new(Exchange {
        id: ExchangeId { flow: number.wrapping_mul(0x9e37_79b9_7f4a_7c15), offset: number },
        flow: Flow {
            // So many clients that each shard has its part.
            key: FlowKey { client: end((number % 250) as u8, 40_000), server: end(255, 8080), scope: 0 },
            opened: at,
        },
        request: Request {
            method: "GET".into(),
            target: format!("/items/{number}?full=1").into(),
            version: Version::Http11,
            headers: Headers::from_pairs([
                ("Host", "shop.example.org"),
                ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("Accept", "application/json"),
                ("Accept-Encoding", "gzip, deflate, br"),
                ("Cookie", "session=0123456789abcdef0123456789abcdef"),
                ("X-Request-Id", "4f1c2d3e-0000-4000-8000-0123456789ab"),
            ]),
            trailers: Headers::default(),
            body: Body::whole(""),
        },
        response: Some(response.clone()),
        interim: Vec::new(),
        times: Times { request_first: at, request_last: at, response: Some((at, at)) },
        marks: Marks::default(),
    })
}

/// So many exchanges of one kind, captured now.
pub(crate) fn exchanges(load: Load, count: u64) -> Vec<Arc<Exchange>> {
    let (response, at) = (response(load, 5), wall());
    (0..count).map(|number| exchange(number, &response, at)).collect()
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
    let (start, route, response): (_, Arc<str>, _) = (Instant::now(), ROUTE.into(), response(Load::Small, 5));
    let mut sent = 0;
    while start.elapsed() < time {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        for number in sent..due {
            let exchange = exchange(number, &response, wall());
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

fn keys() -> Keys {
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

// === impl Worker ===

impl Worker {
    /// One that replays and compares; or only claims.
    pub(crate) fn start(stage: &Stage, load: Load, compares: bool) -> Result<Self, Failure> {
        let (stats, delays) = (Arc::new(QueueStats::default()), Arc::default());
        let ledger = Arc::new(Ledger::default());
        let config = WorkerConfig {
            experiment: "bench".into(),
            keys: keys(),
            worker: format!("{:p}", Arc::as_ptr(&stats)).into(),
            shards: SHARDS.get(),
            together: true,
            reads_major: wire::VERSION.major,
            // So that shards are shared out at once.
            limits: WorkerLimits { lease: Duration::from_millis(600), ..WorkerLimits::default() },
            ledger: Arc::clone(&ledger),
            stats: Arc::clone(&stats),
            clock: tokio::time::Instant::now,
        };
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (redis, noted) = (stage.config.clone(), Arc::clone(&delays));
        let thread = std::thread::spawn(move || {
            let done = runtime.block_on(async {
                let work = work(redis, config, compares.then_some(load), stopping, noted);
                tokio::spawn(work).await
            });
            done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        });
        Ok(Self { stats, delays, ledger, stop, thread })
    }

    /// Ends it; says how many it compared.
    pub(crate) fn end(self) -> Result<u64, Failure> {
        self.stop.send_replace(true);
        self.thread.join().map_err(|_panicked| "a worker panicked")??;
        let counts = self.ledger.snapshot();
        Ok([Fate::Matched, Fate::Mismatched].into_iter().map(|fate| counts.count(fate)).sum())
    }
}

async fn work(
    config: RedisConfig,
    worker: WorkerConfig,
    compares: Option<Load>,
    mut stopping: watch::Receiver<bool>,
    delays: Arc<Mutex<Vec<Duration>>>,
) -> Result<(), Failure> {
    let redis = Redis::connect(&config).await?;
    let (mut queue, worker, kept) = redis_queue(redis, worker).await?;
    let worker = tokio::spawn(worker.run());
    let stop = async move {
        drop(stopping.wait_for(|stop| *stop).await);
    };
    if let Some(load) = compares {
        let (comparisons, received) = handover(HandoverLimits::default());
        let journal = tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(keep(received, kept, &delays))
        });
        let comparator = Arc::new(Comparator::new(CompareConfig::default())?);
        let replayer = Replayer {
            experiment: "bench".into(),
            branch: Arc::new(Echo { same: response(load, 5), other: response(load, 6) }),
            queue,
            pace: Pace::queued(Duration::ZERO),
            anchor: Anchor { wall: wall(), at: tokio::time::Instant::now() },
            limits: ReplayLimits { slot_wait_max: Duration::from_secs(60), ..ReplayLimits::default() },
            twin: None,
            science: Arc::new(Science::new(
                Arc::new(Judge::new(Judging::new(comparator, None))),
                CompareLimits::default(),
                false,
                NoiseSettings { again: None, repeats: None, ..NoiseSettings::default() },
                NoiseModel::new(NoiseConfig::default())?,
            )),
            comparisons,
            pause: PauseFlag::never(),
            loop_guard: Arc::new(LoopGuard::default()),
            stats: Arc::new(ReplayStats::default()),
        };
        replayer.run(stop).await;
        journal.await??;
    } else {
        let mut stop = std::pin::pin!(stop);
        while let Some(claim) = tokio::select! {
            claim = queue.claim() => claim,
            () = &mut stop => None,
        } {
            note(&delays, &claim.exchange);
            claim.settle(Fate::Shown);
        }
        queue.close();
        drop(kept);
    }
    worker.await?;
    Ok(())
}

fn note(delays: &Mutex<Vec<Duration>>, exchange: &Exchange) {
    let late = wall().0.saturating_sub(exchange.times.request_last.0);
    if let Ok(mut delays) = delays.lock() {
        delays.push(Duration::from_nanos(late));
    }
}

/// What the recorder of a worker does.
async fn keep(
    mut received: ComparisonReceiver,
    kept: Kept,
    delays: &Mutex<Vec<Duration>>,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let limits = JournalLimits::default();
    let mut journal = SqliteJournal::open(&folder.path().join("journal.db"), limits.clone(), cause_of)?;
    let start = ExperimentStart {
        name: "bench".into(),
        candidate: "bench".to_owned(),
        rules: Vec::new(),
        policy: String::new(),
        routes: vec![ROUTE.into()],
        context: Default::default(),
    };
    let run = journal.begin(&RunStart {
        started_at: wall(),
        version: "bench".to_owned(),
        summary: "bench".to_owned(),
        ports: Vec::new(),
        experiments: vec![start],
    })?;
    let mut finder = Finder::new(FindingLimits::default(), &limits, cause_of);
    let mut batch = Vec::new();
    while received.recv_many(&mut batch, 256).await > 0 {
        let (comparisons, _room): (Vec<Comparison>, Vec<_>) =
            batch.drain(..).map(|handed| (handed.comparison, handed.room)).unzip();
        journal.record(run, &comparisons)?;
        kept.keep(comparisons.iter().map(|comparison| finder.find(comparison)));
        comparisons.iter().for_each(|comparison| note(delays, &comparison.exchange));
    }
    Ok(())
}

// === impl Echo ===

impl Branch for Echo {
    async fn send(&self, id: ExchangeId, _request: &Request, _own: &OwnFields, _deadline: Duration) -> Sent {
        let Self { same, other } = self;
        let response = if id.offset % 100 == 99 { other } else { same };
        let served = Duration::from_micros(200);
        Sent::Observed(Observation::Answered { response: Box::new(response.clone()), ttfb: served, served })
    }
}
