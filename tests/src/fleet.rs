//! One capture, Redis and some workers between A and B, under load and whatever else happens to them; and the oracle that
//! adds everything up at the end.
//!
//! Believes no single count: what the capture says, what the books in Redis say and what B has received must agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use crate::app::Faults;
use crate::clock::wait_until;
use crate::daemon::{DRAIN_WAIT_MAX, Daemon, Finished, Settings, Workspace};
use crate::lab::{Family, Lab, within};
use crate::mix::{Pace, drive, numbered};
use crate::prereq::{KERNEL, Prerequisite, daemon_program};
use crate::process::Place;
use crate::redis;
use crate::scrape::Scrape;
use crate::server::{App, free_address, unique_port};

/// What a fleet cannot do without.
pub const NEEDS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
    Prerequisite::Tool("ip"),
];

/// Shards of a fleet.
pub const SHARDS: u32 = 4;
/// Connections of its load.
const CONNECTIONS: usize = 6;
/// Most memory that a daemon may hold at any time, in KiB: its bounds for what waits (32 MiB) and for what is on the way
/// (16 MiB), the probe's ring of 16 MiB, which is mapped twice, and 48 MiB for the program itself, unoptimised.
pub const MEMORY_KIB_MAX: u64 = 128 << 10;
/// How long it may take until nothing is under way any more.
const REST_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a worker may take to end: the drain of the replay, and the last settlements.
const WORKER_END_MAX: Duration = Duration::from_secs(10);

/// How to set a fleet up.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Workers at the start.
    pub workers: usize,
    /// Capture and Redis are on hosts of their own in a [`Lab`]; workers and B are where Redis is.
    pub apart: bool,
    /// More arguments of `redis-server`.
    pub redis: Vec<String>,
    /// More keys of `[queue]`, a line each. Sessions are connections, unless this says otherwise.
    pub queue: &'static str,
    /// More keys of `[spool]`, a line each.
    pub spool: &'static str,
    /// Where the spool lies, when it is not in the workspace.
    pub spool_path: Option<PathBuf>,
}

/// A fleet.
#[derive(Debug)]
pub struct Fleet {
    /// Redis.
    pub redis: redis::Server,
    /// The capture; absent between its end and the next start.
    pub capture: Option<Daemon>,
    /// The workers.
    pub workers: Vec<Daemon>,
    /// Its hosts, when they are apart.
    pub lab: Option<Lab>,
    /// Requests that A was sent so far; each has a number, which its marker tells.
    pub sent: usize,
    a: App,
    b: App,
    workspace: Workspace,
    /// Workers so far, for the names of their journals.
    started: usize,
}

/// The books of all shards in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Every counter, summed over the shards.
    pub counters: BTreeMap<String, u64>,
    /// Entries in the streams.
    pub waiting: u64,
}

/// What a fleet that has come to rest has counted.
#[derive(Clone, Debug)]
pub struct Account {
    /// `/metrics` of the capture.
    pub capture: Scrape,
    /// The books.
    pub book: Book,
    /// How often B received each request, by its number.
    pub arrivals: BTreeMap<usize, u64>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts everything.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let Setup { workers, apart, redis, queue, spool, spool_path } = setup;
        let lab = apart.then(Lab::new).transpose()?;
        let address = |host: fn(&Lab) -> &crate::lab::Host| match &lab {
            Some(lab) => anyhow::Ok(host(lab).at(Family::V4, unique_port())),
            None => free_address(),
        };
        let (at_a, at_b) = (place(lab.as_ref(), |lab| &lab.a), place(lab.as_ref(), |lab| &lab.b));
        let a = App::start(&at_a, address(|lab| &lab.a)?, Faults::None)?;
        let b = App::start(&at_b, address(|lab| &lab.b)?, Faults::None)?;
        let redis = redis::Server::start_with(redis::Options {
            place: at_b,
            arguments: redis,
            ..redis::Options::default()
        })?;
        let session =
            if queue.contains("session") { String::new() } else { "session = \"connection\"\n".to_owned() };
        let spool_path =
            spool_path.map_or_else(|| "journal.db.spool".to_owned(), |path| path.display().to_string());
        let settings = Settings {
            port: a.address.port(),
            admin: free_address()?,
            candidate: b.address,
            isolated: true,
            routes: Vec::new(),
            more: format!(
                "noise.again = \"off\"\n[queue]\nredis = \"redis://{}:{}\"\nshards = {SHARDS}\n{session}{queue}\n\
                 [spool]\npath = \"{spool_path}\"\n{spool}",
                b.address.ip(),
                redis.port()
            ),
        };
        let workspace = Workspace::new(&settings.text())?;
        let mut fleet =
            Self { redis, capture: None, workers: Vec::new(), lab, sent: 0, a, b, workspace, started: 0 };
        for _ in 0..workers {
            fleet.start_worker()?;
        }
        fleet.start_capture()?;
        Ok(fleet)
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_worker(&mut self) -> anyhow::Result<()> {
        let journal = self.workspace.journal().with_extension(format!("worker{}.db", self.started));
        self.started += 1;
        let worker = self.daemon("replay", &place(self.lab.as_ref(), |lab| &lab.b), Some(&journal))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Starts the capture, which must not run.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_capture(&mut self) -> anyhow::Result<()> {
        self.capture = Some(self.daemon("capture", &place(self.lab.as_ref(), |lab| &lab.a), None)?);
        Ok(())
    }

    fn daemon(&self, what: &str, place: &Place, journal: Option<&Path>) -> anyhow::Result<Daemon> {
        let admin = free_address()?;
        let mut command: Command = place.command(daemon_program());
        command.arg(what).arg("--config").arg(self.workspace.config());
        command.args(["--admin", &admin.to_string()]);
        if let Some(journal) = journal {
            command.arg("--journal").arg(journal);
        }
        Daemon::start(place, &mut command, admin)
    }

    /// Ends the capture at once, as `kill -9` does.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn kill_capture(&mut self) -> anyhow::Result<()> {
        let capture = self.capture.take().context("no capture runs")?;
        kill(capture)
    }

    /// Ends the oldest worker at once, as `kill -9` does.
    ///
    /// # Errors
    /// When there is none, or it does not end.
    pub fn kill_worker(&mut self) -> anyhow::Result<()> {
        ensure!(!self.workers.is_empty(), "no worker runs");
        kill(self.workers.remove(0))
    }

    /// Sends `count` requests to A, so many a second.
    ///
    /// # Errors
    /// When A does not answer.
    pub fn load(&mut self, count: usize, per_second: u32) -> anyhow::Result<()> {
        self.under_load(count, per_second, |_| Ok(()))
    }

    /// Does something while `count` requests are sent to A, so many a second.
    ///
    /// # Errors
    /// Those of `act`, and when A does not answer.
    pub fn under_load<T>(
        &mut self,
        count: usize,
        per_second: u32,
        act: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let planned = numbered(self.sent, count);
        self.sent += count;
        let (address, client) = (self.a.address, place(self.lab.as_ref(), |lab| &lab.client));
        let pace = Pace { per_second: Some(per_second), connections: CONNECTIONS };
        std::thread::scope(|scope| {
            let load = scope.spawn(|| within(&client, || drive(address, &planned, pace)));
            let acted = act(self);
            let sent = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let acted = acted?;
            sent.map(|_answers| acted)
        })
    }

    /// `/metrics` of the capture.
    ///
    /// # Errors
    /// When it does not run or answer.
    pub fn scrape(&self) -> anyhow::Result<Scrape> {
        self.capture.as_ref().context("no capture runs")?.scrape()
    }

    /// Waits until a count in `/metrics` of the capture is as wanted.
    ///
    /// # Errors
    /// When that does not come about; the last count stands in the message.
    pub fn wait_for(&self, name: &str, limit: Duration, wanted: impl Fn(u64) -> bool) -> anyhow::Result<()> {
        let mut last = None;
        let waited = wait_until(name, limit, || {
            let count = self.scrape()?.sum(name, &[])?;
            last = Some(count);
            Ok(wanted(count).then_some(()))
        });
        waited.with_context(|| format!("it is {last:?}"))
    }

    /// The books of all shards, as Redis has them now.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub fn book(&self) -> anyhow::Result<Book> {
        let mut book = Book::default();
        for shard in 0..SHARDS {
            let key = |what: &str| format!("{{understudy:lab:{shard}}}:{what}");
            book.waiting += self.redis.command(&["XLEN", &key("stream")])?.trim().parse::<u64>()?;
            let fields = self.redis.command(&["HGETALL", &key("book")])?;
            let lines: Vec<&str> = fields.lines().map(str::trim).collect();
            for pair in lines.chunks_exact(2) {
                *book.counters.entry(pair[0].to_owned()).or_default() += pair[1].parse::<u64>()?;
            }
        }
        Ok(book)
    }

    /// Waits until nothing is under way: not in the capture, its spool, Redis, or a worker.
    fn rest(&self) -> anyhow::Result<()> {
        let mut last = None;
        let rested = wait_until("rest", REST_WAIT_MAX, || {
            let capture = self.scrape()?;
            let mut under_way = Vec::new();
            for name in ["understudy_exchanges_in_flight", "understudy_spool_entries"] {
                under_way.push(capture.sum(name, &[])?);
            }
            for worker in &self.workers {
                let scrape = worker.scrape()?;
                for name in ["understudy_exchanges_in_flight", "understudy_queue_unsettled"] {
                    under_way.push(scrape.sum(name, &[])?);
                }
            }
            under_way.push(self.book()?.waiting);
            let rests = under_way.iter().all(|count| *count == 0);
            last = Some(under_way);
            Ok(rests.then_some(()))
        });
        rested.with_context(|| {
            let said: Vec<String> = self.capture.iter().chain(&self.workers).map(Daemon::stderr).collect();
            format!(
                "under way in capture, spool, each worker (to do, to settle) and Redis: {last:?}; they said: {}",
                said.join("\n--\n")
            )
        })
    }

    /// Waits until nothing is under way any more, and asks the oracle.
    ///
    /// # Errors
    /// When something stays under way, a sum is off, or a daemon held more memory than it may.
    pub fn settle(&self) -> anyhow::Result<Account> {
        self.rest()?;
        let capture = self.capture.as_ref().context("no capture runs")?.settle(0)?;
        for worker in &self.workers {
            let scrape = worker.scrape()?;
            let sum = |name: &str| scrape.sum(name, &[]);
            let (seen, settled) =
                (sum("understudy_exchanges_seen_total")?, sum("understudy_exchanges_total")?);
            ensure!(seen == settled, "a worker took {seen} and gave {settled} fates");
            let lost = scrape.sum("understudy_exchanges_total", &[("fate", "lost")])?;
            ensure!(lost == 0, "a worker lost {lost}");
        }
        for daemon in self.capture.iter().chain(&self.workers) {
            check_memory(daemon)?;
        }
        let book = self.book()?;
        ensure!(book.of("accepted") == book.ended(), "the books do not balance: {book:?}");
        Ok(Account { capture, book, arrivals: self.arrivals()? })
    }

    /// How often B received each request, by its number.
    fn arrivals(&self) -> anyhow::Result<BTreeMap<usize, u64>> {
        let mut arrivals = BTreeMap::new();
        for line in self.b.received()? {
            let marker = line.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-marker"));
            let (_, marker) = marker.context("B received a request without a marker")?;
            let number = marker.trim_start_matches('m').parse().context("a marker has no number")?;
            *arrivals.entry(number).or_default() += 1;
        }
        Ok(arrivals)
    }

    /// Ends everything in order, workers first.
    ///
    /// # Errors
    /// When a daemon does not end in time, or says that it failed.
    pub fn end(self) -> anyhow::Result<()> {
        // The servers end last.
        let Self { redis, capture, workers, lab, a, b, workspace, .. } = self;
        for worker in workers {
            worker.signal(Signal::INT)?;
            let Finished { code, stdout, stderr } = worker.join(WORKER_END_MAX)?;
            ensure!([0, 1, 3].contains(&code), "a worker ended with {code}: {stderr}");
            ensure!(stdout.contains("VERDICT"), "a worker printed no report: {stdout}");
            ensure!(!stderr.contains("panicked"), "{stderr}");
        }
        if let Some(capture) = capture {
            capture.signal(Signal::INT)?;
            let Finished { code, stderr, .. } = capture.join(DRAIN_WAIT_MAX)?;
            ensure!(code == 0 && !stderr.contains("panicked"), "the capture ended with {code}: {stderr}");
        }
        drop((redis, a, b, lab, workspace));
        Ok(())
    }
}

/// Where a host's processes run; here, when there are no hosts.
fn place(lab: Option<&Lab>, host: fn(&Lab) -> &crate::lab::Host) -> Place {
    lab.map_or(Place::Here, |lab| host(lab).place())
}

fn check_memory(daemon: &Daemon) -> anyhow::Result<()> {
    let most = daemon.memory_kib_max()?;
    ensure!(most <= MEMORY_KIB_MAX, "a daemon held {most} KiB: {}", daemon.stderr());
    Ok(())
}

fn kill(daemon: Daemon) -> anyhow::Result<()> {
    check_memory(&daemon)?;
    daemon.signal(Signal::KILL)?;
    let Finished { code, stderr, .. } = daemon.join(DRAIN_WAIT_MAX)?;
    ensure!(code == 128 + Signal::KILL.as_raw(), "it ended with {code} before it was killed: {stderr}");
    Ok(())
}

// === impl Book ===

impl Book {
    /// One counter.
    pub fn of(&self, counter: &str) -> u64 {
        self.counters.get(counter).copied().unwrap_or_default()
    }

    /// Entries that have come to an end, or still wait.
    pub fn ended(&self) -> u64 {
        self.fates() + self.of("trimmed") + self.of("set_aside") + self.waiting
    }

    /// Entries that workers gave a fate.
    pub fn fates(&self) -> u64 {
        self.counters.iter().filter(|(name, _)| name.starts_with("fate:")).map(|(_, count)| count).sum()
    }
}

// === impl Account ===

impl Account {
    /// Exchanges to which the capture gave this fate.
    ///
    /// # Errors
    /// When there is no such fate.
    pub fn captured(&self, fate: &str) -> anyhow::Result<u64> {
        self.capture.sum("understudy_exchanges_total", &[("fate", fate)])
    }

    /// Fails unless the capture saw `sent` exchanges and none of them has a fate besides `queued` and `others`, and Redis
    /// has, or had, every one that is queued.
    ///
    /// # Errors
    /// When that is not so.
    pub fn captured_all(&self, sent: usize, others: &[&str]) -> anyhow::Result<()> {
        let seen = self.capture.sum("understudy_exchanges_seen_total", &[])?;
        ensure!(seen == sent as u64, "{seen} of {sent} exchanges were seen");
        let mut known = self.captured("queued")?;
        for fate in others {
            known += self.captured(fate)?;
        }
        ensure!(known == seen, "{known} of {seen} are queued, or are {others:?}");
        self.redis_has(self.captured("queued")?)
    }

    /// Fails unless Redis has counted in this many entries, and lost ones.
    ///
    /// # Errors
    /// When that is not so.
    pub fn redis_has(&self, queued: u64) -> anyhow::Result<()> {
        let (accepted, forgotten) = (self.book.of("accepted"), self.book.of("forgotten"));
        ensure!(
            accepted + forgotten == queued,
            "{accepted} accepted and {forgotten} forgotten are not {queued} queued"
        );
        Ok(())
    }

    /// Fails unless B received each of these requests once, and none of all requests twice.
    ///
    /// # Errors
    /// When that is not so; some numbers stand in the message.
    pub fn arrived_once(&self, numbers: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
        let twice: Vec<_> = self.arrivals.iter().filter(|(_, times)| **times > 1).take(10).collect();
        ensure!(twice.is_empty(), "B received some more than once: {twice:?}");
        let missing = numbers.into_iter().filter(|number| !self.arrivals.contains_key(number));
        let missing: Vec<usize> = missing.collect();
        ensure!(
            missing.is_empty(),
            "B has not received {} requests, such as {:?}",
            missing.len(),
            missing.first()
        );
        Ok(())
    }
}
