//! What capture costs A: under a load that goes on while capture comes and goes; and what of a load it sees.
//!
//! Judges nothing.
#![expect(clippy::print_stdout, reason = "the numbers are for the person at the terminal")]

use std::net::SocketAddr;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use understudy_tests::app::Faults;
use understudy_tests::client::get_text;
use understudy_tests::clock::{now, pause};
use understudy_tests::daemon::{Daemon, Finished, finish};
use understudy_tests::load::{Answer, Load, answers};
use understudy_tests::process::Place;
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};

use crate::root;

const CONSTANT_PER_SECOND: u32 = 20_000;
const CONNECTIONS: u32 = 16;
/// How often a load with connections of its own is captured from its first packet on, and for how long.
const ROUNDS: u32 = 5;
const ROUND_TIME: Duration = Duration::from_secs(8);
/// Capture drains every 10 ms and publishes its counts every 100 ms.
const QUIET: Duration = Duration::from_millis(300);
/// For capture to come and to go.
const CHANGES_TIME_MAX: Duration = Duration::from_secs(3);

/// Two kinds of load.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many requests a second.
    Constant,
    /// As many as A answers, by `wrk`.
    Saturation,
}

/// A piece of a load's time.
#[derive(Clone, Debug)]
struct Window {
    /// From the start of the load.
    time: Range<Duration>,
    /// CPU time of the whole host in it.
    busy: Duration,
    /// What A answered in it.
    answered: u64,
}

/// What one window showed.
#[derive(Clone, Copy, Debug)]
struct Shown {
    /// Requests answered per second.
    rate: f64,
    /// CPU time of the whole host per 1,000 requests, in milliseconds.
    cpu_ms: f64,
    /// A's median latency in microseconds; not a number where the load does not say.
    latency_us: f64,
}

/// What capture made of a load.
#[derive(Clone, Copy, Debug)]
struct Captured {
    answered: u64,
    exchanges: u64,
    /// Packets that a full ring lost.
    lost: u64,
    /// Packets of connections that were left out because capture costs too much.
    left_out: u64,
    memory_kib: u64,
}

// === impl Kind ===

impl Kind {
    fn name(self) -> String {
        match self {
            Kind::Constant => format!("{CONSTANT_PER_SECOND} requests a second"),
            Kind::Saturation => "as fast as nginx answers (wrk)".to_owned(),
        }
    }

    /// How long capture is there at a time, and how long it is not.
    fn window_time(self) -> Duration {
        match self {
            Kind::Constant => Duration::from_secs(1),
            // Long enough to show what stays: the first second is a burst, which capture copies whole at any cost.
            Kind::Saturation => Duration::from_secs(8),
        }
    }

    /// How long the load goes on under which capture comes and goes.
    fn whole_time(self) -> Duration {
        match self {
            Kind::Constant => Duration::from_secs(150),
            Kind::Saturation => Duration::from_secs(220),
        }
    }

    /// Puts the load on A; gives how many requests were answered, and what is known of each answer.
    fn send(self, a: SocketAddr, time: Duration, start: Instant) -> anyhow::Result<(u64, Vec<Answer>)> {
        match self {
            Kind::Constant => {
                let (per_second, connections) = (CONSTANT_PER_SECOND, CONNECTIONS);
                let answers = answers(a, Load { target: "/ping", per_second, connections, time }, start)?;
                // Each connection asks once more, to learn the length of an answer.
                Ok((answers.len() as u64 + u64::from(connections), answers))
            }
            Kind::Saturation => {
                let (seconds, connections) = (time.as_secs(), CONNECTIONS * 2);
                let mut command = Command::new("wrk");
                command.args(["--threads", "1", &format!("-d{seconds}s"), &format!("-c{connections}")]);
                command.arg(format!("http://{a}/ping"));
                let Finished { code, stdout, stderr } = finish(&mut command, time + ROUND_TIME)?;
                ensure!(code == 0, "wrk ended with {code}: {stderr}");
                let answered =
                    wrk(&stdout).with_context(|| format!("failed to read what wrk wrote: {stdout}"))?;
                Ok((answered, Vec::new()))
            }
        }
    }
}

// === impl Window ===

impl Window {
    fn measure(a: SocketAddr, kind: Kind, start: Instant) -> anyhow::Result<Self> {
        let (from, busy, answered) = (start.elapsed(), busy_time()?, answered(a)?);
        pause(kind.window_time());
        Ok(Self {
            busy: busy_time()?.saturating_sub(busy),
            answered: self::answered(a)? - answered,
            time: from..start.elapsed(),
        })
    }

    fn shown(&self, answers: &[Answer]) -> Shown {
        let Self { time, busy, answered } = self;
        let inside = answers.iter().filter(|answer| time.contains(&answer.sent));
        Shown {
            rate: *answered as f64 / (time.end - time.start).as_secs_f64(),
            cpu_ms: busy.as_secs_f64() * 1e6 / *answered as f64,
            latency_us: median(inside.map(|answer| answer.took.as_secs_f64() * 1e6)),
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
    println!("\n1. What capture costs A: nginx on loopback");
    for kind in [Kind::Constant, Kind::Saturation] {
        cost(a.address, kind)?;
        seen(a.address, kind)?;
    }
    Ok(())
}

/// One load that goes on over the same connections, while capture comes and goes.
///
/// Loads with connections of their own differ by half in latency and by a third in rate, with or without capture: it
/// depends on which connections share a core with A's worker. Here only capture changes from one window to the next.
fn cost(a: SocketAddr, kind: Kind) -> anyhow::Result<()> {
    let (start, whole_time) = (now(), kind.whole_time());
    let until = whole_time.saturating_sub(kind.window_time() * 2 + CHANGES_TIME_MAX);
    let (windows, answers) = std::thread::scope(|scope| {
        let load = scope.spawn(move || kind.send(a, whole_time, start));
        pause(QUIET);
        let mut windows = vec![Window::measure(a, kind, start)?];
        while start.elapsed() < until {
            let daemon = capture(a)?;
            windows.push(Window::measure(a, kind, start)?);
            daemon.interrupt()?;
            windows.push(Window::measure(a, kind, start)?);
        }
        let (_, answers) = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((windows, answers))
    })?;
    let windows: Vec<Shown> = windows.iter().map(|window| window.shown(&answers)).collect();
    println!(
        "\n   {}; capture came and went {} times, each {:?} with it is compared to those before and after",
        kind.name(),
        windows.len() / 2,
        kind.window_time(),
    );
    println!("   {:<40}{:>12}{:>12}{:>34}", "", "without", "with", "ratio (its median's 95 % bounds)");
    row("requests per second", &windows, |shown| shown.rate);
    row("CPU of the host, ms per 1,000 requests", &windows, |shown| shown.cpu_ms);
    if !answers.is_empty() {
        row("median latency of A, µs", &windows, |shown| shown.latency_us);
    }
    Ok(())
}

/// Prints one quantity of windows, of which every other is with capture.
fn row(name: &str, windows: &[Shown], quantity: fn(&Shown) -> f64) {
    let values: Vec<f64> = windows.iter().map(quantity).collect();
    let without = median(values.iter().step_by(2).copied());
    let with = median(values.iter().skip(1).step_by(2).copied());
    let ratios: Vec<f64> = values
        .windows(3)
        .step_by(2)
        .filter_map(|three| match three {
            [before, with, after] => Some(2.0 * with / (before + after)),
            _ => None,
        })
        .collect();
    let (low, high) = median_bounds(ratios.clone());
    let ratio = format!("{:.3} ({low:.3} to {high:.3})", median(ratios.into_iter()));
    println!("   {name:<40}{without:>12.1}{with:>12.1}{ratio:>34}");
}

/// Captures loads with connections of their own, and counts.
fn seen(a: SocketAddr, kind: Kind) -> anyhow::Result<()> {
    let rounds = (0..ROUNDS).map(|_| captured(a, kind)).collect::<anyhow::Result<Vec<_>>>()?;
    let sum = |part: fn(&Captured) -> u64| rounds.iter().map(part).sum::<u64>();
    println!(
        "   {ROUNDS} times {ROUND_TIME:?} with connections of their own: {} exchanges for {} answers; packets lost {}, left out \
         {}; {} MB at most",
        sum(|round| round.exchanges),
        sum(|round| round.answered),
        sum(|round| round.lost),
        sum(|round| round.left_out),
        rounds.iter().map(|round| round.memory_kib).max().unwrap_or_default() / 1_000
    );
    Ok(())
}

/// Capture of A's port, ready.
fn capture(a: SocketAddr) -> anyhow::Result<Daemon> {
    let admin = free_address()?;
    let mut command = Place::Here.command(root().join("target/release/understudy"));
    command.args(["inspect", "--quiet", "--port", &a.port().to_string(), "--admin", &admin.to_string()]);
    Daemon::start(&Place::Here, &mut command, admin)
}

/// Counts after the last exchange has come through: when nothing has come for longer than a drain and a publication
/// of counts take.
fn captured(a: SocketAddr, kind: Kind) -> anyhow::Result<Captured> {
    let daemon = capture(a)?;
    let (answered, _) = kind.send(a, ROUND_TIME, now())?;
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
    let captured = Captured {
        answered,
        exchanges: scrape.sum("understudy_exchanges_seen_total", &[])?,
        lost: scrape.sum("understudy_capture_drops_total", &[("reason", "ring_full")])?,
        left_out: scrape.sum("understudy_capture_drops_total", &[("reason", "sampled_out")])?,
        memory_kib: daemon.memory_kib_max()?,
    };
    daemon.interrupt()?;
    Ok(captured)
}

/// Requests that A has taken, by its own count.
fn answered(a: SocketAddr) -> anyhow::Result<u64> {
    let (status, page) = get_text(a, "/counts")?;
    requests(&page).with_context(|| format!("A does not tell its counts: {status} {page}"))
}

/// The third number of the third line of nginx's `stub_status`.
fn requests(page: &str) -> Option<u64> {
    page.lines().nth(2)?.split_whitespace().nth(2)?.parse().ok()
}

/// Between these the median lies that the values are drawn around, 19 times in 20: the ranks of the sign test, by the normal
/// approximation of the binomial (Conover, Practical Nonparametric Statistics, section 3.2).
fn median_bounds(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let reach = 1.96 * count.sqrt() / 2.0;
    let low = (count / 2.0 - reach).floor().max(0.0) as usize;
    let at = |rank: usize| values.get(rank).copied().unwrap_or(f64::NAN);
    (at(low), at(values.len().saturating_sub(low + 1)))
}

/// Time that the cores of this host were not idle since it started, all of them together. The kernel measures idleness; the
/// busy time in `/proc/stat` it only samples, a hundred times a second, which short bursts of work fall between.
fn busy_time() -> anyhow::Result<Duration> {
    let cpus = u32::try_from(std::thread::available_parallelism()?.get())?;
    let uptime = std::fs::read_to_string("/proc/uptime").context("failed to read /proc/uptime")?;
    busy(&uptime, cpus).with_context(|| format!("/proc/uptime has not two numbers: {uptime}"))
}

/// From seconds since the start and seconds of idleness (proc_uptime(5)).
fn busy(uptime: &str, cpus: u32) -> Option<Duration> {
    let mut seconds =
        uptime.split_whitespace().map(|word| Duration::try_from_secs_f64(word.parse().ok()?).ok());
    let (up, idle) = (seconds.next()??, seconds.next()??);
    Some((up * cpus).saturating_sub(idle))
}

/// Requests, from wrk's report.
fn wrk(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_writes() {
        assert_eq!(wrk("Running 5s test\n  635124 requests in 5.00s, 90MB read\n"), Some(635_124));
        assert_eq!(wrk("unable to connect"), None);
    }

    #[test]
    fn reads_what_nginx_counts() {
        let page = "Active connections: 1 \nserver accepts handled requests\n 5 5 1234 \nReading: 0 Writing: 1 Waiting: 0 \n";
        assert_eq!(requests(page), Some(1_234));
        assert_eq!(requests("<html>"), None);
    }

    #[test]
    fn cores_are_busy_when_they_are_not_idle() {
        assert_eq!(busy("11710.25 20961.50\n", 2), Some(Duration::from_millis(2_459_000)));
        assert_eq!(busy("11710.25", 2), None);
    }

    #[test]
    fn the_median_lies_between_its_bounds() {
        let values = || (1..=41).rev().map(f64::from);
        assert_eq!((median(values()), median_bounds(values().collect())), (21.0, (15.0, 27.0)));
    }
}
