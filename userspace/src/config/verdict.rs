//! The check of `[experiment.verdict]`.
//!
//! Has no words of its own: the policy of `report` is what the file says.

use toml::Spanned;

use super::error::Fault;
use crate::report::VerdictPolicy;

/// A policy that can be met and can be missed.
pub(super) fn verdict(policy: Spanned<VerdictPolicy>) -> Result<VerdictPolicy, Fault> {
    let VerdictPolicy {
        comparisons_min: _,
        route_comparisons_min: _,
        mismatch_share_max,
        mismatch_share_unseen_max,
        confidence,
        incomparable_share_max,
        latency_judged: _,
        latency_ratio_max,
        latency_extra_ms_max,
        latency_tail_ratio_max,
        latency_pairs_min: _,
        latency_warm_up_pairs: _,
        latency_confidence,
    } = *policy.get_ref();
    let shares = 0.0..=1.0;
    let is_ratio = |ratio: f64| ratio.is_finite() && ratio > 0.0;
    let faults = [
        ("mismatch_share_max", shares.contains(&mismatch_share_max), "must be from 0 to 1"),
        (
            "mismatch_share_unseen_max",
            mismatch_share_unseen_max > 0.0 && mismatch_share_unseen_max <= 1.0,
            "must be above 0, and 1 at most",
        ),
        ("confidence", confidence > 0.0 && confidence < 1.0, "must lie between 0 and 1, such as 0.95"),
        ("incomparable_share_max", shares.contains(&incomparable_share_max), "must be from 0 to 1"),
        ("latency_ratio_max", is_ratio(latency_ratio_max), "must be above 0"),
        ("latency_tail_ratio_max", is_ratio(latency_tail_ratio_max), "must be above 0"),
        ("latency_extra_ms_max", latency_extra_ms_max.is_finite(), "must be a number of milliseconds"),
        (
            "latency_confidence",
            latency_confidence > 0.0 && latency_confidence < 1.0,
            "must lie between 0 and 1, such as 0.99",
        ),
    ];
    match faults.into_iter().find(|(_, is_good, _)| !is_good) {
        Some((key, _, problem)) => Err(Fault {
            key: format!("experiment.verdict.{key}"),
            span: policy.span(),
            problem: problem.to_owned(),
        }),
        None => Ok(policy.into_inner()),
    }
}
