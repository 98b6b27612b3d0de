//! Capture into a recording, and nothing else.
//!
//! Sends nothing anywhere.

use std::sync::Arc;

use tokio::sync::watch;

use super::feed::{Feed, FeedError};
use super::patience::Patience;
use super::run::RunError;
use super::settings::{CaptureConfig, RecordConfig};
use super::tape::{self, Tape, TapeWriter};
use super::tasks::{spawn, wait, wait_for_admin};
use super::thread::CaptureThread;
use crate::metrics::{CaptureCounts, ComparisonMetrics, Metrics, Status};
use crate::model::{Exchange, LedgerSnapshot};
use crate::recording::file;
use crate::serve::Admin;

/// What it came to.
pub struct RecordEnd {
    /// What the capture side counted.
    pub capture: CaptureCounts,
    /// What became of the exchanges.
    pub ledger: LedgerSnapshot,
    /// Why no more could be captured, if so. What was captured before is in the recording.
    pub broken: Option<FeedError>,
}

/// A recording that is set up: its file is made, nothing is captured yet.
pub struct Record {
    tape: Tape,
    writer: TapeWriter<file::Output>,
}

// === impl Record ===

impl Record {
    /// Makes the file.
    ///
    /// # Errors
    /// When no file is named, or it cannot be made.
    pub fn prepare(config: &RecordConfig) -> Result<Self, RunError> {
        let (tape, writer) = tape::prepare(config)?.ok_or(RunError::NoRecording)?;
        Ok(Self { tape, writer })
    }

    /// Records until the feed ends, `stop` does, or the recording is at its bound.
    ///
    /// # Errors
    /// When it cannot start, or the recording cannot be written.
    pub async fn run(
        self,
        feed: impl Into<Feed>,
        config: &CaptureConfig,
        admin: Option<Admin>,
        stop: impl Future<Output = ()>,
    ) -> Result<RecordEnd, RunError> {
        let Self { tape, writer } = self;
        let sink = move |exchange: Exchange, patience: &Patience| tape.take(&Arc::new(exchange), patience);
        let mut thread = CaptureThread::start(feed.into(), config, sink).map_err(RunError::Thread)?;
        let (stop_admin, stopping) = watch::channel(false);
        let admin = admin.map(|admin| {
            let status = Arc::new(Status { capture: thread.counts(), experiments: vec![writer.status()] });
            let metrics = Metrics::new(status, &ComparisonMetrics::new([]));
            let (_ready, ready) = watch::channel(true);
            spawn(admin.run(metrics, ready, wait(stopping)))
        });
        let mut taping = writer.start();
        let early_end = tokio::select! {
            end = thread.ended() => Some(end),
            () = taping.full() => None,
            () = stop => None,
        };
        let (capture, broken) = thread.conclude(early_end).await;
        let ledger = taping.finish().await;
        stop_admin.send_replace(true);
        wait_for_admin(admin).await;
        Ok(RecordEnd { capture, ledger: ledger?.snapshot(), broken })
    }
}
