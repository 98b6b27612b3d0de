//! What an instance answered: one JSON object per answer and line, so that another rule can judge the same answers.
//!
//! Joined by the number in `traceparent` (W3C Trace Context), which the traffic sets, production has anyway, and a
//! replay carries along.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::wire::{Fields, RequestHead, field};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The request's number in its traffic.
    pub number: u64,
    /// Its method and target.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
    /// The body; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// Whether the planted regression changed it.
    pub changed: bool,
}

/// Where answers are written.
#[derive(Debug)]
pub(super) struct Log(Option<Mutex<File>>);

/// The answers in the order in which they were given. A last line that a kill cut short is left out.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_observed(path: &Path) -> anyhow::Result<Vec<Observed>> {
    let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut all = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(|| format!("failed to read {}", path.display()))?;
        match serde_json::from_slice(&line) {
            Ok(observed) => all.push(observed),
            Err(error) if error.is_eof() => {}
            Err(error) => return Err(error).with_context(|| format!("failed to parse {}", path.display())),
        }
    }
    Ok(all)
}

/// The number that the traffic gave to a request.
pub(super) fn number_of(head: &RequestHead) -> Option<u64> {
    let parent = field(&head.fields, "traceparent")?.split('-').nth(2)?;
    u64::from_str_radix(parent, 16).ok()?.checked_sub(1)
}

/// The value of `traceparent` that carries a number. No part may be all zeros.
pub(super) fn trace_parent(seed: u64, number: u64) -> String {
    let id = number.wrapping_add(1);
    format!("00-{:016x}{id:016x}-{id:016x}-01", seed | 1)
}

// === impl Log ===

impl Log {
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Some(Mutex::new(file.with_context(|| format!("failed to open {}", path.display()))?))))
    }

    pub(super) fn write(&self, observed: &Observed) -> anyhow::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut line = serde_json::to_vec(observed)?;
        line.push(b'\n');
        file.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&line)
            .context("failed to write the log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_header() {
        for number in [0, 1, 4_999, u64::MAX - 1] {
            let fields = vec![("Traceparent".to_owned(), trace_parent(9, number))];
            let head = RequestHead { method: "GET".into(), target: "/".into(), minor: 1, fields };
            assert_eq!(number_of(&head), Some(number));
        }
    }
}
