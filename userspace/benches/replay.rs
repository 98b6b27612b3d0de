//! What a replayed request costs: CPU of this process for each 1,000, against nginx on loopback.
//!
//! Leaves nothing running, and sends nothing off this host. Skips itself, saying so, where nginx is not installed.

#[path = "shared/mod.rs"]
mod shared;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::{Nginx, answer, cpu_of_this_process, exchange};
use understudy::branch::{CapturedPorts, HttpBranch, HttpBranchConfig, LoopGuard};
use understudy::compare::CompareLimits;
use understudy::compare::noise::{NoiseConfig, NoiseModel};
use understudy::metrics::ReplayStats;
use understudy::model::{Exchange, Fate, Ledger, Observation, Outcome, Timestamp};
use understudy::pipeline::handover::{HandoverLimits, handover};
use understudy::pipeline::judge::Judge;
use understudy::pipeline::pace::{Anchor, Pace};
use understudy::pipeline::protect::pause::PauseFlag;
use understudy::pipeline::replay::{ReplayLimits, Replayer};
use understudy::pipeline::science::{NoiseSettings, Science};
use understudy::queue::memory::{MemoryQueueLimits, memory_queue};
use understudy::queue::{Offer as _, Offered};

const ROUNDS: usize = 5;
const REQUESTS: u64 = 10_000;
const BODY: &str = "{\"id\":7,\"name\":\"lamp\"}";

/// One way to run.
struct Way {
    name: &'static str,
    /// Requests a second; 0 for as fast as it goes.
    per_second: u64,
    /// Worker threads; 0 for a runtime of one thread.
    workers: usize,
}

const WAYS: [Way; 5] = [
    Way { name: "2,000/s, current thread", per_second: 2_000, workers: 0 },
    Way { name: "2,000/s, 2 workers", per_second: 2_000, workers: 2 },
    Way { name: "10,000/s, current thread", per_second: 10_000, workers: 0 },
    Way { name: "full speed, current thread", per_second: 0, workers: 0 },
    Way { name: "full speed, 2 workers", per_second: 0, workers: 2 },
];

struct Round {
    cpu: Duration,
    wall: Duration,
}

#[expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let Ok(nginx) = Nginx::start(BODY) else {
        println!("replay: skipped, nginx is not installed");
        return Ok(());
    };
    println!("{:30} {:>16} {:>14}   {ROUNDS} rounds of {REQUESTS}", "replay", "CPU ms / 1,000", "requests/s");
    // `cargo bench --bench replay -- current` runs the ways that have `current` in their name.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for way in WAYS.iter().filter(|way| way.name.contains(&wanted)) {
        let mut rounds = (0..ROUNDS).map(|_| run(nginx.port, way)).collect::<Result<Vec<_>, _>>()?;
        rounds.sort_by_key(|round| round.cpu);
        let cpu = rounds[ROUNDS / 2].cpu.as_secs_f64() * 1e6 / REQUESTS as f64;
        rounds.sort_by_key(|round| round.wall);
        let rate = REQUESTS as f64 / rounds[ROUNDS / 2].wall.as_secs_f64();
        println!("{:30} {cpu:16.1} {rate:14.0}", way.name);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn run(port: u16, way: &'static Way) -> Result<Round, Box<dyn Error>> {
    let mut builder = match way.workers {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if way.workers > 0 {
        builder.worker_threads(way.workers);
    }
    let runtime = builder.enable_all().build()?;
    let before = (cpu_of_this_process(), Instant::now());
    let matched = runtime.block_on(async move {
        // A task, as in the daemon: each wake-up of the future in `block_on` itself is a system call.
        tokio::spawn(replay(port, way)).await
    })?;
    let matched = matched.map_err(|error| error.to_string())?;
    let round = Round { cpu: cpu_of_this_process() - before.0, wall: before.1.elapsed() };
    if matched == REQUESTS { Ok(round) } else { Err(format!("only {matched} of {REQUESTS} matched").into()) }
}

#[expect(clippy::disallowed_methods, reason = "a bench stands where `pipeline` stands")]
async fn replay(port: u16, way: &Way) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let limits = MemoryQueueLimits { exchanges_max: REQUESTS as usize, bytes_max: 1 << 30 };
    let (offer, queue) = memory_queue(limits);
    let ledger = Arc::new(Ledger::default());
    for number in 0..REQUESTS {
        let at = Timestamp((number * 1_000_000_000).checked_div(way.per_second).unwrap_or(0));
        let offered = Offered {
            exchange: Arc::new(exchange(number, at, answer(BODY))),
            route: "other".into(),
            ticket: ledger.admit(),
        };
        offer.offer(offered).map_err(|ticket| {
            ticket.settle(Fate::Shed);
            "the queue is large enough"
        })?;
    }
    drop(offer);
    let (comparisons, mut journal) = handover(HandoverLimits::default());
    let replayer = Replayer {
        experiment: "bench".into(),
        branch: Arc::new(HttpBranch::new(
            HttpBranchConfig::new(format!("http://127.0.0.1:{port}")),
            CapturedPorts::default(),
        )?),
        queue,
        pace: Pace::offline(1.0),
        anchor: Anchor { wall: Timestamp(0), at: tokio::time::Instant::now() },
        limits: ReplayLimits { slot_wait_max: Duration::from_secs(60), ..ReplayLimits::default() },
        twin: None,
        science: Arc::new(Science::new(
            Judge::by(same),
            CompareLimits::default(),
            false,
            NoiseSettings::default(),
            NoiseModel::new(NoiseConfig::default())?,
        )),
        comparisons,
        pause: PauseFlag::never(),
        loop_guard: Arc::new(LoopGuard::default()),
        stats: Arc::new(ReplayStats::default()),
    };
    let journal = async move {
        let mut batch = Vec::new();
        while journal.recv_many(&mut batch, 256).await > 0 {
            batch.clear();
        }
    };
    tokio::join!(replayer.run(std::future::pending()), journal);
    Ok(ledger.snapshot().count(Fate::Matched))
}

/// Stands for the comparison, whose cost has its own bench.
fn same(exchange: &Exchange, observation: &Observation) -> Outcome {
    match (&exchange.response, observation) {
        (Some(control), Observation::Answered { response, .. })
            if control.status == response.status && control.body.kept == response.body.kept =>
        {
            Outcome::Match
        }
        _ => Outcome::Ignored(Vec::new()),
    }
}
