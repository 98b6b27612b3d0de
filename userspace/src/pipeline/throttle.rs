//! The governor at work: reads what capture costs, and says which flows are still copied.
//!
//! Lives in the capture thread, whose CPU time it reads; what the probe takes in the kernel comes on top. What to do is decided in [`super::governor`].

use super::clock;
use super::governor::{Excess, Governor, GovernorLimits, Reading, Step};
use crate::capture::{FlowSample, SourceCounts};
use crate::metrics::ThrottleCounts;

/// Keeps the cost of capture below its limits.
#[derive(Debug)]
pub struct Throttle {
    governor: Governor,
    /// What is copied when capture costs little.
    full: FlowSample,
    counts: ThrottleCounts,
    /// A smaller sample than before, which the reader of the packets does not know yet.
    smaller: Option<FlowSample>,
}

// === impl Throttle ===

impl Throttle {
    /// Watches the thread that calls this.
    pub fn new(limits: GovernorLimits, full: FlowSample) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            governor: Governor::new(limits, cpus, reading(&SourceCounts::default())),
            full,
            counts: ThrottleCounts { flow_sample: full, flow_sample_max: full, ..ThrottleCounts::default() },
            smaller: None,
        }
    }

    /// What is to be copied from now on, when that changes.
    pub fn look(&mut self, counts: &SourceCounts) -> Option<FlowSample> {
        let step = self.governor.look(reading(counts))?;
        let halvings = match step {
            Step::Fewer { halvings, excess: _ } | Step::More { halvings } => halvings,
        };
        let flow_sample = self.full.halved(halvings);
        self.counts.flow_sample = flow_sample;
        let percent = format!("{:.3}", flow_sample.fraction() * 100.0);
        match step {
            Step::Fewer { halvings: _, excess } => {
                let count = match excess {
                    Excess::Cpu => &mut self.counts.for_cpu,
                    Excess::Loss => &mut self.counts.for_loss,
                };
                *count = count.saturating_add(1);
                self.smaller = Some(flow_sample);
                tracing::warn!(
                    percent,
                    ?excess,
                    "Copying fewer connections: capture costs more than it may."
                );
            }
            Step::More { halvings: _ } => {
                self.smaller = None;
                tracing::info!(%percent, "Copying more connections again.");
            }
        }
        Some(flow_sample)
    }

    /// The sample, once after it has become smaller.
    pub fn take_smaller_sample(&mut self) -> Option<FlowSample> {
        self.smaller.take()
    }

    /// What was done so far.
    pub fn counts(&self) -> ThrottleCounts {
        self.counts
    }
}

fn reading(counts: &SourceCounts) -> Reading {
    Reading {
        at: clock::since_boot(),
        cpu: clock::thread_cpu().saturating_add(counts.copying_time()),
        wanted: counts.wanted,
        lost: counts.dropped(crate::capture::RING_FULL),
    }
}
