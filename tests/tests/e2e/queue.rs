//! One capture, two workers and a real Redis between them: every exchange is compared once, and every count adds up.
//!
//! A and B are nginx with the application behind it, on loopback.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use understudy_tests::app::Faults;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Settings, Workspace};
use understudy_tests::mix::{DEMO_ROUTES, Pace, drive, every_route};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::redis;
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};

use crate::Case;

const NEEDS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("nginx"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
];

pub(crate) const CASES: &[Case] = &[
    Case { name: "two_workers_compare_every_exchange_once", needs: NEEDS, run: two_workers },
    Case { name: "an_outage_of_redis_loses_nothing", needs: NEEDS, run: outage },
];

pub(crate) const SHARDS: u32 = 4;
/// How long the last entries may take from Redis to the journal and back.
pub(crate) const DONE_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a worker may take to end: the drain of the replay, and the last settlements.
pub(crate) const WORKER_END_MAX: Duration = Duration::from_secs(10);

/// Servers, Redis, a capture and its workers.
pub(crate) struct Stage {
    /// Kept alive.
    pub(crate) _servers: (StaticFiles, App, App, Nginx),
    pub(crate) a: Nginx,
    pub(crate) redis: redis::Server,
    pub(crate) workspace: Workspace,
    pub(crate) capture: Daemon,
    pub(crate) workers: Vec<Daemon>,
}

pub(crate) fn command(workspace: &Workspace, what: &str) -> std::process::Command {
    let mut command = Place::Here.command(daemon_program());
    command.arg(what).arg("--config").arg(workspace.config());
    command
}

fn worker(workspace: &Workspace, folder: &Path, number: usize) -> anyhow::Result<Daemon> {
    let admin = free_address()?;
    let mut command = command(workspace, "replay");
    command.arg("--journal").arg(folder.join(format!("worker{number}.db")));
    command.args(["--admin", &admin.to_string()]);
    Daemon::start(&Place::Here, &mut command, admin)
}

/// B with these faults, and these keys more of the queue.
pub(crate) fn stage(workers: usize, faults: Faults, more: &str) -> anyhow::Result<Stage> {
    let files = StaticFiles::write()?;
    let app_a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let app_b = App::start(&Place::Here, free_address()?, faults)?;
    let a = Nginx::start(&Place::Here, free_address()?, &files, app_a.address)?;
    let b = Nginx::start(&Place::Here, free_address()?, &files, app_b.address)?;
    let redis = redis::Server::start()?;
    let admin = free_address()?;
    let queue = format!(
        "noise.again = \"off\"\n[queue]\nredis = \"{}\"\nshards = {SHARDS}\nsession = \"connection\"\n{more}[spool]\npath = \
         \"journal.db.spool\"",
        redis.url()
    );
    let settings = Settings {
        port: a.address.port(),
        admin,
        candidate: b.address,
        isolated: true,
        routes: DEMO_ROUTES.to_vec(),
        more: queue,
    };
    let workspace = Workspace::new(&settings.text())?;
    let journal = workspace.journal();
    let folder = journal.parent().unwrap_or(Path::new("."));
    let workers = (0..workers).map(|number| worker(&workspace, folder, number)).collect::<Result<_, _>>()?;
    let capture = Daemon::start(&Place::Here, &mut command(&workspace, "capture"), admin)?;
    Ok(Stage { _servers: (files, app_a, app_b, b), a, redis, workspace, capture, workers })
}

fn of_fate(scrape: &Scrape, fate: &str) -> anyhow::Result<u64> {
    scrape.sum("understudy_exchanges_total", &[("fate", fate)])
}

/// One counter of the books of all shards.
pub(crate) fn book(redis: &redis::Server, counter: &str) -> anyhow::Result<u64> {
    (0..SHARDS).try_fold(0, |sum, shard| {
        let key = format!("{{understudy:lab:{shard}}}:book");
        Ok(sum + redis.command(&["HGET", &key, counter])?.trim().parse::<u64>().unwrap_or(0))
    })
}

/// Counts of all fates in the books.
pub(crate) fn book_fates(redis: &redis::Server) -> anyhow::Result<u64> {
    let mut sum = 0;
    for shard in 0..SHARDS {
        let fields = redis.command(&["HGETALL", &format!("{{understudy:lab:{shard}}}:book")])?;
        let lines: Vec<&str> = fields.lines().map(str::trim).collect();
        for pair in lines.chunks_exact(2).filter(|pair| pair[0].starts_with("fate:")) {
            sum += pair[1].parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Waits until the streams are empty and workers have nothing more, then adds everything up.
fn balance(stage: Stage, sent: u64) -> anyhow::Result<()> {
    let Stage { _servers, a: _a, redis, workspace: _workspace, capture, workers } = stage;
    let captured = capture.settle(sent)?;
    let seen = captured.sum("understudy_exchanges_seen_total", &[])?;
    let queued = of_fate(&captured, "queued")?;
    ensure!(seen == sent, "{seen} of {sent} exchanges were seen");
    let elsewhere = captured.sum("understudy_exchanges_total", &[])? - queued;
    ensure!(queued > sent / 2, "{queued} of {sent} were queued, {elsewhere} had another fate");
    for fate in ["shed", "spool_full", "spooled", "lost"] {
        let count = of_fate(&captured, fate)?;
        ensure!(count == 0, "{count} exchanges are {fate}");
    }
    // Where an answer was lost, Redis may have taken entries that are sent again as duplicates.
    let taken = captured.sum("understudy_queue_entries_total", &[])?;
    let again = captured.sum("understudy_queue_duplicates_total", &[])?;
    ensure!(taken <= queued && taken + again >= queued, "{taken} and {again} again are not {queued}");

    let mut last = None;
    let done = wait_until("empty streams", DONE_WAIT_MAX, || {
        let fates = book_fates(&redis)?;
        last = Some(fates);
        Ok((fates >= queued).then_some(()))
    });
    ensure!(done.is_ok(), "{last:?} of {queued} have a fate: {}", workers[0].stderr());
    ensure!(book(&redis, "accepted")? == queued && book_fates(&redis)? == queued, "the books are off");
    for counter in ["trimmed", "set_aside", "forgotten"] {
        ensure!(book(&redis, counter)? == 0, "the books count {counter}");
    }
    let mut done = 0;
    for worker in &workers {
        let scrape = worker.scrape()?;
        let compared = ["matched", "mismatched", "ignored", "incomparable"];
        let compared = compared.iter().try_fold(0, |sum, fate| anyhow::Ok(sum + of_fate(&scrape, fate)?))?;
        ensure!(compared > 0, "a worker has compared nothing");
        ensure!(of_fate(&scrape, "lost")? == 0, "a worker has lost exchanges");
        done += scrape.sum("understudy_exchanges_total", &[])?;
    }
    ensure!(done == queued, "workers have given {done} fates to {queued} entries");
    for worker in workers {
        worker.signal(Signal::INT)?;
        let end = worker.join(WORKER_END_MAX)?;
        ensure!([0, 1, 3].contains(&end.code), "a worker ended with {}: {}", end.code, end.stderr);
        ensure!(end.stdout.contains("VERDICT"), "a worker printed no report: {}", end.stdout);
        ensure!(!end.stderr.contains("panicked"), "{}", end.stderr);
    }
    capture.signal(Signal::INT)?;
    let end = capture.join(DRAIN_WAIT_MAX)?;
    ensure!(
        end.code == 0 && !end.stderr.contains("panicked"),
        "capture ended with {}: {}",
        end.code,
        end.stderr
    );
    Ok(())
}

fn two_workers() -> anyhow::Result<()> {
    let stage = stage(2, Faults::None, "")?;
    let sent =
        drive(stage.a.address, &every_route(2_000), Pace { per_second: Some(200), connections: 12 })?.len();
    balance(stage, sent as u64)
}

fn outage() -> anyhow::Result<()> {
    let stage = stage(1, Faults::None, "")?;
    let load =
        |count| drive(stage.a.address, &every_route(count), Pace { per_second: Some(100), connections: 6 });
    let mut sent = load(200)?.len();
    stage.redis.freeze()?;
    sent += load(600)?.len();
    let scrape = stage.capture.scrape()?;
    ensure!(scrape.sum("understudy_spool_entries", &[])? > 0, "nothing lies in the spool");
    ensure!(scrape.sum("understudy_queue_up", &[])? == 0, "Redis is said to work");
    stage.redis.thaw()?;
    sent += load(100)?.len();
    balance(stage, sent as u64)
}
