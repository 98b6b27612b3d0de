//! A fault in B is seen as an alert, and its end as the end of the alert: daemon, Prometheus and Alertmanager as they are.
//!
//! What breaks on the host or in the fleet is not here.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::app::Faults;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Settings, Workspace};
use understudy_tests::prereq::Prerequisite;
use understudy_tests::process::Place;
use understudy_tests::prometheus::{Prometheus, SERVERS};
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};

use crate::Case;
use crate::watch::{ALERT_WAIT_MAX, Traffic, Watch};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a_fault_in_b_fires_and_its_end_resolves",
        needs: SERVERS,
        run: a_fault_in_b_fires_and_its_end_resolves,
    },
    Case {
        name: "other_header_fields_of_b_fire_and_their_end_resolves",
        needs: NGINX,
        run: other_header_fields,
    },
];

const NGINX: &[Prerequisite] =
    &[SERVERS[0], SERVERS[1], SERVERS[2], SERVERS[3], SERVERS[4], Prerequisite::Tool("nginx")];

/// Between two requests to A: a hundred a second, unhurried.
const SPACING: Duration = Duration::from_millis(10);
/// How long a scrape may take, on a machine that is busy with a daemon that is not optimised.
const SCRAPE_SECONDS_MAX: f64 = 0.5;
/// The experiment.
const LAB: &[(&str, &str)] = &[("experiment", "lab")];
/// What is asked: `/items` has a wrong price in a faulty B, `/search` fails for some words, `/quotes` is slow.
const TARGETS: [&str; 3] = ["/items/7", "/search?q=zebra", "/quotes/3"];
/// Second answers come sooner than at the default, so that the tests are short.
const SOON: &str = "[experiment.replay]\nlag = \"50ms\"\n[experiment.noise]\nagain = \"20%\"\n";

fn a_fault_in_b_fires_and_its_end_resolves() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let settings = Settings {
        port: a.address.port(),
        admin: free_address()?,
        candidate: b.address,
        isolated: false,
        routes: vec!["/items/{id}", "/search", "/quotes/{id}"],
        more: SOON.to_owned(),
    };
    let workspace = Workspace::new(&settings.text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, settings.admin, &[])?;
    let watch = Watch::start(&[settings.admin])?;
    let traffic = Traffic::start(a.address, &TARGETS, 1, SPACING);
    story(&watch, b)?;
    traffic.end()?;
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}

/// B is healthy, gone, wrong, and healthy again.
fn story(watch: &Watch, b: App) -> anyhow::Result<()> {
    let prometheus = &watch.prometheus;
    wait_until("comparisons", ALERT_WAIT_MAX, || {
        let matched = prometheus.query("sum(understudy_comparisons_total{outcome=\"match\"}) > 300")?;
        Ok((!matched.is_empty()).then_some(()))
    })?;
    // One that says a daemon on a busy machine does not answer ends by itself; what compares wrongly does not.
    wait_until("quiet", ALERT_WAIT_MAX, || Ok(watch.active()?.is_empty().then_some(())))
        .with_context(|| format!("nothing is wrong, and active are {:?}", watch.active()))?;

    let address = b.address;
    drop(b);
    watch.fires("UnderstudyCandidateUnreachable", LAB, &["mostly unreachable"])?;
    watch.resolves("UnderstudyStatusRegression", LAB)?;

    let wrong = App::start(&Place::Here, address, Faults::Planted)?;
    for (alert, route, says) in [
        ("UnderstudyStatusRegression", "/search", "% of the last comparisons"),
        ("UnderstudyBodyRegression", "/items/{id}", "% of the last comparisons"),
        ("UnderstudyLatencyRegression", "/quotes/{id}", "those of A"),
    ] {
        watch.fires(alert, &[("experiment", "lab"), ("route", route)], &[says])?;
        let others = watch.active()?;
        let other = others.iter().find(|other| other.is(alert, LAB) && other.label("route") != route);
        ensure!(other.is_none(), "{alert} is about {other:?} as well");
    }
    watch.resolves("UnderstudyCandidateUnreachable", LAB)?;
    exemplars(prometheus)?;
    // The median: one that had to wait for the machine says nothing of `/metrics`.
    let usual = prometheus.query("quantile_over_time(0.5, scrape_duration_seconds[1m])")?;
    let is_quick = usual.iter().all(|scrape| scrape.value < SCRAPE_SECONDS_MAX);
    ensure!(!usual.is_empty() && is_quick, "a scrape takes long: {usual:?}");

    drop(wrong);
    let _healed = App::start(&Place::Here, address, Faults::None)?;
    // Slowness is believed for at least five minutes; that it ends is shown by a test with made-up times.
    watch.resolves("UnderstudyStatusRegression", LAB)?;
    watch.resolves("UnderstudyBodyRegression", LAB)
}

/// Prometheus has ids of exchanges that differ.
fn exemplars(prometheus: &Prometheus) -> anyhow::Result<()> {
    let target = "/api/v1/query_exemplars?query=understudy_mismatch_total&start=0&end=32503680000";
    let found = prometheus.get(target)?;
    let exchange = found[0]["exemplars"][0]["labels"]["exchange"].as_str().unwrap_or_default();
    ensure!(exchange.len() == 32, "no exchange is named: {found}");
    Ok(())
}

/// B stands alone where A has an nginx before it, so that a field is missing, until B has one as well.
fn other_header_fields() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let files = StaticFiles::write()?;
    let a = Nginx::start(&Place::Here, free_address()?, &files, app.address)?;
    let settings = Settings {
        port: a.address.port(),
        admin: free_address()?,
        candidate: b.address,
        isolated: false,
        routes: vec!["/items/{id}"],
        more: format!("{SOON}[experiment.compare]\nheaders_plus = [\"server\"]\n"),
    };
    let workspace = Workspace::new(&settings.text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, settings.admin, &[])?;
    let watch = Watch::start(&[settings.admin])?;
    let traffic = Traffic::start(a.address, &["/items/7"], 1, SPACING);
    let route = [("experiment", "lab"), ("route", "/items/{id}")];
    watch.fires("UnderstudyHeaderRegression", &route, &["in 100% of the last comparisons"])?;
    let address = b.address;
    drop(b);
    let _healed = Nginx::start(&Place::Here, address, &files, app.address)?;
    watch.resolves("UnderstudyHeaderRegression", &route)?;
    traffic.end()?;
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}
