//! Speed of comparing, and of keeping what came out.
//!
//! Runs on made-up answers in memory and a journal in a temporary folder; touches no network.
#![expect(clippy::unwrap_used, reason = "a bench is called by its harness only")]

#[path = "shared/exchange.rs"]
mod exchange;

use std::sync::Arc;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use understudy::compare::{Comparator, CompareConfig, group};
use understudy::journal::{ExperimentStart, Journal, JournalLimits, RunId, RunStart, SqliteJournal};
use understudy::model::{
    Body, Comparison, Exchange, Headers, Observation, Outcome, Request, Response, Timestamp, Version,
};

const BATCH: u64 = 256;

fn main() {
    divan::main();
}

/// A page of items of about `bytes` bytes; `price` is that of the item in the middle.
fn page(bytes: usize, price: u32) -> String {
    let item = |i: usize, price: u32| {
        format!(r#"{{"id":{i},"name":"item number {i}","price":{price},"tags":["red","blue"],"stock":null}}"#)
    };
    let count = bytes / item(100, 0).len();
    let items: Vec<_> = (0..count).map(|i| item(i, if i == count / 2 { price } else { 5 })).collect();
    format!(r#"{{"items":[{}],"total":{count}}}"#, items.join(","))
}

/// A page of HTML with as many rows as fit in about `bytes` bytes.
fn html(bytes: usize, price: u32) -> String {
    let row = |i: usize, price: u32| {
        format!(
            "<tr class=\"row even\" id=r{i}><td><a href=\"/items/{i}\">item {i}</a></td><td>{price}</td></tr>\n"
        )
    };
    let count = bytes / row(100, 0).len();
    let rows: Vec<_> = (0..count).map(|i| row(i, if i == count / 2 { price } else { 5 })).collect();
    format!("<!DOCTYPE html><html><body><table>{}</table></body></html>", rows.concat())
}

fn response(body: String) -> Response {
    response_of("application/json", body)
}

fn response_of(media_type: &str, body: String) -> Response {
    let headers = [
        ("Server", "nginx"),
        ("Date", "Sun, 22 Nov 2026 06:00:00 GMT"),
        ("Content-Type", media_type),
        ("Content-Length", "2000"),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Encoding"),
        ("X-Request-Id", "f00"),
    ];
    Response {
        status: 200,
        version: Version::Http11,
        headers: Headers::from_pairs(headers),
        trailers: Headers::default(),
        body: Body::whole(body),
    }
}

/// One of many exchanges, fifty microseconds apart, with a request that says little.
fn exchange(number: u64, response: Response) -> Exchange {
    let at =
        Timestamp(1_700_000_000_000_000_000).after(Duration::from_micros(50).saturating_mul(number as u32));
    let exchange = exchange::exchange(number, at, response);
    let request = Request {
        target: "/items/7".into(),
        headers: Headers::from_pairs([("Host", "shop.example"), ("Accept", "*/*")]),
        ..exchange.request
    };
    Exchange { request, ..exchange }
}

fn answered(response: Response) -> Observation {
    let served = Duration::from_millis(1);
    Observation::Answered { response: Box::new(response), ttfb: served, served }
}

fn compare(bencher: Bencher<'_, '_>, bytes: usize, price: u32) {
    let comparator = Comparator::new(CompareConfig::default()).unwrap();
    let exchange = exchange(1, response(page(bytes, 5)));
    let candidate = answered(response(page(bytes, price)));
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| comparator.compare(black_box(&exchange), black_box(&candidate)));
}

#[divan::bench(args = [2_000, 1_000_000])]
fn equal(bencher: Bencher<'_, '_>, bytes: usize) {
    compare(bencher, bytes, 5);
}

#[divan::bench(args = [2_000, 1_000_000])]
fn one_value_differs(bencher: Bencher<'_, '_>, bytes: usize) {
    compare(bencher, bytes, 6);
}

/// What comparing equal answers is measured against: nothing can be said about bytes that were not read.
#[divan::bench(args = [2_000, 1_000_000])]
fn memory_comparison(bencher: Bencher<'_, '_>, bytes: usize) {
    let (a, b) = (page(bytes, 5), page(bytes, 5));
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| black_box(&a) == black_box(&b));
}

/// An element is missing near the beginning, one near the end has changed, and all have another time.
#[divan::bench(args = [2_000, 1_000_000])]
fn every_element_differs(bencher: Bencher<'_, '_>, bytes: usize) {
    let of = |time: u32, skip: usize| {
        let count = bytes / 60;
        let items = (0..count).filter(|i| *i != skip);
        let items: Vec<_> = items
            .map(|i| format!(r#"{{"id":"item-{i}","active":true,"seen_at":{}}}"#, time + i as u32))
            .collect();
        format!("[{}]", items.join(","))
    };
    let comparator = Comparator::new(CompareConfig::default()).unwrap();
    let exchange = exchange(1, response(of(1_700_000_000, usize::MAX)));
    let candidate = answered(response(of(1_700_000_777, 3)));
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| comparator.compare(black_box(&exchange), black_box(&candidate)));
}

#[divan::bench(args = [2_000, 1_000_000])]
fn one_cell_of_html_differs(bencher: Bencher<'_, '_>, bytes: usize) {
    let comparator = Comparator::new(CompareConfig::default()).unwrap();
    let exchange = exchange(1, response_of("text/html", html(bytes, 5)));
    let candidate = answered(response_of("text/html", html(bytes, 6)));
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| comparator.compare(black_box(&exchange), black_box(&candidate)));
}

/// Batches of 256 into a file; half of them mismatches of one cause when `differs`.
#[divan::bench(args = [false, true], sample_count = 20, sample_size = 20)]
fn record(bencher: Bencher<'_, '_>, differs: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, run) = journal(folder.path());
    let comparator = Comparator::new(CompareConfig::default()).unwrap();
    let mut next = 0;
    let mut batch = || {
        let numbers = next..next + BATCH;
        next += BATCH;
        numbers.map(|number| comparison(number, &comparator, differs && number % 2 == 0)).collect::<Vec<_>>()
    };
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(&mut batch)
        .bench_local_values(|batch| journal.record(run, &batch).unwrap());
}

fn journal(folder: &std::path::Path) -> (SqliteJournal, RunId) {
    let path = folder.join("journal.sqlite");
    let mut journal = SqliteJournal::open(&path, JournalLimits::default(), group::cause_of).unwrap();
    let experiments = vec![ExperimentStart {
        name: "shop".into(),
        candidate: "http://b".into(),
        rules: Vec::new(),
        policy: "{}".into(),
        routes: Vec::new(),
        context: std::collections::BTreeMap::new(),
    }];
    let run = journal.begin(&RunStart { experiments, ..RunStart::default() }).unwrap();
    (journal, run)
}

fn comparison(number: u64, comparator: &Comparator, differs: bool) -> Comparison {
    let exchange = exchange(number, response(page(400, 5)));
    let candidate = answered(response(page(400, if differs { 6 } else { 5 })));
    let outcome: Outcome = comparator.compare(&exchange, &candidate);
    Comparison {
        experiment: "shop".into(),
        route: "/items/{id}".into(),
        compared_at: exchange.times.request_last,
        exchange: Arc::new(exchange),
        candidate,
        outcome,
    }
}
