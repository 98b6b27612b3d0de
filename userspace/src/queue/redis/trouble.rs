//! What is done about a Redis that does not do what it is asked to: say it once, wait, and ask again.
//!
//! Reads no clock and waits for nobody: it says how long to wait.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::{RedisError, RedisErrorKind};
use super::stats::QueueStats;

/// Pause before the second attempt.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Troubles of one kind of request.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What is asked for, in the log.
    what: &'static str,
    experiment: String,
    said: Option<RedisErrorKind>,
    pause: Duration,
}

// === impl Trouble ===

impl Trouble {
    /// None yet.
    pub(super) fn new(what: &'static str, experiment: &str) -> Self {
        Self { what, experiment: experiment.to_owned(), said: None, pause: PAUSE_MIN }
    }

    /// Redis did not do it. Says how long to wait before it is asked again.
    pub(super) fn meet(&mut self, stats: &QueueStats, error: &RedisError) -> Duration {
        stats.count_error(error.kind());
        if self.said.is_none() {
            stats.failing.fetch_add(1, Ordering::Relaxed);
        }
        if self.said != Some(error.kind()) {
            self.said = Some(error.kind());
            let Self { what, experiment, .. } = self;
            if error.may_pass() {
                tracing::warn!(%experiment, what, %error, "Redis fails; it is asked again and again.");
            } else {
                tracing::error!(%experiment, what, %error, "Redis refuses; it is asked again, and somebody has to look.");
            }
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(PAUSE_MAX);
        pause
    }

    /// Redis did it.
    pub(super) fn pass(&mut self, stats: &QueueStats) {
        if self.said.take().is_some() {
            self.pause = PAUSE_MIN;
            stats.failing.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(experiment = %self.experiment, what = self.what, "Redis does what it is asked to again.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_redis_answers() {
        let stats = QueueStats::default();
        let mut trouble = Trouble::new("read", "shop");
        let error = RedisError::Timeout { address: "x".to_owned(), said: "y".to_owned() };
        let mut pauses = || trouble.meet(&stats, &error);
        assert_eq!((pauses(), pauses()), (PAUSE_MIN, PAUSE_MIN * 2));
        (0..20).for_each(|_| assert!(pauses() <= PAUSE_MAX));
        assert_eq!(pauses(), PAUSE_MAX);
        assert_eq!(stats.failing.load(Ordering::Relaxed), 1);
        trouble.pass(&stats);
        assert_eq!(stats.failing.load(Ordering::Relaxed), 0);
        assert_eq!(trouble.meet(&stats, &error), PAUSE_MIN);
        let errors: u64 = stats.errors.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        assert_eq!(errors, 24);
    }
}
