//! One capture, two workers and a real Redis between them: every exchange is compared once, and every count adds up.
//!
//! A and B are nginx with the application behind it, on loopback.

use std::time::Duration;

use anyhow::ensure;
use understudy_tests::fleet::{Fleet, Setup};
use understudy_tests::mix::every_route;
use understudy_tests::prereq::FLEET;
use understudy_tests::redis::Server;
use understudy_tests::scrape::Scrape;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "two_workers_compare_every_exchange_once", needs: FLEET, run: two_workers },
    Case { name: "an_outage_of_redis_loses_nothing", needs: FLEET, run: outage },
];

/// How long the capture may take to find out that Redis is away: an answer that does not come, and some seconds for the
/// machine.
const NOTICE_WAIT_MAX: Duration = Duration::from_secs(15);

/// With the waits of a host in production.
fn setup(redis: &Server, workers: usize) -> Setup {
    // By connection, one of two workers may have no share of the few that there are.
    let session = "header:X-Marker";
    Setup { workers, nginx: true, session, queue: String::new(), ..Setup::new(redis) }
}

fn of_fate(scrape: &Scrape, fate: &str) -> anyhow::Result<u64> {
    scrape.sum("understudy_exchanges_total", &[("fate", fate)])
}

/// Adds everything up, also what each worker says of itself.
fn balance(fleet: Fleet) -> anyhow::Result<()> {
    let account = fleet.settle()?;
    let queued = account.captured.of("queued");
    account.captured_all(&["not_replayable"])?;
    ensure!(queued > account.captured.seen / 2, "{queued} were queued: {:?}", account.captured);
    // Where an answer was lost, Redis may have taken entries that are sent again as duplicates.
    let taken = account.capture.sum("understudy_queue_entries_total", &[])?;
    let again = account.capture.sum("understudy_queue_duplicates_total", &[])?;
    ensure!(taken <= queued && taken + again >= queued, "{taken} and {again} again are not {queued}");
    ensure!(account.book.settled() == queued, "{queued} were queued: {}", account.book);
    for counter in ["trimmed", "set_aside", "forgotten"] {
        ensure!(account.book.of(counter) == 0, "the books count {counter}: {}", account.book);
    }
    let mut done = 0;
    for worker in &fleet.workers {
        let scrape = worker.scrape()?;
        let compared = ["matched", "mismatched", "ignored", "incomparable"];
        let compared = compared.iter().try_fold(0, |sum, fate| anyhow::Ok(sum + of_fate(&scrape, fate)?))?;
        ensure!(compared > 0, "a worker has compared nothing");
        done += scrape.sum("understudy_exchanges_total", &[])?;
    }
    ensure!(done == queued, "workers have given {done} fates to {queued} entries");
    fleet.balance().map(drop)
}

fn two_workers() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis, 2))?;
    fleet.send(&every_route(2_000), 200)?;
    balance(fleet)
}

fn outage() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(setup(&redis, 1))?;
    fleet.send(&every_route(200), 100)?;
    redis.freeze()?;
    fleet.send(&every_route(600), 100)?;
    fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count > 0)?;
    ensure!(fleet.scrape()?.sum("understudy_queue_up", &[])? == 0, "Redis is said to work");
    redis.thaw()?;
    fleet.send(&every_route(100), 100)?;
    balance(fleet)
}
