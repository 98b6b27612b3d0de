//! The Redis at which `capture` and `replay` meet.
//!
//! Sends no entry and takes none.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::RunError;
use super::secrets::random_bytes;
use super::settings::QueueConfig;
use crate::journal::ExperimentStart;
use crate::queue::redis::{Keys, Redis, RedisConfig, RedisError, agree};

/// What all processes of an experiment agree on, said by one of them.
pub(super) struct Agreement {
    redis: Redis,
    keys: Keys,
    shards: NonZeroU32,
    redact: String,
    facts: Vec<(&'static str, String)>,
    /// Where it is said when others have agreed on something else.
    disagreement: Disagreement,
}

/// Others have agreed on something else, as was found while this process ran: it ends, and sends nothing more, since nobody
/// would look for it. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Disagreement(Arc<watch::Sender<Option<RedisError>>>);

/// A number that no other process has, ever.
///
/// # Errors
/// When the kernel gives none.
pub(super) fn random_id() -> Result<u128, RunError> {
    random_bytes().map(u128::from_ne_bytes).map_err(RunError::Random)
}

/// A handle to Redis. One that is only away is no error.
///
/// # Errors
/// When waiting does not help: a password, a permission, TLS.
pub(super) async fn connect(config: &RedisConfig) -> Result<Redis, RedisError> {
    let redis = Redis::lazy(config)?;
    pass(redis.ping().await)?;
    Ok(redis)
}

/// Agrees with all other processes of an experiment.
///
/// # Errors
/// When they have agreed on something else.
pub(super) async fn agree_on(
    redis: &Redis,
    queue: &QueueConfig,
    experiment: &str,
    said: (&str, Option<&ExperimentStart>),
) -> Result<Keys, RedisError> {
    let agreement = Agreement::new(redis, queue, experiment, said);
    pass(agreement.make().await)?;
    Ok(agreement.keys)
}

// === impl Agreement ===

impl Agreement {
    /// On one experiment. `redact` says with which key secrets are hidden; `start` is known to those that replay.
    pub(super) fn new(
        redis: &Redis,
        queue: &QueueConfig,
        experiment: &str,
        (redact, start): (&str, Option<&ExperimentStart>),
    ) -> Self {
        let keys = Keys::new(&queue.prefix, experiment);
        let facts = start.map(facts).unwrap_or_default();
        Self {
            redis: redis.clone(),
            keys,
            shards: queue.shards,
            redact: redact.to_owned(),
            facts,
            disagreement: Disagreement::default(),
        }
    }

    /// Says it here when others have agreed on something else.
    pub(super) fn watched_by(self, disagreement: &Disagreement) -> Self {
        Self { disagreement: disagreement.clone(), ..self }
    }

    /// Says it to the others. Saying it again does no harm, and is needed where Redis was away, or was emptied.
    ///
    /// # Errors
    /// When they have agreed on something else, or Redis does not answer.
    pub(super) async fn make(&self) -> Result<(), RedisError> {
        let agreed = agree(&self.redis, &self.keys, (self.shards, &self.redact), &self.facts).await;
        if let Err(error @ RedisError::Settings { address: _, said: _ }) = &agreed {
            self.disagreement.say(error);
        }
        agreed
    }
}

// === impl Disagreement ===

impl Default for Disagreement {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Disagreement {
    /// Says it; what was said first stays.
    pub(super) fn say(&self, error: &RedisError) {
        self.0.send_if_modified(|said| {
            let is_first = said.is_none();
            said.get_or_insert_with(|| error.clone());
            is_first
        });
    }

    /// True once it was said.
    pub(super) fn is_said(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Ends once it is said.
    pub(super) async fn found(&self) {
        // This is a sender, so that there always is one.
        drop(self.0.subscribe().wait_for(Option::is_some).await.map(|_| ()));
    }

    /// What was said.
    pub(super) fn error(&self) -> Option<RunError> {
        self.0.borrow().clone().map(RunError::Redis)
    }
}

/// Lets those errors go that waiting may mend.
fn pass(done: Result<(), RedisError>) -> Result<(), RedisError> {
    match done {
        Err(error) if error.may_pass() => {
            tracing::warn!(%error, "Redis cannot be used now; it is tried again.");
            Ok(())
        }
        done => done,
    }
}

/// What a report says of an experiment.
fn facts(start: &ExperimentStart) -> Vec<(&'static str, String)> {
    let ExperimentStart { name: _, candidate, rules, policy, routes, context } = start;
    let list =
        |texts: &[Arc<str>]| serde_json::Value::from_iter(texts.iter().map(|text| &**text)).to_string();
    let context =
        serde_json::Value::from_iter(context.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("candidate", candidate.clone()),
        ("policy", policy.clone()),
        ("rules", list(rules)),
        ("routes", list(routes)),
        ("context", context.to_string()),
        ("created_ns", super::clock::wall().0.to_string()),
    ]
}
