//! The clocks of this program.
//!
//! Nobody outside `pipeline` reads one.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
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
/// boot. A step of the wall clock does not move it, so that what waits for packets waits neither too short nor too long,
/// and requests are sent at A's distance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady(BootClock);

/// Notices that somebody sets the wall clock, which [`Steady`] does not follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StepWatch {
    /// How far the wall clock was ahead of the steady one when that was last told.
    told: SignedDuration,
}

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

/// The same moment in captured time ([`Steady`]) and on the runtime's clock.
pub(super) fn anchor() -> Anchor {
    Steady::start().anchor()
}

/// The same moment on the wall clock and the kernel's since boot (`CLOCK_BOOTTIME`), which the probe reads: that at which
/// this process asked first. There is no second one: between two, the wall clock may have been set, as it is when a host
/// starts, and then packets, time-outs and replays would have times that never meet.
pub fn boot() -> BootClock {
    static TIED: OnceLock<BootClock> = OnceLock::new();
    *TIED.get_or_init(|| BootClock::new(wall(), since_boot()))
}

/// The kernel's time since boot; only goes forward.
pub(super) fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

/// CPU time that the calling thread has used.
pub(super) fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// A smaller step is not worth a word: two clocks are never read at the same moment.
const STEP_MIN: Duration = Duration::from_secs(1);

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
    /// As the probe of this process tells it.
    pub(super) fn start() -> Self {
        Self(boot())
    }

    /// Now, with the same moment on the runtime's clock.
    fn anchor(self) -> Anchor {
        Anchor { wall: self.now(), at: now() }
    }

    /// Now.
    pub(super) fn now(self) -> Timestamp {
        self.0.to_wall(u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX))
    }
}

// === impl StepWatch ===

impl StepWatch {
    /// How far the wall clock is ahead of the steady one, when that has changed by more than a second since it was told.
    pub(super) fn look(&mut self, wall: Timestamp, steady: Timestamp) -> Option<SignedDuration> {
        let ahead = ahead(wall, steady);
        let changed = ahead.saturating_sub(self.told).unsigned_abs();
        if changed < STEP_MIN {
            return None;
        }
        self.told = ahead;
        Some(ahead)
    }
}

fn ahead(wall: Timestamp, steady: Timestamp) -> SignedDuration {
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    signed(wall.since(steady)).saturating_sub(signed(steady.since(wall)))
}

fn read(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_tie_whatever_happens_to_the_wall_clock() {
        // A tie that was made while the wall clock was an hour ahead.
        let hour = Duration::from_secs(3_600);
        let steady = Steady(BootClock::new(wall().after(hour), since_boot()));
        let (before, anchor, after) = (steady.now(), steady.anchor(), steady.now());
        assert!((before..=after).contains(&anchor.wall), "replays keep to it");
        let first = boot();
        assert_eq!(first, boot(), "packets keep to it");
        assert_eq!(first, Steady::start().0, "time-outs keep to it");
    }

    #[test]
    fn a_step_of_the_wall_clock_is_told_once() {
        let second = |seconds: u64| Timestamp(seconds * 1_000_000_000);
        let mut steps = StepWatch::default();
        let mut look = |wall, steady| steps.look(second(wall), second(steady)).map(|ahead| ahead.as_secs());
        assert_eq!(look(100, 100), None);
        assert_eq!(look(3_701, 101), Some(3_600), "set forward");
        assert_eq!(look(3_702, 102), None, "told already");
        assert_eq!(look(43, 103), Some(-60), "set back");
        assert_eq!(look(104, 104), Some(0), "set right again");
        assert_eq!(
            steps.look(Timestamp(second(105).0 + 999_999_999), second(105)),
            None,
            "too little to tell"
        );
    }
}
