//! `inspect --pcap` and `run --pcap`: no root, no probe, nothing shed, and an end of their own.
//!
//! What the captures hold is written here, so that the truth about them is known.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use understudy_tests::app::Faults;
use understudy_tests::client::{get_text, request};
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Finished, finish};
use understudy_tests::pcap::PcapFile;
use understudy_tests::prereq::{Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::server::{App, free_address};

use crate::Case;

const NEEDS: &[Prerequisite] = &[Prerequisite::Tool("setpriv")];

pub(crate) const CASES: &[Case] = &[
    Case { name: "nothing_in_a_file_is_shed", needs: NEEDS, run: everything },
    Case { name: "standard_input_is_a_file_like_any_other", needs: NEEDS, run: standard_input },
    Case { name: "ports_select_what_is_read_of_a_file", needs: NEEDS, run: ports },
    Case { name: "a_cut_file_says_so", needs: NEEDS, run: cut },
    Case { name: "a_damaged_file_shows_what_stands_before_and_fails", needs: NEEDS, run: damaged },
    Case { name: "what_is_not_read_is_named_with_its_number_of_packets", needs: NEEDS, run: unsupported },
    Case { name: "what_is_no_capture_is_refused", needs: NEEDS, run: refused },
    Case { name: "a_run_over_a_file_can_be_stopped", needs: NEEDS, run: stopped },
    Case {
        name: "a_run_over_a_file_that_was_read_can_be_interrupted",
        needs: NEEDS,
        run: || stopped_when_read(Signal::INT),
    },
    Case {
        name: "a_run_over_a_file_that_was_read_can_be_terminated",
        needs: NEEDS,
        run: || stopped_when_read(Signal::TERM),
    },
    Case { name: "a_run_over_a_file_ends_at_its_verdict", needs: NEEDS, run: until_verdict },
    Case {
        name: "the_same_service_passes_against_its_own_capture",
        needs: NEEDS,
        run: || replayed(Faults::None, 0),
    },
    Case {
        name: "a_faulty_candidate_fails_against_a_capture",
        needs: NEEDS,
        run: || replayed(Faults::Planted, 1),
    },
];

/// How long reading or replaying one of these files may take.
const END_WAIT_MAX: Duration = Duration::from_secs(60);

/// Exchanges that the queue between reading and replaying holds by default.
const QUEUE_EXCHANGES: u64 = 4_096;

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 8080);

fn client(number: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 10_000 + number)
}

/// A capture with this many connections of this many exchanges each, one connection a second.
fn synthetic(connections: u16, exchanges: usize) -> PcapFile {
    spaced(connections, exchanges, Duration::from_secs(1))
}

/// The same with this time between connections.
fn spaced(connections: u16, exchanges: usize, apart: Duration) -> PcapFile {
    let mut file = PcapFile::default();
    for number in 0..connections {
        let pairs: Vec<_> = (0..exchanges)
            .map(|n| {
                let body = format!("answer {n} of connection {number}");
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                (request("GET", &format!("/{number}/{n}"), SocketAddr::V4(SERVER), &[]), answer.into_bytes())
            })
            .collect();
        let start = Duration::from_secs(1_700_000_000) + apart * u32::from(number);
        file.connection(client(number), SERVER, start, Duration::from_millis(1), &pairs);
    }
    file
}

fn inspect(arguments: &[&str]) -> anyhow::Result<Finished> {
    finish(Command::new(daemon_program()).arg("inspect").args(arguments), END_WAIT_MAX)
}

/// A folder with this file in it, and the file's path.
fn written(bytes: &[u8]) -> anyhow::Result<(TempDir, String)> {
    let folder = TempDir::new()?;
    let path = folder.path().join("capture.pcap");
    std::fs::write(&path, bytes)?;
    let path = path.to_str().context("a path in UTF-8")?.to_owned();
    Ok((folder, path))
}

/// The number at the end of the ledger's line with this label.
fn ledger(finished: &Finished, label: &str) -> anyhow::Result<u64> {
    let line = finished.stderr.lines().find_map(|line| line.trim_start().strip_prefix(label));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no `{label}` in {}", finished.stderr))
}

fn shows_all(finished: &Finished, connections: usize, exchanges: usize) -> anyhow::Result<()> {
    ensure!(finished.code == 0, "exit code {}: {}", finished.code, finished.stderr);
    let all = connections * exchanges;
    let lines = finished.stdout.lines().count();
    ensure!(lines == all, "{lines} of {all} exchanges: {}", finished.stderr);
    ensure!(ledger(finished, "shed")? == 0, "shed: {}", finished.stderr);
    ensure!(ledger(finished, "exchanges")? as usize == all, "{}", finished.stderr);
    let last: Value = serde_json::from_str(finished.stdout.lines().last().context("a line")?)?;
    let target = format!("/{}/{}", connections - 1, exchanges - 1);
    ensure!(last["request"]["target"] == target.as_str(), "the last one is {last}");
    ensure!(
        last["response"]["complete"] == true && last["marks"].as_array().is_some_and(Vec::is_empty),
        "{last}"
    );
    Ok(())
}

/// More exchanges than the queue between reading and showing holds.
fn everything() -> anyhow::Result<()> {
    let (_folder, path) = written(&synthetic(200, 100).bytes())?;
    shows_all(&inspect(&["--json", "--pcap", &path])?, 200, 100)
}

fn standard_input() -> anyhow::Result<()> {
    let file = synthetic(3, 10);
    let mut child = Command::new(daemon_program())
        .args(["inspect", "--json", "--pcap", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("standard input")?;
    // In two parts, as from a pipe whose other end is slow.
    let bytes = file.bytes();
    let (start, rest) = bytes.split_at(1_001);
    stdin.write_all(start)?;
    stdin.flush()?;
    stdin.write_all(rest)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let code = output.status.code().context("an exit code")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    shows_all(&Finished { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }, 3, 10)
}

fn ports() -> anyhow::Result<()> {
    let (_folder, path) = written(&synthetic(2, 5).bytes())?;
    shows_all(&inspect(&["--json", "--pcap", &path, "--port", "8080"])?, 2, 5)?;
    let other = inspect(&["--json", "--pcap", &path, "--port", "80"])?;
    ensure!(other.code == 0 && other.stdout.is_empty(), "{}", other.stdout);
    ensure!(ledger(&other, "unused: other_port")? > 0, "{}", other.stderr);
    Ok(())
}

fn cut() -> anyhow::Result<()> {
    let file = synthetic(1, 10);
    let (_folder, path) = written(&file.bytes()[..file.bytes().len() / 2])?;
    let finished = inspect(&["--json", "--pcap", &path])?;
    ensure!(finished.code == 0, "exit code {}", finished.code);
    ensure!(ledger(&finished, "the file is cut at byte")? > 24, "{}", finished.stderr);
    let lines: Vec<Value> = finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!((3..10).contains(&lines.len()), "{} exchanges", lines.len());
    let whole = lines.iter().filter(|line| line["response"]["complete"] == true).count();
    ensure!(whole + 1 >= lines.len(), "only the last exchange can be cut: {}", finished.stdout);
    let marked = |line: &&Value| line["marks"].as_array().is_some_and(|marks| !marks.is_empty());
    ensure!(lines.iter().filter(marked).count() == lines.len() - whole, "{}", finished.stdout);
    Ok(())
}

fn damaged() -> anyhow::Result<()> {
    let file = synthetic(1, 5);
    let huge = [1u32, 0, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat();
    let (_folder, path) = written(&[file.bytes(), huge].concat())?;
    let finished = inspect(&["--json", "--pcap", &path])?;
    ensure!(finished.code == 2 && finished.stdout.lines().count() == 5, "{}", finished.stderr);
    let place = format!("damaged at byte {}", file.bytes().len());
    ensure!(finished.stderr.contains(&path) && finished.stderr.contains(&place), "{}", finished.stderr);
    ensure!(ledger(&finished, "exchanges")? == 5, "the ledger is shown all the same: {}", finished.stderr);
    Ok(())
}

fn unsupported() -> anyhow::Result<()> {
    for (link_type, name) in [(105u32, "802.11"), (147, "link type 147")] {
        let mut bytes = synthetic(1, 5).bytes().to_vec();
        // The last field of the file's header.
        bytes[20..24].copy_from_slice(&link_type.to_le_bytes());
        let (_folder, path) = written(&bytes)?;
        let finished = inspect(&["--json", "--pcap", &path])?;
        ensure!(finished.code == 0 && finished.stdout.is_empty(), "{}{}", finished.stdout, finished.stderr);
        let all = ledger(&finished, "packets read")?;
        let named = ledger(&finished, &format!("not read: {name}"))?;
        ensure!(named == all && all > 10, "{}", finished.stderr);
    }
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    let (_folder, path) = written(b"GET / HTTP/1.1\r\n")?;
    let finished = inspect(&["--pcap", &path])?;
    ensure!(finished.code == 2, "exit code {}", finished.code);
    ensure!(finished.stderr.contains(&path) && finished.stderr.contains("47 45 54"), "{}", finished.stderr);
    for meaningless in [&["--cgroup", "/"][..], &["--for", "1s"]] {
        let finished = inspect(&[&["--pcap", &path][..], meaningless].concat())?;
        ensure!(finished.code == 2 && finished.stderr.contains("cannot be used with"), "{}", finished.stderr);
    }
    Ok(())
}

/// The file would take minutes, and holds more than the queue; all that reads it waits when the signal comes.
fn stopped() -> anyhow::Result<()> {
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let (_folder, daemon) = run_over(&synthetic(200, 100), &b, &[])?;
    wait_until("a full queue", END_WAIT_MAX, || {
        let seen = daemon.scrape()?.sum("understudy_exchanges_seen_total", &[])?;
        Ok((seen > QUEUE_EXCHANGES).then_some(()))
    })?;
    let finished = daemon.interrupt()?;
    ensure!(ledger(&finished, "shed")? == 0, "{}", finished.stderr);
    ensure!(ledger(&finished, "drained")? >= QUEUE_EXCHANGES, "{}", finished.stderr);
    ensure!(!finished.stderr.contains("in flight"), "{}", finished.stderr);
    Ok(())
}

/// Replays this capture with these further arguments.
fn run_over(file: &PcapFile, b: &App, more: &[&str]) -> anyhow::Result<(TempDir, Daemon)> {
    let (folder, path) = written(&file.bytes())?;
    let admin = free_address()?;
    let mut command = Command::new(daemon_program());
    command
        .args(["run", "--pcap", &path, "--admin", &admin.to_string(), "--candidate"])
        .arg(format!("http://{}", b.address))
        .arg("--journal")
        .arg(folder.path().join("journal.db"))
        .args(more);
    let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
    Ok((folder, daemon))
}

/// The file is small enough to be read at once, and the times in it last for minutes.
fn stopped_when_read(signal: Signal) -> anyhow::Result<()> {
    const ALL: u16 = 300;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let (_folder, daemon) = run_over(&synthetic(ALL, 1), &b, &["--ask-once"])?;
    wait_until(
        "the third second of the file",
        END_WAIT_MAX,
        || Ok((b.received()?.len() >= 3).then_some(())),
    )?;
    let seen = daemon.scrape()?.sum("understudy_exchanges_seen_total", &[])?;
    ensure!(seen == u64::from(ALL), "{seen} of {ALL} exchanges were read within three seconds");
    let (status, _) = get_text(daemon.admin(), "/readyz")?;
    ensure!(status == 200, "not ready while it replays: {status}");
    daemon.signal(signal)?;
    let finished = daemon.join(DRAIN_WAIT_MAX)?;
    let sent = b.received()?.len() as u64;
    let drained = ledger(&finished, "drained")?;
    ensure!(drained + sent == u64::from(ALL), "{drained} drained, {sent} sent: {}", finished.stderr);
    ensure!(!finished.stderr.contains("in flight"), "{}", finished.stderr);
    ensure!(finished.stdout.contains("VERDICT: "), "no report: {}{}", finished.stdout, finished.stderr);
    Ok(())
}

/// All answers differ; there is a verdict long before the file's own time is over.
fn until_verdict() -> anyhow::Result<()> {
    const ALL: u16 = 2_000;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let file = spaced(ALL, 1, Duration::from_millis(50));
    let (_folder, daemon) = run_over(&file, &b, &["--ask-once", "--until-verdict"])?;
    let finished = daemon.join(END_WAIT_MAX)?;
    ensure!(finished.code == 1, "exit code {}: {}", finished.code, finished.stderr);
    ensure!(finished.stderr.contains("There is a verdict; stopping."), "{}", finished.stderr);
    let drained = ledger(&finished, "drained")?;
    ensure!(drained > u64::from(ALL) / 4, "{drained} drained: {}", finished.stderr);
    ensure!(finished.stdout.contains("VERDICT: FAIL"), "{}", finished.stdout);
    Ok(())
}

/// What the service at `address` says, byte for byte.
fn answer(address: SocketAddr, target: &str) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let ask = request("GET", target, address, &[("Connection", "close")]);
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&ask)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok((ask, bytes))
}

/// As many as it takes to say that hardly one in a hundred differs.
const EXCHANGES: u16 = 400;

/// Writes a capture of a service, and replays it to one with these faults.
fn replayed(faults: Faults, expected: i32) -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let mut file = PcapFile::default();
    for number in 0..EXCHANGES {
        let exchange = answer(a.address, &format!("/items/{number}"))?;
        let start = Duration::from_millis(1_700_000_000_000 + u64::from(number) * 20);
        // A took its time, so that nobody is slower.
        file.connection(client(number), SERVER, start, Duration::from_millis(200), &[exchange]);
    }
    let b = App::start(&Place::Here, free_address()?, faults)?;
    let (folder, path) = written(&file.bytes())?;
    let mut command = Command::new(daemon_program());
    command
        .args(["run", "--pcap", &path, "--speed", "10", "--ask-once", "--admin", "off", "--candidate"])
        .arg(format!("http://{}", b.address))
        .arg("--journal")
        .arg(folder.path().join("journal.db"));
    let finished = finish(&mut command, END_WAIT_MAX)?;
    ensure!(finished.code == expected, "exit code {}: {}{}", finished.code, finished.stdout, finished.stderr);
    let title = format!("A capture file {path} against B http://{}", b.address);
    ensure!(finished.stdout.contains(&title), "{}", finished.stdout);
    ensure!(
        b.received()?.len() == usize::from(EXCHANGES),
        "the candidate got {} requests",
        b.received()?.len()
    );
    ensure!(ledger(&finished, "shed")? == 0, "{}", finished.stderr);
    Ok(())
}
