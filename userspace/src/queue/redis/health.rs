//! What Redis says of itself, as far as a queue depends on it.
//!
//! Changes nothing there.

use std::time::Duration;

use redis::Value;

use super::connect::Redis;
use super::error::RedisError;

/// One server's answer to `INFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `redis_version`; Valkey says which Redis it can stand for.
    pub version: String,
    /// `role`: `master` or `slave`.
    pub role: String,
    /// `maxmemory` in bytes; 0 for no limit.
    pub memory_max: u64,
    /// `used_memory` in bytes.
    pub memory_used: u64,
    /// `maxmemory_policy`: what is deleted at the limit.
    pub memory_policy: String,
    /// `aof_enabled`: what was taken outlives a crash of Redis, but for its last second at most.
    pub keeps_on_disk: bool,
}

// === impl Health ===

impl Health {
    /// Reads an answer to `INFO`: lines of `name:value`. What is missing or unreadable stays at its default.
    fn parse(text: &str) -> Self {
        let mut health = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "redis_version" => value.clone_into(&mut health.version),
                "role" => value.clone_into(&mut health.role),
                "maxmemory" => health.memory_max = value.parse().unwrap_or_default(),
                "used_memory" => health.memory_used = value.parse().unwrap_or_default(),
                "maxmemory_policy" => value.clone_into(&mut health.memory_policy),
                "aof_enabled" => health.keeps_on_disk = value == "1",
                _ => {}
            }
        }
        health
    }

    /// True when Redis deletes entries by itself once it has no room. Only `noeviction` never does.
    pub fn may_delete(&self) -> bool {
        !self.memory_policy.is_empty() && self.memory_policy != "noeviction"
    }
}

// === impl Redis ===

impl Redis {
    /// Asks each server that `INFO` reaches: one, or those of a cluster.
    ///
    /// # Errors
    /// As for any command.
    pub async fn health(&self) -> Result<Vec<Health>, RedisError> {
        let answer: Value = self.query("ask for its state", &redis::cmd("INFO")).await?;
        let mut texts = Vec::new();
        collect_texts(&answer, &mut texts);
        let answers = texts.iter().map(|text| Health::parse(text));
        Ok(answers.filter(|health| !health.version.is_empty()).collect())
    }

    /// Its time since 1970.
    ///
    /// # Errors
    /// As for any command.
    pub async fn time(&self) -> Result<Duration, RedisError> {
        let (seconds, micros): (u64, u32) = self.query("ask for its time", &redis::cmd("TIME")).await?;
        Ok(Duration::from_secs(seconds).saturating_add(Duration::from_micros(u64::from(micros))))
    }
}

/// A cluster's answer is a map of those of its nodes.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is no text says nothing here")]
fn collect_texts(answer: &Value, texts: &mut Vec<String>) {
    match answer {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { format: _, text } => texts.push(text.clone()),
        Value::Array(answers) => answers.iter().for_each(|answer| collect_texts(answer, texts)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, answer)| collect_texts(answer, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_redis_says_of_itself() {
        let text = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory:1048576\r\nmaxmemory:2097152\r\n\
                    maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nrole:master\r\nx";
        let health = Health::parse(text);
        assert_eq!(
            health,
            Health {
                version: "7.0.15".to_owned(),
                role: "master".to_owned(),
                memory_max: 2_097_152,
                memory_used: 1_048_576,
                memory_policy: "allkeys-lru".to_owned(),
                keeps_on_disk: true,
            }
        );
        assert!(health.may_delete());
        assert!(!Health { memory_policy: "noeviction".to_owned(), ..Health::default() }.may_delete());
    }

    #[test]
    fn the_answers_of_a_cluster_are_taken_apart() {
        let node = |text: &str| {
            (Value::SimpleString("127.0.0.1:1".to_owned()), Value::BulkString(text.as_bytes().to_vec()))
        };
        let mut texts = Vec::new();
        collect_texts(&Value::Map(vec![node("a"), node("b")]), &mut texts);
        assert_eq!(texts, ["a", "b"]);
    }
}
