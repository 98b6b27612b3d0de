//! Tests with real processes: the examples of the documentation, and shells that misbehave.
//!
//! Touch the API in `ask` and `comparator` only.

use std::time::Duration;

use super::super::clock::now;
use super::lines::{Line, read_line};
use super::*;
use crate::model::samples;
use crate::model::{BranchFailure, ExchangeId, Response, Timestamp};

const ORDER: &str = r#"{"items":[{"price":1.10,"count":3}]}"#;
const SAME_TOTAL: &str = r#"{"items":[{"price":1.10,"count":1},{"price":2.20,"count":1}],"note":"split"}"#;
const OTHER_TOTAL: &str = r#"{"items":[{"price":1.11,"count":3}]}"#;

fn response(body: &str) -> Response {
    samples::response(200, &[("Content-Type", "application/json"), ("Set-Cookie", "sid=secret")], body)
}

fn exchange(a: &str) -> Exchange {
    let request = samples::request("GET", "/order", &[("Authorization", "Bearer secret")]);
    samples::exchange(ExchangeId { flow: 1, offset: 0 }, Timestamp(1_000_000), request, response(a))
}

fn answered(body: &str) -> Observation {
    let time = Duration::from_millis(1);
    Observation::Answered { response: Box::new(response(body)), ttfb: time, served: time }
}

fn comparator(
    command: &[&str],
    adjust: impl FnOnce(&mut ExternalConfig),
) -> (ExternalComparator, Arc<ReplayStats>) {
    let command = command.iter().map(|part| (*part).to_owned()).collect();
    let mut config = ExternalConfig { command, pause_min: Duration::ZERO, ..ExternalConfig::default() };
    adjust(&mut config);
    let stats = Arc::new(ReplayStats::default());
    let comparator =
        ExternalComparator::new(config, CompareLimits::default(), "x".into(), Arc::clone(&stats));
    (comparator, stats)
}

/// The paths of the differences, or why there are none.
async fn ask(comparator: &ExternalComparator, a: &str, b: &str) -> Result<Vec<String>, IncomparableReason> {
    let external = comparator.ask("/order", &exchange(a), &answered(b)).await.unwrap();
    external.answer.map(|found| {
        let line = |d: ExternalDifference| {
            let value = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            format!("{} {} {} {}", d.path, d.kind.label(), value(d.control), value(d.candidate))
        };
        found.into_iter().map(line).collect()
    })
}

fn failures(stats: &ReplayStats) -> Vec<(&'static str, u64)> {
    let counts = stats.external.failures.iter().map(|count| count.load(Ordering::Relaxed));
    ExternalFailure::ALL.iter().map(|f| f.label()).zip(counts).filter(|(_, count)| *count > 0).collect()
}

fn example(name: &str) -> String {
    format!("{}/../docs/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn check_example(program: &str, name: &str) {
    let (comparator, stats) = comparator(&[program, &example(name)], |_| {});
    assert_eq!(ask(&comparator, ORDER, SAME_TOTAL).await, Ok(vec![]));
    assert_eq!(ask(&comparator, ORDER, OTHER_TOTAL).await, Ok(vec!["order total value 330 333".to_owned()]));
    assert_eq!(ask(&comparator, ORDER, "<p>").await, Ok(vec!["order total value 330 -".to_owned()]));
    let failed = Observation::Failed(BranchFailure::Closed);
    assert!(
        comparator.ask("/order", &exchange(ORDER), &failed).await.is_none(),
        "there is nothing to ask about"
    );
    assert_eq!(stats.external.answers.load(Ordering::Relaxed), 3);
    assert_eq!(failures(&stats), []);
}

#[tokio::test]
async fn the_example_in_python_compares() {
    check_example("python3", "compare.py").await;
}

#[tokio::test]
async fn the_example_in_ruby_compares() {
    check_example("ruby", "compare.rb").await;
}

const ECHO: &str = r#"
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    path = json.dumps([q["request"]["headers"], q["candidate"]["headers"], q["route"]])
    print(json.dumps({"id": q["id"], "differences": [{"path": path}]}), flush=True)
"#;

#[tokio::test]
async fn secrets_are_told_only_where_they_are_asked_for() {
    let (silent, _) = comparator(&["python3", "-c", ECHO], |_| {});
    let told = ask(&silent, ORDER, ORDER).await.unwrap();
    assert!(told[0].contains("<redacted>") && !told[0].contains("secret"), "{told:?}");
    let (open, _) = comparator(&["python3", "-c", ECHO], |config| config.secrets = true);
    let told = ask(&open, ORDER, ORDER).await.unwrap();
    assert!(told[0].contains("Bearer secret") && told[0].contains("sid=secret"), "{told:?}");
}

/// A process that answers as it is told by A's body: well, never, or by ending.
const ODD: &str = r#"
import json, sys, time, os
for line in sys.stdin:
    q = json.loads(line)
    what = q["control"]["body"]["text"]
    if what == "hang":
        time.sleep(60)
    if what == "end":
        os._exit(3)
    if what == "refuse":
        print(json.dumps({"id": q["id"], "error": "cannot"}), flush=True)
    elif what == "other":
        print(json.dumps({"id": q["id"] + 1}), flush=True)
    elif what == "chatter":
        print("x" * 100000, flush=True)
    elif what == "garbage":
        print("what?", flush=True)
    elif what == "complain":
        print("y" * 5000, file=sys.stderr, flush=True)
        for _ in range(1000):
            print("no", file=sys.stderr)
        print(json.dumps({"id": q["id"]}), flush=True)
    else:
        print(json.dumps({"id": q["id"]}), flush=True)
        if what == "last":
            sys.exit(0)
"#;

const FAILED: Result<Vec<String>, IncomparableReason> = Err(IncomparableReason::RuleError);

/// Asks once so that the process is there, then what goes wrong, then again.
async fn check_failure(what: &str, reason: &'static str, restarts: u64) {
    let (comparator, stats) = comparator(&["python3", "-c", ODD], |config| {
        config.answer_bytes_max = 10_000;
        let is_slow = what == "hang";
        config.deadline = if is_slow { Duration::from_millis(300) } else { Duration::from_secs(10) };
    });
    assert_eq!(ask(&comparator, "well", "").await, Ok(vec![]));
    assert_eq!(ask(&comparator, what, "").await, FAILED, "{what}");
    assert_eq!(ask(&comparator, "well", "").await, Ok(vec![]), "after {what}");
    assert_eq!(failures(&stats), [(reason, 1)], "{what}");
    assert_eq!(stats.external.restarts.load(Ordering::Relaxed), restarts, "{what}");
}

#[tokio::test]
async fn a_process_that_hangs_is_killed_and_started_again() {
    let before = now();
    check_failure("hang", "timed_out", 1).await;
    assert!(now() - before < Duration::from_secs(20));
}

#[tokio::test]
async fn a_process_that_crashes_is_started_again() {
    check_failure("end", "ended", 1).await;
}

#[tokio::test]
async fn an_answer_that_is_none_costs_one_exchange() {
    check_failure("other", "unreadable", 1).await;
    check_failure("garbage", "unreadable", 1).await;
    check_failure("chatter", "unreadable", 1).await;
}

#[tokio::test]
async fn a_process_that_says_that_it_cannot_stays() {
    check_failure("refuse", "refused", 0).await;
}

#[tokio::test]
async fn a_process_that_ends_between_questions_costs_nothing() {
    let (comparator, stats) = comparator(&["python3", "-c", ODD], |_| {});
    assert_eq!(ask(&comparator, "last", "").await, Ok(vec![]));
    // Its end is seen once it has closed its side: until then a question may still meet it.
    let second = ask(&comparator, "well", "").await;
    let third = ask(&comparator, "well", "").await;
    assert!(second == Ok(vec![]) || second == FAILED);
    assert_eq!(third, Ok(vec![]));
    assert_eq!(stats.external.restarts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn complaints_do_not_stop_the_process() {
    let (comparator, stats) = comparator(&["python3", "-c", ODD], |_| {});
    assert_eq!(ask(&comparator, "complain", "").await, Ok(vec![]));
    assert_eq!(ask(&comparator, "complain", "").await, Ok(vec![]));
    assert_eq!(failures(&stats), []);
}

#[tokio::test]
async fn a_program_that_is_not_there_pauses_and_is_tried_again() {
    let (comparator, stats) =
        comparator(&["/no/such/program"], |config| config.pause_min = Duration::from_secs(600));
    assert_eq!(ask(&comparator, "a", "b").await, FAILED);
    assert_eq!(ask(&comparator, "a", "b").await, FAILED);
    assert_eq!(failures(&stats), [("unavailable", 2)]);
    assert_eq!(stats.external.restarts.load(Ordering::Relaxed), 0, "the pause is not over");
}

#[tokio::test]
async fn a_question_beyond_the_bound_is_not_asked() {
    let (comparator, stats) = comparator(&["python3", "-c", ODD], |config| config.message_bytes_max = 2_000);
    assert_eq!(ask(&comparator, &"x".repeat(3_000), "").await, FAILED);
    assert_eq!(ask(&comparator, "well", "").await, Ok(vec![]));
    assert_eq!(failures(&stats), [("too_large", 1)]);
}

#[tokio::test]
async fn too_many_that_wait_are_not_asked() {
    let (comparator, stats) = comparator(&["python3", "-c", ODD], |config| {
        config.waiting_max = 1;
        config.start_max = Duration::from_millis(300);
    });
    let all = tokio::join!(
        ask(&comparator, "hang", ""),
        ask(&comparator, "hang", ""),
        ask(&comparator, "hang", ""),
        ask(&comparator, "hang", ""),
    );
    assert_eq!([&all.0, &all.1, &all.2, &all.3], [&FAILED; 4]);
    assert!(failures(&stats).iter().any(|(reason, count)| *reason == "busy" && *count >= 2));
}

#[tokio::test]
async fn lines_are_read_up_to_their_bound() {
    let check = async |text: &str, skip: bool, expected: &[Line]| {
        let mut reader = text.as_bytes();
        for line in expected {
            assert_eq!(read_line(&mut reader, 4, skip).await.unwrap(), *line, "{text:?}");
        }
    };
    let whole = |text: &str| Line::Whole(text.into());
    check("ab\n\ncd", true, &[whole("ab"), whole(""), whole("cd"), Line::End]).await;
    check("abcd\nabcde\nx\n", true, &[whole("abcd"), Line::TooLong("abcd".into()), whole("x"), Line::End])
        .await;
    check("abcdefgh", true, &[Line::TooLong("abcd".into()), Line::End]).await;
    check("abcdefgh", false, &[Line::TooLong("abcd".into())]).await;
}
