//! `.gor` files, by the documentation and as their versions write them; hostile ones; and back again.
//!
//! Everything is in memory.

use proptest::prelude::*;

use super::*;
use crate::model::{ExchangeId, Mark, Timestamp, samples};
use crate::recording::{Loss, Losses};

/// Reads all. Any bytes may be given: this is the body of a fuzz target.
pub(crate) fn read_all(bytes: &[u8], limits: GorLimits) -> (Vec<Exchange>, Losses) {
    let mut reader = GorReader::begin(bytes, limits);
    let mut all = Vec::new();
    while let Some(exchange) = reader.next_exchange().unwrap() {
        all.push(exchange);
        assert_eq!(reader.kept_bytes(), 0, "room in the bounds of http is given back");
    }
    (all, reader.losses().clone())
}

/// Exchanges as `method target -> status body [marks]`, and losses by name.
#[track_caller]
fn check(file: &str, expected: &[&str], losses: &[(Loss, u64)]) -> Vec<Exchange> {
    let (all, found) = read_all(file.as_bytes(), GorLimits::default());
    let lines: Vec<String> = all.iter().map(line).collect();
    assert_eq!(lines, expected);
    assert_eq!(found.iter().collect::<Vec<_>>(), losses);
    all
}

fn line(exchange: &Exchange) -> String {
    let Exchange { id: _, flow: _, request, response, interim: _, times: _, marks } = exchange;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let answer = match response {
        Some(response) => format!("{} {}", response.status, text(&response.body.kept)),
        None => "none".to_owned(),
    };
    let body = text(&request.body.kept);
    let marks: Vec<&str> = marks.iter().map(Mark::label).collect();
    format!("{} {} {body}-> {answer}{marks:?}", text(&request.method), text(&request.target))
}

const END: &str = "\n🐵🙈🙉\n";

fn get(id: &str, meta: &str, target: &str) -> String {
    format!("1 {id} {meta}\nGET {target} HTTP/1.1\r\nHost: x\r\n\r\n{END}")
}

fn ok(id: &str, meta: &str, body: &str) -> String {
    format!("2 {id} {meta}\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}{END}", body.len())
}

/// By the documentation's example: a last record without a separator, no responses, and a request without Host.
#[test]
fn the_documented_example_is_read() {
    let file = format!(
        "1 d7123dasd913jfd21312dasdhas31 127345969\nGET / HTTP/1.1\r\n\r\n{END}\
         1 e7123dasd913jfd21312dasdhas31 127345970\n\
         POST /upload HTTP/1.1\r\nContent-Length: 7\r\nHost: www.w3.org\r\n\r\na=1&b=2"
    );
    let all = check(
        &file,
        &["GET / -> none[\"no_response\", \"ambiguous\"]", "POST /upload a=1&b=2-> none[\"no_response\"]"],
        &[(Loss::RecordCut, 1)],
    );
    assert_eq!(all[0].times.request_first, Timestamp(127345969));
}

#[test]
fn ids_pair_requests_with_responses_whatever_their_order() {
    let file = [
        get("a", "10", "/a"),
        get("b", "11", "/b"),
        ok("b", "21 15", "of b"),
        ok("c", "22 2", "of c"),
        get("c", "20", "/c"),
        ok("a", "30 25", "of a"),
        ok("z", "30 25", "of nobody"),
    ]
    .concat();
    check(
        &file,
        &["GET /b -> 200 of b[]", "GET /c -> 200 of c[]", "GET /a -> 200 of a[]"],
        &[(Loss::ResponseAlone, 1)],
    );
}

#[track_caller]
fn check_times(request: &str, response: &str, expected: (u64, u64, u64, u64)) {
    let (all, _) =
        read_all([get("a", request, "/"), ok("a", response, "x")].concat().as_bytes(), GorLimits::default());
    let times = all[0].times;
    let (first, last) = times.response.unwrap();
    assert_eq!(
        (times.request_first.0, times.request_last.0, first.0, last.0),
        expected,
        "{request}, {response}"
    );
}

#[test]
fn times_are_read_by_the_meaning_that_each_version_gives_them() {
    // Later: both have a duration of their own.
    check_times("1000 5", "1100 20", (1000, 1005, 1100, 1120));
    // Before: the response has the time since the request.
    check_times("1000", "1100 120", (1000, 1000, 1100, 1120));
    // Before that: and the request's time.
    check_times("1000", "1000 120", (1000, 1000, 1120, 1120));
    // The oldest: the time since the request stands in the place of the time.
    check_times("1000", "120", (1000, 1000, 1120, 1120));
}

#[test]
fn bodies_are_framed_by_the_one_reader_of_http() {
    let chunked = format!(
        "1 a 1\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{END}\
         2 a 2 1\nHTTP/1.0 200 OK\r\n\r\nuntil close{END}"
    );
    check(&chunked, &["POST / abc-> 200 until close[\"until_close\"]"], &[]);
    let head = format!(
        "1 a 1\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\n{END}2 a 2 1\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{END}"
    );
    check(&head, &["HEAD / -> 200 []"], &[]);
    let cut = format!("1 a 1\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc{END}");
    check(&cut, &["POST / abc-> none[\"truncated\", \"no_response\"]"], &[]);
    let both = format!(
        "1 a 1\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{END}"
    );
    check(&both, &["POST / -> none[\"no_response\", \"ambiguous\"]"], &[]);
}

#[test]
fn what_cannot_be_read_is_left_out_and_counted() {
    let file = [
        "no line of this kind\nGET / HTTP/1.1\r\n\r\n".to_owned() + END,
        "1 a 1\nnot HTTP at all".to_owned() + END,
        get("b", "2", "/b"),
        "3 b 9 9\nHTTP/1.1 200 OK\r\n\r\n".to_owned() + END,
        get("b", "3", "/again"),
        "2 b 4 4\nnot HTTP at all".to_owned() + END,
        "1 c 5\nGET /c HTTP/1.1\r\nHost: x\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n".to_owned() + END,
    ]
    .concat();
    check(
        &file,
        &[
            "GET /b -> none[\"no_response\"]",
            "GET /again -> none[\"gap\", \"no_response\", \"ambiguous\"]",
            "GET /c -> none[\"no_response\"]",
        ],
        &[
            (Loss::RecordMalformed, 1),
            (Loss::MessageUnreadable, 2),
            (Loss::MessageFollowed, 1),
            (Loss::RequestRepeated, 1),
            (Loss::ReplayedResponse, 1),
        ],
    );
}

#[test]
fn bounds_hold_and_the_oldest_goes_on_alone() {
    let limits = GorLimits { record_bytes_max: 100, waiting_max: 2, ..GorLimits::default() };
    let file = [
        get("a", "1", "/a"),
        get("b", "2", "/b"),
        get("c", "3", "/c"),
        get("d", "4", &format!("/{}", "d".repeat(100))),
        ok("a", "5 4", "late"),
        ok("c", "6 3", "c"),
    ]
    .concat();
    let (all, losses) = read_all(file.as_bytes(), limits);
    let lines: Vec<String> = all.iter().map(line).collect();
    assert_eq!(
        lines,
        ["GET /a -> none[\"no_response\"]", "GET /b -> none[\"no_response\"]", "GET /c -> 200 c[]"]
    );
    assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::RecordTooLong, 1), (Loss::ResponseAlone, 1)],);
}

#[test]
fn a_record_with_a_million_messages_is_not_read_to_its_end() {
    let many = "GET / HTTP/1.1\r\n\r\n".repeat(500_000);
    let file = format!("1 a 1\n{many}{END}");
    let (all, losses) = read_all(file.as_bytes(), GorLimits::default());
    assert_eq!((all.len(), losses.of(Loss::MessageFollowed)), (1, 1));
}

fn written(exchanges: &[Exchange]) -> (Vec<u8>, Losses) {
    let mut out = Vec::new();
    let mut writer = GorWriter::begin(&mut out);
    for exchange in exchanges {
        writer.write(exchange).unwrap();
    }
    let losses = writer.finish().unwrap();
    (out, losses)
}

fn exchange(number: u64) -> Exchange {
    let request = samples::request("GET", "/x", &[("Host", "shop")]);
    let answer = samples::response(200, &[("Content-Length", "5")], "hello");
    samples::exchange(ExchangeId { flow: 1, offset: number }, Timestamp(1000), request, answer)
}

/// The whole file, byte by byte.
#[test]
fn a_file_is_written_as_the_later_versions_do() {
    let mut first = exchange(2);
    first.times.request_last = Timestamp(1005);
    first.times.response = Some((Timestamp(1100), Timestamp(1120)));
    let (bytes, losses) = written(&[first]);
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "1 00000000000000010000000000000002 1000 5\nGET /x HTTP/1.1\r\nHost: shop\r\n\r\n\n🐵🙈🙉\n\
         2 00000000000000010000000000000002 1100 20\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\n🐵🙈🙉\n"
    );
    assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::Addresses, 1)]);
}

#[test]
fn an_exchange_that_holds_the_separator_is_left_out() {
    let mut bad = exchange(1);
    if let Some(response) = &mut bad.response {
        response.body = Body::whole("x\n🐵🙈🙉\ny");
    }
    let (bytes, losses) = written(&[bad, exchange(2)]);
    assert_eq!(read_all(&bytes, GorLimits::default()).0.len(), 1);
    assert_eq!(losses.of(Loss::NotExpressible), 1);
}

#[test]
fn a_cut_body_is_not_taken_for_a_whole_one_when_it_is_read_again() {
    for header in [("Content-Length", "9"), ("Transfer-Encoding", "chunked")] {
        let mut cut = exchange(1);
        cut.response = Some(samples::response(200, &[header], "hello"));
        if let Some(response) = &mut cut.response {
            response.body.bytes = 9;
        }
        let (bytes, losses) = written(&[cut]);
        let (back, _) = read_all(&bytes, GorLimits::default());
        let body = &back[0].response.as_ref().unwrap().body;
        assert_eq!((body.complete, back[0].marks.has(Mark::Truncated)), (false, true), "{header:?}");
        assert_eq!(losses.of(Loss::BodyCut), 1);
    }
}

/// Until the connection ends, and it was not seen to its end: nothing in the file could say so.
#[test]
fn a_part_that_would_be_taken_for_a_whole_is_left_out() {
    for (complete, bytes) in [(false, 5), (true, 9)] {
        let mut part = exchange(1);
        part.response = Some(samples::response(200, &[], "hello"));
        if let Some(response) = &mut part.response {
            response.body.complete = complete;
            response.body.bytes = bytes;
        }
        let (bytes, losses) = written(&[part]);
        assert_eq!((bytes.len(), losses.of(Loss::NotExpressible)), (0, 1));
    }
}

proptest! {
    /// Bodies of any bytes, framed in each way, come back with ids and times.
    #[test]
    fn an_exchange_comes_back_as_it_was(
        sent in proptest::collection::vec(any::<u8>(), 1..200),
        answered in proptest::collection::vec(any::<u8>(), 0..200),
        chunked in any::<bool>(),
        (first, took, waited) in (0u64..1 << 60, 0u64..1 << 30, 1u64..1 << 30),
    ) {
        let mut exchange = exchange(7);
        let length = |body: &[u8]| body.len().to_string();
        let fields = |body: &[u8]| if chunked { ("Transfer-Encoding", "chunked".to_owned()) } else { ("Content-Length", length(body)) };
        let (name, value) = fields(&sent);
        exchange.request = samples::request("POST", "/x", &[("Host", "x"), (name, &value)]);
        exchange.request.body = Body::whole(sent);
        let (name, value) = fields(&answered);
        exchange.response = Some(samples::response(201, &[(name, &value)], answered));
        exchange.times.request_first = Timestamp(first);
        exchange.times.request_last = Timestamp(first + took);
        exchange.times.response = Some((Timestamp(first + took + waited), Timestamp(first + took + waited * 2)));
        let (back, losses) = read_all(&written(std::slice::from_ref(&exchange)).0, GorLimits::default());
        prop_assert_eq!(losses, Losses::default());
        let back = &back[0];
        prop_assert_eq!(back.id, exchange.id);
        prop_assert_eq!(back.times, exchange.times);
        prop_assert_eq!(&back.request.headers, &exchange.request.headers);
        prop_assert_eq!(&back.request.body.kept, &exchange.request.body.kept);
        let bodies = [&back.response, &exchange.response].map(|response| response.as_ref().unwrap().body.kept.clone());
        prop_assert_eq!(&bodies[0], &bodies[1]);
        prop_assert!(back.marks.is_empty());
    }

    #[test]
    fn any_bytes_are_read_or_left_out(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just(END.as_bytes().to_vec()),
                Just(b"1 a 5 6\nGET / HTTP/1.1\r\n".to_vec()),
                Just(b"2 a 5 6\nHTTP/1.1 200 OK\r\n\r\n".to_vec()),
                Just("\u{1f435}".as_bytes().to_vec()),
                proptest::collection::vec(any::<u8>(), 0..40),
            ],
            0..12,
        ),
    ) {
        drop(read_all(&pieces.concat(), GorLimits { record_bytes_max: 64, ..GorLimits::default() }));
    }
}
