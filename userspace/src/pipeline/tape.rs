//! The way of exchanges into a recording.
//!
//! Never makes live traffic wait: what finds no room on the way to the disk is shed and counted.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock;
use super::error::RunError;
use super::patience::Patience;
use super::secrets::Secrets;
use super::settings::RecordConfig;
use crate::metrics::ExperimentStatus;
use crate::model::{Exchange, Fate, Ledger};
use crate::queue::memory::{MemoryOffer, MemoryQueue, memory_queue};
use crate::queue::{Claim, Offer, Offered, Queue};
use crate::recording::{RecordingError, RecordingWriter, Written, file};
use crate::select::ROUTE_OTHER;

/// The name under which a recording's ledger stands next to those of experiments.
pub(super) const NAME: &str = "recording";

/// The capture side of a recording.
pub(super) struct Tape {
    offer: MemoryOffer,
    ledger: Arc<Ledger>,
}

/// The disk's side of a recording.
pub(super) struct TapeWriter<W> {
    queue: MemoryQueue,
    writer: RecordingWriter<W>,
    ledger: Arc<Ledger>,
    full: watch::Sender<bool>,
    /// What hides secrets before anything is written; none where nothing is hidden.
    secrets: Option<Arc<Secrets>>,
}

/// A recording that is written.
pub(super) struct Taping {
    task: JoinHandle<Result<(), RecordingError>>,
    full: watch::Receiver<bool>,
    ended: watch::Sender<bool>,
}

/// What a writer has to do next.
enum Next {
    Claim(Option<Claim>),
    CaptureEnded,
    Flush,
}

/// How long an exchange may stay in memory that has room on the disk.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Makes the recording that is configured, if one is.
///
/// # Errors
/// When its file cannot be made.
pub(super) fn prepare(
    config: &RecordConfig,
    secrets: Option<Arc<Secrets>>,
) -> Result<Option<(Tape, TapeWriter<file::Output>)>, RecordingError> {
    let RecordConfig { path, limits, queue } = config;
    let Some(path) = path else { return Ok(None) };
    let writer = RecordingWriter::make(path, *limits)?;
    let (offer, queue) = memory_queue(*queue);
    let ledger = Arc::new(Ledger::default());
    let tape = Tape { offer, ledger: Arc::clone(&ledger) };
    Ok(Some((tape, TapeWriter { queue, writer, ledger, full: watch::Sender::new(false), secrets })))
}

// === impl Tape ===

impl Tape {
    /// Counts the exchange in, and hands it on to be written.
    pub(super) fn take(&self, exchange: &Arc<Exchange>, patience: &Patience) {
        let ticket = self.ledger.admit();
        patience.wait_for(self.offer.room(exchange.memory_bytes()));
        let offered = Offered { exchange: Arc::clone(exchange), route: ROUTE_OTHER.into(), ticket };
        if let Err(ticket) = self.offer.offer(offered) {
            ticket.settle(patience.fate_without_room());
        }
    }
}

// === impl TapeWriter ===

impl<W: Write + Send + 'static> TapeWriter<W> {
    /// The counts, as those of an experiment.
    pub(super) fn status(&self) -> ExperimentStatus {
        ExperimentStatus { name: NAME.into(), ledger: Arc::clone(&self.ledger), replay: None }
    }

    /// Starts to write, on a thread that may wait for the disk.
    pub(super) fn start(self) -> Taping {
        let full = self.full.subscribe();
        let (ended, capture_ended) = watch::channel(false);
        let runtime = Handle::current();
        let task = tokio::task::spawn_blocking(move || self.run(&runtime, capture_ended));
        Taping { task, full, ended }
    }

    /// Runs until the capture has ended and everything is written. After an error, or at the bound of the file, it
    /// goes on to take exchanges, each with the fate that says so.
    fn run(self, runtime: &Handle, mut capture_ended: watch::Receiver<bool>) -> Result<(), RecordingError> {
        let Self { mut queue, writer, ledger, full, secrets } = self;
        let mut writer = Ok(writer);
        let mut closed = false;
        let mut flush_at = clock::now() + FLUSH_EVERY;
        loop {
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    claim = queue.claim() => Next::Claim(claim),
                    // A capture thread that hangs keeps its side of the queue for ever.
                    _ = capture_ended.wait_for(|ended| *ended), if !closed => Next::CaptureEnded,
                    () = tokio::time::sleep_until(flush_at) => Next::Flush,
                }
            });
            let outcome = match (next, &mut writer) {
                (Next::Claim(None), _) => break,
                (Next::CaptureEnded, _) => {
                    closed = true;
                    queue.close();
                    Ok(())
                }
                (Next::Claim(Some(claim)), Err(_)) => {
                    claim.settle(Fate::NotRecorded);
                    Ok(())
                }
                (Next::Claim(Some(claim)), Ok(writer)) => {
                    let hidden = secrets.as_ref().map(|secrets| secrets.exchange(&claim.exchange));
                    let written = writer.write(hidden.as_ref().unwrap_or(&claim.exchange));
                    let recorded = matches!(written, Ok(Written::Yes));
                    claim.settle(if recorded { Fate::Recorded } else { Fate::NotRecorded });
                    written.map(|written| {
                        if written == Written::Full && !full.send_replace(true) {
                            tracing::warn!(
                                bytes = writer.bytes(),
                                "Recording is at its bound; nothing more is recorded."
                            );
                        }
                    })
                }
                (Next::Flush, writer) => {
                    flush_at = clock::now() + FLUSH_EVERY;
                    writer.as_mut().map_or(Ok(()), RecordingWriter::flush)
                }
            };
            if let Err(error) = outcome {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "The recording fails; nothing more is recorded."
                );
                full.send_replace(true);
                writer = Err(error);
            }
        }
        let counts = ledger.snapshot();
        let missing =
            [Fate::Shed, Fate::Drained, Fate::NotRecorded].map(|fate| (fate.label(), counts.count(fate)));
        writer?.finish(missing).map(|_summary| ())
    }
}

// === impl Taping ===

impl Taping {
    /// Waits until nothing more is recorded: at the bound of the file, or after an error.
    pub(super) async fn full(&mut self) {
        // An error means that the writer is gone, which ends the wait as well.
        drop(self.full.wait_for(|full| *full).await.map(|_| ()));
    }

    /// Says that the capture has ended, and waits until everything is written that it has handed on.
    pub(super) async fn finish(self) -> Result<(), RunError> {
        self.ended.send_replace(true);
        self.task.await.map_err(RunError::Task)??;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
