//! Capture that would cost more than it may: it leaves out whole connections, counts them, and what it shows is whole.
//!
//! Does not look at how fast A is; the bench does.

use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;
use understudy_tests::app::Faults;
use understudy_tests::daemon::{Daemon, Workspace};
use understudy_tests::load::{Load, constant};
use understudy_tests::prereq::KERNEL;
use understudy_tests::process::Place;
use understudy_tests::server::{App, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] =
    &[Case { name: "too_much_cpu_time_leaves_out_whole_connections", needs: KERNEL, run: too_much_cpu_time }];

/// Loads, one after the other, until something is left out.
const ROUNDS_MAX: u64 = 8;
/// Any work at all is more than this.
const CONFIG: &str = "[capture]\ncpu_max = \"0.05%\"\nexcess_min = \"1s\"\n";

fn too_much_cpu_time() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let workspace = Workspace::new(CONFIG)?;
    let daemon =
        Daemon::inspect_in(&Place::Here, &workspace, app.address.port(), free_address()?, &["--json"])?;
    let load =
        Load { target: "/ping", per_second: 4_000, connections: 64, time: Duration::from_millis(2_500) };
    // It takes a moment until that is known, and more on a busy machine.
    let (mut answered, mut connections) = (0, 0);
    for _ in 0..ROUNDS_MAX {
        connections += u64::from(load.connections);
        answered += constant(app.address, load)?.answered;
        if daemon.scrape()?.sum("understudy_capture_drops_total", &[("reason", "sampled_out")])? > 0 {
            break;
        }
    }
    let scrape = daemon.settle(1)?;
    let finished = daemon.interrupt()?;

    ensure!(scrape.sum("understudy_capture_throttled_total", &[("reason", "cpu")])? > 0, "never throttled");
    ensure!(scrape.sum("understudy_capture_drops_total", &[("reason", "sampled_out")])? > 0, "none left out");
    ensure!(scrape.sum("understudy_flows_left_out_total", &[])? > 0, "no connection was given up");
    ensure!(finished.stderr.contains("fewer connections"), "the ledger is silent: {}", finished.stderr);
    let lines: Vec<Value> = finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(!lines.is_empty() && (lines.len() as u64) < answered, "{} of {answered} shown", lines.len());
    // What is copied is complete; only a connection given up in its middle may leave one request without answer.
    let halves = lines.iter().filter(|line| line["response"]["complete"] != true).count() as u64;
    ensure!(halves <= connections, "{halves} exchanges are not whole");
    ensure!(scrape.sum("understudy_reassembly_gaps_total", &[])? <= halves, "connections have gaps");
    Ok(())
}
