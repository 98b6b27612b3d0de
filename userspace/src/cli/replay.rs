//! `understudy replay`: a worker alone: replay from the queue, compare, keep, tell the others; then report its part.
//!
//! Captures nothing, and needs no privileges.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::capture::{start_runtime, stopped_or};
use super::progress::Progress;
use super::record::complain_of;
use super::report::{Format, show};
use super::run::decided;
use super::{Exit, ledger, output, reload};
use crate::config::{self, Flags};
use crate::pipeline::run::RunError;
use crate::pipeline::worker::{Worker, WorkerEnd};
use crate::report::Report;

/// What to work on.
#[derive(Debug, Args)]
#[command(after_help = "Example: understudy replay --config understudy.toml\n\
                        The report at the end is of what this worker compared; `understudy report --redis URL` is of all.\n\
                        Exit codes: 0 PASS; 1 FAIL; 2 it could not be done; 3 NOT ENOUGH DATA.")]
pub(super) struct Arguments {
    /// The configuration file, with [queue] and the experiments, as `understudy capture` reads it.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Stop after this time, such as `30s` or `10m`. Default: at Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Stop as soon as what this worker compared makes a verdict.
    #[arg(long)]
    until_verdict: bool,
    /// SQLite file for the results. Default: `understudy.db` in this folder.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Address for /metrics, /healthz and /readyz, or `off`. Default: 127.0.0.1:9469.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// Works until it is stopped, prints its report, and exits with its verdict.
pub(super) fn replay(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { config: path, duration, until_verdict, journal, admin, format } = arguments;
    let flags = Flags { journal, admin, ..Flags::default() };
    let again = flags.clone();
    let mut config = config::load(Some(&path), flags)?;
    reload::keep_started(&path, &again, &config);
    let queue = config.queue.as_ref().ok_or(RunError::NoQueue)?;
    let redis = config::read_access(&queue.access, config::credentials_directory().as_deref())?;
    config.redact.key = config::read_redact_key(&config.redact, config::credentials_directory().as_deref())?;
    let end = start_runtime(&config.capture)?.block_on(async {
        let mut worker = Worker::prepare(config, &redis).await?;
        worker.reload(reload::at_hangup(path, again)?);
        let live = worker.live();
        let _progress = Progress::show(worker.ledgers(), std::sync::Arc::clone(&live));
        if let Some(address) = worker.admin_address() {
            tracing::info!(%address, "Serving /metrics, /healthz and /readyz.");
        }
        let verdict = async {
            match until_verdict {
                true => decided(live).await,
                false => std::future::pending().await,
            }
        };
        anyhow::Ok(worker.run(stopped_or(duration, verdict)).await?)
    })?;
    let WorkerEnd { journal, recorded, cut_short, id, ledgers, redact } = end;
    output::complain(&ledger::of_experiments(&ledgers));
    complain_of(redact.as_deref());
    let report = Report::load(&journal, Some(id.0))?;
    show(&report, &format)?;
    recorded
        .context("the journal failed: what it could not keep goes back to the queue for other workers")?;
    if let Some(error) = cut_short {
        return Err(error).context("the worker ended, and leaves its entries to others");
    }
    Ok(super::report::exit_of(&report))
}
