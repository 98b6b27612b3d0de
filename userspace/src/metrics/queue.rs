//! What the way into the queue between hosts, and out of it, counted.
//!
//! Counts nothing itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::collect::{Rows, export};
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
    /// Entries that could not be read again.
    pub damaged: AtomicU64,
    /// Times that the disk, or the bound, refused something.
    pub failures: AtomicU64,
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
    let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
    let up = vec![(Vec::new(), u64::from(up.load(Ordering::Relaxed)))];
    export(encoder, gauge, "queue_up", "1 while Redis does its part", &up)?;
    let kinds = RedisErrorKind::ALL.into_iter().zip(errors);
    let errors: Rows<'_> =
        kinds.map(|(kind, count)| (vec![("kind", kind.label())], count.load(Ordering::Relaxed))).collect();
    export(encoder, counter, "queue_errors", "Requests to Redis that failed, by what went wrong", &errors)?;
    if !uploads.is_empty() {
        encode_uploads(encoder, uploads)?;
    }
    if !workers.is_empty() {
        encode_workers(encoder, workers)?;
    }
    let Some(spool) = spool else { return Ok(()) };
    let SpoolStats { entries, former: _, bytes, damaged, failures } = &**spool;
    let all = [
        (gauge, "spool_entries", "Entries that wait on disk for Redis", entries),
        (gauge, "spool_bytes", "Bytes of the spool on disk", bytes),
        (counter, "spool_damaged", "Entries in the spool that could not be read again", damaged),
        (
            counter,
            "spool_failures",
            "Times that the spool took or gave nothing: full, or the disk failed",
            failures,
        ),
    ];
    all.into_iter().try_for_each(|(kind, name, help, value)| {
        export(encoder, kind, name, help, &vec![(Vec::new(), value.load(Ordering::Relaxed))])
    })
}

fn encode_uploads(
    encoder: &mut DescriptorEncoder<'_>,
    uploads: &[(Arc<str>, Arc<UploadStats>)],
) -> fmt::Result {
    type Value = fn(&UploadStats) -> &AtomicU64;
    let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
    let all: [(MetricType, &str, &str, Value); 8] = [
        (counter, "queue_entries", "Entries that Redis has taken", |stats| &stats.entries),
        (counter, "queue_bytes", "Bytes of the entries that Redis has taken", |stats| &stats.bytes),
        (counter, "queue_duplicates", "Entries sent again that Redis had already", |stats| &stats.duplicates),
        (counter, "queue_trimmed", "Entries trimmed in Redis before anybody had done them", |stats| {
            &stats.trimmed
        }),
        (counter, "queue_forgotten", "Entries that Redis had confirmed and lost", |stats| &stats.forgotten),
        (counter, "queue_recovered", "Entries of an earlier process, from the spool", |stats| {
            &stats.recovered
        }),
        (counter, "queue_panics", "Times that sending entries to Redis panicked: a defect", |stats| {
            &stats.panics
        }),
        (gauge, "queue_in_flight_bytes", "Bytes on their way to Redis now", |stats| &stats.in_flight_bytes),
    ];
    all.into_iter().try_for_each(|(kind, name, help, value)| {
        let rows: Rows<'_> = uploads
            .iter()
            .map(|(experiment, stats)| {
                (vec![("experiment", &**experiment)], value(stats).load(Ordering::Relaxed))
            })
            .collect();
        export(encoder, kind, name, help, &rows)
    })
}

fn encode_workers(
    encoder: &mut DescriptorEncoder<'_>,
    workers: &[(Arc<str>, Arc<QueueStats>)],
) -> fmt::Result {
    type Value = fn(&QueueStats) -> &AtomicU64;
    let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
    let all: [(MetricType, &str, &str, Value); 11] = [
        (counter, "queue_read_entries", "Entries that Redis has handed over", |stats| &stats.entries),
        (counter, "queue_read_bytes", "Bytes of the entries that Redis has handed over", |stats| {
            &stats.entry_bytes
        }),
        (counter, "queue_taken_over", "Entries taken over from other workers", |stats| &stats.taken_over),
        (counter, "queue_handed_back", "Entries given back to other workers", |stats| &stats.handed_back),
        (counter, "queue_newer", "Entries left for workers of a newer version", |stats| &stats.newer),
        (counter, "queue_settled", "Settlements that Redis has counted", |stats| &stats.settled),
        (counter, "queue_settled_before", "Settlements of entries that somebody had settled", |stats| {
            &stats.settled_before
        }),
        (gauge, "queue_unsettled", "Entries that are done and not confirmed by Redis now", |stats| {
            &stats.unsettled
        }),
        (gauge, "queue_under_way", "Entries that this worker has now", |stats| &stats.under_way),
        (gauge, "queue_shards", "Shards that this worker owns now", |stats| &stats.shards),
        (gauge, "queue_workers", "Workers there now, as this one sees it", |stats| &stats.workers),
    ];
    all.into_iter().try_for_each(|(kind, name, help, value)| {
        let rows: Rows<'_> = workers
            .iter()
            .map(|(experiment, stats)| {
                (vec![("experiment", &**experiment)], value(stats).load(Ordering::Relaxed))
            })
            .collect();
        export(encoder, kind, name, help, &rows)
    })
}
