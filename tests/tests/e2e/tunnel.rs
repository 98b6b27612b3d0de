//! Connections that leave HTTP: the exchange is shown, and the kernel stops copying the rest.
//!
//! Does not look into the tunnel.

use anyhow::ensure;
use serde_json::Value;
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, request};
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon};
use understudy_tests::prereq::KERNEL;
use understudy_tests::process::Place;
use understudy_tests::server::{App, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "upgrade_is_shown_and_the_flow_forgotten",
        needs: KERNEL,
        run: || tunnel("GET", "/upgrade", 101),
    },
    Case {
        name: "connect_is_shown_and_the_flow_forgotten",
        needs: KERNEL,
        run: || tunnel("CONNECT", "far:443", 200),
    },
    Case { name: "a_tunnel_that_was_open_before_is_forgotten", needs: KERNEL, run: joined },
];

/// One round trip through the tunnel per look, and at most so many.
const ROUNDS_MAX: usize = 1_000;

fn tunnel(method: &str, target: &str, status: u16) -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let daemon = Daemon::inspect(&Place::Here, app.address.port(), free_address()?, &["--json"])?;
    let mut client = Client::connect(app.address)?;
    client.send(&request(method, target, app.address, &[("Connection", "Upgrade"), ("Upgrade", "echo")]))?;
    ensure!(client.answer(method)?.status == status, "no tunnel");
    let unwanted = || daemon.scrape()?.sum("understudy_capture_drops_total", &[("reason", "flow_unwanted")]);
    let before = unwanted()?;
    let mut rounds = 0;
    // The kernel learns of it once the answer has come through the pipeline, so a few packets still pass.
    wait_until("packets that the kernel did not copy", DRAIN_WAIT_MAX, || {
        rounds += 1;
        ensure!(rounds <= ROUNDS_MAX, "{ROUNDS_MAX} round trips were all copied");
        client.send(&[b'x'; 1_000])?;
        client.raw(1_000)?;
        Ok((unwanted()? >= before + 20).then_some(()))
    })?;
    drop(client);
    daemon.settle(1)?;
    let finished = daemon.interrupt()?;
    let lines: Vec<Value> = finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let [line] = &lines[..] else { anyhow::bail!("{} exchanges were shown", lines.len()) };
    ensure!(line["response"]["status"] == status, "{line}");
    ensure!(line["marks"].as_array().is_some_and(|marks| marks.contains(&"upgraded".into())), "{line}");
    Ok(())
}

/// What a joined connection may carry each way before it is forgotten, in round trips of `JOINED_BYTES`, and some more for what
/// is on its way meanwhile.
const JOINED_ROUNDS_MAX: usize = 60;
const JOINED_BYTES: usize = 8_192;

fn joined() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let mut client = Client::connect(app.address)?;
    let fields = [("Connection", "Upgrade"), ("Upgrade", "echo")];
    client.send(&request("GET", "/upgrade", app.address, &fields))?;
    ensure!(client.answer("GET")?.status == 101, "no tunnel");
    let daemon = Daemon::inspect(&Place::Here, app.address.port(), free_address()?, &["--json"])?;
    let mut rounds = 0;
    wait_until("packets that the kernel did not copy", DRAIN_WAIT_MAX, || {
        rounds += 1;
        ensure!(rounds <= JOINED_ROUNDS_MAX, "{JOINED_ROUNDS_MAX} round trips were all copied");
        client.send(&[0x82; JOINED_BYTES])?;
        client.raw(JOINED_BYTES as u64)?;
        let scrape = daemon.scrape()?;
        let unwanted = scrape.sum("understudy_capture_drops_total", &[("reason", "flow_unwanted")])?;
        Ok((unwanted >= 5).then_some(()))
    })?;
    drop(client);
    let joined = daemon.scrape()?.sum("understudy_http_flows_not_http_total", &[("kind", "joined")])?;
    ensure!(joined == 1, "{joined} connections were joined and forgotten");
    let finished = daemon.interrupt()?;
    ensure!(finished.stdout.is_empty(), "{}", finished.stdout);
    Ok(())
}
