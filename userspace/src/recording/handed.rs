//! Exchanges that an application or an adapter hands in, as JSON.
//!
//! Trusts none of it, sends nothing, and reads no clock. What could not have been on a wire is refused by the name of
//! its field, as a request that is sent again must not say more than the first one did.
//!
//! One exchange is one line. The form is what `understudy inspect --json --body` shows; `docs/adapters.md` says which
//! fields may be left out. A field that is not known is passed over.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::model::{
    Body, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers, Mark, Marks, Request, Response, Times,
    Timestamp, Version, fnv1a, is_token,
};
use crate::wire::FIELDS_MAX;

/// Bounds of what is handed in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedLimits {
    /// Exchanges. Default 1,000.
    pub exchanges_max: usize,
    /// Bytes of one line; about three times that is taken in memory to read it. Default 16 MiB.
    pub line_bytes_max: usize,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{field}` {problem}")]
pub struct HandedError {
    /// The line, from 1.
    pub line: usize,
    /// The field with those that hold it, such as `request.headers`; empty for the line as a whole.
    pub field: &'static str,
    /// What cannot be.
    pub problem: String,
}

/// A field with what is wrong with it.
type Fault = (&'static str, String);

/// Milliseconds of a day beyond which a duration is none of an answer.
const TAKES_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a client is that nobody names (RFC 5737: an address of no host).
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 0)), 0);

// === impl HandedLimits ===

impl Default for HandedLimits {
    fn default() -> Self {
        Self { exchanges_max: 1_000, line_bytes_max: 16 << 20 }
    }
}

/// Reads all lines, or none of them; empty ones are passed over. `arrived` is when they came, for those that do not say
/// when they happened.
///
/// # Errors
/// The first line that is no exchange, with the field.
pub fn read_lines(
    text: &[u8],
    arrived: Timestamp,
    limits: &HandedLimits,
) -> Result<Vec<Exchange>, HandedError> {
    let mut exchanges = Vec::new();
    let mut twins = HashMap::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line_number = index.saturating_add(1);
        let wrong = |(field, problem): Fault| HandedError { line: line_number, field, problem };
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if exchanges.len() >= limits.exchanges_max {
            return Err(wrong(("", format!("is beyond the limit of {} exchanges", limits.exchanges_max))));
        }
        if line.len() > limits.line_bytes_max {
            let problem = format!("has {} bytes, and {} are the limit", line.len(), limits.line_bytes_max);
            return Err(wrong(("", problem)));
        }
        exchanges.push(exchange(line, arrived, &mut twins).map_err(wrong)?);
    }
    Ok(exchanges)
}

/// `twins` counts the lines that are equal, by their hash.
fn exchange(line: &[u8], arrived: Timestamp, twins: &mut HashMap<u64, u64>) -> Result<Exchange, Fault> {
    let value: Value = serde_json::from_slice(line).map_err(|error| ("", format!("is no JSON: {error}")))?;
    let Value::Object(fields) = &value else { return Err(("", "is no JSON object".to_owned())) };
    let begun = match present(fields, "captured_at") {
        None => arrived,
        Some(at) => {
            let text = text(at, "captured_at")?;
            let time = humantime::parse_rfc3339_weak(text)
                .map_err(|_not_a_time| ("captured_at", "must be a time of RFC 3339, in UTC".to_owned()))?;
            Timestamp::from_system_time(time)
        }
    };
    let request = request(object(fields, "request")?.ok_or_else(|| missing("request"))?)?;
    let response = object(fields, "response")?.map(response).transpose()?;
    let total = micros(fields, "total_us")?.unwrap_or_default();
    let ttfb = micros(fields, "ttfb_us")?.unwrap_or(total).min(total);
    let times = Times {
        request_first: begun,
        request_last: begun,
        response: response.as_ref().map(|_| (begun.after(ttfb), begun.after(total))),
    };
    let flow = object(fields, "flow")?;
    let end = |name, field| match flow.and_then(|flow| present(flow, name)) {
        None => Ok(NOBODY),
        Some(end) => {
            let problem = || (field, "must be an address with a port, such as 192.0.2.7:4711".to_owned());
            text(end, field)?.parse().map_err(|_no_address| problem())
        }
    };
    let key = FlowKey {
        client: Endpoint::from(end("client", "flow.client")?),
        server: Endpoint::from(end("server", "flow.server")?),
        scope: 0,
    };
    let id = match present(fields, "id") {
        Some(id) => ExchangeId::from_hex(text(id, "id")?)
            .ok_or_else(|| ("id", "must be 32 hexadecimal digits".to_owned()))?,
        // A line that says when it happened has one name, in whatever place of whatever input it is handed in. A second one
        // that is equal in all has another: where clocks tell seconds, both may have happened.
        None => {
            let hash = fnv1a(line.iter().copied());
            let twin = twins.entry(hash).and_modify(|twin| *twin = twin.saturating_add(1)).or_insert(0);
            ExchangeId { flow: hash, offset: begun.0 ^ *twin << 32 }
        }
    };
    let mut marks = Marks::default();
    if response.is_none() {
        marks.set(Mark::NoResponse);
    }
    Ok(Exchange {
        id,
        flow: Flow { key, opened: begun },
        request,
        response,
        interim: Vec::new(),
        times,
        marks,
    })
}

fn request(fields: &Map<String, Value>) -> Result<Request, Fault> {
    let method = text(present(fields, "method").ok_or_else(|| missing("request.method"))?, "request.method")?;
    if !is_token(method.as_bytes()) {
        return Err(("request.method", "must be a method, such as GET (RFC 9110 section 9)".to_owned()));
    }
    let target = text(present(fields, "target").ok_or_else(|| missing("request.target"))?, "request.target")?;
    let sound = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound {
        let problem = "must be a path with its query, without blanks and in ASCII, such as /items?page=2";
        return Err(("request.target", problem.to_owned()));
    }
    Ok(Request {
        method: method.to_owned().into(),
        target: target.to_owned().into(),
        version: Version::Http11,
        headers: headers(fields, "request.headers")?,
        trailers: Headers::default(),
        body: body(fields, ["request.body", "request.body_text"])?,
    })
}

fn response(fields: &Map<String, Value>) -> Result<Response, Fault> {
    let status = present(fields, "status").ok_or_else(|| missing("response.status"))?;
    let status = status.as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (200..=999).contains(status));
    Ok(Response {
        status: status.ok_or_else(|| {
            ("response.status", "must be the number of a final status, such as 200".to_owned())
        })?,
        version: Version::Http11,
        headers: headers(fields, "response.headers")?,
        trailers: Headers::default(),
        body: body(fields, ["response.body", "response.body_text"])?,
    })
}

fn headers(fields: &Map<String, Value>, field: &'static str) -> Result<Headers, Fault> {
    let Some(value) = present(fields, "headers") else { return Ok(Headers::default()) };
    let form = || (field, "must be a list of pairs of texts: [[\"Accept\", \"*/*\"]]".to_owned());
    let list = value.as_array().ok_or_else(form)?;
    if list.len() > FIELDS_MAX {
        return Err((field, format!("must be at most {FIELDS_MAX}")));
    }
    let mut pairs = Vec::with_capacity(list.len());
    for pair in list {
        let Some([Value::String(name), Value::String(value)]) = pair.as_array().map(Vec::as_slice) else {
            return Err(form());
        };
        if !is_token(name.as_bytes()) {
            return Err((field, "must have names that are tokens (RFC 9110 section 5.1)".to_owned()));
        }
        if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
            return Err((field, "must have values without line breaks (RFC 9110 section 5.5)".to_owned()));
        }
        pairs.push((name, value));
    }
    Ok(Headers::from_pairs(pairs))
}

/// A body as base64, or as text.
fn body(fields: &Map<String, Value>, [base64, plain]: [&'static str; 2]) -> Result<Body, Fault> {
    match (present(fields, "body"), present(fields, "body_text")) {
        (Some(_), Some(_)) => Err((plain, "must not be there beside `body`".to_owned())),
        (Some(encoded), None) => {
            let encoded = text(encoded, base64)?;
            let bytes = STANDARD.decode(encoded);
            bytes.map(Body::whole).map_err(|error| (base64, format!("is no base64: {error}")))
        }
        (None, Some(value)) => Ok(Body::whole(text(value, plain)?.to_owned())),
        (None, None) => Ok(Body::whole(Vec::new())),
    }
}

/// What is there and not null.
fn present<'v>(fields: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn missing(field: &'static str) -> Fault {
    (field, "is missing".to_owned())
}

fn text<'v>(value: &'v Value, field: &'static str) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| (field, "must be a text".to_owned()))
}

fn object<'v>(
    fields: &'v Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'v Map<String, Value>>, Fault> {
    match present(fields, field) {
        None => Ok(None),
        Some(value) => value.as_object().map(Some).ok_or_else(|| (field, "must be a JSON object".to_owned())),
    }
}

fn micros(fields: &Map<String, Value>, field: &'static str) -> Result<Option<Duration>, Fault> {
    let Some(value) = present(fields, field) else { return Ok(None) };
    let time = value.as_u64().map(Duration::from_micros).filter(|time| *time <= TAKES_MAX);
    let problem = || (field, "must be a whole number of microseconds, at most a day".to_owned());
    time.map(Some).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARRIVED: Timestamp = Timestamp(1_700_000_000_000_000_000);

    fn read(text: &str) -> Result<Vec<Exchange>, HandedError> {
        read_lines(text.as_bytes(), ARRIVED, &HandedLimits::default())
    }

    #[track_caller]
    fn check_refused(text: &str, line: usize, field: &str, part: &str) {
        let error = read(text).unwrap_err();
        assert_eq!((error.line, error.field), (line, field), "{error}");
        assert!(error.problem.contains(part), "{error}");
    }

    #[test]
    fn what_is_needed_is_little() {
        let text = r#"{"request": {"method": "GET", "target": "/a"}}"#;
        let exchange = read(text).unwrap().remove(0);
        assert_eq!(exchange.times.request_first, ARRIVED);
        assert!(exchange.response.is_none() && exchange.marks.has(Mark::NoResponse));
        assert_eq!(read(&format!("\n{text}\r\n\n{text}")).unwrap().len(), 2);
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn everything_that_can_be_said_is_read() {
        let exchange = read(
            r#"{"id": "00000000000000010000000000000002", "captured_at": "2026-11-22T06:17:36.5Z", "unknown": [1],
               "flow": {"client": "198.51.100.7:4711", "server": "[2001:db8::1]:80", "opened": "2026-11-22T06:17:36Z"},
               "request": {"method": "POST", "target": "/a?b", "headers": [["X", "1"], ["x", "é"]], "body": "AP8="},
               "response": {"status": 404, "headers": [], "body_text": "nö"}, "ttfb_us": 1500, "total_us": 2000}"#
                .replace('\n', "")
                .as_str(),
        )
        .unwrap()
        .remove(0);
        assert_eq!(exchange.id, ExchangeId { flow: 1, offset: 2 });
        assert_eq!(exchange.flow.key.client.to_string(), "198.51.100.7:4711");
        assert_eq!(exchange.request.body.kept, [0, 255][..]);
        assert_eq!(exchange.request.headers.get_all("x").collect::<Vec<_>>(), [&b"1"[..], "é".as_bytes()]);
        let response = exchange.response.as_ref().unwrap();
        assert_eq!((response.status, &response.body.kept[..]), (404, "nö".as_bytes()));
        assert_eq!(exchange.times.ttfb(), Some(Duration::from_micros(1500)));
        assert_eq!(exchange.times.total(), Some(Duration::from_micros(2000)));
    }

    #[test]
    fn a_line_that_says_when_it_happened_has_one_name() {
        let id = |text: &str, arrived| {
            read_lines(text.as_bytes(), arrived, &HandedLimits::default()).unwrap().remove(0).id
        };
        let dated =
            r#"{"captured_at": "2026-11-22T06:17:36Z", "request": {"method": "GET", "target": "/a"}}"#;
        let undated = r#"{"request": {"method": "GET", "target": "/a"}}"#;
        assert_eq!(id(dated, Timestamp(1)), id(dated, Timestamp(2)));
        assert_ne!(id(undated, Timestamp(1)), id(undated, Timestamp(2)));
        let ids = |text: &str| read(text).unwrap().iter().map(|exchange| exchange.id).collect::<Vec<_>>();
        let again = ids(&format!("{undated}\n\n{dated}\n{undated}\n{dated}"));
        assert_eq!(again[1], id(dated, ARRIVED), "wherever it stands");
        assert_ne!(again[0], again[2], "two that do not say when are two");
        assert_ne!(again[1], again[3], "two that are equal in all are two");
        assert_eq!(
            ids(&format!("{dated}\n{dated}")),
            [again[1], again[3]],
            "and the same two in another input"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        check_refused("{", 1, "", "JSON");
        check_refused("[]", 1, "", "object");
        check_refused("{}", 1, "request", "missing");
        check_refused(r#"{"request": 1}"#, 1, "request", "object");
        let with = |request: &str| {
            format!("\n{{\"request\": {{\"method\": \"GET\", \"target\": \"/\", {request}}}}}")
        };
        check_refused(r#"{"request": {"method": "G T", "target": "/"}}"#, 1, "request.method", "GET");
        check_refused(
            r#"{"request": {"method": "GET", "target": "/ HTTP/1.1\r\nX: y"}}"#,
            1,
            "request.target",
            "path",
        );
        check_refused(&with(r#""headers": {"a": "b"}"#), 2, "request.headers", "pairs");
        check_refused(&with(r#""headers": [["a", "b\r\nc: d"]]"#), 2, "request.headers", "line breaks");
        check_refused(&with(r#""headers": [["a b", "c"]]"#), 2, "request.headers", "tokens");
        check_refused(&with(r#""body": "?""#), 2, "request.body", "base64");
        check_refused(&with(r#""body": "", "body_text": """#), 2, "request.body_text", "beside");
        let answered = |rest: &str| format!(r#"{{"request": {{"method": "GET", "target": "/"}}, {rest}}}"#);
        check_refused(&answered(r#""response": {"status": 100}"#), 1, "response.status", "final");
        check_refused(&answered(r#""response": {"status": "200"}"#), 1, "response.status", "number");
        check_refused(&answered(r#""total_us": -1"#), 1, "total_us", "microseconds");
        check_refused(&answered(r#""captured_at": 7"#), 1, "captured_at", "text");
        check_refused(&answered(r#""captured_at": "yesterday""#), 1, "captured_at", "RFC 3339");
        check_refused(&answered(r#""flow": {"client": "nobody"}"#), 1, "flow.client", "address");
        check_refused(&answered(r#""id": "1""#), 1, "id", "32");
    }

    #[test]
    fn more_than_the_limits_is_refused() {
        let line = r#"{"request": {"method": "GET", "target": "/a"}}"#;
        let limits = HandedLimits { exchanges_max: 2, line_bytes_max: line.len() };
        let read = |text: String| read_lines(text.as_bytes(), ARRIVED, &limits);
        assert_eq!(read([line; 2].join("\n")).unwrap().len(), 2);
        assert_eq!(read([line; 3].join("\n")).unwrap_err().line, 3);
        assert!(read(line.replace("/a", "/ab")).unwrap_err().problem.contains("bytes"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read_lines(&bytes, ARRIVED, &HandedLimits::default()));
        }
    }
}
