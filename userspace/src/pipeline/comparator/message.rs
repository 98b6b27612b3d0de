//! Questions and answers as lines of JSON.
//!
//! Sends no value of a field that carries secrets, unless it was told to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::ExternalConfig;
use crate::compare::{CompareLimits, ExternalDifference, plain_body};
use crate::metrics::ExternalFailure;
use crate::model::{Body, DifferenceKind, Exchange, Headers, Observation, REDACTED, Response, is_secret};

/// Version of the protocol.
const VERSION: u32 = 1;

/// What a question is about.
pub(super) struct About<'a> {
    pub(super) id: u64,
    pub(super) experiment: &'a str,
    pub(super) route: &'a str,
    pub(super) exchange: &'a Exchange,
    pub(super) candidate: &'a Observation,
}

#[derive(Serialize)]
struct Asked<'a> {
    v: u32,
    id: u64,
    experiment: &'a str,
    route: &'a str,
    exchange: String,
    request: RequestForm,
    control: ResponseForm,
    candidate: ResponseForm,
}

#[derive(Serialize)]
struct RequestForm {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: BodyForm,
}

#[derive(Serialize)]
struct ResponseForm {
    status: u16,
    headers: Vec<(String, String)>,
    body: BodyForm,
    /// Last request byte to last response byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_ms: Option<f64>,
}

/// A body without its content coding: `text` when it is UTF-8, else `base64`.
#[derive(Serialize)]
struct BodyForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Bytes that were sent, before decoding; more than are here when the body is cut.
    bytes: u64,
    cut: bool,
    /// True when its content coding could not be undone.
    encoded: bool,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    #[serde(default)]
    differences: Vec<AnsweredDifference>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct AnsweredDifference {
    path: String,
    #[serde(default)]
    kind: AnsweredKind,
    control: Option<serde_json::Value>,
    candidate: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnsweredKind {
    #[default]
    Value,
    Type,
    Missing,
    Added,
    Order,
}

// === impl About ===

impl About<'_> {
    /// The line; none when it would be longer than the bound.
    pub(super) fn line(&self, config: &ExternalConfig, limits: &CompareLimits) -> Option<Vec<u8>> {
        let Self { id, experiment, route, exchange, candidate } = self;
        let (Some(control), Observation::Answered { response, ttfb: _, served }) =
            (&exchange.response, candidate)
        else {
            return None;
        };
        // A coded body is looked at after it was decoded, up to the cap of all comparisons.
        let known = [&exchange.request.body, &control.body, &response.body];
        if known.iter().map(|body| body.kept.len()).sum::<usize>() > config.message_bytes_max {
            return None;
        }
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        let request = RequestForm {
            method: lossy(&exchange.request.method),
            target: lossy(&exchange.request.target),
            headers: headers(&exchange.request.headers, config.secrets),
            body: BodyForm::new(&exchange.request.headers, &exchange.request.body, limits),
        };
        let answer = |response: &Response, served: Option<std::time::Duration>| ResponseForm {
            status: response.status,
            headers: headers(&response.headers, config.secrets),
            body: BodyForm::new(&response.headers, &response.body, limits),
            served_ms: served.map(millis),
        };
        let asked = Asked {
            v: VERSION,
            id: *id,
            experiment,
            route,
            exchange: exchange.id.to_string(),
            request,
            control: answer(control, exchange.times.served()),
            candidate: answer(response, Some(*served)),
        };
        let mut line = serde_json::to_vec(&asked).ok()?;
        line.push(b'\n');
        (line.len() <= config.message_bytes_max).then_some(line)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn headers(headers: &Headers, secrets: bool) -> Vec<(String, String)> {
    let shown = |(name, value): (&[u8], &[u8])| {
        let name = lossy(name);
        let value = if !secrets && is_secret(&name) { REDACTED.to_owned() } else { lossy(value) };
        (name, value)
    };
    headers.iter().map(shown).collect()
}

// === impl BodyForm ===

impl BodyForm {
    fn new(headers: &Headers, body: &Body, limits: &CompareLimits) -> Self {
        let decoded = plain_body(headers, body, limits);
        let encoded = decoded.is_none();
        let bytes = decoded.as_deref().unwrap_or(&body.kept);
        let (text, base64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { text, base64, bytes: body.bytes, cut: body.is_cut(), encoded }
    }
}

/// The differences that an answer names.
///
/// # Errors
/// When it is no answer, or one to another question; or says itself that it failed.
pub(super) fn read_answer(
    line: &[u8],
    id: u64,
    differences_max: usize,
) -> Result<Vec<ExternalDifference>, ExternalFailure> {
    let Ok(answer) = serde_json::from_slice::<Answer>(line) else { return Err(ExternalFailure::Unreadable) };
    if answer.id != id || answer.differences.len() > differences_max {
        return Err(ExternalFailure::Unreadable);
    }
    if let Some(error) = answer.error {
        tracing::debug!(error, "The external comparator could not compare.");
        return Err(ExternalFailure::Refused);
    }
    Ok(answer.differences.into_iter().map(AnsweredDifference::finish).collect())
}

// === impl AnsweredDifference ===

impl AnsweredDifference {
    fn finish(self) -> ExternalDifference {
        let Self { path, kind, control, candidate } = self;
        let kind = match kind {
            AnsweredKind::Value => DifferenceKind::Value,
            AnsweredKind::Type => DifferenceKind::Type,
            AnsweredKind::Missing => DifferenceKind::Missing,
            AnsweredKind::Added => DifferenceKind::Added,
            AnsweredKind::Order => DifferenceKind::Order,
        };
        // In JSON, text and other values are told apart by their quotes.
        let in_json = path.starts_with("json:");
        let text = |value: serde_json::Value| match value.as_str() {
            Some(text) if !in_json => text.to_owned(),
            Some(_) | None => value.to_string(),
        };
        ExternalDifference { path, kind, control: control.map(text), candidate: candidate.map(text) }
    }
}
