//! The governor at work: reads what capture costs and how the host is, and says which flows are still copied.
//!
//! Lives in the capture thread, whose CPU time it reads; what the probe takes in the kernel comes on top. What to do is
//! decided in [`super::governor`]; a pause, and memory near its ceiling, leave nothing to decide.

use std::time::Duration;

use super::super::clock;
use super::backlog::Backlog;
use super::governor::{Excess, Governor, GovernorLimits, Reading, Step};
use super::memory::{MemoryGuard, own_bytes};
use super::pause::PauseFlag;
use super::pressure::{Pressure, PressureReader};
use crate::capture::{FlowSample, SourceCounts};
use crate::metrics::ThrottleCounts;
use crate::model::Timestamp;

/// What a throttle looks at besides the cost of capture.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether the process pauses.
    pub pause: PauseFlag,
    /// Memory against its ceiling; none: nobody looks.
    pub memory: Option<MemoryGuard>,
    /// Who waits on this host.
    pub pressure: PressureReader,
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
}

/// Keeps the cost of capture below its limits.
#[derive(Debug)]
pub struct Throttle {
    governor: Governor,
    surroundings: Surroundings,
    /// What is copied when capture costs little.
    full: FlowSample,
    counts: ThrottleCounts,
    /// A smaller sample than before, which the reader of the packets does not know yet.
    smaller: Option<Smaller>,
    backlog: Backlog,
    pressure: Pressure,
    /// Since when nothing is copied, for another reason than cost.
    stopped: Option<(Stopped, Duration)>,
    /// When the files of the kernel were read.
    read_at: Option<Duration>,
    memory_holds: bool,
}

/// A sample that leaves out flows which were copied.
#[derive(Clone, Copy, Debug)]
struct Smaller {
    flow_sample: FlowSample,
    /// Since when the probe keeps to it.
    kept_since: Option<Timestamp>,
}

/// Why nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Paused,
    Memory,
}

/// How often the kernel is asked for pressure and memory.
const READ_EVERY: Duration = Duration::from_secs(1);

// === impl Throttle ===

impl Throttle {
    /// Watches the thread that calls this. `full` is copied when capture costs little, `copied` is copied now: less, where
    /// the source was opened during a pause.
    pub fn new(
        limits: GovernorLimits,
        full: FlowSample,
        copied: FlowSample,
        surroundings: Surroundings,
    ) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pressure = Pressure::default();
        Self {
            governor: Governor::new(limits, cpus, reading(&SourceCounts::default(), 0.0, pressure)),
            surroundings,
            full,
            counts: ThrottleCounts {
                flow_sample: copied,
                flow_sample_max: full,
                ..ThrottleCounts::default()
            },
            smaller: None,
            backlog: Backlog::default(),
            pressure,
            stopped: None,
            read_at: None,
            memory_holds: false,
        }
    }

    /// What tells how full the ring was.
    pub(in crate::pipeline) fn backlog(&mut self) -> &mut Backlog {
        &mut self.backlog
    }

    /// What is to be copied from now on, when that changes. [`Throttle::kept`] must follow.
    pub fn look(&mut self, counts: &SourceCounts) -> Option<FlowSample> {
        let ring_full = self.backlog.take_peak() as f64 / f64::from(self.surroundings.ring_bytes.max(1));
        let reading = reading(counts, ring_full.min(1.0), self.pressure);
        self.read_kernel(reading.at);
        self.stop_or_go(reading.at);
        let flow_sample = if self.stopped.is_some() {
            self.governor.rest(reading);
            FlowSample::NONE
        } else {
            self.govern(reading)
        };
        let is_less = flow_sample.is_less_than(self.counts.flow_sample);
        // More flows wait until those that were left out have ended, or new ones would be taken for them.
        if flow_sample == self.counts.flow_sample || (!is_less && self.smaller.is_some()) {
            return None;
        }
        self.counts.flow_sample = flow_sample;
        self.smaller = is_less.then_some(Smaller { flow_sample, kept_since: None });
        Some(flow_sample)
    }

    /// The probe keeps to the sample that was given last.
    pub fn kept(&mut self, now: Timestamp) {
        if let Some(smaller) = &mut self.smaller {
            smaller.kept_since.get_or_insert(now);
        }
    }

    /// Asks the kernel, from time to time.
    fn read_kernel(&mut self, now: Duration) {
        if self.read_at.is_some_and(|at| now.saturating_sub(at) < READ_EVERY) {
            return;
        }
        self.read_at = Some(now);
        self.pressure = self.surroundings.pressure.read();
        if let (Some(guard), Some(own)) = (&mut self.surroundings.memory, own_bytes()) {
            self.memory_holds = guard.look(own);
        }
    }

    /// Notes whether anything is to be copied at all, and for how long nothing was.
    fn stop_or_go(&mut self, now: Duration) {
        let stop = if self.surroundings.pause.is_set() {
            Some(Stopped::Paused)
        } else if self.memory_holds {
            Some(Stopped::Memory)
        } else {
            None
        };
        let before = self.stopped;
        if let Some((Stopped::Paused, since)) = before {
            self.counts.paused = self.counts.paused.saturating_add(now.saturating_sub(since));
        }
        self.stopped = stop.map(|stop| (stop, now));
        if stop == before.map(|(stop, _)| stop) {
            return;
        }
        match stop {
            Some(Stopped::Paused) => self.counts.pauses = self.counts.pauses.saturating_add(1),
            Some(Stopped::Memory) => {
                self.counts.for_memory = self.counts.for_memory.saturating_add(1);
                tracing::warn!(
                    "Copying nothing until memory has fallen: this process is near its ceiling ([protect] memory_max)."
                );
            }
            None => tracing::info!("Copying connections again."),
        }
    }

    /// What capture may copy by its cost.
    fn govern(&mut self, reading: Reading) -> FlowSample {
        let step = self.governor.look(reading);
        let flow_sample = self.full.halved(self.governor.halvings());
        let percent = format!("{:.3}", flow_sample.fraction() * 100.0);
        match step {
            Some(Step::Fewer { halvings: _, excess }) => {
                let count = match excess {
                    Excess::Cpu => &mut self.counts.for_cpu,
                    Excess::Loss => &mut self.counts.for_loss,
                    Excess::Ring => &mut self.counts.for_ring,
                    Excess::Pressure => &mut self.counts.for_pressure,
                };
                *count = count.saturating_add(1);
                tracing::warn!(
                    percent,
                    ?excess,
                    "Copying fewer connections: capture costs more than it may."
                );
            }
            Some(Step::More { halvings: _ }) => {
                tracing::info!(%percent, "Copying more connections again.");
            }
            None => {}
        }
        flow_sample
    }

    /// The sample, once after it has become smaller and all that was copied before that has been read: nothing more comes
    /// of the flows that it leaves out.
    pub fn take_smaller_sample(&mut self) -> Option<FlowSample> {
        let is_over =
            |smaller: &mut Smaller| smaller.kept_since.is_some_and(|since| self.backlog.is_read_to(since));
        self.smaller.take_if(is_over).map(|smaller| smaller.flow_sample)
    }

    /// What was done so far.
    pub fn counts(&self) -> ThrottleCounts {
        self.counts
    }
}

// === impl Surroundings ===

impl Surroundings {
    /// Of a host that is short of nothing, with nobody who could pause; for a ring of this size.
    pub fn none(ring_bytes: u32) -> Self {
        Self { pause: PauseFlag::never(), memory: None, pressure: PressureReader::nowhere(), ring_bytes }
    }
}

/// What capture has cost, and how the host was when it was asked last.
fn reading(counts: &SourceCounts, ring_full: f64, pressure: Pressure) -> Reading {
    Reading {
        at: clock::since_boot(),
        cpu: clock::thread_cpu().saturating_add(counts.copying_time()),
        wanted: counts.wanted,
        lost: counts.dropped(crate::capture::RING_FULL),
        ring_full,
        pressure,
    }
}
