//! A point in time as the capture saw it.
//!
//! Never reads a clock: a timestamp comes from a packet, or from `pipeline`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, UTC. Good until the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time from `earlier` to `self`; zero when `earlier` is later, since captured clocks may step back.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved by `step`, stopping at the end of the range.
    pub fn after(self, step: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(step.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The same point as the standard library's type.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_nanos(self.0)).unwrap_or(UNIX_EPOCH)
    }

    /// From the standard library's type; times before 1970 become zero.
    pub fn from_system_time(time: SystemTime) -> Timestamp {
        Timestamp::default().after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}
