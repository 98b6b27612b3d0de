//! What a scrape shows, and what the documentation says of it.
//!
//! Values are read back from the text, as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::samples::compared;
use crate::model::{Fate, RegressionKind, Timestamp};

/// Everything that can be exported at once, with one experiment and one route.
fn everything() -> (Metrics, Arc<Ledger>, watch::Sender<CaptureCounts>, ComparisonMetrics) {
    let (sender, capture) = watch::channel(CaptureCounts::default());
    let (name, ledger): (Arc<str>, _) = ("search".into(), Arc::new(Ledger::default()));
    let replay = Some(Arc::new(ReplayStats::default()));
    let experiments = vec![ExperimentStatus { name: Arc::clone(&name), ledger: Arc::clone(&ledger), replay }];
    let comparisons = ComparisonMetrics::new([(&name, vec!["/items/{id}".into()])]);
    let queue = QueueStatus {
        uploads: vec![(Arc::clone(&name), Arc::default())],
        workers: vec![(Arc::clone(&name), Arc::default())],
        spool: Some(Arc::default()),
        ..QueueStatus::default()
    };
    let regression = |kind| Regression {
        experiment: "search".into(),
        route: "/items/{id}".into(),
        kind,
        detected: false,
        evalue: 0.0,
    };
    let regressions = RegressionSource::new(move || RegressionKind::ALL.map(regression).to_vec());
    let status = Status {
        capture: Some(capture),
        experiments,
        queue: Some(Arc::new(queue)),
        pause: Arc::default(),
        regressions: Some(regressions),
        redact: Some(Arc::new(RedactStats::new(true, &["header"], &["field"]))),
    };
    let mut metrics = Metrics::new(Arc::new(status), &comparisons);
    metrics.add_admin(Arc::default());
    (metrics, ledger, sender, comparisons)
}

#[track_caller]
fn check(metrics: &Metrics, line: &str) {
    let text = metrics.encode(Format::Text).unwrap();
    assert!(text.lines().any(|have| have == line), "{line} in:\n{text}");
}

#[test]
fn series_exist_at_zero_and_show_what_was_counted() {
    let (metrics, ledger, sender, _) = everything();
    check(&metrics, "understudy_exchanges_total{experiment=\"search\",fate=\"matched\"} 0");
    check(
        &metrics,
        "understudy_comparisons_total{experiment=\"search\",route=\"/items/{id}\",outcome=\"mismatch\"} 0",
    );
    check(&metrics, "understudy_incomparable_total{experiment=\"search\",reason=\"body_cut\"} 0");
    check(&metrics, "understudy_replay_failures_total{experiment=\"search\",reason=\"unreachable\"} 0");
    check(&metrics, "understudy_mismatch_total{experiment=\"search\",route=\"/items/{id}\",kind=\"body\"} 0");
    check(&metrics, "understudy_replay_delay_seconds_count{experiment=\"search\"} 0");
    check(&metrics, "understudy_capture_unused_total{reason=\"no_flow\"} 0");
    check(&metrics, "understudy_capture_drops_total{reason=\"ring_full\"} 0");
    check(&metrics, "understudy_paused 0");

    ledger.admit().settle(Fate::Matched);
    let mut counts = CaptureCounts::default();
    counts.source.drops = vec![("ring_full", 3)];
    counts.tee.used = 5;
    sender.send_replace(counts);
    check(&metrics, "understudy_exchanges_total{experiment=\"search\",fate=\"matched\"} 1");
    check(&metrics, "understudy_exchanges_seen_total{experiment=\"search\"} 1");
    check(&metrics, "understudy_capture_drops_total{reason=\"ring_full\"} 3");
    check(&metrics, "understudy_capture_packets_used_total 5");
}

#[test]
fn a_mismatch_counts_once_for_each_kind_and_is_named() {
    let (metrics, _, _, comparisons) = everything();
    let paths = ["status", "json:$.a", "json:$.b"];
    comparisons.observe(&compared("search", "/items/{id}", Timestamp(1), [Duration::ZERO; 2], &paths));
    let of_kind = |kind: &str, count: u64| {
        let labels = format!("experiment=\"search\",route=\"/items/{{id}}\",kind=\"{kind}\"");
        format!("understudy_mismatch_total{{{labels}}} {count}")
    };
    check(&metrics, &of_kind("status", 1));
    check(&metrics, &of_kind("body", 1));
    check(&metrics, &of_kind("header", 0));
    let open_metrics = metrics.encode(Format::OpenMetrics).unwrap();
    let exemplar = format!("{} # {{exchange=\"", of_kind("body", 1));
    assert!(open_metrics.lines().any(|line| line.starts_with(&exemplar)), "{exemplar} in:\n{open_metrics}");
    assert!(!metrics.encode(Format::Text).unwrap().contains("exchange="));
}

#[test]
fn a_pause_is_seen() {
    let status = Arc::new(Status::default());
    let metrics = Metrics::new(Arc::clone(&status), &ComparisonMetrics::new([]));
    status.pause.set(true);
    status.pause.add(Duration::from_millis(1_500));
    check(&metrics, "understudy_paused 1");
    check(&metrics, "understudy_paused_seconds_total 1.5");
}

/// The names of families with their kinds, and for each the labels of its samples.
fn exported(text: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut families: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut family = None;
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let key = (name.to_owned(), kind.to_owned());
            families.entry(key.clone()).or_default();
            family = Some(key);
        } else if let Some((_, set)) = line.split_once('{')
            && let Some(labels) = family.as_ref().and_then(|family| families.get_mut(family))
        {
            let names = set.split("=\"").filter_map(|part| part.rsplit(['"', ',', '{']).next());
            labels.extend(names.filter(|name| !name.contains('}') && *name != "le").map(str::to_owned));
        }
    }
    families
}

#[test]
fn what_is_exported_is_what_the_table_says() {
    let (metrics, ..) = everything();
    let exported = exported(&metrics.encode(Format::Text).unwrap());
    let table: BTreeMap<_, _> = SECTIONS
        .iter()
        .flat_map(|section| section.metrics)
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| label.name.to_owned()).collect();
            ((metric.full_name(), metric.kind.as_str().to_owned()), labels)
        })
        .collect();
    assert_eq!(exported, table);
}

#[test]
fn the_documentation_is_what_the_program_says() {
    let documented = include_str!("../../../docs/metrics.md");
    assert!(documented == document(), "docs/metrics.md is out of date: `cargo xtask docs` writes it");
}
