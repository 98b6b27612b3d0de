//! One report for a fleet: what captures saw, what Redis counted and what workers found add up, whoever died meanwhile.
//!
//! A and B are nginx with the application behind it, on loopback, and a real Redis between the daemons.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use understudy_tests::app::Faults;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Finished, finish};
use understudy_tests::fleet::{Fleet, Setup};
use understudy_tests::mix::every_route;
use understudy_tests::prereq::{FLEET, Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::redis::Server;
use understudy_tests::verdict::Findings;

use crate::Case;

const NEEDS_REDIS: &[Prerequisite] = &[Prerequisite::Tool("redis-server"), Prerequisite::Tool("redis-cli")];

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "one_report_counts_each_difference_once_though_a_worker_dies",
        needs: FLEET,
        run: one_report,
    },
    Case { name: "a_spool_that_is_taken_over_is_in_the_report", needs: FLEET, run: taken_over },
    Case { name: "a_capture_reads_its_selection_again_at_a_hangup", needs: FLEET, run: reloaded },
    Case { name: "who_is_paused_is_in_the_report_of_the_fleet", needs: FLEET, run: paused },
    Case { name: "a_redis_without_a_fleet_has_no_report_and_says_so", needs: NEEDS_REDIS, run: nothing },
];

/// How long a report may take.
const REPORT_MAX: Duration = Duration::from_secs(10);
/// How long what the test waits for may take.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Requests to A in a second.
const RATE: u32 = 160;

/// A and B are nginx with the application behind it.
fn setup(redis: &Server, workers: usize) -> Setup {
    Setup { workers, nginx: true, ..Setup::new(redis) }
}

fn report(arguments: &[&str]) -> anyhow::Result<Finished> {
    let mut command: Command = Place::Here.command(daemon_program());
    finish(command.arg("report").args(arguments), REPORT_MAX)
}

fn number(value: &Value, path: &str) -> anyhow::Result<u64> {
    value.pointer(path).and_then(Value::as_u64).with_context(|| format!("no number at {path} in {value}"))
}

/// Sum of a list of counts.
fn sum(value: &Value, path: &str) -> anyhow::Result<u64> {
    let list = value.pointer(path).and_then(Value::as_array);
    list.with_context(|| format!("no list at {path}"))?.iter().map(|count| number(count, "/count")).sum()
}

/// The count of one name in a list of counts.
fn count_of(value: &Value, path: &str, name: &str) -> anyhow::Result<u64> {
    let list = value.pointer(path).and_then(Value::as_array).with_context(|| format!("no list at {path}"))?;
    list.iter().find(|count| count["name"] == name).map_or(Ok(0), |count| number(count, "/count"))
}

/// Adds up what the report of a fleet says: its one experiment.
fn balanced(text: &str) -> anyhow::Result<Value> {
    let report: Value = serde_json::from_str(text).context("the report is no JSON")?;
    let experiment = report.pointer("/experiments/0").context("no experiment")?.clone();
    let (seen, in_flight) = (number(&experiment, "/seen")?, number(&experiment, "/in_flight")?);
    let fates = sum(&experiment, "/fates")?;
    ensure!(seen == in_flight + fates, "{seen} seen are not {in_flight} in flight and {fates}");
    let fleet = &experiment["fleet"];
    let accepted = number(fleet, "/book/accepted")?;
    let rest = ["waiting", "trimmed", "set_aside"].map(|name| number(fleet, &format!("/book/{name}")));
    let rest: u64 = rest.into_iter().sum::<anyhow::Result<u64>>()?;
    let settled = sum(fleet, "/book/fates")?;
    ensure!(accepted == settled + rest, "{accepted} accepted are not {settled} done and {rest} others");
    Ok(experiment)
}

fn one_report() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(Setup { faults: Faults::Planted, ..setup(&redis, 2) })?;
    let url = redis.url();
    let planned = every_route(1_600);
    let (first, second) = planned.split_at(planned.len() / 2);
    fleet.send(first, RATE)?;
    fleet.kill_worker(0)?;
    fleet.send(second, RATE)?;
    let sent = fleet.sent;
    let queued = fleet.settle()?.captured.of("queued");
    fleet.end_capture()?;
    fleet.end_workers()?;

    let by_url = report(&["--redis", &url, "--json"])?;
    let experiment = balanced(&by_url.stdout).with_context(|| by_url.stderr.clone())?;
    ensure!(number(&experiment, "/seen")? == sent as u64, "{sent} sent: {}", by_url.stdout);
    ensure!(number(&experiment, "/in_flight")? == 0, "something is in flight: {}", by_url.stdout);
    let counts = &experiment["fleet"];
    for zero in ["/unheard", "/ahead", "/book/trimmed", "/book/set_aside", "/book/forgotten", "/book/waiting"]
    {
        ensure!(number(counts, zero)? == 0, "{zero} is not 0 in {counts}");
    }
    ensure!(counts["captures"][0]["state"] == "ended", "{counts}");
    ensure!(count_of(counts, "/captures/0/fates", "queued")? == queued, "{queued} queued: {counts}");
    ensure!(number(counts, "/book/accepted")? == queued, "{queued} queued: {counts}");

    // Each difference is counted as often as it was there, though what the dead worker had was done again.
    let items = planned.iter().filter(|one| one.target.starts_with("/items/")).count() as u64;
    let causes = experiment["causes"].as_array().context("no causes")?;
    let cause =
        causes.iter().find(|cause| cause["route"] == "/items/{id}").context("no cause at /items/{id}")?;
    ensure!(number(cause, "/count")? == items, "{items} items: {cause}");
    let found = Findings::parse(&by_url.stdout)?;
    ensure!(found.verdict == "fail" && found.causes == Findings::planted().causes, "{found:?}");
    ensure!(by_url.code == 1, "FAIL has exit code 1, not {}", by_url.code);

    let by_file = fleet.report(&[])?;
    ensure!(by_file.code == 1 && by_file.stdout.contains("Fleet"), "{}{}", by_file.stdout, by_file.stderr);
    ensure!(by_file.stdout.contains("1 capture (1 ended), 2 workers"), "{}", by_file.stdout);
    let side = report(&["--redis", &url, "--cause", "1"])?;
    ensure!(
        side.code == 0 && side.stdout.contains("Repeat against B: curl"),
        "{}{}",
        side.stdout,
        side.stderr
    );
    let aside = fleet.report(&["--set-aside"])?;
    ensure!(aside.code == 0 && aside.stdout == "Nothing stands aside.\n", "{}{}", aside.stdout, aside.stderr);
    let unknown = report(&["--redis", &url, "--set-aside", "--experiment", "shop"])?;
    ensure!(unknown.code == 2 && unknown.stderr.contains("it holds: lab"), "{}", unknown.stderr);
    Ok(())
}

fn taken_over() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis, 1))?;
    fleet.send(&every_route(160), RATE)?;
    fleet.settle()?;
    redis.freeze()?;
    fleet.send(&every_route(320), RATE)?;
    let sent = fleet.sent as u64;
    // What Redis does not confirm within the time for an answer goes to the disk, all else at once behind it.
    wait_until("a spool", WAIT_MAX, || {
        let scrape = fleet.scrape()?;
        let spooled = scrape.sum("understudy_spool_entries", &[])?;
        let seen = scrape.sum("understudy_exchanges_seen_total", &[])?;
        let in_flight = scrape.sum("understudy_queue_in_flight_bytes", &[])?;
        Ok((seen >= sent && spooled > 0 && in_flight == 0).then_some(()))
    })?;
    fleet.kill_capture()?;
    redis.thaw()?;
    fleet.start_capture()?;
    // The spool also counts as empty before it was looked into.
    let recovered = wait_until("what was taken over, and an empty spool", WAIT_MAX, || {
        let scrape = fleet.scrape()?;
        let recovered = scrape.sum("understudy_queue_recovered_total", &[])?;
        let spooled = scrape.sum("understudy_spool_entries", &[])?;
        Ok((recovered > 0 && spooled == 0).then_some(recovered))
    })?;
    let queued = fleet.settle()?.book.of("accepted");
    fleet.end_capture()?;
    fleet.end_workers()?;
    // Until it counts as silent, what the dead one had is said to be on its way.
    let url = redis.url();
    let experiment = wait_until("a capture that is silent", WAIT_MAX, || {
        let text = report(&["--redis", &url, "--json"])?.stdout;
        let experiment = balanced(&text)?;
        let captures = experiment["fleet"]["captures"].as_array().context("no captures")?;
        let is_silent = captures.iter().any(|capture| capture["state"] == "silent");
        Ok(is_silent.then_some(experiment))
    })?;
    let captures = experiment["fleet"]["captures"].as_array().context("no captures")?;
    let all: u64 = captures.iter().map(|one| number(one, "/recovered")).sum::<anyhow::Result<u64>>()?;
    ensure!(captures.len() == 2 && all == recovered, "{recovered} were taken over: {captures:?}");
    ensure!(number(&experiment, "/in_flight")? == 0, "something is in flight: {experiment}");
    // Everything but what the first capture never told, which Redis knows all the same.
    let missing = sum(&experiment, "/fates")?;
    ensure!(missing <= sent && missing >= queued, "{missing} of {sent} have a fate, {queued} were accepted");
    Ok(())
}

fn reloaded() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis, 0))?;
    let filtered = |fleet: &Fleet| {
        let settled = fleet.capture()?.settle(fleet.sent as u64)?;
        settled.sum("understudy_exchanges_total", &[("fate", "filtered_route")])
    };
    fleet.send(&every_route(160), RATE)?;
    let before = filtered(&fleet)?;
    let file = fleet.workspace.config();
    let text = std::fs::read_to_string(&file)?;
    let asks = |fleet: &Fleet, text: &str, said: &str| {
        std::fs::write(&file, text)?;
        let capture = fleet.capture()?;
        capture.signal(Signal::HUP)?;
        wait_until(said, REPORT_MAX, || Ok((capture.stderr().contains(said)).then_some(())))
    };
    let narrow: Vec<&str> = text.lines().filter(|line| !line.starts_with("routes = ")).collect();
    let narrow = narrow.join("\n").replace("name = \"lab\"", "name = \"lab\"\nroutes = [\"/items/{id}\"]");
    asks(&fleet, &narrow, "read again and holds")?;
    let planned = every_route(160);
    fleet.send(&planned, RATE)?;
    let others = planned.iter().filter(|one| !one.target.starts_with("/items/")).count() as u64;
    let after = filtered(&fleet)?;
    ensure!(after - before == others, "{} more are filtered, of {others}", after - before);
    // What cannot change is named, and nothing changes.
    asks(&fleet, &narrow.replace("shards = 4", "shards = 5"), "`queue` cannot change while it runs")?;
    fleet.send(&planned, RATE)?;
    ensure!(filtered(&fleet)? - after == others, "a configuration that is refused changes something");
    fleet.end_capture()
}

fn paused() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis, 2))?;
    let order = |order: &str, daemon: &Daemon| {
        let mut command: Command = Place::Here.command(daemon_program());
        finish(command.arg(order).args(["--url", &format!("http://{}", daemon.admin())]), REPORT_MAX)
    };
    // They tell it within a second or two.
    let told = |fleet: &Fleet, what: &str, wanted: &dyn Fn(&Value) -> bool| {
        wait_until(what, WAIT_MAX, || {
            let report: Value = serde_json::from_str(&fleet.report(&["--json"])?.stdout)?;
            let hosts = report.pointer("/experiments/0/fleet").context("no fleet")?;
            Ok(wanted(hosts).then_some(()))
        })
    };
    let paused = |hosts: &Value, kind: &str| {
        hosts[kind].as_array().into_iter().flatten().filter(|one| one["paused"] == true).count()
    };
    for daemon in [fleet.capture()?, &fleet.workers[1]] {
        let said = order("pause", daemon)?;
        ensure!(said.code == 0, "{}", said.stderr);
    }
    told(&fleet, "pauses", &|hosts| paused(hosts, "captures") == 1 && paused(hosts, "workers") == 1)?;
    let text = fleet.report(&[])?.stdout;
    for part in [
        "1 capture (1 live, 1 paused), 2 workers (2 live, 1 paused)",
        "nothing is captured there until `understudy resume`",
        "nothing is sent there until `understudy resume`",
    ] {
        ensure!(text.contains(part), "it does not say `{part}`: {text}");
    }
    let said = order("resume", fleet.capture()?)?;
    ensure!(said.code == 0, "{}", said.stderr);
    told(&fleet, "one pause", &|hosts| paused(hosts, "captures") == 0 && paused(hosts, "workers") == 1)?;
    let was = |hosts: &Value| hosts["captures"][0]["paused_seconds"].as_u64() > Some(0);
    told(&fleet, "the time of a pause", &was)?;
    let text = fleet.report(&[])?.stdout;
    ensure!(text.contains("nothing was captured there then"), "{text}");
    fleet.end_capture()?;
    // Who has ended does not pause any more, but did.
    fleet.end_workers()?;
    told(&fleet, "no pause", &|hosts| paused(hosts, "workers") == 0)
}

fn nothing() -> anyhow::Result<()> {
    let redis = Server::start()?;
    for more in [&[][..], &["--set-aside"], &["--json"]] {
        let address = redis.url();
        let end = report(&[&["--redis", &address], more].concat())?;
        ensure!(end.code == 2 && end.stderr.contains("holds no experiment"), "{more:?}: {}", end.stderr);
        ensure!(end.stdout.is_empty(), "{}", end.stdout);
    }
    Ok(())
}
