//! Pauses the replay to a candidate that fails.
//!
//! Sends nothing itself: the probe after a pause is the next request of the replay.

use std::time::Duration;

use tokio::time::Instant;

/// When a breaker opens and how long it stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures in a row that open it. Default: 10.
    pub failures_max: u32,
    /// The first pause. Default: 1 s. It doubles with each probe that fails.
    pub pause_min: Duration,
    /// The longest pause. Default: 30 s.
    pub pause_max: Duration,
}

/// A circuit breaker: closed, open for a pause, then one probe.
#[derive(Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    state: State,
}

/// What one request says about the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered, with whatever status.
    Answered,
    /// It gave no answer.
    Failed,
    /// Nothing can be said: the request was not sent.
    Nothing,
}

/// A change of the breaker's state that people want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// Requests are held back for this long.
    Opened {
        /// The pause until the next probe.
        pause: Duration,
    },
    /// Requests are sent again.
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    Probing { pause: Duration },
}

// === impl BreakerLimits ===

impl Default for BreakerLimits {
    fn default() -> Self {
        Self { failures_max: 10, pause_min: Duration::from_secs(1), pause_max: Duration::from_secs(30) }
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker.
    pub fn new(limits: BreakerLimits) -> Self {
        Self { limits, state: State::Closed { failures: 0 } }
    }

    /// True when [`Breaker::admit`] would refuse.
    pub fn refuses(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { failures: _ } => false,
            State::Open { until, pause: _ } => now < until,
            State::Probing { pause: _ } => true,
        }
    }

    /// True while requests are held back, or only a probe is under way.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { failures: _ })
    }

    /// Asks for one request. When true, a [`Report`] about it has to follow.
    pub fn admit(&mut self, now: Instant) -> bool {
        if self.refuses(now) {
            return false;
        }
        if let State::Open { until: _, pause } = self.state {
            self.state = State::Probing { pause };
        }
        true
    }

    /// Takes in what a request says. Failures of requests that were under way when it opened change nothing more;
    /// an answer, even of such a request, closes it.
    pub fn report(&mut self, report: Report, now: Instant) -> Option<BreakerChange> {
        match (report, self.state) {
            (Report::Answered, State::Closed { failures: _ }) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (Report::Answered, State::Open { until: _, pause: _ } | State::Probing { pause: _ }) => {
                self.state = State::Closed { failures: 0 };
                Some(BreakerChange::Closed)
            }
            (Report::Failed, State::Closed { failures }) => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                (failures >= self.limits.failures_max).then(|| self.open(self.limits.pause_min, now))
            }
            (Report::Failed, State::Probing { pause }) => Some(self.open(pause.saturating_mul(2), now)),
            (Report::Nothing, State::Probing { pause }) => {
                self.state = State::Open { until: now, pause };
                None
            }
            (Report::Failed, State::Open { until: _, pause: _ })
            | (Report::Nothing, State::Closed { failures: _ } | State::Open { until: _, pause: _ }) => None,
        }
    }

    fn open(&mut self, pause: Duration, now: Instant) -> BreakerChange {
        let pause = pause.min(self.limits.pause_max);
        self.state = State::Open { until: now.checked_add(pause).unwrap_or(now), pause };
        BreakerChange::Opened { pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script of `a`nswered, `f`ailed and `n`othing, each admitted first at the given second; shows what
    /// happened: `.` nothing, `-` refused, the pause in seconds when it opened, `c` when it closed.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a test needs some point to start from")]
    fn check(script: &[(u64, char)], expected: &str) {
        let start = Instant::now();
        let limits = BreakerLimits { failures_max: 3, ..BreakerLimits::default() };
        let mut breaker = Breaker::new(limits);
        let shown: Vec<String> = script
            .iter()
            .map(|(second, what)| {
                let now = start + Duration::from_secs(*second);
                if !breaker.admit(now) {
                    return "-".to_owned();
                }
                let report = match what {
                    'a' => Report::Answered,
                    'f' => Report::Failed,
                    _ => Report::Nothing,
                };
                match breaker.report(report, now) {
                    None => ".".to_owned(),
                    Some(BreakerChange::Opened { pause }) => pause.as_secs().to_string(),
                    Some(BreakerChange::Closed) => "c".to_owned(),
                }
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{script:?}");
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        check(&[(0, 'f'), (0, 'f'), (0, 'a'), (0, 'f'), (0, 'f'), (0, 'f'), (0, 'a')], ". . . . . 1 -");
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_an_answer_closes() {
        let script = [
            (0, 'f'),
            (0, 'f'),
            (0, 'f'),
            (1, 'f'),
            (2, 'a'),
            (3, 'f'),
            (7, 'f'),
            (15, 'f'),
            (31, 'f'),
            (61, 'f'),
            (90, 'a'),
            (91, 'a'),
            (91, 'f'),
            (91, 'f'),
            (91, 'f'),
        ];
        check(&script, ". . 1 2 - 4 8 16 30 30 - c . . 1");
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another() {
        check(&[(0, 'f'), (0, 'f'), (0, 'f'), (1, 'n'), (1, 'a')], ". . 1 . c");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some point to start from")]
    fn one_probe_at_a_time() {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerLimits { failures_max: 1, ..BreakerLimits::default() });
        assert!(breaker.admit(start));
        assert!(breaker.report(Report::Failed, start).is_some());
        let later = start + Duration::from_secs(1);
        assert!(breaker.admit(later));
        assert!(!breaker.admit(later));
        assert_eq!(breaker.report(Report::Answered, later), Some(BreakerChange::Closed));
        assert!(breaker.admit(later));
    }
}
