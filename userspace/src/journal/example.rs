//! Makes an example out of a mismatch: small, bounded, without secrets.
//!
//! Redacts by the name of the field only: a secret in a target or a body is kept as it is.

use super::{Answer, Answers, Example, JournalLimits, StoredDifference};
use crate::model::{
    Body, Comparison, Difference, Exchange, Headers, Observation, Outcome, REDACTED, Response, is_secret,
};

/// Bytes of the request and of both answers, roughly; what makes one example smaller than another: it has to be sent
/// again, and to be read.
pub(super) fn example_bytes(comparison: &Comparison) -> u64 {
    let request = &comparison.exchange.request;
    let answers = [comparison.exchange.response.as_ref(), candidate(comparison)].into_iter().flatten();
    answers.fold(
        message_bytes(&request.headers, &request.body).saturating_add(request.target.len() as u64),
        |sum, answer| sum.saturating_add(message_bytes(&answer.headers, &answer.body)),
    )
}

fn message_bytes(headers: &Headers, body: &Body) -> u64 {
    let head = headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    body.bytes.saturating_add(head as u64)
}

fn candidate(comparison: &Comparison) -> Option<&Response> {
    match &comparison.candidate {
        Observation::Answered { response, ttfb: _, served: _ } => Some(response),
        Observation::Failed(_) => None,
    }
}

/// What both branches answered, within the limits.
pub(super) fn answers(comparison: &Comparison, limits: &JournalLimits) -> Answers {
    let kept = |response: &Response| {
        let (headers, headers_omitted) = kept_headers(&response.headers, limits.example_head_bytes_max);
        let body = &response.body;
        let bytes = body.kept.len().min(limits.example_answer_bytes_max);
        Answer {
            status: response.status,
            headers,
            headers_omitted,
            body: body.kept.slice(..bytes).to_vec(),
            body_bytes: body.bytes,
        }
    };
    Answers {
        control: comparison.exchange.response.as_ref().map(kept),
        candidate: candidate(comparison).map(kept),
    }
}

/// The example of a mismatch for this cause; none for other outcomes.
pub(super) fn example(comparison: &Comparison, cause: &str, limits: &JournalLimits) -> Option<Example> {
    let (differences, omitted) = match &comparison.outcome {
        Outcome::Mismatch { differences, ignored: _, omitted } => (differences, *omitted),
        Outcome::Match | Outcome::Ignored(_) | Outcome::Incomparable(_) => return None,
    };
    Some(Example {
        cause: cause.to_owned(),
        bytes: example_bytes(comparison),
        candidate_status: candidate(comparison).map_or(0, |response| response.status),
        differences: differences.iter().map(stored).collect(),
        differences_omitted: omitted.into(),
        ..Example::of_exchange(&comparison.exchange, limits)
    })
}

impl Example {
    /// The request of an exchange that was not compared, within the limits and without secrets: of no cause, and nothing
    /// differs.
    pub fn of_exchange(exchange: &Exchange, limits: &JournalLimits) -> Self {
        let request = &exchange.request;
        let (headers, headers_omitted) = kept_headers(&request.headers, limits.example_head_bytes_max);
        let kept = request.body.kept.len().min(limits.example_body_bytes_max);
        Self {
            cause: String::new(),
            bytes: 0,
            exchange: exchange.id.to_string(),
            method: String::from_utf8_lossy(&request.method).into_owned(),
            target: String::from_utf8_lossy(&request.target).into_owned(),
            headers,
            headers_omitted,
            body: request.body.kept.slice(..kept).to_vec(),
            body_bytes: request.body.bytes,
            control_status: exchange.response.as_ref().map_or(0, |response| response.status),
            candidate_status: 0,
            differences: Vec::new(),
            differences_omitted: 0,
        }
    }
}

fn kept_headers(headers: &Headers, bytes_max: usize) -> (Vec<(String, String)>, u64) {
    let mut kept = Vec::new();
    let (mut bytes, mut omitted) = (0_usize, 0);
    for (name, value) in headers.iter() {
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
        if bytes > bytes_max {
            omitted += 1;
            continue;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let value = String::from_utf8_lossy(value);
        let value = match name.as_str() {
            field if field.eq_ignore_ascii_case("set-cookie") => without_cookie(&value),
            field if is_secret(field) => REDACTED.to_owned(),
            _ => value.into_owned(),
        };
        kept.push((name, value));
    }
    (kept, omitted)
}

/// `Set-Cookie` without the cookie's value: its name and its attributes are no secrets (RFC 6265 section 4.1.1).
fn without_cookie(value: &str) -> String {
    let (pair, attributes) = value.split_once(';').map_or((value, None), |(pair, rest)| (pair, Some(rest)));
    let name = pair.split_once('=').map_or("", |(name, _)| name);
    let attributes = attributes.map(|rest| format!(";{rest}")).unwrap_or_default();
    format!("{name}={REDACTED}{attributes}")
}

fn stored(difference: &Difference) -> StoredDifference {
    let Difference { path, kind, place, control, candidate } = difference;
    let secret =
        path.strip_prefix("header:").is_some_and(|field| is_secret(field.split('[').next().unwrap_or(field)));
    let value = |value: &Option<String>| match value {
        Some(_) if secret => Some(REDACTED.to_owned()),
        kept => kept.clone(),
    };
    StoredDifference {
        path: path.clone(),
        kind: kind.label().to_owned(),
        place: place.clone(),
        control: value(control),
        candidate: value(candidate),
    }
}
