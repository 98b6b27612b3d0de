//! Tests of bodies by their kinds.
//!
//! Decide on the outcome alone; how a body is read stays private to each kind.

use proptest::prelude::*;

use crate::compare::CompareConfig;
use crate::compare::tests::{check, check_with, config, outcome};
use crate::model::samples::response;
use crate::model::{Outcome, Response};

/// Types under which a body is read in different ways; `B` is a boundary.
const TYPES: [&str; 14] = [
    "",
    "application/json",
    "application/x-ndjson",
    "text/html",
    "application/xhtml+xml",
    "text/xml",
    "image/svg+xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=B",
    "text/event-stream",
    "text/plain",
    "application/octet-stream",
    "image/png",
    "nonsense",
];

fn of(media_type: &str, body: impl Into<Vec<u8>>) -> Response {
    let headers = [("Content-Type", media_type)];
    let headers = if media_type.is_empty() { &[][..] } else { &headers[..] };
    response(200, headers, body.into())
}

#[track_caller]
fn check_typed(media_type: &str, a: &str, b: &str, expected: &[&str]) {
    check(of(media_type, a), of(media_type, b), expected);
}

#[test]
fn json_lines_are_the_elements_of_an_array() {
    let (a, b) = ("{\"a\":1}\n{\"a\":2}\n", "{\"a\":1}\n\n{\"a\": 3}");
    for media_type in ["application/x-ndjson", "application/jsonl", "text/plain", ""] {
        check_typed(media_type, a, b, &["json:$[1].a value 2 3"]);
    }
    check_typed("application/x-ndjson", "{\"a\":1}", "{\"a\":2}", &["json:$[0].a value 1 2"]);
    check_typed("application/x-ndjson", "1\n2\n3\n", "1\n3\n", &["json:$[1] missing 2 -"]);
    check_typed("application/x-ndjson", "1 2\n", "1\n", &["body type 1 2\n 1\n"]);
}

#[test]
fn own_urls_in_json_are_no_difference() {
    let a = r#"[{"u":"http://shop.example:8080/1","n":1},{"u":"http://shop.example:8080/2","n":2}]"#;
    let b = r#"[{"u":"http://10.0.0.2:8080/2","n":2}]"#;
    let missing = r#"json:$[0] missing {"u":"http://shop.example:8080/1","n":1} -"#;
    check_typed("application/json", a, b, &[missing]);
    let a = r#""http://shop.example/1""#;
    check_typed("application/json", a, r#""/1""#, &[r#"json:$ value "http://shop.example/1" "/1""#]);
}

#[test]
fn many_changes_in_a_large_array_are_told_one_by_one() {
    let page = |drop: &[usize], price: usize| {
        let items = (0..3_000).filter(|i| !drop.contains(i));
        let items: Vec<_> =
            items.map(|i| format!(r#"{{"id":{i},"t":{}}}"#, if i == 1_500 { price } else { 1 })).collect();
        format!("[{}]", items.join(","))
    };
    let expected = [
        r#"json:$[10] missing {"id":10,"t":1} -"#,
        "json:$[1500].t value 1 2",
        r#"json:$[2990] missing {"id":2990,"t":1} -"#,
    ];
    check_typed("application/json", &page(&[], 1), &page(&[10, 2_990], 2), &expected);
}

#[test]
fn elements_that_are_all_noisy_are_paired_by_what_only_they_have() {
    let page = |drop: usize, time: usize| {
        let items = (0..1_000).filter(|i| *i != drop);
        let items: Vec<_> = items.map(|i| format!(r#"{{"id":"x{i}","ok":true,"t":{time}}}"#)).collect();
        format!("[{}]", items.join(","))
    };
    check_with(
        config(&["json:$[*].t"], &[]),
        of("application/json", page(1_000, 1)),
        of("application/json", page(7, 2)),
        &[r#"json:$[7] missing {"id":"x7","ok":true,"t":1} -"#, "hidden json:$[*].t 999"],
    );
}

#[test]
fn forms_are_compared_by_field() {
    let form = "application/x-www-form-urlencoded";
    check_typed(form, "a=1&b=x+y&a=2", "b=x%20y&a=1&a=2", &[]);
    check_typed(form, "a=1&b=2", "a=1&b=3&c=", &["form:b value 2 3", "form:c added - "]);
    check_typed(form, "a=1&a=2&a=3", "a=1&a=3", &["form:a missing 2 -"]);
    check_typed(form, "a=%FF", "a=%FE", &["text:1 value a=%FF a=%FE"]);
    let (a, b) = (of(form, "a=1&b=2"), of(form, "a=2&b=3"));
    check_with(config(&["form:a", "form:*"], &[]), a, b, &["hidden form:a 1", "hidden form:* 1"]);
}

#[test]
fn parts_are_compared_by_what_they_hold() {
    let body = |boundary: &str, price: u32, file: &str, extra: &str| {
        format!(
            "preamble\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"meta\"\r\nContent-Type: application/json\r\n\r\n\
             {{\"price\":{price}}}\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file}\"\r\n\r\n\
             one\r\n{extra}--{boundary}--\r\n"
        )
    };
    let typed = |boundary: &str, body: String| of(&format!("multipart/form-data; boundary={boundary}"), body);
    check(typed("B", body("B", 1, "f", "")), typed("C", body("C", 1, "f", "")), &[]);
    let expected = [
        "multipart:file/header:content-disposition[filename] value f g",
        "multipart:meta/json:$.price value 1 2",
    ];
    check(typed("B", body("B", 1, "f", "")), typed("C", body("C", 2, "g", "")), &expected);
    let extra = "--B\r\nContent-Disposition: form-data; name=x\r\n\r\nnew\r\n";
    check(
        typed("B", body("B", 1, "f", "")),
        typed("B", body("B", 1, "f", extra)),
        &["multipart:x added - new"],
    );
    check(
        typed("B", body("B", 1, "f", "")),
        typed("B", "cut".to_owned()),
        &[&format!("body type {} cut", body("B", 1, "f", ""))],
    );
    let rules = config(&["multipart:meta/json:$.price", "multipart:file"], &[]);
    let hidden = ["hidden multipart:meta/json:$.price 1", "hidden multipart:file 1"];
    check_with(rules, typed("B", body("B", 1, "f", "")), typed("C", body("C", 2, "g", "")), &hidden);
}

#[test]
fn streams_are_compared_by_event() {
    let events = "text/event-stream";
    let a = ": hello\nevent: price\ndata: {\"p\":1,\ndata: \"t\":0}\nid: 1\n\ndata: hi\n\n";
    check_typed(
        events,
        a,
        "event:price\r\ndata:{\"p\":1, \ndata:\"t\":0}\rid: 1\n\n\n:x\n\ndata: hi\n\n",
        &[],
    );
    check_typed(
        events,
        a,
        "event: price\ndata: {\"p\":2,\"t\":0}\nid: 2\n\ndata: ho\n\n",
        &["event:price/id value 1 2", "event:price/json:$.p value 1 2", "event:message/text:1 value hi ho"],
    );
    check_typed(
        events,
        "data: 1\n\ndata: 2\n\ndata: 3\n\n",
        "data: 1\n\ndata: 3\n\n",
        &["event:message missing 2 -"],
    );
    check_typed(
        events,
        "data: 1\n\n",
        "data: 1\n",
        &["event:message/end value empty line end of the stream"],
    );
    let rules = config(&["event:price/id", "event:*/json:$.p", "event:message"], &[]);
    let (a, b) = (of(events, a), of(events, "event: price\ndata: {\"p\":2,\"t\":0}\nid: 2\n\ndata: ho\n\n"));
    check_with(
        rules,
        a,
        b,
        &["hidden event:price/id 1", "hidden event:*/json:$.p 1", "hidden event:message 1"],
    );
}

#[test]
fn an_inserted_line_is_one_difference() {
    let text = |extra: &[usize]| {
        (0..6_000)
            .map(|i| if extra.contains(&i) { format!("new\nline {i}\n") } else { format!("line {i}\n") })
            .collect::<String>()
    };
    check_typed(
        "text/plain",
        &text(&[]),
        &text(&[10, 5_000]),
        &["text:11 added - new", "text:5001 added - new"],
    );
    check_typed("text/plain", "a\n", "a", &["text:2 missing  -"]);
    check_typed("text/plain", "a\nb\nc", "x\nb\nz", &["text:1 value a x", "text:3 value c z"]);
}

#[test]
fn bodies_are_read_as_the_type_of_a_says() {
    let expected = ["header:content-type value application/json text/plain", "json:$.a value 1 2"];
    check(of("application/json", r#"{"a":1}"#), of("text/plain", r#"{"a":2}"#), &expected);
    let expected =
        ["header:content-type value text/html application/xhtml+xml", "html:/p[1]/text() value 1 2"];
    check(of("text/html", "<p>1"), of("application/xhtml+xml", "<p>2</p>"), &expected);
    check_typed("", "<!DOCTYPE html><p>1", "<!DOCTYPE html><p>2", &["html:/p[1]/text() value 1 2"]);
    check_typed(
        "text/plain",
        "<?xml version='1.0'?><a>1</a>",
        "<?xml version='1.0'?><a>2</a>",
        &["xml:/a[1]/text() value 1 2"],
    );
}

#[test]
fn large_and_odd_bodies_are_bounded() {
    let large = |end: &str| format!("{}{end}", "a".repeat(9 << 20));
    check_typed("text/plain", &large("1"), &large("2"), &["incomparable undecodable"]);
    let values = |end: &str| format!("[{}{end}]", "0,".repeat(500_000));
    check_typed("application/json", &values("1"), &values("2"), &["incomparable too_deep"]);
    check(
        of("application/json", b"\xff\xfe".to_vec()),
        of("application/json", b"\xff\xfd".to_vec()),
        &["text:1 value \u{fffd}\u{fffd} \u{fffd}\u{fffd}"],
    );
    let newlines = |end: &str| format!("{}{end}", "\n".repeat(600_000));
    check_typed("text/plain", &newlines("1"), &newlines("2"), &["text:600001 value 1 2"]);
}

/// Bytes that are likely to get past the first checks of each kind.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"a\"",
        ":",
        ",",
        "1",
        "1.0",
        "null",
        "\n",
        "\r\n",
        "<",
        ">",
        "<p>",
        "</p>",
        "<a b=",
        "'",
        "\"",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?xml version='1.0'?>",
        "&amp;",
        "&#",
        "<script>",
        "<svg/>",
        "--B",
        "--B--",
        "Content-Disposition: form-data; name=a",
        "\r\n\r\n",
        "data: ",
        "id: ",
        "event: x",
        "=",
        "&",
        "%41",
        "+",
        " ",
        "x",
        "http://shop.example/",
        "<!DOCTYPE html>",
        "<li>",
        "<td>",
        "</ul>",
        "<pre>",
        "é",
    ]);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        proptest::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_differs_from_itself(kind in proptest::sample::select(&TYPES[..]), body in body(), gzipped: bool) {
        let mut b = of(kind, body.clone());
        if gzipped {
            // Another coding keeps the shortcut for equal bytes from deciding.
            let mut headers: Vec<_> = vec![("Content-Type", kind)];
            headers.retain(|(_, value)| !value.is_empty());
            headers.push(("Content-Encoding", "gzip"));
            b = response(200, &headers, crate::compare::tests::gzip(&body));
        }
        prop_assert_eq!(outcome(CompareConfig::default(), of(kind, body), b), Outcome::Match);
    }

    #[test]
    fn no_two_bodies_panic_and_differing_is_symmetric(
        kind in proptest::sample::select(&TYPES[..]),
        other in proptest::sample::select(&TYPES[..]),
        a in body(),
        b in body(),
    ) {
        let differ = |a: Response, b: Response| match outcome(CompareConfig::default(), a, b) {
            Outcome::Mismatch { differences, ignored: _, omitted: _ } => {
                assert!(differences.len() <= CompareConfig::default().limits.differences_max);
                Some(true)
            }
            Outcome::Match => Some(false),
            Outcome::Ignored(_) | Outcome::Incomparable(_) => None,
        };
        let same_type = (of(kind, a.clone()), of(kind, b.clone()));
        prop_assert_eq!(differ(same_type.0.clone(), same_type.1.clone()), differ(same_type.1, same_type.0));
        differ(of(kind, a), of(other, b));
    }

    /// One letter that carries meaning, anywhere, is found.
    #[test]
    fn an_edit_is_found(kind in 0usize..6, at in 0usize..8) {
        let with = |letter: char| {
            let values: Vec<String> = (0..8).map(|i| format!("v{i}{}", if i == at { letter } else { 'a' })).collect();
            let join = |each: &dyn Fn(&String) -> String, between: &str| {
                values.iter().map(each).collect::<Vec<_>>().join(between)
            };
            match kind {
                0 => of("application/json", format!("[{}]", join(&|v| format!("{{\"k\":\"{v}\"}}"), ","))),
                1 => of("text/html", join(&|v| format!("<p title={v}>{v}"), "\n")),
                2 => of("application/xml", format!("<r>{}</r>", join(&|v| format!("<i a='{v}'/>"), ""))),
                3 => of("application/x-www-form-urlencoded", join(&|v| format!("k={v}"), "&")),
                4 => of("text/event-stream", join(&|v| format!("data: {v}\n\n"), "")),
                _ => of("text/plain", join(&|v| v.clone(), "\n")),
            }
        };
        let compared = outcome(CompareConfig::default(), with('a'), with('b'));
        let Outcome::Mismatch { differences, ignored: _, omitted: 0 } = compared else {
            return Err(TestCaseError::fail(format!("{compared:?}")));
        };
        prop_assert!(differences.len() <= 2, "{:?}", differences);
    }
}
