//! A capture and workers as processes of their own, with Redis and slow servers between them, and the sums that must hold.
//!
//! Trusts no daemon alone: what captures say they handed over is compared with what the books in Redis say came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use crate::app::Faults;
use crate::clock::wait_until;
use crate::daemon::{Daemon, Finished, Settings, Workspace};
use crate::mix::DEMO_ROUTES;
use crate::prereq::daemon_program;
use crate::process::Place;
use crate::proxy::Proxy;
use crate::server::{App, Nginx, StaticFiles, free_address};

/// How long a capture may take to end: the drain of capture and that of the upload, and one second for the machine.
const CAPTURE_END_MAX: Duration = Duration::from_secs(12);
/// How long a worker may take to end: the drain of the replay, and the last settlements.
const WORKER_END_MAX: Duration = Duration::from_secs(12);
/// Most memory that a daemon may hold at any time, in KiB: its bounds for what waits (32 MiB in a worker and before the
/// upload, 16 MiB on the way, 8 MiB of the ring) with as much again for what the bounds do not count, unoptimised.
const MEMORY_KIB_MAX: u64 = 160 << 10;
/// Splits the answers of one `redis-cli` to several commands.
const SPLIT: &str = "----";

/// What differs between tests.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Addresses of Redis, as the captures and the workers see it.
    pub redis: Vec<String>,
    /// Ports of all servers of Redis on loopback, as the sums are read.
    pub ports: Vec<u16>,
    /// Streams.
    pub shards: u32,
    /// What makes a session.
    pub session: &'static str,
    /// More lines of `[queue]`.
    pub queue: String,
    /// Lines of `[experiment.replay]`.
    pub replay: String,
    /// Variables of the environment of captures and workers.
    pub environment: Vec<(String, String)>,
}

/// Servers, a capture and workers.
#[derive(Debug)]
pub struct Hosts {
    /// A.
    pub a: Nginx,
    /// What stands before B.
    pub b: Proxy,
    /// The sums in Redis.
    pub books: Books,
    /// The running capture, if there is one.
    pub capture: Option<Daemon>,
    /// Workers that run, the oldest first.
    pub workers: Vec<Daemon>,
    /// Kept alive.
    _servers: (StaticFiles, App, App, Nginx),
    workspace: Workspace,
    admin: std::net::SocketAddr,
    environment: Vec<(String, String)>,
    /// Workers started so far; each has a journal of its own.
    started: usize,
    /// What captures that have ended said.
    ended: Captured,
}

/// What captures say of the exchanges that they saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// All.
    pub seen: u64,
    /// By fate, those in flight among them.
    pub fates: BTreeMap<String, u64>,
}

/// Reads the books of the experiment.
#[derive(Clone, Debug)]
pub struct Books {
    ports: Vec<u16>,
    shards: u32,
}

/// One reading of the books, over all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Counters by name, without the fates.
    pub counters: BTreeMap<String, u64>,
    /// Entries by fate.
    pub fates: BTreeMap<String, u64>,
    /// Entries in the streams.
    pub waiting: u64,
    /// Entries that came into each shard.
    pub accepted: Vec<u64>,
}

// === impl Plan ===

impl Plan {
    /// Workers that notice soon when another one is gone, and short drains.
    pub fn new(redis: Vec<String>, ports: Vec<u16>) -> Self {
        Self {
            redis,
            ports,
            shards: 4,
            session: "connection",
            queue: "lease = \"1s\"\nclaim_after = \"2s\"".to_owned(),
            replay: "slot_wait_max = \"60s\"".to_owned(),
            environment: Vec::new(),
        }
    }
}

// === impl Hosts ===

impl Hosts {
    /// Starts servers and a capture, and no worker.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        let files = StaticFiles::write()?;
        let app_a = App::start(&Place::Here, free_address()?, Faults::None)?;
        let app_b = App::start(&Place::Here, free_address()?, Faults::None)?;
        let a = Nginx::start(&Place::Here, free_address()?, &files, app_a.address)?;
        let nginx_b = Nginx::start(&Place::Here, free_address()?, &files, app_b.address)?;
        let b = Proxy::start(free_address()?, nginx_b.address)?;
        let admin = free_address()?;
        let Plan { redis, ports, shards, session, queue, replay, environment } = plan;
        let mode = if redis.len() > 1 { "mode = \"cluster\"\n" } else { "" };
        let redis = if let [one] = redis.as_slice() { format!("{one:?}") } else { format!("{redis:?}") };
        let settings = Settings {
            port: a.address.port(),
            admin,
            candidate: b.address,
            isolated: true,
            routes: DEMO_ROUTES.to_vec(),
            more: format!(
                "noise.again = \"off\"\n[experiment.replay]\n{replay}\n[queue]\nredis = {redis}\n{mode}shards = {shards}\n\
                 session = {session:?}\n{queue}\n[spool]\npath = \"journal.db.spool\""
            ),
        };
        let workspace = Workspace::new(&settings.text())?;
        let mut hosts = Self {
            a,
            b,
            books: Books { ports: ports.clone(), shards: *shards },
            capture: None,
            workers: Vec::new(),
            _servers: (files, app_a, app_b, nginx_b),
            workspace,
            admin,
            environment: environment.clone(),
            started: 0,
            ended: Captured::default(),
        };
        hosts.start_capture()?;
        Ok(hosts)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Place::Here.command(daemon_program());
        command.arg(what).arg("--config").arg(self.workspace.config());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn folder(&self) -> PathBuf {
        self.workspace.journal().parent().unwrap_or(Path::new(".")).to_path_buf()
    }

    /// Starts a capture where none runs.
    ///
    /// # Errors
    /// When it does not come to capture.
    pub fn start_capture(&mut self) -> anyhow::Result<()> {
        ensure!(self.capture.is_none(), "a capture runs");
        self.capture = Some(Daemon::start(&Place::Here, &mut self.command("capture"), self.admin)?);
        Ok(())
    }

    /// The running capture.
    ///
    /// # Errors
    /// When there is none.
    pub fn capture(&self) -> anyhow::Result<&Daemon> {
        self.capture.as_ref().context("no capture runs")
    }

    /// Ends the capture and keeps what it says.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn end_capture(&mut self) -> anyhow::Result<()> {
        let capture = self.capture.take().context("no capture runs")?;
        check_memory(&capture)?;
        capture.signal(Signal::INT)?;
        let Finished { code, stdout, stderr } = capture.join(CAPTURE_END_MAX)?;
        ensure!(code == 0 && !stderr.contains("panicked"), "capture ended with {code}: {stderr}");
        let said = [stdout, stderr].concat();
        let Captured { seen, fates } =
            Captured::of_text(&said).with_context(|| format!("no ledger in what capture wrote: {said}"))?;
        self.ended.seen += seen;
        for (fate, count) in fates {
            *self.ended.fates.entry(fate).or_default() += count;
        }
        Ok(())
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it does not come to be ready.
    pub fn start_worker(&mut self) -> anyhow::Result<()> {
        let admin = free_address()?;
        let mut command = self.command("replay");
        self.started += 1;
        command.arg("--journal").arg(self.folder().join(format!("worker{}.db", self.started)));
        command.args(["--admin", &admin.to_string()]);
        self.workers.push(Daemon::start(&Place::Here, &mut command, admin)?);
        Ok(())
    }

    /// Ends a worker at once, as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such worker.
    pub fn kill_worker(&mut self, index: usize) -> anyhow::Result<()> {
        ensure!(index < self.workers.len(), "there are {} workers", self.workers.len());
        let worker = self.workers.remove(index);
        worker.signal(Signal::KILL)?;
        worker.join(WORKER_END_MAX).map(drop)
    }

    /// What `understudy report` says with these further arguments.
    ///
    /// # Errors
    /// When it does not end.
    pub fn report(&self, more: &[&str]) -> anyhow::Result<Finished> {
        self.workspace.report(more)
    }

    /// Waits until every entry that Redis took has a fate.
    ///
    /// # Errors
    /// When that does not come about within `limit`, or the book of a shard does not add up.
    pub fn wait_done(&self, limit: Duration) -> anyhow::Result<Book> {
        let mut last = None;
        wait_until("empty streams", limit, || {
            let book = self.books.read()?;
            let done = book.waiting == 0;
            last = Some(book.clone());
            Ok(done.then_some(book))
        })
        .with_context(|| {
            let wrote: Vec<String> = self.workers.iter().map(Daemon::stderr).collect();
            format!("{}; workers wrote: {}", last.unwrap_or_default(), wrote.concat())
        })
    }

    /// Ends everything in order, and adds everything up: what was seen has a fate at a capture or is in the books, and all
    /// that is in the books has a fate there.
    ///
    /// # Errors
    /// When a sum is off, or a daemon does not end well.
    pub fn balance(mut self, limit: Duration) -> anyhow::Result<(Captured, Book)> {
        // Nothing is under way to Redis; so the capture that runs leaves nothing in the spool.
        let mut last = String::new();
        wait_until("an empty spool", limit, || {
            let scrape = self.capture()?.scrape()?;
            let flight = scrape.sum("understudy_exchanges_in_flight", &[])?;
            let spooled = scrape.sum("understudy_spool_entries", &[])?;
            last = format!("{flight} in flight, {spooled} in the spool");
            Ok((flight == 0 && spooled == 0).then_some(()))
        })
        .context(last)?;
        self.end_capture()?;
        let book = self.wait_done(limit)?;
        for worker in std::mem::take(&mut self.workers) {
            let lost = worker.scrape()?.sum("understudy_exchanges_total", &[("fate", "lost")])?;
            ensure!(lost == 0, "a worker has lost {lost} exchanges");
            check_memory(&worker)?;
            worker.signal(Signal::INT)?;
            let end = worker.join(WORKER_END_MAX)?;
            ensure!([0, 1, 3].contains(&end.code), "a worker ended with {}: {}", end.code, end.stderr);
            ensure!(!end.stderr.contains("panicked"), "{}", end.stderr);
        }
        let after = self.books.read()?;
        ensure!(after == book, "the books have changed since all was done: {book}; now {after}");

        let captured = std::mem::take(&mut self.ended);
        let Captured { seen, fates } = &captured;
        let settled: u64 = fates.values().sum();
        ensure!(*seen == settled, "{seen} exchanges were seen, {settled} have a fate: {fates:?}");
        let given = captured.of("queued") + captured.of("spooled");
        let got = book.of("accepted") + book.of("forgotten");
        ensure!(given == got, "{given} were handed over, Redis counts {got}: {captured:?}, {book}");
        ensure!(captured.of("lost") == 0, "captures have lost exchanges: {fates:?}");
        ensure!(book.waiting == 0 && book.is_balanced(), "the books are off: {book}");
        Ok((captured, book))
    }
}

fn check_memory(daemon: &Daemon) -> anyhow::Result<()> {
    let most = daemon.memory_kib_max()?;
    ensure!(most <= MEMORY_KIB_MAX, "a daemon held {most} KiB: {}", daemon.stderr());
    Ok(())
}

// === impl Captured ===

impl Captured {
    /// Exchanges with this fate.
    pub fn of(&self, fate: &str) -> u64 {
        self.fates.get(fate).copied().unwrap_or_default()
    }

    /// Reads the ledger that a capture prints at its end.
    fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with("lab: exchanges"));
        let number = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
        let seen = number(lines.next()?)?;
        let fates = lines.map_while(|line| {
            let (label, count) = line.strip_prefix("    ")?.trim_end().rsplit_once(' ')?;
            Some((label.trim().to_owned(), count.parse().ok()?))
        });
        Some(Self { seen, fates: fates.collect() })
    }
}

// === impl Books ===

impl Books {
    /// Reads them all, from whichever server answers.
    ///
    /// # Errors
    /// When none does.
    pub fn read(&self) -> anyhow::Result<Book> {
        let mut asked = String::new();
        for shard in 0..self.shards {
            let keys = format!("{{understudy:lab:{shard}}}");
            asked.push_str(&format!("ECHO {SPLIT}\nXLEN {keys}:stream\nHGETALL {keys}:book\n"));
        }
        let mut said = self.ports.iter().filter_map(|port| ask(*port, self.ports.len() > 1, &asked).ok());
        let Some(answer) = said.next() else { bail!("no Redis answers at {:?}", self.ports) };
        let mut book = Book::default();
        for shard in answer.split(&format!("{SPLIT}\n")).skip(1) {
            book.add(shard).with_context(|| format!("Redis said: {shard}"))?;
        }
        ensure!(book.accepted.len() == self.shards as usize, "Redis said: {answer}");
        Ok(book)
    }
}

/// Sends commands, one a line.
fn ask(port: u16, is_cluster: bool, commands: &str) -> anyhow::Result<String> {
    let mut client = Command::new("redis-cli");
    client.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    if is_cluster {
        client.arg("-c");
    }
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to run redis-cli")?;
    client.stdin.take().context("no input")?.write_all(commands.as_bytes())?;
    let output = client.wait_with_output().context("failed to run redis-cli")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains(SPLIT), "redis-cli: {said}");
    Ok(said)
}

// === impl Book ===

impl Book {
    /// One counter.
    pub fn of(&self, counter: &str) -> u64 {
        self.counters.get(counter).copied().unwrap_or_default()
    }

    /// Entries that have a fate.
    pub fn settled(&self) -> u64 {
        self.fates.values().sum()
    }

    /// Entries that were compared.
    pub fn compared(&self) -> u64 {
        let of = |fate: &str| self.fates.get(fate).copied().unwrap_or_default();
        ["matched", "mismatched", "ignored", "incomparable"].into_iter().map(of).sum()
    }

    /// Whether all that came in waits or has a fate.
    pub fn is_balanced(&self) -> bool {
        let out = self.settled() + self.of("trimmed") + self.of("set_aside") + self.waiting;
        self.of("accepted") == out
    }

    /// Adds the answers of one shard: the length of its stream, then names and values of its book in turn.
    fn add(&mut self, answers: &str) -> anyhow::Result<()> {
        // In a cluster it is said where an answer comes from.
        let is_number_or_name = |line: &&str| !line.is_empty() && !line.starts_with("->");
        let mut lines = answers.lines().map(str::trim).filter(is_number_or_name);
        let number = |text: Option<&str>| anyhow::Ok(text.context("too short")?.parse::<i64>()?);
        self.waiting += u64::try_from(number(lines.next())?)?;
        let mut accepted = 0;
        while let Some(name) = lines.next() {
            // Between two scripts `trimmed` may stand one low; it is never below zero when nothing waits.
            let value = u64::try_from(number(lines.next())?)?;
            let sum = match name.strip_prefix("fate:") {
                Some(fate) => self.fates.entry(fate.to_owned()),
                None => self.counters.entry(name.to_owned()),
            };
            *sum.or_default() += value;
            if name == "accepted" {
                accepted = value;
            }
        }
        self.accepted.push(accepted);
        Ok(())
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counters, fates, waiting, accepted: _ } = self;
        write!(f, "{counters:?}, fates {fates:?}, {waiting} waiting")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_read_from_text() {
        let text = "Ledger\n  packets wanted  10\n  lab: exchanges                        12\n    queued                              9\n\
                    \u{20}   shed                                0\n    not sampled                         3\n  other  7\n";
        let captured = Captured::of_text(text).unwrap();
        let fates = [("not sampled", 3), ("queued", 9), ("shed", 0)];
        let fates = fates.map(|(fate, count)| (fate.to_owned(), count)).into();
        assert_eq!(captured, Captured { seen: 12, fates });
        assert_eq!(Captured::of_text("nothing"), None);
    }

    #[test]
    fn a_book_adds_up_or_not() {
        let mut book = Book::default();
        book.add("2\naccepted\n10\ntrimmed\n1\nfate:matched\n6\nbytes\n77\n").unwrap();
        assert!(!book.is_balanced());
        book.add("0\naccepted\n5\nfate:matched\n5\nset_aside\n1\n").unwrap();
        assert!(book.is_balanced(), "{book}");
        assert_eq!((book.settled(), book.compared(), book.waiting), (11, 11, 2));
        assert_eq!(book.accepted, [10, 5]);
        book.add("what").unwrap_err();
    }
}
