//! From capture files to exchanges: `understudy` and whichever of tshark, httpry and tcpflow are here, on one core.
//!
//! Judges nothing. The others do less or other work (httpry reads heads in single packets, tcpflow writes streams to
//! disk), which the table says.
#![expect(clippy::print_stdout, reason = "the numbers are for the person at the terminal")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use xshell::{Shell, cmd};

use crate::root;

/// A capture file of `userspace/benches/pair.rs`, and what it holds.
struct Capture {
    path: String,
    exchanges: u64,
    body_bytes: u64,
}

/// A program that reads capture files.
struct Peer {
    program: &'static str,
    does: &'static str,
    arguments: fn(&str) -> Vec<String>,
}

/// Rounds of ours, of which the median counts; odd. The others take long enough for one.
const ROUNDS: usize = 5;
const CAPTURES: [&str; 3] = ["small", "bodies", "disorder"];
/// The server's port in the captures.
const PORT: &str = "8080";

const PEERS: [Peer; 3] = [
    Peer {
        program: "tshark",
        does: "method and status of each message, streams reassembled",
        arguments: |file| {
            let fields =
                ["-T", "fields", "-e", "tcp.stream", "-e", "http.request.uri", "-e", "http.response.code"];
            let options = ["-n", "-o", "tcp.desegment_tcp_streams:TRUE", "-o", "http.desegment_body:TRUE"];
            let order =
                ["-o", "tcp.reassemble_out_of_order:TRUE", "-d", "tcp.port==8080,http", "-Y", "http", "-r"];
            [&options[..], &order, &[file], &fields].concat().into_iter().map(str::to_owned).collect()
        },
    },
    Peer {
        program: "httpry",
        does: "heads that begin a packet, nothing reassembled or paired",
        arguments: |file| ["-q", "-o", "/dev/null", "-r", file].map(str::to_owned).to_vec(),
    },
    Peer {
        program: "tcpflow",
        does: "each direction into a file of its own, no HTTP",
        arguments: |file| ["-q", "-o", FLOWS, "-r", file].map(str::to_owned).to_vec(),
    },
];

/// Where tcpflow puts its files.
const FLOWS: &str = "target/bench/flows";

/// Writes the captures and measures; `understudy` must have been built for release.
///
/// # Errors
/// When a program that is there fails; never because a number is bad.
pub(crate) fn run(sh: &Shell) -> anyhow::Result<()> {
    println!("\n5. From capture files to exchanges: seconds of CPU time of whole processes, on one core");
    sh.create_dir("target/bench")?;
    for name in CAPTURES {
        let capture = Capture::write(sh, name)?;
        let Capture { path, exchanges, body_bytes } = &capture;
        let ours = ["inspect", "--quiet", "--port", PORT, "--pcap", path].map(str::to_owned);
        let understudy = root().join("target/release/understudy");
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(time(&understudy, &ours)?);
        }
        times.sort();
        let own = times.get(ROUNDS / 2).copied().unwrap_or_default().as_secs_f64();
        println!("\n   {name}: {exchanges} exchanges, {:.1} MB of bodies", *body_bytes as f64 / 1e6);
        println!("   {:<12}{:>12}{:>16}{:>12}{:>9}", "", "seconds", "exchanges/s", "body MB/s", "ratio");
        let row = |program: &str, seconds: f64, does: &str| {
            let (rate, bytes) = (*exchanges as f64 / seconds, *body_bytes as f64 / seconds / 1e6);
            println!(
                "   {program:<12}{seconds:>12.3}{rate:>16.0}{bytes:>12.1}{:>9.1}  {does}",
                seconds / own
            );
        };
        row("understudy", own, "exchanges, paired, bodies whole");
        for Peer { program, does, arguments } in PEERS {
            if cmd!(sh, "which {program}").quiet().ignore_stdout().ignore_stderr().run().is_err() {
                println!("   {program:<12} is not installed");
                continue;
            }
            match time(Path::new(program), &arguments(path)) {
                Ok(time) => row(program, time.as_secs_f64(), does),
                Err(error) => println!("   {program:<12} {error:#}"),
            }
            sh.remove_path(FLOWS)?;
        }
        sh.remove_path(path)?;
    }
    instructions(sh)
}

/// The CPU time that one run of a program takes, its own and the kernel's for it. Other load on the machine is not in it.
fn time(program: &Path, arguments: &[String]) -> anyhow::Result<Duration> {
    let before = children()?;
    let status = Command::new("taskset")
        .args(["--cpu-list", "0"])
        .arg(program)
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("failed to run taskset")?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(children()?.saturating_sub(before))
}

/// CPU time of all children that have ended so far.
fn children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("failed to read the CPU time of children")?;
    let time =
        |time: TimeVal| Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Instructions for an exchange, which no other load on the machine changes.
fn instructions(sh: &Shell) -> anyhow::Result<()> {
    println!();
    for (name, exchanges) in [("small", 64 * 64), ("bodies", 32), ("disorder", 64)] {
        match counted(sh, "pair", &["--once", name], "*pair*play*")? {
            Some(counted) => println!("   {name}: {} instructions for each exchange", counted / exchanges),
            None => {
                println!("   instructions for each exchange: valgrind is not installed");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Instructions of the functions with such a name while a bench runs with these arguments; none without valgrind.
pub(super) fn counted(
    sh: &Shell,
    bench: &str,
    arguments: &[&str],
    function: &str,
) -> anyhow::Result<Option<u64>> {
    if cmd!(sh, "which valgrind").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        return Ok(None);
    }
    let runner =
        format!("valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect={function}");
    let report = cmd!(sh, "cargo bench --quiet --package understudy --bench {bench} -- {arguments...}")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", &runner)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &runner)
        .quiet()
        .ignore_stdout()
        .read_stderr()?;
    collected(&report).with_context(|| format!("valgrind counted nothing: {report}")).map(Some)
}

/// `==7== Collected : 123456` in callgrind's report.
fn collected(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

// === impl Capture ===

impl Capture {
    fn write(sh: &Shell, name: &str) -> anyhow::Result<Self> {
        let path = root().join("target/bench").join(format!("{name}.pcap")).display().to_string();
        let said = cmd!(sh, "cargo bench --quiet --package understudy --bench pair -- --write {name} {path}")
            .quiet()
            .read()?;
        let mut numbers = said.split(' ').filter_map(|word| word.parse().ok());
        let (exchanges, body_bytes) =
            numbers.next().zip(numbers.next()).with_context(|| format!("the bench said {said}"))?;
        Ok(Self { path, exchanges, body_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_callgrind_writes() {
        let report = "==12== Events    : Ir\n==12== Collected : 31543210\n==12==\n";
        assert_eq!(collected(report), Some(31_543_210));
        assert_eq!(collected("==12== command not found"), None);
    }
}
