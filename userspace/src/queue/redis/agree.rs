//! What all processes of an experiment have to agree on.
//!
//! Changes nothing that another process relies on: whoever comes first decides how many shards there are.

use std::num::NonZeroU32;
use std::time::Duration;

use redis::Value;

use super::connect::Redis;
use super::error::RedisError;
use super::keys::Keys;

/// How long it is remembered after the last start of a process.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Says how many shards the experiment has and which key hides secrets in it (its fingerprint, or `none`), and sets these
/// facts, which a report shows.
///
/// # Errors
/// [`RedisError::Settings`] when another process has said something else of the first two; otherwise as any command.
pub async fn agree(
    redis: &Redis,
    keys: &Keys,
    (shards, redact): (NonZeroU32, &str),
    facts: &[(&str, String)],
) -> Result<(), RedisError> {
    const OPERATION: &str = "agree on shards and key";
    let settings = keys.settings();
    let mut first = redis::cmd("HSETNX");
    first.arg(&settings).arg("shards").arg(shards.get());
    redis.query::<Value>(OPERATION, &first).await?;
    let mut get = redis::cmd("HGET");
    get.arg(&settings).arg("shards");
    let agreed: Option<u32> = redis.query(OPERATION, &get).await?;
    if agreed != Some(shards.get()) {
        let agreed = agreed.unwrap_or_default();
        return Err(RedisError::Settings {
            address: redis.address().to_owned(),
            said: format!(
                "the experiment has {agreed} shards there and {shards} in this configuration (`{settings}`); set \
                 `[queue] shards = {agreed}` here, or another `prefix` on all of its hosts"
            ),
        });
    }
    let mut first = redis::cmd("HSETNX");
    first.arg(&settings).arg("redact").arg(redact);
    redis.query::<Value>(OPERATION, &first).await?;
    let mut get = redis::cmd("HGET");
    get.arg(&settings).arg("redact");
    let agreed: Option<String> = redis.query(OPERATION, &get).await?;
    if agreed.as_deref() != Some(redact) {
        let agreed = agreed.unwrap_or_default();
        return Err(RedisError::Settings {
            address: redis.address().to_owned(),
            said: format!(
                "secrets of the experiment are hidden with {} there and with {} in this configuration (`{settings}`), so \
                 that nothing could be compared; use the same file for `key` under [redact] on all of its hosts, or, for a \
                 new key, another `prefix`",
                key_in_words(&agreed),
                key_in_words(redact)
            ),
        });
    }
    let mut set = redis::cmd("HSET");
    set.arg(&settings);
    for (name, value) in facts {
        set.arg(name).arg(value);
    }
    let mut keep = redis::cmd("EXPIRE");
    keep.arg(&settings).arg(KEPT.as_secs());
    if !facts.is_empty() {
        redis.query::<Value>(OPERATION, &set).await?;
    }
    redis.query::<Value>(OPERATION, &keep).await?;
    Ok(())
}

fn key_in_words(fingerprint: &str) -> String {
    match fingerprint {
        "none" => "no key".to_owned(),
        fingerprint => format!("the key {fingerprint}"),
    }
}
