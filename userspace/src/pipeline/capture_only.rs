//! Capture into a recording, and replay nothing.
//!
//! Sends nothing to a candidate.

use std::sync::Arc;

use super::capturing::Capturing;
use super::error::RunError;
use super::feed::{Feed, FeedError};
use super::serving::Serving;
use super::settings::{CaptureConfig, RecordConfig};
use super::tape::{self, Tape, TapeWriter};
use crate::metrics::{CaptureCounts, ComparisonMetrics, Metrics, Status};
use crate::model::LedgerSnapshot;
use crate::recording::file;
use crate::serve::Admin;

/// What it came to.
pub struct CaptureEnd {
    /// What the capture side counted.
    pub capture: CaptureCounts,
    /// What became of the exchanges.
    pub ledgers: Vec<(Arc<str>, LedgerSnapshot)>,
    /// Why no more could be captured, if so. What was captured before is where it belongs.
    pub broken: Option<FeedError>,
}

/// A capture that is set up: its file is made, nothing is captured yet.
pub struct CaptureOnly {
    tape: (Tape, TapeWriter<file::Output>),
}

// === impl CaptureOnly ===

impl CaptureOnly {
    /// Makes the file.
    ///
    /// # Errors
    /// When no file is named, or it cannot be made.
    pub fn prepare(config: &RecordConfig) -> Result<Self, RunError> {
        let tape = tape::prepare(config)?.ok_or(RunError::NoRecording)?;
        Ok(Self { tape })
    }

    /// Captures until the feed ends, `stop` does, or the recording is at its bound.
    ///
    /// # Errors
    /// When it cannot start, or the recording cannot be written.
    pub async fn run(
        self,
        feed: impl Into<Feed>,
        config: &CaptureConfig,
        admin: Option<Admin>,
        stop: impl Future<Output = ()>,
    ) -> Result<CaptureEnd, RunError> {
        let mut capturing = Capturing::start(feed.into(), config, Vec::new(), Some(self.tape))?;
        let experiments = capturing.take_tape_status().into_iter().collect();
        let status = Arc::new(Status { capture: Some(capturing.counts()), experiments, queue: None });
        let serving =
            Serving::start(admin, || Metrics::new(Arc::clone(&status), &ComparisonMetrics::new([])));
        tokio::select! {
            () = capturing.ended_or_full() => {}
            () = stop => {}
        }
        let (capture, broken) = capturing.conclude().await;
        let written = capturing.finish_tape().await;
        serving.end().await;
        written?;
        Ok(CaptureEnd { capture, ledgers: status.ledgers(), broken })
    }
}
