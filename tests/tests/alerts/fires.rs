//! A fault in B is seen as an alert, and its end as the end of the alert: daemon, Prometheus and Alertmanager as they are.
//!
//! Uses a copy of the rules with short times; what the times of the real ones do, `promtool test rules` shows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, request};
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::{Daemon, Settings, Workspace};
use understudy_tests::process::Place;
use understudy_tests::prometheus::{Alertmanager, Prometheus, SERVERS};
use understudy_tests::server::{App, free_address};

use crate::{Case, repository};

pub(crate) const CASES: &[Case] = &[Case {
    name: "a_fault_in_b_fires_and_its_end_resolves",
    needs: SERVERS,
    run: a_fault_in_b_fires_and_its_end_resolves,
}];

/// Longest wait for an alert to come or to go. Coming takes evidence, going takes silence.
const ALERT_WAIT_MAX: Duration = Duration::from_secs(45);
/// Between two requests to A: a hundred a second, unhurried.
const SPACING: Duration = Duration::from_millis(10);
/// How long a scrape may take, on a machine that is busy with a daemon that is not optimised.
const SCRAPE_SECONDS_MAX: f64 = 0.5;
/// What is asked: `/items` has a wrong price in a faulty B, `/search` fails for some words, `/quotes` is slow.
const TARGETS: [&str; 3] = ["/items/7", "/search?q=zebra", "/quotes/3"];

/// The rules with times that a test can wait for.
fn hurried(rules: &str) -> String {
    let ranges = ["[2m]", "[5m]", "[10m]", "[15m]"];
    let lines = rules.lines().map(|line| match line.trim_start().starts_with("for: ") {
        true => line.split("for: ").next().unwrap_or_default().to_owned() + "for: 1s\n",
        false => ranges.iter().fold(line.to_owned(), |line, range| line.replace(range, "[6s]")) + "\n",
    });
    lines.collect()
}

/// Asks A until it is told to stop.
fn drive(a: SocketAddr, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut client = Client::connect(a)?;
    for target in TARGETS.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        client.send(&request("GET", target, a, &[]))?;
        client.answer("GET")?;
        pause(SPACING);
    }
    Ok(())
}

/// Waits until these alerts are active, and those are not.
fn wait_for(manager: &Alertmanager, active: &[&str], over: &[&str]) -> anyhow::Result<()> {
    let mut last = Vec::new();
    wait_until("alerts", ALERT_WAIT_MAX, || {
        last = manager.active()?;
        let has =
            |name: &&str| last.iter().any(|alert| alert.get("alertname").is_some_and(|have| have == name));
        Ok((active.iter().all(has) && !over.iter().any(has)).then_some(()))
    })
    .with_context(|| format!("wanted {active:?} and not {over:?}; active are {last:?}"))
}

fn a_fault_in_b_fires_and_its_end_resolves() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let settings = Settings {
        port: a.address.port(),
        admin: free_address()?,
        candidate: b.address,
        isolated: false,
        routes: vec!["/items/{id}", "/search", "/quotes/{id}"],
        // Second answers come sooner than at the default, so that the test is short.
        more: "[experiment.replay]\nlag = \"50ms\"\n[experiment.noise]\nagain = \"20%\"\n".to_owned(),
    };
    let workspace = Workspace::new(&settings.text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, settings.admin, &[])?;
    let manager = Alertmanager::start()?;
    let rules = hurried(&std::fs::read_to_string(repository("deploy/prometheus/alerts.yml"))?);
    let prometheus = Prometheus::start(&[settings.admin], &rules, Some(&manager))?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(a.address, &stop));
        let seen = story(&prometheus, &manager, b);
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        seen
    })?;
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}

/// B is healthy, gone, wrong, and healthy again.
fn story(prometheus: &Prometheus, manager: &Alertmanager, b: App) -> anyhow::Result<()> {
    wait_until("comparisons", ALERT_WAIT_MAX, || {
        let matched = prometheus.query("sum(understudy_comparisons_total{outcome=\"match\"}) > 300")?;
        Ok((!matched.is_empty()).then_some(()))
    })?;
    let quiet = manager.active()?;
    ensure!(quiet.is_empty(), "nothing is wrong, and active are {quiet:?}");

    let address = b.address;
    drop(b);
    wait_for(manager, &["UnderstudyCandidateUnreachable"], &["UnderstudyStatusRegression"])?;

    let wrong = App::start(&Place::Here, address, Faults::Planted)?;
    let regressions =
        ["UnderstudyStatusRegression", "UnderstudyBodyRegression", "UnderstudyLatencyRegression"];
    wait_for(manager, &regressions, &["UnderstudyCandidateUnreachable"])?;
    named(manager, "UnderstudyStatusRegression", "/search")?;
    named(manager, "UnderstudyBodyRegression", "/items/{id}")?;
    named(manager, "UnderstudyLatencyRegression", "/quotes/{id}")?;
    exemplars(prometheus)?;
    let slowest = prometheus.query("max_over_time(scrape_duration_seconds[1m])")?;
    ensure!(
        slowest.iter().all(|scrape| scrape.value < SCRAPE_SECONDS_MAX),
        "a scrape takes long: {slowest:?}"
    );

    drop(wrong);
    let _healed = App::start(&Place::Here, address, Faults::None)?;
    // Slowness is believed for at least five minutes; that it ends is shown by a test with made-up times.
    wait_for(manager, &[], &["UnderstudyStatusRegression", "UnderstudyBodyRegression"])
}

/// The alert is about this route and no other.
fn named(manager: &Alertmanager, alert: &str, route: &str) -> anyhow::Result<()> {
    let active = manager.active()?;
    let of_alert = active.iter().filter(|labels| labels.get("alertname").is_some_and(|have| have == alert));
    let routes: Vec<_> = of_alert.filter_map(|labels| labels.get("route")).collect();
    ensure!(routes == [route], "{alert} is about {routes:?} and not {route}");
    Ok(())
}

/// Prometheus has ids of exchanges that differ.
fn exemplars(prometheus: &Prometheus) -> anyhow::Result<()> {
    let target = "/api/v1/query_exemplars?query=understudy_mismatch_total&start=0&end=32503680000";
    let found = prometheus.get(target)?;
    let exchange = found[0]["exemplars"][0]["labels"]["exchange"].as_str().unwrap_or_default();
    ensure!(exchange.len() == 32, "no exchange is named: {found}");
    Ok(())
}
