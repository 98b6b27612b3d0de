//! Says which requests to ask B a second time, and how long to wait before.
//!
//! Asks nothing and draws no random number: the caller brings both.
//!
//! B is asked again wherever A and B differ, and for a small share of the safe requests where they do not. That share
//! is what keeps the test honest where data changes over time: a change between A's answer and B's first looks like a
//! regression that B repeats. A change between B's first and second answer is as likely or likelier, if the wait is
//! longer by as much as the share is small; those changes are the misses against which the hits are weighed.

use std::time::Duration;

/// When to ask B again.
#[derive(Clone, Debug, PartialEq)]
pub struct AgainConfig {
    /// Share of the safe requests without a difference that B is asked again, above 0, at most 1. Default 0.05.
    pub share: f64,
    /// Least wait before asking again. Default 1.5 seconds, so that times in whole seconds differ.
    pub wait_min: Duration,
    /// Longest wait; what would need more is not fair evidence. Default 60 seconds.
    pub wait_max: Duration,
}

// === impl AgainConfig ===

impl Default for AgainConfig {
    fn default() -> Self {
        Self { share: 0.05, wait_min: Duration::from_millis(1_500), wait_max: Duration::from_secs(60) }
    }
}

impl AgainConfig {
    /// True when a request is to be asked again. `draw` is uniform in 0 to 1, and drawn anew for each request.
    pub fn asks(&self, differs: bool, draw: f64) -> bool {
        differs || draw < self.share
    }

    /// How long to wait, counted from B's first answer, where `lag` lies between A's answer and B's first one.
    pub fn wait(&self, lag: Duration) -> Duration {
        let fair = Duration::try_from_secs_f64(lag.as_secs_f64() / self.share).unwrap_or(self.wait_max);
        fair.clamp(self.wait_min.min(self.wait_max), self.wait_max)
    }

    /// True when `wait` was long enough for hits of [`super::Triple`] to count.
    pub fn is_fair(&self, lag: Duration, wait: Duration) -> bool {
        wait.as_secs_f64() * self.share >= lag.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_as_much_longer_as_the_share_is_small_within_its_bounds() {
        let config = AgainConfig { share: 0.02, ..AgainConfig::default() };
        for (lag_ms, wait_ms, fair) in [
            (0, 1_500, true),
            (10, 1_500, true),
            (100, 5_000, true),
            (1_200, 60_000, true),
            (1_300, 60_000, false),
        ] {
            let (lag, wait) = (Duration::from_millis(lag_ms), Duration::from_millis(wait_ms));
            assert_eq!(config.wait(lag), wait, "lag {lag:?}");
            assert_eq!(config.is_fair(lag, wait), fair, "lag {lag:?}");
        }
        let never = AgainConfig { share: 0.0, ..config };
        assert_eq!(never.wait(Duration::from_secs(1)), Duration::from_secs(60));
        assert!(!never.is_fair(Duration::from_secs(1), Duration::from_secs(60)));
    }

    #[test]
    fn what_differs_is_asked_and_a_share_of_the_rest() {
        let config = AgainConfig { share: 0.02, ..AgainConfig::default() };
        assert!(config.asks(true, 0.99) && config.asks(false, 0.01) && !config.asks(false, 0.03));
    }
}
