//! Tests of the comparator as a whole, and of its parts against obvious twins.
//!
//! Touch the API in `outcome` and `check` only; the rest is data.

use std::io::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::samples::{self, response};
use crate::model::{Body, BranchFailure, DifferenceKind, ExchangeId, Timestamp};

pub(super) const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

pub(super) fn exchange(response: Option<Response>) -> Exchange {
    let request = samples::request("GET", "/x", &[("Host", "shop.example:8080")]);
    let id = ExchangeId { flow: 1, offset: 0 };
    let whole = samples::exchange(id, Timestamp(1_000_000), request, samples::response(200, &[], ""));
    Exchange { response, ..whole }
}

pub(super) fn answered(response: Response) -> Observation {
    let time = Duration::from_millis(1);
    Observation::Answered { response: Box::new(response), ttfb: time, served: time }
}

pub(super) fn config(ignore: &[&str], unordered: &[&str]) -> CompareConfig {
    let owned = |list: &[&str]| list.iter().map(|rule| (*rule).to_owned()).collect();
    let ignore = ignore.iter().map(|rule| (*rule).into()).collect();
    CompareConfig { ignore, unordered: owned(unordered), ..CompareConfig::default() }
}

pub(super) fn outcome(config: CompareConfig, a: Response, b: Response) -> Outcome {
    Comparator::new(config).unwrap().compare(&exchange(Some(a)), &answered(b))
}

/// One line for each difference: exact place, kind, both values; then rules with what they hid.
pub(super) fn lines(outcome: &Outcome) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let hidden = |rules: &[(Arc<str>, u32)]| {
        rules.iter().map(|(rule, count)| format!("hidden {rule} {count}")).collect::<Vec<_>>()
    };
    match outcome {
        Outcome::Match => vec![],
        Outcome::Mismatch { differences, ignored, omitted } => {
            let mut lines: Vec<String> = differences
                .iter()
                .map(|d| {
                    format!("{} {} {} {}", d.place, d.kind.label(), value(&d.control), value(&d.candidate))
                })
                .collect();
            lines.extend(hidden(ignored));
            if *omitted > 0 {
                lines.push(format!("omitted {omitted}"));
            }
            lines
        }
        Outcome::Ignored(rules) => hidden(rules),
        Outcome::Incomparable(reason) => vec![format!("incomparable {}", reason.label())],
    }
}

#[track_caller]
pub(super) fn check_with(config: CompareConfig, a: Response, b: Response, expected: &[&str]) {
    assert_eq!(lines(&outcome(config, a, b)), expected);
}

#[track_caller]
pub(super) fn check(a: Response, b: Response, expected: &[&str]) {
    check_with(CompareConfig::default(), a, b, expected);
}

#[track_caller]
pub(super) fn check_json(a: &str, b: &str, expected: &[&str]) {
    check(response(200, JSON, a), response(200, JSON, b), expected);
}

#[track_caller]
pub(super) fn check_rules(ignore: &[&str], unordered: &[&str], a: &str, b: &str, expected: &[&str]) {
    check_with(config(ignore, unordered), response(200, JSON, a), response(200, JSON, b), expected);
}

#[track_caller]
pub(super) fn check_header(name: &str, a: &str, b: &str, expected: &[&str]) {
    check(response(200, &[(name, a)], ""), response(200, &[(name, b)], ""), expected);
}

// === Status ===

#[test]
fn another_class_of_status_is_the_only_difference_reported() {
    let b = response(500, &[("Content-Type", "text/html")], "<h1>boom</h1>");
    check(response(200, JSON, r#"{"a":1}"#), b, &["status value 200 500"]);
}

#[test]
fn another_status_of_one_class_leaves_the_rest_compared() {
    let expected = ["status value 200 201", "json:$.a value 1 2"];
    check(response(200, JSON, r#"{"a":1}"#), response(201, JSON, r#"{"a":2}"#), &expected);
}

#[test]
fn an_ignored_status_leaves_the_rest_compared() {
    let expected = ["json:$.a value 1 2", "hidden status 1"];
    let (a, b) = (response(200, JSON, r#"{"a":1}"#), response(500, JSON, r#"{"a":2}"#));
    check_with(config(&["status"], &[]), a, b, &expected);
}

// === Headers ===

#[test]
fn fields_without_meaning_are_not_compared() {
    for name in ["Date", "Server", "ETag", "Last-Modified", "X-Request-Id", "Content-Length"] {
        check_header(name, "1", "2", &[]);
    }
}

#[test]
fn spelling_of_a_header_value_is_no_difference() {
    check_header("Content-Type", "text/html; charset=UTF-8", "Text/HTML;Charset=\"utf-8\"", &[]);
    check_header("Vary", "Accept, Origin", "origin,accept", &[]);
    check_header("Cache-Control", "public, max-age=60", "max-age=60, public", &[]);
    check_header("WWW-Authenticate", "Digest nonce=1", "Digest nonce=2", &[]);
}

#[test]
fn meaning_of_a_header_value_is_a_difference() {
    let expected = ["header:content-type value text/html text/plain"];
    check_header("Content-Type", "text/html", "text/plain", &expected);
    let expected = ["header:cache-control[max-age] value 60 61"];
    check_header("Cache-Control", "max-age=60", "max-age=61", &expected);
}

#[test]
fn own_origin_in_a_location_is_no_difference() {
    check_header("Location", "http://shop.example:8080/a/", "http://shop.example:9090/a/", &[]);
    check_header("Location", "http://10.0.0.2:8080/a", "/a", &[]);
    let expected = ["header:location value http://shop.example/a http://other.example/a"];
    check_header("Location", "http://shop.example/a", "http://other.example/a", &expected);
}

#[test]
fn missing_and_added_fields_are_told_apart() {
    let with = || response(200, &[("Allow", "GET")], "");
    check(with(), response(200, &[], ""), &["header:allow missing GET -"]);
    check(response(200, &[], ""), with(), &["header:allow added - GET"]);
}

#[test]
fn values_of_cookies_are_never_shown() {
    let expected = ["header:set-cookie[sid].value value <redacted> <redacted>"];
    check_header("Set-Cookie", "sid=secret1; Path=/", "sid=secret2; Path=/", &expected);
    let expected =
        ["header:set-cookie[session] added - <redacted>", "header:set-cookie[sid] missing <redacted> -"];
    check_header("Set-Cookie", "sid=secret1", "session=secret2", &expected);
}

#[test]
fn configured_fields_are_compared_and_left_out() {
    let config = CompareConfig {
        headers_plus: vec!["X-Total".into(), "x-page-*".into()],
        headers_minus: vec!["Allow".into()],
        ..CompareConfig::default()
    };
    let a = response(200, &[("X-Total", "1"), ("X-Page-Size", "1"), ("Allow", "GET")], "");
    let b = response(200, &[("X-Total", "2"), ("X-Page-Size", "2"), ("Allow", "PUT")], "");
    check_with(config, a, b, &["header:x-total value 1 2", "header:x-page-size value 1 2"]);
}

// === JSON ===

#[test]
fn order_of_members_and_white_space_are_no_difference() {
    check_json(r#"{"a":1,"b":[true,null]}"#, "{ \"b\": [true, null],\n \"a\": 1 }", &[]);
    check_json(r#"{"a":"é\n/"}"#, r#"{"a":"\u00e9\u000a\/"}"#, &[]);
}

#[test]
fn missing_null_and_empty_are_three_things() {
    check_json(r#"{"a":null}"#, r#"{}"#, &["json:$.a missing null -"]);
    check_json(r#"{"a":null}"#, r#"{"a":""}"#, &["json:$.a type null \"\""]);
    check_json(r#"{"a":[]}"#, r#"{"a":{}}"#, &["json:$.a type [] {}"]);
}

#[test]
fn numbers_are_compared_as_they_are_written() {
    check_json("[1.0]", "[1.00]", &["json:$[0] value 1.0 1.00"]);
    let expected = ["json:$[0] value 9007199254740993 9007199254740992"];
    check_json("[9007199254740993]", "[9007199254740992]", &expected);
    check_json("[1]", "[\"1\"]", &["json:$[0] type 1 \"1\""]);
}

#[test]
fn a_repeated_key_is_noticed() {
    check_json(r#"{"a":1,"a":2}"#, r#"{"a":1}"#, &["json:$.a missing 2 -"]);
    check_json(r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, &["json:$.a value 1 2", "json:$.a value 2 1"]);
}

#[test]
fn an_unusual_key_is_quoted() {
    check_json(r#"{"a.b":{"it's":1}}"#, r#"{"a.b":{"it's":2}}"#, &["json:$['a.b']['it\\'s'] value 1 2"]);
}

#[test]
fn an_inserted_element_is_one_difference() {
    check_json("[1,2,3,4]", "[1,9,2,3,4]", &["json:$[1] added - 9"]);
    check_json("[1,2,3,4]", "[2,3,4]", &["json:$[0] missing 1 -"]);
    check_json("[1,2,3,4,5,6]", "[1,9,3,4,8,5,6]", &["json:$[1] value 2 9", "json:$[4] added - 8"]);
}

#[test]
fn an_element_inserted_among_noisy_ones_is_one_difference() {
    let a = r#"[{"id":1,"n":"a"},{"id":2,"n":"b"},{"id":3,"n":"c"}]"#;
    let b = r#"[{"id":7,"n":"a"},{"id":6,"n":"x"},{"id":8,"n":"b"},{"id":9,"n":"c"}]"#;
    let expected = [r#"json:$[1] added - {"id":6,"n":"x"}"#, "hidden json:$[*].id 3"];
    check_rules(&["json:$[*].id"], &[], a, b, &expected);
}

#[test]
fn another_order_is_one_difference_unless_a_rule_says_otherwise() {
    let (a, b) = (r#"{"f":[1,2,3]}"#, r#"{"f":[3,1,2]}"#);
    check_json(a, b, &["json:$.f order [1,2,3] [3,1,2]"]);
    check_rules(&[], &["json:$.f"], a, b, &["hidden unordered json:$.f 1"]);
    check_rules(
        &[],
        &["json:$.f"],
        a,
        r#"{"f":[3,1,4]}"#,
        &["json:$.f[1] missing 2 -", "json:$.f[2] added - 4"],
    );
    let (a, b) = (r#"[{"k":1,"v":1},{"k":2,"v":2}]"#, r#"[{"k":2,"v":3},{"k":1,"v":1}]"#);
    check_rules(&[], &["json:$"], a, b, &["json:$[1].v value 2 3"]);
}

#[test]
fn json_is_recognised_without_its_content_type() {
    let html = &[("Content-Type", "text/html")];
    check(response(200, html, r#"{"a":1}"#), response(200, html, r#"{"a":2}"#), &["json:$.a value 1 2"]);
    let problem = &[("Content-Type", "application/problem+json")];
    check(response(200, problem, "1"), response(200, problem, "2"), &["json:$ value 1 2"]);
}

#[test]
fn json_against_something_else_is_a_difference_of_type() {
    check_json(r#"{"a":1}"#, "oops", &[r#"body type {"a":1} oops"#]);
}

#[test]
fn deep_nesting_is_incomparable() {
    let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100_000), "]".repeat(100_000));
    check_json(&deep("1"), &deep("2"), &["incomparable too_deep"]);
    let fits = |inner: &str| format!("{}{inner}{}", "[".repeat(128), "]".repeat(128));
    let Outcome::Mismatch { differences, ignored: _, omitted: _ } =
        outcome(CompareConfig::default(), response(200, JSON, fits("1")), response(200, JSON, fits("2")))
    else {
        panic!("128 levels are within the default limit")
    };
    assert_eq!(differences.len(), 1);
}

#[test]
fn members_named_by_an_id_are_one_path_as_elements_of_an_array_are() {
    for [a, b] in [
        ["27742", "56478"],
        ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "019e0c1b-0a6f-7cc2-a5a2-8a4de1e8a3b1"],
        ["9e107d9d372bb6826bd81d3542a419d6", "60303ae22b998861bce3b28f33eec1be"],
        ["2026-08-22", "2026-08-23"],
    ] {
        let of = |key: &str, score| format!(r#"{{"users":{{"{key}":{{"score":{score}}}}},"line1":{score}}}"#);
        let cause = |key: &str| {
            let json = |body: &str| response(200, &[("Content-Type", "application/json")], body);
            let outcome = outcome(CompareConfig::default(), json(&of(key, 10)), json(&of(key, 11)));
            let Outcome::Mismatch { differences, .. } = &outcome else { panic!("{outcome:?}") };
            assert!(differences.iter().any(|difference| difference.place.contains(key)), "{differences:?}");
            super::group::cause("/", differences)
        };
        assert_eq!(cause(a).signature, "json:$.line1 value; json:$.users.*.score value");
        assert_eq!(cause(a), cause(b));
    }
}

#[test]
fn many_differences_are_bounded_and_counted_and_leave_room_for_other_paths() {
    let of = |x: usize, y: usize| {
        let items: Vec<_> = (0..100).map(|i| format!(r#"{{"k":{i},"p":{}}}"#, i * x)).collect();
        format!(r#"{{"items":[{}],"y":{y}}}"#, items.join(","))
    };
    let expected = [
        "json:$.items[1].p value 1 2",
        "json:$.items[2].p value 2 4",
        "json:$.items[3].p value 3 6",
        "json:$.y value 1 2",
        "omitted 96",
    ];
    check_json(&of(1, 1), &of(2, 2), &expected);
}

#[test]
fn a_long_value_is_cut() {
    let long = "é".repeat(1000);
    let a = format!(r#"{{"a":"{long}"}}"#);
    let Outcome::Mismatch { differences, ignored: _, omitted: _ } =
        outcome(CompareConfig::default(), response(200, JSON, a), response(200, JSON, r#"{"a":1}"#))
    else {
        panic!("the values differ")
    };
    let shown = differences[0].control.as_ref().unwrap();
    assert!(shown.ends_with("é…") && shown.len() <= 203, "{shown}");
}

// === Rules ===

#[test]
fn a_rule_names_the_whole_place() {
    let (a, b) = (r#"{"id":1,"idx":1,"o":{"id":1}}"#, r#"{"id":2,"idx":2,"o":{"id":2}}"#);
    let expected = ["json:$.idx value 1 2", "json:$.o.id value 1 2", "hidden json:$.id 1"];
    check_rules(&["json:$.id"], &[], a, b, &expected);
    check_rules(&["json:$.**.id"], &[], a, b, &["json:$.idx value 1 2", "hidden json:$.**.id 2"]);
    check_rules(&["json:$.o.**", "json:$.*"], &[], a, b, &["hidden json:$.o.** 1", "hidden json:$.* 2"]);
    check_rules(&["json:$.**"], &[], a, b, &["hidden json:$.** 3"]);
}

#[test]
fn a_rule_for_a_header_hides_that_header() {
    let a = response(200, &[("Allow", "GET"), ("Vary", "A"), ("Set-Cookie", "a=1")], "");
    let b = response(200, &[("Allow", "PUT"), ("Vary", "B")], "");
    let rules = ["header:ALLOW", "header:set-cookie[a]", "header:*"];
    let expected = ["hidden header:ALLOW 1", "hidden header:set-cookie[a] 1", "hidden header:* 1"];
    check_with(config(&rules, &[]), a, b, &expected);
}

#[test]
fn a_bad_rule_is_refused_with_the_reason() {
    let cases = [
        ("json:id", "`ignore` rule `json:id`: a JSON path begins with `$`"),
        ("json:$.a*", "`ignore` rule `json:$.a*`: `a*`: a wildcard stands for a whole step"),
        (
            "json:$.a[b]",
            "`ignore` rule `json:$.a[b]`: `[b]` is neither `[*]`, a position, nor a key in quotes",
        ),
        ("json:$..a", "`ignore` rule `json:$..a`: a `.` without a key after it"),
        ("json:$['a", "`ignore` rule `json:$['a`: a quoted key without its end"),
        ("header:a b", "`ignore` rule `header:a b`: `a b` is not the name of a header field"),
        ("cookie:a", "`ignore` rule `cookie:a`: `cookie:` is no place; write `header:NAME` or `json:$.PATH`"),
    ];
    for (rule, expected) in cases {
        let error = Comparator::new(config(&[rule], &[])).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let error = Comparator::new(config(&[], &["status"])).unwrap_err();
    assert_eq!(error.to_string(), "`unordered` rule `status`: must begin with `json:`");
}

proptest! {
    /// `**` against the obvious recursive definition, over paths of two keys.
    #[test]
    fn wildcards_match_as_defined(
        pattern in proptest::collection::vec(0u8..4, 0..6),
        path in proptest::collection::vec(0u8..2, 0..7),
    ) {
        fn twin(pattern: &[u8], path: &[u8]) -> bool {
            match (pattern.split_first(), path.split_first()) {
                (None, None) => true,
                (Some((3, rest)), _) => twin(rest, path) || (!path.is_empty() && twin(pattern, &path[1..])),
                (Some((2, rest)), Some((_, tail))) => twin(rest, tail),
                (Some((p, rest)), Some((s, tail))) => p == s && twin(rest, tail),
                _ => false,
            }
        }
        let names = [".a", ".b", ".*", ".**"];
        let text: String = pattern.iter().map(|p| names[usize::from(*p)]).collect();
        let comparator = Comparator::new(config(&[&format!("json:${text}")], &[])).unwrap();
        let exchange = exchange(None);
        let origin = OwnOrigin::new(&exchange, &[]);
        let mut found = Findings::new(&comparator.rules, &comparator.limits, origin, false);
        let steps: Vec<_> = path.iter().map(|s| Step::Key(["a", "b"][usize::from(*s)])).collect();
        found.add(&Place::Json(&steps), DifferenceKind::Value, Some(&1), Some(&2));
        prop_assert_eq!(!found.has_differences(), twin(&pattern, &path));
    }
}

// === Bodies ===

#[test]
fn texts_differ_from_the_first_line_that_differs_to_the_last() {
    let text = &[("Content-Type", "text/plain")];
    let pair = |a: &str, b: &str| (response(200, text, a), response(200, text, b));
    let (a, b) = pair("one\ntwo\nthree\n", "one\n2\nthree\n");
    check(a, b, &["text:2 value two 2"]);
    let (a, b) = pair("one\nthree\n", "one\ntwo\nthree\n");
    check(a, b, &["text:2 added - two"]);
    let (a, b) = pair("one\ntwo", "one");
    check(a, b, &["text:2 missing two -"]);
}

#[test]
fn bytes_that_no_one_reads_are_compared_by_hash() {
    let image = &[("Content-Type", "image/png")];
    let Outcome::Mismatch { differences, .. } =
        outcome(CompareConfig::default(), response(200, image, "\0a"), response(200, image, "\0b"))
    else {
        panic!("the hashes differ")
    };
    assert_eq!((differences[0].place.as_str(), differences[0].kind), ("body", DifferenceKind::Value));
    assert!(differences[0].control.as_ref().unwrap().starts_with("2 bytes, SHA-256 "));
}

#[test]
fn an_empty_body_is_missing() {
    check(response(200, &[], "abc"), response(200, &[], ""), &["body missing abc -"]);
}

#[test]
fn answers_without_content_are_compared_by_head() {
    check(response(304, &[], "x"), response(304, &[], "y"), &[]);
}

#[test]
fn a_cut_body_is_equal_by_hash_or_incomparable() {
    use sha2::Digest as _;
    let cut = |text: &str, keep: usize| {
        let mut cut = response(200, JSON, "");
        let digest = Some(sha2::Sha256::digest(text).into());
        let kept = text.as_bytes()[..keep].to_vec().into();
        cut.body = Body { kept, bytes: text.len() as u64, digest, complete: true };
        cut
    };
    check(cut("abcdef", 2), cut("abcdef", 3), &[]);
    check(cut("abcdef", 2), response(200, JSON, "abcdef"), &[]);
    check(cut("abcdef", 2), cut("abcdeX", 2), &["incomparable body_cut"]);
    let mut other_status = cut("abcdeX", 2);
    other_status.status = 201;
    check(cut("abcdef", 2), other_status, &["status value 200 201"]);
}

#[test]
fn what_was_not_seen_whole_is_incomparable() {
    let comparator = Comparator::new(CompareConfig::default()).unwrap();
    let whole = || response(200, &[], "a");
    let cut_off = || {
        let mut response = whole();
        response.body.complete = false;
        response
    };
    let reason =
        |exchange: &Exchange, candidate: &Observation| lines(&comparator.compare(exchange, candidate));
    assert_eq!(reason(&exchange(None), &answered(whole())), ["incomparable control_incomplete"]);
    assert_eq!(reason(&exchange(Some(cut_off())), &answered(whole())), ["incomparable control_incomplete"]);
    assert_eq!(reason(&exchange(Some(whole())), &answered(cut_off())), ["incomparable candidate_closed"]);
    for failure in BranchFailure::ALL {
        let expected = format!("incomparable candidate_{}", failure.label());
        assert_eq!(reason(&exchange(Some(whole())), &Observation::Failed(failure)), [expected]);
    }
}

// === Content coding ===

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An uncompressed metablock and the last, empty one (RFC 7932 section 9.2); up to 65,536 bytes.
fn brotli(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len() - 1).unwrap();
    // WBITS 0 (16 bits of window), ISLAST 0, MNIBBLES 00, MLEN - 1 in 16 bits, ISUNCOMPRESSED 1.
    let head = (length << 4) | (1 << 20);
    let mut encoded = head.to_le_bytes()[..3].to_vec();
    encoded.extend(text);
    encoded.push(0x03);
    encoded
}

#[test]
fn content_is_compared_after_decoding() {
    let text: &[u8] = br#"{"a":1}"#;
    let codings: [(&str, Vec<u8>); 8] = [
        ("gzip", gzip(text)),
        ("X-GZIP", gzip(text)),
        ("deflate", zlib(text)),
        ("deflate", bare_deflate(text)),
        ("zstd", zstd(text)),
        ("zstd", [zstd(&text[..3]), zstd(&text[3..])].concat()),
        ("br", brotli(text)),
        ("gzip, identity, deflate", zlib(&gzip(text))),
    ];
    for (coding, encoded) in codings {
        let headers = [JSON[0], ("Content-Encoding", coding)];
        let b = || response(200, &headers, encoded.clone());
        check(response(200, JSON, text), b(), &[]);
        check(response(200, JSON, r#"{"a":2}"#), b(), &["json:$.a value 2 1"]);
    }
}

#[test]
fn a_bomb_is_undecodable_and_costs_no_more_than_the_cap() {
    let zeros = vec![0_u8; 64 << 20];
    for (coding, bomb) in
        [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros)), ("gzip, gzip", gzip(&gzip(&zeros)))]
    {
        let headers = [("Content-Encoding", coding)];
        check(response(200, &headers, bomb), response(200, &[], "a"), &["incomparable undecodable"]);
    }
}

#[test]
fn a_broken_or_unknown_coding_is_undecodable() {
    for coding in ["gzip", "br", "zstd", "deflate", "pack200-gzip", "gzip,gzip,gzip,gzip"] {
        let headers = [("Content-Encoding", coding)];
        check(response(200, &headers, "\x01\x02"), response(200, &[], "a"), &["incomparable undecodable"]);
    }
}

proptest! {
    #[test]
    fn hostile_bodies_never_panic(
        a in proptest::collection::vec(any::<u8>(), 0..200),
        b in r#"[\[\]{}",:0-9a-z\\ue. -]{0,80}"#,
        coding in proptest::sample::select(vec!["", "gzip", "deflate", "br", "zstd"]),
    ) {
        let headers = [JSON[0], ("Content-Encoding", coding)];
        let compared = outcome(CompareConfig::default(), response(200, &headers, a), response(200, JSON, b));
        prop_assert!(lines(&compared).len() <= 34);
    }

    /// The parser accepts what serde_json accepts and keeps every value.
    #[test]
    fn parser_agrees_with_serde(text in r#"[\[\]{}":,0-9.eE+tfnul \\-]{0,24}"#) {
        let ours = json_text::parse(text.as_bytes(), 128, 1000, None);
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert!(ours.is_ok(), "{text:?}");
        } else {
            prop_assert!(ours.is_err(), "{text:?}");
        }
    }

    /// Each element stands in exactly one reported or silent pair: the counts of missing and added tell the
    /// difference of the lengths, and equal arrays have none.
    #[test]
    fn alignment_covers_all_elements(
        a in proptest::collection::vec(0u8..4, 0..12),
        b in proptest::collection::vec(0u8..4, 0..12),
        steps in 0usize..200,
    ) {
        let text = |items: &[u8]| format!("{items:?}");
        let mut config = CompareConfig::default();
        config.limits.align_steps_max = steps;
        config.limits.differences_per_path_max = 100;
        let found = outcome(config, response(200, JSON, text(&a)), response(200, JSON, text(&b)));
        let of = |kind: DifferenceKind| match &found {
            Outcome::Mismatch { differences, .. } => differences.iter().filter(|d| d.kind == kind).count(),
            _ => 0,
        };
        prop_assert_eq!(a == b, found == Outcome::Match);
        if of(DifferenceKind::Order) == 0 {
            let (missing, added) = (of(DifferenceKind::Missing), of(DifferenceKind::Added));
            prop_assert_eq!(a.len() + added, b.len() + missing);
        }
    }

    /// With work to spend, the pairs of equal elements are as many as a longest common subsequence has.
    #[test]
    fn alignment_is_longest(
        a in proptest::collection::vec(0u8..4, 0..10),
        b in proptest::collection::vec(0u8..4, 0..10),
    ) {
        fn twin(a: &[u8], b: &[u8]) -> usize {
            match (a.split_first(), b.split_first()) {
                (Some((x, rest_a)), Some((y, rest_b))) if x == y => 1 + twin(rest_a, rest_b),
                (Some((_, rest_a)), Some((_, rest_b))) => twin(rest_a, b).max(twin(a, rest_b)),
                _ => 0,
            }
        }
        let pairs = align::in_order(a.len(), b.len(), |i, j| u32::from(a[i] == b[j]));
        prop_assert!(pairs.iter().all(|(i, j)| a[*i] == b[*j]));
        prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
        prop_assert_eq!(pairs.len(), twin(&a, &b));
    }
}

// === Groups ===

#[test]
fn one_cause_whatever_the_values_and_positions() {
    let of = |a: &str, b: &str| match outcome(
        CompareConfig::default(),
        response(200, JSON, a),
        response(200, JSON, b),
    ) {
        Outcome::Mismatch { differences, .. } => group::cause("/items", &differences),
        other => panic!("{other:?}"),
    };
    let cause = of(r#"[{"p":1,"q":1}]"#, r#"[{"p":2,"q":1}]"#);
    assert_eq!(cause.signature, "json:$[*].p value");
    assert_eq!(cause.id.len(), 8);
    assert_eq!(cause, of(r#"[{"p":1},{"p":5}]"#, r#"[{"p":1},{"p":6}]"#));
    assert_ne!(cause.id, of(r#"[{"p":1}]"#, r#"[{"p":"1"}]"#).id);
    assert_ne!(cause.id, group::cause("/other", &[]).id);
}
