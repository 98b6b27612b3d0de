//! The clocks of this program.
//!
//! Nobody outside `pipeline` reads one.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::pace::Anchor;
use crate::capture::BootClock;
use crate::model::Timestamp;

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
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = u32::try_from(since_boot.tv_nsec).unwrap_or_default();
    BootClock::new(wall(), Duration::new(u64::try_from(since_boot.tv_sec).unwrap_or_default(), nanos))
}
