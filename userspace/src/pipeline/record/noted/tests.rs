//! What the journal is told of paths: how many rows, when, and that nothing is missing in the end.
//!
//! Writes no file.

use std::collections::BTreeMap;

use super::*;
use crate::compare::CompareLimits;
use crate::compare::noise::NoiseModel;
use crate::journal::{Answers, Example, JournalError, RuleTotals, RunRecord, RunStart};
use crate::model::{
    Comparison, Difference, DifferenceKind, Exchange, ExchangeId, LedgerSnapshot, Observation, Outcome,
    Timestamp, samples,
};
use crate::pipeline::judge::Judge;
use crate::pipeline::science::NoiseSettings;

/// A journal that holds paths and nothing else.
#[derive(Default)]
struct Pages {
    paths: BTreeMap<String, PathRecord>,
    rows: usize,
    refuses: bool,
}

impl Journal for Pages {
    fn record_paths(&mut self, _: RunId, _: &str, paths: &[PathRecord]) -> Result<(), JournalError> {
        if self.refuses {
            return not_held();
        }
        self.rows += paths.len();
        self.paths.extend(paths.iter().map(|record| (record.path.clone(), record.clone())));
        Ok(())
    }

    fn begin(&mut self, _: &RunStart) -> Result<RunId, JournalError> {
        not_held()
    }

    fn record(&mut self, _: RunId, _: &[Comparison]) -> Result<(), JournalError> {
        not_held()
    }

    fn record_ledger(&mut self, _: RunId, _: &str, _: &LedgerSnapshot) -> Result<(), JournalError> {
        not_held()
    }

    fn record_rules(&mut self, _: RunId, _: &str, _: &[RuleTotals]) -> Result<(), JournalError> {
        not_held()
    }

    fn stop_experiment(&mut self, _: RunId, _: &str, _: &str) -> Result<(), JournalError> {
        not_held()
    }

    fn note_pauses(&mut self, _: RunId, _: std::time::Duration) -> Result<(), JournalError> {
        not_held()
    }

    fn finish(&mut self, _: RunId, _: Timestamp) -> Result<(), JournalError> {
        not_held()
    }

    fn read(&self, _: Option<RunId>) -> Result<Option<RunRecord>, JournalError> {
        not_held()
    }

    fn answers(&self, _: RunId, _: &str, _: &Example) -> Result<Answers, JournalError> {
        not_held()
    }
}

const RUN: RunId = RunId(1);

fn not_held<T>() -> Result<T, JournalError> {
    Err(JournalError::UnknownExperiment { run: RUN.0, experiment: "x".to_owned() })
}

fn path(number: u64) -> String {
    format!("json:$.items.id{number}")
}

/// An experiment with a twin. An exchange differs at the path of its number, from the twin's answer as well.
fn noted() -> (Arc<Science>, Noted) {
    let judge = Judge::by(|exchange, _| {
        let path = path(exchange.id.offset);
        let place = path.clone();
        let kind = DifferenceKind::Value;
        let difference = Difference { path, kind, place, control: None, candidate: None };
        Outcome::Mismatch { differences: vec![difference], ignored: Vec::new(), omitted: 0 }
    });
    let settings = NoiseSettings::default();
    let model = NoiseModel::new(settings.model.clone()).expect("the default is in range");
    let science = Arc::new(Science::new(judge, CompareLimits::default(), true, settings, model));
    (Arc::clone(&science), Noted::new("x".into(), science))
}

fn exchange(number: u64) -> Exchange {
    let (request, response) = (samples::request("GET", "/", &[]), samples::response(200, &[], ""));
    samples::exchange(ExchangeId { flow: 1, offset: number }, Timestamp(1), request, response)
}

fn answer() -> Observation {
    let at = std::time::Duration::ZERO;
    Observation::Answered { response: Box::new(samples::response(200, &[], "")), ttfb: at, served: at }
}

/// Compares one exchange that differs at the path of this number.
async fn compare(science: &Science, number: u64) {
    science.compare(&exchange(number), "/", &answer(), Some(&answer())).await;
}

/// What the journal has to say in the end.
fn expected(science: &Science) -> BTreeMap<String, PathRecord> {
    let all: Vec<_> = (0..science.states().len()).map(PathId::new).collect();
    let records = science.sketches(&all).into_iter().map(|(_, sketch)| sketch.finish());
    records.map(|summary| (summary.path.clone(), PathRecord::new(&summary).unwrap())).collect()
}

#[tokio::test]
async fn rows_grow_with_the_paths_and_not_with_their_square() {
    let ((science, mut noted), mut journal) = (noted(), Pages::default());
    for number in 0..1_000 {
        compare(&science, number).await;
        noted.keep_news(&mut journal, RUN).unwrap();
        assert!(journal.paths.contains_key(&path(number)), "a path comes before its comparison");
    }
    assert_eq!(journal.rows, 1_000);
}

#[tokio::test]
async fn each_second_has_a_bound_and_costs_nothing_without_comparisons() {
    let ((science, mut noted), mut journal) = (noted(), Pages::default());
    for number in 0..500 {
        compare(&science, number).await;
    }
    noted.keep_turn(&mut journal, RUN).unwrap();
    assert_eq!(journal.paths, expected(&science), "all of them are new");
    // Each comparison changes how often a difference could have been, at every path of the route.
    compare(&science, 0).await;
    let mut rows = Vec::new();
    for _ in 0..6 {
        let before = journal.rows;
        noted.keep_turn(&mut journal, RUN).unwrap();
        rows.push(journal.rows - before);
    }
    assert!(rows.iter().all(|rows| *rows <= TURN_MAX + 1), "{rows:?}");
    assert_eq!(rows.last(), Some(&0), "{rows:?}");
    assert_eq!(journal.paths, expected(&science), "all had their turn");
}

#[tokio::test]
async fn a_state_that_changes_waits_for_no_turn() {
    let ((science, mut noted), mut journal) = (noted(), Pages::default());
    for number in 0..500 {
        compare(&science, number).await;
    }
    noted.keep_all(&mut journal, RUN).unwrap();
    while science.state("/", &path(400)) != PathState::Noise {
        compare(&science, 400).await;
    }
    noted.keep_turn(&mut journal, RUN).unwrap();
    assert_eq!(journal.paths[&path(400)].state, PathState::Noise.label());
}

#[tokio::test]
async fn the_end_is_exact_and_written_once() {
    let ((science, mut noted), mut journal) = (noted(), Pages::default());
    for number in 0..3_000 {
        compare(&science, number % 1_500).await;
    }
    noted.keep_all(&mut journal, RUN).unwrap();
    assert_eq!(journal.paths, expected(&science));
    let rows = journal.rows;
    noted.keep_all(&mut journal, RUN).unwrap();
    assert_eq!(journal.rows, rows, "what has not changed is not written again");
}

#[tokio::test]
async fn a_journal_that_refuses_is_told_again() {
    let ((science, mut noted), mut journal) = (noted(), Pages { refuses: true, ..Pages::default() });
    compare(&science, 7).await;
    assert!(noted.keep_news(&mut journal, RUN).is_err());
    journal.refuses = false;
    noted.keep_news(&mut journal, RUN).unwrap();
    assert!(journal.paths.contains_key(&path(7)));
}
