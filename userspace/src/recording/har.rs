//! Writes an HTTP Archive (HAR 1.2, softwareishard.com/blog/har-12-spec), which browsers and many tools read.
//!
//! Reads none. Holds one exchange at a time in memory. What the format has no place for stands in a `comment`.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::message::{reason, text};
use super::{Loss, Losses};
use crate::compare::{CompareLimits, plain_body};
use crate::model::{Body, Exchange, Headers, Mark, Request, Response, Times, Timestamp};

/// Writes exchanges as entries of one archive.
#[derive(Debug)]
pub struct HarWriter<W> {
    out: W,
    entries: u64,
    limits: CompareLimits,
    losses: Losses,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    started_date_time: String,
    time: f64,
    request: HarRequest,
    response: HarResponse,
    cache: Empty,
    timings: Timings,
    #[serde(rename = "serverIPAddress")]
    server_ip_address: String,
    /// The client's end, which tells one connection from another.
    connection: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    /// Names that begin with an underscore are a program's own.
    #[serde(rename = "_exchange")]
    exchange: String,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HarRequest {
    method: String,
    url: String,
    http_version: &'static str,
    cookies: Vec<Pair>,
    headers: Vec<Pair>,
    query_string: Vec<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_data: Option<PostData>,
    headers_size: i64,
    body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HarResponse {
    status: u16,
    status_text: &'static str,
    http_version: &'static str,
    cookies: Vec<Pair>,
    headers: Vec<Pair>,
    content: Content,
    #[serde(rename = "redirectURL")]
    redirect_url: String,
    headers_size: i64,
    body_size: i64,
}

#[derive(Serialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostData {
    mime_type: String,
    params: Vec<Pair>,
    text: String,
    /// The format has no encoding here, so that the name is our own.
    #[serde(rename = "_encoding", skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<i64>,
    mime_type: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
}

/// Milliseconds; -1 where it does not apply or is not known.
#[derive(Serialize)]
struct Timings {
    blocked: f64,
    dns: f64,
    connect: f64,
    send: f64,
    wait: f64,
    receive: f64,
    ssl: f64,
}

/// What stands for "not known".
const UNKNOWN: i64 = -1;

// === impl HarWriter ===

impl<W: Write> HarWriter<W> {
    /// Begins an archive. `limits` bound how far bodies are decoded.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(mut out: W, limits: CompareLimits) -> io::Result<Self> {
        let version = env!("CARGO_PKG_VERSION");
        write!(
            out,
            r#"{{"log":{{"version":"1.2","creator":{{"name":"understudy","version":"{version}"}},"entries":["#
        )?;
        Ok(Self { out, entries: 0, limits, losses: Losses::default() })
    }

    /// Writes one exchange as an entry.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, exchange: &Exchange) -> io::Result<()> {
        let Exchange { id, flow, request, response, interim, times, marks } = exchange;
        let mut notes: Vec<String> = Vec::new();
        if !marks.is_empty() {
            let marks: Vec<&str> = marks.iter().map(Mark::label).collect();
            notes.push(format!("marks: {}", marks.join(", ")));
        }
        if !interim.is_empty() {
            let interim: Vec<String> = interim.iter().map(u16::to_string).collect();
            notes.push(format!("interim responses: {}", interim.join(", ")));
        }
        let timings = Timings::of(times);
        let entry = Entry {
            started_date_time: rfc3339(times.request_first),
            time: timings.send + timings.wait + timings.receive,
            request: self.request(request, exchange),
            response: match response {
                Some(response) => self.response(response),
                None => HarResponse::absent(),
            },
            cache: Empty {},
            timings,
            server_ip_address: flow.key.server.ip().to_string(),
            connection: flow.key.client.to_string(),
            comment: notes.join("; "),
            exchange: id.to_string(),
        };
        self.out.write_all(if self.entries == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut self.out, &entry)?;
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// Ends the archive, and says what it could not hold.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<Losses> {
        self.out.write_all(b"\n]}}\n")?;
        self.out.flush()?;
        Ok(self.losses)
    }

    fn request(&mut self, request: &Request, exchange: &Exchange) -> HarRequest {
        let Request { method, target: _, version, headers, trailers, body } = request;
        self.count_trailers(trailers);
        let has_body = body.bytes > 0 || headers.get("content-type").is_some();
        HarRequest {
            method: text(method),
            url: url(exchange),
            http_version: version.as_str(),
            cookies: headers.get_all("cookie").flat_map(cookies).collect(),
            headers: pairs(headers),
            query_string: query(request.path_and_query()),
            post_data: has_body.then(|| {
                let shown = self.shown(headers, body);
                PostData {
                    mime_type: mime_type(headers),
                    params: Vec::new(),
                    text: shown.text,
                    encoding: shown.encoding,
                    comment: shown.comment,
                }
            }),
            headers_size: UNKNOWN,
            body_size: i64::try_from(body.bytes).unwrap_or(UNKNOWN),
        }
    }

    fn response(&mut self, response: &Response) -> HarResponse {
        let Response { status, version, headers, trailers, body } = response;
        self.count_trailers(trailers);
        let shown = self.shown(headers, body);
        // Only the first pair is the cookie; what follows are its attributes.
        let set = |value| cookies(value).take(1);
        HarResponse {
            status: *status,
            status_text: reason(*status),
            http_version: version.as_str(),
            cookies: headers.get_all("set-cookie").flat_map(set).collect(),
            headers: pairs(headers),
            content: Content {
                size: shown.bytes,
                compression: shown.compression,
                mime_type: mime_type(headers),
                text: shown.text,
                encoding: shown.encoding,
                comment: shown.comment,
            },
            redirect_url: headers.get("location").map(text).unwrap_or_default(),
            headers_size: UNKNOWN,
            body_size: i64::try_from(body.bytes).unwrap_or(UNKNOWN),
        }
    }

    fn count_trailers(&mut self, trailers: &Headers) {
        if !trailers.is_empty() {
            self.losses.count(Loss::Trailers);
        }
    }

    /// A body as text where it is text, in base64 where it is not, and what is to be said about it.
    fn shown(&mut self, headers: &Headers, body: &Body) -> Shown {
        let mut notes = Vec::new();
        if body.is_cut() {
            notes.push(format!("only the first {} of {} bytes were kept", body.kept.len(), body.bytes));
        }
        if !body.complete {
            notes.push("the body was not seen to its end".to_owned());
        }
        let plain = plain_body(headers, body, &self.limits);
        if plain.is_none() {
            self.losses.count(Loss::Coding);
            notes.push("its content coding is not undone".to_owned());
        }
        let decoded = plain.is_some();
        let bytes = plain.unwrap_or(std::borrow::Cow::Borrowed(&body.kept));
        let size = if body.is_cut() { body.bytes } else { bytes.len() as u64 };
        let saved = i64::try_from(size).ok().zip(i64::try_from(body.bytes).ok());
        let saved = saved.map(|(size, sent)| size.saturating_sub(sent)).filter(|saved| *saved != 0);
        let (text, encoding) = match std::str::from_utf8(&bytes).ok().filter(|_| decoded) {
            Some(text) => (text.to_owned(), None),
            None => (STANDARD.encode(&bytes), Some("base64")),
        };
        Shown { bytes: size, compression: saved, text, encoding, comment: notes.join("; ") }
    }
}

/// A body, ready for either place.
struct Shown {
    bytes: u64,
    compression: Option<i64>,
    text: String,
    encoding: Option<&'static str>,
    comment: String,
}

// === impl HarResponse ===

impl HarResponse {
    /// What tools write when there was none: the format has no other way to say so.
    fn absent() -> Self {
        Self {
            status: 0,
            status_text: "",
            http_version: "",
            cookies: Vec::new(),
            headers: Vec::new(),
            content: Content {
                size: 0,
                compression: None,
                mime_type: String::new(),
                text: String::new(),
                encoding: None,
                comment: "no response was seen".to_owned(),
            },
            redirect_url: String::new(),
            headers_size: UNKNOWN,
            body_size: UNKNOWN,
        }
    }
}

// === impl Timings ===

impl Timings {
    fn of(times: &Times) -> Self {
        let millis = |first: Timestamp, last: Timestamp| last.since(first).as_secs_f64() * 1000.0;
        let Times { request_first, request_last, response } = *times;
        let (wait, receive) = match response {
            Some((first, last)) => (millis(request_last, first), millis(first, last)),
            None => (0.0, 0.0),
        };
        let send = millis(request_first, request_last);
        Self { blocked: -1.0, dns: -1.0, connect: -1.0, send, wait, receive, ssl: -1.0 }
    }
}

fn rfc3339(time: Timestamp) -> String {
    humantime::format_rfc3339_nanos(time.to_system_time()).to_string()
}

fn pairs(headers: &Headers) -> Vec<Pair> {
    headers.iter().map(|(name, value)| Pair { name: text(name), value: text(value) }).collect()
}

fn mime_type(headers: &Headers) -> String {
    headers.get("content-type").map(text).unwrap_or_default()
}

/// `a=1; b=2`
fn cookies(value: &[u8]) -> impl Iterator<Item = Pair> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()).map(split)
}

/// The query of a target, name by name, as it was sent.
fn query(target: &[u8]) -> Vec<Pair> {
    let query = target.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
    query.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).map(split).collect()
}

fn split(part: &[u8]) -> Pair {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let mut next = || halves.next().map(text).unwrap_or_default();
    Pair { name: next(), value: next() }
}

/// The absolute form of a target (RFC 9112 section 3.3), with the server's address where no host is named.
fn url(exchange: &Exchange) -> String {
    let request = &exchange.request;
    if request.authority().is_some() {
        return text(&request.target);
    }
    if request.method == "CONNECT" {
        return format!("http://{}", text(&request.target));
    }
    let host = request.headers.get("host").map(text).filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| exchange.flow.key.server.to_string());
    let target = text(&request.target);
    // `OPTIONS *` is about the server as a whole (RFC 9112 section 3.2.4).
    let target = if target == "*" { String::new() } else { target };
    format!("http://{host}{target}")
}

#[cfg(test)]
mod tests;
