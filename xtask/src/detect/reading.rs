//! What `understudy report --json` says is wrong with each candidate.
//!
//! The one place of the bench that knows the shape of that JSON, and what in it counts as reported. What is merely
//! undecided, or known as noise, does not.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use understudy_tests::detect::Spot;

/// The word for a slower route.
const SLOWER: &str = "slower";

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
    /// A path and a kind, or [`SLOWER`].
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
    causes: Vec<RawCause>,
    routes: Vec<RawRoute>,
}

#[derive(Deserialize)]
struct RawCause {
    route: String,
    /// `path kind; path kind`.
    signature: String,
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
        let RawExperiment { name, matched, mismatched, ignored, causes, routes } = raw;
        let mut reported = BTreeSet::new();
        for RawCause { route, signature } in causes {
            for what in signature.split("; ") {
                reported.insert(Reported { route: route.clone(), what: what.to_owned() });
            }
        }
        for RawRoute { route, latency } in routes {
            if latency.is_some_and(|latency| latency.verdict == SLOWER) {
                reported.insert(Reported { route, what: SLOWER.to_owned() });
            }
        }
        Self { experiment: name, compared: matched + mismatched + ignored, reported }
    }
}

// === impl Reported ===

impl Reported {
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
        "causes": [{"route": "/a", "signature": "json:$.price value; status value"}],
        "routes": [{"route": "/a", "latency": null}, {"route": "/b", "latency": {"verdict": "slower"}},
                   {"route": "/c", "latency": {"verdict": "not_slower"}}]}]}"#;

    #[track_caller]
    fn check(spot: Spot, expected: usize) {
        let readings = readings(REPORT).unwrap();
        assert_eq!((readings[0].experiment.as_str(), readings[0].compared), ("x", 9));
        assert_eq!(readings[0].reported.iter().filter(|reported| reported.is_at(&spot)).count(), expected);
    }

    #[test]
    fn a_report_is_read_path_by_path() {
        check(Spot::At { route: "/a", part: "price" }, 1);
        check(Spot::At { route: "/a", part: "" }, 2);
        check(Spot::At { route: "/b", part: "" }, 0);
        check(Spot::Slow { route: "/b" }, 1);
        check(Spot::Slow { route: "/c" }, 0);
    }
}
