//! Answers beside each other, as a person sees them.
//!
//! Compare whole texts, so that a change shows as a change here.

use super::*;
use crate::report::curl::quoted;

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> AnswerReport {
    AnswerReport {
        status,
        headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        headers_omitted: 0,
        body_bytes: body.len() as u64,
        body_bytes_kept: body.len() as u64,
        body: Some(body.to_owned()),
    }
}

fn side(paths: &[&str], control: AnswerReport, candidate: AnswerReport) -> SideBySide {
    let difference = |path: &&str| StoredDifference {
        path: path.to_string(),
        kind: "value".to_owned(),
        place: path.to_string(),
        control: Some("1".to_owned()),
        candidate: None,
    };
    let example = ExampleReport {
        differences: paths.iter().map(difference).collect(),
        curl: format!("curl {}", quoted(b"http://b/x")),
        ..crate::report::tests::example_report()
    };
    SideBySide {
        schema: 1,
        run: 1,
        experiment: "shop".to_owned(),
        number: 2,
        id: "abcdef01".to_owned(),
        route: "/x".to_owned(),
        signature: "s".to_owned(),
        count: 3,
        first_seen: "then".to_owned(),
        last_seen: "now".to_owned(),
        example,
        control: Some(control),
        candidate: Some(candidate),
    }
}

#[track_caller]
fn check(side: &SideBySide, expected: &str) {
    let limits = SideLimits { columns: 63, ..SideLimits::default() };
    let text = side.to_text(false, &limits);
    let shown = text.split_once("---\n").map_or(text.as_str(), |(_, rows)| rows);
    let shown = shown.split("\nRepeat against B").next().unwrap_or_default();
    assert_eq!(shown.trim_end(), expected.trim_matches('\n'), "\n{text}");
}

#[test]
fn json_is_aligned_by_member_and_what_counts_is_told_from_what_does_not() {
    let a = answer(
        200,
        &[("Content-Type", "application/json"), ("Date", "Mon"), ("Set-Cookie", "<redacted>")],
        r#"{"id":1,"at":5,"items":[{"n":1},{"n":2}],"gone":{"x":1}}"#,
    );
    let b = answer(
        200,
        &[
            ("Set-Cookie", "<redacted>"),
            ("Date", "Tue"),
            ("content-type", "application/json"),
            ("X-New", "1"),
        ],
        r#"{"at":6,"id":1,"items":[{"n":1},{"n":"2"}]}"#,
    );
    let paths = ["json:$.items[*].n", "json:$.gone", "header:set-cookie[sid]"];
    check(
        &side(&paths, a, b),
        r#"
200                              200
Content-Type: application/json   content-type: application/json
Date: Mon                      ~ Date: Tue
Set-Cookie: <redacted>         | Set-Cookie: <redacted>
                               ~ X-New: 1

{                                {
  "id": 1,                         "id": 1,
  "at": 5,                     ~   "at": 6,
  "items": [                       "items": [
    {                                {
      "n": 1                           "n": 1
    },                               },
    {                                {
      "n": 2                   |       "n": "2"
    }                                }
  ],                               ]
  "gone": {                    <
    "x": 1                     <
  }                            <
}                                }

~ differs, and does not count: a rule hides it, it is noise, or it means the same.
"#,
    );
}

#[test]
fn text_is_aligned_by_line_and_a_status_is_marked() {
    let a = answer(200, &[], "one\ntwo\nthree");
    let b = answer(500, &[], "one\nthree\nfour\x1b[2J");
    check(
        &side(&["status", "text"], a, b),
        r"
200                            | 500

one                              one
two                            <
three                            three
                               > four\u{1b}[2J
",
    );
}

#[test]
fn bytes_and_answers_that_are_not_there_are_said_in_words() {
    let mut bytes = answer(200, &[], "");
    (bytes.body, bytes.body_bytes) = (None, 9_000);
    let both = side(&["body"], bytes, answer(200, &[], "x"));
    let text = both.to_text(false, &SideLimits::default());
    assert!(text.contains("(9,000 bytes that are no text, or not kept whole)"), "{text}");
    assert!(text.contains("body (value)\n  A: 1\n  B: (absent)"), "{text}");
    let none = SideBySide { control: None, ..both };
    let text = none.to_text(false, &SideLimits::default());
    assert!(text.contains("The answers were not kept"), "{text}");
}

#[test]
fn colours_come_only_when_asked_for() {
    let both = side(&["status"], answer(200, &[], ""), answer(500, &[], ""));
    assert!(!both.to_text(false, &SideLimits::default()).contains('\x1b'));
    assert!(both.to_text(true, &SideLimits::default()).contains("\x1b[31m200"));
}

#[test]
fn a_body_is_decoded_and_one_that_is_cut_is_not() {
    let gzip = {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"hello").unwrap();
        encoder.finish().unwrap()
    };
    let kept = |body: Vec<u8>, bytes: u64, coding: &str| Answer {
        status: 200,
        headers: vec![("Content-Encoding".to_owned(), coding.to_owned())],
        headers_omitted: 0,
        body,
        body_bytes: bytes,
    };
    let body = |answer| AnswerReport::new(answer, &SideLimits::default()).body;
    let all = gzip.len() as u64;
    assert_eq!(body(kept(gzip.clone(), all, "gzip")).as_deref(), Some("hello"));
    assert_eq!(body(kept(gzip.clone(), all + 1, "gzip")), None);
    assert_eq!(body(kept("hé".as_bytes()[..2].to_vec(), 3, "identity")).as_deref(), Some("h"));
    assert_eq!(body(kept(gzip, all, "identity")), None);
}
