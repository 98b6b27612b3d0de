//! The queue between hosts: from capture's hand-over into Redis, and from Redis to comparisons that are kept.
//!
//! Judges nothing and sends nothing off this host. Needs `redis-server` on the PATH, and nginx for what is sent, and says so;
//! they are children of this process and hold nothing on disk. CPU is that of this process: Redis is another one, and has a
//! column of its own.
//!
//! What waits for its turn on a busy machine is late and not slow: on one that others use, give the bench a priority that
//! they do not have (`chrt -r 1`), or the times of the last part are theirs.
//!
//! `cargo bench --bench queue -- into` runs the parts that have `into` in their name: `into`, `compared`, `sent`, `late`. In
//! `compared` the candidate is a function of this process that gives A's answer, and another one to one request in a hundred;
//! in `sent` it is nginx on loopback.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]

#[path = "../shared/mod.rs"]
mod shared;
mod stage;
mod worker;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shared::{Nginx, cpu_of_this_process};
use stage::{Failure, Load, Stage, body, exchanges, median, percentile, upload, upload_paced};
use worker::{Work, Worker};

/// Rounds of each way; odd, since the median counts.
const ROUNDS: usize = 3;
const EXCHANGES: u64 = 60_000;
const BATCHES: [usize; 3] = [64, 256, 1024];
/// Exchanges a second, and for how long.
const RATES: [u64; 2] = [10_000, 30_000];
const PACED: Duration = Duration::from_secs(4);

fn main() -> Result<(), Failure> {
    let Ok(stage) = Stage::start() else {
        println!("queue: skipped, redis-server is not installed");
        return Ok(());
    };
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let is_wanted = |name: &str| name.contains(&wanted);
    if is_wanted("into") {
        into_redis(&stage)?;
    }
    if is_wanted("compared") {
        println!("\nfrom Redis to compared, kept and settled, {ROUNDS} rounds of {EXCHANGES}");
        for load in Load::ALL {
            to_compared(&stage, load, Work::Compares(load))?;
        }
    }
    if is_wanted("sent") {
        println!("\nfrom Redis to sent to nginx, compared, kept and settled, {ROUNDS} rounds of {EXCHANGES}");
        for load in Load::ALL {
            let Ok(nginx) = Nginx::start(&body(load, 5)) else {
                println!("skipped, nginx is not installed");
                break;
            };
            to_compared(&stage, load, Work::Replays(nginx.port))?;
        }
    }
    if is_wanted("late") {
        lateness(&stage)?;
    }
    Ok(())
}

/// From capture's hand-over until Redis has confirmed everything.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn into_redis(stage: &Stage) -> Result<(), Failure> {
    println!("into Redis, {ROUNDS} rounds of {EXCHANGES}, 16 shards");
    println!(
        "{:28} {:>10} {:>16} {:>18} {:>13} {:>14}",
        "", "a second", "a CPU second", "ours, ms / 1,000", "bytes sent", "bytes stored"
    );
    for load in Load::ALL {
        let exchanges = exchanges(load, EXCHANGES);
        for batch in BATCHES {
            let (mut walls, mut cpus, mut redis) = (Vec::new(), Vec::new(), Vec::new());
            let (mut sent, mut stored) = (0, 0);
            for _ in 0..ROUNDS {
                stage.flush()?;
                let before = (stage.received()?, stage.redis_cpu()?);
                let (cpu, at) = (cpu_of_this_process(), Instant::now());
                upload(stage, &exchanges, batch)?;
                walls.push(at.elapsed());
                cpus.push(cpu_of_this_process() - cpu);
                redis.push(stage.redis_cpu()? - before.1);
                (sent, stored) = (stage.received()? - before.0, stage.stored()?);
            }
            let of = |time: Duration| EXCHANGES as f64 / time.as_secs_f64();
            let thousand = |time: Duration| time.as_secs_f64() * 1e6 / EXCHANGES as f64;
            let (wall, cpu, redis) = (median(walls), median(cpus), median(redis));
            println!(
                "{:28} {:10.0} {:16.0} {:18.1} {:13} {:14}   Redis {:.1} ms / 1,000",
                format!("{}, batches of {batch}", load.name()),
                of(wall),
                of(cpu),
                thousand(cpu),
                sent / EXCHANGES,
                stored / EXCHANGES,
                thousand(redis),
            );
        }
    }
    Ok(())
}

/// From streams that are full until Redis has confirmed every comparison as settled.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn to_compared(stage: &Stage, load: Load, work: Work) -> Result<(), Failure> {
    println!("{:28} {:>10} {:>16} {:>18}", "", "a second", "a CPU second", "ours, ms / 1,000");
    let exchanges = exchanges(load, EXCHANGES);
    for count in [1, 2] {
        let (mut rates, mut of_cpu) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            stage.flush()?;
            upload(stage, &exchanges, 256)?;
            let workers = (0..count).map(|_| Worker::start(stage, work)).collect::<Result<Vec<_>, _>>()?;
            // Shards are shared out first; what is done until then does not count.
            wait_until(|| workers.iter().all(|worker| worker.shards() == 16 / count))?;
            let settled = || workers.iter().map(Worker::settled).sum::<u64>();
            let before = (settled(), cpu_of_this_process(), Instant::now());
            wait_until(|| settled() >= EXCHANGES)?;
            let done = (EXCHANGES - before.0) as f64;
            rates.push(done / before.2.elapsed().as_secs_f64());
            of_cpu.push(done / (cpu_of_this_process() - before.1).as_secs_f64());
            let compared: u64 = workers.into_iter().map(Worker::end).sum::<Result<u64, _>>()?;
            if compared != EXCHANGES {
                return Err(format!("{compared} of {EXCHANGES} were compared").into());
            }
        }
        let (rate, of_cpu) = (median(rates), median(of_cpu));
        println!(
            "{:28} {rate:10.0} {of_cpu:16.0} {:18.1}",
            format!("{}, workers: {count}", load.name()),
            1e6 / of_cpu
        );
    }
    Ok(())
}

/// At a constant rate, from the last byte of A's answer to a claim, and to a comparison that is kept.
fn lateness(stage: &Stage) -> Result<(), Failure> {
    println!("\nfrom captured to compared, one worker, small exchanges for {PACED:?}, milliseconds");
    println!("{:32} {:>10} {:>10} {:>10} {:>10} {:>8}", "", "median", "p99", "longest", "CPU, %", "shed");
    let nginx = Nginx::start(&body(Load::Small, 5)).ok();
    for rate in RATES {
        let sent = nginx.as_ref().map(|nginx| ("sent and kept", Work::Replays(nginx.port)));
        let ways = [("claimed", Work::Claims), ("kept", Work::Compares(Load::Small))];
        for (to, work) in ways.into_iter().chain(sent) {
            stage.flush()?;
            let worker = Worker::start(stage, work)?;
            wait_until(|| worker.shards() == 16)?;
            let cpu = cpu_of_this_process();
            let (sent, shed) = upload_paced(stage, rate, PACED)?;
            wait_until(|| worker.settled() >= sent)?;
            let cpu = (cpu_of_this_process() - cpu).as_secs_f64() * 100.0 / PACED.as_secs_f64();
            let mut delays =
                std::mem::take(&mut *worker.delays.lock().map_err(|_panicked| "a worker panicked")?);
            delays.sort_unstable();
            let shown = |part: f64| percentile(&delays, part).as_secs_f64() * 1e3;
            println!(
                "{:32} {:10.1} {:10.1} {:10.1} {cpu:10.0} {shed:8}",
                format!("{rate} a second, to {to}"),
                shown(0.5),
                shown(0.99),
                shown(1.0)
            );
            worker.end()?;
        }
    }
    Ok(())
}

/// Waits for another thread, at most a minute.
#[expect(clippy::disallowed_methods, reason = "a bench waits in real time")]
fn wait_until(mut done: impl FnMut() -> bool) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        if Instant::now() > until {
            return Err("nothing more happens".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

// === impl Worker ===

impl Worker {
    fn settled(&self) -> u64 {
        self.stats.settled.load(Ordering::Relaxed)
    }

    fn shards(&self) -> u64 {
        self.stats.shards.load(Ordering::Relaxed)
    }
}
