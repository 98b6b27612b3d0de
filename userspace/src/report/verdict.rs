//! PASS, FAIL or NOT ENOUGH DATA, by a small policy.
//!
//! Gives no verdict without its reason, and never passes what was hardly looked at.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::causes::CauseState;
use super::rate::{Bounds, RateBounds};
use super::reasons::{agreement, first_few, on_route, undecided, withheld};
use super::words::{counted, differ, percent, plural, share};
use crate::compare::latency::LatencyPolicy;

/// What an experiment must show. Kept with its run, so that a report needs no configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerdictPolicy {
    /// Comparisons that could be made below which nothing passes. Default 20.
    pub comparisons_min: u64,
    /// The same for each route that is configured or was seen. Default 5.
    pub route_comparisons_min: u64,
    /// Share of mismatches among comparisons that is still allowed, 0 to 1. Default 0: the first one fails it.
    pub mismatch_share_max: f64,
    /// Share of all exchanges, above 0 to 1, that may differ beyond `mismatch_share_max` without having been seen to:
    /// nothing passes before it is certain at `confidence` that no more do. Default 0.01; 1 asks for no certainty.
    pub mismatch_share_unseen_max: f64,
    /// Level of what is said about the share of mismatches, above 0 and below 1. It holds however often one looks.
    /// Default 0.95.
    pub confidence: f64,
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
    /// The 95th and the 99th percentile of B's times over A's that is still allowed on a route; the difference is that of
    /// the medians. Default 1.5.
    pub latency_tail_ratio_max: f64,
    /// Pairs on a route below which its latency is not judged; those of the warm-up do not count. Default 30.
    pub latency_pairs_min: usize,
    /// First pairs of a route that are left out, since caches are cold. Default 10.
    pub latency_warm_up_pairs: usize,
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

/// What came of comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) matched: u64,
    /// With differences that count.
    pub(super) mismatched: u64,
    /// With differences of which it is not known yet whether they are noise, and none that count.
    pub(super) undecided: u64,
    /// With differences of which nothing can ever tell whether they are noise, and none of another kind.
    pub(super) withheld: u64,
    /// With differences that rules hide.
    pub(super) ignored: u64,
    /// With differences that are noise.
    pub(super) noise: u64,
    pub(super) incomparable: u64,
}

/// What the verdict on a route is based on.
#[derive(Clone, Debug)]
pub(super) struct RouteEvidence {
    pub(super) route: String,
    pub(super) tally: Tally,
    /// That B is slower there, with the measured words.
    pub(super) slower: Option<String>,
}

/// What the verdict on an experiment is based on.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) routes: Vec<RouteEvidence>,
    pub(super) causes: usize,
    /// Why the experiment ended before its run.
    pub(super) stopped: Option<String>,
}

/// What helps where nothing can measure noise.
const REMEDY: &str = "Name a twin, or a rule: each cause has one that fits.";

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
            route_comparisons_min: 5,
            mismatch_share_max: 0.0,
            mismatch_share_unseen_max: 0.01,
            confidence: 0.95,
            incomparable_share_max: 0.1,
            latency_judged: true,
            latency_ratio_max: latency.ratio_max,
            latency_extra_ms_max: latency.extra_ms_max,
            latency_tail_ratio_max: latency.tail_ratio_max,
            latency_pairs_min: latency.pairs_min,
            latency_warm_up_pairs: latency.warm_up_pairs,
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
            tail_ratio_max: self.latency_tail_ratio_max,
            pairs_min: self.latency_pairs_min,
            confidence: self.latency_confidence,
            warm_up_pairs: self.latency_warm_up_pairs,
            // A route's own first time is not in the journal.
            warm_up: Duration::ZERO,
        }
    }

    /// What is certain about the share of mismatches among all exchanges.
    ///
    /// What is undecided may be a mismatch, and counts for the upper bound only.
    pub(super) fn bounds(&self, tally: &Tally) -> Bounds {
        let (rate, compared) = (self.rate_bounds(), tally.compared());
        let low = rate.of(tally.mismatched, compared).low;
        let open = tally.undecided.saturating_add(tally.withheld);
        Bounds { low, high: rate.of(tally.mismatched.saturating_add(open), compared).high }
    }

    fn rate_bounds(&self) -> RateBounds {
        RateBounds { confidence: self.confidence, of_interest: self.share_passed() }
    }

    /// The share of mismatches that may remain when an experiment passes.
    fn share_passed(&self) -> f64 {
        self.mismatch_share_max + self.mismatch_share_unseen_max
    }

    /// Judges one experiment, and each of its routes in their order.
    pub(super) fn judge(&self, evidence: &Evidence) -> (Verdict, Vec<Verdict>) {
        let Evidence { routes, causes, stopped } = evidence;
        let tally = evidence.tally();
        let verdicts: Vec<Verdict> =
            routes.iter().map(|route| self.judge_route(route, routes.len())).collect();
        let of_routes = |conclusion| {
            let with_verdict = routes.iter().zip(&verdicts);
            let wanted = with_verdict.filter(move |(_, verdict)| verdict.verdict == conclusion);
            wanted.map(|(route, verdict)| (route, verdict.reasons.join(" "))).collect::<Vec<_>>()
        };

        let mut failed = Vec::new();
        failed.extend(self.too_many(&tally, self.confidence, Some(*causes)));
        // What differs on a route was counted above where it is enough to fail the whole.
        let is_counted = !failed.is_empty();
        let named = of_routes(Conclusion::Fail);
        let slower = named.iter().filter_map(|(route, _)| route.slower.clone());
        let sentences: Vec<String> = if is_counted {
            slower.collect()
        } else {
            named.iter().map(|(route, why)| on_route(route, why)).collect()
        };
        failed.extend(first_few(sentences));
        if !failed.is_empty() {
            failed.extend(stopped.clone());
            return (Verdict { verdict: Conclusion::Fail, reasons: failed }, verdicts);
        }

        let mut lacking: Vec<String> = stopped.iter().cloned().collect();
        if tally.compared() < self.comparisons_min {
            lacking.push(format!(
                "{} of at least {} comparisons.",
                tally.compared(),
                counted(self.comparisons_min)
            ));
        }
        lacking.extend(undecided(&tally));
        if let Some(withheld) = withheld(&tally) {
            lacking.push(withheld);
            lacking.push(REMEDY.to_owned());
        }
        lacking.extend(self.uncertain(&tally));
        let incomparable = self.too_incomparable(&tally);
        if incomparable.is_none() {
            let short = of_routes(Conclusion::NotEnoughData);
            // Where there is one route, what it lacks was said of the whole.
            let short = short.iter().filter(|(_, why)| !lacking.contains(why));
            let short = short.map(|(route, why)| on_route(route, why)).collect();
            lacking.extend(first_few(short));
        }
        lacking.extend(incomparable);
        let verdict = match lacking.is_empty() {
            false => Verdict { verdict: Conclusion::NotEnoughData, reasons: lacking },
            true => Verdict { verdict: Conclusion::Pass, reasons: vec![self.passed(&tally)] },
        };
        (verdict, verdicts)
    }

    /// Judges one route of several. Certainty about the share of mismatches is asked of the experiment as a whole: a
    /// route passes with the least number of comparisons, of which no larger share differs than is allowed.
    fn judge_route(&self, evidence: &RouteEvidence, routes: usize) -> Verdict {
        let RouteEvidence { route: _, tally, slower } = evidence;
        // Together, the routes are wrong no more often than one statement at the level of the policy.
        let confidence = 1.0 - (1.0 - self.confidence) / routes.max(1) as f64;
        let mut failed: Vec<String> = self.too_many(tally, confidence, None).into_iter().collect();
        failed.extend(slower.clone());
        if !failed.is_empty() {
            return Verdict { verdict: Conclusion::Fail, reasons: failed };
        }
        let compared = tally.compared();
        let mut lacking = Vec::new();
        if compared < self.route_comparisons_min {
            lacking.push(format!(
                "{compared} of at least {}.",
                plural(self.route_comparisons_min, "comparison")
            ));
        }
        lacking.extend(undecided(tally));
        lacking.extend(withheld(tally));
        if tally.mismatched as f64 > self.mismatch_share_max * compared as f64 {
            lacking.push(format!(
                "{} of {} {}, which may be chance; {} allowed.",
                counted(tally.mismatched),
                plural(compared, "comparison"),
                differ(tally.mismatched),
                share(self.mismatch_share_max)
            ));
        }
        lacking.extend(self.too_incomparable(tally));
        if lacking.is_empty() {
            let reason = format!("{}.", agreement(tally));
            Verdict { verdict: Conclusion::Pass, reasons: vec![reason] }
        } else {
            Verdict { verdict: Conclusion::NotEnoughData, reasons: lacking }
        }
    }

    /// That more differ than are allowed, for certain. Also where the share is certain, a first handful of comparisons
    /// fails nothing as long as `comparisons_min` of them could still make it small enough.
    fn too_many(&self, tally: &Tally, confidence: f64, causes: Option<usize>) -> Option<String> {
        let compared = tally.compared();
        let rate = RateBounds { confidence, ..self.rate_bounds() };
        let is_certain = rate.of(tally.mismatched, compared).low > self.mismatch_share_max;
        let allowed = self.mismatch_share_max * compared.max(self.comparisons_min) as f64;
        (is_certain && tally.mismatched as f64 > allowed).then(|| {
            let causes = causes.map(|causes| format!(", in {}", plural(causes as u64, "cause")));
            format!(
                "{} of {} ({}) {}{}; {} allowed.",
                counted(tally.mismatched),
                plural(compared, "comparison"),
                percent(tally.mismatched, compared),
                differ(tally.mismatched),
                causes.unwrap_or_default(),
                share(self.mismatch_share_max),
            )
        })
    }

    /// That too many could not be compared.
    fn too_incomparable(&self, tally: &Tally) -> Option<String> {
        let replayed = tally.compared().saturating_add(tally.incomparable);
        let is_too_many = tally.incomparable as f64 > self.incomparable_share_max * replayed as f64;
        is_too_many.then(|| {
            format!(
                "{} of {} ({}) could not be compared; at most {} may be.",
                counted(tally.incomparable),
                plural(replayed, "replayed exchange"),
                percent(tally.incomparable, replayed),
                share(self.incomparable_share_max),
            )
        })
    }

    /// That more may differ than are allowed, since too little was compared.
    fn uncertain(&self, tally: &Tally) -> Option<String> {
        // What is withheld stays so, however many comparisons are made: it lacks something else.
        let tally = &tally.with_nothing_withheld();
        let high = self.bounds(tally).high;
        if high <= self.share_passed() {
            return None;
        }
        let hits = tally.mismatched.saturating_add(tally.undecided);
        let needed = self.rate_bounds().trials_for(hits, self.share_passed());
        Some(format!(
            "{} of about {} comparisons that it takes to say with {} confidence that at most {} differ; now it is {}.",
            counted(tally.compared()),
            counted(needed),
            share(self.confidence),
            share(self.share_passed()),
            share(high),
        ))
    }

    fn passed(&self, tally: &Tally) -> String {
        let high = self.bounds(tally).high;
        let mut reason = agreement(tally);
        if high < 1.0 {
            reason += &format!("; with {} confidence, at most {} do", share(self.confidence), share(high));
        }
        reason + "."
    }
}

// === impl Evidence ===

impl Evidence {
    /// The same, were all that is withheld known to be noise.
    pub(super) fn with_nothing_withheld(&self) -> Self {
        let mut evidence = self.clone();
        evidence.routes.iter_mut().for_each(|route| route.tally = route.tally.with_nothing_withheld());
        evidence
    }

    /// What came of all comparisons.
    pub(super) fn tally(&self) -> Tally {
        self.routes.iter().fold(Tally::default(), |sum, route| sum.plus(&route.tally))
    }
}

// === impl Tally ===

impl Tally {
    /// Comparisons that could be made.
    pub(super) fn compared(&self) -> u64 {
        let Self { matched, mismatched, undecided, withheld, ignored, noise, incomparable: _ } = self;
        matched + mismatched + undecided + withheld + ignored + noise
    }

    fn plus(&self, other: &Self) -> Self {
        let Self { matched, mismatched, undecided, withheld, ignored, noise, incomparable } = self;
        Self {
            matched: matched + other.matched,
            mismatched: mismatched + other.mismatched,
            undecided: undecided + other.undecided,
            withheld: withheld + other.withheld,
            ignored: ignored + other.ignored,
            noise: noise + other.noise,
            incomparable: incomparable + other.incomparable,
        }
    }

    /// Moves mismatches to where they belong once their cause was judged.
    pub(super) fn rejudge(&mut self, state: CauseState, count: u64) {
        let place = match state {
            CauseState::Counts => return,
            CauseState::Undecided => &mut self.undecided,
            CauseState::Withheld => &mut self.withheld,
            CauseState::Noise => &mut self.noise,
        };
        *place += count;
        self.mismatched = self.mismatched.saturating_sub(count);
    }

    /// The same, were all that is withheld known to be noise.
    fn with_nothing_withheld(&self) -> Self {
        Self { withheld: 0, noise: self.noise + self.withheld, ..*self }
    }
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
