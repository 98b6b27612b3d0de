//! PASS, FAIL or NOT ENOUGH DATA, by a small policy.
//!
//! Gives no verdict without its reason, and never passes what was hardly looked at.

use serde::{Deserialize, Serialize};

use super::words::{counted, percent};
use crate::compare::latency::LatencyPolicy;

/// What an experiment must show. Kept with its run, so that a report needs no configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerdictPolicy {
    /// Comparisons that could be made below which nothing passes. Default 20.
    pub comparisons_min: u64,
    /// Share of mismatches among them that is still allowed, 0 to 1. Default 0.
    pub mismatch_share_max: f64,
    /// Share of incomparable exchanges among all that were replayed above which nothing passes, 0 to 1.
    /// Default 0.1.
    pub incomparable_share_max: f64,
    /// Whether a slower B fails. Where it does not, its times are shown only. Default true; false for a replay at another
    /// speed than A's own, whose times say nothing about B.
    pub latency_judged: bool,
    /// The median of B's time over A's that is still allowed on a route. Default 1.25.
    pub latency_ratio_max: f64,
    /// The median of B's time minus A's in milliseconds that is still allowed on a route. Default 5.
    pub latency_extra_ms_max: f64,
    /// Pairs on a route below which its latency is not judged. Default 30.
    pub latency_pairs_min: usize,
    /// Level of the latency intervals. Default 0.99.
    pub latency_confidence: f64,
}

/// A verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The verdict.
    pub verdict: Conclusion,
    /// One sentence each, at least one.
    pub reasons: Vec<String>,
}

/// The three verdicts, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// B did as A did, on enough exchanges.
    Pass,
    /// Neither can be said.
    NotEnoughData,
    /// B did not do as A did.
    Fail,
}

/// What a verdict is based on.
pub(super) struct Evidence {
    pub(super) matched: u64,
    pub(super) mismatched: u64,
    pub(super) ignored: u64,
    pub(super) incomparable: u64,
    pub(super) causes: usize,
    /// Why the experiment ended before its run.
    pub(super) stopped: Option<String>,
    /// Routes on which B is slower, with the measured words.
    pub(super) slower: Vec<String>,
}

/// A policy that cannot be written down, or read back.
#[derive(Debug, thiserror::Error)]
#[error("the policy is not JSON of this program")]
pub struct PolicyError(#[from] serde_json::Error);

// === impl VerdictPolicy ===

impl Default for VerdictPolicy {
    fn default() -> Self {
        let latency = LatencyPolicy::default();
        Self {
            comparisons_min: 20,
            mismatch_share_max: 0.0,
            incomparable_share_max: 0.1,
            latency_judged: true,
            latency_ratio_max: latency.ratio_max,
            latency_extra_ms_max: latency.extra_ms_max,
            latency_pairs_min: latency.pairs_min,
            latency_confidence: latency.confidence,
        }
    }
}

impl VerdictPolicy {
    /// The form in which the journal keeps it: JSON.
    ///
    /// # Errors
    /// Never for finite numbers; JSON has no others.
    pub fn to_text(&self) -> Result<String, PolicyError> {
        Ok(serde_json::to_string(self)?)
    }

    /// From the form in which the journal keeps it.
    ///
    /// # Errors
    /// When the text is not what [`VerdictPolicy::to_text`] makes.
    pub fn from_text(text: &str) -> Result<Self, PolicyError> {
        Ok(serde_json::from_str(text)?)
    }

    /// The part that judges latency.
    pub fn latency(&self) -> LatencyPolicy {
        LatencyPolicy {
            ratio_max: self.latency_ratio_max,
            extra_ms_max: self.latency_extra_ms_max,
            pairs_min: self.latency_pairs_min,
            confidence: self.latency_confidence,
            ..LatencyPolicy::default()
        }
    }

    /// Judges one experiment.
    ///
    /// Mismatches fail it as soon as `comparisons_min` comparisons could not make their share small enough any
    /// more; it takes no twenty comparisons to see that none may differ and one does.
    pub(super) fn judge(&self, evidence: &Evidence) -> Verdict {
        let Evidence { matched, mismatched, ignored, incomparable, causes, slower, stopped } = evidence;
        let compared = matched + mismatched + ignored;
        let replayed = compared + incomparable;
        let mut failed = Vec::new();
        if *mismatched as f64 > self.mismatch_share_max * compared.max(self.comparisons_min) as f64 {
            failed.push(format!(
                "{} of {} ({}) differ, in {}; {} allowed.",
                counted(*mismatched),
                plural(compared, "comparison"),
                percent(*mismatched, compared),
                plural(*causes as u64, "cause"),
                share(self.mismatch_share_max),
            ));
        }
        failed.extend(slower.iter().cloned());
        if !failed.is_empty() {
            failed.extend(stopped.clone());
            return Verdict { verdict: Conclusion::Fail, reasons: failed };
        }
        let mut lacking: Vec<String> = stopped.iter().cloned().collect();
        if compared < self.comparisons_min {
            lacking.push(format!("{compared} of at least {} comparisons.", counted(self.comparisons_min)));
        }
        if *incomparable as f64 > self.incomparable_share_max * replayed as f64 {
            lacking.push(format!(
                "{} of {} replayed exchanges ({}) could not be compared; at most {} may be.",
                counted(*incomparable),
                counted(replayed),
                percent(*incomparable, replayed),
                share(self.incomparable_share_max),
            ));
        }
        if !lacking.is_empty() {
            return Verdict { verdict: Conclusion::NotEnoughData, reasons: lacking };
        }
        let mut reason = format!("{} compared, ", plural(compared, "exchange"));
        reason += &match mismatched {
            0 => "none differs".to_owned(),
            some => format!("{} ({}) differ, as allowed", counted(*some), percent(*some, compared)),
        };
        if *ignored > 0 {
            reason += &format!(" but for what rules hide in {}", counted(*ignored));
        }
        Verdict { verdict: Conclusion::Pass, reasons: vec![reason + "."] }
    }
}

fn share(share: f64) -> String {
    if share == 0.0 { "none".to_owned() } else { format!("{} %", share * 100.0) }
}

fn plural(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", counted(count))
}

// === impl Conclusion ===

impl Conclusion {
    /// The verdict as people read it.
    pub fn title(self) -> &'static str {
        match self {
            Conclusion::Pass => "PASS",
            Conclusion::NotEnoughData => "NOT ENOUGH DATA",
            Conclusion::Fail => "FAIL",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// The worst of several; NOT ENOUGH DATA of none.
    pub(super) fn worst<'a>(named: impl Iterator<Item = (&'a str, &'a Verdict)> + Clone) -> Verdict {
        let Some(worst) = named.clone().map(|(_, verdict)| verdict.verdict).max() else {
            let reasons = vec!["The run has no experiment.".to_owned()];
            return Verdict { verdict: Conclusion::NotEnoughData, reasons };
        };
        let many = named.clone().count() > 1;
        let reasons = named
            .filter(|(_, verdict)| verdict.verdict == worst)
            .flat_map(|(name, verdict)| verdict.reasons.iter().map(move |reason| (name, reason)))
            .map(|(name, reason)| if many { format!("{name}: {reason}") } else { reason.clone() })
            .collect();
        Verdict { verdict: worst, reasons }
    }

    /// Title and reasons in one line.
    pub(super) fn line(&self) -> String {
        format!("{} — {}", self.verdict.title(), self.reasons.join(" "))
    }
}
