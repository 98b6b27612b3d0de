//! Found or missed, after how many exchanges, and what was reported that is none: the same arithmetic for both rules.
//!
//! Knows neither rule.

use std::collections::BTreeSet;

use serde::Serialize;
use understudy_tests::detect::{Kind, Mutant, Spot};

use super::diffy::Theirs;
use super::reading::{Reading, Reported};

/// A regression that changes at least this share of all responses must be found.
pub(super) const SHARE_REQUIRED: f64 = 1.0 / 200.0;

/// What was reported after so many comparisons.
pub(super) struct Look {
    pub(super) after: u64,
    pub(super) reported: BTreeSet<Reported>,
}

/// How one candidate came out.
#[derive(Serialize)]
pub(super) struct Result {
    pub(super) app: &'static str,
    /// None for an unmutated candidate.
    pub(super) mutant: Option<&'static str>,
    pub(super) what: &'static str,
    /// Share of responses that the regression was made to change.
    pub(super) share: f64,
    /// Responses of B that it did change.
    pub(super) changed: u64,
    /// Responses of B.
    pub(super) answers: u64,
    pub(super) understudy: Judgement,
    pub(super) diffy: Judgement,
}

/// What one rule made of one candidate.
#[derive(Serialize)]
pub(super) struct Judgement {
    /// Comparisons after which the regression was reported and stayed so to the end; none when it was not reported at
    /// the end.
    pub(super) found_after: Option<u64>,
    /// Reported at some look, and not on a route of the regression.
    pub(super) alarms: BTreeSet<String>,
    /// Those that were still reported at the end.
    pub(super) alarms_at_end: usize,
}

/// The sums over all candidates.
#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) mutants: usize,
    /// Those that must be found.
    pub(super) required: usize,
    pub(super) clean_runs: usize,
    pub(super) understudy: Sums,
    pub(super) diffy: Sums,
}

/// The sums of one rule.
#[derive(Serialize)]
pub(super) struct Sums {
    pub(super) found: usize,
    pub(super) required_found: usize,
    /// Median over the mutants that were found.
    pub(super) median_found_after: Option<u64>,
    /// Unmutated runs in which something was reported at some look.
    pub(super) clean_runs_with_alarm: usize,
    /// The same at the end of the run.
    pub(super) clean_runs_with_alarm_at_end: usize,
    /// Alarms beside the planted regressions, in all runs with one.
    pub(super) alarms_beside: usize,
}

/// Judges one candidate.
pub(super) fn score(kind: Kind, mutant: Option<Mutant>, mine: &[Look], theirs: &Theirs) -> Result {
    let spots = mutant.map_or(&[][..], |mutant| mutant.spots);
    Result {
        app: kind.name(),
        mutant: mutant.map(|mutant| mutant.name),
        what: mutant.map_or("", |mutant| mutant.what),
        share: mutant.map_or(0.0, |mutant| mutant.share),
        changed: theirs.changed,
        answers: theirs.answers,
        understudy: Judgement::of(mine, spots),
        diffy: Judgement::of(&theirs.looks, spots),
    }
}

// === impl Look ===

impl Look {
    /// This experiment's part of a look.
    pub(super) fn of(readings: &[Reading], experiment: &str) -> Option<Self> {
        let reading = readings.iter().find(|reading| reading.experiment == experiment)?;
        Some(Self { after: reading.compared, reported: reading.reported.clone() })
    }
}

// === impl Judgement ===

impl Judgement {
    fn of(looks: &[Look], spots: &[Spot]) -> Self {
        let planted = |reported: &&Reported| spots.iter().any(|spot| reported.is_at(spot));
        let found = |look: &&Look| look.reported.iter().any(|reported| planted(&reported));
        let found_after = looks.iter().rev().take_while(found).last().map(|look| look.after);
        // Another status brings another body: what else differs on a route of the regression may be its doing.
        let explained = |reported: &&Reported| spots.iter().any(|spot| reported.is_on_route_of(spot));
        let beside = |look: &Look| -> BTreeSet<String> {
            let beside = look.reported.iter().filter(|reported| !explained(reported));
            beside.map(|Reported { route, what }| format!("{route} {what}")).collect()
        };
        let alarms = looks.iter().flat_map(beside).collect();
        let alarms_at_end = looks.last().map_or(0, |look| beside(look).len());
        Self { found_after, alarms, alarms_at_end }
    }
}

// === impl Summary ===

impl Summary {
    pub(super) fn of(results: &[Result]) -> Self {
        let is_mutant = |result: &&Result| result.mutant.is_some();
        Self {
            mutants: results.iter().filter(is_mutant).count(),
            required: results.iter().filter(|result| result.is_required()).count(),
            clean_runs: results.iter().filter(|result| result.mutant.is_none()).count(),
            understudy: Sums::of(results, |result| &result.understudy),
            diffy: Sums::of(results, |result| &result.diffy),
        }
    }

    /// All required regressions found, and nothing reported in unmutated runs.
    pub(super) fn aim_is_met(&self) -> bool {
        let Self { mutants: _, required, clean_runs: _, understudy, diffy: _ } = self;
        understudy.required_found == *required && understudy.clean_runs_with_alarm == 0
    }

    /// What is missing.
    pub(super) fn shortfall(&self) -> String {
        let Self { mutants: _, required, clean_runs, understudy, diffy: _ } = self;
        format!(
            "{} of {required} regressions found that change at least one response in 200; alarms in {} of {clean_runs} \
             unmutated runs",
            understudy.required_found, understudy.clean_runs_with_alarm
        )
    }
}

// === impl Sums ===

impl Sums {
    fn of(results: &[Result], part: fn(&Result) -> &Judgement) -> Self {
        let found = |result: &&Result| part(result).found_after.is_some();
        let mut after: Vec<u64> = results.iter().filter_map(|result| part(result).found_after).collect();
        after.sort_unstable();
        let clean = || results.iter().filter(|result| result.mutant.is_none()).map(part);
        let mutated = results.iter().filter(|result| result.mutant.is_some());
        Self {
            found: after.len(),
            required_found: results.iter().filter(|result| result.is_required()).filter(found).count(),
            median_found_after: after.get(after.len() / 2).copied(),
            clean_runs_with_alarm: clean().filter(|judgement| !judgement.alarms.is_empty()).count(),
            clean_runs_with_alarm_at_end: clean().filter(|judgement| judgement.alarms_at_end > 0).count(),
            alarms_beside: mutated.map(|result| part(result).alarms.len()).sum(),
        }
    }
}

// === impl Result ===

impl Result {
    /// Whether the aim asks for it. By what it was made to change: what it did change is a matter of chance.
    pub(super) fn is_required(&self) -> bool {
        self.mutant.is_some() && self.share >= SHARE_REQUIRED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOTS: &[Spot] = &[Spot::At { route: "/a", part: "price" }];

    #[track_caller]
    fn check(looks: &[(u64, &[&str])], found_after: Option<u64>, alarms: usize, alarms_at_end: usize) {
        let reported = |what: &&str| {
            let (route, what) = what.split_once(' ').unwrap();
            Reported { route: route.to_owned(), what: what.to_owned() }
        };
        let look = |(after, whats): &(u64, &[&str])| Look {
            after: *after,
            reported: whats.iter().map(reported).collect(),
        };
        let looks: Vec<Look> = looks.iter().map(look).collect();
        let judgement = Judgement::of(&looks, SPOTS);
        assert_eq!(
            (judgement.found_after, judgement.alarms.len(), judgement.alarms_at_end),
            (found_after, alarms, alarms_at_end)
        );
    }

    #[test]
    fn a_finding_counts_from_when_it_stays() {
        check(&[(10, &[]), (20, &["/a $.price value"]), (30, &["/a $.price value"])], Some(20), 0, 0);
        check(&[(10, &["/a $.price value"]), (20, &[]), (30, &["/a $.price value"])], Some(30), 0, 0);
        check(&[(10, &["/a $.price value"]), (20, &[])], None, 0, 0);
        check(&[(10, &["/b $.price value"])], None, 1, 1);
        check(&[], None, 0, 0);
    }

    #[test]
    fn an_alarm_counts_at_any_look_and_on_other_routes() {
        check(&[(10, &["/b $.name value"]), (20, &["/a $.price value"])], Some(20), 1, 0);
        check(&[(10, &["/b $.name value"]), (20, &["/b $.name value", "/b $.id value"])], None, 2, 2);
        check(&[(10, &["/a $.name value"])], None, 0, 0);
    }
}
