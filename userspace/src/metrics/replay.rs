//! Exports what replays did, and what the evidence says of candidates.
//!
//! Counts nothing itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};

use super::collect::{Rows, export};
use super::table::{self, Descriptor};
use super::{CredentialResult, ExperimentStatus, ExternalFailure, RegressionSource, ReplayStats};
use crate::model::{BranchFailure, Regression};

/// A metric, and its value.
type Count = (&'static Descriptor, fn(&ReplayStats) -> u64);
type Replays<'a> = Vec<(&'a str, &'a ReplayStats)>;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, experiments: &[ExperimentStatus]) -> fmt::Result {
    let replays: Replays<'_> = experiments
        .iter()
        .filter_map(|experiment| Some((&*experiment.name, experiment.replay.as_deref()?)))
        .collect();
    if replays.is_empty() {
        return Ok(());
    }
    let counts: [Count; 10] = [
        (&table::REPLAY_REQUESTS, |replay| replay.sent.load(Ordering::Relaxed)),
        (&table::REPLAY_INEXPRESSIBLE, |replay| replay.not_sent.load(Ordering::Relaxed)),
        (&table::REPLAY_AGAIN, |replay| replay.again_sent.load(Ordering::Relaxed)),
        (&table::REPLAY_AGAIN_DROPPED, |replay| replay.again_dropped.load(Ordering::Relaxed)),
        (&table::REPLAY_TWIN_FAILURES, |replay| replay.twin_failures.load(Ordering::Relaxed)),
        (&table::REPLAY_IN_FLIGHT, |replay| replay.in_flight.load(Ordering::Relaxed)),
        (&table::REPLAY_WAITING, |replay| replay.waiting.load(Ordering::Relaxed)),
        (&table::BREAKER_OPEN, |replay| u64::from(replay.breaker_open.load(Ordering::Relaxed))),
        (&table::COMPARATOR_ANSWERS, |replay| replay.external.answers.load(Ordering::Relaxed)),
        (&table::COMPARATOR_RESTARTS, |replay| replay.external.restarts.load(Ordering::Relaxed)),
    ];
    for (metric, value) in counts {
        let rows: Rows<'_, u64> = replays.iter().map(|(name, replay)| (vec![*name], value(replay))).collect();
        export(encoder, metric, &rows)?;
    }
    let late = |replay: &ReplayStats| replay.late_us.load(Ordering::Relaxed) as f64 / 1e6;
    let late: Rows<'_, f64> = replays.iter().map(|(name, replay)| (vec![*name], late(replay))).collect();
    export(encoder, &table::REPLAY_LATE, &late)?;
    by_reason(
        encoder,
        &table::REPLAY_FAILURES,
        &replays,
        BranchFailure::ALL.map(BranchFailure::label),
        |replay| &replay.failures,
    )?;
    by_reason(
        encoder,
        &table::COMPARATOR_FAILURES,
        &replays,
        ExternalFailure::ALL.map(ExternalFailure::label),
        |replay| &replay.external.failures,
    )?;
    by_reason(
        encoder,
        &table::REPLAY_CREDENTIALS,
        &replays,
        CredentialResult::ALL.map(CredentialResult::label),
        |replay| &replay.credentials,
    )?;
    let Descriptor { name, kind, labels: _, help } = table::REPLAY_DELAY;
    let mut delays = encoder.encode_descriptor(name, help, None, kind)?;
    replays
        .iter()
        .try_for_each(|(name, replay)| replay.delay.0.encode(delays.encode_family(&[("experiment", *name)])?))
}

fn by_reason<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Descriptor,
    replays: &Replays<'_>,
    labels: [&'static str; N],
    counts: fn(&ReplayStats) -> &[AtomicU64; N],
) -> fmt::Result {
    let rows: Rows<'_, u64> = replays
        .iter()
        .flat_map(|(name, replay)| {
            let of_label = labels.into_iter().zip(counts(replay));
            of_label.map(|(label, count)| (vec![*name, label], count.load(Ordering::Relaxed)))
        })
        .collect();
    export(encoder, metric, &rows)
}

pub(super) fn encode_regressions(
    encoder: &mut DescriptorEncoder<'_>,
    regressions: &RegressionSource,
) -> fmt::Result {
    let all = (regressions.0)();
    let detected: Rows<'_, u64> = all.iter().map(|one| (labels(one), u64::from(one.detected))).collect();
    export(encoder, &table::REGRESSION_DETECTED, &detected)?;
    let evalues: Rows<'_, f64> = all.iter().map(|one| (labels(one), one.evalue)).collect();
    export(encoder, &table::REGRESSION_EVALUE, &evalues)
}

fn labels(regression: &Regression) -> Vec<&str> {
    let Regression { experiment, route, kind, detected: _, evalue: _ } = regression;
    vec![experiment, route, kind.label()]
}
