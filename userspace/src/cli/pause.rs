//! `understudy pause` and `understudy resume`: ask an understudy that runs to stand still, and to go on.
//!
//! Needs no privileges, and starts nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::observe::ListenerFlags;
use super::{Exit, output};
use crate::config::{self, Flags};
use crate::pipeline::protect::remote::{self, ClientConfig, ControlError, RemoteState};

/// Whom to ask.
#[derive(Debug, Args)]
struct Whom {
    #[command(flatten)]
    listener: ListenerFlags,
    /// The configuration that it runs with, which says where its admin listener is and which token it wants; in place of
    /// --url and --token.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The instance of that configuration which it runs as: `8080` for the unit understudy@8080.
    #[arg(long, value_name = "NAME", requires = "config")]
    instance: Option<String>,
}

/// For how long to stand still.
#[derive(Debug, Args)]
#[command(after_help = "Example: understudy pause --for 2h\n\
                        Nothing is copied from the service and nothing is sent to the candidate meanwhile; what is under \
                        way is finished. See also [[pause]] in the configuration.")]
pub(super) struct PauseArguments {
    #[command(flatten)]
    whom: Whom,
    /// Go on by itself after this time, such as `90s` or `2h`. Default: at `understudy resume`.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

/// Go on.
#[derive(Debug, Args)]
#[command(after_help = "Example: understudy resume\n\
                        Ends a pause of the time table as well; the next one comes all the same.")]
pub(super) struct ResumeArguments {
    #[command(flatten)]
    whom: Whom,
}

// === impl Whom ===

impl Whom {
    fn listener(&self) -> anyhow::Result<ClientConfig> {
        let Self { listener, config, instance } = self;
        let Some(path) = config else { return Ok(listener.config()) };
        // What it replays is of no interest here.
        let config = config::load(
            Some(path),
            Flags { no_experiments: true, instance: instance.clone(), ..Flags::default() },
        )?;
        match config.admin {
            Some(admin) => Ok(listener.config_for(&admin)),
            None => bail!(
                "`{}` switches the admin listener off, so that nobody can ask for anything ([admin] listen)",
                path.display()
            ),
        }
    }
}

/// Pauses, and says until when.
pub(super) fn pause(arguments: &PauseArguments) -> anyhow::Result<Exit> {
    let PauseArguments { whom, time } = arguments;
    let listener = whom.listener()?;
    say(remote::pause(&listener, *time))
}

/// Resumes.
pub(super) fn resume(arguments: &ResumeArguments) -> anyhow::Result<Exit> {
    let listener = arguments.whom.listener()?;
    say(remote::resume(&listener))
}

fn say(asked: impl Future<Output = Result<RemoteState, ControlError>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let state = runtime.block_on(asked)?;
    output::print(&format!("{}\n", words(&state)))?;
    Ok(Exit::Success)
}

/// What holds, in one sentence.
fn words(state: &RemoteState) -> String {
    let RemoteState { paused, until, paused_seconds } = state;
    let total = humantime::format_duration(Duration::from_secs(*paused_seconds as u64));
    match (paused, until) {
        (true, Some(until)) => format!("Paused until {}.", output::shown(until.as_bytes())),
        (true, None) => "Paused until `understudy resume`.".to_owned(),
        (false, _) => format!("Capture and replay go on; pauses took {total} so far."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(paused: bool, until: Option<&str>, expected: &str) {
        let state = RemoteState { paused, until: until.map(str::to_owned), paused_seconds: 61.9 };
        assert_eq!(words(&state), expected);
    }

    #[test]
    fn says_what_holds() {
        check(true, Some("2026-03-02T04:00:00Z"), "Paused until 2026-03-02T04:00:00Z.");
        check(true, None, "Paused until `understudy resume`.");
        check(false, None, "Capture and replay go on; pauses took 1m 1s so far.");
    }
}
