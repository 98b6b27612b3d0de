//! The verdict: planted faults are found and nothing else, equal servers pass, little data is no verdict.
//!
//! A and B are nginx with the application behind it, on loopback.

use anyhow::ensure;
use understudy_tests::app::Faults;
use understudy_tests::daemon::{Daemon, Settings, Workspace};
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
];

/// Runs `count` requests against two servers and gives the exit code and the findings.
fn compare(faults: Faults, count: usize) -> anyhow::Result<(i32, Findings)> {
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
            more: String::new(),
        }
        .text(),
    )?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let sent = drive(a.address, &every_route(count), Pace { per_second: Some(160), connections: 6 })?;
    daemon.settle(sent.len() as u64)?;
    let run = daemon.interrupt()?;
    let report = workspace.report(&["--json"])?;
    ensure!(run.code == report.code, "run ended with {}, report with {}", run.code, report.code);
    ensure!(run.stdout.contains("lab"), "the run printed no report: {}{}", run.stdout, run.stderr);
    Ok((report.code, Findings::parse(&report.stdout)?))
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
