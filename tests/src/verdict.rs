//! What `understudy report --json` found, as sets that a test can compare.
//!
//! The one place that knows the shape of that JSON. Judges nothing.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// The findings of a run with one experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// `pass`, `fail` or `not_enough_data`.
    pub verdict: String,
    /// Each cause of mismatches: its route, and the paths and kinds of its differences.
    pub causes: BTreeSet<(String, String)>,
    /// Routes on which B is slower than A beyond doubt.
    pub slower: BTreeSet<String>,
}

#[derive(Deserialize)]
struct RawReport {
    schema: u32,
    experiments: Vec<RawExperiment>,
}

#[derive(Deserialize)]
struct RawExperiment {
    verdict: RawVerdict,
    causes: Vec<RawCause>,
    routes: Vec<RawRoute>,
}

#[derive(Deserialize)]
struct RawVerdict {
    verdict: String,
}

#[derive(Deserialize)]
struct RawCause {
    route: String,
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

// === impl Findings ===

impl Findings {
    /// Reads the report of a run with one experiment.
    ///
    /// # Errors
    /// When the text is not such a report.
    pub fn parse(json: &str) -> anyhow::Result<Self> {
        let report: RawReport =
            serde_json::from_str(json).with_context(|| format!("failed to read the report `{json}`"))?;
        ensure!(report.schema == 1, "the report has schema {}", report.schema);
        let [experiment] = &report.experiments[..] else {
            bail!("the report has {} experiments", report.experiments.len());
        };
        let RawExperiment { verdict: RawVerdict { verdict }, causes, routes } = experiment;
        let slower =
            |route: &&RawRoute| route.latency.as_ref().is_some_and(|latency| latency.verdict == "slower");
        Ok(Self {
            verdict: verdict.clone(),
            causes: causes.iter().map(|cause| (cause.route.clone(), cause.signature.clone())).collect(),
            slower: routes.iter().filter(slower).map(|route| route.route.clone()).collect(),
        })
    }

    /// What a run over [`crate::mix::every_route`] with planted faults must find, and nothing else.
    pub fn planted() -> Self {
        let cause = |route: &str, signature: &str| (route.to_owned(), signature.to_owned());
        Self {
            verdict: "fail".to_owned(),
            causes: BTreeSet::from([
                cause("/items/{id}", "json:$.price value"),
                cause("/search", "status value"),
            ]),
            slower: BTreeSet::from(["/quotes/{id}".to_owned()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"schema": 1, "run": {}, "experiments": [{"name": "lab",
        "verdict": {"verdict": "fail", "reasons": ["r"]},
        "causes": [
            {"route": "/items/{id}", "signature": "json:$.price value", "count": 3},
            {"route": "/search", "signature": "status value", "count": 2}],
        "routes": [
            {"route": "/quotes/{id}", "latency": {"verdict": "slower"}},
            {"route": "/items/{id}", "latency": {"verdict": "not_slower"}},
            {"route": "/search", "latency": null}]}]}"#;

    #[track_caller]
    fn check(change: (&str, &str), is_planted: bool) {
        let report = REPORT.replace(change.0, change.1);
        let found = Findings::parse(&report).unwrap();
        assert_eq!(found == Findings::planted(), is_planted, "{found:?}");
    }

    #[test]
    fn only_exactly_the_planted_faults_are_planted() {
        check(("", ""), true);
        check(("price value", "name value"), false);
        check(("not_slower", "slower"), false);
        check(("\"fail\"", "\"pass\""), false);
        check(("/search", "/other"), false);
    }
}
