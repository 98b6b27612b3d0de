//! What workers do to each other and what is done to them: they die, they hang, they are slow, and every exchange counts
//! once.
//!
//! Plants no fault inside of a daemon: signals, a slow B and a slow Redis come from outside.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::Daemon;
use understudy_tests::hosts::{Book, Captured, Hosts, Plan};
use understudy_tests::mix::{Pace, Planned, drive, every_route};
use understudy_tests::prereq::{KERNEL, Prerequisite};
use understudy_tests::proxy::Proxy;
use understudy_tests::redis::{Cluster, Server};
use understudy_tests::server::free_address;

use crate::Case;

const NEEDS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("nginx"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
];

/// With a library that tells one process another time of day.
const CLOCK: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("nginx"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
    Prerequisite::Tool("faketime"),
];

pub(crate) const CASES: &[Case] = &[
    Case { name: "what_a_killed_worker_had_is_done_by_another_and_counts_once", needs: NEEDS, run: killed },
    Case { name: "an_entry_that_two_workers_do_counts_once", needs: NEEDS, run: two_at_one },
    Case { name: "what_is_trimmed_under_a_slow_worker_is_counted", needs: NEEDS, run: trimmed },
    Case { name: "an_entry_that_workers_die_of_is_set_aside_and_shown", needs: NEEDS, run: culprit },
    Case { name: "a_slow_redis_loses_nothing", needs: NEEDS, run: slow_redis },
    Case { name: "steps_of_the_clocks_of_daemons_lose_nothing", needs: CLOCK, run: clock_steps },
    Case { name: "what_a_step_of_the_clock_of_redis_leaves_behind_heals", needs: NEEDS, run: clock_of_redis },
    Case {
        name: "a_failover_in_a_cluster_loses_what_was_not_replicated_and_says_so",
        needs: NEEDS,
        run: cluster,
    },
];

/// How long the last entries may take from Redis to the journal and back.
const DONE_WAIT_MAX: Duration = Duration::from_secs(25);
/// How long something may take that the test waits for on the way.
const EVENT_WAIT_MAX: Duration = Duration::from_secs(15);

fn plan(redis: &Server) -> Plan {
    Plan::new(vec![redis.url()], vec![redis.port()])
}

fn load(hosts: &Hosts, planned: &[Planned], per_second: u32) -> anyhow::Result<u64> {
    let sent = drive(hosts.a.address, planned, Pace { per_second: Some(per_second), connections: 8 })?;
    Ok(sent.len() as u64)
}

/// Waits until a number of the worker is at least `least`.
fn wait_number(worker: &Daemon, name: &str, least: u64) -> anyhow::Result<u64> {
    let mut last = 0;
    let reached = wait_until(name, EVENT_WAIT_MAX, || {
        last = worker.scrape()?.sum(name, &[])?;
        Ok((last >= least).then_some(last))
    });
    ensure!(reached.is_ok(), "{name} is {last} and not {least}: {}", worker.stderr());
    reached
}

/// The books hold exactly the exchanges that were sent, all with a fate.
fn check(sent: u64, captured: &Captured, book: &Book) -> anyhow::Result<()> {
    ensure!(captured.seen == sent, "{} of {sent} exchanges were seen", captured.seen);
    ensure!(captured.of("queued") == sent, "{sent} were sent: {captured:?}");
    ensure!(book.of("accepted") == sent && book.of("forgotten") == 0, "{sent} were sent: {book}");
    Ok(())
}

fn killed() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut hosts = Hosts::start(&plan(&redis))?;
    hosts.start_worker()?;
    hosts.b.delay(Duration::from_millis(100));
    let sent = load(&hosts, &every_route(600), 200)?;
    wait_number(&hosts.workers[0], "understudy_queue_under_way", 20)?;
    hosts.kill_worker(0)?;
    hosts.start_worker()?;
    hosts.b.delay(Duration::ZERO);
    let took = wait_number(&hosts.workers[0], "understudy_queue_taken_over_total", 20)?;
    hosts.wait_done(DONE_WAIT_MAX)?;
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent, &captured, &book)?;
    ensure!(book.compared() == sent, "{took} were taken over: {book}");
    Ok(())
}

fn two_at_one() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut hosts = Hosts::start(&plan(&redis))?;
    hosts.start_worker()?;
    hosts.b.delay(Duration::from_millis(300));
    let sent = load(&hosts, &every_route(200), 100)?;
    wait_number(&hosts.workers[0], "understudy_queue_under_way", 20)?;
    hosts.workers[0].signal(Signal::STOP)?;
    hosts.b.delay(Duration::ZERO);
    hosts.start_worker()?;
    wait_number(&hosts.workers[1], "understudy_queue_taken_over_total", 20)?;
    let done = hosts.wait_done(DONE_WAIT_MAX)?;
    hosts.workers[0].signal(Signal::CONT)?;
    // The first one ends what it had, and Redis does not count it a second time.
    let twice = wait_number(&hosts.workers[0], "understudy_queue_settled_before_total", 20)?;
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent, &captured, &book)?;
    ensure!(book == done, "{twice} were done twice: {done}, then {book}");
    Ok(())
}

fn trimmed() -> anyhow::Result<()> {
    const ENTRIES_MAX: u64 = 30;
    /// More of them than this than go into the memory of a worker, and each comes in parts.
    const BODY_BYTES: usize = 300_000;
    let redis = Server::start()?;
    let mut plan = plan(&redis);
    plan.shards = 2;
    plan.queue.push_str(&format!("\nstream_entries_max = {ENTRIES_MAX}"));
    plan.replay.push_str("\nin_flight_max = 2");
    let mut hosts = Hosts::start(&plan)?;
    hosts.start_worker()?;
    hosts.b.delay(Duration::from_millis(40));
    let mut planned = every_route(400);
    for one in &mut planned {
        (one.method, one.body_bytes, one.target) = ("GET", None, format!("/blob/{BODY_BYTES}"));
    }
    let sent = load(&hosts, &planned, 80)?;
    let full = hosts.books.read()?;
    ensure!(full.waiting <= 2 * ENTRIES_MAX, "more is kept than allowed: {full}");
    hosts.b.delay(Duration::ZERO);
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent, &captured, &book)?;
    // What the worker had already when it was trimmed counts as done, and not as trimmed.
    ensure!(book.of("trimmed") > 0 && book.compared() > 0, "nothing was trimmed, or all: {book}");
    let parts = redis.command(&["KEYS", "*:part:*"])?;
    ensure!(parts.is_empty(), "parts of entries are left: {parts}");
    Ok(())
}

fn culprit() -> anyhow::Result<()> {
    const DELIVERIES_MAX: usize = 3;
    let redis = Server::start()?;
    let mut plan = plan(&redis);
    plan.queue = format!("lease = \"500ms\"\nclaim_after = \"1s\"\ndeliveries_max = {DELIVERIES_MAX}");
    let mut hosts = Hosts::start(&plan)?;
    let mut planned = every_route(160);
    planned[80].method = "GET";
    planned[80].body_bytes = None;
    planned[80].target = "/items/culprit".to_owned();
    hosts.b.trap(Some(b"/items/culprit"));
    let sent = load(&hosts, &planned, 160)?;
    for death in 1..=DELIVERIES_MAX {
        hosts.start_worker()?;
        let caught = wait_until("the request that kills", EVENT_WAIT_MAX, || {
            Ok((hosts.b.caught() >= death as u64).then_some(()))
        });
        ensure!(
            caught.is_ok(),
            "worker {death} does not meet it: {}, {}",
            hosts.books.read()?,
            hosts.workers[0].stderr()
        );
        hosts.kill_worker(0)?;
    }
    hosts.start_worker()?;
    hosts.wait_done(DONE_WAIT_MAX)?;
    ensure!(hosts.b.caught() == DELIVERIES_MAX as u64, "it went to B {} times", hosts.b.caught());
    let shown = hosts.report(&["--set-aside"])?;
    ensure!(shown.code == 0, "report ended with {}: {}", shown.code, shown.stderr);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    let has = |part: &str| lines.len() == 1 && lines[0].contains(part);
    ensure!(
        has("lab") && has("route=/items/{id}") && has(&format!("deliveries={DELIVERIES_MAX}")),
        "{}",
        shown.stdout
    );
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent, &captured, &book)?;
    ensure!(book.of("set_aside") == 1 && book.compared() == sent - 1, "{book}");
    Ok(())
}

fn slow_redis() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let slow = Proxy::start(free_address()?, ([127, 0, 0, 1], redis.port()).into())?;
    let mut plan = plan(&redis);
    plan.redis = vec![format!("redis://{}", slow.address)];
    // A lease is longer than an answer takes.
    plan.queue = "lease = \"3s\"\nclaim_after = \"6s\"".to_owned();
    let mut hosts = Hosts::start(&plan)?;
    hosts.start_worker()?;
    hosts.start_worker()?;
    slow.delay(Duration::from_millis(150));
    let sent = load(&hosts, &every_route(800), 100)?;
    slow.delay(Duration::ZERO);
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent, &captured, &book)?;
    ensure!(book.compared() == sent, "{book}");
    Ok(())
}

fn cluster() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1)?;
    let mut plan = Plan::new(cluster.urls(), cluster.nodes.iter().map(Server::port).collect());
    plan.shards = 16;
    plan.session = "header:X-Marker";
    let mut hosts = Hosts::start(&plan)?;
    hosts.start_worker()?;
    let mut sent = load(&hosts, &every_route(300), 150)?;
    for primary in &cluster.nodes[..3] {
        ensure!(primary.command(&["DBSIZE"])? != "0", "a primary at {} has nothing", primary.port());
    }
    let first = u64::from(cluster.nodes[0].port());
    let replica =
        cluster.nodes[3..].iter().position(|node| node.number("master_port").is_ok_and(|port| port == first));
    let Some(replica) = replica.map(|place| place + 3) else {
        anyhow::bail!("the first primary has no replica")
    };

    let (address, planned) = (hosts.a.address, every_route(600));
    let pace = Pace { per_second: Some(100), connections: 8 };
    let under_load = std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(address, &planned, pace));
        let acted = fail_over(&mut cluster.nodes, replica);
        let load = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        acted.and(load)
    })?;
    sent += under_load.len() as u64;
    // Each shard hears of its producer once more, which then sees what Redis does not know any more.
    sent += load(&hosts, &every_route(300), 150)?;
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    ensure!(captured.seen == sent && captured.of("queued") == sent, "{sent} were sent: {captured:?}");
    ensure!(book.accepted.iter().all(|accepted| *accepted > 0), "a shard got nothing: {:?}", book.accepted);
    // A third of what came in a second, and not of what was there before.
    let forgotten = book.of("forgotten");
    ensure!(forgotten > 0 && forgotten < 150, "{forgotten} were forgotten: {book}");
    ensure!(book.compared() + forgotten == sent, "{sent} were sent: {book}");
    Ok(())
}

/// Kills the first primary of which nothing was replicated for a second, and waits for its replica to take over.
fn fail_over(nodes: &mut [Server], replica: usize) -> anyhow::Result<()> {
    nodes[replica].freeze()?;
    // Else the kernel would still carry over what the dead had written.
    nodes[0].command(&["CLIENT", "KILL", "TYPE", "replica"])?;
    pause(Duration::from_secs(1));
    nodes[0].kill()?;
    nodes[replica].thaw()?;
    wait_until("a new primary", EVENT_WAIT_MAX, || {
        let promoted = nodes[replica].command(&["ROLE"])?.starts_with("master");
        let state = nodes[1].command(&["CLUSTER", "INFO"])?;
        Ok((promoted && state.contains("cluster_state:ok")).then_some(()))
    })
}

fn clock_steps() -> anyhow::Result<()> {
    const STEPS: [&str; 4] = ["+3600", "-7200", "+0", "-1"];
    let redis = Server::start()?;
    let folder = tempfile::TempDir::new()?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0")?;
    let mut plan = plan(&redis);
    plan.environment = [
        ("LD_PRELOAD", clock_library()?),
        ("FAKETIME_TIMESTAMP_FILE", offset.clone()),
        ("FAKETIME_NO_CACHE", "1".into()),
        // No step of the time of day moves the clock that waits are measured by.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value.display().to_string()))
    .to_vec();
    let mut hosts = Hosts::start(&plan)?;
    hosts.start_worker()?;
    hosts.start_worker()?;
    let (address, planned) = (hosts.a.address, every_route(1_000));
    let pace = Pace { per_second: Some(200), connections: 8 };
    let sent = std::thread::scope(|scope| {
        let planned = &planned;
        let load = scope.spawn(move || drive(address, planned, pace));
        for step in STEPS {
            pause(Duration::from_secs(1));
            std::fs::write(&offset, step)?;
        }
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent.len() as u64, &captured, &book)?;
    ensure!(book.compared() == captured.seen, "{book}");
    Ok(())
}

/// Where the library of `faketime` lies: in a folder named after the machine.
fn clock_library() -> anyhow::Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok).map(|entry| entry.path());
    let found = folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.is_file())
        .context("the library of faketime is not in /usr/lib")?;
    Ok(found)
}

fn clock_of_redis() -> anyhow::Result<()> {
    const HOUR_MS: u64 = 3_600_000;
    let redis = Server::start()?;
    let mut hosts = Hosts::start(&plan(&redis))?;
    hosts.start_worker()?;
    hosts.start_worker()?;
    let owners = || (0..4).map(|shard| format!("{{understudy:lab:{shard}}}:owner"));
    let mut sent = load(&hosts, &every_route(200), 200)?;
    // Set forward, every lease is over at once.
    for owner in owners() {
        redis.command(&["DEL", &owner])?;
    }
    hosts.b.delay(Duration::from_millis(100));
    sent += load(&hosts, &every_route(200), 200)?;
    // Set back, a worker that dies now was heard of an hour ahead, and its leases last as long.
    hosts.kill_worker(0)?;
    let workers = "{understudy:lab}:workers";
    let time = redis.command(&["TIME"])?;
    let now_ms = time.lines().next().context("no time")?.trim().parse::<u64>()? * 1_000;
    for worker in redis.command(&["ZRANGE", workers, "0", "-1"])?.lines() {
        redis.command(&["ZADD", workers, &(now_ms + HOUR_MS).to_string(), worker.trim()])?;
    }
    for owner in owners() {
        redis.command(&["PEXPIRE", &owner, &HOUR_MS.to_string()])?;
    }
    hosts.b.delay(Duration::ZERO);
    sent += load(&hosts, &every_route(200), 200)?;
    let (captured, book) = hosts.balance(DONE_WAIT_MAX)?;
    check(sent, &captured, &book)?;
    ensure!(book.compared() == sent, "{book}");
    Ok(())
}
