//! What the way into the queue between hosts, and out of it, counted.
//!
//! Counts nothing itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;

use super::collect::{Rows, by_label, export, one};
use super::table::{self, Descriptor};
use crate::model::Fate;
use crate::queue::redis::{QueueStats, RedisError, RedisErrorKind};

/// What can be exported of a queue between hosts.
#[derive(Debug, Default)]
pub struct QueueStatus {
    /// Requests to Redis that failed, in the order of [`RedisErrorKind::ALL`].
    pub errors: [AtomicU64; RedisErrorKind::ALL.len()],
    /// True while Redis does its part.
    pub up: AtomicBool,
    /// Each experiment that this process uploads for.
    pub uploads: Vec<(Arc<str>, Arc<UploadStats>)>,
    /// Each experiment that this process works for.
    pub workers: Vec<(Arc<str>, Arc<QueueStats>)>,
    /// The spool; none where nothing is uploaded.
    pub spool: Option<Arc<SpoolStats>>,
}

/// What was uploaded of one experiment.
#[derive(Debug, Default)]
pub struct UploadStats {
    /// Entries that Redis has taken.
    pub entries: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Entries that Redis had already.
    pub duplicates: AtomicU64,
    /// Entries that were trimmed before anybody had done them.
    pub trimmed: AtomicU64,
    /// Entries that Redis had confirmed and lost.
    pub forgotten: AtomicU64,
    /// Entries that an earlier process had left in the spool.
    pub recovered: AtomicU64,
    /// Entries that an earlier process had left there and that no one will get, in the order of [`UploadStats::GIVEN_UP`].
    given_up: [AtomicU64; UploadStats::GIVEN_UP.len()],
    /// Times that sending entries panicked.
    pub panics: AtomicU64,
    /// Bytes on their way now.
    pub in_flight_bytes: AtomicU64,
}

/// What lies in the spool.
#[derive(Debug, Default)]
pub struct SpoolStats {
    /// Entries now.
    pub entries: AtomicU64,
    /// Those of them that an earlier process left. Not exported: the entries that Redis took of them are.
    pub former: AtomicU64,
    /// Bytes on disk now.
    pub bytes: AtomicU64,
    /// Bytes that may be on disk.
    pub bytes_max: AtomicU64,
    /// Entries that could not be read again.
    pub damaged: AtomicU64,
    /// Times that the disk, or the bound, refused something.
    pub failures: AtomicU64,
}

/// A metric, and where its value is.
type Count<S> = (&'static Descriptor, fn(&S) -> &AtomicU64);

// === impl UploadStats ===

impl UploadStats {
    /// What can become of entries of an earlier process besides coming to Redis: they are refused, their sending panics each
    /// time, or the disk does not give them back.
    pub const GIVEN_UP: [Fate; 3] = [Fate::Refused, Fate::Lost, Fate::SpoolFull];

    /// Counts entries of an earlier process that nobody will get. Their tickets went with that process.
    pub fn give_up(&self, fate: Fate, entries: u64) {
        let place = Self::GIVEN_UP.iter().position(|have| *have == fate);
        if let Some(count) = place.and_then(|place| self.given_up.get(place)) {
            count.fetch_add(entries, Ordering::Relaxed);
        }
    }

    /// How many have which fate.
    pub fn given_up(&self) -> impl Iterator<Item = (Fate, u64)> {
        Self::GIVEN_UP
            .into_iter()
            .zip(&self.given_up)
            .map(|(fate, count)| (fate, count.load(Ordering::Relaxed)))
    }
}

// === impl QueueStatus ===

impl QueueStatus {
    /// Counts a request to Redis that failed.
    pub fn count(&self, error: &RedisError) {
        let kind = error.kind();
        let place = RedisErrorKind::ALL.iter().position(|have| *have == kind);
        if let Some(count) = place.and_then(|place| self.errors.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, status: &QueueStatus) -> fmt::Result {
    let QueueStatus { errors, up, uploads, workers, spool } = status;
    one(encoder, &table::QUEUE_UP, u64::from(up.load(Ordering::Relaxed)))?;
    export(encoder, &table::QUEUE_ERRORS, &by_label(RedisErrorKind::ALL.map(RedisErrorKind::label), errors))?;
    if !uploads.is_empty() {
        encode_uploads(encoder, uploads)?;
    }
    if !workers.is_empty() {
        encode_workers(encoder, workers)?;
    }
    let Some(spool) = spool else { return Ok(()) };
    let SpoolStats { entries, former: _, bytes, bytes_max, damaged, failures } = &**spool;
    let all = [
        (&table::SPOOL_ENTRIES, entries),
        (&table::SPOOL_BYTES, bytes),
        (&table::SPOOL_BYTES_MAX, bytes_max),
        (&table::SPOOL_DAMAGED, damaged),
        (&table::SPOOL_FAILURES, failures),
    ];
    all.into_iter().try_for_each(|(metric, value)| one(encoder, metric, value.load(Ordering::Relaxed)))
}

fn encode_uploads(
    encoder: &mut DescriptorEncoder<'_>,
    uploads: &[(Arc<str>, Arc<UploadStats>)],
) -> fmt::Result {
    let all: [Count<UploadStats>; 8] = [
        (&table::QUEUE_ENTRIES, |stats| &stats.entries),
        (&table::QUEUE_BYTES, |stats| &stats.bytes),
        (&table::QUEUE_DUPLICATES, |stats| &stats.duplicates),
        (&table::QUEUE_TRIMMED, |stats| &stats.trimmed),
        (&table::QUEUE_FORGOTTEN, |stats| &stats.forgotten),
        (&table::QUEUE_RECOVERED, |stats| &stats.recovered),
        (&table::QUEUE_PANICS, |stats| &stats.panics),
        (&table::QUEUE_IN_FLIGHT, |stats| &stats.in_flight_bytes),
    ];
    all.into_iter().try_for_each(|(metric, value)| by_experiment(encoder, metric, uploads, value))?;
    let given_up = |(experiment, stats): &'_ (Arc<str>, Arc<UploadStats>)| {
        let experiment = Arc::clone(experiment);
        stats.given_up().map(move |(fate, count)| (Arc::clone(&experiment), fate, count)).collect::<Vec<_>>()
    };
    let given_up: Vec<_> = uploads.iter().flat_map(given_up).collect();
    let rows: Rows<'_, u64> = given_up
        .iter()
        .map(|(experiment, fate, count)| (vec![&**experiment, fate.label()], *count))
        .collect();
    export(encoder, &table::QUEUE_GIVEN_UP, &rows)
}

fn encode_workers(
    encoder: &mut DescriptorEncoder<'_>,
    workers: &[(Arc<str>, Arc<QueueStats>)],
) -> fmt::Result {
    let all: [Count<QueueStats>; 13] = [
        (&table::QUEUE_READ_ENTRIES, |stats| &stats.entries),
        (&table::QUEUE_READ_BYTES, |stats| &stats.entry_bytes),
        (&table::QUEUE_TAKEN_OVER, |stats| &stats.taken_over),
        (&table::QUEUE_HANDED_BACK, |stats| &stats.handed_back),
        (&table::QUEUE_NEWER, |stats| &stats.newer),
        (&table::QUEUE_SETTLED, |stats| &stats.settled),
        (&table::QUEUE_SETTLED_BEFORE, |stats| &stats.settled_before),
        (&table::QUEUE_REFUSED, |stats| &stats.refused),
        (&table::QUEUE_HELD, |stats| &stats.held),
        (&table::QUEUE_UNSETTLED, |stats| &stats.unsettled),
        (&table::QUEUE_UNDER_WAY, |stats| &stats.under_way),
        (&table::QUEUE_SHARDS, |stats| &stats.shards),
        (&table::QUEUE_WORKERS, |stats| &stats.workers),
    ];
    all.into_iter().try_for_each(|(metric, value)| by_experiment(encoder, metric, workers, value))
}

fn by_experiment<'a, S>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Descriptor,
    all: &'a [(Arc<str>, Arc<S>)],
    value: fn(&S) -> &AtomicU64,
) -> fmt::Result {
    let row = |(experiment, stats): &'a (Arc<str>, Arc<S>)| {
        (vec![&**experiment], value(stats).load(Ordering::Relaxed))
    };
    let rows: Rows<'a, u64> = all.iter().map(row).collect();
    export(encoder, metric, &rows)
}
