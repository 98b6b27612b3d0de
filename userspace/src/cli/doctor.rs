//! `understudy doctor`: whether this host can do what is asked of it, and what to do where it cannot.
//!
//! Prints what [`crate::doctor`] finds; looks at nothing itself.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Exit, output};
use crate::config;
use crate::doctor::{Duties, Finding, State, examine};
use crate::pipeline::settings::Config;

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Look at what this configuration needs too: ports, Redis, candidates, folders.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// With what `conf.d/NAME.toml` beside it says, as `understudy run --instance NAME` reads it.
    #[arg(long, value_name = "NAME", requires = "config")]
    instance: Option<String>,
    /// What this host is to do. Default: what the configuration is for, as far as its ports, its experiments and [queue] say
    /// it; the finding `role` names it.
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Option<Role>,
    /// JSON, for programs: a list of objects with `check`, `state` (ok, warning, failure), `detail` and `remedy`.
    #[arg(long)]
    json: bool,
}

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Capture and replay in one process.
    Run,
    /// The tee alone.
    Capture,
    /// A worker alone.
    Replay,
}

/// Prints a line for each check; fails when one does.
pub(super) fn doctor(arguments: &Arguments) -> anyhow::Result<Exit> {
    let path = arguments.config.as_deref();
    let mut findings = Vec::new();
    let flags = config::Flags { instance: arguments.instance.clone(), ..config::Flags::default() };
    let config = match config::load(path, flags) {
        Ok(config) => {
            findings
                .extend(path.map(|path| Finding::ok("configuration", format!("{} is good", path.display()))));
            Some(config)
        }
        Err(error) => {
            let detail = format!("{:#}", anyhow::Error::new(error));
            let remedy = "`understudy config template` prints a file with every key";
            findings.push(Finding::failure("configuration", detail, remedy));
            None
        }
    };
    // What the host can do is worth knowing even where the configuration is wrong.
    let config = match config {
        Some(config) => config,
        None => config::load(None, config::Flags::default())?,
    };
    let (role, why) = arguments.role.map_or_else(|| role_of(&config), |role| (role, "as --role says"));
    findings.push(Finding::ok("role", format!("looked at for `{}`, {why}", role.command())));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    findings.extend(runtime.block_on(examine(&config, role.duties())));
    if arguments.json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&findings)?))?;
    } else {
        let lines: String = findings.iter().map(line).collect();
        output::print(&lines)?;
    }
    let failed = findings.iter().any(|finding| finding.state == State::Failure);
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// What a configuration is for, and why that is believed. Without experiments: whether this host can capture at all.
fn role_of(config: &Config) -> (Role, &'static str) {
    let (ports, experiments) = (!config.capture.kernel.ports.is_empty(), !config.experiments.is_empty());
    match (experiments, ports, config.queue.is_some()) {
        (false, _, _) => (Role::Capture, "since there is no experiment; --role asks for another one"),
        (true, true, false) => {
            (Role::Run, "since there are ports and experiments and no [queue]; --role asks for another one")
        }
        // What is captured there is replayed by others.
        (true, true, true) => {
            (Role::Capture, "since there are ports and a [queue] behind them; --role asks for another one")
        }
        (true, false, _) => {
            (Role::Replay, "since there are experiments and no ports; --role asks for another one")
        }
    }
}

fn line(finding: &Finding) -> String {
    let Finding { check, state, detail, remedy } = finding;
    let state = match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Failure => "FAILURE",
    };
    let remedy = remedy.as_ref().map(|remedy| format!("\n{:24}remedy: {remedy}", "")).unwrap_or_default();
    format!("{state:<8} {check:<14} {detail}{remedy}\n")
}

// === impl Role ===

impl Role {
    /// The command that does it.
    fn command(self) -> &'static str {
        match self {
            Role::Run => "run",
            Role::Capture => "capture",
            Role::Replay => "replay",
        }
    }

    fn duties(self) -> Duties {
        match self {
            Role::Run => Duties { capture: true, replay: true },
            Role::Capture => Duties { capture: true, replay: false },
            Role::Replay => Duties { capture: false, replay: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: &str = "[capture]\nports = [80]\n";
    const QUEUE: &str = "[queue]\nredis = \"redis://127.0.0.1\"\n";
    const EXPERIMENT: &str = "[[experiment]]\nname = \"e\"\ncandidate = { url = \"http://127.0.0.1:9\" }\n";

    #[track_caller]
    fn check(parts: &[&str], expected: Role) {
        let config = config::parse(&parts.concat(), None, config::Flags::default()).unwrap();
        let (role, why) = role_of(&config);
        assert_eq!(role, expected, "{parts:?}");
        assert!(why.contains("--role"), "{why}");
    }

    #[test]
    fn a_configuration_says_what_its_host_is_for() {
        check(&[], Role::Capture);
        check(&[PORTS], Role::Capture);
        check(&[PORTS, EXPERIMENT], Role::Run);
        check(&[EXPERIMENT], Role::Replay);
        check(&[QUEUE, EXPERIMENT], Role::Replay);
        check(&[PORTS, QUEUE, EXPERIMENT], Role::Capture);
        check(&[PORTS, QUEUE], Role::Capture);
    }

    #[test]
    fn the_files_of_the_units_are_looked_at_as_their_units_run_them() {
        check(&[include_str!("../../../deploy/config/capture.toml")], Role::Capture);
        check(&[include_str!("../../../deploy/config/replay.toml")], Role::Replay);
    }
}
