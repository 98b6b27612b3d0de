//! Whether this process is paused, and for how long it was; whether capture stood still.
//!
//! Decides nothing: whoever pauses writes here.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::DescriptorEncoder;

use super::collect::one;
use super::table;

/// The pauses of this process.
#[derive(Debug, Default)]
pub struct PauseStats {
    is_paused: AtomicBool,
    paused_us: AtomicU64,
    pauses: AtomicU64,
    stalls: AtomicU64,
}

// === impl PauseStats ===

impl PauseStats {
    /// Says whether this process is paused: nothing is captured and nothing is replayed, because somebody said so or the
    /// time table does. Counts a pause that begins.
    pub fn set(&self, is_paused: bool) {
        if !self.is_paused.swap(is_paused, Ordering::Relaxed) && is_paused {
            self.pauses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// True while it is paused.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// Counts time that it was paused.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.paused_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Time that it was paused, as far as it was counted.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.paused_us.load(Ordering::Relaxed))
    }

    /// Times that a pause began.
    pub fn begun(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    /// Counts a capture thread that stood still, so that the probe was detached.
    pub fn note_stall(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }
}

/// Exports all of it.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, stats: &PauseStats) -> fmt::Result {
    one(encoder, &table::PAUSED, u64::from(stats.is_paused()))?;
    one(encoder, &table::PAUSED_SECONDS, stats.total().as_secs_f64())?;
    one(encoder, &table::PAUSES, stats.begun())?;
    one(encoder, &table::CAPTURE_STALLS, stats.stalls.load(Ordering::Relaxed))
}
