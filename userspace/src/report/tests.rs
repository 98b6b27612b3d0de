//! Tests of reports over a journal that was filled through the real comparator.
//!
//! Compare whole texts, so that a change of a report shows as a change here.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::verdict::{Evidence, RouteEvidence, Tally};
use super::*;
use crate::compare::latency::{LatencyPair, LatencySample, LatencyTally};
use crate::compare::{Comparator, CompareConfig, group};
use crate::journal::{ExperimentStart, Journal, JournalLimits, PathRecord, RunId, RunStart, SqliteJournal};
use crate::model::{
    Body, BranchFailure, Comparison, Exchange, ExchangeId, Fate, Ledger, Observation, PathState, PathSummary,
    Response, Timestamp, samples,
};

const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// One request with both answers.
struct Case {
    method: &'static str,
    target: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static [u8],
    a: (u16, &'static str),
    b: Option<(u16, &'static str)>,
    b_ms: u64,
}

impl Case {
    fn get(target: &'static str, a: &'static str, b: &'static str) -> Self {
        let headers = vec![("Host", "shop.example")];
        Self { method: "GET", target, headers, body: b"", a: (200, a), b: Some((200, b)), b_ms: 2 }
    }
}

fn response((status, body): (u16, &'static str)) -> Response {
    samples::response(status, &[("Content-Type", "application/json")], body)
}

fn exchange(number: u64, case: &Case) -> Exchange {
    let at = START.after(Duration::from_secs(number));
    let mut request = samples::request(case.method, case.target, &case.headers);
    request.body = Body::whole(case.body);
    let mut exchange =
        samples::exchange(ExchangeId { flow: number, offset: 0 }, at, request, response(case.a));
    exchange.times.response = Some((at, at.after(Duration::from_millis(2))));
    exchange
}

/// A report on these cases, as a run makes it.
fn report(policy: &VerdictPolicy, cases: &[Case]) -> Report {
    kept_report(policy, cases).0
}

/// The same, with the journal that it is made of.
fn kept_report(policy: &VerdictPolicy, cases: &[Case]) -> (Report, SqliteJournal) {
    let ignore = vec!["json:$.at".into(), "header:date".into()];
    let comparator = Comparator::new(CompareConfig { ignore, ..CompareConfig::default() }).unwrap();
    let mut journal = SqliteJournal::in_memory(JournalLimits::default(), group::cause_of).unwrap();
    let run = journal
        .begin(&RunStart {
            started_at: START,
            version: "0.1.0".into(),
            summary: "test".into(),
            ports: vec![8080],
            experiments: vec![ExperimentStart {
                name: "shop".into(),
                candidate: "http://b.internal:9090".into(),
                rules: comparator.rules().cloned().collect(),
                policy: policy.to_text().unwrap(),
                routes: Vec::new(),
                context: std::collections::BTreeMap::new(),
            }],
        })
        .unwrap();
    let ledger = Arc::new(Ledger::default());
    let compare = |(number, case): (u64, &Case)| {
        let exchange = exchange(number, case);
        let served = Duration::from_millis(case.b_ms);
        let candidate = match case.b {
            Some(b) => Observation::Answered { response: Box::new(response(b)), ttfb: served, served },
            None => Observation::Failed(BranchFailure::TimedOut),
        };
        let outcome = comparator.compare(&exchange, &candidate);
        ledger.admit().settle(match outcome.label() {
            "match" => Fate::Matched,
            "mismatch" => Fate::Mismatched,
            "ignored" => Fate::Ignored,
            _ => Fate::Incomparable,
        });
        Comparison {
            experiment: "shop".into(),
            route: case.target.split(['?', '7']).next().unwrap().into(),
            compared_at: exchange.times.request_last,
            exchange: Arc::new(exchange),
            candidate,
            outcome,
        }
    };
    let batch: Vec<_> = (0..).zip(cases).map(compare).collect();
    let mut live = LiveExperiment::new("shop".into(), policy.clone(), [], LiveLimits::default());
    batch.iter().for_each(|comparison| live.observe(comparison));
    journal.record(run, &batch).unwrap();
    journal.record_ledger(run, "shop", &ledger.snapshot()).unwrap();
    journal.finish(run, START.after(Duration::from_secs(90))).unwrap();
    let report = Report::load(&journal, None).unwrap();
    // Whoever looks while a run goes on is told what the report at its end says.
    let look = live.look(&|_| PathState::Unmeasured);
    assert_eq!(look.verdict, report.experiments[0].verdict);
    assert_eq!(
        (look.compared, look.mismatched),
        (report.experiments[0].compared(), report.experiments[0].mismatched)
    );
    (report, journal)
}

fn small() -> VerdictPolicy {
    let (comparisons_min, route_comparisons_min) = (2, 1);
    VerdictPolicy {
        comparisons_min,
        route_comparisons_min,
        mismatch_share_unseen_max: 1.0,
        ..VerdictPolicy::default()
    }
}

#[track_caller]
fn check_text(policy: &VerdictPolicy, cases: &[Case], expected: &str) {
    let text = report(policy, cases).to_text(false);
    assert_eq!(text.trim(), expected.trim(), "\n{text}");
}

#[test]
fn a_failed_run_says_where_how_often_and_how_to_repeat_it() {
    let mut order = Case::get("/orders", r#"{"id":1}"#, "");
    order.method = "POST";
    order.headers.extend([("Content-Type", "application/json"), ("Cookie", "sid=1"), ("X-Note", "it's")]);
    order.body = br#"{"item":"7"}"#;
    order.b = Some((500, "oops"));
    let mut hung = Case::get("/items/9", "{}", "");
    hung.b = None;
    let cases = [
        Case::get("/items/1", r#"{"at":1}"#, r#"{"at":2}"#),
        Case::get("/items/7", r#"{"price":10,"name":"ä"}"#, r#"{"price":11,"name":"ä"}"#),
        Case::get("/items/7?long=1", r#"{"price":10}"#, r#"{"price":12}"#),
        order,
        hung,
    ];
    let expected = r#"
Run 1, 2023-11-14T22:13:20Z to 2023-11-14T22:14:50Z (1m 30s), understudy 0.1.0

Experiment shop: A :8080 against B http://b.internal:9090

  Exchanges: 5 seen, 0 in flight
             3  mismatched       B answered differently
             1  ignored          B answered differently, only where rules allow it, or in noise
             1  incomparable     sent, but no statement can be made

  Comparisons: 0 match, 3 mismatch, 1 ignored, 1 incomparable
             1  candidate_timed_out    B gave no whole answer in time

  Routes: what they show, and how many can differ at most (95 % confidence)
    /items/   FAIL                  2 compared,       2 differ,   100 %  2 of 2 comparisons (100 %) differ; none allowed.
    /items/1  PASS                  1 compared,       0 differ,  96.8 %
    /items/9  NOT ENOUGH DATA       0 compared,       0 differ,   100 %  0 of at least 1 comparison. 1 of 1 replayed exchange (100 %) could not be compared; at most 10 % may be.
    /orders   FAIL                  1 compared,       1 differ,   100 %  1 of 1 comparison (100 %) differs; none allowed.

  Mismatches: 3 in 2 causes

  [1] /items/: json:$.price value
      2 of 4 comparisons (50 %), first 2023-11-14T22:13:21Z, last 2023-11-14T22:13:22Z, cause CAUSE1
      Example: GET /items/7?long=1  (A answered 200, B 200)
        json:$.price (value)
          A: 10
          B: 12
      Repeat against B: curl -sS -i --path-as-is -g -H 'Host: shop.example' -H User-Agent: -H Accept: 'http://b.internal:9090/items/7?long=1'

  [2] /orders: status value
      1 of 4 comparisons (25 %), first 2023-11-14T22:13:23Z, last 2023-11-14T22:13:23Z, cause CAUSE2
      Example: POST /orders  (A answered 200, B 500)
        status (value)
          A: 200
          B: 500
      Repeat against B: curl -sS -i --path-as-is -g -X POST -H 'Host: shop.example' -H 'Content-Type: application/json' -H 'X-Note: it'\''s' -H User-Agent: -H Accept: --data-binary '{"item":"7"}' http://b.internal:9090/orders
        Cookie was redacted: add it yourself.

  Latency: ms to the last byte, with 99 % intervals; slower when both clear 1.25 times (1.5 at p95 and p99) and +5 ms
    route      pairs              A         B  B/A                  B - A
    /items/        2  p50      2.00      2.00  -                    -                          not enough data
    /items/1       1  p50      2.00      2.00  -                    -                          not enough data
    /orders        1  p50      2.00      2.00  -                    -                          not enough data

  Rules: what they hid
    json:$.at: 1 in 1 of 4 comparisons
    header:date: nothing; is it still needed?
    Every difference at their place was hidden by: json:$.at

  shop: FAIL — 3 of 4 comparisons (75 %) differ, in 2 causes; none allowed.

VERDICT: FAIL — 3 of 4 comparisons (75 %) differ, in 2 causes; none allowed.
"#;
    let [first, second] =
        [("/items/", "json:$.price value"), ("/orders", "status value")].map(|(route, _)| {
            let report = report(&small(), &cases);
            report.experiments[0].causes.iter().find(|cause| cause.route == route).unwrap().id.clone()
        });
    check_text(&small(), &cases, &expected.replace("CAUSE1", &first).replace("CAUSE2", &second));
}

#[test]
fn a_passed_run_is_short() {
    let cases = [Case::get("/a", "{}", "{}"), Case::get("/a", "{}", "{ }")];
    let text = report(&small(), &cases).to_text(false);
    assert!(
        text.ends_with(
            "\nVERDICT: PASS — 2 exchanges compared, none differs; with 95 % confidence, at most 83.9 % do.\n"
        ),
        "{text}"
    );
    assert!(!text.contains("Mismatches"), "{text}");
}

#[test]
fn a_slower_route_fails_a_run_without_a_mismatch() {
    let slow = |_| Case { b_ms: 60, ..Case::get("/slow", "{}", "{}") };
    let fast = |_| Case::get("/fast", "{}", "{}");
    let cases: Vec<_> = (0..40).map(slow).chain((0..40).map(fast)).collect();
    let unjudged = report(&VerdictPolicy { latency_judged: false, ..small() }, &cases);
    assert_eq!(
        unjudged.verdict.line(),
        "PASS — 80 exchanges compared, none differs; with 95 % confidence, at most 6.47 % do."
    );
    assert!(unjudged.to_text(false).contains("not judged: A had these requests at another speed"));
    assert!(unjudged.to_junit().contains(r#"failures="0""#));
    let report = report(&small(), &cases);
    assert_eq!(
        report.verdict.line(),
        "FAIL — /slow is slower: B takes 30.00 times A's time [30.00, 30.00], +58.0 ms [+58.0, +58.0]."
    );
    let junit = report.to_junit();
    assert!(junit.contains(r#"<testsuite name="shop" tests="3" failures="2" skipped="0">"#), "{junit}");
    assert!(junit.contains("<testcase classname=\"shop\" name=\"/fast\">\n      <system-out>latency: not slower, 30 pairs\np50: A 2.00 ms, B 2.00 ms, B/A 1.00 [1.00, 1.00], B - A +0.00 [+0.00, +0.00] ms</system-out>\n    </testcase>"), "{junit}");
}

#[test]
fn percentiles_are_shown_where_they_are_known_and_a_slow_tail_is_named() {
    let case = |number| Case { b_ms: if number % 10 == 0 { 60 } else { 2 }, ..Case::get("/x", "{}", "{}") };
    let cases: Vec<_> = (0..800).map(case).collect();
    let report = report(&small(), &cases);
    let text = report.to_text(false);
    let rows = [
        "    /x        790  p50      2.00      2.00  1.00 [1.00, 1.00]    +0.00 [+0.00, +0.00]       slower at p95\n",
        "                   p95      2.00     60.00  30.00 [30.00, 30.00] +58.00 [+58.00, +58.00]\n",
    ];
    rows.iter().for_each(|row| assert!(text.contains(row), "{text}"));
    assert!(!text.contains("p99  "), "there are too few pairs for it: {text}");
    let markdown = report.to_markdown();
    let row = "|  |  | p95 | 2.00 | 60.00 | 30.00 [30.00, 30.00] | +58.00 [+58.00, +58.00] |\n";
    assert!(markdown.contains(row), "{markdown}");
    assert!(report.to_junit().contains("\np95: A 2.00 ms, B 60.00 ms, B/A 30.00 [30.00, 30.00]"));

    let lenient = VerdictPolicy { latency_tail_ratio_max: 40.0, ..small() };
    let mut times = LatencyTally::new(lenient.latency());
    let last_byte = LatencyPair { control_us: 2_000, candidate_us: 60_000 };
    for _ in 0..40 {
        times.observe(Timestamp(0), &LatencySample { first_byte: None, last_byte });
    }
    let times = super::latency::latency(&times, &lenient);
    assert!(times.unwrap().is_slower(), "the median has a margin of its own");
    let cold = VerdictPolicy { latency_warm_up_pairs: 770, ..small() };
    let (report, _) = kept_report(&cold, &cases);
    let times = report.experiments[0].routes[0].latency.as_ref().unwrap();
    assert_eq!((times.pairs, times.warm_up_pairs, times.is_slower()), (30, 770, false));
    let (report, _) = kept_report(&lenient, &cases);
    assert_eq!(report.verdict.verdict, Conclusion::Pass);
}

/// A route on which so many match, differ, are undecided, are ignored, and are incomparable.
fn on_route(route: &str, counts: [u64; 5]) -> RouteEvidence {
    let [matched, mismatched, undecided, ignored, incomparable] = counts;
    let tally = Tally { matched, mismatched, undecided, withheld: 0, ignored, noise: 0, incomparable };
    RouteEvidence { route: route.to_owned(), tally, slower: None }
}

#[track_caller]
fn check_verdict(policy: &VerdictPolicy, counts: [u64; 5], verdict: Conclusion, reason: &str) {
    let causes = usize::from(counts[1] > 0);
    let routes = vec![on_route("/x", counts)];
    let (judged, _) = policy.judge(&Evidence { routes, causes, stopped: None });
    assert_eq!((judged.verdict, judged.reasons.join(" ").as_str()), (verdict, reason));
}

#[test]
fn a_verdict_gives_its_reason() {
    use Conclusion::{Fail, NotEnoughData, Pass};
    let default = VerdictPolicy::default();
    let careless = VerdictPolicy { mismatch_share_unseen_max: 1.0, ..VerdictPolicy::default() };
    let lenient =
        VerdictPolicy { mismatch_share_max: 0.01, comparisons_min: 1_000, ..VerdictPolicy::default() };
    check_verdict(&careless, [12, 0, 0, 0, 0], NotEnoughData, "12 of at least 20 comparisons.");
    check_verdict(
        &default,
        [100, 0, 0, 0, 0],
        NotEnoughData,
        "100 of about 387 comparisons that it takes to say with 95 % confidence that at most 1 % differ; now it is \
         3.38 %.",
    );
    check_verdict(
        &default,
        [387, 0, 0, 0, 0],
        Pass,
        "387 exchanges compared, none differs; with 95 % confidence, at most 0.999 % do.",
    );
    check_verdict(
        &default,
        [400, 0, 0, 100, 0],
        Pass,
        "500 exchanges compared, none differs but for what rules or noise hide in 100; with 95 % confidence, at most 0.795 % do.",
    );
    check_verdict(
        &default,
        [0, 1, 0, 0, 0],
        Fail,
        "1 of 1 comparison (100 %) differs, in 1 cause; none allowed.",
    );
    check_verdict(
        &careless,
        [30, 0, 0, 0, 10],
        NotEnoughData,
        "10 of 40 replayed exchanges (25 %) could not be compared; at most 10 % may be.",
    );
    check_verdict(
        &careless,
        [30, 0, 2, 0, 0],
        NotEnoughData,
        "2 of 32 comparisons differ where it is undecided whether that is noise.",
    );
    // Ten of a thousand are allowed: nine of nine may still become nine of a thousand, eleven may not.
    check_verdict(
        &lenient,
        [0, 9, 0, 0, 0],
        NotEnoughData,
        "9 of at least 1,000 comparisons. 9 of about 1,073 comparisons that it takes to say with 95 % confidence that at \
         most 2 % differ; now it is 100 %. /x: 9 of 9 comparisons differ, which may be chance; 1 % allowed.",
    );
    check_verdict(
        &lenient,
        [0, 11, 0, 0, 0],
        Fail,
        "11 of 11 comparisons (100 %) differ, in 1 cause; 1 % allowed.",
    );
    // A little more than is allowed may be chance; much more is not.
    check_verdict(
        &lenient,
        [985, 15, 0, 0, 0],
        NotEnoughData,
        "1,000 of about 1,527 comparisons that it takes to say with 95 % confidence that at most 2 % differ; now it is \
         3.05 %. /x: 15 of 1,000 comparisons differ, which may be chance; 1 % allowed.",
    );
    check_verdict(
        &lenient,
        [950, 50, 0, 0, 0],
        Fail,
        "50 of 1,000 comparisons (5.0 %) differ, in 1 cause; 1 % allowed.",
    );
    check_verdict(
        &lenient,
        [1_999, 1, 0, 0, 0],
        Pass,
        "2,000 exchanges compared, 1 (0.050 %) differs, as allowed; with 95 % confidence, at most 0.385 % do.",
    );
}

#[test]
fn each_route_has_its_verdict_and_a_poor_one_holds_the_rest_back() {
    let policy = VerdictPolicy::default();
    let routes = [("/a", [400, 0, 0, 0, 0]), ("/b", [0, 0, 0, 0, 0]), ("/c", [4, 0, 0, 0, 5])];
    let routes = routes.map(|(route, counts)| on_route(route, counts)).to_vec();
    let (whole, verdicts) = policy.judge(&Evidence { routes, causes: 0, stopped: None });
    let lines: Vec<_> = verdicts.iter().map(Verdict::line).collect();
    assert_eq!(
        lines,
        [
            "PASS — 400 exchanges compared, none differs.",
            "NOT ENOUGH DATA — 0 of at least 5 comparisons.",
            "NOT ENOUGH DATA — 4 of at least 5 comparisons. 5 of 9 replayed exchanges (56 %) could not be compared; at \
             most 10 % may be.",
        ]
    );
    assert_eq!(whole.verdict, Conclusion::NotEnoughData);
    assert_eq!(whole.reasons[0], "/b: 0 of at least 5 comparisons.");
}

#[test]
fn a_route_that_fails_fails_the_whole_where_its_share_is_lost_in_the_sum() {
    let policy = VerdictPolicy { mismatch_share_max: 0.01, ..VerdictPolicy::default() };
    let routes = vec![on_route("/a", [100_000, 0, 0, 0, 0]), on_route("/b", [10, 40, 0, 0, 0])];
    let (whole, verdicts) = policy.judge(&Evidence { routes, causes: 1, stopped: None });
    assert_eq!(whole.line(), "FAIL — /b: 40 of 50 comparisons (80 %) differ; 1 % allowed.");
    assert_eq!(verdicts[0].verdict, Conclusion::Pass);
}

#[test]
fn the_worst_verdict_decides() {
    let of = |verdict, reason: &str| Verdict { verdict, reasons: vec![reason.to_owned()] };
    let (pass, lacking) = (of(Conclusion::Pass, "good"), of(Conclusion::NotEnoughData, "few"));
    let worst = Verdict::worst([("a", &pass), ("b", &lacking)].into_iter());
    assert_eq!(worst.line(), "NOT ENOUGH DATA — b: few");
    assert_eq!(Verdict::worst([("a", &pass)].into_iter()).line(), "PASS — good");
    assert_eq!(Verdict::worst(std::iter::empty()).verdict, Conclusion::NotEnoughData);
}

#[test]
fn captured_control_characters_reach_no_terminal() {
    let mut hostile = Case::get("/a\x1b[2J`|<b>", "{\"a\":\"\u{202e}x\"}", "{\"a\":\"\u{7f}\u{9b}31m<&\"}");
    hostile.headers.push(("X-Evil", "\x1b]0;owned\x07"));
    let report = report(&small(), &[hostile]);
    let texts = [report.to_text(false), report.to_markdown(), report.to_junit()];
    for text in texts {
        let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None, "{text:?}");
    }
    assert!(report.to_text(true).contains("\x1b[1;31mVERDICT: FAIL"));
}

#[test]
fn json_has_stable_names() {
    let report = report(&small(), &[Case::get("/items/7", r#"{"price":10}"#, r#"{"price":11}"#)]);
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    let keys = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    let experiment = &json["experiments"][0];
    assert_eq!(keys(&json), "schema run experiments verdict");
    assert_eq!(
        keys(&json["run"]),
        "id store started_at ended_at seconds version summary ports comparisons_removed paused_seconds"
    );
    assert_eq!(
        keys(experiment),
        "name candidate context stopped seen in_flight fates matched mismatched undecided withheld ignored noise incomparable \
         incomparable_reasons mismatch_share routes causes causes_omitted paths rules advice policy verdict"
    );
    let cause = &experiment["causes"][0];
    assert_eq!(
        keys(cause),
        "id route signature changes state rules merged count share first_seen last_seen examples"
    );
    assert_eq!(
        keys(&cause["examples"][0]),
        "exchange request control_status candidate_status differences differences_omitted curl curl_notes"
    );
    assert_eq!(keys(&cause["examples"][0]["differences"][0]), "path kind place control candidate");
    assert_eq!(json["verdict"]["verdict"], "fail");
    assert_eq!(json["schema"], 1);
}

/// The schema of the JSON form, made to refuse fields that it does not name.
fn schema() -> serde_json::Value {
    fn close(schema: &mut serde_json::Value) {
        if let Some(object) = schema.as_object_mut() {
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), false.into());
            }
            object.values_mut().for_each(close);
        } else if let Some(list) = schema.as_array_mut() {
            list.iter_mut().for_each(close);
        }
    }
    let mut schema = serde_json::from_str(include_str!("../../../docs/report.schema.json")).unwrap();
    close(&mut schema);
    schema
}

#[track_caller]
pub(super) fn check_schema(part: &str, json: &str) {
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    compiler.add_resource("report.schema.json", schema()).unwrap();
    let compiled = compiler.compile(&format!("report.schema.json{part}"), &mut schemas).unwrap();
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    if let Err(error) = schemas.validate(&value, compiled) {
        panic!("{error:#}\n{json}");
    }
}

#[test]
fn the_json_form_is_what_its_schema_says() {
    let mut hung = Case::get("/items/9", "{}", "");
    hung.b = None;
    let slow = |_| Case { b_ms: 60, ..Case::get("/slow", "{}", "{}") };
    let price = || Case::get("/items/7", r#"{"price":10}"#, r#"{"price":null}"#);
    let cases: Vec<_> =
        (0..40).map(slow).chain([hung, price(), Case::get("/at", r#"{"at":1}"#, "{}")]).collect();
    check_schema("", &report(&small(), &cases).to_json().unwrap());
    check_schema("", &report(&VerdictPolicy::default(), &[]).to_json().unwrap());

    let (report, mut journal) = kept_report(&small(), &[price()]);
    let summary = path_summary(PathState::Undecided);
    journal.record_paths(RunId(1), "shop", &[PathRecord::new(&summary).unwrap()]).unwrap();
    check_schema("", &Report::load(&journal, None).unwrap().to_json().unwrap());
    let side = SideBySide::load(&journal, &report, None, "1", &SideLimits::default()).unwrap();
    let json = side.to_json().unwrap();
    check_schema("#/$defs/side_by_side", &json);
    assert!(json.contains(r#"{\"price\":null}"#) && json.contains(r#"{\"price\":10}"#), "{json}");
    let json = SideBySide { control: None, candidate: None, ..side }.to_json().unwrap();
    check_schema("#/$defs/side_by_side", &json);
}

/// What a noise model may say of the path at which the price differs.
fn path_summary(state: PathState) -> PathSummary {
    use crate::model::{EvidenceCounts, Needs, Rate, Transition, ValueClass};
    let rate = Rate { count: 1, of: 40, low: 0.001, high: 0.25, recent: 0.02 };
    PathSummary {
        route: "/items/".to_owned(),
        path: "json:$.price".to_owned(),
        state,
        transition: Transition { control: ValueClass::Number, candidate: ValueClass::Null },
        candidate: rate,
        noise: None,
        excess: Some(rate),
        evidence: 1.0,
        evidence_needed: 3.0,
        noise_evidence: 0.0,
        noise_evidence_needed: 3.0,
        sources: [
            EvidenceCounts { hits: 1, ..EvidenceCounts::default() },
            EvidenceCounts::default(),
            EvidenceCounts::default(),
        ],
        needs: Some(Needs { towards: PathState::Reported, differing: 3, comparisons: Some(1_200) }),
        first_seen: 1,
        last_seen: 1,
        ceased_since: None,
    }
}

#[track_caller]
fn check_state(state: PathState, conclusion: Conclusion, counts: [u64; 3]) {
    let cases =
        [Case::get("/items/7", r#"{"price":10}"#, r#"{"price":null}"#), Case::get("/items/7", "1", "1")];
    let (_, mut journal) = kept_report(&small(), &cases);
    journal.record_paths(RunId(1), "shop", &[PathRecord::new(&path_summary(state)).unwrap()]).unwrap();
    let report = Report::load(&journal, None).unwrap();
    let experiment = &report.experiments[0];
    assert_eq!([experiment.mismatched, experiment.undecided, experiment.noise], counts, "{state:?}");
    assert_eq!(report.verdict.verdict, conclusion, "{state:?}");
    let line = format!(
        "/items/ json:$.price: {} (number→null); A/B 1 of 40 [0.1 %, 25 %], asked again B agreed with itself in 1 of 40; \
         reported in about 1,200 more comparisons",
        state.label()
    );
    let text = report.to_text(false);
    assert!(text.contains(&line), "{text}");
}

#[test]
fn what_is_known_of_a_path_decides_whether_its_differences_count() {
    check_state(PathState::Reported, Conclusion::Fail, [1, 0, 0]);
    check_state(PathState::Unmeasured, Conclusion::Fail, [1, 0, 0]);
    check_state(PathState::Undecided, Conclusion::NotEnoughData, [0, 1, 0]);
    check_state(PathState::Noise, Conclusion::Pass, [0, 0, 1]);
    check_state(PathState::Withheld, Conclusion::NotEnoughData, [0, 0, 0]);
}

#[test]
fn what_nothing_can_measure_is_no_verdict_and_says_what_helps() {
    let post = |id: &'static str| Case { method: "POST", ..Case::get("/items/7", r#"{"id":7}"#, id) };
    let cases = [post(r#"{"id":8}"#), Case::get("/items/7", "1", "1")];
    let (_, mut journal) = kept_report(&small(), &cases);
    let summary = PathSummary { path: "json:$.id".to_owned(), ..path_summary(PathState::Withheld) };
    journal.record_paths(RunId(1), "shop", &[PathRecord::new(&summary).unwrap()]).unwrap();
    let report = Report::load(&journal, None).unwrap();
    let experiment = &report.experiments[0];
    assert_eq!((experiment.withheld, experiment.compared(), experiment.routes[0].withheld), (1, 2, 1));
    let line = "1 of 2 comparisons differs in values that always differ, such as ids, of requests in which nothing can \
                measure noise. Name a twin, or a rule: each cause has one that fits.";
    assert_eq!(experiment.verdict.reasons.join(" "), line);
    let rule = r#"ignore = [{ at = "json:$.id", class = "counter" }]"#;
    assert_eq!(experiment.causes[0].rules, [rule]);
    for text in [report.to_text(false), report.to_markdown()] {
        assert!(text.contains(rule) && text.contains("Name a twin"), "{text}");
    }
    check_schema("", &report.to_json().unwrap());
}

#[test]
fn a_run_that_lacks_nothing_but_a_source_of_evidence_is_decided() {
    let policy = small();
    let comparator = Comparator::new(CompareConfig::default()).unwrap();
    let mut live = LiveExperiment::new("shop".into(), policy, [], LiveLimits::default());
    let case = Case { method: "POST", ..Case::get("/orders", r#"{"id":7}"#, r#"{"id":8}"#) };
    for number in 0..40 {
        let exchange = exchange(number, &case);
        let (ttfb, served) = (Duration::from_millis(2), Duration::from_millis(2));
        let candidate = Observation::Answered { response: Box::new(response(case.b.unwrap())), ttfb, served };
        let outcome = comparator.compare(&exchange, &candidate);
        live.observe(&Comparison {
            experiment: "shop".into(),
            route: "/orders".into(),
            compared_at: exchange.times.request_last,
            exchange: Arc::new(exchange),
            candidate,
            outcome,
        });
    }
    let look = |state| live.look(&|_| state);
    assert!(look(PathState::Withheld).is_decided() && !look(PathState::Withheld).fails());
    assert!(!look(PathState::Undecided).is_decided());
    assert!(look(PathState::Unmeasured).fails());
}

#[test]
fn long_signatures_and_many_causes_are_cut_in_what_people_read() {
    let body = |value: u32| {
        let fields: Vec<_> = (0..60).map(|n| format!("\"field_name_{}x\":{value}", n + 100)).collect();
        &*format!("{{{}}}", fields.join(",")).leak()
    };
    let targets = (0..25).map(|n| &*format!("/page-{}", n + 100).leak());
    let mut cases: Vec<_> = targets.map(|target| Case::get(target, "1", "2")).collect();
    cases.push(Case::get("/wide", body(1), body(2)));
    cases.push(Case::get("/wide", body(1), body(2)));
    let (report, mut journal) = kept_report(&small(), &cases);
    assert_eq!(report.experiments[0].causes.len(), 26);
    for text in [report.to_text(false), report.to_markdown()] {
        assert!(text.contains("6 more causes") && text.contains("value; json:$.field_name_109x"), "{text}");
        let heads = text.lines().filter(|line| line.starts_with("  [") || line.starts_with("### "));
        let lengths: Vec<_> = heads.map(|line| line.chars().count()).collect();
        assert_eq!((lengths.len(), lengths.iter().all(|length| *length < 350)), (20, true), "{lengths:?}");
    }

    // All but one of these turn out to be noise.
    let noise = (1..60).map(|n| {
        let path = format!("json:$.field_name_{}x", n + 100);
        let summary = PathSummary { route: "/wide".to_owned(), path, ..path_summary(PathState::Noise) };
        PathRecord::new(&summary).unwrap()
    });
    journal.record_paths(RunId(1), "shop", &noise.collect::<Vec<_>>()).unwrap();
    let text = Report::load(&journal, None).unwrap().to_text(false);
    assert!(text.contains("[1] /wide: json:$.field_name_100x value\n"), "{text}");
    assert!(
        text.contains("json:$.field_name_100x (value)\n") && text.contains("(value, beside it)\n"),
        "{text}"
    );
    assert!(text.contains("more, noise among them"), "{text}");
}

#[test]
fn where_all_paths_are_one_route_the_report_says_what_that_hides() {
    let advice = |targets: &[&'static str]| {
        let cases: Vec<_> = targets.iter().map(|target| Case::get(target, "1", "2")).collect();
        report(&small(), &cases).experiments[0].advice.join(" ")
    };
    // The test names a route by the part of a target before `?` and 7.
    assert_eq!(advice(&["/a", "other"]), "");
    let one = advice(&["other?x=1"]);
    assert!(one.ends_with(r#"Name them: routes = ["other", "~/.*"]"#), "{one}");
}

#[test]
fn noise_among_the_rules_is_no_rule_that_is_too_broad() {
    let hid = |rule: &str, met| {
        let count = crate::journal::RuleCount {
            rule: rule.to_owned(),
            comparisons: 3,
            differences: 3,
            met,
            failed: 0,
        };
        RuleReport::new(count).is_broad()
    };
    assert_eq!([hid("json:$.at", 3), hid("json:$.at", 4), hid("noise", 0)], [true, false, false]);
}

#[test]
fn a_cause_is_found_by_number_and_by_id() {
    let cases = [Case::get("/a", "1", "2"), Case::get("/b", "1", "2"), Case::get("/b", "1", "3")];
    let (report, journal) = kept_report(&small(), &cases);
    let load = |experiment: Option<&str>, cause: &str| {
        SideBySide::load(&journal, &report, experiment, cause, &SideLimits::default())
    };
    let second = load(None, "2").unwrap();
    assert_eq!((second.number, second.route.as_str(), second.count), (2, "/a", 1));
    assert_eq!(load(Some("shop"), &second.id).unwrap().number, 2);
    let refused =
        |experiment: Option<&str>, cause: &str| load(experiment, cause).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        refused(None, "3"),
        "there is no cause `3`: name one of 2 by its number in the report, or by its id"
    );
    assert_eq!(refused(None, "0"), refused(None, "3").replace('3', "0"));
    assert_eq!(refused(Some("x"), "1"), "the run has no experiment `x`");
}

#[test]
fn markdown_shows_the_verdict_and_each_cause() {
    let report = report(&small(), &[Case::get("/a|b", r#"{"p":"```"}"#, r#"{"p":1}"#)]);
    let text = report.to_markdown();
    assert!(text.starts_with("# understudy: FAIL\n\n- 1 of 1 comparison"), "{text}");
    assert!(text.contains("### `json:$.p type (text→number)` on `/a|b`"), "{text}");
    assert!(text.contains("\n````sh\n"), "{text}");
    assert!(text.contains("| `/a\\|b` | FAIL | 0 | 1 |"), "{text}");
}

#[test]
fn no_run_is_an_error_that_says_so() {
    let mut journal = SqliteJournal::in_memory(JournalLimits::default(), group::cause_of).unwrap();
    assert_eq!(Report::load(&journal, None).unwrap_err().to_string(), "the journal holds no run yet");
    journal.begin(&RunStart::default()).unwrap();
    assert_eq!(Report::load(&journal, Some(7)).unwrap_err().to_string(), "the journal holds no run 7");
}

// === curl ===

#[track_caller]
fn check_curl(case: Case, expected: &str) {
    let report = report(&small(), &[case]);
    let example = &report.experiments[0].causes[0].examples[0];
    let command = example.curl.strip_prefix("curl -sS -i --path-as-is -g ").unwrap();
    let notes = example.curl_notes.iter().map(|note| format!(" # {note}")).collect::<String>();
    assert_eq!(format!("{command}{notes}"), expected);
}

fn post(body: &'static [u8]) -> Case {
    let headers =
        vec![("User-Agent", "x"), ("Accept", "*/*"), ("Content-Length", "9"), ("Connection", "close")];
    Case { method: "POST", headers, body, ..Case::get("/x", "1", "2") }
}

#[test]
fn a_command_repeats_the_request() {
    let tail = "-H 'User-Agent: x' -H 'Accept: */*' -H Content-Type:";
    let at = "http://b.internal:9090/x";
    check_curl(post(b"a=1"), &format!("-X POST {tail} --data-binary 'a=1' {at}"));
    check_curl(post(b"@etc"), &format!("-X POST {tail} --data-raw @etc {at}"));
    check_curl(post(b"a\n\xff1'"), &format!("-X POST {tail} --data-binary $'a\\n\\3771\\'' {at}"));
    check_curl(
        post(b"a\0"),
        &format!(
            "-X POST {tail} --data-binary @body.bin {at} # The body holds zero bytes, which no command line can: \
             put it into body.bin."
        ),
    );
    static LARGE: [u8; 5000] = [b'a'; 5000];
    check_curl(
        post(&LARGE),
        &format!(
            "-X POST {tail} --data-binary @body.bin {at} # The body of 5000 bytes is too large to show."
        ),
    );
    let mut options = Case { method: "OPTIONS", ..Case::get("*", "1", "2") };
    options.headers = vec![("User-Agent", ""), ("Accept", "a"), ("Accept-Encoding", "gzip")];
    let expected = "-X OPTIONS -H 'User-Agent;' -H 'Accept: a' -H 'Accept-Encoding: gzip' --compressed \
                    --request-target '*' http://b.internal:9090";
    check_curl(options, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A real shell reads back each word that we write.
    #[test]
    fn a_shell_reads_back_what_was_quoted(
        words in proptest::collection::vec(
            prop_oneof![proptest::collection::vec(1u8.., 0..12), "[ -~]{0,12}".prop_map(String::into_bytes)], 1..4)
    ) {
        let quoted: Vec<_> = words.iter().map(|word| curl::quoted(word)).collect();
        let command = format!("printf '%s\\0' {}", quoted.join(" "));
        let output = std::process::Command::new("bash").arg("-c").arg(command).env("LC_ALL", "C").output().unwrap();
        let read: Vec<_> = output.stdout.split(|b| *b == 0).take(words.len()).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(read, words);
    }
}

// === Side by side ===

/// An example of a report, for tests that change a part of it.
pub(super) fn example_report() -> ExampleReport {
    let mut report = report(&small(), &[Case::get("/x", "1", "2")]);
    report.experiments.remove(0).causes.remove(0).examples.remove(0)
}
