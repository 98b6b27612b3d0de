//! Workers of the bench, each on threads of its own, with everything between Redis and the journal.
//!
//! Measures nothing but when an exchange came by.
#![expect(clippy::disallowed_methods, reason = "a bench stands where `pipeline` stands, and reads clocks")]

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use understudy::branch::{Branch, CapturedPorts, HttpBranch, HttpBranchConfig, LoopGuard, OwnFields, Sent};
use understudy::compare::noise::{NoiseConfig, NoiseModel};
use understudy::compare::{Comparator, CompareConfig, CompareLimits, group::cause_of};
use understudy::journal::{
    ExperimentStart, Finder, FindingLimits, Journal as _, JournalLimits, RunStart, SqliteJournal,
};
use understudy::metrics::ReplayStats;
use understudy::model::{Comparison, Exchange, ExchangeId, Fate, Ledger, Observation, Request, Response};
use understudy::pipeline::handover::{ComparisonReceiver, HandoverLimits, handover};
use understudy::pipeline::judge::{Judge, Judging};
use understudy::pipeline::pace::{Anchor, Pace};
use understudy::pipeline::protect::pause::PauseFlag;
use understudy::pipeline::replay::{ReplayLimits, Replayer};
use understudy::pipeline::science::{NoiseSettings, Science};
use understudy::queue::Queue as _;
use understudy::queue::redis::{
    Kept, QueueStats, Redis, RedisConfig, RedisQueue, WorkerConfig, WorkerLimits, redis_queue,
};
use understudy::wire;

use crate::shared::answer;
use crate::stage::{Failure, Load, ROUTE, SHARDS, Stage, body, keys, wall};

/// What a worker does with what it claims.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Nothing.
    Claims,
    /// Compares A's answer with one that a function gives.
    Compares(Load),
    /// Sends the request to this port of loopback, and compares the answers.
    Replays(u16),
}

/// One worker: a thread with a runtime for all but the journal, and one for that.
pub(crate) struct Worker {
    pub(crate) stats: Arc<QueueStats>,
    /// From the last byte of A's answer until the worker had it, or had kept its comparison.
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

// === impl Worker ===

impl Worker {
    /// One that takes what there is.
    pub(crate) fn start(stage: &Stage, work: Work) -> Result<Self, Failure> {
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
                // A task, as in the daemon: each wake-up of the future in `block_on` itself is a system call.
                tokio::spawn(run(redis, config, work, stopping, noted)).await
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

async fn run(
    config: RedisConfig,
    worker: WorkerConfig,
    work: Work,
    mut stopping: watch::Receiver<bool>,
    delays: Arc<Mutex<Vec<Duration>>>,
) -> Result<(), Failure> {
    let redis = Redis::connect(&config).await?;
    let (queue, worker, kept) = redis_queue(redis, worker).await?;
    let worker = tokio::spawn(worker.run());
    let stop = async move {
        drop(stopping.wait_for(|stop| *stop).await);
    };
    match work {
        Work::Claims => {
            claim(queue, stop, &delays).await;
            drop(kept);
        }
        Work::Compares(load) => {
            let answer = |price| answer(body(load, price));
            replay(Echo { same: answer(5), other: answer(6) }, queue, kept, stop, delays).await?;
        }
        Work::Replays(port) => {
            let config = HttpBranchConfig::new(format!("http://127.0.0.1:{port}"));
            let branch = HttpBranch::new(config, CapturedPorts::default())?;
            replay(branch, queue, kept, stop, delays).await?;
        }
    }
    worker.await?;
    Ok(())
}

async fn claim(mut queue: RedisQueue, stop: impl Future<Output = ()>, delays: &Mutex<Vec<Duration>>) {
    let mut stop = std::pin::pin!(stop);
    while let Some(claim) = tokio::select! {
        claim = queue.claim() => claim,
        () = &mut stop => None,
    } {
        note(delays, &claim.exchange);
        claim.settle(Fate::Shown);
    }
    queue.close();
}

async fn replay(
    branch: impl Branch + 'static,
    queue: RedisQueue,
    kept: Kept,
    stop: impl Future<Output = ()> + Send + 'static,
    delays: Arc<Mutex<Vec<Duration>>>,
) -> Result<(), Failure> {
    let (comparisons, received) = handover(HandoverLimits::default());
    let journal = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(keep(received, kept, &delays))
    });
    let comparator = Arc::new(Comparator::new(CompareConfig::default())?);
    let replayer = Replayer {
        experiment: "bench".into(),
        branch: Arc::new(branch),
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
    journal.await?
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
