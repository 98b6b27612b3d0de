//! `understudy config`: check a file, or print one to start from.
//!
//! Connects to nothing, and starts nothing.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::{Exit, output, reload};
use crate::config::{self, Flags};
use crate::pipeline::run::RunError;

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what is wrong with a file, with line and key; exit code 2 when something is. As part of a reload by systemd also
    /// when the running service cannot take it without a restart.
    Check {
        /// The file.
        #[arg(value_name = "FILE", required_unless_present = "config")]
        file: Option<PathBuf>,
        /// The file, as other commands take it.
        #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
        /// With what `conf.d/NAME.toml` beside it says, as `understudy run --instance NAME` reads it.
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
    },
    /// Print a configuration with every key and its default.
    Template,
    /// Print a new key for `key` under [redact]: `understudy config key | install -m 600 /dev/stdin FILE`.
    Key,
}

/// Runs the command.
pub(super) fn config(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Check { file, config, instance } => {
            let file = file.as_ref().or(config.as_ref()).context("no file is named")?;
            let config = config::load(Some(file), Flags { instance: instance.clone(), ..Flags::default() })?;
            if let Some(queue) = &config.queue {
                config::read_access(&queue.access, config::credentials_directory().as_deref())?;
            }
            let key = config::read_redact_key(&config.redact, config::credentials_directory().as_deref())?;
            if config.queue.is_some() && key.is_none() && config.redact.rules.mode.hides() {
                // The file may be right, and the key be on another host.
                output::complain(&format!("note: {}", RunError::NoRedactKey));
            }
            if let Some(missing) = config::missing_programs(&config).next() {
                bail!("{missing}");
            }
            reload::check_running(file, instance.as_deref(), &config)?;
            let names: Vec<&str> =
                config.experiments.iter().map(|experiment| experiment.name.as_str()).collect();
            let experiments = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let own =
                instance.as_ref().map(|name| config::instance_file(file, name)).filter(|own| own.exists());
            let own = own.map(|own| format!(" with {} above it", own.display())).unwrap_or_default();
            output::print(&format!("{}{own} is good. Experiments: {experiments}.\n", file.display()))?;
        }
        Command::Template => output::print(config::TEMPLATE)?,
        Command::Key => {
            let key = config::new_key().context("failed to read random bytes")?;
            output::print(&format!("{key}\n"))?;
        }
    }
    Ok(Exit::Success)
}
