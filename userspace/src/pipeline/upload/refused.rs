//! What Redis refuses: since when, and which entries of a batch.
//!
//! Gives nothing a fate, and takes an outage for no refusal: who is away, full or slow may take everything later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Append;
use crate::queue::entry::EncodedEntry;
use crate::queue::redis::{Appended, Numbered, RedisError, RedisErrorKind};

/// A batch of one shard, on its way.
pub(super) struct Outgoing {
    pub(super) shard: u32,
    pub(super) entries: Arc<Vec<Numbered<EncodedEntry>>>,
    /// Redis has refused this shard for as long as may be waited: what it does not take now is found out.
    pub(super) is_overdue: bool,
}

/// What became of a batch.
pub(super) struct Sent {
    /// Redis has all entries but those that it refused; or nobody knows, and the others are sent again.
    pub(super) result: Result<Appended, RedisError>,
    /// Numbers of the entries that Redis refused, in order. They are not sent again: it may have taken later ones.
    pub(super) refused: Vec<u64>,
    /// Why it refused the last of them.
    pub(super) reason: Option<RedisError>,
}

/// One shard of one experiment, as one producer numbers it.
pub(super) type Numbering = (u128, Arc<str>, u32);

/// The shards that Redis refuses, since when, and whether entries were given up for it.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    shards: HashMap<Numbering, Refusal>,
    /// When Redis last took a batch, of whatever shard.
    taken_at: Option<Instant>,
}

#[derive(Debug)]
struct Refusal {
    since: Instant,
    last: Instant,
    kind: RedisErrorKind,
    /// Entries were given up for it.
    has_given_up: bool,
    /// What was sent last was refused as well.
    goes_on: bool,
}

/// What an error says about the entries that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// Something is wrong with the shard's keys or the user's rights: the next entry fares no better.
    Shard,
    /// Redis has answered, and may take another entry.
    Entry,
    /// The connection broke: Redis does that to whoever says more in one word than it takes, and so does an outage.
    Unclear,
    /// Redis cannot take anything at present.
    Nobody,
}

/// Attempts to send one entry that breaks the connection, with an answer of Redis between them.
const ALONE_TRIES: usize = 3;

// === impl Sent ===

impl Sent {
    fn of(result: Result<Appended, RedisError>) -> Self {
        Self { result, refused: Vec::new(), reason: None }
    }

    /// What Redis said that was no success, if anything.
    pub(super) fn error(&self) -> Option<&RedisError> {
        self.result.as_ref().err().or(self.reason.as_ref())
    }
}

// === impl Refusals ===

impl Refusals {
    /// Notes what became of a batch. A shard of which entries were given up is remembered for `wait_max` after the last of
    /// them, so that the next entry of that kind holds up nobody.
    pub(super) fn note(&mut self, of: Numbering, sent: &Sent, now: Instant, wait_max: Duration) {
        if sent.result.is_ok() {
            self.taken_at = Some(now);
        }
        let Some(error) = sent.error() else {
            if let Some(refusal) = self.shards.get_mut(&of) {
                refusal.goes_on = false;
                let is_recent = now.saturating_duration_since(refusal.last) < wait_max;
                if !(refusal.has_given_up && is_recent) {
                    self.shards.remove(&of);
                }
            }
            return;
        };
        if blame(error) == Blame::Nobody {
            self.shards.remove(&of);
            return;
        }
        let (_, experiment, shard) = &of;
        let (experiment, shard, kind) = (Arc::clone(experiment), *shard, error.kind());
        let first = Refusal { since: now, last: now, kind, has_given_up: false, goes_on: true };
        let refusal = self.shards.entry(of).or_insert(first);
        (refusal.last, refusal.kind, refusal.goes_on) = (now, kind, true);
        if !sent.refused.is_empty() && !refusal.has_given_up {
            refusal.has_given_up = true;
            tracing::error!(
                %experiment,
                shard,
                %error,
                "Redis refuses entries; they are given up until it takes them again."
            );
        }
    }

    /// True when Redis has refused this shard for longer than `wait_max`. Where it may be that everything is forbidden to
    /// this user, nothing is held up but by that, and all of it waits as in an outage: unless `others_wait` for their turn.
    pub(super) fn is_overdue(
        &self,
        of: &Numbering,
        now: Instant,
        wait_max: Duration,
        others_wait: bool,
    ) -> bool {
        let Some(Refusal { since, kind, last: _, has_given_up: _, goes_on: _ }) = self.shards.get(of) else {
            return false;
        };
        let others_pass = self.taken_at.is_some_and(|taken_at| taken_at >= *since);
        now.saturating_duration_since(*since) >= wait_max
            && (*kind != RedisErrorKind::Permission || others_pass || others_wait)
    }

    /// True when a shard of this experiment is refused.
    pub(super) fn concerns(&self, experiment: &str) -> bool {
        self.shards.keys().any(|(_, name, _)| &**name == experiment)
    }

    /// True while entries are given up.
    pub(super) fn gives_up(&self) -> bool {
        self.shards.values().any(|refusal| refusal.has_given_up && refusal.goes_on)
    }

    /// Forgets what other producers met.
    pub(super) fn keep_only(&mut self, producer: u128) {
        self.shards.retain(|(of, _, _), _| *of == producer);
    }
}

/// Sends a batch of each shard, all in one go. Of those that Redis refuses, and has for as long as may be waited, the entries
/// are then sent one by one.
pub(super) async fn send<A: Append>(appender: &mut A, batches: &[Outgoing]) -> Vec<Sent> {
    let slices: Vec<_> = batches.iter().map(|batch| (batch.shard, batch.entries.as_slice())).collect();
    let results = appender.append_all(&slices).await;
    let mut all: Vec<Sent> = results.into_iter().map(Sent::of).collect();
    for (batch, sent) in batches.iter().zip(&mut all).filter(|(batch, _)| batch.is_overdue) {
        if matches!(&sent.result, Err(error) if blame(error) != Blame::Nobody) {
            *sent = send_one_by_one(appender, batch).await;
        }
    }
    all
}

async fn send_one_by_one<A: Append>(appender: &mut A, batch: &Outgoing) -> Sent {
    let (mut sum, mut refused, mut reason) = (Appended::default(), Vec::new(), None);
    let mut entries = batch.entries.iter();
    while let Some(entry) = entries.next() {
        let error = match send_alone(appender, batch.shard, entry).await {
            Ok(appended) => {
                sum.add(appended);
                continue;
            }
            Err(error) => error,
        };
        match blame(&error) {
            Blame::Shard => refused.extend(std::iter::once(entry).chain(&mut entries).map(|entry| entry.seq)),
            Blame::Entry => refused.push(entry.seq),
            Blame::Unclear if appender.answers().await => refused.push(entry.seq),
            Blame::Unclear | Blame::Nobody => return Sent { result: Err(error), refused, reason },
        }
        reason = Some(error);
    }
    Sent { result: Ok(sum), refused, reason }
}

/// Sends one entry, and again where the connection broke and Redis answers all the same.
async fn send_alone<A: Append>(
    appender: &mut A,
    shard: u32,
    entry: &Numbered<EncodedEntry>,
) -> Result<Appended, RedisError> {
    let mut tries = 1;
    loop {
        let mut results = appender.append_all(&[(shard, std::slice::from_ref(entry))]).await;
        let result = results.pop().unwrap_or_else(|| Ok(Appended::default()));
        match &result {
            Err(error) if blame(error) == Blame::Unclear && tries < ALONE_TRIES => {}
            Ok(_) | Err(_) => return result,
        }
        if !appender.answers().await {
            return result;
        }
        tries += 1;
    }
}

fn blame(error: &RedisError) -> Blame {
    match error.kind() {
        RedisErrorKind::WrongType | RedisErrorKind::Permission => Blame::Shard,
        RedisErrorKind::Protocol => Blame::Entry,
        RedisErrorKind::Unreachable => Blame::Unclear,
        RedisErrorKind::Timeout
        | RedisErrorKind::Auth
        | RedisErrorKind::Tls
        | RedisErrorKind::OutOfMemory
        | RedisErrorKind::NoGroup
        | RedisErrorKind::ReadOnly
        | RedisErrorKind::NotReady
        | RedisErrorKind::Cluster
        | RedisErrorKind::Sentinel
        | RedisErrorKind::Settings => Blame::Nobody,
    }
}
