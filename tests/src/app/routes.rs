//! What the application answers: a function of the request and of whether faults are planted.
//!
//! Reads no clock and no state, so that two instances agree byte for byte, apart from `Date`.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::wire::{BodyFacts, RequestHead, field};

/// Largest body of `/blob/{bytes}` and `/until-close/{bytes}`.
const BLOB_BYTES_MAX: u64 = 64 << 20;
const BLOB_BLOCK_BYTES: usize = 64 << 10;
/// Longest time of `/slow/{ms}`.
const SLOW_MS_MAX: u64 = 5_000;
/// Most lines of `/stream/{lines}`.
const STREAM_LINES_MAX: u64 = 10_000;
/// What the slow fault adds.
const QUOTE_DELAY: Duration = Duration::from_millis(40);

/// An answer before it is written.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) content: Content,
    /// Whether 103 Early Hints comes first.
    pub(super) interim: bool,
    /// How long the answer takes.
    pub(super) delay: Duration,
}

/// The body of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    None,
    Bytes(Vec<u8>),
    /// So many bytes of [`blob_block`]s.
    Blob(u64),
    Chunks(Vec<Vec<u8>>),
    /// As `Blob`, ended by closing the connection.
    UntilClose(u64),
}

/// What the request is answered with.
pub(super) fn answer(head: &RequestHead, body: &BodyFacts, faulty: bool) -> Answer {
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (first, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = |max: u64| rest.parse::<u64>().ok().filter(|number| *number <= max);
    match (head.method.as_str(), first) {
        ("CONNECT", _) => Answer::new(200, "OK", Content::None),
        (_, "sink") => Answer::json(&json!({
            "method": head.method, "target": head.target, "body_bytes": body.bytes, "body_sha256": body.sha256,
        })),
        ("POST", "orders") => Answer {
            status: 201,
            reason: "Created",
            ..Answer::json(&json!({
                "order": body.sha256.get(..12), "body_bytes": body.bytes, "body_sha256": body.sha256,
            }))
            .with("Location", format!("/orders/{}", body.sha256.get(..12).unwrap_or_default()))
        },
        ("DELETE", "items") => Answer::new(204, "No Content", Content::None),
        ("GET" | "HEAD", "items") => Answer::json(&item(rest, faulty)),
        ("GET" | "HEAD", "search") => search(query, faulty),
        ("GET" | "HEAD", "quotes") => Answer {
            delay: if faulty { QUOTE_DELAY } else { Duration::ZERO },
            ..Answer::json(&json!({"id": rest, "text": format!("Nothing is as old as quote {rest}.")}))
        },
        ("GET" | "HEAD", "report") => report(),
        ("GET" | "HEAD", "stream") => match number(STREAM_LINES_MAX) {
            Some(lines) => {
                let line = |n| format!("line {n} of {lines}\n").into_bytes();
                Answer::new(200, "OK", Content::Chunks((1..=lines).map(line).collect()))
                    .with("Content-Type", "text/plain")
            }
            None => not_found(),
        },
        ("GET" | "HEAD", "blob") => number(BLOB_BYTES_MAX).map_or_else(not_found, |bytes| {
            Answer::new(200, "OK", Content::Blob(bytes)).with("Content-Type", "application/octet-stream")
        }),
        ("GET" | "HEAD", "until-close") => number(BLOB_BYTES_MAX).map_or_else(not_found, |bytes| {
            Answer::new(200, "OK", Content::UntilClose(bytes))
                .with("Content-Type", "application/octet-stream")
        }),
        ("GET" | "HEAD", "slow") => number(SLOW_MS_MAX).map_or_else(not_found, |ms| Answer {
            delay: Duration::from_millis(ms),
            ..Answer::json(&json!({"ms": ms}))
        }),
        ("GET" | "HEAD", "empty") => Answer::new(204, "No Content", Content::None),
        ("GET" | "HEAD", "cached") => cached(head, rest),
        ("GET" | "HEAD", "redirect") => {
            Answer::new(302, "Found", Content::Bytes(Vec::new())).with("Location", format!("/items/{rest}"))
        }
        ("GET" | "HEAD", "interim") => Answer { interim: true, ..Answer::json(&json!({"id": rest})) },
        ("GET", "upgrade") if field(&head.fields, "upgrade").is_some() => {
            Answer::new(101, "Switching Protocols", Content::None)
                .with("Upgrade", "echo")
                .with("Connection", "Upgrade")
        }
        _ => not_found(),
    }
}

/// Block `number` of a blob: bytes that repeat neither within a block nor between neighbours.
pub(super) fn blob_block(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = Vec::with_capacity(BLOB_BLOCK_BYTES);
    while block.len() < BLOB_BLOCK_BYTES {
        // xorshift64: cheap, and the same everywhere.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}

fn item(id: &str, faulty: bool) -> Value {
    let cents = id.bytes().fold(995u64, |sum, byte| (sum * 31 + u64::from(byte)) % 90_000);
    // The fault is in the price alone; what else follows from the id stays right.
    let price = (cents + u64::from(faulty)) as f64 / 100.0;
    json!({
        "id": id,
        "name": format!("Item {id}"),
        "price": price,
        "tags": ["new", "sale"],
        "stock": {"warehouse": cents % 7, "shop": cents / 10_000},
    })
}

fn search(query: &str, faulty: bool) -> Answer {
    let words = query.split('&').find_map(|pair| pair.strip_prefix("q=")).unwrap_or_default();
    if faulty && words.starts_with('z') {
        return Answer {
            status: 500,
            reason: "Internal Server Error",
            ..Answer::json(&json!({"error": "index out of range"}))
        };
    }
    let hits: Vec<Value> =
        (1..=5).map(|n| json!({"id": format!("{words}-{n}"), "score": 1.0 / f64::from(n)})).collect();
    Answer::json(&json!({"query": words, "total": hits.len(), "hits": hits}))
}

fn report() -> Answer {
    let rows: Vec<Value> = (0..200).map(|n| json!({"day": n, "orders": n * 37 % 101})).collect();
    let plain = json!({"rows": rows}).to_string();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail; a build that could would answer 500 and be found at once.
    match encoder.write_all(plain.as_bytes()).and_then(|()| encoder.finish()) {
        Ok(packed) => Answer::new(200, "OK", Content::Bytes(packed))
            .with("Content-Type", "application/json")
            .with("Content-Encoding", "gzip"),
        Err(_) => Answer::new(500, "Internal Server Error", Content::Bytes(Vec::new())),
    }
}

fn cached(head: &RequestHead, id: &str) -> Answer {
    let tag = format!("\"v1-{id}\"");
    let answer = if field(&head.fields, "if-none-match") == Some(&tag) {
        Answer::new(304, "Not Modified", Content::None)
    } else {
        Answer::json(&json!({"id": id, "cached": true}))
    };
    answer.with("ETag", tag)
}

fn not_found() -> Answer {
    Answer { status: 404, reason: "Not Found", ..Answer::json(&json!({"error": "not found"})) }
}

// === impl Answer ===

impl Answer {
    fn new(status: u16, reason: &'static str, content: Content) -> Self {
        Self { status, reason, fields: Vec::new(), content, interim: false, delay: Duration::ZERO }
    }

    fn json(value: &Value) -> Self {
        let body = format!("{value}\n").into_bytes();
        Self::new(200, "OK", Content::Bytes(body)).with("Content-Type", "application/json")
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str, faulty: bool) -> Answer {
        let head = RequestHead {
            method: method.to_owned(),
            target: target.to_owned(),
            minor: 1,
            fields: vec![("If-None-Match".to_owned(), "\"v1-7\"".to_owned())],
        };
        answer(&head, &BodyFacts::of(b"body"), faulty)
    }

    #[track_caller]
    fn check(method: &str, target: &str, status: u16, differs: bool) {
        let (a, b) = (ask(method, target, false), ask(method, target, true));
        assert_eq!(a.status, status, "{method} {target}");
        let same = (a.status, &a.content, a.delay) == (b.status, &b.content, b.delay) && a.fields == b.fields;
        assert_eq!(!same, differs, "{method} {target}");
    }

    #[test]
    fn exactly_the_planted_faults_differ() {
        check("GET", "/items/1", 200, true);
        check("GET", "/items/any-other", 200, true);
        check("GET", "/search?q=zebra", 200, true);
        check("GET", "/quotes/3", 200, true);
        check("GET", "/search?q=apple", 200, false);
        check("DELETE", "/items/1", 204, false);
        check("POST", "/orders", 201, false);
        check("GET", "/report", 200, false);
        check("GET", "/stream/3", 200, false);
        check("GET", "/blob/100", 200, false);
        check("GET", "/cached/7", 304, false);
        check("GET", "/cached/8", 200, false);
        check("GET", "/redirect/1", 302, false);
        check("GET", "/blob/99999999999", 404, false);
        check("PUT", "/sink/x", 200, false);
    }

    #[test]
    fn a_faulty_item_is_one_cent_off_and_right_otherwise() {
        for id in ["1", "2", "17", "beta"] {
            let (mut right, mut wrong) = (item(id, false), item(id, true));
            let price = |item: &mut Value| item["price"].take().as_f64().unwrap();
            assert!((price(&mut wrong) - price(&mut right) - 0.01).abs() < 1e-6, "{id}");
            assert_eq!(right, wrong, "only the price differs");
        }
    }

    #[test]
    fn blob_blocks_differ() {
        assert_eq!(blob_block(1).len(), BLOB_BLOCK_BYTES);
        assert_ne!(blob_block(1), blob_block(2));
    }
}
