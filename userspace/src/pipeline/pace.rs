//! When a request is to be sent, and whether the rate allows it.
//!
//! Waits for nothing and reads no clock: both are told the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// Ties captured times to the runtime's clock: the same moment on both.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    /// The moment in captured time.
    pub wall: Timestamp,
    /// The moment on the runtime's clock.
    pub at: Instant,
}

/// Gives each request its intended time, from A's own spacing.
#[derive(Debug)]
pub struct Pace(Kind);

#[derive(Debug)]
enum Kind {
    /// A is running now: B follows at a fixed distance.
    Live { anchor: Anchor, lag: Duration },
    /// A ran some other time: the first request starts the clock.
    Offline { timeline: Option<Timeline>, speed: f64 },
    /// A runs now on other hosts, whose clocks are not ours.
    Queued { transits: Option<Transits>, lag: Duration },
}

/// The shortest way of a request from A's host to here, as far as it was seen lately: what both clocks differ by, and the
/// least that capture and queue take. In nanoseconds; negative where A's clock is ahead.
#[derive(Clone, Copy, Debug)]
struct Transits {
    /// Where our side counts from.
    epoch: Instant,
    /// Shortest since `since`, and shortest in the window before.
    shortest: i128,
    before: i128,
    since: Instant,
}

/// How long the shortest way is believed, once or twice: as long as a clock that was set back leaves requests without
/// A's spacing.
const TRANSIT_WINDOW: Duration = Duration::from_secs(30);

/// How far a replay of some other time has come.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    anchor: Anchor,
    /// The time of the latest request so far.
    latest: Timestamp,
}

/// The longest silence of some other time that is kept. Nobody waits through a night that was captured, or for a clock
/// that was set while it was.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Allows a number of requests a second, evenly, with a little room for bunches.
///
/// The generic cell rate algorithm: one point in time instead of a bucket, the earliest one at which the next
/// request would fit if requests came evenly.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    room: Duration,
    even: Option<Instant>,
}

// === impl Anchor ===

impl Anchor {
    /// The captured time at a moment of the runtime's clock.
    pub fn wall_at(&self, now: Instant) -> Timestamp {
        self.wall.after(now.saturating_duration_since(self.at))
    }
}

// === impl Pace ===

impl Pace {
    /// For a capture that runs now: each request is sent `lag` after A got it. The lag leaves time for A's answer
    /// and for its way through capture, so that B sees A's spacing.
    pub fn live(anchor: Anchor, lag: Duration) -> Self {
        Self(Kind::Live { anchor, lag })
    }

    /// For a capture that runs now on other hosts: each request is sent `lag` after the earliest moment at which it could
    /// have come here, judged by the requests of the last minute. Never before it came, never more than `lag` after that.
    pub fn queued(lag: Duration) -> Self {
        Self(Kind::Queued { transits: None, lag })
    }

    /// True for a capture that runs now.
    pub fn is_live(&self) -> bool {
        match &self.0 {
            Kind::Live { anchor: _, lag: _ } | Kind::Queued { transits: _, lag: _ } => true,
            Kind::Offline { timeline: _, speed: _ } => false,
        }
    }

    /// True for a capture that runs now on other hosts.
    pub fn is_queued(&self) -> bool {
        match &self.0 {
            Kind::Queued { transits: _, lag: _ } => true,
            Kind::Live { anchor: _, lag: _ } | Kind::Offline { timeline: _, speed: _ } => false,
        }
    }

    /// For a capture file or a recording: the first request is sent at once, the others at A's distances divided
    /// by `speed`. A silence longer than [`SILENCE_MAX`] is shortened to that. A speed that is not above zero reads
    /// as 1.
    pub fn offline(speed: f64) -> Self {
        let speed = if speed > 0.0 { speed } else { 1.0 };
        Self(Kind::Offline { timeline: None, speed })
    }

    /// The intended time of a request whose first byte A got at `request_first`. May have passed: such a request
    /// is sent at once, and its distance from here is its lateness.
    pub fn due(&mut self, request_first: Timestamp, now: Instant) -> Instant {
        match &mut self.0 {
            Kind::Live { anchor, lag } => {
                let due = shifted(*anchor, request_first, 1.0).and_then(|at| at.checked_add(*lag));
                // A captured request lies in the past, so that a later time tells of a wall clock that was set
                // back; requests must not pile up until it has caught up.
                let latest = now.checked_add(*lag).unwrap_or(now);
                due.map_or(latest, |due| due.min(latest))
            }
            Kind::Offline { timeline, speed } => {
                let anchor = Anchor { wall: request_first, at: now };
                let timeline = timeline.get_or_insert(Timeline { anchor, latest: request_first });
                timeline.due(request_first, now, *speed)
            }
            Kind::Queued { transits, lag } => {
                let transits = transits.get_or_insert_with(|| Transits::new(request_first, now));
                let extra = transits.beyond_shortest(request_first, now);
                now.checked_add(lag.saturating_sub(extra)).unwrap_or(now)
            }
        }
    }
}

// === impl Transits ===

impl Transits {
    fn new(request_first: Timestamp, now: Instant) -> Self {
        let shortest = i128::from(request_first.0).saturating_neg();
        Self { epoch: now, shortest, before: shortest, since: now }
    }

    /// By how much this request's way was longer than the shortest.
    fn beyond_shortest(&mut self, request_first: Timestamp, now: Instant) -> Duration {
        let arrived = now.saturating_duration_since(self.epoch).as_nanos();
        let transit = i128::try_from(arrived).unwrap_or(i128::MAX).saturating_sub(request_first.0.into());
        if now.saturating_duration_since(self.since) > TRANSIT_WINDOW {
            self.before = self.shortest;
            self.shortest = transit;
            self.since = now;
        }
        self.shortest = self.shortest.min(transit);
        let extra = transit.saturating_sub(self.shortest.min(self.before));
        Duration::from_nanos(u64::try_from(extra).unwrap_or(u64::MAX))
    }
}

// === impl Timeline ===

impl Timeline {
    fn due(&mut self, request_first: Timestamp, now: Instant, speed: f64) -> Instant {
        let Self { anchor, latest } = self;
        let ahead = request_first.since(*latest);
        if ahead > SILENCE_MAX || latest.since(request_first) > SILENCE_MAX {
            // Requests come nearly in order, so that this is a silence, or a clock that was set. What follows is at its
            // distance from this request.
            let silence = ahead.min(SILENCE_MAX).as_secs_f64() / speed;
            let silence = Duration::try_from_secs_f64(silence).unwrap_or(SILENCE_MAX);
            let reached = shifted(*anchor, *latest, speed).unwrap_or(now);
            *anchor = Anchor { wall: request_first, at: reached.checked_add(silence).unwrap_or(now) };
            *latest = request_first;
        }
        *latest = request_first.max(*latest);
        shifted(*anchor, request_first, speed).unwrap_or(now)
    }
}

/// `time` on the runtime's clock, `None` when it lies outside of the clock's range.
fn shifted(anchor: Anchor, time: Timestamp, speed: f64) -> Option<Instant> {
    let scaled = |distance: Duration| Duration::try_from_secs_f64(distance.as_secs_f64() / speed).ok();
    if time < anchor.wall {
        anchor.at.checked_sub(scaled(anchor.wall.since(time))?)
    } else {
        anchor.at.checked_add(scaled(time.since(anchor.wall))?)
    }
}

// === impl RateLimit ===

impl RateLimit {
    /// Allows `per_second` requests in each second, and bunches of a tenth of that.
    pub fn new(per_second: std::num::NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / per_second.get();
        Self {
            interval,
            room: interval.saturating_mul(per_second.get().div_ceil(10).saturating_sub(1)),
            even: None,
        }
    }

    /// True when a request may be sent now; it is then counted.
    pub fn take(&mut self, now: Instant) -> bool {
        let even = self.even.map_or(now, |even| even.max(now));
        let fits = even.saturating_duration_since(now) <= self.room;
        if fits {
            self.even = even.checked_add(self.interval);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some point to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    const WALL: Timestamp = Timestamp(10_000_000_000_000);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn live_requests_follow_at_a_fixed_distance() {
        let at = start();
        let mut pace = Pace::live(Anchor { wall: WALL, at }, ms(200));
        for after in [0, 50, 10] {
            let now = at + ms(after);
            assert_eq!(pace.due(WALL.after(ms(after)), now), at + ms(after + 200));
        }
    }

    #[test]
    fn a_request_that_took_longer_than_the_lag_is_late_by_the_rest() {
        let at = start();
        let mut pace = Pace::live(Anchor { wall: WALL, at }, ms(200));
        assert_eq!(pace.due(WALL.after(ms(100)), at + ms(500)), at + ms(300));
    }

    #[test]
    fn a_wall_clock_that_was_set_makes_nobody_wait_longer_than_the_lag() {
        let at = start();
        let mut pace = Pace::live(Anchor { wall: WALL, at }, ms(200));
        assert_eq!(pace.due(WALL.after(Duration::from_secs(3600)), at), at + ms(200));
        assert_eq!(pace.due(Timestamp(u64::MAX), at), at + ms(200));
    }

    #[test]
    fn offline_requests_keep_their_distances_divided_by_the_speed() {
        let at = start();
        let mut pace = Pace::offline(2.0);
        assert_eq!(pace.due(WALL, at), at);
        assert_eq!(pace.due(WALL.after(ms(100)), at + ms(7)), at + ms(50));
        let mut broken = Pace::offline(f64::NAN);
        assert_eq!(broken.due(WALL, at), at);
        assert_eq!(broken.due(WALL.after(ms(100)), at), at + ms(100));
    }

    #[test]
    fn a_long_silence_and_a_clock_that_was_set_are_not_waited_for() {
        let at = start();
        let mut pace = Pace::offline(1.0);
        let mut due = |time: Timestamp| pace.due(time, at).duration_since(at);
        let day = Duration::from_secs(86_400);
        assert_eq!(due(WALL), ms(0));
        assert_eq!(due(WALL.after(ms(50_000))), ms(50_000));
        // A request that took long comes out late.
        assert_eq!(due(WALL.after(ms(20_000))), ms(20_000));
        assert_eq!(due(WALL.after(day)), ms(50_000) + SILENCE_MAX);
        assert_eq!(due(WALL.after(day + ms(5))), ms(50_005) + SILENCE_MAX);
        assert_eq!(due(WALL.after(ms(7))), ms(50_005) + SILENCE_MAX);
        assert_eq!(due(WALL.after(ms(9))), ms(50_007) + SILENCE_MAX);
        let mut fast = Pace::offline(10.0);
        assert_eq!(fast.due(WALL, at), at);
        assert_eq!(fast.due(WALL.after(day), at), at + SILENCE_MAX / 10);
    }

    /// Requests captured at these milliseconds of A's clock, which come here at those of ours; when each is sent, as
    /// milliseconds of ours.
    #[track_caller]
    fn check_queued(requests: &[(i64, u64, u64)]) {
        let at = start();
        let mut pace = Pace::queued(ms(200));
        for (captured, came, expected) in requests {
            let captured = Timestamp(WALL.0.saturating_add_signed(captured * 1_000_000));
            let due = pace.due(captured, at + ms(*came));
            assert_eq!(due, at + ms(*expected), "{captured:?} came at {came}");
        }
    }

    #[test]
    fn queued_requests_keep_their_distances_whatever_the_other_clock_says() {
        // A batch that came late, and one that came later than the lag.
        check_queued(&[(0, 5, 205), (10, 40, 215), (30, 40, 235), (100, 400, 400), (500, 505, 705)]);
        // The first one was not the fastest.
        check_queued(&[(0, 50, 250), (45, 60, 260), (60, 90, 275)]);
    }

    #[test]
    fn a_clock_that_is_set_elsewhere_is_followed() {
        let hour = 3_600_000;
        check_queued(&[(0, 5, 205), (hour, 10, 210), (hour + 10, 30, 220)]);
        // Set back: without the spacing for a while, and with it again after two windows.
        check_queued(&[
            (0, 5, 205),
            (-hour, 10, 10),
            (-hour + 31_000, 31_010, 31_010),
            (-hour + 62_010, 62_020, 62_220),
            (-hour + 62_030, 62_050, 62_240),
        ]);
    }

    #[test]
    fn an_even_stream_at_the_rate_passes_whole() {
        let at = start();
        let mut rate = RateLimit::new(NonZeroU32::new(100).expect("not zero"));
        assert!((0..1_000).all(|n| rate.take(at + ms(10 * n))));
    }

    #[test]
    fn a_bunch_gets_a_tenth_of_a_second_at_once() {
        let at = start();
        let mut rate = RateLimit::new(NonZeroU32::new(100).expect("not zero"));
        assert_eq!((0..50).filter(|_| rate.take(at)).count(), 10);
        let mut slow = RateLimit::new(NonZeroU32::MIN);
        assert_eq!((0..50).filter(|_| slow.take(at)).count(), 1);
    }

    proptest! {
        /// In any second, whatever comes, no more than the rate and one bunch.
        #[test]
        fn no_second_has_more_than_the_rate_and_one_bunch(
            per_second in 1u32..200,
            gaps in proptest::collection::vec(0u64..30, 1..400),
        ) {
            let at = start();
            let mut rate = RateLimit::new(NonZeroU32::new(per_second).expect("not zero"));
            let mut elapsed = 0;
            let mut taken: Vec<u64> = Vec::new();
            for gap in gaps {
                elapsed += gap;
                if rate.take(at + ms(elapsed)) {
                    taken.push(elapsed);
                }
            }
            for first in &taken {
                let within = taken.iter().filter(|time| (*first..first + 1_000).contains(*time)).count();
                prop_assert!(within <= (per_second + per_second.div_ceil(10)) as usize, "{within}");
            }
        }
    }
}
