//! What exchanges are read from: packets, or a recording.
//!
//! A recording has its exchanges already: nothing is put together for it.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::capture::PUBLISH_EVERY;
use super::clock;
use crate::capture::{CaptureError, Source};
use crate::metrics::{CaptureCounts, PlaybackCounts};
use crate::model::Exchange;
use crate::recording::{Ending, RecordingError, RecordingReader, file};

/// What exchanges are read from.
pub enum Feed {
    /// Packets, live or from a capture file.
    Packets(Box<dyn Source + Send>),
    /// A recording.
    Recording(RecordingReader<file::Input>),
}

/// Why no more can be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The capture broke.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The recording is damaged, or cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
}

/// A recording that is read.
pub(super) struct Playback<R> {
    /// The recording.
    pub(super) reader: RecordingReader<R>,
    /// Where counts are published.
    pub(super) counts: watch::Sender<CaptureCounts>,
}

// === impl Feed ===

impl<S: Source + Send + 'static> From<S> for Feed {
    fn from(source: S) -> Self {
        Feed::Packets(Box::new(source))
    }
}

// === impl Playback ===

impl<R: Read> Playback<R> {
    /// Runs until the recording ends or `stop` is set.
    ///
    /// # Errors
    /// When the recording is damaged. What was read before is handed to the sink all the same.
    pub(super) fn run(
        mut self,
        stop: &AtomicBool,
        sink: &mut impl FnMut(Exchange),
    ) -> Result<CaptureCounts, RecordingError> {
        let mut publish = clock::Every::new(PUBLISH_EVERY, clock::wall());
        let outcome = loop {
            match self.reader.next_exchange() {
                Ok(Some(exchange)) => sink(exchange),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if publish.is_due(clock::wall()) {
                self.publish();
            }
            if stop.load(Ordering::Relaxed) {
                break Ok(());
            }
        };
        let counts = self.publish();
        if let Some(Ending::Cut { offset, rest: _ }) = self.reader.ending() {
            tracing::warn!(
                recording = self.reader.name(),
                offset,
                "Recording has no end; what stands before this byte was read."
            );
        }
        outcome.map(|()| counts)
    }

    fn publish(&mut self) -> CaptureCounts {
        let reader = &self.reader;
        let playback = PlaybackCounts { exchanges: reader.exchanges(), ending: reader.ending().cloned() };
        let counts = CaptureCounts { playback: Some(playback), ..CaptureCounts::default() };
        self.counts.send_replace(counts.clone());
        counts
    }
}
