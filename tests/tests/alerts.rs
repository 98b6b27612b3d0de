//! Alerts, dashboard and `/metrics`, with promtool, Prometheus and Alertmanager of the distribution's packages.
//!
//! Never passes a test that it could not run: without its prerequisites a test is skipped and counted so, and with
//! `UNDERSTUDY_REQUIRE_BPF=1` it fails.
#![expect(clippy::print_stderr, reason = "a test program says on the terminal why it skips")]

#[path = "alerts/files.rs"]
mod files;
#[path = "alerts/fires.rs"]
mod fires;
#[path = "alerts/queries.rs"]
mod queries;
#[path = "alerts/selector.rs"]
mod selector;

use std::path::PathBuf;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use understudy_tests::prereq::{Prerequisite, missing, required};

/// One test.
#[derive(Clone, Copy)]
struct Case {
    /// The claim.
    name: &'static str,
    /// What it cannot do without.
    needs: &'static [Prerequisite],
    run: fn() -> anyhow::Result<()>,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let modules: &[(&str, &[Case])] = &[
        ("selector", selector::CASES),
        ("files", files::CASES),
        ("queries", queries::CASES),
        ("fires", fires::CASES),
    ];
    let trials = modules
        .iter()
        .flat_map(|(module, cases)| cases.iter().map(move |case| trial(module, *case)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(module: &str, case: Case) -> Trial {
    let Case { name, needs, run } = case;
    let missing = missing(needs);
    if let Some(reason) = &missing
        && !required()
    {
        eprintln!("skipped {module}::{name}: {reason}");
    }
    let skipped = missing.is_some() && !required();
    Trial::test(format!("{module}::{name}"), move || match missing {
        Some(reason) => Err(format!("cannot run here: {reason}").into()),
        None => run().map_err(|error| format!("{error:#}").into()),
    })
    .with_ignored_flag(skipped)
}

/// A folder or file of the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
