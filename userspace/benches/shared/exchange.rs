//! An exchange as benches use it, which put another answer, target or fields into it where they need some.
//!
//! Included by path, by benches that need nothing else of what is shared.

use std::net::SocketAddr;

use understudy::model::{
    Body, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers, Marks, Request, Response, Times, Timestamp,
    Version,
};

/// A request as browsers send it, and this answer, all at one moment.
pub(crate) fn exchange(number: u64, at: Timestamp, response: Response) -> Exchange {
    let end = |host: u8, port| Endpoint::from(SocketAddr::from(([10, 0, 0, host], port)));
    // So many clients that each shard of a queue has its part.
    let client = end(u8::try_from(number % 250).unwrap_or_default(), 40_000);
    Exchange {
        id: ExchangeId { flow: number.wrapping_mul(0x9e37_79b9_7f4a_7c15), offset: number },
        flow: Flow { key: FlowKey { client, server: end(255, 8080), scope: 0 }, opened: at },
        request: Request {
            method: "GET".into(),
            target: format!("/items/{number}?full=1").into(),
            version: Version::Http11,
            headers: Headers::from_pairs([
                ("Host", "shop.example.org"),
                ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("Accept", "application/json"),
                ("Accept-Encoding", "gzip, deflate, br"),
                ("Cookie", "session=0123456789abcdef0123456789abcdef"),
                ("X-Request-Id", "4f1c2d3e-0000-4000-8000-0123456789ab"),
            ]),
            trailers: Headers::default(),
            body: Body::whole(""),
        },
        response: Some(response),
        interim: Vec::new(),
        times: Times { request_first: at, request_last: at, response: Some((at, at)) },
        marks: Marks::default(),
    }
}
