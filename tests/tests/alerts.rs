//! Alerts, dashboard and `/metrics`, with promtool, Prometheus and Alertmanager of the distribution's packages.
//!
//! Links nothing of the daemon: it is a program here, with files and an admin listener.

#[path = "alerts/files.rs"]
mod files;
#[path = "alerts/fires.rs"]
mod fires;
mod harness;
#[path = "alerts/queries.rs"]
mod queries;
#[path = "alerts/selector.rs"]
mod selector;

use std::path::PathBuf;
use std::process::ExitCode;

use harness::Case;

fn main() -> ExitCode {
    harness::run(&[
        ("selector", selector::CASES),
        ("files", files::CASES),
        ("queries", queries::CASES),
        ("fires", fires::CASES),
    ])
}

/// A folder or file of the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
