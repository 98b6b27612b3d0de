//! What capture costs A: rounds without and with capture of A's port, in pairs.
//!
//! Judges nothing.
#![expect(clippy::print_stdout, reason = "the numbers are for the person at the terminal")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::app::Faults;
use understudy_tests::clock::{now, pause};
use understudy_tests::daemon::{Daemon, Finished, finish};
use understudy_tests::load::{Load, constant};
use understudy_tests::process::Place;
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};

use crate::root;

/// Pairs of rounds; odd, so that there is a median.
const PAIRS: usize = 9;
const CONSTANT_TIME: Duration = Duration::from_secs(4);
/// Long enough to show what stays: the first second is a burst, which capture copies whole at any cost.
const SATURATION_TIME: Duration = Duration::from_secs(8);
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

// === impl Kind ===

impl Kind {
    /// How long a round lasts.
    fn time(self) -> Duration {
        match self {
            Kind::Constant => CONSTANT_TIME,
            Kind::Saturation => SATURATION_TIME,
        }
    }
}

/// Measures at a constant rate and at saturation; `understudy` must have been built for release, with the probe.
///
/// # Errors
/// When something fails; never because a number is bad.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = StaticFiles::write()?;
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let a = Nginx::start(&Place::Here, free_address()?, &files, app.address)?;
    println!(
        "\n1. What capture costs A: nginx on loopback, {PAIRS} pairs of rounds of {CONSTANT_TIME:?} and of \
         {SATURATION_TIME:?} without and with it"
    );
    compare(a.address, Kind::Constant, &format!("{CONSTANT_PER_SECOND} requests a second"))?;
    compare(a.address, Kind::Saturation, "as fast as nginx answers (wrk)")
}

/// Pairs of rounds, without capture first in every other one, so that neither kind always has the cooler machine.
fn compare(a: SocketAddr, kind: Kind, what: &str) -> anyhow::Result<()> {
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        pairs.push(if number % 2 == 0 {
            let without = round(a, kind)?;
            (without, captured_round(a, kind)?)
        } else {
            let with = captured_round(a, kind)?;
            (round(a, kind)?, with)
        });
    }
    println!("\n   {what}");
    println!("   {:<40}{:>12}{:>12}{:>9}{:>22}", "", "without", "with", "ratio", "ratio of each pair");
    let row = |name: &str, part: fn(&Round) -> f64| {
        let off = median(pairs.iter().map(|(without, _)| part(without)));
        let on = median(pairs.iter().map(|(_, with)| part(with)));
        let ratios: Vec<f64> = pairs.iter().map(|(without, with)| part(with) / part(without)).collect();
        let (low, high) = ratios
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
        let spread = format!("{:.3} ({low:.2} to {high:.2})", median(ratios.iter().copied()));
        println!("   {name:<40}{off:>12.1}{on:>12.1}{:>9.3}{spread:>22}", on / off);
    };
    row("requests per second", |round| round.rate);
    row("CPU of the host, ms per 1,000 requests", |round| round.cpu_ms);
    row("median latency of A, µs", |round| round.latency_us);
    let with = || pairs.iter().map(|(_, with)| with);
    let answered: u64 = with().map(|round| round.answered).sum();
    let captured: Vec<Captured> = with().filter_map(|round| round.capture).collect();
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

fn captured_round(a: SocketAddr, kind: Kind) -> anyhow::Result<Round> {
    let admin = free_address()?;
    let mut command = Place::Here.command(root().join("target/release/understudy"));
    command.args(["inspect", "--quiet", "--port", &a.port().to_string(), "--admin", &admin.to_string()]);
    let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
    let round = round(a, kind)?;
    let capture = Some(captured(&daemon)?);
    daemon.interrupt()?;
    Ok(Round { capture, ..round })
}

fn round(a: SocketAddr, kind: Kind) -> anyhow::Result<Round> {
    let (start, idle) = (now(), idle_time()?);
    let (answered, latency_us) = match kind {
        Kind::Constant => {
            let (per_second, connections) = (CONSTANT_PER_SECOND, CONNECTIONS);
            let load = Load { target: "/ping", per_second, connections, time: CONSTANT_TIME };
            let result = constant(a, load)?;
            // Each connection asks once more, to learn the length of an answer.
            (result.answered + u64::from(connections), result.median.as_secs_f64() * 1e6)
        }
        Kind::Saturation => {
            let mut command = Command::new("wrk");
            let (seconds, connections) = (SATURATION_TIME.as_secs(), CONNECTIONS * 2);
            command.args(["--threads", "1", "--latency"]);
            command.args([format!("-d{seconds}s"), format!("-c{connections}"), format!("http://{a}/ping")]);
            let Finished { code, stdout, stderr } = finish(&mut command, SATURATION_TIME * 3)?;
            ensure!(code == 0, "wrk ended with {code}: {stderr}");
            wrk(&stdout).with_context(|| format!("failed to read what wrk wrote: {stdout}"))?
        }
    };
    let cpus = std::thread::available_parallelism()?.get() as f64;
    let busy = start.elapsed().as_secs_f64() * cpus - (idle_time()? - idle).as_secs_f64();
    let cpu_ms = busy * 1e3 / (answered as f64 / 1_000.0);
    let rate = answered as f64 / kind.time().as_secs_f64();
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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
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
