//! What a scrape shows.
//!
//! Values are read back from the text, as Prometheus reads them.

use super::*;
use crate::model::Fate;

#[test]
fn series_exist_at_zero_and_show_what_was_counted() {
    let (sender, capture) = watch::channel(CaptureCounts::default());
    let ledger = Arc::new(Ledger::default());
    let name: Arc<str> = "search".into();
    let replay = Some(Arc::new(ReplayStats::default()));
    let experiments = vec![ExperimentStatus { name: Arc::clone(&name), ledger: Arc::clone(&ledger), replay }];
    let comparisons = ComparisonMetrics::new([(&name, vec!["/items/{id}".into()])]);
    let metrics =
        Metrics::new(Arc::new(Status { capture: Some(capture), experiments, queue: None }), &comparisons);
    let has = |line: &str| {
        let text = metrics.encode().unwrap();
        assert!(text.lines().any(|have| have == line), "{line} in:\n{text}");
    };
    has("understudy_exchanges_total{experiment=\"search\",fate=\"matched\"} 0");
    has("understudy_comparisons_total{experiment=\"search\",route=\"/items/{id}\",outcome=\"mismatch\"} 0");
    has("understudy_incomparable_total{experiment=\"search\",reason=\"body_cut\"} 0");
    has("understudy_replay_failures_total{experiment=\"search\",reason=\"unreachable\"} 0");
    has("understudy_capture_unused_total{reason=\"no_flow\"} 0");

    ledger.admit().settle(Fate::Matched);
    let mut counts = CaptureCounts::default();
    counts.source.drops = vec![("ring_full", 3)];
    counts.tee.used = 5;
    sender.send_replace(counts);
    has("understudy_exchanges_total{experiment=\"search\",fate=\"matched\"} 1");
    has("understudy_exchanges_seen_total{experiment=\"search\"} 1");
    has("understudy_capture_drops_total{reason=\"ring_full\"} 3");
    has("understudy_capture_packets_used_total 5");
}

#[test]
fn the_documentation_lists_exactly_what_is_exported() {
    let (_, capture) = watch::channel(CaptureCounts::default());
    let name: Arc<str> = "x".into();
    let replay = Some(Arc::new(ReplayStats::default()));
    let experiments = vec![ExperimentStatus { name: Arc::clone(&name), ledger: Arc::default(), replay }];
    let comparisons = ComparisonMetrics::new([(&name, vec!["other".into()])]);
    let queue = QueueStatus {
        uploads: vec![(Arc::clone(&name), Arc::default())],
        workers: vec![(Arc::clone(&name), Arc::default())],
        spool: Some(Arc::default()),
        ..QueueStatus::default()
    };
    let status = Status { capture: Some(capture), experiments, queue: Some(Arc::new(queue)) };
    let text = Metrics::new(Arc::new(status), &comparisons).encode().unwrap();
    let mut exported: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| format!("`{name}{}` | {kind}", if kind == "counter" { "_total" } else { "" }))
        .collect();
    let mut documented: Vec<String> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter(|line| line.starts_with("| `understudy_"))
        .map(|line| line.split('|').take(3).map(str::trim).collect::<Vec<_>>()[1..].join(" | "))
        .collect();
    exported.sort();
    documented.sort();
    assert_eq!(documented, exported);
}
