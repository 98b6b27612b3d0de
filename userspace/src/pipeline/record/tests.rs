//! Tests of the recorder with a journal in memory.
//!
//! A comparison of an experiment that the run does not have stands for everything that a journal cannot keep.

use std::sync::Mutex;

use super::*;
use crate::journal::{ExperimentStart, JournalLimits, RunStart, SqliteJournal};
use crate::metrics::CaptureCounts;
use crate::model::{ExchangeId, Observation, Outcome, Timestamp, samples};
use crate::pipeline::handover::{Closed, ComparisonSender, HandoverLimits, handover};

type Told = Arc<Mutex<Vec<u64>>>;

/// A recorder of a run with the experiment `x`, which tells whom it keeps.
fn recorder(on_kept: Option<OnKept>) -> (ComparisonSender, Recorder<SqliteJournal>) {
    let mut journal = SqliteJournal::in_memory(JournalLimits::default(), |_| None).unwrap();
    let experiment = ExperimentStart {
        name: "x".into(),
        candidate: "http://b".to_owned(),
        rules: Vec::new(),
        policy: "{}".to_owned(),
        routes: Vec::new(),
        context: Default::default(),
    };
    let run = journal.begin(&RunStart { experiments: vec![experiment], ..RunStart::default() }).unwrap();
    let (sender, comparisons) = handover(HandoverLimits::default());
    let (_, capture) = tokio::sync::watch::channel(CaptureCounts::default());
    let status = Arc::new(Status { capture: Some(capture), ..Status::default() });
    let live = Arc::new(Live::new(Vec::new(), Default::default()));
    let (metrics, sciences) = (ComparisonMetrics::new([]), Vec::new());
    (sender, Recorder { journal, run, comparisons, metrics, status, live, sciences, on_kept })
}

fn comparison(experiment: &str, number: u64) -> Comparison {
    let (id, at) = (ExchangeId { flow: number, offset: 0 }, Timestamp(number));
    let exchange =
        samples::exchange(id, at, samples::request("GET", "/", &[]), samples::response(200, &[], ""));
    let response = Box::new(samples::response(200, &[], ""));
    Comparison {
        experiment: experiment.into(),
        route: "other".into(),
        exchange: Arc::new(exchange),
        candidate: Observation::Answered { response, ttfb: Duration::ZERO, served: Duration::ZERO },
        compared_at: at,
        outcome: Outcome::Match,
    }
}

fn telling() -> (Told, OnKept) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let on_kept = move |kept: &[Comparison]| {
        tell.lock().unwrap().extend(kept.iter().map(|comparison| comparison.exchange.id.flow));
    };
    (told, Box::new(on_kept))
}

#[tokio::test]
async fn others_are_told_of_what_is_kept() {
    let (told, on_kept) = telling();
    let (sender, recorder) = recorder(Some(on_kept));
    for number in 1..=3 {
        sender.send(comparison("x", number)).await.unwrap();
    }
    drop(sender);
    let (_, outcome) = recorder.run().await;
    outcome.unwrap();
    assert_eq!(*told.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_ends_a_recorder_on_whom_others_rely() {
    let (told, on_kept) = telling();
    let (sender, recorder) = recorder(Some(on_kept));
    sender.send(comparison("x", 1)).await.unwrap();
    sender.send(comparison("nobody's", 2)).await.unwrap();
    let (_, outcome) = recorder.run().await;
    assert!(outcome.is_err());
    assert!(told.lock().unwrap().is_empty(), "a batch is kept whole or not at all");
    assert_eq!(sender.send(comparison("x", 3)).await, Err(Closed));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_ends_nothing_else() {
    let (sender, recorder) = recorder(None);
    sender.send(comparison("nobody's", 1)).await.unwrap();
    let runs = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        sender.send(comparison("x", 2)).await.unwrap();
        drop(sender);
    };
    let ((journal, outcome), ()) = tokio::join!(recorder.run(), runs);
    assert!(outcome.is_err());
    let kept = journal.read(None).unwrap().unwrap();
    assert_eq!(kept.experiments.iter().flat_map(|one| &one.outcomes).map(|one| one.count).sum::<u64>(), 1);
}

/// What is said when comparisons, then counts, are kept (`+`) or not (`-`), or there are none (` `), once for each pair.
#[track_caller]
fn check_said(steps: &[&str], expected: &[Said]) {
    let mut health = Health::default();
    let kept = |sign| if sign == b'+' { Ok(()) } else { Err(()) };
    let mut said = Vec::new();
    for step in steps {
        let [comparisons, counts] = step.as_bytes() else { panic!("two signs, not `{step}`") };
        said.extend((*comparisons != b' ').then(|| health.comparisons(&kept(*comparisons))).flatten());
        said.extend((*counts != b' ').then(|| health.counts(&kept(*counts))).flatten());
    }
    assert_eq!(said, expected, "{steps:?}");
}

#[test]
fn counts_that_do_not_fit_in_are_no_comparisons_that_are_lost() {
    use Said::{ComparisonsAgain, ComparisonsLost, CountsAgain, CountsOld};
    // Counts fail for a while, and comparisons fit in all along.
    check_said(&["++", "+-", "+ ", " -", "+-", "++"], &[CountsOld, CountsAgain]);
    // A full disk: both fail, and counts fit in first.
    check_said(
        &["++", "--", "- ", "-+", "-+", "++"],
        &[ComparisonsLost, CountsOld, CountsAgain, ComparisonsAgain],
    );
    check_said(&["+ ", " +", "++"], &[]);
}
