//! All that a store between hosts holds about one experiment, as it was read.
//!
//! Understands none of it: what stands in a field is for `report` to read.

use std::collections::BTreeMap;

use super::Timestamp;

/// One experiment.
#[derive(Clone, Debug, Default)]
pub struct FleetCopy {
    /// Its name.
    pub experiment: String,
    /// When it was read, by the store's clock.
    pub read_at: Timestamp,
    /// What whoever was first has written down about it.
    pub settings: BTreeMap<String, String>,
    /// Its shards, by number.
    pub shards: Vec<ShardCopy>,
    /// Hosts that replay.
    pub workers: Vec<MemberCopy>,
    /// Hosts that capture.
    pub captures: Vec<MemberCopy>,
    /// The order in which workers came to know paths: route, U+001F, path; from 1.
    pub ranks: BTreeMap<String, usize>,
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub struct ShardCopy {
    /// Entries without a fate.
    pub waiting: u64,
    /// Those that were delivered to a worker.
    pub delivered: u64,
    /// Entries that stand aside, of those that are kept.
    pub aside: u64,
    /// Counters by name.
    pub book: BTreeMap<String, u64>,
    /// Comparisons: route, U+001F, outcome, U+001F, reason.
    pub outcomes: BTreeMap<String, u64>,
    /// Causes as JSON: route, U+001F, the cause's id.
    pub causes: BTreeMap<String, String>,
    /// Examples as JSON, by the same names.
    pub examples: BTreeMap<String, Vec<u8>>,
}

/// One process on one host.
#[derive(Clone, Debug, Default)]
pub struct MemberCopy {
    /// Its name, new at each start.
    pub id: String,
    /// When it was last heard of, by the store's clock; none when that is forgotten.
    pub heard_of: Option<Timestamp>,
    /// What it has published.
    pub fields: BTreeMap<String, Vec<u8>>,
}

/// An entry that no worker could do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsideEntry {
    /// The shard.
    pub shard: u16,
    /// When it was set aside, by the store's clock.
    pub at: Timestamp,
    /// Its fields, as they were in the queue, with why it stands aside.
    pub fields: BTreeMap<String, Vec<u8>>,
}
