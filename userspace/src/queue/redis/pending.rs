//! Entries that somebody has taken and not settled: whose they are, and who may take them over.
//!
//! Sends nothing; reads the answers of Redis and decides.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};
use tokio::time::Instant;

use super::deliveries::StreamId;
use super::settle::{NEWER, RETURNED};

/// Somebody who has taken entries of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    /// Its name: a worker's, or one of ours for entries that wait for anybody or somebody newer.
    pub(super) name: String,
    /// Entries that it has.
    pub(super) pending: usize,
}

/// An entry that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// The entry.
    pub(super) id: StreamId,
    /// How often it was delivered.
    pub(super) deliveries: u64,
}

/// What is done about an entry that is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It goes to the replay with others.
    Along,
    /// It goes to the replay when nothing else is there: workers may have died of it.
    Alone,
    /// It does not go to the replay any more.
    Aside,
}

/// Workers that were not seen for a time.
#[derive(Debug, Default)]
pub(super) struct Gone {
    since: HashMap<String, Instant>,
}

/// What is done about an entry that was delivered so often.
///
/// Entries that a dead worker had go along with others at first: most workers that die are stopped by somebody, and one
/// of them had thousands. Those that a second worker died with are done one at a time, so that of those only the culprit
/// meets its bound.
pub(super) fn course(deliveries: u64, alone_after: u64, deliveries_max: u64) -> Course {
    if deliveries >= deliveries_max {
        Course::Aside
    } else if deliveries >= alone_after {
        Course::Alone
    } else {
        Course::Along
    }
}

/// Reads the answer to XINFO CONSUMERS.
pub(super) fn consumers(answer: Value) -> Option<Vec<Consumer>> {
    let Value::Array(list) = answer else { return None };
    list.into_iter()
        .map(|one| {
            let fields: HashMap<String, Value> = HashMap::from_redis_value(one).ok()?;
            let Value::BulkString(name) = fields.get("name")? else { return None };
            let Value::Int(pending) = fields.get("pending")? else { return None };
            let name = String::from_utf8_lossy(name).into_owned();
            Some(Consumer { name, pending: usize::try_from(*pending).ok()? })
        })
        .collect()
}

/// Reads the answer to XPENDING with a range.
pub(super) fn pending(answer: Value) -> Option<Vec<Pending>> {
    let rows: Vec<(String, Value, u64, u64)> = Vec::from_redis_value(answer).ok()?;
    rows.into_iter()
        .map(|(id, _consumer, _idle, deliveries)| Some(Pending { id: StreamId::parse(&id)?, deliveries }))
        .collect()
}

/// The major version that a worker has to read to take entries of this consumer.
pub(super) fn newer_of(consumer: &str) -> Option<u16> {
    consumer.strip_prefix(NEWER)?.parse().ok()
}

// === impl Gone ===

impl Gone {
    /// How long entries of this consumer must have been left alone before others may take them; `None` when never.
    ///
    /// Redis counts idleness by a clock that may be set back; so of somebody who was not there for `claim_after` by our
    /// clock everything may be taken.
    pub(super) fn idle_min(
        &mut self,
        consumer: &str,
        there: &[String],
        reads_major: u16,
        claim_after: Duration,
        now: Instant,
    ) -> Option<Duration> {
        if let Some(major) = newer_of(consumer) {
            return (major <= reads_major).then_some(claim_after);
        }
        // What was given back counts as idle for a day.
        if consumer == RETURNED || there.iter().any(|worker| worker == consumer) {
            self.since.remove(consumer);
            return Some(claim_after);
        }
        let since = *self.since.entry(consumer.to_owned()).or_insert(now);
        let gone = now.saturating_duration_since(since);
        Some(if gone >= claim_after { Duration::ZERO } else { claim_after })
    }

    /// True when a consumer that has nothing may be forgotten.
    pub(super) fn is_long_gone(&self, consumer: &str, claim_after: Duration, now: Instant) -> bool {
        self.since.get(consumer).is_some_and(|since| now.saturating_duration_since(*since) >= claim_after)
    }

    /// Forgets those that no shard knows any more.
    pub(super) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.since.retain(|consumer, _| is_known(consumer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM_AFTER: Duration = Duration::from_secs(15);

    #[test]
    fn entries_go_along_then_alone_then_aside() {
        let courses: Vec<Course> = (1..=5).map(|deliveries| course(deliveries, 2, 4)).collect();
        assert_eq!(courses, [Course::Along, Course::Alone, Course::Alone, Course::Aside, Course::Aside]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_is_gone_for_long_loses_all_it_has() {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let start = Instant::now();
        let there = vec!["w1".to_owned()];
        let mut gone = Gone::default();
        let mut check = |consumer: &str, after: u64, expected: Option<Duration>| {
            let now = start + Duration::from_secs(after);
            let got = gone.idle_min(consumer, &there, 1, CLAIM_AFTER, now);
            assert_eq!(got, expected, "{consumer} after {after} s");
        };
        check("w1", 100, Some(CLAIM_AFTER));
        check(RETURNED, 100, Some(CLAIM_AFTER));
        check("newer:1", 0, Some(CLAIM_AFTER));
        check("newer:2", 100, None);
        check("w2", 0, Some(CLAIM_AFTER));
        check("w2", 14, Some(CLAIM_AFTER));
        check("w2", 15, Some(Duration::ZERO));
    }

    #[test]
    fn answers_of_redis_are_read() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let one = Value::Array(vec![
            text("name"),
            text("w1"),
            text("pending"),
            Value::Int(3),
            text("idle"),
            Value::Int(9),
        ]);
        assert_eq!(
            consumers(Value::Array(vec![one])),
            Some(vec![Consumer { name: "w1".into(), pending: 3 }])
        );
        let row = Value::Array(vec![text("5-1"), text("w1"), Value::Int(9), Value::Int(2)]);
        let expected = vec![Pending { id: StreamId { ms: 5, seq: 1 }, deliveries: 2 }];
        assert_eq!(pending(Value::Array(vec![row])), Some(expected));
        assert_eq!((consumers(Value::Int(1)), pending(Value::Int(1))), (None, None));
    }
}
