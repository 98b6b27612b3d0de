//! Makes an example out of a mismatch: small, bounded, without secrets.
//!
//! Redacts by the name of the field only: a secret in a target or a body is kept as it is.

use super::{Example, JournalLimits, StoredDifference};
use crate::model::{Comparison, Difference, Headers, Observation, Outcome, REDACTED, is_secret};

/// Bytes of the request as it was sent, roughly; what makes one example smaller than another.
pub(super) fn request_bytes(comparison: &Comparison) -> u64 {
    let request = &comparison.exchange.request;
    let head = request.target.len() + request.headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
    request.body.bytes.saturating_add(head as u64)
}

/// The example of a mismatch; none for other outcomes.
pub(super) fn example(comparison: &Comparison, limits: &JournalLimits) -> Option<Example> {
    let (differences, omitted) = match &comparison.outcome {
        Outcome::Mismatch { differences, ignored: _, omitted } => (differences, *omitted),
        Outcome::Match | Outcome::Ignored(_) | Outcome::Incomparable(_) => return None,
    };
    let request = &comparison.exchange.request;
    let (headers, headers_omitted) = kept_headers(&request.headers, limits.example_head_bytes_max);
    let kept = request.body.kept.len().min(limits.example_body_bytes_max);
    let candidate_status = match &comparison.candidate {
        Observation::Answered { response, ttfb: _, served: _ } => response.status,
        Observation::Failed(_) => 0,
    };
    Some(Example {
        exchange: comparison.exchange.id.to_string(),
        method: String::from_utf8_lossy(&request.method).into_owned(),
        target: String::from_utf8_lossy(&request.target).into_owned(),
        headers,
        headers_omitted,
        body: request.body.kept.slice(..kept).to_vec(),
        body_bytes: request.body.bytes,
        control_status: comparison.exchange.response.as_ref().map_or(0, |response| response.status),
        candidate_status,
        differences: differences.iter().map(stored).collect(),
        differences_omitted: omitted.into(),
    })
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
        let value = if is_secret(&name) { REDACTED.into() } else { String::from_utf8_lossy(value) };
        kept.push((name, value.into_owned()));
    }
    (kept, omitted)
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
