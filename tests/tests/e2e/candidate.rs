//! A candidate that misbehaves: A and its clients notice nothing, the daemon says what happened and lives on.
//!
//! Does not ask what the differences are; a broken answer is no answer to compare.

use std::net::SocketAddr;

use anyhow::ensure;
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, request};
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Finished, Settings, Workspace};
use understudy_tests::mix::{Pace, drive, every_shape};
use understudy_tests::prereq::{FLEET, KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::{Cgroup, Place};
use understudy_tests::proxy::Proxy;
use understudy_tests::redis::Server;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "unreachable", needs: KERNEL, run: || misbehaves(None) },
    Case { name: "hangs", needs: KERNEL, run: || misbehaves(Some(Faults::Hang)) },
    Case { name: "closes_early", needs: KERNEL, run: || misbehaves(Some(Faults::Close)) },
    Case { name: "sends_half_an_answer", needs: KERNEL, run: || misbehaves(Some(Faults::Half)) },
    Case { name: "answers_garbage", needs: KERNEL, run: || misbehaves(Some(Faults::Garbage)) },
    Case { name: "leads_back_to_a", needs: NGINX, run: leads_back_to_a },
    Case { name: "listens_on_the_captured_port_elsewhere", needs: KERNEL, run: port_of_a_elsewhere },
    Case { name: "of_a_fleet_leads_back_to_a", needs: FLEET, run: of_a_fleet_leads_back_to_a },
    Case {
        name: "a_forged_replay_header_stops_nothing",
        needs: KERNEL,
        run: a_forged_replay_header_stops_nothing,
    },
];

const NGINX: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("nginx")];

const REQUESTS: usize = 60;

fn settings(a: SocketAddr, candidate: SocketAddr, admin: SocketAddr, isolated: bool) -> Settings {
    Settings { port: a.port(), admin, candidate, isolated, routes: Vec::new(), more: String::new() }
}

fn misbehaves(faults: Option<Faults>) -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = faults.map(|faults| App::start(&Place::Here, free_address()?, faults)).transpose()?;
    let candidate: SocketAddr = b.as_ref().map_or_else(free_address, |b| Ok(b.address))?;
    let admin = free_address()?;
    let workspace = Workspace::new(&settings(a.address, candidate, admin, true).text())?;
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

/// Asks these in turn until the daemon has ended, as one does that was stopped for a loop.
fn stops_for_a_loop(daemon: Daemon, asked: &[SocketAddr]) -> anyhow::Result<Finished> {
    let connect = |address: &SocketAddr| anyhow::Ok((Client::connect(*address)?, *address));
    let mut clients = asked.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    wait_until("the end of a daemon whose requests come back", DRAIN_WAIT_MAX, || {
        for (client, address) in &mut clients {
            client.send(&request("GET", "/items/1", *address, &[]))?;
            client.answer("GET")?;
        }
        Ok(daemon.scrape().is_err().then_some(()))
    })?;
    let finished = daemon.join(DRAIN_WAIT_MAX)?;
    ensure!(finished.code == 4, "exit code {}: {}", finished.code, finished.stderr);
    Ok(finished)
}

/// B is a proxy that leads back to A, which no list of addresses can tell.
fn leads_back_to_a() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let files = StaticFiles::write()?;
    let b = Nginx::start(&Place::Here, free_address()?, &files, a.address)?;
    let admin = free_address()?;
    let workspace = Workspace::new(&settings(a.address, b.address, admin, false).text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let finished = stops_for_a_loop(daemon, &[a.address])?;
    ensure!(finished.stderr.contains("came back through the capture"), "{}", finished.stderr);
    let later = workspace.report(&[])?;
    ensure!(
        later.code == 3 && later.stdout.contains("Stopped: replayed requests came back"),
        "{}",
        later.stdout
    );
    Ok(())
}

/// A and B are services with cgroups of their own that listen on one port, and B is reached by another one: two containers
/// of one image, the second with a published port. What B gets is captured, and is no loop; what others ask of B is none of
/// A's exchanges, and stops the run with the remedy.
fn port_of_a_elsewhere() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let cgroup = Cgroup::make()?;
    let at_b = SocketAddr::from(([127, 0, 0, 2], a.address.port()));
    let b = App::start(&cgroup.place(), at_b, Faults::None)?;
    let published = Proxy::start(&Place::Here, free_address()?, b.address)?;
    let admin = free_address()?;
    let settings = settings(a.address, published.address, admin, false);
    let settings = Settings { more: "noise.again = \"off\"\n".to_owned(), ..settings };
    let workspace = Workspace::new(&settings.text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let mut client = Client::connect(a.address)?;
    for _ in 0..20 {
        client.send(&request("GET", "/items/1", a.address, &[]))?;
        ensure!(client.answer("GET")?.status == 200, "A did not answer");
    }
    // Each is captured twice: at A, and as what B got.
    let scrape = daemon.settle(40)?;
    let fate = |fate| scrape.sum("understudy_exchanges_total", &[("fate", fate)]);
    ensure!((fate("replay")?, fate("matched")?) == (20, 20), "{}", scrape.counted());
    let told = daemon.stderr().matches("it listens on a captured port of this host").count();
    ensure!(told == 1, "it is told {told} times: {}", daemon.stderr());

    let finished = stops_for_a_loop(daemon, &[b.address, a.address])?;
    ensure!(finished.stderr.contains("`--cgroup`"), "{}", finished.stderr);
    Ok(())
}

/// B leads back to A in a fleet: a capture that queues for nobody any more ends, so that somebody looks.
fn of_a_fleet_leads_back_to_a() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let files = StaticFiles::write()?;
    let b = Nginx::start(&Place::Here, free_address()?, &files, a.address)?;
    let redis = Server::start()?;
    let (admin, worker_admin) = (free_address()?, free_address()?);
    let more = format!("[queue]\nredis = \"{}\"\n[spool]\npath = \"journal.db.spool\"", redis.url());
    let settings = Settings { more, ..settings(a.address, b.address, admin, false) };
    let workspace = Workspace::new(&settings.text())?;
    let command = |what: &str, admin: SocketAddr| {
        let mut command = Place::Here.command(daemon_program());
        command.arg(what).arg("--config").arg(workspace.config()).args(["--admin", &admin.to_string()]);
        command
    };
    let capture = Daemon::start(&Place::Here, &mut command("capture", admin), admin)?;
    let worker = Daemon::start(&Place::Here, &mut command("replay", worker_admin), worker_admin)?;
    let finished = stops_for_a_loop(capture, &[a.address])?;
    let told = finished.stderr.lines().find(|line| line.contains("ERROR"));
    let is_told = told.is_some_and(|line| line.contains("came back through the capture"));
    ensure!(is_told, "the log does not say it: {}", finished.stderr);
    worker.interrupt()?;
    Ok(())
}

/// A client of A may send any header it likes; that stops nothing.
fn a_forged_replay_header_stops_nothing() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let admin = free_address()?;
    let workspace = Workspace::new(&settings(a.address, b.address, admin, false).text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let mut client = Client::connect(a.address)?;
    for header in [("Understudy-Replay", "00000000000000010000000000000002"), ("Understudy-Replay", "mine")] {
        for headers in [&[header][..], &[]] {
            client.send(&request("GET", "/items/1", a.address, headers))?;
            ensure!(client.answer("GET")?.status == 200, "A did not answer");
        }
    }
    let scrape = daemon.settle(4)?;
    let fate = |fate| scrape.sum("understudy_exchanges_total", &[("fate", fate)]);
    ensure!((fate("replay")?, fate("matched")?) == (2, 2), "fates are not two and two");
    let finished = daemon.interrupt()?;
    ensure!(finished.code == 3, "exit code {}: {}", finished.code, finished.stderr);
    Ok(())
}
