//! Heads, good and bad.
//!
//! What is read is shown as one line.

use super::*;

fn show(headers: &Headers, marks: Marks) -> String {
    let fields: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
        .collect();
    format!("{}{}", fields.join(","), if marks.has(Mark::Ambiguous) { " !" } else { "" })
}

#[track_caller]
fn check_request(bytes: &str, expected: &str) {
    let shown = match request(bytes.as_bytes()) {
        Parsed::Whole(head, length) => format!(
            "{} {} {} [{}] +{}",
            String::from_utf8_lossy(&head.method),
            String::from_utf8_lossy(&head.target),
            head.version.as_str(),
            show(&head.headers, head.marks),
            bytes.len() - length
        ),
        Parsed::Partial => "partial".into(),
        Parsed::Invalid => "invalid".into(),
    };
    assert_eq!(shown, expected, "{bytes:?}");
}

#[track_caller]
fn check_response(bytes: &str, expected: &str) {
    let shown = match response(bytes.as_bytes()) {
        Parsed::Whole(head, _) => {
            format!("{} {} [{}]", head.version.as_str(), head.status, show(&head.headers, head.marks))
        }
        Parsed::Partial => "partial".into(),
        Parsed::Invalid => "invalid".into(),
    };
    assert_eq!(shown, expected, "{bytes:?}");
}

#[test]
fn reads_heads_that_follow_the_rules() {
    check_request(
        "GET /a?b HTTP/1.1\r\nHost: x\r\nA:  b c \r\n\r\nbody",
        "GET /a?b HTTP/1.1 [Host=x,A=b c] +4",
    );
    check_request("OPTIONS * HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.0 [] +0");
    check_request("GET / HTTP/1.1\r\nEmpty:\r\nB: c\r\n\r\n", "GET / HTTP/1.1 [Empty=,B=c] +0");
    check_response("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "HTTP/1.1 200 [A=b]");
    check_response("HTTP/1.0 404\r\n\r\n", "HTTP/1.0 404 []");
}

#[test]
fn waits_for_the_rest() {
    for bytes in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\nA : b\r\n"]
    {
        check_request(bytes, "partial");
    }
    check_response("HTTP/1.1 200 OK\r\n", "partial");
}

#[test]
fn reads_and_marks_what_lenient_servers_accept() {
    check_request("GET / HTTP/1.1\nA: b\n\n", "GET / HTTP/1.1 [A=b !] +0");
    check_request("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "GET / HTTP/1.1 [A=b,C=d !] +0");
    check_request("GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1 [A=b !] +0");
    check_request("GET / HTTP/1.1\r\nA: b\r\n\tc\r\nD: e\r\n\r\n", "GET / HTTP/1.1 [A=b\r\n\tc,D=e !] +0");
    check_response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 [A=b\r\n c !]");
}

#[test]
fn refuses_what_is_not_http_1() {
    for bytes in [
        "PRI * HTTP/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\n\n",
        "G\u{e4}T / HTTP/1.1\r\n\r\n",
    ] {
        check_request(bytes, "invalid");
    }
    for bytes in
        ["HTTP/2 200\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "ICY 200 OK\r\n\r\n"]
    {
        check_response(bytes, "invalid");
    }
}

#[test]
fn a_method_has_the_same_bound_whole_and_in_pieces() {
    for (bytes, expected) in [(32, Look::Unsure), (33, Look::No)] {
        let method = "M".repeat(bytes);
        assert_eq!(looks_like_request(format!("{method} /").as_bytes()), expected);
        let head = format!("{method} / HTTP/1.1\r\n\r\n");
        let shown = format!("{method} / HTTP/1.1 [] +0");
        check_request(&head, if expected == Look::No { "invalid" } else { &shown });
    }
}

#[test]
fn a_head_may_have_any_number_of_fields() {
    for (colon, mark) in [(":", ""), (":  ", ""), (" : ", " !")] {
        let fields: String = (0..300).map(|n| format!("X-{n}{colon}y\r\n")).collect();
        let shown: Vec<String> = (0..300).map(|n| format!("X-{n}=y")).collect();
        let shown = shown.join(",");
        check_request(
            &format!("GET / HTTP/1.1\r\n{fields}\r\n"),
            &format!("GET / HTTP/1.1 [{shown}{mark}] +0"),
        );
        check_response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), &format!("HTTP/1.1 200 [{shown}{mark}]"));
        let trailers = trailers(format!("{fields}\r\n").as_bytes());
        assert_eq!(trailers.map(|fields| fields.len()), mark.is_empty().then_some(300));
    }
}

#[test]
fn tells_the_start_of_a_message_from_other_bytes() {
    for (bytes, look) in [
        ("GET / HTTP/1.1\r\n", Look::Yes),
        ("GET / HT", Look::Unsure),
        ("GE", Look::Unsure),
        ("GET / HTTP/2.0\r\n", Look::No),
        ("\x16\x03", Look::No),
        ("{\"a\": 1}", Look::No),
    ] {
        assert_eq!(looks_like_request(bytes.as_bytes()), look, "{bytes:?}");
    }
    for (bytes, look) in
        [("HTTP/1.1 200", Look::Yes), ("HTT", Look::Unsure), ("GET", Look::No), ("", Look::Unsure)]
    {
        assert_eq!(looks_like_response(bytes.as_bytes()), look, "{bytes:?}");
    }
}

#[test]
fn finds_the_end_wherever_the_bytes_are_cut() {
    for head in ["A: b\r\n\r\n", "A: b\n\n", "A: b\n\r\n"] {
        for cut in 0..head.len() {
            let (before, next) = head.as_bytes().split_at(cut);
            assert_eq!(end(before, next), Some(next.len()), "{head:?} cut at {cut}");
        }
    }
    assert_eq!(end(b"A", b": b\r\n"), None);
}
