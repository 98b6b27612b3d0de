//! `understudy capture`: the tee alone, into a recording.
//!
//! Sends nothing anywhere.

use std::path::PathBuf;

use clap::Args;

use super::capture::{CaptureFlags, needs_queue, open_feed, start_runtime, stopped};
use super::{Exit, ledger, output};
use crate::config::{self, Flags};
use crate::pipeline::capture_only::{CaptureEnd, CaptureOnly};
use crate::pipeline::inspect::Admin;
use crate::pipeline::run::RunError;

/// What to capture, and where to.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    capture: CaptureFlags,
    #[command(flatten)]
    record: RecordFlags,
    /// Address for /metrics, /healthz and /readyz. Default: none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

/// Where to record.
#[derive(Debug, Args)]
pub(super) struct RecordFlags {
    /// Write every captured exchange to this new file, before any selection; `--recording FILE` reads it. It holds
    /// requests and responses as they were, passwords and cookies included; only its owner can read it.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
}

/// Records until it is stopped, the input ends, or the file is at its bound; then shows the counts.
pub(super) fn capture(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { capture, record: RecordFlags { record }, admin } = arguments;
    let admin = Some(admin.unwrap_or_else(|| "off".to_owned()));
    let records = record.is_some();
    let flags = Flags { admin, record, no_experiments: true, ..capture.flags() };
    let config = config::load(capture.config.as_deref(), flags)?;
    if !records {
        return Ok(needs_queue("capture"));
    }
    if config.capture.input.is_live() && config.capture.kernel.ports.is_empty() {
        return Err(RunError::NoPort.into());
    }
    let end = start_runtime(&config.capture)?.block_on(async {
        let admin = Admin::bind_if(config.admin).await?;
        let feed = open_feed(&config.capture)?;
        // Last, so that nothing else can fail and leave an empty file behind.
        let capturing = CaptureOnly::prepare(&config.record)?;
        let stop = stopped(capture.duration);
        anyhow::Ok(capturing.run(feed, &config.capture, admin, stop).await?)
    })?;
    let CaptureEnd { capture, ledgers, broken } = end;
    output::complain(&ledger::text(&capture, &ledgers));
    match broken {
        Some(error) => Err(error.into()),
        None => Ok(Exit::Success),
    }
}
