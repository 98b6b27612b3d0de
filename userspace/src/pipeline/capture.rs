//! The capture thread: drains a source through the tee, and hands exchanges to a sink that never waits.
//!
//! No async, and no lock on the way of a packet; counts are published a few times a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::clock;
use super::tee::Tee;
use crate::capture::{CaptureError, Polled, Source};
use crate::model::Exchange;

pub use crate::metrics::CaptureCounts;

/// A capture that can be run.
pub struct Capture<S> {
    /// Where packets come from.
    pub source: S,
    /// What reads them.
    pub tee: Tee,
    /// Where counts are published.
    pub counts: watch::Sender<CaptureCounts>,
}

/// How long packets may wait in the ring while it is not full: the time that capture adds to an exchange.
const DRAIN_EVERY: Duration = Duration::from_millis(10);

/// How often counts are published, and the tee is told the time.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// Rounds of draining after the source was closed. Each empties the ring, so that the second finds nothing.
const LAST_ROUNDS_MAX: usize = 4096;

// === impl Capture ===

impl<S: Source> Capture<S> {
    /// Runs until the source ends or `stop` is set; then everything that was captured comes out.
    ///
    /// # Errors
    /// When the source breaks. What was read before is handed to the sink all the same.
    pub fn run(
        mut self,
        stop: &AtomicBool,
        sink: &mut impl FnMut(Exchange),
    ) -> Result<CaptureCounts, CaptureError> {
        let mut published = clock::wall();
        let outcome = loop {
            let polled = self.drain(DRAIN_EVERY, sink);
            let now = clock::wall();
            if now.since(published) >= PUBLISH_EVERY || now < published {
                published = now;
                self.tee.tick(now, sink);
                if let Err(error) = self.publish() {
                    break Err(error);
                }
            }
            match polled {
                Ok(Polled::Open { packets: _ }) if stop.load(Ordering::Relaxed) => break Ok(()),
                Ok(Polled::Open { packets: _ }) => {}
                Ok(Polled::Ended) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.source.close();
        let outcome = outcome.and_then(|()| self.drain_rest(sink));
        self.tee.finish(sink);
        outcome.and(self.publish())
    }

    fn drain_rest(&mut self, sink: &mut impl FnMut(Exchange)) -> Result<(), CaptureError> {
        for _ in 0..LAST_ROUNDS_MAX {
            match self.drain(Duration::ZERO, sink)? {
                Polled::Open { packets: 0 } | Polled::Ended => break,
                Polled::Open { packets: _ } => {}
            }
        }
        Ok(())
    }

    fn drain(&mut self, wait: Duration, sink: &mut impl FnMut(Exchange)) -> Result<Polled, CaptureError> {
        let Self { source, tee, counts: _ } = self;
        let polled = source.poll(wait, &mut |packet| tee.take(packet, sink));
        for flow in tee.take_forgotten() {
            // The flow's packets go on arriving then, and are counted as unused.
            if let Err(error) = source.forget_flow(&flow) {
                tracing::debug!(client = %flow.client, server = %flow.server, %error, "Flow is still copied.");
            }
        }
        polled
    }

    fn publish(&mut self) -> Result<CaptureCounts, CaptureError> {
        let counts = CaptureCounts { source: self.source.counts()?, tee: self.tee.counts() };
        self.counts.send_replace(counts.clone());
        Ok(counts)
    }
}

#[cfg(test)]
mod tests;
