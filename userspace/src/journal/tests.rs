//! Tests of the journal through its trait.
//!
//! Make comparisons by hand: what they say does not matter here, what is kept does.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rusqlite::OptionalExtension as _;

use super::*;
use crate::model::{
    Body, BranchFailure, Difference, DifferenceKind, ExchangeId, Fate, IncomparableReason, Ledger,
    Observation, Outcome, samples,
};

pub(super) fn comparison(number: u64, target: &str, outcome: Outcome) -> Comparison {
    let at = Timestamp(1_700_000_000_000_000_000 + number);
    let secrets =
        [("Host", "a"), ("authorization", "Bearer s3cret"), ("Cookie", "s3cret"), ("X-Api-Key", "s3cret")];
    let mut request = samples::request("POST", target, &secrets);
    request.body = Body::whole("0123456789");
    let id = ExchangeId { flow: number, offset: 0 };
    let mut exchange = samples::exchange(id, at, request, samples::response(200, &[], "{}"));
    exchange.times.response = Some((at, at.after(Duration::from_millis(2))));
    let response = Box::new(samples::response(500, &[], "{}"));
    let served = Duration::from_millis(3);
    Comparison {
        experiment: "shop".into(),
        route: "/items/{id}".into(),
        exchange: Arc::new(exchange),
        candidate: Observation::Answered { response, ttfb: served, served },
        compared_at: at,
        outcome,
    }
}

pub(super) fn mismatch(path: &str) -> Outcome {
    let difference = Difference {
        path: path.to_owned(),
        kind: DifferenceKind::Value,
        place: path.to_owned(),
        control: Some("s3cret".into()),
        candidate: None,
    };
    Outcome::Mismatch { differences: vec![difference], ignored: vec![("header:date".into(), 2)], omitted: 1 }
}

/// One cause for each path: the grouping proper is tested in `compare`.
pub(super) fn cause_of(comparison: &Comparison) -> Option<Cause> {
    let Outcome::Mismatch { differences, .. } = &comparison.outcome else { return None };
    let signature = differences.first()?.path.clone();
    let change = Change { path: signature.clone(), kind: "value".into(), classes: None };
    Some(Cause { id: signature.clone(), signature, changes: vec![change] })
}

fn start() -> RunStart {
    RunStart {
        started_at: Timestamp(5),
        version: "0.1.0".into(),
        summary: "test".into(),
        ports: vec![8080],
        experiments: vec![ExperimentStart {
            name: "shop".into(),
            candidate: "http://b:9090".into(),
            rules: vec!["header:date".into(), "status".into()],
            policy: "{}".into(),
            routes: Vec::new(),
            context: std::collections::BTreeMap::new(),
        }],
    }
}

fn journal(limits: JournalLimits) -> (SqliteJournal, RunId) {
    let mut journal = SqliteJournal::in_memory(limits, cause_of).unwrap();
    let run = journal.begin(&start()).unwrap();
    (journal, run)
}

fn experiment(journal: &SqliteJournal) -> ExperimentRecord {
    journal.read(None).unwrap().unwrap().experiments.remove(0)
}

#[test]
fn what_was_recorded_is_read_back() {
    let (mut journal, run) = journal(JournalLimits::default());
    let mut unreachable =
        comparison(3, "/c", Outcome::Incomparable(IncomparableReason::CandidateUnreachable));
    unreachable.candidate = Observation::Failed(BranchFailure::Unreachable);
    let batch = [
        comparison(1, "/a", Outcome::Match),
        comparison(2, "/b", mismatch("json:$.x")),
        unreachable,
        comparison(4, "/d", Outcome::Ignored(vec![("header:date".into(), 1)])),
    ];
    journal.record(run, &batch).unwrap();
    journal.finish(run, Timestamp(9)).unwrap();

    let record = journal.read(Some(run)).unwrap().unwrap();
    assert_eq!(
        (record.started_at, record.ended_at, record.ports),
        (Timestamp(5), Some(Timestamp(9)), vec![8080])
    );
    let experiment = &record.experiments[0];
    let outcomes: Vec<_> =
        experiment.outcomes.iter().map(|o| (o.outcome.as_str(), o.reason.as_str(), o.count)).collect();
    let expected = [
        ("ignored", "", 1),
        ("incomparable", "candidate_unreachable", 1),
        ("match", "", 1),
        ("mismatch", "", 1),
    ];
    assert_eq!(outcomes, expected);
    let rules: Vec<_> =
        experiment.rules.iter().map(|r| (r.rule.as_str(), r.comparisons, r.differences)).collect();
    assert_eq!(rules, [("header:date", 2, 3), ("status", 0, 0)]);
    let times = |row: &LatencyRow| (row.control_us, row.candidate_us, row.first_byte_us);
    let times: Vec<_> = experiment.latencies.iter().map(times).collect();
    assert_eq!(times, [(2_000, 3_000, Some((0, 3_000))); 3]);
    let example = &experiment.causes[0].examples[0];
    assert_eq!(
        (example.target.as_str(), &example.body[..], example.body_bytes),
        ("/b", &b"0123456789"[..], 10)
    );
    assert_eq!((example.control_status, example.candidate_status), (200, 500));
    assert_eq!(example.differences[0].control.as_deref(), Some("s3cret"));
}

#[test]
fn a_repeated_comparison_changes_nothing() {
    let (mut journal, run) = journal(JournalLimits::default());
    let batch = [comparison(1, "/a", Outcome::Match), comparison(2, "/b", mismatch("status"))];
    journal.record(run, &batch).unwrap();
    journal.record(run, &batch).unwrap();
    let experiment = experiment(&journal);
    assert!(experiment.outcomes.iter().all(|outcome| outcome.count == 1), "{:?}", experiment.outcomes);
    assert_eq!((experiment.causes[0].count, experiment.rules[0].comparisons), (1, 1));
}

#[test]
fn secrets_are_not_kept() {
    let (mut journal, run) = journal(JournalLimits::default());
    journal.record(run, &[comparison(1, "/a", mismatch("header:set-cookie[sid]"))]).unwrap();
    assert!(!format!("{:?}", experiment(&journal)).contains("s3cret"));
}

#[test]
fn the_smallest_examples_of_a_cause_are_kept() {
    let (mut journal, run) = journal(JournalLimits { examples_per_cause_max: 2, ..JournalLimits::default() });
    for (number, target) in (0..).zip(["/long-long", "/long", "/longer", "/s", "/longest-of-all"]) {
        journal.record(run, &[comparison(number, target, mismatch("status"))]).unwrap();
    }
    let cause = &experiment(&journal).causes[0];
    let targets: Vec<_> = cause.examples.iter().map(|example| example.target.as_str()).collect();
    assert_eq!((cause.count, targets), (5, vec!["/s", "/long"]));
}

/// A comparison whose answers have bodies of `bytes` bytes, and cookies.
fn with_answers(number: u64, target: &str, path: &str, bytes: usize) -> Comparison {
    let mut comparison = comparison(number, target, mismatch(path));
    let cookie = [("Set-Cookie", "sid=s3cret; Path=/"), ("Content-Type", "text/plain")];
    let response = samples::response(500, &cookie, vec![b'x'; bytes]);
    comparison.candidate = Observation::Answered {
        response: Box::new(response),
        ttfb: Duration::from_millis(1),
        served: Duration::from_millis(1),
    };
    comparison
}

#[test]
fn both_answers_of_an_example_are_kept_within_their_limit_and_without_secrets() {
    let (mut journal, run) =
        journal(JournalLimits { example_answer_bytes_max: 10, ..JournalLimits::default() });
    journal.record(run, &[with_answers(1, "/a", "status", 30)]).unwrap();
    let example = experiment(&journal).causes[0].examples[0].clone();
    let Answers { control, candidate } = journal.answers(run, "shop", &example).unwrap();
    let (control, candidate) = (control.unwrap(), candidate.unwrap());
    assert_eq!((control.status, &control.body[..], control.body_bytes), (200, &b"{}"[..], 2));
    assert_eq!((candidate.status, &candidate.body[..], candidate.body_bytes), (500, &b"xxxxxxxxxx"[..], 30));
    let headers = [("Set-Cookie", "sid=<redacted>; Path=/"), ("Content-Type", "text/plain")];
    assert_eq!(candidate.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn answers_go_with_their_example_and_stay_within_the_bound_of_the_experiment() {
    let limits =
        JournalLimits { examples_per_cause_max: 1, answers_bytes_max: 600, ..JournalLimits::default() };
    let (mut journal, run) = journal(limits);
    let kept = |journal: &SqliteJournal| -> Vec<bool> {
        let causes = experiment(journal).causes;
        let answers = |cause: &CauseRecord| journal.answers(run, "shop", &cause.examples[0]).unwrap();
        causes.iter().map(|cause| answers(cause).candidate.is_some()).collect()
    };
    journal.record(run, &[with_answers(1, "/", "a", 400)]).unwrap();
    assert_eq!(kept(&journal), [true]);
    // No room beside the first one.
    journal.record(run, &[with_answers(2, "/", "b", 400)]).unwrap();
    assert_eq!(kept(&journal), [true, false]);
    // Smaller examples take the place of both, and with it their room.
    journal.record(run, &[with_answers(3, "/", "a", 100)]).unwrap();
    journal.record(run, &[with_answers(4, "/", "b", 100)]).unwrap();
    assert_eq!(kept(&journal), [true, true]);
    let rows: i64 =
        journal.connection.query_row("SELECT count(*) FROM answer", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 4, "what was replaced is gone");
}

#[test]
fn paths_and_changes_are_read_back() {
    let (mut journal, run) = journal(JournalLimits::default());
    journal.record(run, &[comparison(1, "/a", mismatch("json:$.x"))]).unwrap();
    let path = |state: &str| PathRecord {
        route: "/items/{id}".to_owned(),
        path: "json:$.x".to_owned(),
        state: state.to_owned(),
        detail: "{}".to_owned(),
    };
    journal.record_paths(run, "shop", &[path("undecided")]).unwrap();
    journal.record_paths(run, "shop", &[path("noise")]).unwrap();
    let experiment = experiment(&journal);
    assert_eq!(experiment.paths, [path("noise")]);
    let change = Change { path: "json:$.x".into(), kind: "value".into(), classes: None };
    assert_eq!(experiment.causes[0].changes, [change]);
}

#[test]
fn causes_beyond_the_limit_are_counted() {
    let (mut journal, run) = journal(JournalLimits { causes_max: 2, ..JournalLimits::default() });
    let batch: Vec<_> = (0..5).map(|i| comparison(i, "/", mismatch(&format!("json:$.{}", i % 4)))).collect();
    journal.record(run, &batch).unwrap();
    let experiment = experiment(&journal);
    let counts: Vec<_> = experiment.causes.iter().map(|cause| cause.count).collect();
    assert_eq!((counts, experiment.causes_omitted), (vec![2, 1], 2));
}

#[test]
fn comparisons_beyond_the_limit_are_removed_and_counts_stay() {
    let (mut journal, run) = journal(JournalLimits { comparisons_max: 100, ..JournalLimits::default() });
    for start in (0..1_000).step_by(10) {
        let batch: Vec<_> = (start..start + 10).map(|i| comparison(i, "/", Outcome::Match)).collect();
        journal.record(run, &batch).unwrap();
    }
    let record = journal.read(None).unwrap().unwrap();
    let kept = record.experiments[0].latencies.len() as u64;
    assert!((100..=110).contains(&kept), "{kept} kept");
    assert_eq!(record.comparisons_removed + kept, 1_000);
    assert_eq!(record.experiments[0].outcomes[0].count, 1_000);
}

#[test]
fn runs_beyond_the_limit_are_removed() {
    let (mut journal, first) = journal(JournalLimits { runs_max: 2, ..JournalLimits::default() });
    journal.record(first, &[comparison(1, "/", mismatch("status"))]).unwrap();
    journal.begin(&start()).unwrap();
    journal.begin(&start()).unwrap();
    assert!(journal.read(Some(first)).unwrap().is_none());
    assert!(journal.read(Some(RunId(first.0 + 1))).unwrap().is_some());
}

#[test]
fn a_failed_batch_leaves_nothing_behind() {
    let (mut journal, run) = journal(JournalLimits::default());
    let mut stranger = comparison(2, "/", Outcome::Match);
    stranger.experiment = "nobody".into();
    let error = journal.record(run, &[comparison(1, "/", mismatch("status")), stranger]).unwrap_err();
    assert_eq!(error.to_string(), "run 1 has no experiment `nobody`");
    journal.record(run, &[comparison(1, "/", mismatch("status"))]).unwrap();
    assert_eq!(experiment(&journal).causes[0].examples.len(), 1);
}

#[test]
fn a_ledger_replaces_the_one_before() {
    let (mut journal, run) = journal(JournalLimits::default());
    let ledger = Arc::new(Ledger::default());
    for _ in 0..2 {
        ledger.admit().settle(Fate::Matched);
        journal.record_ledger(run, "shop", &ledger.snapshot()).unwrap();
    }
    let experiment = experiment(&journal);
    assert_eq!((experiment.seen, experiment.in_flight), (2, 0));
    let labels: Vec<_> = experiment.fates.iter().map(|(fate, _)| fate.as_str()).collect();
    assert_eq!(labels, Fate::ALL.map(Fate::label));
    assert!(experiment.fates.contains(&("matched".into(), 2)));
}

thread_local! {
    static OTHER_RUN: std::cell::RefCell<Option<rusqlite::Connection>> = const { std::cell::RefCell::new(None) };
}

/// What SQLite calls while a lock is taken: lets the other run finish its write.
fn other_run_commits(_calls: i32) -> bool {
    OTHER_RUN.take().is_some_and(|other| other.execute_batch("COMMIT").is_ok())
}

#[test]
fn a_write_waits_for_the_write_of_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = SqliteJournal::open(&path, JournalLimits::default(), cause_of).unwrap();
    let run = journal.begin(&start()).unwrap();
    journal.connection.busy_handler(Some(other_run_commits)).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE run SET summary = 'other'").unwrap();
    OTHER_RUN.set(Some(other));
    journal.record(run, &[comparison(1, "/", mismatch("status"))]).unwrap();
    assert!(OTHER_RUN.take().is_none(), "the other run had the lock");
    assert_eq!(journal.read(Some(run)).unwrap().unwrap().summary, "other");
    assert_eq!(experiment(&journal).causes[0].count, 1);
}

/// As in a process that found the file empty, and then had to wait for the one that made it.
#[test]
fn tables_that_another_run_made_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = SqliteJournal::open(&path, JournalLimits::default(), cause_of).unwrap();
    let run = journal.begin(&start()).unwrap();
    SqliteJournal::make_tables(&mut rusqlite::Connection::open(&path).unwrap()).unwrap();
    assert!(journal.read(Some(run)).unwrap().is_some());
}

#[test]
fn a_file_is_private_and_survives_and_is_refused_when_newer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let open = || SqliteJournal::open(&path, JournalLimits::default(), cause_of);
    let missing = SqliteJournal::open_existing(&path, JournalLimits::default(), cause_of).unwrap_err();
    assert!(matches!(missing, JournalError::Missing { path: _ }), "{missing}");

    let mut journal = open().unwrap();
    let run = journal.begin(&start()).unwrap();
    journal.record(run, &[comparison(1, "/", mismatch("status"))]).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
    drop(journal);

    // Another process goes on with the same run: counts and examples add up.
    let mut again = open().unwrap();
    again.record(run, &[comparison(2, "/", mismatch("status"))]).unwrap();
    assert_eq!(experiment(&again).causes[0].count, 2);
    again.connection.execute_batch("PRAGMA user_version = 7").unwrap();
    drop(again);
    let error = open().unwrap_err().to_string();
    assert!(error.contains("has schema 7, this program knows schemas up to 5"), "{error}");
}

/// Writes after `spoil`: what is said of the comparison and of the ledger, each of which must name the file.
#[track_caller]
fn check_write_error(spoil: impl FnOnce(&SqliteJournal, &std::path::Path), remedy: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut journal = SqliteJournal::open(&path, JournalLimits::default(), cause_of).unwrap();
    let run = journal.begin(&start()).unwrap();
    spoil(&journal, &path);
    let ledger = LedgerSnapshot { seen: 1, in_flight: 0, fates: vec![(Fate::Matched, 1)] };
    let errors = [
        // More than the pages that it has take.
        (0..2_000).find_map(|n| journal.record(run, &[comparison(n, "/", mismatch("status"))]).err()),
        journal.record_ledger(run, "shop", &ledger).err(),
    ];
    // Where there is room for nothing more, there may be for a count.
    let first = errors.into_iter().flatten().next().expect("it is written all the same").to_string();
    assert!(first.contains(&format!("journal `{}`", path.display())), "{first}");
    assert!(first.contains(remedy), "{first}");
}

#[test]
fn a_write_that_fails_names_the_file_and_the_remedy() {
    let pragma = |text: &'static str| {
        move |journal: &SqliteJournal, _: &std::path::Path| {
            journal.connection.query_row(text, [], |_| Ok(())).optional().map(drop).unwrap();
        }
    };
    check_write_error(pragma("PRAGMA max_page_count = 60"), "its disk is full; make room");
    check_write_error(pragma("PRAGMA query_only = 1"), "it can only be read; mount its disk for writing");
    let gone = "was removed or replaced while it was written, and nothing more is kept; put its folder back";
    check_write_error(|_, path| std::fs::remove_file(path).unwrap(), gone);
    let replace = |_: &SqliteJournal, path: &std::path::Path| {
        std::fs::rename(path, path.with_extension("old")).unwrap();
        std::fs::write(path, "").unwrap();
    };
    check_write_error(replace, gone);
}

#[test]
fn brings_the_file_of_an_older_program_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let open = || SqliteJournal::open(&path, JournalLimits::default(), cause_of).unwrap();
    let mut journal = open();
    let run = journal.begin(&start()).unwrap();
    journal
        .connection
        .execute_batch(
            "ALTER TABLE experiment DROP COLUMN stopped; ALTER TABLE experiment DROP COLUMN routes;
             ALTER TABLE experiment DROP COLUMN context; ALTER TABLE rule DROP COLUMN met;
             ALTER TABLE rule DROP COLUMN failed; ALTER TABLE cause DROP COLUMN changes; DROP TABLE answer;
             DROP TABLE path; ALTER TABLE comparison DROP COLUMN control_first_us;
             ALTER TABLE comparison DROP COLUMN candidate_first_us;
             ALTER TABLE run DROP COLUMN paused_ms; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(journal);

    let mut journal = open();
    assert_eq!(experiment(&journal).stopped, None);
    assert_eq!(experiment(&journal).context, std::collections::BTreeMap::new());
    assert!(experiment(&journal).rules.iter().all(|rule| rule.met == 0 && rule.failed == 0));
    journal.stop_experiment(run, "shop", "Because.").unwrap();
    assert_eq!(experiment(&journal).stopped.as_deref(), Some("Because."));
    drop(journal);
    assert_eq!(experiment(&open()).stopped.as_deref(), Some("Because."));
}

#[test]
fn rules_that_came_later_are_kept_with_what_they_met() {
    let mut journal = SqliteJournal::in_memory(JournalLimits::default(), cause_of).unwrap();
    let run = journal.begin(&start()).unwrap();
    let before: Vec<_> = experiment(&journal).rules.into_iter().map(|rule| rule.rule).collect();
    let totals = |met| [RuleTotals { rule: "json:$.later".into(), met, failed: 2 }];
    journal.record_rules(run, "shop", &totals(3)).unwrap();
    journal.record_rules(run, "shop", &totals(5)).unwrap();
    let rules = experiment(&journal).rules;
    assert_eq!(rules.len(), before.len() + 1);
    let later = RuleCount { rule: "json:$.later".into(), comparisons: 0, differences: 0, met: 5, failed: 2 };
    assert_eq!(rules.last(), Some(&later));
}
