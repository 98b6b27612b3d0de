//! What breaks between the hosts of a fleet is seen as an alert, and ends as its runbook says: Redis stands still, has no
//! memory left, or trims; the spool fills up; workers are behind.
//!
//! Counts no exchange: that none is lost unseen is the concern of the tests of a fleet.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::clock::{now, pause};
use understudy_tests::daemon::{Finished, run_to_end};
use understudy_tests::fleet::{Fleet, Setup};
use understudy_tests::prereq::{KERNEL, Prerequisite};
use understudy_tests::process::Place;
use understudy_tests::redis::{Options, Server};

use crate::Case;
use crate::watch::{Traffic, Watch};

pub(crate) const CASES: &[Case] = &[Case {
    name: "what_breaks_in_a_fleet_fires_and_its_remedy_resolves",
    needs: NEEDS,
    run: what_breaks_in_a_fleet,
}];

const NEEDS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("prometheus"),
    Prerequisite::Tool("prometheus-alertmanager"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
];

/// A Redis that does not answer is given up soon, and asked again soon; streams are short.
const QUEUE: &str = "connect_wait_max = \"1s\"\nanswer_wait_max = \"1s\"\nretry_max = \"500ms\"\nlease = \"1s\"\n\
                     claim_after = \"2s\"\nstream_entries_max = 200";
/// Room for some seconds of traffic.
const SPOOL: &str = "bytes_max = 262144\nsegment_bytes = 65536\nfree_bytes_min = 0\n";
/// Requests of one connection, unhurried.
const SPACING: Duration = Duration::from_millis(40);
const CONNECTIONS: usize = 8;
const SMALL: &[&str] = &["/items/7", "/quotes/3"];
/// What a request may be behind A before somebody is told: 30 s in the rule.
const BEHIND: Duration = Duration::from_secs(36);

fn what_breaks_in_a_fleet() -> anyhow::Result<()> {
    let arguments = ["--maxmemory-policy", "noeviction"].map(str::to_owned).to_vec();
    let redis = Server::start_with(Options { arguments, ..Options::default() })?;
    let mut fleet =
        Fleet::start(Setup { queue: QUEUE.to_owned(), spool: SPOOL.to_owned(), ..Setup::new(&redis) })?;
    let capture = fleet.capture()?.admin();
    let worker = fleet.workers.first().context("no worker runs")?.admin();
    let watch = Watch::start(&[capture, worker])?;
    let traffic = Traffic::start(fleet.a, SMALL, CONNECTIONS, SPACING);
    let (at_capture, at_worker) = (capture.to_string(), worker.to_string());
    let at_capture = [("instance", at_capture.as_str())];
    let at_worker = [("instance", at_worker.as_str())];

    // Redis stands still, and both sides say so.
    redis.freeze()?;
    watch.fires("UnderstudyRedisBackpressure", &at_capture, &["does not do its part", "(timeout)"])?;
    watch.fires("UnderstudyRedisBackpressure", &at_worker, &["does not do its part"])?;
    redis.thaw()?;
    watch.resolves("UnderstudyRedisBackpressure", &at_capture)?;
    watch.resolves("UnderstudyRedisBackpressure", &at_worker)?;

    // It may hold less than it does, for so long that the spool is full, and its oldest entries are old.
    redis.set("maxmemory", "500kb")?;
    let since = now();
    watch.fires("UnderstudyRedisBackpressure", &at_capture, &["(out_of_memory)"])?;
    watch.fires("UnderstudySpoolFilling", &at_capture, &["% full", "has had no room"])?;
    watch.fires("UnderstudyExchangesShed", &at_capture, &["mostly `spool_full`"])?;
    pause(BEHIND.saturating_sub(since.elapsed()));
    redis.set("maxmemory", "0")?;
    watch.fires("UnderstudyReplayLagHigh", &at_worker, &["after A got it"])?;
    for alert in ["UnderstudyRedisBackpressure", "UnderstudySpoolFilling", "UnderstudyExchangesShed"] {
        watch.resolves(alert, &at_capture)?;
    }
    watch.resolves("UnderstudyReplayLagHigh", &at_worker)?;

    // Nobody takes what Redis holds.
    order("pause", worker)?;
    let trimmed = [at_capture[0], ("experiment", "lab")];
    watch.fires("UnderstudyRedisBackpressure", &trimmed, &["trims exchanges of lab"])?;
    order("resume", worker)?;
    watch.resolves("UnderstudyRedisBackpressure", &trimmed)?;
    traffic.end()?;
    fleet.end_capture()?;
    fleet.end_workers()
}

/// `understudy pause` or `resume` for one process.
fn order(order: &str, admin: SocketAddr) -> anyhow::Result<()> {
    let url = format!("http://{admin}");
    let Finished { code, stderr, .. } = run_to_end(&Place::Here, &[order, "--url", &url])?;
    ensure!(code == 0, "`understudy {order}` ended with {code}: {stderr}");
    Ok(())
}
