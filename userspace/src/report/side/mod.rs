//! Both answers of one example beside each other.
//!
//! Compares nothing again: what differs for certain is what the comparison said; anything else that is not the same was
//! hidden by a rule, is noise, or means the same, and is marked as such.

mod align;
mod json;
mod text;

use serde::Serialize;

use super::causes::UnknownCause;
use super::facts::{CauseReport, ExampleReport, ExperimentReport, Report, ReportError};
use super::fleet::FleetAnswers;
use crate::compare::{CompareLimits, plain_body};
use crate::journal::{Answer, Answers, Example, Journal, JournalError, RunId, StoredDifference};
use crate::model::{Body, Headers};

/// Bounds of what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideLimits {
    /// Bytes of a body after content decoding. Default 1 MiB.
    pub decoded_bytes_max: usize,
    /// Lines of a body that are aligned. Default 4,000.
    pub lines_max: usize,
    /// Rows of a body that are shown. Default 400.
    pub rows_max: usize,
    /// Rows up to which what is equal is shown whole; beyond, three rows around what differs. Default 100.
    pub rows_whole_max: usize,
    /// Columns of the whole; wider lines are shown around the place where they begin to differ. Default 120.
    pub columns: usize,
}

/// One cause with both answers of its example.
#[derive(Clone, Debug, Serialize)]
pub struct SideBySide {
    /// [`Report::SCHEMA`] of the program that made it.
    pub schema: u32,
    /// The run's number.
    pub run: i64,
    /// The experiment.
    pub experiment: String,
    /// Place of the cause in the experiment's list, from 1.
    pub number: usize,
    /// `CauseReport::id`.
    pub id: String,
    /// The route.
    pub route: String,
    /// Paths and kinds.
    pub signature: String,
    /// Mismatches.
    pub count: u64,
    /// RFC 3339, UTC.
    pub first_seen: String,
    /// RFC 3339, UTC.
    pub last_seen: String,
    /// The example.
    pub example: ExampleReport,
    /// A's answer; null when it was not kept.
    pub control: Option<AnswerReport>,
    /// B's answer; null when it was not kept.
    pub candidate: Option<AnswerReport>,
}

/// What one branch answered.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerReport {
    /// The status.
    pub status: u16,
    /// Name and value of each header field; secrets redacted.
    pub headers: Vec<(String, String)>,
    /// Header fields that were too long to keep.
    pub headers_omitted: u64,
    /// Bytes of the whole body on the wire.
    pub body_bytes: u64,
    /// Bytes of it that were kept.
    pub body_bytes_kept: u64,
    /// What was kept, after content decoding; null where that is no text, or cannot be decoded.
    pub body: Option<String>,
}

/// A cause with the experiment and the place in whose list it stands.
struct Found<'r> {
    experiment: &'r ExperimentReport,
    number: usize,
    cause: &'r CauseReport,
}

// === impl SideLimits ===

impl Default for SideLimits {
    fn default() -> Self {
        Self {
            decoded_bytes_max: 1 << 20,
            lines_max: 4_000,
            rows_max: 400,
            rows_whole_max: 100,
            columns: 120,
        }
    }
}

// === impl SideBySide ===

impl SideBySide {
    /// The example of one cause of a report: by its number in the list of its experiment, or by its id. `experiment` is
    /// needed for a number where there are several.
    ///
    /// # Errors
    /// When there is no such cause, or the journal cannot be read.
    pub fn load(
        journal: &dyn Journal,
        report: &Report,
        experiment: Option<&str>,
        cause: &str,
        limits: &SideLimits,
    ) -> Result<Self, ReportError> {
        let answers =
            |experiment: &str, example: &Example| journal.answers(RunId(report.run.id), experiment, example);
        Self::with(report, experiment, cause, limits, answers)
    }

    /// The same of a fleet.
    ///
    /// # Errors
    /// When there is no such cause.
    pub fn of_fleet(
        answers: &FleetAnswers,
        report: &Report,
        experiment: Option<&str>,
        cause: &str,
        limits: &SideLimits,
    ) -> Result<Self, ReportError> {
        Self::with(report, experiment, cause, limits, |experiment, example| {
            Ok(answers.of(experiment, example))
        })
    }

    fn with(
        report: &Report,
        experiment: Option<&str>,
        cause: &str,
        limits: &SideLimits,
        answers: impl FnOnce(&str, &Example) -> Result<Answers, JournalError>,
    ) -> Result<Self, ReportError> {
        let Found { experiment, number, cause } = find(report, experiment, cause)?;
        let Some(example) = cause.examples.first().cloned() else {
            return Err(UnknownCause::NoExample { cause: cause.id.clone() }.into());
        };
        let Answers { control, candidate } = answers(&experiment.name, &example.kept)?;
        let answer = |answer: Option<Answer>| answer.map(|answer| AnswerReport::new(answer, limits));
        Ok(Self {
            schema: Report::SCHEMA,
            run: report.run.id,
            experiment: experiment.name.clone(),
            number,
            id: cause.id.clone(),
            route: cause.route.clone(),
            signature: cause.signature.clone(),
            count: cause.count,
            first_seen: cause.first_seen.clone(),
            last_seen: cause.last_seen.clone(),
            example,
            control: answer(control),
            candidate: answer(candidate),
        })
    }

    /// One JSON object over several lines.
    ///
    /// # Errors
    /// As for [`Report::to_json`].
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string_pretty(self).map_err(|source| ReportError::Json { source })
    }

    /// What differs in the example, as the comparison said.
    fn differences(&self) -> &[StoredDifference] {
        &self.example.differences
    }
}

fn find<'r>(report: &'r Report, experiment: Option<&str>, wanted: &str) -> Result<Found<'r>, UnknownCause> {
    if let Some(name) = experiment
        && !report.experiments.iter().any(|have| have.name == name)
    {
        return Err(UnknownCause::Experiment { experiment: name.to_owned() });
    }
    let experiments =
        || report.experiments.iter().filter(|have| experiment.is_none_or(|name| have.name == name));
    let by_id = experiments().find_map(|experiment| {
        let at = experiment.causes.iter().position(|cause| cause.id == wanted)?;
        Some(Found { experiment, number: at + 1, cause: experiment.causes.get(at)? })
    });
    if let Some(found) = by_id {
        return Ok(found);
    }
    let causes = experiments().map(|experiment| experiment.causes.len()).sum();
    let none = || UnknownCause::Cause { cause: wanted.to_owned(), causes };
    let number: usize = wanted.parse().map_err(|_not_a_number: std::num::ParseIntError| none())?;
    let mut all = experiments();
    match (all.next(), all.next()) {
        (Some(_), Some(_)) => Err(UnknownCause::Ambiguous { number }),
        (Some(experiment), None) => {
            let cause = number.checked_sub(1).and_then(|at| experiment.causes.get(at)).ok_or_else(none)?;
            Ok(Found { experiment, number, cause })
        }
        (None, _) => Err(none()),
    }
}

// === impl AnswerReport ===

impl AnswerReport {
    fn new(answer: Answer, limits: &SideLimits) -> Self {
        let Answer { status, headers, headers_omitted, body, body_bytes } = answer;
        let fields = Headers::from_pairs(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let body_bytes_kept = body.len() as u64;
        let body = Body { kept: body.into(), bytes: body_bytes, digest: None, complete: true };
        let limits =
            CompareLimits { decoded_bytes_max: limits.decoded_bytes_max, ..CompareLimits::default() };
        let text = plain_body(&fields, &body, &limits).and_then(|plain| {
            // What is cut may be cut within a character.
            let valid = plain.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            let is_text = plain.len() - valid.len() < if body.is_cut() { 4 } else { 1 };
            (is_text && !valid.contains('\0')).then(|| valid.to_owned())
        });
        Self { status, headers, headers_omitted, body_bytes, body_bytes_kept, body: text }
    }
}

#[cfg(test)]
mod tests;
