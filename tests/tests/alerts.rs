//! Alerts, dashboard and `/metrics`, with promtool, Prometheus and Alertmanager of the distribution's packages.
//!
//! Links nothing of the daemon: it is a program here, with files and an admin listener.

#[path = "alerts/commands.rs"]
mod commands;
#[path = "alerts/files.rs"]
mod files;
#[path = "alerts/fires.rs"]
mod fires;
#[path = "alerts/fleet.rs"]
mod fleet;
mod harness;
#[path = "alerts/host.rs"]
mod host;
#[path = "alerts/queries.rs"]
mod queries;
#[path = "alerts/selector.rs"]
mod selector;
#[path = "alerts/watch.rs"]
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use harness::Case;

fn main() -> ExitCode {
    harness::run(&[
        ("selector", selector::CASES),
        ("files", files::CASES),
        ("queries", queries::CASES),
        ("fires", fires::CASES),
        ("host", host::CASES),
        ("fleet", fleet::CASES),
        ("commands", commands::CASES),
    ])
}

/// A folder or file of the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
