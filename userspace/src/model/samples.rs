//! Exchanges and answers for tests.
//!
//! Says as little as it can: a test changes the fields that it is about.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Body, Comparison, Difference, DifferenceKind, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers,
    Marks, Observation, Outcome, Request, Response, Times, Timestamp, Version,
};

/// A request without a body.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Request {
    Request {
        method: method.to_owned().into(),
        target: target.to_owned().into(),
        version: Version::Http11,
        headers: Headers::from_pairs(headers.iter().copied()),
        trailers: Headers::default(),
        body: Body::whole(""),
    }
}

/// An answer.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Response {
    Response {
        status,
        version: Version::Http11,
        headers: Headers::from_pairs(headers.iter().copied()),
        trailers: Headers::default(),
        body: Body::whole(body.into()),
    }
}

/// An exchange from 10.0.0.1:40000 with 10.0.0.2:8080, all at one moment.
pub(crate) fn exchange(id: ExchangeId, at: Timestamp, request: Request, response: Response) -> Exchange {
    let end = |address: [u8; 4], port| Endpoint::from(std::net::SocketAddr::from((address, port)));
    let key = FlowKey { client: end([10, 0, 0, 1], 40_000), server: end([10, 0, 0, 2], 8080), scope: 0 };
    Exchange {
        id,
        flow: Flow { key, opened: at },
        request,
        response: Some(response),
        interim: Vec::new(),
        times: Times { request_first: at, request_last: at, response: Some((at, at)) },
        marks: Marks::default(),
    }
}

/// A comparison at one moment of answers that took A and B so long and differ at these paths.
pub(crate) fn compared(
    experiment: &str,
    route: &str,
    at: Timestamp,
    [control, candidate]: [Duration; 2],
    paths: &[&str],
) -> Comparison {
    let answer = || response(200, &[], "");
    let id = ExchangeId { flow: 1, offset: at.0 };
    let mut exchange = exchange(id, at, request("GET", "/", &[]), answer());
    let answered = at.after(control);
    exchange.times.response = Some((answered, answered));
    let difference = |path: &&str| Difference {
        path: (*path).to_owned(),
        kind: DifferenceKind::Value,
        place: (*path).to_owned(),
        control: None,
        candidate: None,
    };
    let differences: Vec<_> = paths.iter().map(difference).collect();
    Comparison {
        experiment: experiment.into(),
        route: route.into(),
        exchange: Arc::new(exchange),
        candidate: Observation::Answered { response: Box::new(answer()), ttfb: candidate, served: candidate },
        compared_at: at,
        outcome: match differences.is_empty() {
            true => Outcome::Match,
            false => Outcome::Mismatch { differences, ignored: Vec::new(), omitted: 0 },
        },
    }
}
