//! `cargo xtask bench`: what capture costs A, how fast packets become exchanges, what a replayed request costs.
//!
//! Judges nothing: it prints medians of rounds with and without us that take turns, so that both saw the same
//! machine.
#![expect(clippy::print_stdout, reason = "the numbers are for the person at the terminal")]

mod offline;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use understudy_tests::app::Faults;
use understudy_tests::clock::{now, pause};
use understudy_tests::daemon::{Daemon, Finished, finish};
use understudy_tests::load::{Load, constant};
use understudy_tests::prereq::{KERNEL, Prerequisite, missing};
use understudy_tests::process::Place;
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};
use xshell::{Shell, cmd};

use crate::{probe, root, setup};

/// Rounds of each kind; odd, so that there is a median.
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(5);
/// Capture drains every 10 ms and publishes its counts every 100 ms.
const QUIET: Duration = Duration::from_millis(300);
const CONSTANT_PER_SECOND: u32 = 20_000;
const CONNECTIONS: u32 = 16;

/// What one round showed.
#[derive(Clone, Copy, Debug)]
struct Round {
    answered: u64,
    /// Requests answered per second.
    rate: f64,
    /// CPU time of the whole host per 1,000 requests, in milliseconds.
    cpu_ms: f64,
    /// A's median latency in microseconds.
    latency_us: f64,
    capture: Option<Captured>,
}

/// What capture did in a round.
#[derive(Clone, Copy, Debug)]
struct Captured {
    exchanges: u64,
    /// Packets that a full ring lost.
    lost: u64,
    /// Packets of connections that were left out because capture costs too much.
    left_out: u64,
    memory_kib: u64,
}

/// Two kinds of load.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many requests a second.
    Constant,
    /// As many as A answers, by `wrk`.
    Saturation,
}

/// Runs all three measurements.
///
/// # Errors
/// When something is missing or fails; never because a number is bad.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::run()?;
    let tools = [Prerequisite::Tool("nginx"), Prerequisite::Tool("wrk")];
    if let Some(reason) = missing(KERNEL).or_else(|| missing(&tools)) {
        bail!("the bench cannot run here: {reason}");
    }
    probe::run()?;
    let sh = Shell::new()?;
    let _in_root = sh.push_dir(root());
    cmd!(sh, "cargo build --release --package understudy").quiet().run()?;
    cmd!(sh, "cargo build --package understudy-tests --bin understudy-lab-app").quiet().run()?;

    let files = StaticFiles::write()?;
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let a = Nginx::start(&Place::Here, free_address()?, &files, app.address)?;
    println!(
        "1. What capture costs A: nginx on loopback, medians of {ROUNDS} rounds of {ROUND_TIME:?} each way"
    );
    compare(a.address, Kind::Constant, &format!("{CONSTANT_PER_SECOND} requests a second"))?;
    compare(a.address, Kind::Saturation, "as fast as nginx answers (wrk)")?;
    println!("\n2. From packets in memory to exchanges, one core");
    cmd!(sh, "cargo bench --quiet --package understudy --bench pair").quiet().run()?;
    println!("\n3. Replay to nginx on loopback");
    cmd!(sh, "cargo bench --quiet --package understudy --bench replay").quiet().run()?;
    println!("\n4. Comparing two answers, and keeping what came of it, one core");
    cmd!(sh, "cargo bench --quiet --package understudy --bench compare").quiet().run()?;
    offline::run(&sh)
}

/// Rounds without and with capture, in turn.
fn compare(a: SocketAddr, kind: Kind, what: &str) -> anyhow::Result<()> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(round(a, kind)?);
        let admin = free_address()?;
        let mut command = Place::Here.command(root().join("target/release/understudy"));
        command.args(["inspect", "--quiet", "--port", &a.port().to_string(), "--admin", &admin.to_string()]);
        let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
        let mut round = round(a, kind)?;
        round.capture = Some(captured(&daemon)?);
        daemon.interrupt()?;
        with.push(round);
    }
    println!("\n   {what}");
    println!("   {:<38}{:>12}{:>12}{:>9}", "", "without", "with", "ratio");
    let row = |name: &str, part: fn(&Round) -> f64| {
        let (off, on) = (median(&without, part), median(&with, part));
        println!("   {name:<38}{off:>12.1}{on:>12.1}{:>9.3}", on / off);
    };
    row("requests per second", |round| round.rate);
    row("CPU of the host, ms per 1,000 requests", |round| round.cpu_ms);
    row("median latency of A, µs", |round| round.latency_us);
    let answered: u64 = with.iter().map(|round| round.answered).sum();
    let captured: Vec<Captured> = with.iter().filter_map(|round| round.capture).collect();
    let exchanges: u64 = captured.iter().map(|captured| captured.exchanges).sum();
    let lost: u64 = captured.iter().map(|captured| captured.lost).sum();
    let left_out: u64 = captured.iter().map(|captured| captured.left_out).sum();
    let memory = captured.iter().map(|captured| captured.memory_kib).max().unwrap_or_default();
    println!(
        "   {exchanges} exchanges for {answered} answers; packets lost {lost}, left out {left_out}; {} MB at most",
        memory / 1_000
    );
    Ok(())
}

fn round(a: SocketAddr, kind: Kind) -> anyhow::Result<Round> {
    let (start, idle) = (now(), idle_time()?);
    let (answered, latency_us) = match kind {
        Kind::Constant => {
            let (per_second, connections) = (CONSTANT_PER_SECOND, CONNECTIONS);
            let load = Load { target: "/ping", per_second, connections, time: ROUND_TIME };
            let result = constant(a, load)?;
            // Each connection asks once more, to learn the length of an answer.
            (result.answered + u64::from(connections), result.median.as_secs_f64() * 1e6)
        }
        Kind::Saturation => {
            let mut command = Command::new("wrk");
            let (seconds, connections) = (ROUND_TIME.as_secs(), CONNECTIONS * 2);
            command.args(["--threads", "1", "--latency"]);
            command.args([format!("-d{seconds}s"), format!("-c{connections}"), format!("http://{a}/ping")]);
            let Finished { code, stdout, stderr } = finish(&mut command, ROUND_TIME * 3)?;
            ensure!(code == 0, "wrk ended with {code}: {stderr}");
            wrk(&stdout).with_context(|| format!("failed to read what wrk wrote: {stdout}"))?
        }
    };
    let cpus = std::thread::available_parallelism()?.get() as f64;
    let busy = start.elapsed().as_secs_f64() * cpus - (idle_time()? - idle).as_secs_f64();
    let cpu_ms = busy * 1e3 / (answered as f64 / 1_000.0);
    let rate = answered as f64 / ROUND_TIME.as_secs_f64();
    Ok(Round { answered, rate, cpu_ms, latency_us, capture: None })
}

/// Counts after the last exchange has come through: when nothing has come for longer than a drain and a publication
/// of counts take.
fn captured(daemon: &Daemon) -> anyhow::Result<Captured> {
    let mut scrape: Scrape = daemon.settle(1)?;
    loop {
        pause(QUIET);
        let next = daemon.settle(1)?;
        let seen = |scrape: &Scrape| scrape.sum("understudy_exchanges_seen_total", &[]);
        let (before, now) = (seen(&scrape)?, seen(&next)?);
        scrape = next;
        if before == now {
            break;
        }
    }
    Ok(Captured {
        exchanges: scrape.sum("understudy_exchanges_seen_total", &[])?,
        lost: scrape.sum("understudy_capture_drops_total", &[("reason", "ring_full")])?,
        left_out: scrape.sum("understudy_capture_drops_total", &[("reason", "sampled_out")])?,
        memory_kib: daemon.memory_kib_max()?,
    })
}

/// Time that the cores of this host were idle since it started, all of them together. The kernel measures it; the
/// busy time in `/proc/stat` it only samples, a hundred times a second, which short bursts of work fall between.
fn idle_time() -> anyhow::Result<Duration> {
    let uptime = std::fs::read_to_string("/proc/uptime").context("failed to read /proc/uptime")?;
    idle(&uptime).with_context(|| format!("/proc/uptime has no second number: {uptime}"))
}

/// Seconds since the start and seconds of idleness (proc_uptime(5)).
fn idle(uptime: &str) -> Option<Duration> {
    let seconds = uptime.split_whitespace().nth(1)?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Requests and the median latency in microseconds from wrk's report.
fn wrk(report: &str) -> Option<(u64, f64)> {
    let answered = report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let median = report.lines().find_map(|line| line.trim().strip_prefix("50%"))?.trim();
    let digits = median.trim_end_matches(char::is_alphabetic);
    let factor = match median.get(digits.len()..)? {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some((answered, digits.parse::<f64>().ok()? * factor))
}

fn median(rounds: &[Round], part: fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(part).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_wrk(report: &str, expected: Option<(u64, f64)>) {
        assert_eq!(wrk(report), expected, "{report}");
    }

    #[test]
    fn reads_what_wrk_writes() {
        let report = "  Latency Distribution\n     50%  228.00us\n     75%  300.00us\n  635124 requests in 5.00s, 90MB read\n";
        check_wrk(report, Some((635_124, 228.0)));
        check_wrk(&report.replace("228.00us", "1.50ms"), Some((635_124, 1_500.0)));
        check_wrk("unable to connect", None);
    }

    #[test]
    fn idle_time_is_the_second_number() {
        assert_eq!(idle("11710.25 20961.50\n"), Some(Duration::from_millis(20_961_500)));
        assert_eq!(idle("11710.25"), None);
    }
}
