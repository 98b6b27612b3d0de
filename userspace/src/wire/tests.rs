//! Any exchange comes back as it was; anything else is refused, and nothing panics.
//!
//! The documentation is held against what is written.

use std::collections::BTreeSet;
use std::fmt;

use proptest::prelude::*;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::{DEPTH_MAX, FIELDS_MAX, INTERIM_MAX, VERSION, WireError, WireLimits, decode, encode};
use crate::model::{
    Body, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers, Mark, Request, Response, Times, Timestamp,
    Version, samples,
};

/// Any exchange that `http` could give: header fields and bodies of any bytes, whole or cut, answered or not.
pub(crate) fn any_exchange() -> impl Strategy<Value = Exchange> {
    let key = (any::<[u8; 16]>(), any::<bool>(), any::<u16>(), any::<u16>(), any::<u64>());
    let times = (any::<u64>(), any::<u64>(), any::<(u64, u64)>(), any::<u64>());
    let marks = proptest::collection::vec(proptest::sample::select(Mark::ALL.to_vec()), 0..4);
    let interim = proptest::collection::vec(100u16..200, 0..3);
    let response = proptest::option::of(any_response());
    (any::<(u64, u64)>(), key, any_request(), response, interim, times, marks).prop_map(
        |((flow, offset), (addr, v4, client, server, scope), request, response, interim, times, marks)| {
            let (request_first, request_last, (first, last), opened) = times;
            let end = |port| {
                if v4 {
                    let [.., a, b, c, d] = addr;
                    Endpoint::from(std::net::SocketAddr::from(([a, b, c, d], port)))
                } else {
                    Endpoint { addr, port }
                }
            };
            let key = FlowKey { client: end(client), server: end(server), scope };
            Exchange {
                id: ExchangeId { flow, offset },
                flow: Flow { key, opened: Timestamp(opened) },
                times: Times {
                    request_first: Timestamp(request_first),
                    request_last: Timestamp(request_last),
                    response: response.as_ref().map(|_| (Timestamp(first), Timestamp(last))),
                },
                request,
                response,
                interim,
                marks: marks.into_iter().collect(),
            }
        },
    )
}

fn any_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn any_headers() -> impl Strategy<Value = Headers> {
    proptest::collection::vec((any_bytes(12), any_bytes(20)), 0..5).prop_map(Headers::from_pairs)
}

fn any_version() -> impl Strategy<Value = Version> {
    proptest::sample::select(vec![Version::Http10, Version::Http11])
}

fn any_body() -> impl Strategy<Value = Body> {
    let cut = proptest::option::of((1u64..1 << 40, proptest::option::of(any::<[u8; 32]>())));
    (any_bytes(300), cut, any::<bool>()).prop_map(|(kept, cut, complete)| {
        let (more, digest) = cut.unwrap_or_default();
        Body { bytes: kept.len() as u64 + more, kept: kept.into(), digest, complete }
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    let line = (any_bytes(8), any_bytes(40), any_version());
    (line, any_headers(), any_headers(), any_body()).prop_map(
        |((method, target, version), headers, trailers, body)| Request {
            method: method.into(),
            target: target.into(),
            version,
            headers,
            trailers,
            body,
        },
    )
}

fn any_response() -> impl Strategy<Value = Response> {
    (0u16..1000, any_version(), any_headers(), any_headers(), any_body()).prop_map(
        |(status, version, headers, trailers, body)| Response { status, version, headers, trailers, body },
    )
}

fn encoded(exchange: &Exchange) -> Vec<u8> {
    let mut out = Vec::new();
    encode(exchange, &WireLimits::default(), &mut out).unwrap();
    out
}

/// Everything that an exchange says, for comparison: the model's own types have no equality.
pub(crate) fn shown(exchange: &Exchange) -> String {
    let Exchange { id, flow, request, response, interim, times, marks } = exchange;
    let body = |body: &Body| format!("{:?} {body:?} {:?}", body.kept, body.digest);
    format!(
        "{id:?} {flow:?} {request:?} {} {response:?} {:?} {interim:?} {times:?} {marks:?}",
        body(&request.body),
        response.as_ref().map(|response| body(&response.body)),
    )
}

#[track_caller]
fn check(form: &impl serde::Serialize, expected: &str) {
    let bytes = rmp_serde::to_vec_named(form).unwrap();
    let error = decode(&bytes, &WireLimits::default()).unwrap_err();
    let message = format!("{:#}", anyhow::Error::new(error));
    assert!(message.contains(expected), "{message}\nshould say: {expected}");
}

/// A small exchange with fields replaced or added by the caller.
struct Changed<'a>(Vec<(&'a str, serde_json::Value)>);

impl serde::Serialize for Changed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut whole = serde_json::json!({
            "version": [1, 0],
            "id": "000000000000000a000000000000000b",
            "client": "10.0.0.1:40000",
            "server": "[2001:db8::1]:8080",
            "opened_ns": 1,
            "request": {
                "method": "GET", "target": "/", "version": "HTTP/1.1", "headers": [["Host", "x"]],
                "body": { "bytes": 0, "kept": "", "complete": true },
            },
            "times": { "request_first_ns": 2, "request_last_ns": 3 },
        });
        for (path, value) in &self.0 {
            let pointer = format!("/{}", path.replace('.', "/"));
            match whole.pointer_mut(&pointer) {
                Some(place) => *place = value.clone(),
                None => {
                    let (parent, key) = pointer.rsplit_once('/').unwrap();
                    let parent = whole.pointer_mut(parent).and_then(|parent| parent.as_object_mut()).unwrap();
                    parent.insert(key.to_owned(), value.clone());
                }
            }
        }
        Packed(&whole).serialize(serializer)
    }
}

/// JSON as another format has it: numbers as numbers, which `arbitrary_precision` hides.
struct Packed<'a>(&'a serde_json::Value);

impl serde::Serialize for Packed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde_json::Value;
        match self.0 {
            Value::Number(number) => serializer.serialize_i64(number.as_i64().unwrap()),
            Value::Array(list) => serializer.collect_seq(list.iter().map(Packed)),
            Value::Object(map) => serializer.collect_map(map.iter().map(|(key, value)| (key, Packed(value)))),
            plain @ (Value::Null | Value::Bool(_) | Value::String(_)) => plain.serialize(serializer),
        }
    }
}

#[track_caller]
fn accepted(changes: Vec<(&str, serde_json::Value)>) -> Exchange {
    decode(&rmp_serde::to_vec_named(&Changed(changes)).unwrap(), &WireLimits::default()).unwrap()
}

#[test]
fn what_other_programs_write_by_the_documentation_is_read() {
    // Text in the place of bytes, no field that may be left out, and some that nobody knows.
    let exchange = accepted(vec![
        ("later", serde_json::json!({ "a": [1, 2, { "b": null }] })),
        ("request.later", serde_json::json!("x")),
    ]);
    assert_eq!(exchange.id.to_string(), "000000000000000a000000000000000b");
    assert_eq!(exchange.flow.key.server.to_string(), "[2001:db8::1]:8080");
    assert_eq!(exchange.request.headers.get("host"), Some(&b"x"[..]));
    assert!(exchange.response.is_none() && exchange.marks.is_empty() && exchange.times.response.is_none());
}

#[test]
fn a_later_minor_version_is_read_and_a_later_major_one_refused() {
    accepted(vec![("version", serde_json::json!([1, 9]))]);
    // Nothing else can be relied on then, so that nothing else is complained of.
    let later = Changed(vec![("version", serde_json::json!([2, 0])), ("request", serde_json::json!(7))]);
    check(&later, "version 2.0");
}

#[test]
fn a_mark_of_a_later_version_keeps_an_exchange_from_being_replayed() {
    let exchange = accepted(vec![("marks", serde_json::json!(["cut", "unheard_of"]))]);
    assert!(exchange.marks.has(Mark::Cut) && exchange.marks.has(Mark::Ambiguous));
}

#[test]
fn says_which_field_is_wrong() {
    let wrong = |path, value, expected: &str| check(&Changed(vec![(path, value)]), expected);
    use serde_json::json;
    wrong("id", json!("+00000000000000a000000000000000b"), "`id`");
    wrong("id", json!("0"), "`id`");
    wrong("client", json!("somewhere"), "`client`");
    wrong("request.version", json!("HTTP/2"), "`request.version`");
    wrong("request.body.bytes", json!(-1), "no exchange");
    wrong("request.body.kept", json!("more than none"), "`request.body`");
    wrong("request.body.sha256", json!("short"), "SHA-256");
    wrong("request.body.sha256", json!("00000000000000000000000000000000"), "SHA-256");
    wrong("request.method", json!(7), "no exchange");
    wrong("times.response_last_ns", json!(7), "`times`");
    wrong("interim", json!(vec![103; INTERIM_MAX + 1]), "at most 1024");
    wrong("request.headers", json!(vec![["", ""]; FIELDS_MAX + 1]), "at most 1024");
    let mut deep = json!(0);
    for _ in 0..DEPTH_MAX + 1 {
        deep = json!([deep]);
    }
    wrong("later", deep, "depth");
}

#[test]
fn bytes_behind_an_exchange_are_refused() {
    let mut bytes = rmp_serde::to_vec_named(&Changed(Vec::new())).unwrap();
    bytes.push(0);
    assert!(matches!(decode(&bytes, &WireLimits::default()), Err(WireError::Trailing)));
}

#[test]
fn what_is_beyond_the_limit_is_neither_written_nor_read() {
    let limits = WireLimits { exchange_bytes_max: 100 };
    let exchange = accepted(Vec::new());
    let mut out = b"before".to_vec();
    assert!(matches!(
        encode(&exchange, &limits, &mut out),
        Err(WireError::TooLarge { bytes: _, limit: 100 })
    ));
    assert_eq!(out, b"before");
    assert!(matches!(
        decode(&encoded(&exchange), &limits),
        Err(WireError::TooLarge { bytes: _, limit: 100 })
    ));
}

#[test]
fn more_fields_than_can_be_read_are_not_written() {
    let mut exchange = accepted(Vec::new());
    exchange.request.headers = Headers::from_pairs(vec![("a", "b"); FIELDS_MAX + 1]);
    let error = encode(&exchange, &WireLimits::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, WireError::Value { field: "request.headers", problem: _ }), "{error}");
}

/// A list that says it is very long must not cost the room that it says.
#[test]
fn an_announced_length_costs_no_memory() {
    let mut bytes = encoded(&accepted(Vec::new()));
    let at = bytes.windows(7).position(|window| window == b"headers").unwrap() + 7;
    bytes.splice(at..=at, [0xdd, 0xff, 0xff, 0xff, 0xff]);
    assert!(decode(&bytes, &WireLimits::default()).is_err());
}

proptest! {
    #[test]
    fn an_exchange_comes_back_as_it_was(exchange in any_exchange()) {
        let back = decode(&encoded(&exchange), &WireLimits::default()).unwrap();
        prop_assert_eq!(shown(&back), shown(&exchange));
    }

    /// Cut anywhere it is refused: no exchange is the beginning of another.
    #[test]
    fn a_part_of_an_exchange_is_none(exchange in any_exchange(), share in 0.0..1.0f64) {
        let bytes = encoded(&exchange);
        let end = (bytes.len() as f64 * share) as usize;
        prop_assert!(decode(&bytes[..end], &WireLimits::default()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(decode(&bytes, &WireLimits::default()));
    }

    /// Bytes that are nearly an exchange come further than random ones.
    #[test]
    fn a_damaged_exchange_is_read_or_refused(
        exchange in any_exchange(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&exchange);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        drop(decode(&bytes, &WireLimits::default()));
    }
}

/// Collects the names of all fields: `request.body.kept`.
struct Names<'a> {
    prefix: String,
    names: &'a mut BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let name = if self.prefix.is_empty() { key } else { format!("{}.{key}", self.prefix) };
            self.names.insert(name.clone());
            map.next_value_seed(Names { prefix: name, names: &mut *self.names })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[test]
fn the_documentation_lists_exactly_the_fields_that_are_written() {
    let id = ExchangeId { flow: 1, offset: 2 };
    let answer = samples::response(200, &[], "");
    let exchange = samples::exchange(id, Timestamp(3), samples::request("GET", "/", &[]), answer);
    let bytes = encoded(&exchange);
    let mut written = BTreeSet::new();
    let mut reader = rmp_serde::Deserializer::from_read_ref(&bytes);
    Names { prefix: String::new(), names: &mut written }.deserialize(&mut reader).unwrap();
    let text = include_str!("../../../docs/wire.md");
    let documented: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(documented, written);
    for mark in Mark::ALL {
        assert!(text.contains(&format!("`{}`", mark.label())), "mark {}", mark.label());
    }
    assert!(text.contains(&format!("Version {}.{}", VERSION.major, VERSION.minor)), "version");
}
