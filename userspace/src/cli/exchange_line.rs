//! One exchange as one line, for people and for programs.
//!
//! Prints nothing itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::output::shown;
use crate::model::{Body, Exchange, Headers, Mark, Request, Response, Timestamp};
use crate::pipeline::inspect::sha256;

/// An exchange in JSON. Keys and their meaning are stable.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    flow: FlowPart,
    /// When the first byte of the request was captured; RFC 3339, UTC.
    captured_at: String,
    request: RequestPart<'a>,
    response: Option<ResponsePart<'a>>,
    interim: &'a [u16],
    /// Last request byte to first response byte, in microseconds.
    ttfb_us: Option<u64>,
    /// First request byte to last response byte, in microseconds.
    total_us: Option<u64>,
    marks: Vec<&'static str>,
}

#[derive(Serialize)]
struct FlowPart {
    client: String,
    server: String,
    opened: String,
}

#[derive(Serialize)]
struct RequestPart<'a> {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: BodyPart<'a>,
}

#[derive(Serialize)]
struct ResponsePart<'a> {
    status: u16,
    version: &'static str,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: BodyPart<'a>,
}

#[derive(Serialize)]
struct BodyPart<'a> {
    body_bytes: u64,
    /// Lower-case hexadecimal; null when not all of the body is known.
    body_sha256: Option<String>,
    complete: bool,
    /// Base64 of the kept bytes, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Base64<'a>>,
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

/// The exchange as one JSON object, with a line's end. `with_body` adds the bodies in base64.
pub(super) fn json(exchange: &Exchange, with_body: bool) -> serde_json::Result<String> {
    let Exchange { id, flow, request, response, interim, times, marks } = exchange;
    let Request { method, target, version, headers, trailers: _, body } = request;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let line = Line {
        id: id.to_string(),
        flow: FlowPart {
            client: flow.key.client.to_string(),
            server: flow.key.server.to_string(),
            opened: rfc3339(flow.opened),
        },
        captured_at: rfc3339(times.request_first),
        request: RequestPart {
            method: text(method),
            target: text(target),
            version: version.as_str(),
            headers: fields(headers),
            body: body_part(body, with_body),
        },
        response: response.as_ref().map(|Response { status, version, headers, trailers: _, body }| {
            ResponsePart {
                status: *status,
                version: version.as_str(),
                headers: fields(headers),
                body: body_part(body, with_body),
            }
        }),
        interim,
        ttfb_us: times.ttfb().map(micros),
        total_us: times.total().map(micros),
        marks: marks.iter().map(Mark::label).collect(),
    };
    serde_json::to_string(&line).map(|json| json + "\n")
}

/// The exchange for people: time, method and target, status, sizes, times, marks.
pub(super) fn text_line(exchange: &Exchange) -> String {
    let Exchange { id: _, flow, request, response, interim, times, marks } = exchange;
    let clock = rfc3339(times.request_first);
    let clock = clock.get(11..23).unwrap_or(&clock);
    let interim: String = interim.iter().map(|status| format!("{status} ")).collect();
    let answer = match response {
        Some(response) => format!("{interim}{} {}", response.status, size(&response.body)),
        None => format!("{interim}--- no response"),
    };
    let took = match (times.ttfb(), times.total()) {
        (Some(ttfb), Some(total)) => format!("  {} to first byte, {} in all", millis(ttfb), millis(total)),
        (Some(_) | None, _) => String::new(),
    };
    let sent = if request.body.bytes > 0 { format!(" ({})", size(&request.body)) } else { String::new() };
    let marks: Vec<&str> = marks.iter().map(Mark::label).collect();
    let marks = if marks.is_empty() { String::new() } else { format!("  [{}]", marks.join(", ")) };
    format!(
        "{clock} {} {} {}{sent} -> {answer}{took}{marks}\n",
        flow.key.client,
        shown(&request.method),
        shown(&request.target)
    )
}

fn body_part(body: &Body, with_body: bool) -> BodyPart<'_> {
    BodyPart {
        body_bytes: body.bytes,
        body_sha256: sha256(body).filter(|_| body.complete).map(hex),
        complete: body.complete,
        body: with_body.then_some(Base64(&body.kept)),
    }
}

fn hex(digest: [u8; 32]) -> String {
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

fn fields(headers: &Headers) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// UTF-8 as it is; of other bytes, each stands for one character (ISO 8859-1), so that nothing is lost.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

fn rfc3339(time: Timestamp) -> String {
    humantime::format_rfc3339_micros(time.to_system_time()).to_string()
}

fn millis(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn size(body: &Body) -> String {
    let cut = if body.complete { "" } else { "+, cut off" };
    match body.bytes {
        bytes @ 0..=9_999 => format!("{bytes} B{cut}"),
        bytes @ 10_000..=9_999_999 => format!("{} kB{cut}", bytes / 1000),
        bytes => format!("{} MB{cut}", bytes / 1_000_000),
    }
}
