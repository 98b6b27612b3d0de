//! A capture, workers and Redis between A and B, under load and whatever else happens to them; and the oracle that adds
//! everything up at the end.
//!
//! Believes no single count: what captures say, what the books in Redis say and what B has received must agree. Plants
//! nothing inside of a daemon.

mod account;
mod books;
mod setup;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use crate::app::Faults;
use crate::clock::{now, wait_until};
use crate::daemon::{Daemon, Finished, Workspace};
use crate::lab::{Family, Host, Lab, within};
use crate::mix::{Pace, Planned, drive, numbered};
use crate::oracle;
use crate::prereq::daemon_program;
use crate::process::Place;
use crate::proxy::Proxy;
use crate::scrape::Scrape;
use crate::server::{App, Nginx, StaticFiles, free_address, unique_port};

pub use account::{Account, Captured};
pub use books::{Book, Books, Given};
pub use setup::{SHARDS, Setup};

/// Connections of its load.
pub const CONNECTIONS: usize = 8;
/// Most memory that a daemon may hold at any time, in KiB: its bounds for what waits (32 MiB) and for what is on the way
/// (16 MiB), the probe's ring of 16 MiB, which is mapped twice, and 48 MiB for the program itself, unoptimised.
pub const MEMORY_KIB_MAX: u64 = 128 << 10;
/// How long it may take until nothing is under way any more.
const REST_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long nothing may move until that is taken for rest: three times the interval at which captures tell their counts.
const REST_MIN: Duration = Duration::from_millis(300);
/// How long a capture may take to end: its drain and that of the upload, and some seconds for the machine.
const CAPTURE_END_MAX: Duration = Duration::from_secs(30);
/// How long a worker may take to end: the drain of the replay, and the last settlements.
const WORKER_END_MAX: Duration = Duration::from_secs(30);

/// A fleet.
#[derive(Debug)]
pub struct Fleet {
    /// A.
    pub a: SocketAddr,
    /// What stands before B.
    pub b: Proxy,
    /// The books in Redis.
    pub books: Books,
    /// The capture; absent between its end and the next start.
    pub capture: Option<Daemon>,
    /// The workers, the oldest first.
    pub workers: Vec<Daemon>,
    /// The folder of the daemons.
    pub workspace: Workspace,
    /// Requests that A was sent so far.
    pub sent: usize,
    environment: Vec<(String, String)>,
    /// Workers so far, for the names of their journals.
    started: usize,
    /// What captures that have ended in order said.
    ended: Captured,
    /// What captures say they gave is what Redis has. Not so once one was killed, which took what it had counted with it,
    /// or Redis was emptied after one had ended.
    pub adds_up: bool,
    /// B itself, which writes down what it receives.
    app_b: App,
    _servers: (App, Option<(StaticFiles, Nginx, Nginx)>),
    /// Its hosts, when they are apart. They go last.
    pub lab: Option<Lab>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts everything.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let Setup { workers, lab, nginx, faults, .. } = &setup;
        let (at_a, at_b) = (place(lab.as_ref(), |lab| &lab.a), place(lab.as_ref(), |lab| &lab.b));
        let at = |host| address(lab.as_ref(), host);
        let app_a = App::start(&at_a, at(|lab| &lab.a)?, Faults::None)?;
        let app_b = App::start(&at_b, at(|lab| &lab.b)?, *faults)?;
        let before = nginx.then(|| {
            let files = StaticFiles::write()?;
            let a = Nginx::start(&at_a, at(|lab| &lab.a)?, &files, app_a.address)?;
            let b = Nginx::start(&at_b, at(|lab| &lab.b)?, &files, app_b.address)?;
            anyhow::Ok((files, a, b))
        });
        let before = before.transpose()?;
        let (a, behind) = match &before {
            Some((_, a, b)) => (a.address, b.address),
            None => (app_a.address, app_b.address),
        };
        let b = Proxy::start(&at_b, at(|lab| &lab.b)?, behind)?;
        let settings = setup.settings(a.port(), b.address)?;
        let workspace = Workspace::new(&settings.text())?;
        let (workers, books) = (*workers, setup.books);
        let mut fleet = Self {
            a,
            b,
            books,
            capture: None,
            workers: Vec::new(),
            workspace,
            sent: 0,
            environment: setup.environment,
            started: 0,
            ended: Captured::default(),
            adds_up: true,
            app_b,
            _servers: (app_a, before),
            lab: setup.lab,
        };
        for _ in 0..workers {
            fleet.start_worker()?;
        }
        fleet.start_capture()?;
        Ok(fleet)
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it does not come to be ready.
    pub fn start_worker(&mut self) -> anyhow::Result<()> {
        self.started += 1;
        let journal = self.workspace.journal().with_extension(format!("worker{}.db", self.started));
        let worker = self.daemon("replay", &place(self.lab.as_ref(), |lab| &lab.b), Some(&journal))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Starts a capture where none runs.
    ///
    /// # Errors
    /// When it does not come to capture.
    pub fn start_capture(&mut self) -> anyhow::Result<()> {
        ensure!(self.capture.is_none(), "a capture runs");
        self.capture = Some(self.daemon("capture", &place(self.lab.as_ref(), |lab| &lab.a), None)?);
        Ok(())
    }

    fn daemon(&self, what: &str, place: &Place, journal: Option<&Path>) -> anyhow::Result<Daemon> {
        let admin = free_address()?;
        let mut command: Command = place.command(daemon_program());
        command.arg(what).arg("--config").arg(self.workspace.config());
        command.args(["--admin", &admin.to_string()]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(journal) = journal {
            command.arg("--journal").arg(journal);
        }
        Daemon::start(place, &mut command, admin)
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
        self.note_end(capture, 0).map(drop)
    }

    /// Waits for the capture to end by itself with this code, and keeps what it says. Gives what it wrote.
    ///
    /// # Errors
    /// When it does not end, or in another way.
    pub fn wait_capture_end(&mut self, code: i32) -> anyhow::Result<String> {
        let capture = self.capture.take().context("no capture runs")?;
        self.note_end(capture, code)
    }

    fn note_end(&mut self, capture: Daemon, expected: i32) -> anyhow::Result<String> {
        let Finished { code, stdout, stderr } = capture.join(CAPTURE_END_MAX)?;
        ensure!(code == expected && !stderr.contains("panicked"), "the capture ended with {code}: {stderr}");
        let said = [stdout, stderr].concat();
        let captured = Captured::of_text(&said)
            .with_context(|| format!("no ledger in what the capture wrote: {said}"))?;
        self.ended.add(&captured);
        Ok(said)
    }

    /// Ends the capture at once, as `kill -9` does. What it had counted is not known any more.
    ///
    /// # Errors
    /// When none runs, or it does not end.
    pub fn kill_capture(&mut self) -> anyhow::Result<()> {
        self.adds_up = false;
        kill(self.capture.take().context("no capture runs")?)
    }

    /// Ends all workers in order.
    ///
    /// # Errors
    /// When one does not end in time, or says that it failed.
    pub fn end_workers(&mut self) -> anyhow::Result<()> {
        for worker in std::mem::take(&mut self.workers) {
            worker.signal(Signal::INT)?;
            let Finished { code, stdout, stderr } = worker.join(WORKER_END_MAX)?;
            ensure!([0, 1, 3].contains(&code), "a worker ended with {code}: {stderr}");
            ensure!(stdout.contains("VERDICT"), "a worker printed no report: {stdout}");
            ensure!(!stderr.contains("panicked"), "{stderr}");
        }
        Ok(())
    }

    /// Ends a worker at once, as `kill -9` does.
    ///
    /// # Errors
    /// When there is no such worker, or it does not end.
    pub fn kill_worker(&mut self, index: usize) -> anyhow::Result<()> {
        ensure!(index < self.workers.len(), "there are {} workers", self.workers.len());
        kill(self.workers.remove(index))
    }

    /// Sends A `count` small requests with numbers of their own, so many a second.
    ///
    /// # Errors
    /// When A does not answer.
    pub fn load(&mut self, count: usize, per_second: u32) -> anyhow::Result<()> {
        self.under_load(count, per_second, |_| Ok(()))
    }

    /// Does something while A is sent `count` small requests with numbers of their own, so many a second.
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
        self.while_sending(&planned, per_second, act)
    }

    /// Sends A these requests, so many a second.
    ///
    /// # Errors
    /// When A does not answer.
    pub fn send(&mut self, planned: &[Planned], per_second: u32) -> anyhow::Result<()> {
        self.while_sending(planned, per_second, |_| Ok(()))
    }

    /// Does something while A is sent these requests, so many a second.
    ///
    /// # Errors
    /// Those of `act`, and when A does not answer.
    pub fn while_sending<T>(
        &mut self,
        planned: &[Planned],
        per_second: u32,
        act: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.sent += planned.len();
        let (address, client) = (self.a, place(self.lab.as_ref(), |lab| &lab.client));
        let pace = Pace { per_second: Some(per_second), connections: CONNECTIONS };
        std::thread::scope(|scope| {
            let load = scope.spawn(|| within(&client, || drive(address, planned, pace)));
            let acted = act(self);
            let sent = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let acted = acted?;
            sent.map(|_answers| acted)
        })
    }

    /// `/metrics` of the capture.
    ///
    /// # Errors
    /// When none runs, or it does not answer.
    pub fn scrape(&self) -> anyhow::Result<Scrape> {
        self.capture()?.scrape()
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

    /// What `understudy report` says with these further arguments.
    ///
    /// # Errors
    /// When it does not end.
    pub fn report(&self, more: &[&str]) -> anyhow::Result<Finished> {
        self.workspace.report(more)
    }

    /// Waits until every entry that Redis took has a fate. Asks no daemon: one may hang.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn wait_done(&self) -> anyhow::Result<Book> {
        let mut last = None;
        wait_until("empty streams", REST_WAIT_MAX, || {
            let book = self.books.read()?;
            let done = book.waiting == 0;
            last = Some(book.clone());
            Ok(done.then_some(book))
        })
        .with_context(|| format!("{}; they said: {}", last.unwrap_or_default(), self.said()))
    }

    fn said(&self) -> String {
        let said: Vec<String> = self.capture.iter().chain(&self.workers).map(Daemon::stderr).collect();
        said.join("\n--\n")
    }

    /// Waits until nothing is under way: not in the capture, its spool, Redis, or a worker, in the order in which an
    /// exchange goes through them.
    fn rest(&self) -> anyhow::Result<()> {
        let mut last = None;
        // Since when nothing moves: counts of packets are told at intervals, those of exchanges at once, and a capture that
        // has not had its turn seems to rest.
        let mut unmoved = (now(), (0, 0));
        let rested = wait_until("rest", REST_WAIT_MAX, || {
            let capture = self.scrape()?;
            let sum = |name| capture.sum(name, &[]);
            let counts =
                (sum("understudy_capture_packets_wanted_total")?, sum("understudy_exchanges_seen_total")?);
            if unmoved.1 != counts {
                unmoved = (now(), counts);
            }
            // Packets may still lie in the ring.
            let ledger = oracle::check(&capture);
            let mut under_way = Vec::new();
            for name in ["understudy_exchanges_in_flight", "understudy_spool_entries"] {
                under_way.push(capture.sum(name, &[])?);
            }
            under_way.push(self.books.read()?.waiting);
            for worker in &self.workers {
                let scrape = worker.scrape()?;
                for name in ["understudy_exchanges_in_flight", "understudy_queue_unsettled"] {
                    under_way.push(scrape.sum(name, &[])?);
                }
            }
            let is_still = unmoved.0.elapsed() >= REST_MIN;
            let rests = is_still && ledger.is_ok() && under_way.iter().all(|count| *count == 0);
            last = Some((ledger, under_way));
            Ok(rests.then_some(()))
        });
        rested.with_context(|| {
            format!(
                "the capture's sums, and what is under way there, in the spool, in Redis and in each worker (to do, to \
                 settle): {last:?}; they said: {}",
                self.said()
            )
        })
    }

    /// Waits until nothing is under way any more, and asks the oracle.
    ///
    /// # Errors
    /// When something stays under way, a sum is off, or a daemon held more memory than it may.
    pub fn settle(&self) -> anyhow::Result<Account> {
        self.rest()?;
        let capture = self.scrape()?;
        let mut captured = self.ended.clone();
        captured.add(&Captured::of_scrape(&capture)?);
        captured.is_balanced()?;
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
        let book = self.books.read()?;
        ensure!(book.waiting == 0 && book.is_balanced(), "the books are off: {book}");
        let arrivals = account::arrivals(&self.app_b.received()?)?;
        let account = Account { sent: self.sent, capture, captured, book, arrivals };
        if self.adds_up {
            account.redis_has(account.captured.given()).with_context(|| format!("{account:?}"))?;
        }
        Ok(account)
    }

    /// Waits until nothing is under way any more, asks the oracle, and ends everything in order; which changes nothing.
    ///
    /// # Errors
    /// Those of [`Fleet::settle`], and when a daemon does not end in time, or says that it failed.
    pub fn balance(mut self) -> anyhow::Result<Account> {
        let account = self.settle()?;
        self.end_capture()?;
        ensure!(self.ended == account.captured, "a capture ended with {:?} and not {account:?}", self.ended);
        self.end_workers()?;
        let after = self.books.read()?;
        ensure!(
            after == account.book,
            "the books changed after all was done: {}, then {after}",
            account.book
        );
        Ok(account)
    }
}

/// Where a host's processes run; here, when there are no hosts.
fn place(lab: Option<&Lab>, host: fn(&Lab) -> &Host) -> Place {
    lab.map_or(Place::Here, |lab| host(lab).place())
}

/// An address of a host that nobody listens at.
fn address(lab: Option<&Lab>, host: fn(&Lab) -> &Host) -> anyhow::Result<SocketAddr> {
    match lab {
        Some(lab) => Ok(host(lab).at(Family::V4, unique_port())),
        None => free_address(),
    }
}

fn check_memory(daemon: &Daemon) -> anyhow::Result<()> {
    let most = daemon.memory_kib_max()?;
    ensure!(most <= MEMORY_KIB_MAX, "a daemon held {most} KiB: {}", daemon.stderr());
    Ok(())
}

fn kill(daemon: Daemon) -> anyhow::Result<()> {
    check_memory(&daemon)?;
    daemon.signal(Signal::KILL)?;
    let Finished { code, stderr, .. } = daemon.join(WORKER_END_MAX)?;
    ensure!(code == 128 + Signal::KILL.as_raw(), "it ended with {code} before it was killed: {stderr}");
    Ok(())
}
