//! Where packets come from: the kernel probe, and whatever else can hand over [`Packet`]s.
//!
//! Knows nothing of TCP streams or HTTP, and never makes the traffic wait.

use std::time::Duration;

use crate::model::{FlowKey, Packet};

/// Hands over packets one after the other, in the order in which they were captured.
pub trait Source {
    /// Gives each packet that is ready to `take`. When none is ready, waits for at most `wait`.
    ///
    /// # Errors
    /// When the source can give no more packets because something is broken; its end is not an error.
    fn poll(&mut self, wait: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError>;

    /// Asks the source to stop copying this flow. A source that cannot does nothing.
    ///
    /// # Errors
    /// When the source refuses; the flow's packets then go on arriving.
    fn forget_flow(&mut self, flow: &FlowKey) -> Result<(), CaptureError>;

    /// Counts since the start.
    ///
    /// # Errors
    /// When the counters cannot be read.
    fn counts(&mut self) -> Result<SourceCounts, CaptureError>;
}

/// What one [`Source::poll`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Packets were handed over, or the wait ended without one.
    Open {
        /// How many.
        packets: usize,
    },
    /// There will be no more packets.
    Ended,
}

/// What a source counted. `wanted = captured + Σ drops` once everything is drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Packets that the source looked at.
    pub seen: u64,
    /// TCP packets of wanted ports.
    pub wanted: u64,
    /// Packets handed over whole.
    pub captured: u64,
    /// Payload bytes handed over.
    pub captured_bytes: u64,
    /// Packets not handed over, by reason.
    pub drops: Vec<(&'static str, u64)>,
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {}
