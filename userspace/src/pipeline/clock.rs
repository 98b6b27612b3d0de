//! The clocks of this program.
//!
//! Nobody outside `pipeline` reads one.

use std::time::{Duration, SystemTime};

use rustix::time::ClockId;
use tokio::time::Instant;

use super::pace::Anchor;
use crate::capture::BootClock;
use crate::model::Timestamp;

/// Says when so much time has passed again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Every {
    period: Duration,
    last: Timestamp,
}

/// Time as the probe tells it of packets: the wall clock as it was at one moment, and since then the kernel's time since
/// boot. A step of the wall clock does not move it, so that what waits for packets waits neither too short nor too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady(BootClock);

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "`pipeline` reads the clock")]
pub fn wall() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// The runtime's clock.
#[expect(clippy::disallowed_methods, reason = "`pipeline` reads the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The same moment on the wall clock and the runtime's.
pub(super) fn anchor() -> Anchor {
    Anchor { wall: wall(), at: now() }
}

/// The same moment on the wall clock and the kernel's since boot (`CLOCK_BOOTTIME`), which the probe reads.
pub fn boot() -> BootClock {
    BootClock::new(wall(), since_boot())
}

/// The kernel's time since boot; only goes forward.
pub(super) fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

/// CPU time that the calling thread has used.
pub(super) fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

// === impl Every ===

impl Every {
    /// Counts from `now`.
    pub(super) fn new(period: Duration, now: Timestamp) -> Self {
        Self { period, last: now }
    }

    /// True when the time has passed since this was true last. A clock that was set back begins anew.
    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        let is_due = now.since(self.last) >= self.period || now < self.last;
        if is_due {
            self.last = now;
        }
        is_due
    }
}

// === impl Steady ===

impl Steady {
    /// From the wall clock as it is now.
    pub(super) fn start() -> Self {
        Self(boot())
    }

    /// Now.
    pub(super) fn now(self) -> Timestamp {
        self.0.to_wall(u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX))
    }
}

fn read(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
