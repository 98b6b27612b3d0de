//! Archives, held against the keys that HAR 1.2 requires and the types that it gives them.
//!
//! Everything is in memory.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::model::{ExchangeId, samples};
use crate::wire::tests::any_exchange;

fn written(exchanges: &[Exchange]) -> (Value, Losses) {
    let mut out = Vec::new();
    let mut writer = HarWriter::begin(&mut out, CompareLimits::default()).unwrap();
    for exchange in exchanges {
        writer.write(exchange).unwrap();
    }
    let losses = writer.finish().unwrap();
    (serde_json::from_slice(&out).unwrap(), losses)
}

fn exchange(headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Exchange {
    let request = samples::request(
        "GET",
        "/items/1?size=2&empty&a=b=c",
        &[("Host", "shop.example:8080"), ("Cookie", "session=1; theme=dark")],
    );
    let at = Timestamp(1_700_000_000_123_456_789);
    let id = ExchangeId { flow: 1, offset: 2 };
    samples::exchange(id, at, request, samples::response(200, headers, body))
}

/// Checks one entry for what the specification does not mark as optional.
fn check_entry(entry: &Value) {
    let is = |path: &str, right: fn(&Value) -> bool| {
        let value = entry.pointer(path).unwrap_or_else(|| panic!("no {path} in {entry}"));
        assert!(right(value), "{path} is {value}");
    };
    for path in ["/startedDateTime", "/request/method", "/request/url", "/request/httpVersion"] {
        is(path, Value::is_string);
    }
    for path in [
        "/response/statusText",
        "/response/httpVersion",
        "/response/redirectURL",
        "/response/content/mimeType",
    ] {
        is(path, Value::is_string);
    }
    for side in ["request", "response"] {
        for list in ["cookies", "headers"] {
            let list = entry.pointer(&format!("/{side}/{list}")).and_then(Value::as_array).unwrap();
            assert!(
                list.iter().all(|pair| pair["name"].is_string() && pair["value"].is_string()),
                "{list:?}"
            );
        }
        is(&format!("/{side}/headersSize"), Value::is_number);
        is(&format!("/{side}/bodySize"), Value::is_number);
    }
    is("/request/queryString", Value::is_array);
    is("/response/status", Value::is_number);
    is("/response/content/size", Value::is_number);
    is("/cache", Value::is_object);
    // These three must not be negative; the others are -1 where they are not known.
    for timing in ["send", "wait", "receive"] {
        let value = entry.pointer(&format!("/timings/{timing}")).and_then(Value::as_f64).unwrap();
        assert!(value >= 0.0, "{timing} is {value}");
    }
    let sum = ["send", "wait", "receive"]
        .iter()
        .map(|timing| entry["timings"][timing].as_f64().unwrap())
        .sum::<f64>();
    assert!((entry["time"].as_f64().unwrap() - sum).abs() <= sum * 1e-9, "{entry}");
    if let Some(post) = entry.pointer("/request/postData") {
        assert!(
            post["mimeType"].is_string() && post["text"].is_string() && post["params"].is_array(),
            "{post}"
        );
    }
}

#[test]
fn an_archive_says_what_it_is() {
    for exchanges in [vec![], vec![exchange(&[], "a"), exchange(&[], "b")]] {
        let (archive, losses) = written(&exchanges);
        assert_eq!(archive["log"]["version"], "1.2");
        assert_eq!(archive["log"]["creator"]["name"], "understudy");
        assert!(archive["log"]["creator"]["version"].is_string());
        assert_eq!(archive["log"]["entries"].as_array().unwrap().len(), exchanges.len());
        assert_eq!(losses, Losses::default());
    }
}

#[test]
fn an_entry_has_what_tools_look_for() {
    let mut exchange =
        exchange(&[("Content-Type", "application/json"), ("Set-Cookie", "id=7; Path=/")], "{\"id\":1}");
    let at = exchange.times.request_first;
    let after = |micros| at.after(std::time::Duration::from_micros(micros));
    exchange.times =
        Times { request_first: at, request_last: after(500), response: Some((after(2500), after(3000))) };
    let (archive, _) = written(&[exchange]);
    let entry = &archive["log"]["entries"][0];
    check_entry(entry);
    assert_eq!(entry["startedDateTime"], "2023-11-14T22:13:20.123456789Z");
    assert_eq!(entry["request"]["url"], "http://shop.example:8080/items/1?size=2&empty&a=b=c");
    let query: Vec<_> = entry["request"]["queryString"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair["name"].as_str().unwrap(), pair["value"].as_str().unwrap()))
        .collect();
    assert_eq!(query, [("size", "2"), ("empty", ""), ("a", "b=c")]);
    assert_eq!(entry["request"]["cookies"][1]["name"], "theme");
    assert_eq!(entry["response"]["cookies"].as_array().unwrap().len(), 1);
    assert_eq!(entry["response"]["content"]["text"], "{\"id\":1}");
    assert_eq!(
        (&entry["timings"]["send"], &entry["timings"]["wait"], &entry["timings"]["receive"]),
        (&0.5.into(), &2.0.into(), &0.5.into())
    );
    assert_eq!(
        (&entry["serverIPAddress"], &entry["connection"]),
        (&"10.0.0.2".into(), &"10.0.0.1:40000".into())
    );
}

#[test]
fn a_coded_body_is_shown_decoded_and_a_binary_one_in_base64() {
    let gzip = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0,
        0, 0,
    ];
    let (archive, losses) = written(&[
        exchange(&[("Content-Encoding", "gzip")], gzip),
        exchange(&[("Content-Encoding", "unheard-of")], "hello"),
        exchange(&[], [0xff, 0x00]),
    ]);
    let content = |entry: usize| &archive["log"]["entries"][entry]["response"]["content"];
    assert_eq!((&content(0)["text"], &content(0)["size"]), (&"hello".into(), &5.into()));
    assert_eq!(content(0)["compression"], 5 - 25);
    assert_eq!((&content(1)["text"], &content(1)["encoding"]), (&"aGVsbG8=".into(), &"base64".into()));
    assert!(content(1)["comment"].as_str().unwrap().contains("not undone"));
    assert_eq!((&content(2)["text"], &content(2)["encoding"]), (&"/wA=".into(), &"base64".into()));
    assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::Coding, 1)]);
}

#[test]
fn what_was_not_seen_stands_in_comments() {
    let mut cut = exchange(&[], "hello");
    if let Some(response) = &mut cut.response {
        response.body.bytes = 9;
        response.body.complete = false;
    }
    cut.marks.set(Mark::Cut);
    cut.interim = vec![103];
    let mut alone = exchange(&[], "");
    alone.response = None;
    alone.times.response = None;
    let (archive, _) = written(&[cut, alone]);
    let entries = &archive["log"]["entries"];
    let comment = entries[0]["response"]["content"]["comment"].as_str().unwrap();
    assert!(comment.contains("first 5 of 9 bytes") && comment.contains("not seen to its end"), "{comment}");
    assert_eq!(entries[0]["response"]["content"]["size"], 9);
    assert_eq!(entries[0]["comment"], "marks: cut; interim responses: 103");
    assert_eq!(entries[1]["response"]["status"], 0);
    check_entry(&entries[1]);
}

proptest! {
    #[test]
    fn any_exchange_makes_an_entry(exchange in any_exchange()) {
        let (archive, _) = written(&[exchange]);
        check_entry(&archive["log"]["entries"][0]);
    }
}
