//! Prometheus and Alertmanager of the distribution's packages, for the length of a test.
//!
//! Start no service of the host: each is a child with a folder of its own, on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::get_text;
use crate::clock::wait_until;
use crate::prereq::{KERNEL, Prerequisite};
use crate::process::{Place, Process};
use crate::server::free_address;

/// What tests with promtool need.
pub const PROMTOOL: &[Prerequisite] = &[Prerequisite::Tool("promtool")];
/// What tests with a daemon and both servers need.
pub const SERVERS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("prometheus"),
    Prerequisite::Tool("prometheus-alertmanager"),
];

/// How long a server may take until it answers.
const READY_WAIT_MAX: Duration = Duration::from_secs(20);

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// Where it answers.
    pub address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

/// A running Alertmanager, which tells nobody.
#[derive(Debug)]
pub struct Alertmanager {
    /// Where it answers.
    pub address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

/// A series with its latest value.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// An alert that Alertmanager was told of.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// What tells it from others; `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// What is said to whoever is called.
    pub annotations: BTreeMap<String, String>,
}

/// Runs promtool to its end: whether it is content, and what it wrote.
///
/// # Errors
/// When it cannot be run.
pub fn promtool(arguments: &[&str], folder: &Path, input: Option<&str>) -> anyhow::Result<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), input.unwrap_or_default())?;
    let output = command.stdin(file.reopen()?).output().context("failed to run promtool")?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.success(), text.concat()))
}

// === impl Prometheus ===

impl Prometheus {
    /// Scrapes `targets` each second, and judges `rules` as often; tells `alertmanager` of alerts.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        targets: &[SocketAddr],
        rules: &str,
        alertmanager: Option<&Alertmanager>,
    ) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for Prometheus")?;
        let path = |name: &str| folder.path().join(name);
        let quoted = |addresses: &[SocketAddr]| {
            addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
        };
        let alerting = alertmanager.map_or_else(String::new, |manager| {
            format!(
                "alerting: {{alertmanagers: [{{static_configs: [{{targets: [{}]}}]}}]}}\n",
                quoted(&[manager.address])
            )
        });
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n{alerting}\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: understudy, static_configs: [{{targets: [{}]}}]}}]\n",
            quoted(targets)
        );
        std::fs::write(path("prometheus.yml"), config)?;
        std::fs::write(path("rules.yml"), rules)?;
        let address = free_address()?;
        let mut command = Place::Here.command("prometheus");
        command
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={address}"))
            // What an alert says may change while it is active; a test does not wait a minute for that.
            .args(["--enable-feature=exemplar-storage", "--rules.alert.resend-delay=1s", "--log.level=warn"]);
        let mut process = Process::start("prometheus", &mut command)?;
        wait_ready("Prometheus", address, &mut process)?;
        Ok(Self { address, process, _folder: folder })
    }

    /// What an expression comes to now.
    ///
    /// # Errors
    /// When Prometheus refuses it.
    pub fn query(&self, expression: &str) -> anyhow::Result<Vec<Series>> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let series = answer["result"].as_array().map(Vec::as_slice).unwrap_or_default();
        series
            .iter()
            .map(|one| {
                let labels = serde_json::from_value(one["metric"].clone())?;
                let value = one["value"][1].as_str().unwrap_or_default().parse()?;
                Ok(Series { labels, value })
            })
            .collect()
    }

    /// The `data` of an answer of its API.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, target: &str) -> anyhow::Result<Value> {
        let (status, text) = get_text(self.address, target)?;
        ensure!(status == 200, "{target} answered {status}: {text}{}", self.process.stderr());
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(answer["data"].take())
    }
}

// === impl Alertmanager ===

impl Alertmanager {
    /// Starts one that is alone.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for Alertmanager")?;
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n")?;
        let address = free_address()?;
        let mut command = Place::Here.command("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--cluster.listen-address=", "--log.level=warn"]);
        let mut process = Process::start("alertmanager", &mut command)?;
        wait_ready("Alertmanager", address, &mut process)?;
        Ok(Self { address, process, _folder: folder })
    }

    /// The alerts that it was told of and that are not over.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn active(&self) -> anyhow::Result<Vec<Alert>> {
        let (status, text) = get_text(self.address, "/api/v2/alerts?active=true")?;
        ensure!(status == 200, "Alertmanager answered {status}: {text}{}", self.process.stderr());
        serde_json::from_str(&text).with_context(|| text.clone())
    }
}

// === impl Alert ===

impl Alert {
    /// A label; empty when it has none of that name.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map(String::as_str).unwrap_or_default()
    }

    /// An annotation; empty when it has none of that name.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether it is this alert, and has these labels.
    pub fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.label("alertname") == name && labels.iter().all(|(label, value)| self.label(label) == *value)
    }
}

fn wait_ready(name: &str, address: SocketAddr, process: &mut Process) -> anyhow::Result<()> {
    wait_until(&format!("readiness of {name}"), READY_WAIT_MAX, || {
        process.must_run()?;
        Ok(get_text(address, "/-/ready").is_ok_and(|(status, _)| status == 200).then_some(()))
    })
}

/// Percent-encoded (RFC 3986 section 2.1).
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_target_is_encoded() {
        assert_eq!(
            encoded("rate(a{b=~\"c|d\"}[5m]) > 0.5"),
            "rate%28a%7Bb%3D~%22c%7Cd%22%7D%5B5m%5D%29%20%3E%200.5".replace('~', "%7E")
        );
    }
}
