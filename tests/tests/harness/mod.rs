//! The harness of test programs whose tests have prerequisites.
//!
//! Never passes a test that it could not run: without its prerequisites a test is skipped and counted so, and with
//! `UNDERSTUDY_REQUIRE_BPF=1` it fails.
#![expect(clippy::print_stderr, reason = "a test program says on the terminal why it skips")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use understudy_tests::prereq::{Prerequisite, missing, required};

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The claim.
    pub(crate) name: &'static str,
    /// What it cannot do without.
    pub(crate) needs: &'static [Prerequisite],
    pub(crate) run: fn() -> anyhow::Result<()>,
}

/// Runs those of the tests, by module, that the arguments of the program name.
pub(crate) fn run(modules: &[(&str, &[Case])]) -> ExitCode {
    let arguments = Arguments::from_args();
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
