//! `understudy capture`: the tee alone, into the queue between hosts, a recording, or both.
//!
//! Sends nothing to a candidate.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::capture::{CaptureFlags, open_feed, start_runtime, stopped};
use super::{Exit, ledger, output, reload};
use crate::config::{self, Flags};
use crate::pipeline::capture_only::{CaptureEnd, CaptureOnly};
use crate::pipeline::inspect::Admin;
use crate::pipeline::run::{LOOPED, RunError};
use crate::pipeline::secrets::RedactStats;

/// What to capture, and where to.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    capture: CaptureFlags,
    #[command(flatten)]
    record: RecordFlags,
    /// Address for /metrics, /healthz and /readyz, or `off`. Default: 127.0.0.1:9469 with a queue, none with a recording
    /// alone.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

/// Where to record.
#[derive(Debug, Args)]
pub(super) struct RecordFlags {
    /// Write every captured exchange to this new file, before any selection; `--recording FILE` reads it. Secrets
    /// in it are tokens, unless [redact] says otherwise; only its owner can read it.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
}

/// Says what a dry run found.
pub(super) fn complain_of(redact: Option<&RedactStats>) {
    let Some(stats) = redact.filter(|stats| !stats.hides()) else { return };
    output::complain(&ledger::of_dry_run(stats));
}

/// Captures until it is stopped, the input ends, or a recording alone is at its bound; then shows the counts.
pub(super) fn capture(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { capture, record: RecordFlags { record }, admin } = arguments;
    let flags = Flags { admin, record, ..capture.flags() };
    let path = capture.config.as_deref();
    // What is selected is of interest for a queue only, and must not stand in the way of a recording.
    let mut config = config::load(path, Flags { no_experiments: true, ..flags.clone() })?;
    let redis = match &config.queue {
        Some(queue) => {
            let redis = config::read_access(&queue.access, config::credentials_directory().as_deref())?;
            config = config::load(path, flags.clone())?;
            if let Some(path) = path {
                reload::keep_started(path, &flags, &config);
            }
            Some(redis)
        }
        None => {
            // A recording is over when it is: nobody looks at it meanwhile unless asked to.
            let no_observe = flags.admin.is_none();
            let admin = Some(flags.admin.clone().unwrap_or_else(|| "off".to_owned()));
            config = config::load(path, Flags { admin, no_experiments: true, no_observe, ..flags.clone() })?;
            None
        }
    };
    config.redact.key = config::read_redact_key(&config.redact, config::credentials_directory().as_deref())?;
    if redis.is_none() && config.record.path.is_none() {
        return Err(RunError::NoQueue.into());
    }
    if config.capture.input.is_live() && config.capture.kernel.ports.is_empty() {
        return Err(RunError::NoPort.into());
    }
    let end = start_runtime(&config.capture)?.block_on(async {
        let admin = Admin::bind_if(config.admin.clone()).await?;
        let mut capturing = CaptureOnly::prepare(&config, redis.as_ref()).await?;
        if let Some(path) = capture.config.clone()
            && redis.is_some()
        {
            // A recording alone selects nothing, and a hangup ends it as it does others.
            capturing.reload(reload::at_hangup(path, flags)?);
        }
        // Last: from here on the probe fills its ring, and what empties it runs at once.
        let feed = open_feed(&config.capture, capturing.pause())?;
        let stop = stopped(capture.duration);
        anyhow::Ok(capturing.run(feed, admin, stop).await?)
    })?;
    let CaptureEnd { capture, ledgers, looped, disagreement, broken, redact } = end;
    output::complain(&ledger::text(&capture, &ledgers));
    complain_of(redact.as_deref());
    if let Some(error) = broken {
        return Err(error.into());
    }
    if let Some(error) = disagreement {
        return Err(error)
            .context("the capture ended, and what was not sent waits in the spool for the next one");
    }
    if !looped.is_empty() {
        let experiments = looped.join(", ");
        output::complain(&format!("error: experiment {experiments}: {LOOPED} Nothing more was queued."));
        return Ok(Exit::Looped);
    }
    Ok(Exit::Success)
}
