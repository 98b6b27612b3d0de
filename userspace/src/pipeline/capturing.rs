//! The half that captures: the thread, what every exchange passes behind it, and the recording.
//!
//! Replays nothing, and does not know who takes what its lanes queue.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::watch;

use super::clock;
use super::error::RunError;
use super::feed::{Feed, FeedError};
use super::lane::Lane;
use super::patience::Patience;
use super::protect::pause::PauseFlag;
use super::settings::CaptureConfig;
use super::tape::{Tape, TapeWriter, Taping};
use super::thread::{CaptureThread, Guard};
use crate::capture::CaptureError;
use crate::metrics::{CaptureCounts, ExperimentStatus};
use crate::model::Exchange;
use crate::queue::memory::MemoryOffer;
use crate::recording::file;
use crate::recording::handed::{HandedError, HandedLimits, read_lines};
use crate::serve::{Intake, Refusal, Taking};

/// A capture that runs, with its recording where there is one.
pub(super) struct Capturing {
    thread: CaptureThread,
    taping: Option<Taping>,
    tape_status: Option<ExperimentStatus>,
    early_end: Option<Result<CaptureCounts, FeedError>>,
    ways: Weak<Ways>,
    pause: PauseFlag,
}

/// The ways that every exchange takes, captured or handed in.
struct Ways {
    tape: Option<Tape>,
    lanes: Vec<Lane<MemoryOffer>>,
}

// === impl Ways ===

impl Ways {
    fn take(&self, exchange: Exchange, patience: &Patience) {
        let exchange = Arc::new(exchange);
        if let Some(tape) = &self.tape {
            tape.take(&exchange, patience);
        }
        self.lanes.iter().for_each(|lane| lane.take(&exchange, patience));
    }
}

// === impl Capturing ===

impl Capturing {
    /// Captures from now on: each exchange goes to the recording, and to every lane.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn start(
        feed: Feed,
        config: &CaptureConfig,
        guard: &Guard,
        lanes: Vec<Lane<MemoryOffer>>,
        tape: Option<(Tape, TapeWriter<file::Output>)>,
    ) -> Result<Self, RunError> {
        let (tape, writer) = tape.unzip();
        let tape_status = writer.as_ref().map(TapeWriter::status);
        let taping = writer.map(TapeWriter::start);
        let capture_ways = Arc::new(Ways { tape, lanes });
        // Whoever hands exchanges in does not keep the queues open.
        let ways = Arc::downgrade(&capture_ways);
        let sink = move |exchange: Exchange, patience: &Patience| capture_ways.take(exchange, patience);
        let thread = CaptureThread::start(feed, config, guard, sink).map_err(RunError::Thread)?;
        let pause = guard.pause.clone();
        Ok(Self { thread, taping, tape_status, early_end: None, ways, pause })
    }

    /// Takes exchanges that are handed in as if they were captured now. Never waits for room, as traffic does not.
    pub(super) fn intake(&self) -> Intake {
        let (ways, pause) = (Weak::clone(&self.ways), self.pause.clone());
        Arc::new(move |lines: Bytes| -> Taking {
            if pause.is_set() {
                return Box::pin(std::future::ready(Err(Refusal::Paused)));
            }
            let ways = Weak::clone(&ways);
            // To read many takes longer than others on this thread want to wait.
            let reading = tokio::task::spawn_blocking(move || take_lines(&lines, &ways));
            Box::pin(async { reading.await.unwrap_or(Err(Refusal::Over)) })
        })
    }

    /// What the capture counted, as it is published.
    pub(super) fn counts(&self) -> watch::Receiver<CaptureCounts> {
        self.thread.counts()
    }

    /// The counts of the recording, as those of an experiment.
    pub(super) fn take_tape_status(&mut self) -> Option<ExperimentStatus> {
        self.tape_status.take()
    }

    /// Waits until nothing more can be captured. Safe to cancel.
    pub(super) async fn ended(&mut self) {
        let end = self.thread.ended().await;
        self.early_end = Some(end);
    }

    /// As [`Capturing::ended`], and also when nothing more is recorded: at the bound of the file, or after an error.
    pub(super) async fn ended_or_full(&mut self) {
        let Self { thread, taping, tape_status: _, early_end, .. } = self;
        let full = async {
            match taping {
                Some(taping) => taping.full().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = thread.ended() => *early_end = Some(end),
            () = full => {}
        }
    }

    /// True when the capture ended by itself, so that what it handed on will end. One that stands still has not: it keeps
    /// its side of the queues.
    pub(super) fn has_ended(&self) -> bool {
        self.early_end.is_some() && !self.has_stalled()
    }

    /// True when the capture thread stands still.
    pub(super) fn has_stalled(&self) -> bool {
        matches!(self.early_end, Some(Err(FeedError::Capture(CaptureError::Stalled { stall_max: _ }))))
    }

    /// Asks the thread to stop.
    pub(super) fn stop(&self) {
        self.thread.stop();
    }

    /// Stops the thread and says what the capture came to, and why it broke, if it did.
    pub(super) async fn conclude(&mut self) -> (CaptureCounts, Option<FeedError>) {
        let early_end = self.early_end.take();
        self.thread.conclude(early_end).await
    }

    /// Waits until everything is recorded that was captured.
    ///
    /// # Errors
    /// When the recording is not whole.
    pub(super) async fn finish_tape(self) -> Result<(), RunError> {
        match self.taping {
            Some(taping) => taping.finish().await,
            None => Ok(()),
        }
    }
}

/// All exchanges, or none of them.
fn take_lines(lines: &[u8], ways: &Weak<Ways>) -> Result<usize, Refusal> {
    let exchanges =
        read_lines(lines, clock::Steady::start().now(), &HandedLimits::default()).map_err(|error| {
            let HandedError { line, field, problem } = error;
            Refusal::Wrong { line, field, problem }
        })?;
    let ways = ways.upgrade().ok_or(Refusal::Over)?;
    let (count, patience) = (exchanges.len(), Patience::none());
    exchanges.into_iter().for_each(|exchange| ways.take(exchange, &patience));
    Ok(count)
}
