//! What the application received: one JSON object per request and line, flushed before the answer begins.
//!
//! Holds no bodies, only their lengths and hashes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::wire::Fields;

/// One received request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// The number of the connection, from 0 in the order of accepting.
    pub connection: u64,
    /// The client's address and port.
    pub client: String,
    /// The address and port that it reached.
    pub server: String,
    /// The method token.
    pub method: String,
    /// The target as it arrived.
    pub target: String,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: String,
    /// Header fields as they arrived.
    pub headers: Fields,
    /// Bytes of the body after transfer decoding.
    pub body_bytes: u64,
    /// Their SHA-256.
    pub body_sha256: String,
    /// The value of `Understudy-Replay`.
    pub replay: Option<String>,
}

/// Where the lines go.
pub(super) struct Log(Option<Mutex<File>>);

/// All lines of a log file.
///
/// # Errors
/// When the file cannot be read, or a line is not one of ours.
pub fn read_log(path: &Path) -> anyhow::Result<Vec<LogLine>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("failed to parse the log line {line}"))
        })
        .collect()
}

// === impl Log ===

impl Log {
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("failed to open the log {}", path.display()))?;
        Ok(Self(Some(Mutex::new(file))))
    }

    pub(super) fn write(&self, line: &LogLine) -> anyhow::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        // A poisoned lock means that another connection panicked; the file is still good.
        file.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&bytes)
            .context("failed to write the log")
    }
}
