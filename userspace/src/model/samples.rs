//! Exchanges and answers for tests.
//!
//! Says as little as it can: a test changes the fields that it is about.

use super::{
    Body, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers, Marks, Request, Response, Times, Timestamp,
    Version,
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
