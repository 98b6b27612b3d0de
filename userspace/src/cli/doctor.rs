//! `understudy doctor`: whether this host can capture, and what to do where it cannot.
//!
//! Changes nothing: the probe is loaded and attached to nothing that outlives the check.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Exit, output};
use crate::capture::cgroup::CgroupSelector;
use crate::capture::listeners::listening_ports;
use crate::capture::{CaptureError, KernelConfig, KernelSource, probe_is_embedded};
use crate::config;
use crate::pipeline::clock;

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Check this configuration too.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failure,
}

/// Prints a line for each check; fails when one does.
pub(super) fn doctor(arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut findings = vec![probe(), kernel(), cgroup(), capture()];
    let mut ports = Vec::new();
    if let Some(path) = &arguments.config {
        findings.push(match config::load(Some(path), config::Flags::default()) {
            Ok(config) => {
                ports = config.capture.kernel.ports;
                Finding::ok("configuration", format!("{} is good", path.display()))
            }
            Err(error) => Finding {
                check: "configuration",
                state: State::Failure,
                detail: format!("{:#}", anyhow::Error::new(error)),
                remedy: Some("`understudy config template` prints a file with every key".to_owned()),
            },
        });
    }
    findings.extend(listeners(&ports));
    let failed = findings.iter().any(|finding| finding.state == State::Failure);
    if arguments.json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&findings)?))?;
    } else {
        let lines: String = findings.iter().map(Finding::line).collect();
        output::print(&lines)?;
    }
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

fn probe() -> Finding {
    if probe_is_embedded() {
        return Finding::ok("probe", "this binary holds the kernel probe".to_owned());
    }
    Finding {
        check: "probe",
        state: State::Failure,
        detail: "this binary holds no kernel probe: it was built without one".to_owned(),
        remedy: Some("run `cargo xtask probe`, then build again".to_owned()),
    }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    // 5.8 has the ring buffer; 6.1 and later are tested.
    match version {
        (0..=4, _) | (5, 0..=7) => Finding {
            check: "kernel",
            state: State::Failure,
            detail: format!("kernel {release} has no BPF ring buffer"),
            remedy: Some("use kernel 5.8 or later".to_owned()),
        },
        _ => Finding::ok("kernel", format!("kernel {release}")),
    }
}

fn cgroup() -> Finding {
    match CgroupSelector::Root.resolve() {
        Ok(root) => Finding::ok("cgroup", format!("cgroup v2 is mounted at {}", root.display())),
        Err(error) => Finding {
            check: "cgroup",
            state: State::Failure,
            detail: format!("{:#}", anyhow::Error::new(error)),
            remedy: Some("mount -t cgroup2 none /sys/fs/cgroup".to_owned()),
        },
    }
}

/// Loads and attaches the probe with no wanted port, and takes it away again.
fn capture() -> Finding {
    let config = KernelConfig { ring_bytes: 4096, ..KernelConfig::default() };
    match KernelSource::open(&config, clock::boot()) {
        Ok(source) => {
            drop(source);
            Finding::ok("capture", "the probe loads and attaches".to_owned())
        }
        Err(error) => {
            let remedy = if matches!(error, CaptureError::MissingCapabilities { missing: _ }) {
                "run it as root, for instance with sudo, or give the process these capabilities"
            } else {
                "mend what is named above, then ask again"
            };
            let detail = format!("{:#}", anyhow::Error::new(error));
            Finding { check: "capture", state: State::Failure, detail, remedy: Some(remedy.to_owned()) }
        }
    }
}

fn listeners(ports: &[u16]) -> Vec<Finding> {
    let Ok(listening) = listening_ports() else { return Vec::new() };
    ports
        .iter()
        .map(|port| {
            if listening.contains(port) {
                return Finding::ok("port", format!("somebody listens on port {port}"));
            }
            Finding {
                check: "port",
                state: State::Warning,
                detail: format!("nobody listens on port {port} in this network namespace"),
                remedy: Some("start the service, or mend `ports`".to_owned()),
            }
        })
        .collect()
}

// === impl Finding ===

impl Finding {
    fn ok(check: &'static str, detail: String) -> Self {
        Self { check, state: State::Ok, detail, remedy: None }
    }

    fn line(&self) -> String {
        let Self { check, state, detail, remedy } = self;
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failure => "FAILURE",
        };
        let remedy = remedy.as_ref().map(|remedy| format!("\n{:24}remedy: {remedy}", "")).unwrap_or_default();
        format!("{state:<8} {check:<14} {detail}{remedy}\n")
    }
}
