//! What it costs to take the secrets out of one exchange.
//!
//! Sends nothing and reads no file. `--once NAME MODE` does it once, for a profiler.

#[path = "shared/exchange.rs"]
mod exchange;

use std::fmt::Write as _;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use understudy::model::{Body, Exchange, Headers, Request, Response, Timestamp, Version};
use understudy::select::redact::{RedactKey, RedactMode, RedactRules, RedactTally, Redactor};

const MODES: [&str; 3] = ["off", "standard", "strict"];

/// What floods are made of: members of JSON, parameters of a form, words of which each may begin a token, addresses that touch.
const FLOODS: [&str; 4] = ["{\"id\":1,\"pin\":1234},", "pin=1&", "bearer+", "a@bb.cc_"];
const MEMBERS: usize = 0;
const PARAMETERS: usize = 1;
const BEARERS: usize = 2;
const ADDRESSES: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "--once", name, mode, ..] => once(name, mode),
        _ => divan::main(),
    }
}

/// A GET with a cookie, and a short answer.
#[divan::bench(args = MODES)]
fn small(bencher: Bencher<'_, '_>, mode: &str) {
    measure(bencher, "small", mode);
}

/// An answer of 2 KB of JSON, with two secrets in it.
#[divan::bench(args = MODES)]
fn json_2_kb(bencher: Bencher<'_, '_>, mode: &str) {
    measure(bencher, "json_2_kb", mode);
}

/// An answer of 1 MB of JSON, with an address in each of its items.
#[divan::bench(args = MODES)]
fn json_1_mb(bencher: Bencher<'_, '_>, mode: &str) {
    measure(bencher, "json_1_mb", mode);
}

/// A page of 50 KB.
#[divan::bench(args = MODES)]
fn html_50_kb(bencher: Bencher<'_, '_>, mode: &str) {
    measure(bencher, "html_50_kb", mode);
}

/// One unit again and again: the bytes a second are the same in all rows of it.
#[divan::bench(args = [1, 4, 16], consts = [MEMBERS, PARAMETERS, BEARERS, ADDRESSES])]
fn floods<const FLOOD: usize>(bencher: Bencher<'_, '_>, size: usize) {
    let unit = FLOODS.get(FLOOD).copied().unwrap_or_default();
    let body = unit.repeat((size << 16) / unit.len().max(1));
    let bytes = body.len();
    let (exchange, redactor) = (answered("text/plain", body), redactor("standard"));
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| redactor.exchange(black_box(&exchange), &mut RedactTally::default()));
}

fn measure(bencher: Bencher<'_, '_>, name: &str, mode: &str) {
    let (exchange, redactor) = (case(name), redactor(mode));
    let bytes = exchange.response.as_ref().map_or(0, |response| response.body.bytes);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| redactor.exchange(black_box(&exchange), &mut RedactTally::default()));
}

fn once(name: &str, mode: &str) {
    let (exchange, redactor) = (case(name), redactor(mode));
    drop(black_box(redact_once(&redactor, &exchange)));
}

#[inline(never)]
fn redact_once(redactor: &Redactor, exchange: &Exchange) -> Option<Exchange> {
    redactor.exchange(exchange, &mut RedactTally::default())
}

#[expect(clippy::expect_used, reason = "the rules are known, and so are the names of the modes")]
fn redactor(mode: &str) -> Redactor {
    let mode = RedactMode::ALL.into_iter().find(|known| known.label() == mode).expect("it is a mode");
    let key = RedactKey::new(&[7; 32]).expect("it is long enough");
    Redactor::new(&RedactRules { mode, ..RedactRules::default() }, key).expect("the rules are good")
}

/// The exchange with the answer of this name.
fn case(name: &str) -> Exchange {
    let (kind, body) = match name {
        "small" => ("text/plain", "hello, world".to_owned()),
        "json_2_kb" => ("application/json", json(9)),
        "json_1_mb" => ("application/json", json(4_900)),
        _ => ("text/html; charset=utf-8", page(330)),
    };
    answered(kind, body)
}

/// An exchange with a secret in its request, and with this answer.
fn answered(kind: &str, body: String) -> Exchange {
    let response = Response {
        status: 200,
        version: Version::Http11,
        headers: Headers::from_pairs([("Content-Type", kind), ("Cache-Control", "no-store")]),
        trailers: Headers::default(),
        body: Body::whole(body),
    };
    let exchange = exchange::exchange(7, Timestamp(0), response);
    let request = Request {
        target: "/items?page=2&q=blue+shoes".into(),
        headers: Headers::from_pairs([
            ("Host", "shop.example.org"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("Accept", "application/json"),
            ("Accept-Encoding", "gzip, deflate, br"),
            ("Referer", "https://shop.example.org/items?page=1&q=blue+shoes"),
            ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
        ]),
        ..exchange.request
    };
    Exchange { request, ..exchange }
}

fn json(items: usize) -> String {
    let mut text = "{\"csrf_token\":\"c3d2e1f0a9b8\",\"items\":[".to_owned();
    for item in 0..items {
        let comma = if item == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let written = write!(
            text,
            "{comma}{{\"id\":{item},\"name\":\"Shoe no. {item}\",\"price\":{{\"amount\":{}.50,\"currency\":\"EUR\"}},\
             \"tags\":[\"blue\",\"leather\",\"new\"],\"seller\":\"seller{}@example.org\",\
             \"url\":\"https://shop.example.org/items/{item}\",\"in_stock\":true,\"rating\":4.5}}",
            item % 90,
            item % 5
        );
        debug_assert!(written.is_ok());
    }
    text + "]}"
}

fn page(rows: usize) -> String {
    let mut text = "<!doctype html><html><head><title>Shoes</title></head><body>\
                    <input type=\"hidden\" name=\"csrf_token\" value=\"c3d2e1f0a9b8\"><table>"
        .to_owned();
    for row in 0..rows {
        let written = writeln!(
            text,
            "<tr class=\"row\"><td><a href=\"/items/{row}?from=list&amp;page=2\">Shoe no. {row}</a></td>\
             <td style=\"color: #333\">{}.50 EUR</td><td>in stock: yes</td></tr>",
            row % 90
        );
        debug_assert!(written.is_ok());
    }
    text + "</table></body></html>"
}
