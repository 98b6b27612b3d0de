//! The one place of the tests that reads the clock and pauses.
//!
//! Never stands for "long enough": waiting is for a condition, and has a limit.

use std::time::{Duration, Instant, SystemTime};

/// Between two looks at a condition that gives no event.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Now, for measuring.
#[expect(clippy::disallowed_methods, reason = "servers and load generators of the lab live in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Now, for people.
#[expect(clippy::disallowed_methods, reason = "a server's Date field is the time of day")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Pauses this thread: the pace of a load, or the slowness of a server.
#[expect(clippy::disallowed_methods, reason = "a pace and a planted delay are times, not events")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Looks until `look` gives something.
///
/// # Errors
/// When `limit` has passed; `what` stands in the message.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        anyhow::ensure!(start.elapsed() < limit, "no {what} within {limit:?}");
        pause(LOOK_EVERY);
    }
}
