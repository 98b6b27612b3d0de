//! The files of `deploy/prometheus`, as promtool sees them, and the runbooks that they point to.
//!
//! Starts no server.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use understudy_tests::prometheus::{PROMTOOL, promtool};

use crate::{Case, repository};

pub(crate) const CASES: &[Case] = &[
    Case { name: "promtool_accepts_rules_and_scrape_configuration", needs: PROMTOOL, run: promtool_accepts },
    Case { name: "alerts_fire_when_they_should_and_not_otherwise", needs: PROMTOOL, run: cases_hold },
    Case { name: "the_cases_notice_a_rule_that_is_wrong", needs: PROMTOOL, run: cases_notice },
    Case { name: "each_alert_has_a_runbook_and_each_runbook_an_alert", needs: &[], run: runbooks },
];

/// Where the package puts the runbooks.
pub(crate) const RUNBOOKS: &str = "file:///usr/share/doc/understudy/runbooks.md#";

fn promtool_accepts() -> anyhow::Result<()> {
    let folder = repository("deploy/prometheus");
    let (is_fine, said) = promtool(&["check", "rules", "alerts.yml"], &folder, None)?;
    ensure!(is_fine, "{said}");
    let (is_fine, said) = promtool(&["check", "config", "--syntax-only", "scrape.yml"], &folder, None)?;
    ensure!(is_fine, "{said}");
    Ok(())
}

fn cases_hold() -> anyhow::Result<()> {
    let (is_fine, said) =
        promtool(&["test", "rules", "alerts_test.yml"], &repository("deploy/prometheus"), None)?;
    ensure!(is_fine, "{said}");
    Ok(())
}

/// Changes that each make an alert wrong.
const MISTAKES: [(&str, &str); 10] = [
    ("> 0.001", "> 0.5"),
    ("for: 4h", "for: 1m"),
    ("{reason!~\"sampled_out|flow_unwanted|passed_before\"}", ""),
    ("|passed_before", ""),
    ("unless on (job, instance) understudy_paused == 1", ""),
    ("unless on (job, instance) max_over_time(understudy_paused[10m]) == 1", ""),
    ("or resets(understudy_process_cpu_seconds_total[30m]) > 3", ""),
    ("control_incomplete|body_cut", "candidate_timed_out"),
    ("understudy_regression_detected{kind=\"body\"}", "understudy_regression_detected"),
    ("understudy_spool_bytes_max > 0.7", "understudy_spool_bytes_max > 0.1"),
];

fn cases_notice() -> anyhow::Result<()> {
    let read = |name: &str| std::fs::read_to_string(repository("deploy/prometheus").join(name));
    let (alerts, cases) = (read("alerts.yml")?, read("alerts_test.yml")?);
    for (right, wrong) in MISTAKES {
        ensure!(alerts.contains(right), "no alert says `{right}` any more");
        let folder = TempDir::new()?;
        std::fs::write(folder.path().join("alerts.yml"), alerts.replace(right, wrong))?;
        std::fs::write(folder.path().join("alerts_test.yml"), &cases)?;
        let (is_fine, _) = promtool(&["test", "rules", "alerts_test.yml"], folder.path(), None)?;
        ensure!(!is_fine, "no case notices `{wrong}` instead of `{right}`");
    }
    Ok(())
}

/// The sections of the runbooks.
pub(crate) fn headings(runbooks: &str) -> BTreeSet<&str> {
    runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect()
}

fn runbooks() -> anyhow::Result<()> {
    let alerts = std::fs::read_to_string(repository("deploy/prometheus/alerts.yml"))?;
    let cases = std::fs::read_to_string(repository("deploy/prometheus/alerts_test.yml"))?;
    let runbooks = std::fs::read_to_string(repository("docs/runbooks.md"))?;
    let headings = headings(&runbooks);
    let mut named = BTreeSet::new();
    for rule in alerts.split("- alert: ").skip(1) {
        let name = rule.lines().next().context("an alert without a name")?.trim();
        named.insert(name);
        for part in ["severity:", "summary:", "description:"] {
            ensure!(rule.contains(part), "{name} has no {part}");
        }
        // An anchor is the heading in small letters.
        let anchor = rule.split(RUNBOOKS).nth(1).and_then(|rest| rest.split_whitespace().next());
        ensure!(anchor == Some(name.to_lowercase().as_str()), "{name} points to {anchor:?}");
        ensure!(cases.contains(&format!("alertname=\"{name}\"")), "no case is about {name}");
    }
    ensure!(named == headings, "alerts and runbooks differ: {:?}", named.symmetric_difference(&headings));
    Ok(())
}
