//! How long after A a request is replayed.
//!
//! Reads no clock: it is told.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// Counts delays.
#[derive(Clone, Debug)]
pub struct DelayHistogram(pub(super) Histogram);

/// Upper bounds in seconds: from a replay beside A to a queue that was an hour behind.
const BUCKETS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

// === impl DelayHistogram ===

impl DelayHistogram {
    /// Counts one delay.
    pub fn observe(&self, delay: Duration) {
        self.0.observe(delay.as_secs_f64());
    }
}

impl Default for DelayHistogram {
    fn default() -> Self {
        Self(Histogram::new(BUCKETS))
    }
}
