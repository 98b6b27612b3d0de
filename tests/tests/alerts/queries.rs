//! Every query of the alerts and of the dashboard, asked of a real Prometheus that scrapes real daemons.
//!
//! Asks whether names and labels are there, not what the values are.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, get_text, request};
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Settings, Workspace};
use understudy_tests::fleet::{Fleet, Setup};
use understudy_tests::prereq::{KERNEL, Prerequisite};
use understudy_tests::process::Place;
use understudy_tests::prometheus::{Prometheus, promtool};
use understudy_tests::redis::Server;
use understudy_tests::server::{App, free_address};

use crate::selector::{asked, grouping, selectors, templated};
use crate::{Case, repository};

pub(crate) const CASES: &[Case] = &[
    Case { name: "every_query_names_what_daemons_export", needs: NEEDS, run: every_query },
    Case { name: "metrics_come_in_the_format_that_is_asked_for", needs: FORMATS, run: formats },
];

const NEEDS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("prometheus"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
    Prerequisite::Tool("ip"),
];
const FORMATS: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("promtool")];

/// How long until everything was scraped.
const SCRAPE_WAIT_MAX: Duration = Duration::from_secs(20);

/// An expression, and the texts that name labels of what it comes to.
#[derive(Clone)]
struct Query {
    place: String,
    expression: String,
    templates: String,
}

/// One `understudy run` between two applications.
struct Run {
    daemon: Daemon,
    _workspace: Workspace,
    _apps: [App; 2],
}

impl Run {
    fn start() -> anyhow::Result<Self> {
        let apps = [Faults::None; 2].map(|faults| App::start(&Place::Here, free_address()?, faults));
        let [a, b] = apps;
        let apps = [a?, b?];
        let [a, b] = &apps;
        let settings = Settings {
            port: a.address.port(),
            admin: free_address()?,
            candidate: b.address,
            isolated: false,
            routes: vec!["/items/{id}"],
            more: String::new(),
        };
        let workspace = Workspace::new(&settings.text())?;
        let daemon = Daemon::run(&Place::Here, &workspace, settings.admin, &[])?;
        let mut client = Client::connect(a.address)?;
        for _ in 0..5 {
            client.send(&request("GET", "/items/1", a.address, &[]))?;
            client.answer("GET")?;
        }
        Ok(Self { daemon, _workspace: workspace, _apps: apps })
    }
}

fn every_query() -> anyhow::Result<()> {
    let run = Run::start()?;
    let redis = Server::start()?;
    let mut fleet = Fleet::start(Setup::new(&redis))?;
    fleet.load(20, 50)?;
    let capture = fleet.capture.as_ref().context("no capture runs")?.admin();
    let worker = fleet.workers.first().context("no worker runs")?.admin();
    let alerts = std::fs::read_to_string(repository("deploy/prometheus/alerts.yml"))?;
    let prometheus = Prometheus::start(&[run.daemon.admin(), capture, worker], &alerts, None)?;
    wait_until("a scrape of all daemons", SCRAPE_WAIT_MAX, || {
        Ok((prometheus.query("understudy_build_info")?.len() == 3).then_some(()))
    })?;
    let mut queries = of_alerts(&prometheus)?;
    ensure!(queries.len() > 15, "only {} alerts", queries.len());
    queries.extend(of_dashboard()?);
    ensure!(queries.len() > 35, "only {} queries", queries.len());
    let of_runbooks = of_runbooks()?;
    ensure!(of_runbooks.len() > 25, "only {} queries of runbooks", of_runbooks.len());
    queries.extend(of_runbooks);
    let wrong: Vec<String> = queries
        .iter()
        .filter_map(|query| check(&prometheus, query).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    fleet.end_capture()?;
    fleet.end_workers()
}

/// Each selector finds series, each label is one of theirs, and the whole is an expression.
fn check(prometheus: &Prometheus, query: &Query) -> anyhow::Result<()> {
    let Query { place, expression, templates } = query;
    let selectors = selectors(expression);
    ensure!(!selectors.is_empty(), "{place}: `{expression}` is about none of our metrics");
    let mut labels = BTreeSet::new();
    for selector in &selectors {
        let series = prometheus.query(selector)?;
        ensure!(!series.is_empty(), "{place}: nobody exports `{selector}`");
        labels.extend(series.into_iter().flat_map(|series| series.labels.into_keys()));
    }
    for label in grouping(expression).iter().chain(&templated(templates)) {
        ensure!(labels.contains(label), "{place}: no series of `{expression}` has a label `{label}`");
    }
    prometheus.query(expression).with_context(|| format!("{place}: `{expression}`"))?;
    Ok(())
}

fn of_alerts(prometheus: &Prometheus) -> anyhow::Result<Vec<Query>> {
    let answer = prometheus.get("/api/v1/rules")?;
    let groups = answer["groups"].as_array().context("no groups of rules")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
    Ok(rules.flat_map(|rule| of_alert(&rule)).collect())
}

/// What an alert asks, and what its annotations ask besides.
fn of_alert(rule: &Value) -> Vec<Query> {
    let place = format!("alert {}", text(&rule["name"]));
    let annotations = rule["annotations"].as_object().into_iter().flat_map(|all| all.values().map(text));
    let templates = annotations.collect::<Vec<_>>().join("\n");
    let asked = asked(&templates).into_iter();
    let besides = asked
        .map(|expression| Query { place: place.clone(), expression, templates: String::new() })
        .collect();
    let own = Query { place, expression: text(&rule["query"]), templates };
    [vec![own], besides].concat()
}

/// What the runbooks say to look at: whatever of ours stands between backticks there.
fn of_runbooks() -> anyhow::Result<Vec<Query>> {
    let file = std::fs::read_to_string(repository("docs/runbooks.md"))?;
    let mut queries = Vec::new();
    let mut place = String::new();
    for line in file.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            place = format!("runbook {heading}");
        }
        let codes = line.split('`').skip(1).step_by(2).filter(|code| !selectors(code).is_empty());
        queries.extend(codes.map(|code| Query {
            place: place.clone(),
            expression: code.to_owned(),
            templates: String::new(),
        }));
    }
    Ok(queries)
}

fn of_dashboard() -> anyhow::Result<Vec<Query>> {
    let file = std::fs::read_to_string(repository("deploy/grafana/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&file).context("the dashboard is no JSON")?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("the dashboard has no panels")? {
        let title = text(&panel["title"]);
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(text(&panel["type"]) == "row" || !targets.is_empty(), "panel `{title}` asks for nothing");
        queries.extend(targets.iter().map(|target| Query {
            place: format!("panel `{title}`"),
            expression: without_variables(&text(&target["expr"])),
            templates: text(&target["legendFormat"]),
        }));
    }
    for variable in dashboard["templating"]["list"].as_array().context("the dashboard has no variables")? {
        let query = text(&variable["query"]);
        if let Some(inner) = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')')) {
            let (selector, label) = inner.rsplit_once(',').context("a variable without a label")?;
            queries.push(Query {
                place: format!("variable `{}`", text(&variable["name"])),
                expression: without_variables(selector),
                templates: format!("{{{{{}}}}}", label.trim()),
            });
        }
    }
    Ok(queries)
}

/// As Grafana asks it when everything is chosen.
fn without_variables(expression: &str) -> String {
    let all = [("$__rate_interval", "20s"), ("$instance", ".*"), ("$experiment", ".*"), ("$route", ".*")];
    all.iter()
        .fold(expression.to_owned(), |expression, (variable, value)| expression.replace(variable, value))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn formats() -> anyhow::Result<()> {
    let run = Run::start()?;
    let admin = run.daemon.admin();
    let content_type = |accept: &[(&str, &str)]| {
        let mut client = Client::connect(admin)?;
        client.send(&request("GET", "/metrics", admin, accept))?;
        let answer = client.answer("GET")?;
        let field = answer.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        anyhow::Ok(field.map(|(_, value)| value.clone()).unwrap_or_default())
    };
    let plain = content_type(&[])?;
    ensure!(plain.starts_with("text/plain; version=0.0.4"), "{plain}");
    let open_metrics = content_type(&[("Accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")])?;
    ensure!(open_metrics.starts_with("application/openmetrics-text; version=1.0.0"), "{open_metrics}");
    let (_, metrics) = get_text(admin, "/metrics")?;
    // It knows what names, units and types should look like.
    let (is_fine, said) = promtool(&["check", "metrics"], &repository("."), Some(&metrics))?;
    ensure!(is_fine, "{said}");
    Ok(())
}
