//! `cargo xtask soak`: a capture, workers and Redis under a constant load while faults happen to all of them, and every
//! exchange accounted for at the end.
//!
//! Plants nothing inside of a daemon. The seed decides which faults come, in which order and for how long; when exactly
//! they meet an exchange is up to the machine.
#![expect(clippy::print_stdout, reason = "the figures are for the person at the terminal")]

mod ledger;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use rustix::process::Signal;
use understudy_tests::clock::{now, pause};
use understudy_tests::detect::Random;
use understudy_tests::fleet::{Fleet, Setup};
use understudy_tests::mix::{Pace, drive, every_route};
use understudy_tests::prereq::{self, FLEET};
use understudy_tests::process::Place;
use understudy_tests::proxy::Proxy;
use understudy_tests::redis::{Options as RedisOptions, Server};
use understudy_tests::server::free_address;
use xshell::{Shell, cmd};

use crate::{probe, root, setup};

use ledger::Ledger;

/// How long, and with which faults.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Minutes of load
    #[arg(long, default_value_t = 30.0)]
    pub(crate) minutes: f64,
    /// Decides the faults
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Requests to A in a second
    #[arg(long, default_value_t = 100)]
    pub(crate) rate: u32,
}

/// Something that happens to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A worker gets SIGKILL.
    WorkerKilled,
    /// One more worker comes; where there are enough, the oldest one gets SIGKILL.
    WorkerStarted,
    /// A worker hangs for longer than others wait for it, and goes on.
    WorkerHangs,
    /// Redis hangs for seconds.
    RedisHangs,
    /// Redis gets SIGKILL and comes back with its data.
    RedisKilled,
    /// Redis takes 100 ms longer for everything.
    RedisSlow,
    /// B takes 50 ms longer for everything.
    CandidateSlow,
    /// The capture ends in order, and another one starts.
    CaptureRestarted,
    /// The same while Redis hangs: what is under way stays in the spool.
    CaptureRestartedWithoutRedis,
    /// The capture gets SIGKILL, and another one starts.
    CaptureKilled,
    /// The same while Redis hangs: most of what was under way is in the spool.
    CaptureKilledWithoutRedis,
    /// Redis gets SIGKILL and comes back with nothing.
    RedisEmptied,
}

/// The fleet, and the load that A gets.
struct Soak {
    fleet: Fleet,
    redis: Server,
    /// What stands before Redis.
    slow: Proxy,
    random: Random,
    faults: BTreeMap<Fault, u64>,
    ledger: Ledger,
}

/// Most workers side by side.
const WORKERS_MAX: usize = 3;
/// Connections of the load.
const CONNECTIONS: usize = 8;
/// Requests after the last fault.
const LAST_REQUESTS: usize = 400;
const SECONDS_PER_MINUTE: f64 = 60.0;

/// Builds everything and soaks it.
///
/// # Errors
/// When something is missing, a daemon fails, or one exchange has no fate.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    setup::run()?;
    if let Some(reason) = missing() {
        bail!("the soak cannot run here: {reason}");
    }
    probe::run()?;
    let sh = Shell::new()?;
    let _in_root = sh.push_dir(root());
    cmd!(sh, "cargo build --package understudy --package understudy-tests --bins").quiet().run()?;
    soak(options)
}

/// Seconds of the load at its end without a fault.
const QUIET_END: f64 = 10.0;

/// What the soak cannot do without and is not there, in words.
pub(crate) fn missing() -> Option<String> {
    prereq::missing(FLEET)
}

/// As [`run`], with everything built and there.
///
/// # Errors
/// As [`run`].
pub(crate) fn soak(options: &Options) -> anyhow::Result<()> {
    let Options { minutes, seed, rate } = *options;
    ensure!(minutes > 0.0 && minutes <= 24.0 * 60.0 && rate > 0, "--minutes and --rate must be above 0");
    let seconds = minutes * SECONDS_PER_MINUTE;
    let mut soak = Soak::start(seed)?;
    let requests = (seconds * f64::from(rate)) as usize;
    println!("soak: {requests} requests, {rate} a second, seed {seed}");
    let start = now();
    let load = load(soak.fleet.a, requests, rate);
    while !load.is_finished() {
        let wait = Duration::from_millis(500 + soak.random.below(3_500));
        pause(wait);
        let fault = Fault::ALL.get(soak.random.below(Fault::ALL.len() as u64) as usize).copied();
        // A fault may wait for what comes after it.
        let is_early = start.elapsed().as_secs_f64() < seconds - QUIET_END;
        if let Some(fault) = fault.filter(|_| is_early && !load.is_finished()) {
            println!("soak: {:>6.1} s  {fault:?}", start.elapsed().as_secs_f64());
            soak.meet(fault)?;
            *soak.faults.entry(fault).or_default() += 1;
        }
    }
    load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let Soak { mut fleet, redis: _redis, slow: _slow, random: _, faults, ledger } = soak;
    // Each shard hears of its producer once more, which then sees what Redis does not know any more.
    fleet.send(&every_route(LAST_REQUESTS), rate)?;
    if fleet.workers.is_empty() {
        fleet.start_worker()?;
    }
    let (settling, books) = (now(), fleet.books.clone());
    let account = fleet.balance()?;
    let settled = settling.elapsed().as_secs_f64();
    println!("soak: faults {faults:?}");
    println!("soak: {} requests answered by A", requests + LAST_REQUESTS);
    ledger.conclude(&account, &books)?;
    println!("soak: everything had its fate {settled:.1} s after the last answer");
    Ok(())
}

fn load(address: SocketAddr, requests: usize, rate: u32) -> JoinHandle<anyhow::Result<usize>> {
    std::thread::spawn(move || {
        let pace = Pace { per_second: Some(rate), connections: CONNECTIONS };
        Ok(drive(address, &every_route(requests), pace)?.len())
    })
}

// === impl Fault ===

impl Fault {
    const ALL: [Self; 12] = [
        Self::WorkerKilled,
        Self::WorkerStarted,
        Self::WorkerHangs,
        Self::RedisHangs,
        Self::RedisKilled,
        Self::RedisSlow,
        Self::CandidateSlow,
        Self::CaptureRestarted,
        Self::CaptureRestartedWithoutRedis,
        Self::CaptureKilled,
        Self::CaptureKilledWithoutRedis,
        Self::RedisEmptied,
    ];
}

// === impl Soak ===

impl Soak {
    fn start(seed: u64) -> anyhow::Result<Self> {
        // What Redis has confirmed is on its disk, so that none of it may be missing after its death.
        let arguments = ["--appendonly", "yes", "--appendfsync", "always"].map(str::to_owned).to_vec();
        let redis = Server::start_with(RedisOptions { arguments, ..RedisOptions::default() })?;
        let here = Place::Here;
        let slow = Proxy::start(&here, free_address()?, SocketAddr::from(([127, 0, 0, 1], redis.port())))?;
        let fleet = Fleet::start(Setup {
            workers: 2,
            nginx: true,
            // So that every shard always gets something.
            session: "header:X-Marker",
            // Whoever had an entry was killed by the soak, and not by the entry.
            queue: "lease = \"2s\"\nclaim_after = \"3s\"\nanswer_wait_max = \"2s\"\nretry_max = \"500ms\"\n\
                    deliveries_max = 100"
                .to_owned(),
            ..Setup::through(&slow, &redis)
        })?;
        Ok(Self {
            fleet,
            redis,
            slow,
            random: Random::new(seed),
            faults: BTreeMap::new(),
            ledger: Ledger::default(),
        })
    }

    /// Up to so many seconds, at least half of one.
    fn seconds(&mut self, at_most: u64) -> Duration {
        Duration::from_millis(500 + self.random.below(at_most * 1_000 - 500))
    }

    /// Lets a fault happen, to its end.
    fn meet(&mut self, fault: Fault) -> anyhow::Result<()> {
        let index = self.random.below(self.fleet.workers.len() as u64) as usize;
        match fault {
            Fault::WorkerKilled if self.fleet.workers.is_empty() => self.fleet.start_worker(),
            Fault::WorkerKilled => self.fleet.kill_worker(index),
            Fault::WorkerStarted if self.fleet.workers.len() >= WORKERS_MAX => self.fleet.kill_worker(0),
            Fault::WorkerStarted => self.fleet.start_worker(),
            Fault::WorkerHangs => {
                let time = self.seconds(8);
                let Some(worker) = self.fleet.workers.get(index) else { return Ok(()) };
                worker.signal(Signal::STOP)?;
                pause(time);
                worker.signal(Signal::CONT)
            }
            Fault::RedisHangs => {
                let time = self.seconds(8);
                self.redis.freeze()?;
                pause(time);
                self.redis.thaw()
            }
            Fault::RedisKilled => {
                let time = self.seconds(4);
                self.redis.kill()?;
                pause(time);
                self.redis.restart()
            }
            Fault::RedisSlow => {
                let time = self.seconds(5);
                self.slow.delay(Duration::from_millis(100));
                pause(time);
                self.slow.delay(Duration::ZERO);
                Ok(())
            }
            Fault::CandidateSlow => {
                let time = self.seconds(8);
                self.fleet.b.delay(Duration::from_millis(50));
                pause(time);
                self.fleet.b.delay(Duration::ZERO);
                Ok(())
            }
            Fault::CaptureRestarted => {
                self.ledger.capture_ends(&self.fleet)?;
                self.fleet.end_capture()?;
                self.start_capture()
            }
            Fault::CaptureRestartedWithoutRedis => {
                self.ledger.capture_ends(&self.fleet)?;
                let time = self.seconds(3);
                self.redis.freeze()?;
                pause(time);
                let ended = self.fleet.end_capture();
                self.redis.thaw()?;
                ended?;
                self.start_capture()
            }
            Fault::CaptureKilled => {
                self.ledger.capture_dies(&self.fleet)?;
                self.ledger.kill_capture(&mut self.fleet)?;
                self.start_capture()
            }
            Fault::CaptureKilledWithoutRedis => {
                self.ledger.capture_dies(&self.fleet)?;
                let time = self.seconds(6);
                self.redis.freeze()?;
                pause(time);
                let killed = self.ledger.kill_capture(&mut self.fleet);
                self.redis.thaw()?;
                killed?;
                self.start_capture()
            }
            Fault::RedisEmptied => self.ledger.empty(&mut self.fleet, &mut self.redis),
        }
    }

    fn start_capture(&mut self) -> anyhow::Result<()> {
        self.fleet.start_capture()?;
        self.ledger.capture_started(&self.fleet)
    }
}
