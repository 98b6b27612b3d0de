//! What `understudy report --json` found, as sets that a test can compare.
//!
//! The one place that knows the shape of that JSON. Judges nothing.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde::Deserialize;

/// The findings of a run with one experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// `PASS`, `FAIL` or `NOT ENOUGH DATA`.
    pub verdict: String,
    /// Each cause of mismatches.
    pub causes: BTreeSet<Cause>,
    /// Routes on which B is slower than A beyond doubt.
    pub slower: BTreeSet<String>,
}

/// What mismatches of one kind have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// The route pattern.
    pub route: String,
    /// Path and kind of each difference, in order.
    pub differences: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct RawReport {
    experiments: Vec<RawExperiment>,
}

#[derive(Deserialize)]
struct RawExperiment {
    verdict: String,
    causes: Vec<RawCause>,
    latency: Vec<RawLatency>,
}

#[derive(Deserialize)]
struct RawCause {
    route: String,
    differences: Vec<RawDifference>,
}

#[derive(Deserialize)]
struct RawDifference {
    path: String,
    kind: String,
}

#[derive(Deserialize)]
struct RawLatency {
    route: String,
    slower: bool,
}

// === impl Findings ===

impl Findings {
    /// Reads the report of a run with one experiment.
    ///
    /// # Errors
    /// When the text is not such a report.
    pub fn parse(json: &str) -> anyhow::Result<Self> {
        let report: RawReport =
            serde_json::from_str(json).with_context(|| format!("failed to read the report {json}"))?;
        let experiment = report.experiments.into_iter().next().context("the report has no experiment")?;
        let mut causes = BTreeSet::new();
        for RawCause { route, differences } in experiment.causes {
            let differences =
                differences.into_iter().map(|RawDifference { path, kind }| (path, kind)).collect();
            causes.insert(Cause { route, differences });
        }
        let slower =
            experiment.latency.into_iter().filter(|latency| latency.slower).map(|latency| latency.route);
        Ok(Self { verdict: experiment.verdict, causes, slower: slower.collect() })
    }

    /// What a run over [`crate::mix::every_route`] with planted faults must find, and nothing else.
    pub fn planted() -> Self {
        let cause = |route: &str, differences: &[(&str, &str)]| Cause {
            route: route.to_owned(),
            differences: differences
                .iter()
                .map(|(path, kind)| ((*path).to_owned(), (*kind).to_owned()))
                .collect(),
        };
        Self {
            verdict: "FAIL".to_owned(),
            causes: BTreeSet::from([
                cause("/items/{id}", &[("json:$.price", "value")]),
                cause("/search", &[("status", "value")]),
            ]),
            slower: BTreeSet::from(["/quotes/{id}".to_owned()]),
        }
    }
}
