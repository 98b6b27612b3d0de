//! The verdict: planted faults are found and nothing else, equal servers pass, little data is no verdict.
//!
//! A and B are nginx with the application behind it, on loopback.

use std::time::Duration;

use anyhow::ensure;
use understudy_tests::app::Faults;
use understudy_tests::daemon::{Daemon, Finished, Settings, Workspace};
use understudy_tests::mix::{DEMO_ROUTES, Pace, drive, every_route};
use understudy_tests::prereq::{KERNEL, Prerequisite};
use understudy_tests::process::Place;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};
use understudy_tests::verdict::Findings;

use crate::Case;

const NEEDS: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("nginx")];

pub(crate) const CASES: &[Case] = &[
    Case { name: "exactly_the_planted_faults_are_found", needs: NEEDS, run: planted },
    Case { name: "equal_servers_pass", needs: NEEDS, run: equal },
    Case { name: "few_exchanges_are_not_enough_data", needs: NEEDS, run: few },
    Case { name: "a_run_for_a_time_ends_with_its_verdict", needs: NEEDS, run: for_a_time },
    Case { name: "a_run_until_a_verdict_ends_when_it_fails", needs: NEEDS, run: until_it_fails },
    Case { name: "a_run_until_a_verdict_ends_when_it_passes", needs: NEEDS, run: until_it_passes },
    Case { name: "a_run_until_a_verdict_ends_after_its_time", needs: NEEDS, run: until_its_time },
];

/// How long a run that ends by itself may take to do so: with the drain.
const END_WAIT_MAX: Duration = Duration::from_secs(30);

/// Two servers and a daemon between them.
struct Stage {
    /// Kept alive.
    _servers: (StaticFiles, App, App, Nginx),
    a: Nginx,
    workspace: Workspace,
    daemon: Daemon,
}

/// Starts B with these faults, and `understudy run` with these arguments and keys.
fn stage(faults: Faults, arguments: &[&str], more: &str) -> anyhow::Result<Stage> {
    let files = StaticFiles::write()?;
    let app_a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let app_b = App::start(&Place::Here, free_address()?, faults)?;
    let a = Nginx::start(&Place::Here, free_address()?, &files, app_a.address)?;
    let b = Nginx::start(&Place::Here, free_address()?, &files, app_b.address)?;
    let admin = free_address()?;
    let workspace = Workspace::new(
        &Settings {
            port: a.address.port(),
            admin,
            candidate: b.address,
            isolated: true,
            routes: DEMO_ROUTES.to_vec(),
            more: more.to_owned(),
        }
        .text(),
    )?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, arguments)?;
    Ok(Stage { _servers: (files, app_a, app_b, b), a, workspace, daemon })
}

/// Runs `count` requests against two servers and gives the exit code and the findings.
fn compare(faults: Faults, count: usize) -> anyhow::Result<(i32, Findings)> {
    let Stage { _servers, a, workspace, daemon } = stage(faults, &[], "")?;
    let sent = drive(a.address, &every_route(count), Pace { per_second: Some(160), connections: 6 })?;
    daemon.settle(sent.len() as u64)?;
    let run = daemon.interrupt()?;
    let report = workspace.report(&["--json"])?;
    ensure!(run.code == report.code, "run ended with {}, report with {}", run.code, report.code);
    ensure!(run.stdout.contains("lab"), "the run printed no report: {}{}", run.stdout, run.stderr);
    if !report.stdout.contains("\"causes\": []") {
        shows_sides(&workspace)?;
    }
    Ok((report.code, Findings::parse(&report.stdout)?))
}

/// `report --cause` shows both answers of the first cause.
fn shows_sides(workspace: &Workspace) -> anyhow::Result<()> {
    let text = workspace.report(&["--cause", "1"])?;
    let marked = text.stdout.lines().any(|line| line.contains(" | "));
    ensure!(text.code == 0 && marked && text.stdout.contains("Repeat against B: curl"), "{}", text.stdout);
    ensure!(!text.stdout.contains('\x1b'), "there are colours and no terminal");
    let json = workspace.report(&["--cause", "1", "--json"])?;
    let side: serde_json::Value = serde_json::from_str(&json.stdout)?;
    ensure!(side["control"]["status"].is_u64() && side["candidate"]["status"].is_u64(), "{}", json.stdout);
    let none = workspace.report(&["--cause", "99"])?;
    ensure!(none.code == 2 && none.stderr.contains("there is no cause `99`"), "{}", none.stderr);
    Ok(())
}

/// Sends requests until the daemon has ended, and gives its end and the findings.
fn ends_by_itself(stage: Stage) -> anyhow::Result<(Finished, Findings)> {
    let Stage { _servers, a, workspace, daemon } = stage;
    let requests = every_route(80);
    // Bounded: thirty rounds of half a second.
    for _ in 0..30 {
        if daemon.scrape().is_err() {
            break;
        }
        drive(a.address, &requests, Pace { per_second: Some(160), connections: 6 })?;
    }
    let run = daemon.join(END_WAIT_MAX)?;
    let report = workspace.report(&["--json"])?;
    ensure!(run.code == report.code, "run ended with {}, report with {}", run.code, report.code);
    ensure!(run.stdout.contains("VERDICT: "), "the run printed no verdict: {}{}", run.stdout, run.stderr);
    ensure!(!run.stderr.contains("panicked"), "{}", run.stderr);
    Ok((run, Findings::parse(&report.stdout)?))
}

fn for_a_time() -> anyhow::Result<()> {
    let (run, findings) = ends_by_itself(stage(Faults::Planted, &["--for", "4s"], "")?)?;
    ensure!(run.code == 1 && findings.verdict == "fail", "exit code {}, {}", run.code, findings.verdict);
    // It went on after the first mismatch.
    ensure!(findings.causes == Findings::planted().causes, "{findings:#?}");
    ensure!(!run.stderr.contains("There is a verdict"), "{}", run.stderr);
    Ok(())
}

fn until_it_fails() -> anyhow::Result<()> {
    let (run, findings) = ends_by_itself(stage(Faults::Planted, &["--until-verdict"], "")?)?;
    ensure!(run.code == 1 && findings.verdict == "fail", "exit code {}, {}", run.code, findings.verdict);
    ensure!(run.stderr.contains("There is a verdict; stopping."), "{}", run.stderr);
    Ok(())
}

fn until_it_passes() -> anyhow::Result<()> {
    let arguments = ["--until-verdict", "--for", "10m"];
    let (run, findings) = ends_by_itself(stage(Faults::None, &arguments, "")?)?;
    ensure!(run.code == 0 && findings.verdict == "pass", "exit code {}: {}", run.code, run.stdout);
    ensure!(run.stderr.contains("There is a verdict; stopping."), "{}", run.stderr);
    // With what it takes to be as certain as the policy asks, and not with a handful.
    ensure!(run.stdout.contains("with 95 % confidence, at most 0."), "{}", run.stdout);
    Ok(())
}

/// The policy asks for more than can be had in the time.
fn until_its_time() -> anyhow::Result<()> {
    let policy = "[experiment.verdict]\ncomparisons_min = 1000000";
    let (run, findings) = ends_by_itself(stage(Faults::None, &["--until-verdict", "--for", "3s"], policy)?)?;
    ensure!(run.code == 3 && findings.verdict == "not_enough_data", "exit code {}", run.code);
    ensure!(run.stdout.contains("of at least 1,000,000 comparisons"), "{}", run.stdout);
    Ok(())
}

fn planted() -> anyhow::Result<()> {
    let (code, findings) = compare(Faults::Planted, 1_600)?;
    ensure!(findings == Findings::planted(), "found {findings:#?}");
    ensure!(code == 1, "exit code {code}");
    Ok(())
}

fn equal() -> anyhow::Result<()> {
    let (code, findings) = compare(Faults::None, 800)?;
    ensure!(findings.causes.is_empty() && findings.slower.is_empty(), "found {findings:#?}");
    ensure!(code == 0 && findings.verdict == "pass", "exit code {code}, {}", findings.verdict);
    Ok(())
}

fn few() -> anyhow::Result<()> {
    let (code, findings) = compare(Faults::None, 3)?;
    ensure!(code == 3 && findings.verdict == "not_enough_data", "exit code {code}, {}", findings.verdict);
    Ok(())
}
