//! Names what the parts of the pipeline counted.
//!
//! Keeps no value: each scrape reads the counts as they are.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeExemplarValue, EncodeGaugeValue, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::table::{self, Descriptor};
use super::{
    CaptureCounts, ExperimentStatus, Status, TeeCounts, ThrottleCounts, pause as pauses, queue, redact,
    replay,
};
use crate::capture::{SourceCounts, drop_reasons};
use crate::http::{Foreign, HttpTally, Upgraded};
use crate::model::Unused;
use crate::stream::StreamTally;

/// Exports a [`Status`].
#[derive(Debug)]
pub(super) struct StatusCollector(pub(super) Arc<Status>);

/// The values of a metric's labels, in their order, with the value of the series.
pub(super) type Rows<'a, V> = Vec<(Vec<&'a str>, V)>;

/// Exports a counter or a gauge with one series for each row.
pub(super) fn export<V>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Descriptor,
    rows: &[(Vec<&str>, V)],
) -> fmt::Result
where
    V: EncodeCounterValue + EncodeGaugeValue + EncodeExemplarValue,
{
    let Descriptor { name, kind, labels, help } = metric;
    let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
    for (values, value) in rows {
        debug_assert_eq!(values.len(), labels.len(), "{name}");
        if labels.is_empty() {
            encode_value(&mut family, *kind, value)?;
        } else {
            let set: Vec<(&str, &str)> =
                labels.iter().map(|label| label.name).zip(values.iter().copied()).collect();
            encode_value(&mut family.encode_family(&set)?, *kind, value)?;
        }
    }
    Ok(())
}

/// Exports the only series of a metric without labels.
pub(super) fn one<V>(encoder: &mut DescriptorEncoder<'_>, metric: &Descriptor, value: V) -> fmt::Result
where
    V: EncodeCounterValue + EncodeGaugeValue + EncodeExemplarValue,
{
    export(encoder, metric, &[(Vec::new(), value)])
}

/// Rows of a metric with one label, of which these are the values.
pub(super) fn by_label<const N: usize>(
    labels: [&'static str; N],
    counts: &[AtomicU64; N],
) -> Rows<'static, u64> {
    labels
        .into_iter()
        .zip(counts)
        .map(|(label, count)| (vec![label], count.load(Ordering::Relaxed)))
        .collect()
}

fn encode_value<V>(series: &mut MetricEncoder<'_>, kind: MetricType, value: &V) -> fmt::Result
where
    V: EncodeCounterValue + EncodeGaugeValue + EncodeExemplarValue,
{
    if matches!(kind, MetricType::Counter) {
        series.encode_counter(value, None::<&Exemplar<Vec<(&str, &str)>, V>>)
    } else {
        series.encode_gauge(value)
    }
}

// === impl StatusCollector ===

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Status { capture, experiments, queue, pause, redact, regressions } = &*self.0;
        let encoder = &mut encoder;
        pauses::encode(encoder, pause)?;
        if let Some(capture) = capture {
            let counts = capture.borrow().clone();
            encode_capture(encoder, &counts)?;
        }
        encode_experiments(encoder, experiments)?;
        replay::encode(encoder, experiments)?;
        if let Some(regressions) = regressions {
            replay::encode_regressions(encoder, regressions)?;
        }
        if let Some(redact) = redact {
            redact::encode(encoder, redact)?;
        }
        queue.as_deref().map_or(Ok(()), |queue| queue::encode(encoder, queue))
    }
}

fn encode_capture(encoder: &mut DescriptorEncoder<'_>, counts: &CaptureCounts) -> fmt::Result {
    let CaptureCounts { source, tee, throttle, playback: _ } = counts;
    let TeeCounts { used, unused, packet: _, stream, http, flows, waiting_bytes, kept_bytes } = tee;
    encode_source(encoder, source)?;
    one(encoder, &table::CAPTURE_USED, *used)?;
    export(encoder, &table::CAPTURE_UNUSED, &by_count(Unused::ALL.map(Unused::label), unused))?;
    encode_throttle(encoder, throttle)?;
    one(encoder, &table::FLOWS_ACTIVE, *flows as u64)?;
    one(encoder, &table::REASSEMBLY_BUFFER, *waiting_bytes as u64)?;
    one(encoder, &table::HTTP_BUFFER, *kept_bytes as u64)?;
    encode_stream(encoder, stream)?;
    encode_http(encoder, http)
}

fn encode_source(encoder: &mut DescriptorEncoder<'_>, source: &SourceCounts) -> fmt::Result {
    let SourceCounts { seen, wanted, captured, captured_bytes, drops: _, file: _ } = source;
    one(encoder, &table::CAPTURE_SEEN, *seen)?;
    one(encoder, &table::CAPTURE_WANTED, *wanted)?;
    one(encoder, &table::CAPTURE_CAPTURED, *captured)?;
    one(encoder, &table::CAPTURE_BYTES, *captured_bytes)?;
    // Before the first packet a source has not said which reasons it counts.
    let drops: Rows<'_, u64> =
        drop_reasons().into_iter().map(|reason| (vec![reason], source.dropped(reason))).collect();
    export(encoder, &table::CAPTURE_DROPS, &drops)
}

fn encode_throttle(encoder: &mut DescriptorEncoder<'_>, throttle: &ThrottleCounts) -> fmt::Result {
    let ThrottleCounts {
        flow_sample,
        flow_sample_max,
        for_cpu,
        for_loss,
        for_ring,
        for_pressure,
        for_memory,
        pauses: _,
        paused: _,
    } = throttle;
    one(encoder, &table::CAPTURE_FLOW_RATIO, flow_sample.fraction())?;
    one(encoder, &table::CAPTURE_FLOW_RATIO_MAX, flow_sample_max.fraction())?;
    let counts = [*for_cpu, *for_loss, *for_ring, *for_pressure, *for_memory];
    export(encoder, &table::CAPTURE_THROTTLED, &by_count(table::THROTTLE_REASONS, &counts))
}

fn encode_stream(encoder: &mut DescriptorEncoder<'_>, tally: &StreamTally) -> fmt::Result {
    let StreamTally {
        flows,
        flows_mid_stream,
        flows_evicted,
        flows_idle,
        flows_left_out,
        flows_undecided,
        flows_divided,
        syns_contested,
        bytes,
        repeated_bytes,
        conflicts,
        bad_checksums,
        out_of_window,
        gaps,
        gap_bytes,
        gaps_at_bound,
        gaps_at_timeout,
        gaps_at_end,
    } = tally;
    let counts = [
        (&table::FLOWS, flows),
        (&table::FLOWS_MID_STREAM, flows_mid_stream),
        (&table::FLOWS_EVICTED, flows_evicted),
        (&table::FLOWS_IDLE, flows_idle),
        (&table::FLOWS_LEFT_OUT, flows_left_out),
        (&table::FLOWS_UNDECIDED, flows_undecided),
        (&table::FLOWS_DIVIDED, flows_divided),
        (&table::FLOWS_SYNS_CONTESTED, syns_contested),
        (&table::REASSEMBLY_BYTES, bytes),
        (&table::REASSEMBLY_REPEATED, repeated_bytes),
        (&table::REASSEMBLY_CONFLICTS, conflicts),
        (&table::REASSEMBLY_BAD_CHECKSUMS, bad_checksums),
        (&table::REASSEMBLY_OUT_OF_WINDOW, out_of_window),
        (&table::REASSEMBLY_GAP_BYTES, gap_bytes),
    ];
    counts.into_iter().try_for_each(|(metric, count)| one(encoder, metric, *count))?;
    let others = gaps_at_bound.saturating_add(*gaps_at_timeout).saturating_add(*gaps_at_end);
    let causes = [gaps.saturating_sub(others), *gaps_at_bound, *gaps_at_timeout, *gaps_at_end];
    export(encoder, &table::REASSEMBLY_GAPS, &by_count(table::GAP_CAUSES, &causes))
}

fn encode_http(encoder: &mut DescriptorEncoder<'_>, tally: &HttpTally) -> fmt::Result {
    let HttpTally {
        requests,
        responses,
        interim,
        exchanges,
        orphans,
        malformed_heads,
        oversize_heads,
        boundaries_lost,
        bodies_cut,
        flows_not_http: _,
        flows_not_http_by_kind,
        flows_upgraded: _,
        flows_upgraded_by_kind,
        exchanges_at_bound,
    } = tally;
    let counts = [
        (&table::HTTP_REQUESTS, requests),
        (&table::HTTP_RESPONSES, responses),
        (&table::HTTP_INTERIM, interim),
        (&table::HTTP_EXCHANGES, exchanges),
        (&table::HTTP_ORPHANS, orphans),
        (&table::HTTP_MALFORMED, malformed_heads),
        (&table::HTTP_OVERSIZE, oversize_heads),
        (&table::HTTP_BOUNDARIES_LOST, boundaries_lost),
        (&table::HTTP_BODIES_CUT, bodies_cut),
        (&table::HTTP_AT_BOUND, exchanges_at_bound),
    ];
    counts.into_iter().try_for_each(|(metric, count)| one(encoder, metric, *count))?;
    let foreign = by_count(Foreign::ALL.map(Foreign::label), flows_not_http_by_kind);
    export(encoder, &table::HTTP_NOT_HTTP, &foreign)?;
    let upgraded = by_count(Upgraded::ALL.map(Upgraded::label), flows_upgraded_by_kind);
    export(encoder, &table::HTTP_UPGRADED, &upgraded)
}

/// Rows of a metric with one label, of which these are the values.
fn by_count<const N: usize>(labels: [&'static str; N], counts: &[u64; N]) -> Rows<'static, u64> {
    labels.into_iter().zip(counts).map(|(label, count)| (vec![label], *count)).collect()
}

fn encode_experiments(encoder: &mut DescriptorEncoder<'_>, experiments: &[ExperimentStatus]) -> fmt::Result {
    let snapshots: Vec<_> =
        experiments.iter().map(|experiment| (&*experiment.name, experiment.ledger.snapshot())).collect();
    let seen: Rows<'_, u64> = snapshots.iter().map(|(name, ledger)| (vec![*name], ledger.seen)).collect();
    export(encoder, &table::EXCHANGES_SEEN, &seen)?;
    let in_flight: Rows<'_, u64> =
        snapshots.iter().map(|(name, ledger)| (vec![*name], ledger.in_flight)).collect();
    export(encoder, &table::EXCHANGES_IN_FLIGHT, &in_flight)?;
    let fates: Rows<'_, u64> = snapshots
        .iter()
        .flat_map(|(name, ledger)| {
            ledger.fates.iter().map(|(fate, count)| (vec![*name, fate.label()], *count))
        })
        .collect();
    export(encoder, &table::EXCHANGES, &fates)
}
