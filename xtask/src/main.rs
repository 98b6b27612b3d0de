//! Automation of this repository: `cargo xtask --help`.
//!
//! Holds no logic of the daemon.
#![expect(clippy::print_stderr, reason = "a command line tool talks to the terminal")]

mod bench;
mod demo;
mod detect;
mod dist;
mod docs;
mod fuzz;
mod machine;
mod probe;
mod setup;
mod soak;
mod test;
mod tidy;
mod vm;

use std::os::unix::process::CommandExt as _;
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
    /// Find three planted faults on real traffic, from nothing to a verdict
    Demo,
    /// Measure what capture costs A, how fast exchanges are put together, and what replay costs
    Bench(bench::Options),
    /// Plant regressions in small applications and count which are found, next to Diffy's rule
    Detect(detect::Options),
    /// Build the Debian package and the archive into target/dist, and check them where asked to
    Dist(dist::Options),
    /// Run the fuzz targets over the borders of the core
    Fuzz(fuzz::Options),
    /// Let faults happen to captures, workers and Redis for a long time, and account for every exchange
    Soak(soak::Options),
    /// Run every check and every test
    Test,
    /// Build the eBPF probe into target/probe
    Probe,
    /// Write the pages of docs/ that come from the program
    Docs,
    /// Check what no compiler checks: imports, module docs, sizes, unused dependencies
    Tidy,
    /// Boot kernels of the distribution and run the end-to-end tests of the probe in each
    Vm(vm::Options),
}

/// What cargo tells the program that it runs about its package.
const OF_CARGO: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// Starts this program anew without what cargo told it. A cargo that is run below would take that for a change of what the
/// build script of `ring` looks at, and build it and all that need it again, in turns with a cargo that is run by hand.
fn forget_cargo() {
    let told: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| OF_CARGO.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    let Ok(program) = std::env::current_exe() else { return };
    if told.is_empty() {
        return;
    }
    let mut again = std::process::Command::new(program);
    again.args(std::env::args_os().skip(1));
    for name in &told {
        again.env_remove(name);
    }
    // It returns only where it fails; then everything works all the same, and takes longer.
    eprintln!("xtask: failed to start anew: {}", again.exec());
}

fn main() -> ExitCode {
    forget_cargo();
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Demo => demo::run(),
        Command::Detect(options) => detect::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Test => test::run(),
        Command::Probe => probe::run(),
        Command::Docs => docs::run(),
        Command::Tidy => tidy::run(),
        Command::Vm(options) => vm::run(&options),
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
