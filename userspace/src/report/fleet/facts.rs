//! What a report says about the hosts of an experiment, as plain data.
//!
//! Formats nothing. Part of the JSON form of a report, under the same promise as `report::facts`.

use serde::Serialize;

use super::super::facts::Count;

/// The hosts that worked on one experiment, and what became of every exchange between them.
#[derive(Clone, Debug, Serialize)]
pub struct FleetReport {
    /// Shards of the queue.
    pub shards: usize,
    /// Processes that captured.
    pub captures: Vec<MemberReport>,
    /// Processes that replayed.
    pub workers: Vec<MemberReport>,
    /// What Redis counted.
    pub book: BookReport,
    /// Exchanges that captures counted and of which nobody says what became of them: their process is not heard of any
    /// more. Lost where it died; in its spool where it is cut off. Stands among the fates, too.
    pub unheard: u64,
    /// Entries that Redis took and that captures have not reported yet; they do so once a second.
    pub ahead: u64,
    /// Packets that probes dropped, by reason.
    pub packets_dropped: Vec<Count>,
    /// Routes whose times the worker with the most of them could not tell: they take too much room.
    pub latency_omitted: u64,
}

/// One process on one host.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReport {
    /// Its name, new at each start.
    pub id: String,
    /// The host.
    pub host: String,
    /// Version of understudy.
    pub version: String,
    /// RFC 3339, UTC; by its own clock.
    pub started_at: Option<String>,
    /// `live`, `ended`, or `silent`: not heard of, and it did not say that it would end.
    pub state: &'static str,
    /// Seconds since it was last heard of, by the clock of Redis.
    pub heard_of_seconds: Option<u64>,
    /// Exchanges that came in.
    pub seen: u64,
    /// Exchanges without a fate when it was last heard of.
    pub in_flight: u64,
    /// Exchanges by how they left it; only those that there were.
    pub fates: Vec<Count>,
    /// Entries taken over from the spool of an earlier process.
    pub recovered: u64,
    /// Entries of that spool that nobody gets, by how they left it; only those that there were. They stand among the fates of
    /// the experiment.
    pub given_up: Vec<Count>,
    /// It is live, and stands still because an operator or the time table said so.
    pub paused: bool,
    /// Seconds that all its pauses took.
    pub paused_seconds: u64,
}

/// The counts that Redis keeps: `accepted = waiting + trimmed + set_aside + Σ fates`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BookReport {
    /// Entries that Redis took.
    pub accepted: u64,
    /// Bytes of them.
    pub accepted_bytes: u64,
    /// Entries without a fate.
    pub waiting: u64,
    /// Those of them that were delivered to a worker.
    pub delivered: u64,
    /// Bytes of the entries without a fate.
    pub waiting_bytes: u64,
    /// Entries by what came of them.
    pub fates: Vec<Count>,
    /// Entries that had to go before they were read, since Redis was not to be filled.
    pub trimmed: u64,
    /// Entries that no worker could do.
    pub set_aside: u64,
    /// Entries that Redis had confirmed and then lost: it was restarted without them, or failed over.
    pub forgotten: u64,
    /// Entries that a capture sent twice and that were taken once.
    pub duplicates: u64,
    /// Entries that no capture has sent.
    pub foreign: u64,
}
