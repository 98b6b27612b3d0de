//! Automation of this repository: `cargo xtask --help`.
//!
//! Holds no logic of the daemon.
#![expect(clippy::print_stderr, reason = "a command line tool talks to the terminal")]

mod probe;
mod setup;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Automation of this repository")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install what the other commands need; does nothing when all is there
    Setup,
    /// Build the eBPF probe into target/probe
    Probe,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Probe => probe::run(),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    // 2 means the same as in `understudy`: nothing is wrong with the code, something is missing around it.
    if error.is::<setup::Missing>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
