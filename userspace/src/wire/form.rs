//! The fields of the wire form, and the way between them and the model.
//!
//! Names here are what other programs rely on: a change of one is a change of the version (`docs/wire.md`).

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bounded::Bounded;
use super::{FIELDS_MAX, INTERIM_MAX, MARKS_MAX, VERSION, WireError};
use crate::model::{
    Body, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Headers, Mark, Marks, Request, Response, Times,
    Timestamp, Version,
};

/// The version alone; everything else is passed over.
#[derive(Deserialize)]
pub(super) struct WireVersion {
    pub(super) version: (u16, u16),
}

/// One exchange.
#[derive(Serialize, Deserialize)]
pub(super) struct WireExchange<'a> {
    version: (u16, u16),
    id: String,
    client: String,
    server: String,
    #[serde(default)]
    scope: u64,
    opened_ns: u64,
    #[serde(borrow)]
    request: WireRequest<'a>,
    response: Option<WireResponse<'a>>,
    #[serde(default)]
    interim: Bounded<u16, INTERIM_MAX>,
    times: WireTimes,
    #[serde(default)]
    marks: Bounded<&'a str, MARKS_MAX>,
}

type Fields<'a> = Bounded<(&'a serde_bytes::Bytes, &'a serde_bytes::Bytes), FIELDS_MAX>;

#[derive(Serialize, Deserialize)]
struct WireRequest<'a> {
    #[serde(borrow)]
    method: &'a serde_bytes::Bytes,
    target: &'a serde_bytes::Bytes,
    version: &'a str,
    headers: Fields<'a>,
    #[serde(default)]
    trailers: Fields<'a>,
    body: WireBody<'a>,
}

#[derive(Serialize, Deserialize)]
struct WireResponse<'a> {
    status: u16,
    #[serde(borrow)]
    version: &'a str,
    headers: Fields<'a>,
    #[serde(default)]
    trailers: Fields<'a>,
    body: WireBody<'a>,
}

#[derive(Serialize, Deserialize)]
struct WireBody<'a> {
    bytes: u64,
    #[serde(borrow)]
    kept: &'a serde_bytes::Bytes,
    #[serde(default)]
    sha256: Option<&'a serde_bytes::Bytes>,
    complete: bool,
}

#[derive(Serialize, Deserialize)]
struct WireTimes {
    request_first_ns: u64,
    request_last_ns: u64,
    #[serde(default)]
    response_first_ns: Option<u64>,
    #[serde(default)]
    response_last_ns: Option<u64>,
}

fn value(field: &'static str, problem: &'static str) -> WireError {
    WireError::Value { field, problem }
}

const TOO_MANY: &str = "has more elements than can be read again";

fn wire_fields<'a>(headers: &'a Headers, field: &'static str) -> Result<Fields<'a>, WireError> {
    let fields =
        headers.iter().map(|(name, value)| (serde_bytes::Bytes::new(name), serde_bytes::Bytes::new(value)));
    Bounded::collect(fields).ok_or_else(|| value(field, TOO_MANY))
}

fn model_headers(fields: Fields<'_>) -> Headers {
    Headers::from_pairs(fields.into_inner().into_iter().map(|(name, value)| (&**name, &**value)))
}

fn model_version(text: &str, field: &'static str) -> Result<Version, WireError> {
    [Version::Http10, Version::Http11]
        .into_iter()
        .find(|version| version.as_str() == text)
        .ok_or_else(|| value(field, "is neither `HTTP/1.0` nor `HTTP/1.1`"))
}

fn model_end(text: &str, field: &'static str) -> Result<Endpoint, WireError> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => Err(value(field, "is no `address:port`, with IPv6 in brackets")),
    }
}

// === impl WireExchange ===

impl<'a> WireExchange<'a> {
    /// The form of an exchange. It borrows from it.
    pub(super) fn from_model(exchange: &'a Exchange) -> Result<Self, WireError> {
        let Exchange { id, flow, request, response, interim, times, marks } = exchange;
        let Flow { key: FlowKey { client, server, scope }, opened } = flow;
        Ok(Self {
            version: (VERSION.major, VERSION.minor),
            id: id.to_string(),
            client: client.to_string(),
            server: server.to_string(),
            scope: *scope,
            opened_ns: opened.0,
            request: WireRequest::from_model(request)?,
            response: response.as_ref().map(WireResponse::from_model).transpose()?,
            interim: Bounded::collect(interim.iter().copied()).ok_or_else(|| value("interim", TOO_MANY))?,
            times: WireTimes::from_model(times),
            marks: Bounded::collect(marks.iter().map(Mark::label)).ok_or_else(|| value("marks", TOO_MANY))?,
        })
    }

    /// True when this program knows what the fields of this version mean.
    pub(super) fn is_known(&self) -> bool {
        self.version.0 <= VERSION.major
    }

    /// The exchange. What can be checked is.
    pub(super) fn into_model(self) -> Result<Exchange, WireError> {
        let Self {
            version: _,
            id,
            client,
            server,
            scope,
            opened_ns,
            request,
            response,
            interim,
            times,
            marks,
        } = self;
        let key =
            FlowKey { client: model_end(&client, "client")?, server: model_end(&server, "server")?, scope };
        Ok(Exchange {
            id: ExchangeId::from_hex(&id).ok_or_else(|| value("id", "is not 32 hexadecimal digits"))?,
            flow: Flow { key, opened: Timestamp(opened_ns) },
            request: request.into_model()?,
            response: response.map(WireResponse::into_model).transpose()?,
            interim: interim.into_inner(),
            times: times.into_model()?,
            marks: model_marks(&marks.into_inner()),
        })
    }
}

/// A mark of a later minor version reads as [`Mark::Ambiguous`]: whatever it says, such an exchange is not replayed.
fn model_marks(labels: &[&str]) -> Marks {
    let known = |label: &&str| Mark::ALL.into_iter().find(|mark| mark.label() == *label);
    labels.iter().map(|label| known(label).unwrap_or(Mark::Ambiguous)).collect()
}

// === impl WireRequest ===

impl<'a> WireRequest<'a> {
    fn from_model(request: &'a Request) -> Result<Self, WireError> {
        let Request { method, target, version, headers, trailers, body } = request;
        Ok(Self {
            method: serde_bytes::Bytes::new(method),
            target: serde_bytes::Bytes::new(target),
            version: version.as_str(),
            headers: wire_fields(headers, "request.headers")?,
            trailers: wire_fields(trailers, "request.trailers")?,
            body: WireBody::from_model(body),
        })
    }

    fn into_model(self) -> Result<Request, WireError> {
        let Self { method, target, version, headers, trailers, body } = self;
        Ok(Request {
            method: Bytes::copy_from_slice(method),
            target: Bytes::copy_from_slice(target),
            version: model_version(version, "request.version")?,
            headers: model_headers(headers),
            trailers: model_headers(trailers),
            body: body.into_model("request.body")?,
        })
    }
}

// === impl WireResponse ===

impl<'a> WireResponse<'a> {
    fn from_model(response: &'a Response) -> Result<Self, WireError> {
        let Response { status, version, headers, trailers, body } = response;
        Ok(Self {
            status: *status,
            version: version.as_str(),
            headers: wire_fields(headers, "response.headers")?,
            trailers: wire_fields(trailers, "response.trailers")?,
            body: WireBody::from_model(body),
        })
    }

    fn into_model(self) -> Result<Response, WireError> {
        let Self { status, version, headers, trailers, body } = self;
        if status > 999 {
            return Err(value("response.status", "has more than three digits"));
        }
        Ok(Response {
            status,
            version: model_version(version, "response.version")?,
            headers: model_headers(headers),
            trailers: model_headers(trailers),
            body: body.into_model("response.body")?,
        })
    }
}

// === impl WireBody ===

impl<'a> WireBody<'a> {
    fn from_model(body: &'a Body) -> Self {
        let Body { kept, bytes, digest, complete } = body;
        Self {
            bytes: *bytes,
            kept: serde_bytes::Bytes::new(kept),
            sha256: digest.as_ref().map(|digest| serde_bytes::Bytes::new(digest)),
            complete: *complete,
        }
    }

    fn into_model(self, field: &'static str) -> Result<Body, WireError> {
        let Self { bytes, kept, sha256, complete } = self;
        if kept.len() as u64 > bytes {
            return Err(value(field, "keeps more bytes than it has"));
        }
        let whole = kept.len() as u64 == bytes;
        let digest = match sha256.map(|digest| <[u8; 32]>::try_from(&**digest)) {
            None => None,
            Some(Err(_)) => return Err(value(field, "has a SHA-256 that is not 32 bytes long")),
            Some(Ok(digest)) if whole && digest != <[u8; 32]>::from(Sha256::digest(kept)) => {
                return Err(value(field, "does not have the SHA-256 that is said"));
            }
            // What is all there needs no digest.
            Some(Ok(_)) if whole => None,
            Some(Ok(digest)) => Some(digest),
        };
        Ok(Body { kept: Bytes::copy_from_slice(kept), bytes, digest, complete })
    }
}

// === impl WireTimes ===

impl WireTimes {
    fn from_model(times: &Times) -> Self {
        let Times { request_first, request_last, response } = times;
        Self {
            request_first_ns: request_first.0,
            request_last_ns: request_last.0,
            response_first_ns: response.map(|(first, _)| first.0),
            response_last_ns: response.map(|(_, last)| last.0),
        }
    }

    fn into_model(self) -> Result<Times, WireError> {
        let Self { request_first_ns, request_last_ns, response_first_ns, response_last_ns } = self;
        let response = match (response_first_ns, response_last_ns) {
            (Some(first), Some(last)) => Some((Timestamp(first), Timestamp(last))),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(value("times", "says only one of `response_first_ns` and `response_last_ns`"));
            }
        };
        Ok(Times {
            request_first: Timestamp(request_first_ns),
            request_last: Timestamp(request_last_ns),
            response,
        })
    }
}
