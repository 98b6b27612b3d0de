//! What `understudy report --json` says is wrong with each candidate.
//!
//! The one place of the bench that knows the shape of that JSON, and what in it counts as reported. What is merely
//! undecided, or known as noise, does not. A FAIL for which the report names nothing is an alarm, too.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use understudy_tests::detect::Spot;

/// The word for a slower route.
const SLOWER: &str = "slower";
/// The state of a cause that counts.
const COUNTS: &str = "counts";
/// The verdict of somebody who has found something.
const FAIL: &str = "fail";

/// One experiment at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) experiment: String,
    /// Comparisons that could be made.
    pub(super) compared: u64,
    pub(super) reported: BTreeSet<Reported>,
}

/// One thing that somebody who looks is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reported {
    pub(super) route: String,
    /// A path and a kind, or [`SLOWER`], or a bare FAIL.
    pub(super) what: String,
}

#[derive(Deserialize)]
struct RawReport {
    schema: u32,
    experiments: Vec<RawExperiment>,
}

#[derive(Deserialize)]
struct RawExperiment {
    name: String,
    matched: u64,
    mismatched: u64,
    ignored: u64,
    /// Absent where the program knows no such outcome; so are `withheld` and `noise`.
    #[serde(default)]
    undecided: u64,
    #[serde(default)]
    withheld: u64,
    #[serde(default)]
    noise: u64,
    causes: Vec<RawCause>,
    routes: Vec<RawRoute>,
    verdict: RawVerdict,
}

#[derive(Deserialize)]
struct RawVerdict {
    verdict: String,
}

#[derive(Deserialize)]
struct RawCause {
    route: String,
    /// `path kind; path kind`.
    signature: String,
    /// Absent where every cause counts.
    state: Option<String>,
}

#[derive(Deserialize)]
struct RawRoute {
    route: String,
    latency: Option<RawLatency>,
}

#[derive(Deserialize)]
struct RawLatency {
    verdict: String,
}

/// All experiments of a report.
///
/// # Errors
/// When the text is not such a report.
pub(super) fn readings(json: &str) -> anyhow::Result<Vec<Reading>> {
    let report: RawReport = serde_json::from_str(json).context("failed to read the report")?;
    ensure!(report.schema == 1, "the report has schema {}", report.schema);
    Ok(report.experiments.into_iter().map(Reading::of).collect())
}

// === impl Reading ===

impl Reading {
    fn of(raw: RawExperiment) -> Self {
        let RawExperiment {
            name,
            matched,
            mismatched,
            ignored,
            undecided,
            withheld,
            noise,
            causes,
            routes,
            verdict,
        } = raw;
        let compared = matched + mismatched + ignored + undecided + withheld + noise;
        let mut reported = BTreeSet::new();
        let counts = |cause: &RawCause| cause.state.as_deref().is_none_or(|state| state == COUNTS);
        for RawCause { route, signature, state: _ } in causes.into_iter().filter(counts) {
            for what in signature.split("; ") {
                reported.insert(Reported { route: route.clone(), what: what.to_owned() });
            }
        }
        for RawRoute { route, latency } in routes {
            if latency.is_some_and(|latency| latency.verdict == SLOWER) {
                reported.insert(Reported { route, what: SLOWER.to_owned() });
            }
        }
        if reported.is_empty() && verdict.verdict == FAIL {
            reported.insert(Reported { route: "all routes".to_owned(), what: "verdict fail".to_owned() });
        }
        Self { experiment: name, compared, reported }
    }
}

// === impl Reported ===

impl Reported {
    /// Whether the regression shows on this route.
    pub(super) fn is_on_route_of(&self, spot: &Spot) -> bool {
        match spot {
            Spot::At { route, part: _ } | Spot::Slow { route } => self.route == *route,
        }
    }

    /// Whether this is what a planted regression brings about.
    pub(super) fn is_at(&self, spot: &Spot) -> bool {
        match spot {
            Spot::At { route, part } => {
                self.route == *route && self.what != SLOWER && self.what.to_ascii_lowercase().contains(part)
            }
            Spot::Slow { route } => self.route == *route && self.what == SLOWER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"schema": 1, "experiments": [{"name": "x", "matched": 5, "mismatched": 3, "ignored": 1,
        "undecided": 1, "noise": 1, "verdict": {"verdict": "fail"},
        "causes": [{"route": "/a", "signature": "json:$.price value; status value", "state": "counts"},
                   {"route": "/d", "signature": "json:$.id value", "state": "undecided"},
                   {"route": "/e", "signature": "body value"}],
        "routes": [{"route": "/a", "latency": null}, {"route": "/b", "latency": {"verdict": "slower"}},
                   {"route": "/c", "latency": {"verdict": "not_slower"}}]},
        {"name": "y", "matched": 1, "mismatched": 9, "ignored": 0, "causes": [], "routes": [],
         "verdict": {"verdict": "fail"}}]}"#;

    #[track_caller]
    fn check(spot: Spot, expected: usize) {
        let readings = readings(REPORT).unwrap();
        let [first, second] = &readings[..] else { panic!("{} readings", readings.len()) };
        assert_eq!((first.experiment.as_str(), first.compared), ("x", 11));
        assert_eq!(second.reported.len(), 1, "a FAIL without a cause is an alarm");
        assert_eq!(first.reported.iter().filter(|reported| reported.is_at(&spot)).count(), expected);
    }

    #[test]
    fn a_report_is_read_path_by_path() {
        check(Spot::At { route: "/a", part: "price" }, 1);
        check(Spot::At { route: "/a", part: "" }, 2);
        check(Spot::At { route: "/b", part: "" }, 0);
        check(Spot::At { route: "/d", part: "" }, 0);
        check(Spot::At { route: "/e", part: "" }, 1);
        check(Spot::Slow { route: "/b" }, 1);
        check(Spot::Slow { route: "/c" }, 0);
    }
}
