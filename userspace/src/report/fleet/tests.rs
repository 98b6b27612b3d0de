//! Tests of what several hosts come to in one report.
//!
//! Fill the store's fields as processes publish them, and read them back.

use super::*;
use crate::compare::latency::{LatencyPair, LatencySample};
use crate::compare::noise::NoiseConfig;
use crate::model::{Fate, Ledger, LedgerSnapshot, MemberCopy};
use crate::report::Conclusion;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

fn named() -> MemberName {
    MemberName {
        host: "web-1".into(),
        started_at: Timestamp(NOW.0 - 60_000_000_000),
        version: "0.1.0".into(),
    }
}

fn ledger(in_flight: u64, fates: &[(Fate, u64)]) -> LedgerSnapshot {
    let LedgerSnapshot { fates: all, .. } = std::sync::Arc::new(Ledger::default()).snapshot();
    let count = |fate| fates.iter().find(|(have, _)| *have == fate).map_or(0, |(_, count)| *count);
    let fates: Vec<_> = all.into_iter().map(|(fate, _)| (fate, count(fate))).collect();
    let seen = in_flight + fates.iter().map(|(_, count)| count).sum::<u64>();
    LedgerSnapshot { seen, in_flight, fates }
}

fn member(id: &str, heard_seconds_ago: u64, fields: Vec<Field>) -> MemberCopy {
    let heard_of = Some(Timestamp(NOW.0 - heard_seconds_ago * 1_000_000_000));
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    MemberCopy { id: id.to_owned(), heard_of, fields }
}

fn capture(id: &str, heard_seconds_ago: u64, recovered: u64, ledger: LedgerSnapshot) -> MemberCopy {
    let share = CaptureShare {
        ledger,
        recovered,
        recovered_left: 0,
        given_up: vec![],
        drops: BTreeMap::from([("ring_full".to_owned(), 3), ("filtered".to_owned(), 0)]),
        stopped: None,
        pause: PauseShare::default(),
        ended: false,
    };
    member(id, heard_seconds_ago, share.fields(&named()))
}

fn worker(id: &str, candidate_us: u64, pairs: u64) -> MemberCopy {
    let policy = VerdictPolicy { latency_warm_up_pairs: 0, ..VerdictPolicy::default() };
    let mut tally = LatencyTally::new(policy.latency());
    for _ in 0..pairs {
        let last_byte = LatencyPair { control_us: 10_000, candidate_us };
        tally.observe(NOW, &LatencySample { first_byte: None, last_byte });
    }
    let rule = RuleCount { rule: "header:date".into(), comparisons: 2, differences: 2, met: 2, failed: 0 };
    let share = WorkerShare {
        ledger: ledger(0, &[(Fate::Matched, 1)]),
        noise: NoiseModel::new(NoiseConfig::default()).unwrap().share(),
        latency: BTreeMap::from([("/items".to_owned(), tally.share())]),
        rules: vec![rule],
        stopped: None,
        pause: PauseShare::default(),
        ended: false,
    };
    member(id, 1, share.fields(&named()))
}

fn shard(book: &[(&str, u64)], waiting: u64) -> ShardCopy {
    let book = book.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    ShardCopy { waiting, book, ..ShardCopy::default() }
}

fn fleet(captures: Vec<MemberCopy>, workers: Vec<MemberCopy>, shards: Vec<ShardCopy>) -> FleetCopy {
    let settings = [("candidate", "http://b:9090"), ("rules", r#"["status","header:date"]"#)];
    FleetCopy {
        experiment: "shop".into(),
        read_at: NOW,
        settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        shards,
        workers,
        captures,
        ranks: BTreeMap::new(),
    }
}

fn report(copy: FleetCopy) -> Report {
    Report::of_fleet(vec![copy]).unwrap().0
}

/// Whether the ledger of the fleet balances, and these of its counts.
#[track_caller]
fn check_balance(copy: FleetCopy, expected: &[(&str, u64)]) {
    let report = report(copy);
    let experiment = &report.experiments[0];
    let fates: u64 = experiment.fates.iter().map(|fate| fate.count).sum();
    assert_eq!(experiment.seen, experiment.in_flight + fates, "{:?}", experiment.fates);
    let fleet = experiment.fleet.as_ref().unwrap();
    for (name, count) in expected {
        let have = match *name {
            "seen" => experiment.seen,
            "in_flight" => experiment.in_flight,
            "ahead" => fleet.ahead,
            fate => experiment.fates.iter().find(|have| have.name == fate).map_or(0, |have| have.count),
        };
        assert_eq!(have, *count, "{name}");
    }
}

#[test]
fn every_exchange_of_a_fleet_has_a_fate() {
    let captures = vec![
        capture("a", 1, 0, ledger(2, &[(Fate::Queued, 100), (Fate::SampledOut, 7)])),
        capture("b", 1, 0, ledger(0, &[(Fate::Queued, 50), (Fate::SpoolFull, 3)])),
    ];
    let shards = vec![
        shard(&[("accepted", 90), ("fate:matched", 60), ("fate:mismatched", 10), ("trimmed", 5)], 15),
        shard(&[("accepted", 56), ("fate:matched", 49), ("set_aside", 1), ("forgotten", 4)], 6),
    ];
    check_balance(
        fleet(captures, vec![], shards),
        &[
            ("seen", 162),
            ("in_flight", 23),
            ("matched", 109),
            ("mismatched", 10),
            ("sampled_out", 7),
            ("spool_full", 3),
            ("trimmed", 5),
            ("set_aside", 1),
            ("forgotten", 4),
            ("queued", 0),
            ("unheard", 0),
            ("ahead", 0),
        ],
    );
}

#[test]
fn what_a_dead_capture_had_is_unheard_until_its_spool_is_taken_over() {
    let dead = |recovered| {
        let taken = 20 + recovered;
        let captures = vec![
            capture("dead", 40, 0, ledger(8, &[(Fate::Queued, 20)])),
            capture("next", 1, recovered, ledger(0, &[(Fate::Queued, 0)])),
        ];
        fleet(captures, vec![], vec![shard(&[("accepted", taken), ("fate:matched", taken)], 0)])
    };
    check_balance(dead(0), &[("seen", 28), ("unheard", 8), ("in_flight", 0)]);
    check_balance(dead(8), &[("seen", 28), ("unheard", 0), ("matched", 28)]);
    check_balance(dead(5), &[("seen", 28), ("unheard", 3)]);
}

#[test]
fn what_one_process_spooled_and_the_next_sent_counts_once() {
    let with = |taken: u64| {
        let captures = vec![
            capture("ended", 40, 0, ledger(0, &[(Fate::Queued, 10), (Fate::Spooled, 6)])),
            capture("next", 1, taken, ledger(0, &[])),
        ];
        let taken = 10 + taken;
        fleet(captures, vec![], vec![shard(&[("accepted", taken), ("fate:matched", taken)], 0)])
    };
    check_balance(with(0), &[("seen", 16), ("spooled", 6), ("unheard", 0)]);
    check_balance(with(6), &[("seen", 16), ("spooled", 0), ("matched", 16)]);
}

#[test]
fn what_lies_in_a_spool_counts_once_however_many_processes_found_it() {
    let found = |id: &str, recovered_left, ended| {
        let (ledger, drops) = (ledger(0, &[]), BTreeMap::new());
        let (given_up, stopped, pause) = (vec![], None, PauseShare::default());
        let share =
            CaptureShare { ledger, recovered: 6, recovered_left, given_up, drops, stopped, pause, ended };
        member(id, 1, share.fields(&named()))
    };
    let with = |others: Vec<MemberCopy>| {
        let first = capture("first", 90, 0, ledger(0, &[(Fate::Queued, 10), (Fate::Spooled, 6)]));
        let shards = vec![shard(&[("accepted", 10), ("fate:matched", 10)], 0)];
        fleet([vec![first], others].concat(), vec![], shards)
    };
    let waits = [("seen", 16), ("in_flight", 6), ("spooled", 0), ("unheard", 0), ("ahead", 0)];
    check_balance(with(vec![found("second", 6, false)]), &waits);
    let left = [("seen", 16), ("in_flight", 0), ("spooled", 6), ("unheard", 0), ("ahead", 0)];
    check_balance(with(vec![found("second", 6, true)]), &left);
    check_balance(with(vec![found("second", 6, true), found("third", 6, false)]), &waits);
}

/// The first process spooled six; the next one sent `sent` of them, and gave the others up as said.
#[track_caller]
fn check_given_up(sent: u64, given_up: &[(Fate, u64)], expected: &[(&str, u64)]) {
    let mut next = capture("next", 1, sent, ledger(0, &[]));
    let labels: BTreeMap<&str, u64> = given_up.iter().map(|(fate, count)| (fate.label(), *count)).collect();
    next.fields.insert("given_up".to_owned(), serde_json::to_vec(&labels).unwrap());
    let first = capture("first", 90, 0, ledger(0, &[(Fate::Queued, 10), (Fate::Spooled, 6)]));
    let shards = vec![shard(&[("accepted", 10 + sent), ("fate:matched", 10 + sent)], 0)];
    let all = [&[("seen", 16), ("in_flight", 0), ("unheard", 0), ("ahead", 0)], expected].concat();
    check_balance(fleet(vec![first, next], vec![], shards), &all);
}

#[test]
fn what_is_given_up_of_an_earlier_spool_does_not_lie_there_any_more() {
    check_given_up(4, &[(Fate::Refused, 2)], &[("refused", 2), ("spooled", 0), ("matched", 14)]);
    check_given_up(0, &[(Fate::Refused, 6)], &[("refused", 6), ("spooled", 0)]);
    let of_each = [(Fate::Refused, 1), (Fate::Lost, 2), (Fate::SpoolFull, 1)];
    check_given_up(1, &of_each, &[("refused", 1), ("lost", 2), ("spool_full", 1), ("spooled", 1)]);
}

#[test]
fn who_is_paused_is_named_and_so_is_who_was() {
    let paused = |mut member: MemberCopy, now: bool, seconds: u64| {
        let fields = [("paused", u64::from(now)), ("paused_seconds", seconds)];
        for (name, value) in fields {
            member.fields.insert(name.to_owned(), value.to_string().into_bytes());
        }
        member
    };
    let captures = vec![
        paused(capture("stands", 1, 0, ledger(0, &[])), true, 90),
        paused(capture("stood", 1, 0, ledger(0, &[])), false, 3_600),
        // One that is not heard of any more may as well have gone on.
        paused(capture("lost", 90, 0, ledger(0, &[])), true, 5),
        capture("never", 1, 0, ledger(0, &[])),
    ];
    let report = report(fleet(captures, vec![paused(worker("idle", 1, 1), true, 7)], vec![]));
    crate::report::tests::check_schema("", &report.to_json().unwrap());
    let text = report.to_text(false);
    for part in [
        "4 captures (3 live, 1 silent, 1 paused), 1 worker (1 live, 1 paused)",
        "Paused now: stands on web-1; nothing is captured there until `understudy resume` or the end of its time (1m 30s so far).",
        "Paused for 1h: stood on web-1; nothing was captured there then.",
        "Paused for 5s: lost on web-1; nothing was captured there then.",
        "Paused now: idle on web-1; nothing is sent there",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(!text.contains("never on"), "{text}");
}

#[test]
fn what_redis_has_before_captures_say_so_is_ahead() {
    let captures = vec![capture("a", 1, 0, ledger(1, &[(Fate::Queued, 10)]))];
    let shards = vec![shard(&[("accepted", 14), ("fate:matched", 14)], 0)];
    check_balance(fleet(captures, vec![], shards), &[("seen", 15), ("ahead", 4), ("in_flight", 1)]);
}

#[test]
fn outcomes_causes_and_examples_of_all_shards_are_one() {
    let cause = |count: u64, first: u64| {
        format!(
            r#"{{"signature":"status value","changes":[["status","value",null]],"count":{count},"first_seen_ns":{first},"last_seen_ns":{}}}"#,
            first + 5
        )
    };
    let example = |exchange: &str, bytes: u64| {
        format!(
            r#"{{"exchange":"{exchange}","bytes":{bytes},"method":"GET","target":"/items/{bytes}","headers":[],
                "control_status":200,"candidate_status":500,"differences":[],
                "control":{{"status":200,"headers":[],"body":"eHl6"}}}}"#
        )
        .into_bytes()
    };
    let name = "/items\u{1f}deadbeef".to_owned();
    let of_shard = |mismatches: u64, first: u64, exchange: &str, bytes: u64| ShardCopy {
        outcomes: BTreeMap::from([
            ("/items\u{1f}match\u{1f}".to_owned(), 1_000),
            ("/items\u{1f}mismatch\u{1f}".to_owned(), mismatches),
            ("/items\u{1f}incomparable\u{1f}body_cut".to_owned(), 1),
            ("no separator".to_owned(), 7),
        ]),
        causes: BTreeMap::from([
            (name.clone(), cause(mismatches, first)),
            ("/items\u{1f}bad".into(), "{".into()),
        ]),
        examples: BTreeMap::from([(name.clone(), example(exchange, bytes))]),
        ..ShardCopy::default()
    };
    let shards = vec![of_shard(3, 2_000, "b", 90), of_shard(4, 1_000, "a", 40)];
    let (report, answers) = Report::of_fleet(vec![fleet(vec![], vec![], shards)]).unwrap();
    let experiment = &report.experiments[0];
    assert_eq!((experiment.matched, experiment.mismatched, experiment.incomparable), (2_000, 7, 2));
    assert_eq!(experiment.verdict.verdict, Conclusion::Fail);
    let cause = &experiment.causes[0];
    assert_eq!((cause.count, cause.id.as_str(), experiment.causes.len()), (7, "deadbeef", 1));
    crate::report::tests::check_schema("", &report.to_json().unwrap());
    let shown: Vec<_> = cause.examples.iter().map(|example| example.request.target.as_str()).collect();
    assert_eq!(shown, ["/items/40", "/items/90"]);
    let limits = crate::report::SideLimits::default();
    let side = crate::report::SideBySide::of_fleet(&answers, &report, None, "1", &limits).unwrap();
    assert_eq!(side.control.unwrap().body.as_deref(), Some("xyz"));
}

#[test]
fn times_and_rules_of_all_workers_are_one() {
    let copy = fleet(vec![], vec![worker("one", 10_000, 40), worker("two", 90_000, 500)], vec![]);
    let mut copy_with_outcomes = copy;
    copy_with_outcomes.shards = vec![ShardCopy {
        outcomes: BTreeMap::from([("/items\u{1f}match\u{1f}".to_owned(), 540)]),
        ..ShardCopy::default()
    }];
    let report = report(copy_with_outcomes);
    let experiment = &report.experiments[0];
    let latency = experiment.routes[0].latency.as_ref().unwrap();
    assert_eq!((latency.pairs, latency.verdict), (540, "slower"));
    let rules: Vec<_> = experiment.rules.iter().map(|r| (r.rule.as_str(), r.differences, r.hid)).collect();
    assert_eq!(rules, [("status", 0, "unmet"), ("header:date", 4, "everything")]);
}

#[test]
fn a_process_that_is_silent_is_named() {
    let copy = fleet(vec![capture("lost", 90, 0, ledger(0, &[]))], vec![worker("one", 1, 1)], vec![]);
    let report = report(copy);
    crate::report::tests::check_schema("", &report.to_json().unwrap());
    let text = report.to_text(false);
    assert!(text.contains("1 capture (1 silent), 1 worker (1 live)"), "{text}");
    assert!(text.contains("Not heard of for 90 s: lost on web-1."), "{text}");
    assert!(text.contains("Probes dropped 3 packets."), "{text}");
}

#[test]
fn an_experiment_that_a_process_stopped_is_stopped() {
    let share = |stopped: Option<&str>| CaptureShare {
        ledger: ledger(0, &[]),
        recovered: 0,
        recovered_left: 0,
        given_up: vec![],
        drops: BTreeMap::new(),
        stopped: stopped.map(str::to_owned),
        pause: PauseShare::default(),
        ended: false,
    };
    let captures = [None, Some("a loop")].map(|why| member("x", 1, share(why).fields(&named())));
    let report = report(fleet(captures.to_vec(), vec![], vec![]));
    assert_eq!(report.experiments[0].stopped.as_deref(), Some("a loop"));
}

#[test]
fn times_for_which_there_is_no_room_are_counted() {
    let mut fields = worker("one", 1, 1).fields;
    fields.insert("latency_omitted".to_owned(), b"3".to_vec());
    let copy = MemberCopy { fields, ..worker("one", 1, 1) };
    let text = report(fleet(vec![], vec![copy], vec![])).to_text(false);
    assert!(text.contains("cannot tell the times of 3 routes"), "{text}");
}

#[test]
fn fields_that_cannot_be_read_are_as_if_they_were_not_there() {
    let garbage = ["ledger", "paths", "latency", "rules", "capture", "fates", "seen", "started_ns"];
    let fields = garbage.map(|name| (name, b"\xff{]".to_vec())).to_vec();
    let copy = fleet(
        vec![member("x", 1, fields.clone())],
        vec![member("y", 1, fields)],
        vec![shard(&[("accepted", u64::MAX), ("fate:matched", u64::MAX)], u64::MAX)],
    );
    let report = report(copy);
    assert_eq!(report.experiments[0].verdict.verdict, Conclusion::NotEnoughData);
    report.to_json().unwrap();
    assert!(report.to_junit().contains("understudy fleet"));
}

#[test]
fn a_fleet_of_which_nothing_is_known_has_a_report() {
    let report = report(FleetCopy { experiment: "shop".into(), ..FleetCopy::default() });
    assert_eq!((report.run.store, report.experiments[0].seen), ("redis", 0));
    assert!(!report.to_markdown().is_empty());
}
