//! The capture thread: drains a source through the tee, and hands exchanges to a sink, which never waits while the
//! source is live.
//!
//! No async, and no lock on the way of a packet; counts are published a few times a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::clock;
use super::protect::throttle::Throttle;
use super::protect::watchdog::Heartbeat;
use super::tee::{PacketClock, Tee};
use crate::capture::{CaptureError, Polled, Source, SourceCounts, ring_bytes};
use crate::model::Exchange;

pub use crate::http::{Foreign, HttpTally, Upgraded};
pub use crate::metrics::{CaptureCounts, PlaybackCounts, TeeCounts, ThrottleCounts};
pub use crate::stream::StreamTally;

/// A capture that can be run.
pub struct Capture<S> {
    /// Where packets come from.
    pub source: S,
    /// What reads them.
    pub tee: Tee,
    /// What keeps its cost below the limits; none where nothing else needs the CPU time.
    pub throttle: Option<Throttle>,
    /// Beats with each round of draining, and with each packet: many of them may be due at once.
    pub heartbeat: Heartbeat,
    /// Where counts are published.
    pub counts: watch::Sender<CaptureCounts>,
}

/// How long packets may wait in the ring while it is not full: the time that capture adds to an exchange.
const DRAIN_EVERY: Duration = Duration::from_millis(10);

/// How often counts are published, and the tee is told the time.
pub(super) const PUBLISH_EVERY: Duration = Duration::from_millis(100);

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
        let steady = clock::Steady::start();
        let mut publish = clock::Every::new(PUBLISH_EVERY, steady.now());
        let mut steps = clock::StepWatch::default();
        // A source that is not live has its own time.
        let mut packet_clock = (!self.source.is_live()).then(PacketClock::default);
        let outcome = loop {
            self.heartbeat.beat();
            if let Some(throttle) = &mut self.throttle {
                throttle.backlog().begin(steady.now());
            }
            let polled = self.drain(DRAIN_EVERY, &mut packet_clock, sink);
            let now = steady.now();
            if publish.is_due(now) {
                if packet_clock.is_none() {
                    self.tee.tick(now, sink);
                    if let Some(ahead) = steps.look(clock::wall(), now) {
                        tracing::warn!(
                            ahead = %format_args!("{ahead:#}"),
                            "The wall clock was set. The times of exchanges keep to the clock as it was when capture began; restart to follow it."
                        );
                    }
                }
                let published = match self.publish() {
                    Ok(counts) => self.throttle(&counts.source, steady, sink),
                    Err(error) => Err(error),
                };
                if let Err(error) = published {
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
        let outcome = outcome.and_then(|()| self.drain_rest(&mut packet_clock, sink));
        self.tee.finish(sink);
        outcome.and(self.publish())
    }

    fn drain_rest(
        &mut self,
        packet_clock: &mut Option<PacketClock>,
        sink: &mut impl FnMut(Exchange),
    ) -> Result<(), CaptureError> {
        for _ in 0..LAST_ROUNDS_MAX {
            match self.drain(Duration::ZERO, packet_clock, sink)? {
                Polled::Open { packets: 0 } | Polled::Ended => break,
                Polled::Open { packets: _ } => {}
            }
        }
        Ok(())
    }

    fn drain(
        &mut self,
        wait: Duration,
        packet_clock: &mut Option<PacketClock>,
        sink: &mut impl FnMut(Exchange),
    ) -> Result<Polled, CaptureError> {
        let Self { source, tee, throttle, heartbeat, counts: _ } = self;
        let polled = match (packet_clock, throttle) {
            (None, None) => source.poll(wait, &mut |packet| {
                heartbeat.beat();
                tee.take(packet, sink);
            }),
            (None, Some(throttle)) => {
                let backlog = throttle.backlog();
                let polled = source.poll(wait, &mut |packet| {
                    heartbeat.beat();
                    backlog.pass(packet.captured_at, ring_bytes(packet.bytes.len()));
                    tee.take(packet, sink);
                });
                if matches!(polled, Ok(Polled::Open { packets: 0 })) {
                    backlog.end();
                }
                polled
            }
            (Some(clock), _) => source.poll(wait, &mut |packet| {
                heartbeat.beat();
                tee.take(packet, sink);
                clock.pass(packet.captured_at, tee, sink);
            }),
        };
        for flow in tee.take_forgotten() {
            // The flow's packets go on arriving then, and are counted as unused.
            if let Err(error) = source.forget_flow(&flow) {
                tracing::debug!(client = %flow.client, server = %flow.server, %error, "Flow is still copied.");
            }
        }
        polled
    }

    /// Looks at what capture costs, and changes what is copied.
    fn throttle(
        &mut self,
        counts: &SourceCounts,
        steady: clock::Steady,
        sink: &mut impl FnMut(Exchange),
    ) -> Result<(), CaptureError> {
        let Self { source, tee, throttle: Some(throttle), heartbeat: _, counts: _ } = self else {
            return Ok(());
        };
        if let Some(sample) = throttle.take_smaller_sample() {
            tee.end_flows(|flow| !sample.keeps(flow), sink);
        }
        if let Some(sample) = throttle.look(counts) {
            source.keep_flows(sample)?;
            throttle.kept(steady.now());
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<CaptureCounts, CaptureError> {
        let throttle = self.throttle.as_ref().map(Throttle::counts).unwrap_or_default();
        let (source, tee) = (self.source.counts()?, self.tee.counts());
        let counts = CaptureCounts { source, tee, throttle, playback: None };
        self.counts.send_replace(counts.clone());
        Ok(counts)
    }
}

#[cfg(test)]
mod tests;
