//! What workers do to each other and what is done to them: they die, they hang, they are slow, and every exchange counts
//! once.
//!
//! Plants no fault inside of a daemon: signals, a slow B and a slow Redis come from outside.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::{Daemon, run_to_end};
use understudy_tests::fleet::{Account, Fleet, Setup};
use understudy_tests::mix::every_route;
use understudy_tests::prereq::{FLEET, Prerequisite, fleet_and};
use understudy_tests::process::Place;
use understudy_tests::proxy::Proxy;
use understudy_tests::redis::{Cluster, Sentinels, Server};
use understudy_tests::server::free_address;

use crate::Case;

/// With a library that tells one process another time of day.
const CLOCK: &[Prerequisite] = &fleet_and("faketime");
const SENTINEL: &[Prerequisite] = &fleet_and("redis-sentinel");

pub(crate) const CASES: &[Case] = &[
    Case { name: "what_a_killed_worker_had_is_done_by_another_and_counts_once", needs: FLEET, run: killed },
    Case { name: "a_worker_that_pauses_leaves_all_in_the_queue", needs: FLEET, run: paused },
    Case { name: "an_entry_that_two_workers_do_counts_once", needs: FLEET, run: two_at_one },
    Case { name: "what_is_trimmed_under_a_slow_worker_is_counted", needs: FLEET, run: trimmed },
    Case { name: "an_entry_that_workers_die_of_is_set_aside_and_shown", needs: FLEET, run: culprit },
    Case { name: "a_slow_redis_loses_nothing", needs: FLEET, run: slow_redis },
    Case { name: "steps_of_the_clocks_of_daemons_lose_nothing", needs: CLOCK, run: clock_steps },
    Case { name: "what_a_step_of_the_clock_of_redis_leaves_behind_heals", needs: FLEET, run: clock_of_redis },
    Case {
        name: "a_failover_in_a_cluster_loses_what_was_not_replicated_and_says_so",
        needs: FLEET,
        run: cluster,
    },
    Case {
        name: "a_failover_by_sentinels_loses_what_was_not_replicated_and_says_so",
        needs: SENTINEL,
        run: sentinels,
    },
];

/// How long something may take that the test waits for on the way.
const EVENT_WAIT_MAX: Duration = Duration::from_secs(60);

/// A and B are nginx with the application behind it.
fn setup(redis: &Server) -> Setup {
    Setup { nginx: true, ..Setup::new(redis) }
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

/// The books hold exactly the exchanges that were sent, all with a fate. Says how many.
fn check(account: &Account) -> anyhow::Result<u64> {
    account.captured_all(&[])?;
    ensure!(account.book.of("forgotten") == 0, "{}", account.book);
    Ok(account.sent as u64)
}

fn killed() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis))?;
    fleet.b.delay(Duration::from_millis(100));
    fleet.while_sending(&every_route(600), 200, |fleet| {
        wait_number(&fleet.workers[0], "understudy_queue_under_way", 20)?;
        fleet.kill_worker(0)
    })?;
    fleet.start_worker()?;
    fleet.b.delay(Duration::ZERO);
    let took = wait_number(&fleet.workers[0], "understudy_queue_taken_over_total", 20)?;
    let account = fleet.balance()?;
    let sent = check(&account)?;
    ensure!(account.book.compared() == sent, "{took} were taken over: {}", account.book);
    Ok(())
}

/// `understudy pause` or `resume`, said to a daemon.
fn order(daemon: &Daemon, what: &str) -> anyhow::Result<()> {
    let url = format!("http://{}", daemon.admin());
    let told = run_to_end(&Place::Here, &[what, "--url", &url])?;
    ensure!(told.code == 0, "{what}: {}", told.stderr);
    Ok(())
}

fn paused() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis))?;
    let (first, second) = (every_route(100), every_route(200));
    fleet.send(&first, 200)?;
    fleet.wait_done()?;
    order(&fleet.workers[0], "pause")?;
    let replayed = fleet.workers[0].scrape()?.sum("understudy_replay_requests_total", &[])?;
    fleet.send(&second, 200)?;
    let all = (first.len() + second.len()) as u64;
    wait_number(fleet.capture()?, "understudy_queue_entries_total", all)?;
    let now = fleet.workers[0].scrape()?.sum("understudy_replay_requests_total", &[])?;
    ensure!(now == replayed, "{} requests were sent during the pause", now - replayed);
    order(&fleet.workers[0], "resume")?;
    fleet.wait_done()?;
    let account = fleet.balance()?;
    check(&account)?;
    ensure!(account.book.compared() == all, "not all were compared: {}", account.book);
    Ok(())
}

fn two_at_one() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis))?;
    fleet.b.delay(Duration::from_millis(300));
    fleet.while_sending(&every_route(200), 100, |fleet| {
        wait_number(&fleet.workers[0], "understudy_queue_under_way", 20)?;
        fleet.workers[0].signal(Signal::STOP)
    })?;
    fleet.b.delay(Duration::ZERO);
    fleet.start_worker()?;
    wait_number(&fleet.workers[1], "understudy_queue_taken_over_total", 20)?;
    let done = fleet.wait_done()?;
    fleet.workers[0].signal(Signal::CONT)?;
    // The first one ends what it had, and Redis does not count it a second time.
    let twice = wait_number(&fleet.workers[0], "understudy_queue_settled_before_total", 20)?;
    let account = fleet.balance()?;
    check(&account)?;
    ensure!(account.book == done, "{twice} were done twice: {done}, then {}", account.book);
    Ok(())
}

fn trimmed() -> anyhow::Result<()> {
    const ENTRIES_MAX: u64 = 30;
    /// Large enough to come in parts.
    const BODY_BYTES: usize = 300_000;
    /// A dozen of them: what a worker has is done, trimmed or not.
    const HELD_BYTES_MAX: usize = 4 << 20;
    let redis = Server::start()?;
    let mut setup = setup(&redis);
    setup.books.shards = 2;
    let limits = format!("\nstream_entries_max = {ENTRIES_MAX}\nheld_bytes_max = {HELD_BYTES_MAX}");
    setup.queue.push_str(&limits);
    setup.replay.push_str("\nin_flight_max = 2");
    let mut fleet = Fleet::start(setup)?;
    // So slow that a capture which hardly has time to compress becomes faster.
    fleet.b.delay(Duration::from_secs(2));
    let mut planned = every_route(400);
    for one in &mut planned {
        (one.method, one.body_bytes, one.target) = ("GET", None, format!("/blob/{BODY_BYTES}"));
    }
    fleet.send(&planned, 40)?;
    let trimmed = || Ok((fleet.books.read()?.of("trimmed") > 20).then_some(()));
    wait_until("trimmed entries", EVENT_WAIT_MAX, trimmed)?;
    let full = fleet.books.read()?;
    ensure!(full.waiting <= 2 * ENTRIES_MAX, "more is kept than allowed: {full}");
    fleet.b.delay(Duration::ZERO);
    let account = fleet.balance()?;
    // A busy machine may not compress as much as comes, and the memory for what waits for that has its bound.
    account.captured_all(&["shed"])?;
    ensure!(account.book.of("forgotten") == 0, "{}", account.book);
    // What the worker had already when it was trimmed counts as done, and not as trimmed.
    let book = account.book;
    ensure!(book.of("trimmed") > 0 && book.compared() > 0, "nothing was trimmed, or all: {book}");
    let parts = redis.command(&["KEYS", "*:part:*"])?;
    ensure!(parts.is_empty(), "parts of entries are left: {parts}");
    Ok(())
}

fn culprit() -> anyhow::Result<()> {
    const DELIVERIES_MAX: usize = 3;
    let redis = Server::start()?;
    let mut fleet = Fleet::start(Setup {
        workers: 0,
        // A worker that waits for a busy machine is no dead one: nobody else may count a delivery.
        queue: format!("lease = \"2s\"\nclaim_after = \"4s\"\ndeliveries_max = {DELIVERIES_MAX}"),
        ..setup(&redis)
    })?;
    let mut planned = every_route(160);
    planned[80].method = "GET";
    planned[80].body_bytes = None;
    planned[80].target = "/items/culprit".to_owned();
    fleet.b.trap(Some(b"/items/culprit"));
    fleet.send(&planned, 160)?;
    for death in 1..=DELIVERIES_MAX {
        fleet.start_worker()?;
        let caught = wait_until("the request that kills", EVENT_WAIT_MAX, || {
            Ok((fleet.b.caught() >= death as u64).then_some(()))
        });
        ensure!(
            caught.is_ok(),
            "worker {death} does not meet it: {}, {}",
            fleet.books.read()?,
            fleet.workers[0].stderr()
        );
        fleet.kill_worker(0)?;
    }
    fleet.start_worker()?;
    fleet.wait_done()?;
    ensure!(fleet.b.caught() == DELIVERIES_MAX as u64, "it went to B {} times", fleet.b.caught());
    let shown = fleet.report(&["--set-aside"])?;
    ensure!(shown.code == 0, "report ended with {}: {}", shown.code, shown.stderr);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    let has = |line: usize, part: &str| lines.get(line).is_some_and(|line| line.contains(part));
    let deliveries = format!("deliveries={DELIVERIES_MAX}");
    ensure!(
        lines.len() == 3 && has(0, "lab") && has(0, "route=/items/{id}") && has(0, &deliveries),
        "{lines:?}"
    );
    let to_b = format!("http://{}/items/culprit", fleet.b.address);
    ensure!(has(1, "GET /items/culprit") && has(2, "Repeat against B: curl") && has(2, &to_b), "{lines:?}");
    let shown = fleet.report(&["--set-aside", "--json"])?;
    ensure!(shown.stdout.contains("\"target\":\"/items/culprit\""), "{}", shown.stdout);
    let account = fleet.balance()?;
    let sent = check(&account)?;
    ensure!(
        account.book.of("set_aside") == 1 && account.book.compared() == sent - 1,
        "{sent} were sent: {}",
        account.book
    );
    Ok(())
}

fn slow_redis() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let slow = Proxy::start(&Place::Here, free_address()?, ([127, 0, 0, 1], redis.port()).into())?;
    let mut fleet = Fleet::start(Setup {
        workers: 2,
        nginx: true,
        // A lease is longer than an answer takes.
        queue: "lease = \"3s\"\nclaim_after = \"6s\"".to_owned(),
        ..Setup::through(&slow, &redis)
    })?;
    slow.delay(Duration::from_millis(150));
    fleet.send(&every_route(800), 100)?;
    slow.delay(Duration::ZERO);
    let account = fleet.balance()?;
    let sent = check(&account)?;
    ensure!(account.book.compared() == sent, "{}", account.book);
    Ok(())
}

/// Of all exchanges those were forgotten that came in while nothing was replicated, and none of the 300 before.
fn check_forgotten(account: &Account) -> anyhow::Result<()> {
    account.captured_all(&[])?;
    let Account { sent, book, .. } = account;
    ensure!(book.accepted.iter().all(|accepted| *accepted > 0), "a shard got nothing: {:?}", book.accepted);
    let forgotten = book.of("forgotten");
    // Whatever was replicated before is known: a third of all, and more.
    ensure!(forgotten > 0 && forgotten < 300, "{forgotten} were forgotten: {book}");
    ensure!(book.compared() + forgotten == *sent as u64, "{sent} were sent: {book}");
    Ok(())
}

fn cluster() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(1)?;
    let mut setup = Setup { nginx: true, session: "header:X-Marker", ..Setup::cluster(&cluster) };
    setup.books.shards = 16;
    let mut fleet = Fleet::start(setup)?;
    fleet.send(&every_route(300), 150)?;
    for primary in &cluster.nodes[..3] {
        ensure!(primary.command(&["DBSIZE"])? != "0", "a primary at {} has nothing", primary.port());
    }
    let first = u64::from(cluster.nodes[0].port());
    let replica =
        cluster.nodes[3..].iter().position(|node| node.number("master_port").is_ok_and(|port| port == first));
    let Some(replica) = replica.map(|place| place + 3) else {
        anyhow::bail!("the first primary has no replica")
    };
    fleet.while_sending(&every_route(600), 100, |_| {
        die_unreplicated(&mut cluster.nodes, replica)?;
        let nodes = &cluster.nodes;
        wait_until("a new primary", EVENT_WAIT_MAX, || {
            let promoted = nodes[replica].command(&["ROLE"])?.starts_with("master");
            let state = nodes[1].command(&["CLUSTER", "INFO"])?;
            Ok((promoted && state.contains("cluster_state:ok")).then_some(()))
        })
    })?;
    // Each shard hears of its producer once more, which then sees what Redis does not know any more.
    fleet.send(&every_route(300), 150)?;
    // A third of what came in a second, and not of what was there before.
    check_forgotten(&fleet.balance()?)
}

fn sentinels() -> anyhow::Result<()> {
    let mut sentinels = Sentinels::start()?;
    let mut fleet = Fleet::start(Setup {
        nginx: true,
        session: "header:X-Marker",
        queue: "answer_wait_max = \"1s\"\nretry_max = \"500ms\"\nlease = \"2s\"\nclaim_after = \"3s\""
            .to_owned(),
        ..Setup::sentinels(&sentinels)
    })?;
    fleet.send(&every_route(300), 150)?;
    fleet.while_sending(&every_route(600), 100, |_| {
        die_unreplicated(&mut sentinels.servers, 1)?;
        sentinels.wait_for_primary(1)
    })?;
    fleet.send(&every_route(300), 150)?;
    let report = fleet.report(&["--json"])?;
    ensure!([0, 1, 3].contains(&report.code) && report.stdout.contains("\"fleet\""), "{}", report.stderr);
    check_forgotten(&fleet.balance()?)
}

/// Kills the first server, of which its replica has heard nothing for a second.
fn die_unreplicated(servers: &mut [Server], replica: usize) -> anyhow::Result<()> {
    servers[replica].freeze()?;
    // Else the kernel would still carry over what the dead had written.
    servers[0].command(&["CLIENT", "KILL", "TYPE", "replica"])?;
    pause(Duration::from_secs(1));
    servers[0].kill()?;
    servers[replica].thaw()
}

fn clock_steps() -> anyhow::Result<()> {
    const STEPS: [&str; 4] = ["+3600", "-7200", "+0", "-1"];
    let redis = Server::start()?;
    let folder = tempfile::TempDir::new()?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0")?;
    let environment = [
        ("LD_PRELOAD", clock_library()?),
        ("FAKETIME_TIMESTAMP_FILE", offset.clone()),
        ("FAKETIME_NO_CACHE", "1".into()),
        // No step of the time of day moves the clock that waits are measured by.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let environment =
        environment.map(|(name, value)| (name.to_owned(), value.display().to_string())).to_vec();
    let mut fleet = Fleet::start(Setup { workers: 2, environment, ..setup(&redis) })?;
    fleet.while_sending(&every_route(1_000), 200, |_| {
        for step in STEPS {
            pause(Duration::from_secs(1));
            std::fs::write(&offset, step)?;
        }
        Ok(())
    })?;
    let account = fleet.balance()?;
    let sent = check(&account)?;
    ensure!(account.book.compared() == sent, "{}", account.book);
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
    let mut fleet = Fleet::start(Setup { workers: 2, ..setup(&redis) })?;
    let owners = || (0..4).map(|shard| format!("{{understudy:lab:{shard}}}:owner"));
    fleet.send(&every_route(200), 200)?;
    // Set forward, every lease is over at once.
    for owner in owners() {
        redis.command(&["DEL", &owner])?;
    }
    fleet.b.delay(Duration::from_millis(100));
    fleet.send(&every_route(200), 200)?;
    // Set back, a worker that dies now was heard of an hour ahead, and its leases last as long.
    fleet.kill_worker(0)?;
    let workers = "{understudy:lab}:workers";
    let time = redis.command(&["TIME"])?;
    let now_ms = time.lines().next().context("no time")?.trim().parse::<u64>()? * 1_000;
    for worker in redis.command(&["ZRANGE", workers, "0", "-1"])?.lines() {
        redis.command(&["ZADD", workers, &(now_ms + HOUR_MS).to_string(), worker.trim()])?;
    }
    for owner in owners() {
        redis.command(&["PEXPIRE", &owner, &HOUR_MS.to_string()])?;
    }
    fleet.b.delay(Duration::ZERO);
    fleet.send(&every_route(200), 200)?;
    let account = fleet.balance()?;
    let sent = check(&account)?;
    ensure!(account.book.compared() == sent, "{}", account.book);
    Ok(())
}
