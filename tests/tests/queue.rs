//! The queue between hosts, against real Redis servers of the distribution's package.
//!
//! Never passes a test that it could not run: without its prerequisites a test is skipped and counted so, and with
//! `UNDERSTUDY_REQUIRE_BPF=1` it fails.
#![expect(clippy::print_stderr, reason = "a test program says on the terminal why it skips")]

#[path = "queue/append.rs"]
mod append;
#[path = "queue/connect.rs"]
mod connect;
#[path = "queue/reader.rs"]
mod reader;
#[path = "queue/results.rs"]
mod results;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use understudy_tests::prereq::{Prerequisite, missing, required};

/// What all of these tests need.
const REDIS: &[Prerequisite] =
    &[Prerequisite::Tool("redis-server"), Prerequisite::Tool("redis-cli"), Prerequisite::Tool("setpriv")];
/// What tests with TLS need besides.
const TLS: &[Prerequisite] = &[
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
    Prerequisite::Tool("setpriv"),
    Prerequisite::Tool("openssl"),
];

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
        ("connect", connect::CASES),
        ("append", append::CASES),
        ("reader", reader::CASES),
        ("results", results::CASES),
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

/// Runs a future to its end, on one thread.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
