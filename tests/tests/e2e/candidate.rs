//! A candidate that misbehaves: A and its clients notice nothing, the daemon says what happened and lives on.
//!
//! Does not ask what the differences are; a broken answer is no answer to compare.

use std::net::SocketAddr;

use anyhow::ensure;
use understudy_tests::app::Faults;
use understudy_tests::daemon::{Daemon, Settings, Workspace};
use understudy_tests::mix::{Pace, drive, every_shape};
use understudy_tests::prereq::KERNEL;
use understudy_tests::process::Place;
use understudy_tests::server::{App, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "unreachable", needs: KERNEL, run: || misbehaves(None) },
    Case { name: "hangs", needs: KERNEL, run: || misbehaves(Some(Faults::Hang)) },
    Case { name: "closes_early", needs: KERNEL, run: || misbehaves(Some(Faults::Close)) },
    Case { name: "sends_half_an_answer", needs: KERNEL, run: || misbehaves(Some(Faults::Half)) },
    Case { name: "answers_garbage", needs: KERNEL, run: || misbehaves(Some(Faults::Garbage)) },
];

const REQUESTS: usize = 60;

fn misbehaves(faults: Option<Faults>) -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = faults.map(|faults| App::start(&Place::Here, free_address()?, faults)).transpose()?;
    let candidate: SocketAddr = b.as_ref().map_or_else(free_address, |b| Ok(b.address))?;
    let admin = free_address()?;
    let workspace = Workspace::new(
        &Settings {
            port: a.address.port(),
            admin,
            candidate,
            isolated: true,
            routes: Vec::new(),
            more: String::new(),
        }
        .text(),
    )?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let sent = drive(a.address, &every_shape(REQUESTS), Pace { per_second: Some(200), connections: 4 })?;
    ensure!(sent.iter().all(|sent| sent.answer.status == 200), "a client of A noticed");
    let scrape = daemon.settle(sent.len() as u64)?;
    let fate = |fate| scrape.sum("understudy_exchanges_total", &[("fate", fate)]);
    let failed = fate("incomparable")? + fate("breaker_open")? + fate("overdue")?;
    ensure!(failed == REQUESTS as u64, "{failed} of {REQUESTS} exchanges have a fate that fits");
    ensure!(fate("incomparable")? > 0, "nothing was tried");
    let finished = daemon.interrupt()?;
    ensure!(finished.code == 3, "exit code {}: {}{}", finished.code, finished.stdout, finished.stderr);
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}
