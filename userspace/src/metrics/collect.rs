//! Names what the parts of the pipeline counted.
//!
//! Keeps no value: each scrape reads the counts as they are.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::{
    CaptureCounts, CredentialResult, ExperimentStatus, ExternalFailure, Status, TeeCounts, ThrottleCounts,
    queue,
};
use crate::http::{Foreign, HttpTally, Upgraded};
use crate::model::{BranchFailure, Unused};
use crate::stream::StreamTally;

/// Exports a [`Status`].
#[derive(Debug)]
pub(super) struct StatusCollector(pub(super) Arc<Status>);

pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;
pub(super) type Rows<'a> = Vec<(Labels<'a>, u64)>;

/// Exports a counter or a gauge with one series for each row.
pub(super) fn export(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    rows: &Rows<'_>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        if labels.is_empty() {
            encode_value(&mut metric, kind, *value)?;
        } else {
            encode_value(&mut metric.encode_family(labels)?, kind, *value)?;
        }
    }
    Ok(())
}

fn encode_value(series: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    if matches!(kind, MetricType::Counter) {
        series.encode_counter(&value, None::<&Exemplar<Labels<'_>, u64>>)
    } else {
        series.encode_gauge(&value)
    }
}

fn total(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    export(encoder, MetricType::Counter, name, help, &vec![(Vec::new(), value)])
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: usize) -> fmt::Result {
    export(encoder, MetricType::Gauge, name, help, &vec![(Vec::new(), value as u64)])
}

// === impl StatusCollector ===

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Status { capture, experiments, queue } = &*self.0;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        let build = vec![(version, 1)];
        export(&mut encoder, MetricType::Gauge, "build_info", "Version of this program", &build)?;
        if let Some(capture) = capture {
            let counts = capture.borrow().clone();
            encode_capture(&mut encoder, &counts)?;
        }
        if let Some(queue) = queue {
            queue::encode(&mut encoder, queue)?;
        }
        encode_experiments(&mut encoder, experiments)
    }
}

fn encode_capture(encoder: &mut DescriptorEncoder<'_>, counts: &CaptureCounts) -> fmt::Result {
    let CaptureCounts { source, tee, throttle, playback: _ } = counts;
    let TeeCounts { used, unused, packet: _, stream, http, flows, waiting_bytes, kept_bytes } = tee;
    total(encoder, "capture_packets_seen", "Packets that the probe ran for", source.seen)?;
    total(encoder, "capture_packets_wanted", "TCP packets of wanted ports", source.wanted)?;
    total(encoder, "capture_packets_captured", "Packets copied whole to user space", source.captured)?;
    total(encoder, "capture_bytes", "Payload bytes copied to user space", source.captured_bytes)?;
    let drops: Rows<'_> =
        source.drops.iter().map(|(reason, count)| (vec![("reason", *reason)], *count)).collect();
    export(encoder, MetricType::Counter, "capture_drops", "Wanted packets not copied, by reason", &drops)?;
    total(encoder, "capture_packets_used", "Packets of flows that are read", *used)?;
    let unused: Rows<'_> = Unused::ALL
        .into_iter()
        .zip(unused)
        .map(|(reason, count)| (vec![("reason", reason.label())], *count))
        .collect();
    export(
        encoder,
        MetricType::Counter,
        "capture_unused",
        "Copied packets that told nothing, by reason",
        &unused,
    )?;
    encode_throttle(encoder, throttle)?;
    gauge(encoder, "flows_active", "TCP connections known now", *flows)?;
    gauge(encoder, "reassembly_buffer_bytes", "Bytes that wait for earlier ones now", *waiting_bytes)?;
    gauge(
        encoder,
        "http_buffer_bytes",
        "Bytes of heads and bodies that unfinished exchanges keep now",
        *kept_bytes,
    )?;
    encode_stream(encoder, stream)?;
    encode_http(encoder, http)
}

fn encode_throttle(encoder: &mut DescriptorEncoder<'_>, throttle: &ThrottleCounts) -> fmt::Result {
    let ThrottleCounts { flow_sample, for_cpu, for_loss } = throttle;
    let help = "Part of all TCP connections that is copied now";
    encoder
        .encode_descriptor("capture_flow_ratio", help, None, MetricType::Gauge)?
        .encode_gauge(&flow_sample.fraction())?;
    let by_reason = vec![(vec![("reason", "cpu")], *for_cpu), (vec![("reason", "loss")], *for_loss)];
    let help = "Times that fewer TCP connections were copied from then on, by what capture cost too much of";
    export(encoder, MetricType::Counter, "capture_throttled", help, &by_reason)
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
    total(encoder, "flows", "TCP connections opened or joined", *flows)?;
    total(encoder, "flows_mid_stream", "TCP connections joined after their handshake", *flows_mid_stream)?;
    total(encoder, "flows_evicted", "TCP connections dropped because the table was full", *flows_evicted)?;
    total(encoder, "flows_idle", "TCP connections forgotten because they were silent", *flows_idle)?;
    total(encoder, "flows_left_out", "TCP connections given up by a smaller flow sample", *flows_left_out)?;
    total(
        encoder,
        "flows_undecided",
        "TCP connections forgotten because nothing told which end is the server",
        *flows_undecided,
    )?;
    total(
        encoder,
        "flows_divided",
        "TCP connections with the ends of one in another network",
        *flows_divided,
    )?;
    total(encoder, "flows_syns_contested", "SYNs on open connections, unconfirmed", *syns_contested)?;
    total(encoder, "reassembly_bytes", "Bytes put in order", *bytes)?;
    total(encoder, "reassembly_repeated_bytes", "Bytes that came again", *repeated_bytes)?;
    total(encoder, "reassembly_conflicts", "Overlaps with other contents", *conflicts)?;
    total(encoder, "reassembly_bad_checksums", "Segments damaged on their way", *bad_checksums)?;
    total(encoder, "reassembly_out_of_window", "Segments far from what was expected", *out_of_window)?;
    let others = gaps_at_bound.saturating_add(*gaps_at_timeout).saturating_add(*gaps_at_end);
    let by_cause = vec![
        (vec![("cause", "acknowledged")], gaps.saturating_sub(others)),
        (vec![("cause", "bound")], *gaps_at_bound),
        (vec![("cause", "timeout")], *gaps_at_timeout),
        (vec![("cause", "over")], *gaps_at_end),
    ];
    export(encoder, MetricType::Counter, "reassembly_gaps", "Gaps, by how they became certain", &by_cause)?;
    total(encoder, "reassembly_gap_bytes", "Bytes that existed and were not seen", *gap_bytes)
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
    total(encoder, "http_requests", "Request heads read", *requests)?;
    total(encoder, "http_responses", "Final response heads read", *responses)?;
    total(encoder, "http_interim_responses", "1xx responses read", *interim)?;
    total(encoder, "http_exchanges", "Exchanges read, whole or not", *exchanges)?;
    total(encoder, "http_orphan_responses", "Responses to no request that was seen", *orphans)?;
    total(encoder, "http_malformed_heads", "Heads that cannot be read", *malformed_heads)?;
    total(encoder, "http_oversize_heads", "Heads beyond the limit", *oversize_heads)?;
    total(encoder, "http_boundaries_lost", "Times that the next message was searched for", *boundaries_lost)?;
    total(encoder, "http_bodies_cut", "Bodies of which only length and hash were kept", *bodies_cut)?;
    let by_kind = |labels: &[&'static str], counts: &[u64]| -> Rows<'_> {
        labels.iter().zip(counts).map(|(kind, count)| (vec![("kind", *kind)], *count)).collect()
    };
    let foreign = by_kind(&Foreign::ALL.map(Foreign::label), flows_not_http_by_kind);
    export(
        encoder,
        MetricType::Counter,
        "http_flows_not_http",
        "Connections that are not HTTP/1.x, by what they speak",
        &foreign,
    )?;
    let upgraded = by_kind(&Upgraded::ALL.map(Upgraded::label), flows_upgraded_by_kind);
    export(
        encoder,
        MetricType::Counter,
        "http_flows_upgraded",
        "Connections that left HTTP/1.x, by where they went",
        &upgraded,
    )?;
    total(
        encoder,
        "http_exchanges_at_bound",
        "Exchanges handed on incomplete because a bound was reached",
        *exchanges_at_bound,
    )
}

fn encode_experiments(encoder: &mut DescriptorEncoder<'_>, experiments: &[ExperimentStatus]) -> fmt::Result {
    let snapshots: Vec<_> =
        experiments.iter().map(|experiment| (&*experiment.name, experiment.ledger.snapshot())).collect();
    let seen: Rows<'_> =
        snapshots.iter().map(|(name, ledger)| (vec![("experiment", *name)], ledger.seen)).collect();
    export(encoder, MetricType::Counter, "exchanges_seen", "Exchanges that came in", &seen)?;
    let in_flight: Rows<'_> =
        snapshots.iter().map(|(name, ledger)| (vec![("experiment", *name)], ledger.in_flight)).collect();
    export(encoder, MetricType::Gauge, "exchanges_in_flight", "Exchanges without a fate now", &in_flight)?;
    let fates: Rows<'_> = snapshots
        .iter()
        .flat_map(|(name, ledger)| {
            ledger
                .fates
                .iter()
                .map(|(fate, count)| (vec![("experiment", *name), ("fate", fate.label())], *count))
        })
        .collect();
    export(encoder, MetricType::Counter, "exchanges", "Exchanges by how they left the pipeline", &fates)?;
    encode_replays(encoder, experiments)
}

fn encode_replays(encoder: &mut DescriptorEncoder<'_>, experiments: &[ExperimentStatus]) -> fmt::Result {
    let replays: Vec<_> = experiments
        .iter()
        .filter_map(|experiment| experiment.replay.as_deref().map(|replay| (&*experiment.name, replay)))
        .collect();
    if replays.is_empty() {
        return Ok(());
    }
    let rows = |value: fn(&super::ReplayStats) -> u64| -> Rows<'_> {
        replays.iter().map(|(name, replay)| (vec![("experiment", *name)], value(replay))).collect()
    };
    let counter = MetricType::Counter;
    let sent = rows(|replay| replay.sent.load(Ordering::Relaxed));
    export(encoder, counter, "replay_requests", "Requests sent to the candidate", &sent)?;
    let not_sent = rows(|replay| replay.not_sent.load(Ordering::Relaxed));
    export(encoder, counter, "replay_inexpressible", "Requests that cannot be sent as they were", &not_sent)?;
    let late = rows(|replay| replay.late_us.load(Ordering::Relaxed));
    export(
        encoder,
        counter,
        "replay_late_microseconds",
        "Time that requests were later than intended",
        &late,
    )?;
    let failures: Rows<'_> = replays
        .iter()
        .flat_map(|(name, replay)| {
            BranchFailure::ALL.into_iter().zip(&replay.failures).map(|(failure, count)| {
                (vec![("experiment", *name), ("reason", failure.label())], count.load(Ordering::Relaxed))
            })
        })
        .collect();
    export(encoder, counter, "replay_failures", "Requests that the candidate did not answer", &failures)?;
    let again = rows(|replay| replay.again_sent.load(Ordering::Relaxed));
    export(encoder, counter, "replay_again", "Requests sent to the candidate a second time", &again)?;
    let dropped = rows(|replay| replay.again_dropped.load(Ordering::Relaxed));
    export(
        encoder,
        counter,
        "replay_again_dropped",
        "Requests that were to be sent a second time and were not",
        &dropped,
    )?;
    let twin = rows(|replay| replay.twin_failures.load(Ordering::Relaxed));
    export(encoder, counter, "replay_twin_failures", "Requests that the twin did not answer", &twin)?;
    let credentials: Rows<'_> = replays
        .iter()
        .flat_map(|(name, replay)| {
            CredentialResult::ALL.into_iter().zip(&replay.credentials).map(|(result, count)| {
                (vec![("experiment", *name), ("result", result.label())], count.load(Ordering::Relaxed))
            })
        })
        .collect();
    let help = "Questions for another credential of the candidate or the twin, by what came of it";
    export(encoder, counter, "replay_credentials", help, &credentials)?;
    let answers = rows(|replay| replay.external.answers.load(Ordering::Relaxed));
    export(encoder, counter, "comparator_answers", "Answers of the external comparator", &answers)?;
    let restarts = rows(|replay| replay.external.restarts.load(Ordering::Relaxed));
    export(
        encoder,
        counter,
        "comparator_restarts",
        "Times that the external comparator was started again",
        &restarts,
    )?;
    let unanswered: Rows<'_> = replays
        .iter()
        .flat_map(|(name, replay)| {
            ExternalFailure::ALL.into_iter().zip(&replay.external.failures).map(|(failure, count)| {
                (vec![("experiment", *name), ("reason", failure.label())], count.load(Ordering::Relaxed))
            })
        })
        .collect();
    let help = "Exchanges about which the external comparator said nothing, by reason";
    export(encoder, counter, "comparator_failures", help, &unanswered)?;
    let gauge = MetricType::Gauge;
    let in_flight = rows(|replay| replay.in_flight.load(Ordering::Relaxed));
    export(encoder, gauge, "replay_in_flight", "Requests under way now", &in_flight)?;
    let waiting = rows(|replay| replay.waiting.load(Ordering::Relaxed));
    export(encoder, gauge, "replay_waiting", "Exchanges that wait for their time or for room", &waiting)?;
    let open = rows(|replay| u64::from(replay.breaker_open.load(Ordering::Relaxed)));
    export(
        encoder,
        gauge,
        "breaker_open",
        "1 while the candidate is not asked because it failed too often",
        &open,
    )
}
