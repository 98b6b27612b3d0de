//! Noise: ids, times, counters and shuffled lists are no mismatch, and what is wrong beside them is.
//!
//! A, B and A′ are one of the applications of the bench of detection, each with noise of its own. How many exchanges a
//! regression takes to be found is that bench's to say.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use understudy_tests::daemon::{Daemon, Settings, Workspace};
use understudy_tests::detect::{Kind, drive, plan};
use understudy_tests::prereq::KERNEL;
use understudy_tests::process::{Place, Process};
use understudy_tests::server::{free_address, wait_listening};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "with_a_twin_noise_is_hidden_and_what_is_wrong_beside_it_is_found",
        needs: KERNEL,
        run: || found(true),
    },
    Case {
        name: "without_a_twin_second_answers_tell_noise_from_what_is_wrong",
        needs: KERNEL,
        run: || found(false),
    },
    Case { name: "a_candidate_that_is_only_noisy_does_not_fail", needs: KERNEL, run: only_noisy },
];

const REQUESTS: usize = 1_600;
const PER_SECOND: f64 = 200.0;
/// A JSON API.
const KIND: Kind = Kind::Catalog;
/// Which regression, and where it shows.
const MUTANT: (&str, &str, &str) = ("total_as_text", "/search", "json:$.total");

/// A running application.
struct Instance {
    address: SocketAddr,
    _process: Process,
}

impl Instance {
    fn start(mutant: Option<&str>, seed: u64, environment: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Place::Here.command(env!("CARGO_BIN_EXE_understudy-detect-app"));
        command.args(["--kind", KIND.name(), "--port", &address.port().to_string()]);
        command.args(["--seed", &seed.to_string(), "--environment", environment]);
        command.args(mutant.map(|mutant| ["--mutant", mutant]).into_iter().flatten());
        let mut process = Process::start("understudy-detect-app", &mut command)?;
        wait_listening(&Place::Here, address, &mut process)?;
        Ok(Self { address, _process: process })
    }
}

/// The report of a run over all requests.
fn run(mutant: Option<&str>, with_twin: bool) -> anyhow::Result<Value> {
    // Only a twin can tell what another environment makes different.
    let environment = if with_twin { "staging" } else { "production" };
    let a = Instance::start(None, 1, "production")?;
    let b = Instance::start(mutant, 2, environment)?;
    let twin = Instance::start(None, 3, environment)?;
    let (admin, twin_address) = (free_address()?, twin.address);
    let more = if with_twin {
        format!("twin = {{ url = \"http://{twin_address}\" }}\n")
    } else {
        // Second answers come sooner than at the default, so that the test is short.
        "[experiment.replay]\nlag = \"50ms\"\n[experiment.noise]\nagain = \"20%\"\n".to_owned()
    };
    let workspace = Workspace::new(
        &Settings {
            port: a.address.port(),
            admin,
            candidate: b.address,
            isolated: false,
            routes: KIND.routes().to_vec(),
            more,
        }
        .text(),
    )?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let driven = drive(a.address, &plan(KIND, 7, REQUESTS), 7, PER_SECOND)?;
    daemon.settle(driven.answered)?;
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    let report = workspace.report(&["--json"])?;
    serde_json::from_str(&report.stdout).with_context(|| format!("no report: {}", report.stdout))
}

/// Route and signature of the causes that count.
fn counted(report: &Value) -> Vec<(String, String)> {
    let causes = report["experiments"][0]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let counts = causes.iter().filter(|cause| cause["state"] == "counts");
    counts.map(|cause| (text(&cause["route"]), text(&cause["signature"]))).collect()
}

/// The state of a path.
fn state<'r>(report: &'r Value, route: &str, path: &str) -> &'r str {
    let paths = report["experiments"][0]["paths"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = paths.iter().find(|one| one["route"] == route && one["path"] == path);
    one.and_then(|one| one["state"].as_str()).unwrap_or("unknown")
}

fn found(with_twin: bool) -> anyhow::Result<()> {
    let (mutant, route, path) = MUTANT;
    let report = run(Some(mutant), with_twin)?;
    let causes = counted(&report);
    ensure!(!causes.is_empty(), "nothing is wrong: {report:#}");
    let beside = causes.iter().filter(|(at, what)| at != route || !what.contains(path));
    ensure!(beside.count() == 0, "something else is said to be wrong: {causes:?}");
    ensure!(state(&report, route, path) == "reported", "{report:#}");
    ensure!(state(&report, "/items/{id}", "json:$.served_at") == "noise", "{report:#}");
    ensure!(report["verdict"]["verdict"] == "fail", "{report:#}");
    Ok(())
}

fn only_noisy() -> anyhow::Result<()> {
    let report = run(None, true)?;
    ensure!(counted(&report).is_empty(), "something is said to be wrong: {report:#}");
    ensure!(report["verdict"]["verdict"] != "fail", "{report:#}");
    ensure!(state(&report, "/items/{id}", "json:$.request_id") == "noise", "{report:#}");
    Ok(())
}
