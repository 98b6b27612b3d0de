//! The names of all keys in Redis.
//!
//! Holds no connection. Everything between `{` and `}` is the part that a cluster chooses a node by: all keys of one
//! shard lie together, and one script may use them.

use std::fmt::Write as _;
use std::sync::Arc;

/// Group of the workers in every stream.
pub const GROUP: &str = "replay";

/// Keys of one experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    stem: Arc<str>,
}

/// Keys of one shard of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardKeys {
    stem: String,
}

/// What Redis calls the kind of value that lies under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// Append-only entries.
    Stream,
    /// Fields and values.
    Hash,
    /// Bytes.
    String,
    /// Members with scores.
    SortedSet,
}

/// Where the names of all experiments under a prefix stand, with when they were last heard of.
pub fn experiments(prefix: &str) -> String {
    format!("{{{}}}:experiments", escaped(prefix, "{}%"))
}

// === impl Keys ===

impl Keys {
    /// Keys of `experiment`, all of them starting with `{prefix:experiment`.
    ///
    /// Characters that would move a key to another node, or make two experiments one, are written as `%` and their
    /// code.
    pub fn new(prefix: &str, experiment: &str) -> Self {
        let mut stem = escaped(prefix, "{}%");
        stem.push(':');
        stem.push_str(&escaped(experiment, "{}%:"));
        Self { stem: stem.into() }
    }

    /// Keys of one shard.
    pub fn shard(&self, shard: u32) -> ShardKeys {
        ShardKeys { stem: format!("{{{}:{shard}}}", self.stem) }
    }

    /// What all processes of the experiment agree on.
    pub fn settings(&self) -> String {
        format!("{{{}}}:settings", self.stem)
    }

    /// Workers with their last sign of life.
    pub fn workers(&self) -> String {
        format!("{{{}}}:workers", self.stem)
    }

    /// Captures with their last sign of life.
    pub fn captures(&self) -> String {
        format!("{{{}}}:captures", self.stem)
    }

    /// The order in which workers came to know paths.
    pub fn ranks(&self) -> String {
        format!("{{{}}}:ranks", self.stem)
    }

    /// What one worker reports.
    pub fn worker(&self, id: &str) -> String {
        format!("{{{}}}:worker:{id}", self.stem)
    }

    /// What one capture reports.
    pub fn capture(&self, id: &str) -> String {
        format!("{{{}}}:capture:{id}", self.stem)
    }
}

// === impl ShardKeys ===

impl ShardKeys {
    /// Entries without a fate.
    pub fn stream(&self) -> String {
        self.key("stream")
    }

    /// Counters: what came in, and what became of it.
    pub fn book(&self) -> String {
        self.key("book")
    }

    /// How far each producer has come.
    pub fn producers(&self) -> String {
        self.key("producers")
    }

    /// Outcomes by route and reason.
    pub fn outcomes(&self) -> String {
        self.key("outcomes")
    }

    /// Causes of differences.
    pub fn causes(&self) -> String {
        self.key("causes")
    }

    /// One example for each cause.
    pub fn examples(&self) -> String {
        self.key("examples")
    }

    /// Entries that were set aside.
    pub fn aside(&self) -> String {
        self.key("aside")
    }

    /// The worker that reads this shard.
    pub fn owner(&self) -> String {
        self.key("owner")
    }

    /// Chunk `part`, from 0, of a large entry.
    pub fn part(&self, producer: &str, seq: u64, part: usize) -> String {
        format!("{}{part}", self.parts(producer, seq))
    }

    /// What the keys of all chunks of one entry start with; the number of the chunk follows.
    pub fn parts(&self, producer: &str, seq: u64) -> String {
        format!("{}:part:{producer}:{seq}:", self.stem)
    }

    /// What the keys of the chunks of any entry start with.
    pub fn any_part(&self) -> String {
        format!("{}:part:", self.stem)
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.stem)
    }
}

// === impl ValueType ===

impl ValueType {
    /// What lies under a key that this module made.
    pub fn of(key: &str) -> Option<Self> {
        let (_, name) = key.rsplit_once('}')?;
        let name = name.strip_prefix(':')?.split(':').next()?;
        match name {
            "stream" | "aside" => Some(ValueType::Stream),
            "book" | "producers" | "outcomes" | "causes" | "examples" | "settings" | "worker" | "capture"
            | "ranks" => Some(ValueType::Hash),
            "owner" | "part" => Some(ValueType::String),
            "workers" | "captures" | "experiments" => Some(ValueType::SortedSet),
            _ => None,
        }
    }

    /// The word that the command TYPE answers with.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Stream => "stream",
            ValueType::Hash => "hash",
            ValueType::String => "string",
            ValueType::SortedSet => "zset",
        }
    }
}

fn escaped(text: &str, special: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for character in text.chars() {
        if special.contains(character) {
            write!(written, "%{:02X}", u32::from(character)).unwrap_or_default();
        } else {
            written.push(character);
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_shard_lie_on_one_node() {
        let shard = Keys::new("understudy", "checkout").shard(7);
        assert_eq!(shard.stream(), "{understudy:checkout:7}:stream");
        assert_eq!(shard.part("ab", 3, 0), "{understudy:checkout:7}:part:ab:3:0");
    }

    #[test]
    fn names_cannot_leave_their_braces_or_meet() {
        assert_eq!(Keys::new("a}", "{b}%").settings(), "{a%7D:%7Bb%7D%25}:settings");
        assert_ne!(Keys::new("a:b", "c"), Keys::new("a", "b:c"));
    }

    #[test]
    fn every_key_has_a_type() {
        let keys = Keys::new("p:q", "e");
        let shard = keys.shard(0);
        for (key, expected) in [
            (keys.settings(), "hash"),
            (keys.workers(), "zset"),
            (keys.captures(), "zset"),
            (keys.ranks(), "hash"),
            (experiments("p:q"), "zset"),
            (keys.worker("w:1"), "hash"),
            (keys.capture("c"), "hash"),
            (shard.stream(), "stream"),
            (shard.aside(), "stream"),
            (shard.book(), "hash"),
            (shard.producers(), "hash"),
            (shard.outcomes(), "hash"),
            (shard.causes(), "hash"),
            (shard.examples(), "hash"),
            (shard.owner(), "string"),
            (shard.part("p", 1, 2), "string"),
        ] {
            assert_eq!(ValueType::of(&key).map(ValueType::name), Some(expected), "{key}");
        }
        assert_eq!(ValueType::of("somebody's:stream"), None);
    }
}
