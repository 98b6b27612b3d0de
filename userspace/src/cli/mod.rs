//! The command line: what can be asked for, and which exit code says what came of it.
//!
//! Contains no logic of its own; each command is a file.

mod capture;
mod config;
mod convert;
mod doctor;
mod exchange_line;
mod fleet;
mod inspect;
mod ledger;
mod observe;
mod output;
mod pause;
mod progress;
mod record;
mod reload;
mod replay;
mod report;
mod run;

use std::process::ExitCode;

use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

/// What a command came to, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; or the verdict is PASS.
    Success,
    /// The verdict is FAIL, or a check found something wrong.
    Failure,
    /// Wrong usage or configuration, or it could not be done.
    Error,
    /// The verdict is NOT ENOUGH DATA.
    NotEnoughData,
    /// What was sent to the candidate came back to the captured service. A code of its own, because this must not be
    /// started again before somebody has looked.
    Looped,
}

/// Finds out from real traffic whether a new version of an HTTP service would behave the same.
///
/// A kernel probe copies the traffic of a service A, without any change to it. Each request is sent to a candidate B,
/// outside the request path, and B's answers are compared with A's.
#[derive(Debug, Parser)]
#[command(
    name = "understudy",
    version,
    after_help = "Exit codes: 0 done, or PASS; 1 FAIL; 2 wrong usage or configuration, or it cannot be done; \
                  3 NOT ENOUGH DATA; 4 the candidate leads back to the captured service.\nTry `understudy inspect --port 8080` first: it only looks."
)]
struct Arguments {
    /// Log more on stderr; twice for debugging. `UNDERSTUDY_LOG` takes a filter such as `understudy=debug`.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture, replay and compare in one process, then report.
    Run(run::Arguments),
    /// The tee alone: capture into the queue that the configuration names, or a recording, and replay nothing.
    Capture(record::Arguments),
    /// A worker alone: replay from the queue that the configuration names, and compare.
    Replay(replay::Arguments),
    /// Show exchanges as they happen; sends nothing anywhere.
    Inspect(inspect::Arguments),
    /// Show what a run found, and its verdict.
    Report(report::Arguments),
    /// Hand exchanges from a file to an understudy that runs, as applications do themselves.
    Observe(observe::Arguments),
    /// Turn a recording into a file of another program, or back: GoReplay's .gor, HAR.
    Convert(convert::Arguments),
    /// Check a configuration file, or print one to start from.
    #[command(subcommand)]
    Config(config::Command),
    /// Ask an understudy that runs to stand still: nothing is captured and nothing is sent.
    Pause(pause::PauseArguments),
    /// Ask it to go on.
    Resume(pause::ResumeArguments),
    /// Say whether this host can capture, and what to do where it cannot.
    Doctor(doctor::Arguments),
}

/// The command line as it is defined: man pages and completions are made of it.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Error } else { Exit::Success };
            // Nothing is left to say when even this cannot be printed.
            drop(error.print());
            return exit.into();
        }
    };
    output::log_to_stderr(arguments.verbose);
    let done = match arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Capture(arguments) => record::capture(arguments),
        Command::Replay(arguments) => replay::replay(arguments),
        Command::Inspect(arguments) => inspect::inspect(arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Observe(arguments) => observe::observe(&arguments),
        Command::Convert(arguments) => convert::convert(&arguments),
        Command::Config(command) => config::config(&command),
        Command::Pause(arguments) => pause::pause(&arguments),
        Command::Resume(arguments) => pause::resume(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
    };
    match done {
        Ok(exit) => exit.into(),
        // The reader of our output went away: that is its decision, not an error.
        Err(error) if output::is_broken_pipe(&error) => Exit::Success.into(),
        Err(error) => {
            output::complain_of(&error);
            Exit::Error.into()
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Error => 2,
            Exit::NotEnoughData => 3,
            Exit::Looped => 4,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
