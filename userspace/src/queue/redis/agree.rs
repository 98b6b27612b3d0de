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

/// Says how many shards the experiment has, and sets these facts, which a report shows.
///
/// # Errors
/// [`RedisError::Settings`] when another process has said another number of shards; otherwise as any command.
pub async fn agree(
    redis: &Redis,
    keys: &Keys,
    shards: NonZeroU32,
    facts: &[(&str, String)],
) -> Result<(), RedisError> {
    const OPERATION: &str = "agree on the number of shards";
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
