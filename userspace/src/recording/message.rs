//! HTTP messages as bytes and text, for formats that want them so.
//!
//! Restores what was on the wire as far as the model knows it: not the reason phrase, and not how a body was cut into
//! chunks.

use crate::model::{Body, Exchange, Headers, Request, Response};

/// The request as a client sends it.
pub(super) fn request_bytes(request: &Request) -> Vec<u8> {
    let Request { method, target, version, headers, trailers, body } = request;
    let mut out = Vec::new();
    for part in [method, &b" "[..], target, b" ", version.as_str().as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    fields(headers, &mut out);
    // The bytes behind a CONNECT are no body (RFC 9110 section 9.3.6).
    if method != "CONNECT" {
        content(headers, body, trailers, &mut out);
    }
    out
}

/// The response as a server sends it.
pub(super) fn response_bytes(exchange: &Exchange, response: &Response) -> Vec<u8> {
    let Response { status, version, headers, trailers, body } = response;
    let line = format!("{} {status:03} {}\r\n", version.as_str(), reason(*status));
    let mut out = line.into_bytes();
    fields(headers, &mut out);
    let method = &exchange.request.method;
    // RFC 9112 section 6.3, rules 1 and 2.
    let bodiless = method == "HEAD"
        || matches!(status, 100..=199 | 204 | 304)
        || (method == "CONNECT" && (200..300).contains(status));
    if !bodiless {
        content(headers, body, trailers, &mut out);
    }
    out
}

/// The phrase that goes with a status; empty for those without one.
pub(super) fn reason(status: u16) -> &'static str {
    let code = http::StatusCode::from_u16(status).ok();
    code.and_then(|code| code.canonical_reason()).unwrap_or_default()
}

/// UTF-8 as it is; of other bytes, each stands for one character (ISO 8859-1), so that nothing is lost.
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

fn fields(headers: &Headers, out: &mut Vec<u8>) {
    for (name, value) in headers.iter() {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn content(headers: &Headers, body: &Body, trailers: &Headers, out: &mut Vec<u8>) {
    let whole = body.complete && !body.is_cut();
    if !is_chunked(headers) {
        out.extend_from_slice(&body.kept);
        return;
    }
    if !body.kept.is_empty() {
        // A chunk that says more than there is, when there is more: nobody takes a part for the whole then.
        out.extend_from_slice(format!("{:x}\r\n", body.bytes).as_bytes());
        out.extend_from_slice(&body.kept);
        if whole {
            out.extend_from_slice(b"\r\n");
        }
    }
    if whole {
        out.extend_from_slice(b"0\r\n");
        fields(trailers, out);
    }
}

/// True when the last transfer coding is chunked (RFC 9112 section 6.1).
fn is_chunked(headers: &Headers) -> bool {
    let last = headers.get_all("transfer-encoding").last();
    let coding = last.and_then(|value| value.rsplit(|byte| *byte == b',').next());
    coding.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}
