//! What happens to Redis, to the way there, to the capture and to its disk while exchanges come; each with the oracle at
//! the end: every exchange has one fate, and none is compared twice.
//!
//! What happens to workers is not here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::Daemon;
use understudy_tests::disk::SmallDisk;
use understudy_tests::fleet::{CONNECTIONS, Fleet, SHARDS, Setup};
use understudy_tests::lab::Lab;
use understudy_tests::prereq::{FLEET, Prerequisite, fleet_and};
use understudy_tests::redis::{Options, Server};

use crate::Case;

const APART: &[Prerequisite] = &fleet_and("ip");

pub(crate) const CASES: &[Case] = &[
    Case { name: "redis_stops_for_ten_seconds", needs: FLEET, run: stopped },
    Case { name: "redis_is_killed_and_comes_back_empty", needs: FLEET, run: emptied },
    Case { name: "redis_is_out_of_memory", needs: FLEET, run: out_of_memory },
    Case { name: "the_network_to_redis_is_cut", needs: APART, run: cut },
    Case { name: "the_capture_is_killed_with_a_full_spool", needs: FLEET, run: capture_killed },
    Case { name: "the_capture_is_killed_under_load", needs: FLEET, run: capture_killed_under_load },
    Case { name: "others_have_agreed_on_another_number_of_shards", needs: FLEET, run: disagreement },
    Case { name: "a_key_in_the_way_holds_up_nobody_else", needs: FLEET, run: key_in_the_way },
    Case { name: "what_is_refused_of_an_earlier_spool_has_that_fate", needs: FLEET, run: refused_of_former },
    Case { name: "rights_that_were_taken_back_lose_nothing", needs: FLEET, run: rights_taken_back },
    Case { name: "the_disk_of_the_spool_is_full", needs: FLEET, run: disk_full },
];

/// How long the capture may take to find out that Redis is away or back.
const NOTICE_WAIT_MAX: Duration = Duration::from_secs(12);
/// A Redis that does not answer is given up soon, and asked again soon.
const PROMPT: &str = "connect_wait_max = \"1s\"\nanswer_wait_max = \"1s\"\nretry_max = \"500ms\"\nlease = \"2s\"\n\
                      claim_after = \"3s\"";

/// With one worker, and [`PROMPT`].
fn prompt(redis: &Server) -> Setup {
    Setup { queue: PROMPT.to_owned(), ..Setup::new(redis) }
}

/// Entries that can be on their way to Redis at once, at the pace of these tests.
const UNCONFIRMED_MAX: usize = 8;

/// Numbers of the entries of one producer in the stream of a shard, in their order there.
fn numbers(redis: &Server, shard: u32) -> anyhow::Result<Vec<u64>> {
    let key = format!("{{understudy:lab:{shard}}}:stream");
    // Values are not wanted; a script leaves them where they are.
    let script = "local found = {} for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do \
                  for at = 1, #entry[2], 2 do if entry[2][at] == 'seq' then found[#found + 1] = entry[2][at + 1] end end \
                  end return found";
    let said = redis.command(&["EVAL", script, "1", &key])?;
    said.lines().filter(|line| !line.is_empty()).map(|line| Ok(line.trim().parse()?)).collect()
}

/// With the waits of a host in production: Redis stands still under load, and what waited on disk comes in the order in
/// which it was captured.
fn stopped() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(Setup { queue: String::new(), ..Setup::new(&redis) })?;
    fleet.load(100, 100)?;
    // Else what the worker has now may be done in another order, and leave a number out.
    fleet.settle()?;
    redis.freeze()?;
    fleet.under_load(1_100, 100, |fleet| {
        pause(Duration::from_secs(10));
        fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count > 0)?;
        ensure!(fleet.scrape()?.sum("understudy_queue_up", &[])? == 0, "Redis is said to work");
        // What is read is gone from the stream; so nobody reads while the order is looked at.
        fleet.workers[0].signal(Signal::STOP)?;
        redis.thaw()
    })?;
    fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count == 0)?;
    let mut waiting = 0;
    for shard in 0..SHARDS {
        let numbers = numbers(&redis, shard)?;
        ensure!(numbers.is_sorted_by(|one, next| one + 1 == *next), "shard {shard} has {numbers:?}");
        waiting += numbers.len();
    }
    ensure!(waiting > 500, "only {waiting} entries were looked at");
    fleet.workers[0].signal(Signal::CONT)?;
    fleet.load(100, 100)?;
    let account = fleet.balance()?;
    account.captured_all(&[])?;
    account.arrived_once(0..account.sent)?;
    ensure!(account.book.of("forgotten") + account.book.of("trimmed") == 0, "{:?}", account.book);
    Ok(())
}

/// Redis loses everything, also what it had confirmed: that is counted, and nothing else is lost.
fn emptied() -> anyhow::Result<()> {
    // Every shard gets entries again afterwards; a shard tells what it forgot when it does.
    let mut redis = Server::start()?;
    let mut fleet = Fleet::start(Setup { session: "header:X-Marker", ..Setup::new(&redis) })?;
    fleet.load(100, 100)?;
    fleet.under_load(700, 100, |_| {
        pause(Duration::from_secs(2));
        redis.kill()?;
        pause(Duration::from_secs(2));
        redis.restart()
    })?;
    fleet.load(200, 100)?;
    let account = fleet.balance()?;
    account.captured_all(&[])?;
    let forgotten = account.book.of("forgotten");
    ensure!(forgotten >= 100, "only {forgotten} entries are said to be forgotten");
    // What Redis had and did not confirm is sent again, and nobody is left who knows that B had it.
    let twice = account.arrivals.values().filter(|times| **times > 1).count();
    ensure!(twice <= UNCONFIRMED_MAX, "B received {twice} requests more than once");
    let missing = account.sent - account.arrivals.len();
    ensure!(missing as u64 <= forgotten, "B has not received {missing}, and {forgotten} are forgotten");
    Ok(())
}

fn out_of_memory() -> anyhow::Result<()> {
    let arguments = ["--maxmemory-policy", "noeviction"].map(str::to_owned).to_vec();
    let redis = Server::start_with(Options { arguments, ..Options::default() })?;
    let mut fleet = Fleet::start(prompt(&redis))?;
    fleet.load(100, 100)?;
    fleet.under_load(700, 100, |fleet| {
        // Less than it holds.
        redis.set("maxmemory", "500kb")?;
        fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count > 100)?;
        let scrape = fleet.scrape()?;
        let errors = scrape.sum("understudy_queue_errors_total", &[("kind", "out_of_memory")])?;
        ensure!(errors > 0, "nobody says that Redis is out of memory");
        redis.set("maxmemory", "0")
    })?;
    let account = fleet.balance()?;
    account.captured_all(&[])?;
    account.arrived_once(0..account.sent)?;
    Ok(())
}

/// Packets vanish, and no connection ends: whether Redis has the last batch nobody knows.
fn cut() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let redis = Server::start_with(Options { place: lab.b.place(), ..Options::default() })?;
    let mut fleet = Fleet::start(Setup { queue: PROMPT.to_owned(), ..Setup::apart(lab, &redis) })?;
    fleet.load(100, 100)?;
    fleet.under_load(800, 100, |fleet| {
        let host = &fleet.lab.as_ref().context("no hosts")?.b;
        host.unplug()?;
        fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count > 200)?;
        host.plug_in()
    })?;
    let account = fleet.balance()?;
    account.captured_all(&[])?;
    account.arrived_once(0..account.sent)?;
    Ok(())
}

/// Everything lies in the spool when the capture dies: the next one hands all of it over, and nothing twice.
fn capture_killed() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(prompt(&redis))?;
    fleet.load(100, 100)?;
    let all = fleet.sent as u64;
    fleet.wait_for("understudy_exchanges_total", NOTICE_WAIT_MAX, |count| count == all)?;
    redis.freeze()?;
    fleet.load(300, 100)?;
    fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count == 300)?;
    fleet.kill_capture()?;
    redis.thaw()?;
    fleet.start_capture()?;
    let first = fleet.sent;
    fleet.load(100, 100)?;
    let account = fleet.balance()?;
    let seen = account.capture.sum("understudy_exchanges_seen_total", &[])?;
    ensure!(seen == (account.sent - first) as u64, "the second capture saw {seen}");
    ensure!(account.captured.of("queued") == seen, "not all of them are queued");
    account.redis_has(account.sent as u64)?;
    // Some had come to Redis before; nobody had been told.
    let recovered = account.capture.sum("understudy_queue_recovered_total", &[])?;
    let again = account.book.of("duplicates");
    ensure!(recovered <= 300 && recovered + again >= 300, "{recovered} recovered, {again} sent again");
    account.arrived_once(0..account.sent)?;
    Ok(())
}

/// The capture dies while it writes to the spool: what was in its memory is lost, and nothing comes twice.
fn capture_killed_under_load() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(prompt(&redis))?;
    fleet.load(100, 100)?;
    fleet.settle()?.arrived_once(0..fleet.sent)?;
    let first = fleet.sent;
    fleet.under_load(1_000, 100, |fleet| {
        redis.freeze()?;
        // The connections of the load are not in step: the first 200 are among the first 400.
        fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count > 400)?;
        fleet.kill_capture()?;
        redis.thaw()?;
        fleet.start_capture()
    })?;
    let last = fleet.sent;
    fleet.load(100, 100)?;
    let account = fleet.balance()?;
    account.arrived_once((0..first + 200).chain(last..account.sent))?;
    let (arrived, accepted) = (account.arrivals.len() as u64, account.book.of("accepted"));
    ensure!(arrived == accepted, "B received {arrived} of {accepted} that Redis accepted");
    let recovered = account.capture.sum("understudy_queue_recovered_total", &[])?;
    ensure!(recovered + account.book.of("duplicates") > 400, "only {recovered} were recovered");
    Ok(())
}

/// Capture and worker find out while they run: they end and say so, and what is captured meanwhile waits in the spool.
fn disagreement() -> anyhow::Result<()> {
    const SETTINGS: &str = "{understudy:lab}:settings";
    let redis = Server::start()?;
    let mut fleet = Fleet::start(prompt(&redis))?;
    fleet.load(100, 100)?;
    fleet.settle()?;
    // What waits in the spool would be sent before anybody finds out.
    redis.command(&["ACL", "SETUSER", "default", "-xadd"])?;
    let said = fleet.under_load(600, 100, |fleet| {
        redis.command(&["HSET", SETTINGS, "shards", "8"])?;
        // What all agree on is said again once Redis was away.
        redis.freeze()?;
        let noticed = |daemon: &Daemon| daemon.stderr().contains("Results cannot be told to other hosts");
        wait_until("notice in both", NOTICE_WAIT_MAX, || {
            Ok((noticed(fleet.capture()?) && fleet.workers.iter().all(noticed)).then_some(()))
        })?;
        redis.thaw()?;
        let of_capture = fleet.wait_capture_end(2)?;
        let worker = fleet.workers.remove(0).join(NOTICE_WAIT_MAX)?;
        ensure!(worker.code == 2, "the worker ended with {}: {}", worker.code, worker.stderr);
        Ok([of_capture, worker.stderr])
    })?;
    for said in said {
        let names_both = said.contains("8 shards there and 4 in this configuration");
        ensure!(names_both && said.contains("set `[queue] shards = 8` here"), "{said}");
    }
    redis.command(&["HSET", SETTINGS, "shards", "4"])?;
    redis.command(&["ACL", "SETUSER", "default", "+@all"])?;
    fleet.start_worker()?;
    fleet.start_capture()?;
    let first = fleet.sent;
    fleet.load(100, 100)?;
    let account = fleet.balance()?;
    ensure!(account.captured.of("spooled") > 50, "hardly any were spooled: {:?}", account.captured);
    // A had not answered all of its connections when the capture ended.
    let unanswered = account.captured.of("no_response");
    ensure!(unanswered <= CONNECTIONS as u64, "{:?}", account.captured);
    ensure!(account.captured.given() + unanswered == account.captured.seen, "{:?}", account.captured);
    account.arrived_once(first..account.sent)
}

/// Somebody's key lies where one shard has its book: that shard loses what comes meanwhile, and says so.
fn key_in_the_way() -> anyhow::Result<()> {
    const BOOK: &str = "{understudy:lab:1}:book";
    let redis = Server::start()?;
    let queue = format!("{PROMPT}\nrefused_wait_max = \"2s\"");
    let mut fleet =
        Fleet::start(Setup { queue, session: "header:X-Marker", workers: 1, ..Setup::new(&redis) })?;
    fleet.load(200, 100)?;
    fleet.settle()?;
    // In one step each: an entry that came between two would be counted in a book that goes.
    let step = |script: &str| redis.command(&["EVAL", script, "2", BOOK, "kept"]).map(drop);
    step("redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('SET', KEYS[1], 'somebody')")?;
    fleet.under_load(1_200, 100, |fleet| {
        let refused =
            |fleet: &Fleet| fleet.scrape()?.sum("understudy_exchanges_total", &[("fate", "refused")]);
        wait_until("a refusal", NOTICE_WAIT_MAX, || Ok((refused(fleet)? > 20).then_some(())))?;
        // The others came behind them in the spool, and go straight to Redis now.
        let queued = |fleet: &Fleet| fleet.scrape()?.sum("understudy_exchanges_total", &[("fate", "queued")]);
        let before = queued(fleet)?;
        wait_until("others", NOTICE_WAIT_MAX, || Ok((queued(fleet)? > before + 100).then_some(())))?;
        let scrape = fleet.scrape()?;
        ensure!(scrape.sum("understudy_queue_up", &[])? == 0, "Redis is said to work");
        let said = fleet.capture()?.stderr();
        ensure!(said.contains(BOOK) && said.contains("a string lies under the key"), "{said}");
        let times = said.matches("Redis refuses entries").count();
        ensure!(times == 1, "it is said {times} times: {said}");
        step("redis.call('RENAME', KEYS[2], KEYS[1])")
    })?;
    fleet.load(100, 100)?;
    let account = fleet.balance()?;
    account.captured_all(&["refused"])?;
    account.arrived_once(account.sent - 100..account.sent)
}

/// A capture ends with entries in its spool, and Redis refuses a part of them when the next one sends them: each of them has
/// one fate in the report, and lies in no spool any more.
fn refused_of_former() -> anyhow::Result<()> {
    const BOOK: &str = "{understudy:lab:1}:book";
    let redis = Server::start()?;
    let queue = format!("{PROMPT}\nrefused_wait_max = \"2s\"");
    let mut fleet =
        Fleet::start(Setup { queue, session: "header:X-Marker", workers: 1, ..Setup::new(&redis) })?;
    fleet.load(100, 100)?;
    fleet.settle()?;
    // Entries wait, and how it ends can be told all the same.
    redis.command(&["ACL", "SETUSER", "default", "-xadd"])?;
    fleet.load(200, 100)?;
    fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count == 200)?;
    fleet.end_capture()?;
    redis.command(&["ACL", "SETUSER", "default", "+@all"])?;
    let fates = |fleet: &Fleet| -> anyhow::Result<BTreeMap<String, u64>> {
        let report = fleet.report(&["--json"])?;
        let report: serde_json::Value =
            serde_json::from_str(&report.stdout).with_context(|| report.stderr.clone())?;
        let experiment = &report["experiments"][0];
        let count = |fate: &serde_json::Value| {
            Some((fate["name"].as_str()?.to_owned(), fate["count"].as_u64().filter(|count| *count > 0)?))
        };
        let mut fates: BTreeMap<_, _> =
            experiment["fates"].as_array().context("no fates")?.iter().filter_map(count).collect();
        let rest = [("in flight", &experiment["in_flight"]), ("ahead", &experiment["fleet"]["ahead"])];
        let rest = rest.map(|(name, count)| (name.to_owned(), count.as_u64().unwrap_or_default()));
        fates.extend(rest.into_iter().filter(|(_, count)| *count > 0));
        Ok(fates)
    };
    let of = |all: &[(&str, u64)]| -> BTreeMap<String, u64> {
        all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    let before = fates(&fleet)?;
    ensure!(before == of(&[("matched", 100), ("spooled", 200)]), "{before:?}");
    let step = |script: &str| redis.command(&["EVAL", script, "2", BOOK, "kept"]).map(drop);
    step("redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('SET', KEYS[1], 'somebody')")?;
    fleet.start_capture()?;
    fleet.wait_for("understudy_queue_given_up_total", NOTICE_WAIT_MAX, |count| count > 20)?;
    fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count == 0)?;
    let scrape = fleet.scrape()?;
    let given_up = scrape.sum("understudy_queue_given_up_total", &[("fate", "refused")])?;
    ensure!(given_up == scrape.sum("understudy_queue_given_up_total", &[])?, "not all of it was refused");
    ensure!(scrape.sum("understudy_exchanges_total", &[("fate", "refused")])? == 0, "they count as its own");
    step("redis.call('RENAME', KEYS[2], KEYS[1])")?;
    fleet.end_capture()?;
    fleet.wait_done()?;
    fleet.end_workers()?;
    let after = fates(&fleet)?;
    ensure!(after == of(&[("matched", 300 - given_up), ("refused", given_up)]), "{given_up}: {after:?}");
    Ok(())
}

/// The user may not write any more, and then may again: as long as nothing else could be sent, it is an outage.
fn rights_taken_back() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let queue = format!("{PROMPT}\nrefused_wait_max = \"1s\"");
    let mut fleet = Fleet::start(Setup { queue, ..Setup::new(&redis) })?;
    fleet.load(100, 100)?;
    fleet.under_load(800, 100, |fleet| {
        redis.command(&["ACL", "SETUSER", "default", "-@write"])?;
        let of_rights = [("kind", "permission")];
        let errors = |fleet: &Fleet| fleet.scrape()?.sum("understudy_queue_errors_total", &of_rights);
        wait_until("error", NOTICE_WAIT_MAX, || Ok((errors(fleet)? > 0).then_some(())))?;
        pause(Duration::from_secs(4));
        redis.command(&["ACL", "SETUSER", "default", "+@all"]).map(drop)
    })?;
    let account = fleet.balance()?;
    account.captured_all(&[])?;
    account.arrived_once(0..account.sent)
}

/// Redis is away and the disk takes nothing, then something, then Redis is back.
fn disk_full() -> anyhow::Result<()> {
    let disk = SmallDisk::mount("512k")?;
    let spool_path = Some(disk.folder().join("spool"));
    let redis = Server::start()?;
    // To the last block: nobody else needs this disk.
    let spool = "free_bytes_min = 0\n".to_owned();
    let mut fleet = Fleet::start(Setup { spool_path, spool, ..prompt(&redis) })?;
    fleet.load(100, 100)?;
    let filler = disk.fill()?;
    fleet.under_load(1_000, 100, |fleet| {
        redis.freeze()?;
        let of_fate = |fate: &'static str| {
            move |fleet: &Fleet| fleet.scrape()?.sum("understudy_exchanges_total", &[("fate", fate)])
        };
        let refused = of_fate("spool_full");
        wait_until("refusals", NOTICE_WAIT_MAX, || Ok((refused(fleet)? > 100).then_some(())))?;
        std::fs::remove_file(&filler).context("failed to make room on the disk")?;
        fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count > 50)?;
        redis.thaw()
    })?;
    fleet.load(100, 100)?;
    let account = fleet.balance()?;
    account.captured_all(&["spool_full"])?;
    let (arrived, queued) = (account.arrivals.len() as u64, account.captured.of("queued"));
    ensure!(arrived == queued, "B received {arrived} of {queued} that were queued");
    account.arrived_once(account.sent - 100..account.sent)?;
    let failures = account.capture.sum("understudy_spool_failures_total", &[])?;
    ensure!(failures > 0, "the spool is said to have refused nothing");
    Ok(())
}
