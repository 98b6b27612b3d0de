//! Prometheus and Alertmanager that watch daemons, what they tell whoever is called, and the traffic meanwhile.
//!
//! Uses a copy of the rules with short times; what the times of the real ones do, `promtool test rules` shows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::client::{Client, request};
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::prometheus::{Alert, Alertmanager, Prometheus};

use crate::files::{RUNBOOKS, headings};
use crate::repository;

/// Longest wait for an alert to come or to go. Coming takes evidence, going takes silence.
pub(crate) const ALERT_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the alerts.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Who watches.
pub(crate) struct Watch {
    pub(crate) prometheus: Prometheus,
    manager: Alertmanager,
    /// The sections of the runbooks.
    sections: BTreeSet<String>,
}

/// Requests to A, until this ends.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    connections: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// The rules with times that a test can wait for. Half an hour and a day stay: they mean "ever" here.
fn hurried(rules: &str) -> String {
    let ranges = ["[2m]", "[5m]", "[10m]", "[15m]"];
    let lines = rules.lines().map(|line| match line.trim_start().starts_with("for: ") {
        true => line.split("for: ").next().unwrap_or_default().to_owned() + "for: 1s\n",
        false => ranges.iter().fold(line.to_owned(), |line, range| line.replace(range, "[6s]")) + "\n",
    });
    lines.collect()
}

// === impl Watch ===

impl Watch {
    /// Watches the daemons with these admin listeners, whether they run already or not.
    pub(crate) fn start(daemons: &[SocketAddr]) -> anyhow::Result<Self> {
        let manager = Alertmanager::start()?;
        let rules = hurried(&std::fs::read_to_string(repository("deploy/prometheus/alerts.yml"))?);
        let prometheus = Prometheus::start(daemons, &rules, Some(&manager))?;
        let runbooks = std::fs::read_to_string(repository("docs/runbooks.md"))?;
        let sections = headings(&runbooks).into_iter().map(str::to_lowercase).collect();
        Ok(Self { prometheus, manager, sections })
    }

    /// Waits until a daemon was scraped some times.
    pub(crate) fn sees(&self, instance: &str) -> anyhow::Result<()> {
        let scrapes = format!("count_over_time(understudy_build_info{{instance=\"{instance}\"}}[1m]) > 2");
        wait_until("scrapes", ALERT_WAIT_MAX, || {
            pause(LOOK_EVERY);
            Ok((!self.prometheus.query(&scrapes)?.is_empty()).then_some(()))
        })
    }

    /// What is active now.
    pub(crate) fn active(&self) -> anyhow::Result<Vec<Alert>> {
        self.manager.active()
    }

    /// Waits until this alert is active with these labels and says all of this, and reads it as whoever is called by it.
    pub(crate) fn fires(&self, name: &str, labels: &[(&str, &str)], says: &[&str]) -> anyhow::Result<Alert> {
        let is_wanted = |alert: &Alert| {
            alert.is(name, labels) && says.iter().all(|part| alert.annotation("description").contains(part))
        };
        let alert = self
            .wait(|active| active.iter().find(|alert| is_wanted(alert)).cloned())
            .with_context(|| format!("wanted {name} with {labels:?} that says {says:?}"))?;
        self.read(name, &alert).with_context(|| format!("{alert:?}"))?;
        Ok(alert)
    }

    /// Waits until no such alert is active any more.
    pub(crate) fn resolves(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        self.wait(|active| (!active.iter().any(|alert| alert.is(name, labels))).then_some(()))
            .with_context(|| format!("wanted an end of {name} with {labels:?}"))
    }

    fn wait<T>(&self, found: impl Fn(&[Alert]) -> Option<T>) -> anyhow::Result<T> {
        let mut last = Vec::new();
        wait_until("change of alerts", ALERT_WAIT_MAX, || {
            pause(LOOK_EVERY);
            last = self.manager.active()?;
            Ok(found(&last))
        })
        .with_context(|| format!("active are {last:#?}"))
    }

    /// That it says what is wrong and where, and leads to its section of the runbooks.
    fn read(&self, name: &str, alert: &Alert) -> anyhow::Result<()> {
        ensure!(["warning", "critical"].contains(&alert.label("severity")), "how bad is it?");
        let (summary, description) = (alert.annotation("summary"), alert.annotation("description"));
        for text in [summary, description] {
            ensure!(text.ends_with('.') && text.len() > 20, "`{text}` is no sentence");
            let slips = ["{{", "}}", "<no value>", "error expanding", "NaN", "Inf", "  ", " ,", " .", "\n"];
            let slip = slips.iter().find(|slip| text.contains(**slip));
            ensure!(slip.is_none(), "`{text}` has {slip:?}");
        }
        let instance = alert.label("instance");
        ensure!(!instance.is_empty() && description.contains(instance), "where is it?");
        for label in ["experiment", "route"] {
            ensure!(description.contains(alert.label(label)), "which {label} is it?");
        }
        let section = alert.annotation("runbook_url").strip_prefix(RUNBOOKS).unwrap_or_default();
        ensure!(section == name.to_lowercase() && self.sections.contains(section), "no runbook");
        Ok(())
    }
}

// === impl Traffic ===

impl Traffic {
    /// Asks A for these in turn, on so many connections, with such a pause behind each answer.
    pub(crate) fn start(
        a: SocketAddr,
        targets: &'static [&'static str],
        connections: usize,
        spacing: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let connections = (0..connections).map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || drive(a, targets, spacing, &stop))
        });
        Self { connections: connections.collect(), stop }
    }

    /// Ends it. Fails when A did not answer a request.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.connections)
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn drive(a: SocketAddr, targets: &[&str], spacing: Duration, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut client = Client::connect(a)?;
    for target in targets.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        client.send(&request("GET", target, a, &[]))?;
        client.answer("GET")?;
        pause(spacing);
    }
    Ok(())
}
