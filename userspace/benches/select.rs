//! What it costs to decide about one exchange.
//!
//! Sends nothing and reads no file.

#[path = "shared/exchange.rs"]
mod exchange;

use divan::{Bencher, black_box};
use understudy::model::{Body, Headers, Response, Timestamp, Version};
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
    let response = Response {
        status: 200,
        version: Version::Http11,
        headers: Headers::default(),
        trailers: Headers::default(),
        body: Body::whole(""),
    };
    let exchange = exchange::exchange(7, Timestamp(0), response);
    match Selector::new(config) {
        Ok(selector) => bencher.bench_local(|| selector.decide(black_box(&exchange))),
        Err(error) => divan::black_box_drop(error),
    }
}
