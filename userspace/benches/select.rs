//! What it costs to decide about one exchange.
//!
//! Sends nothing and reads no file.

use divan::{Bencher, black_box};
use understudy::model::{
    Body, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers, Marks, Request, Response, Times, Timestamp,
    Version,
};
use understudy::select::{Sample, SelectConfig, Selector};

fn main() {
    divan::main();
}

/// Everything is wanted.
#[divan::bench]
fn default_configuration(bencher: Bencher<'_, '_>) {
    decide(bencher, SelectConfig::default());
}

/// The third of three routes, a host, a condition and a sample.
#[divan::bench]
fn routes_host_header_sample(bencher: Bencher<'_, '_>) {
    decide(
        bencher,
        SelectConfig {
            routes: vec!["/search".into(), "/carts/{id}".into(), "/items/{id}".into()],
            hosts: vec!["*.example.org".into()],
            headers: vec!["!authorization".into()],
            sample: Sample { fraction: 0.999, ..Sample::default() },
            ..SelectConfig::default()
        },
    );
}

fn decide(bencher: Bencher<'_, '_>, config: SelectConfig) {
    let exchange = exchange();
    match Selector::new(config) {
        Ok(selector) => bencher.bench_local(|| selector.decide(black_box(&exchange))),
        Err(error) => divan::black_box_drop(error),
    }
}

fn exchange() -> Exchange {
    let end = Endpoint { addr: [0; 16], port: 80 };
    Exchange {
        id: ExchangeId { flow: 7, offset: 0 },
        flow: Flow { key: FlowKey { client: end, server: end, scope: 0 }, opened: Timestamp(0) },
        request: Request {
            method: "GET".into(),
            target: "/items/7?full=1".into(),
            version: Version::Http11,
            headers: Headers::from_pairs([
                ("Host", "shop.example.org"),
                ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("Accept", "application/json"),
                ("Accept-Encoding", "gzip, deflate, br"),
                ("Cookie", "session=0123456789abcdef0123456789abcdef"),
            ]),
            trailers: Headers::default(),
            body: Body::whole(""),
        },
        response: Some(Response {
            status: 200,
            version: Version::Http11,
            headers: Headers::default(),
            trailers: Headers::default(),
            body: Body::whole(""),
        }),
        interim: Vec::new(),
        times: Times { request_first: Timestamp(0), request_last: Timestamp(0), response: None },
        marks: Marks::default(),
    }
}
