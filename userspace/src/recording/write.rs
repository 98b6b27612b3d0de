//! Writes a recording.
//!
//! Waits for the disk; whoever must not wait hands exchanges over first. Never writes behind its bound.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{self, Output};
use super::frame::{FileHeader, HEADER_BYTES, KIND_END, KIND_EXCHANGE, RecordHeader};
use super::{RecordingError, RecordingLimits, VERSION};
use crate::model::Exchange;
use crate::wire;

/// Writes exchanges one behind the other. Without [`RecordingWriter::finish`] the recording has no end, and readers
/// say so.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    name: String,
    limits: RecordingLimits,
    bytes: u64,
    exchanges: u64,
    full: bool,
    record: Vec<u8>,
}

/// What became of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is in the recording.
    Yes,
    /// It is not: the file is at its bound. Nothing more is written from then on, so that a recording has no holes
    /// but at its end.
    Full,
    /// It is not: it cannot be written in the wire form within its limits.
    TooLarge,
}

/// What stands at the end of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Exchanges in the recording.
    pub exchanges: u64,
    /// Exchanges that were captured and are not in the recording, by reason.
    #[serde(default)]
    pub missing: BTreeMap<String, u64>,
}

/// Room that is left for the summary.
const END_BYTES_MAX: u64 = 1024;

// === impl RecordingWriter ===

impl RecordingWriter<Output> {
    /// Makes a recording of this name; `-` is standard output.
    ///
    /// # Errors
    /// As for [`RecordingWriter::begin`], and when the file exists or cannot be made.
    pub fn make(path: &Path, limits: RecordingLimits) -> Result<Self, RecordingError> {
        Self::begin(file::make(path)?, path.display().to_string(), limits)
    }
}

impl<W: Write> RecordingWriter<W> {
    /// Begins a recording; `name` is for errors.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn begin(out: W, name: String, limits: RecordingLimits) -> Result<Self, RecordingError> {
        let (bytes, exchanges, full, record) = (0, 0, false, Vec::new());
        let mut writer = Self { out, name, limits, bytes, exchanges, full, record };
        let (major, minor) = VERSION;
        writer.put(&FileHeader { major, minor }.to_bytes(), &[])?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes one exchange.
    ///
    /// # Errors
    /// When the file cannot be written; the recording is then cut behind what was written before.
    pub fn write(&mut self, exchange: &Exchange) -> Result<Written, RecordingError> {
        if self.full {
            return Ok(Written::Full);
        }
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        let written = self.write_record(exchange, &mut record);
        self.record = record;
        written
    }

    fn write_record(&mut self, exchange: &Exchange, record: &mut Vec<u8>) -> Result<Written, RecordingError> {
        // Every error of the wire form means that a reader would refuse what it says.
        if wire::encode(exchange, &self.limits.wire, record).is_err() {
            return Ok(Written::TooLarge);
        }
        let Some(header) = RecordHeader::of(KIND_EXCHANGE, record) else { return Ok(Written::TooLarge) };
        let needed = (record.len() as u64).saturating_add(HEADER_BYTES as u64).saturating_add(END_BYTES_MAX);
        if self.bytes.saturating_add(needed) > self.limits.file_bytes_max {
            self.full = true;
            return Ok(Written::Full);
        }
        self.put(&header.to_bytes(), record)?;
        self.exchanges = self.exchanges.saturating_add(1);
        Ok(Written::Yes)
    }

    /// Hands what was written to the operating system, so that the end of this process costs none of it.
    ///
    /// # Errors
    /// As for [`RecordingWriter::write`].
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        self.out.flush().map_err(|source| self.failed(source))
    }

    /// Ends the recording, and says in it how many exchanges are missing by reason.
    ///
    /// # Errors
    /// As for [`RecordingWriter::write`].
    pub fn finish(
        mut self,
        missing: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Result<Summary, RecordingError> {
        let missing = missing.into_iter().filter(|(_, count)| *count > 0);
        let summary = Summary {
            exchanges: self.exchanges,
            missing: missing.map(|(reason, count)| (reason.to_owned(), count)).collect(),
        };
        let contents =
            rmp_serde::to_vec_named(&summary).map_err(|source| self.failed(io::Error::other(source)))?;
        if let Some(header) = RecordHeader::of(KIND_END, &contents) {
            self.put(&header.to_bytes(), &contents)?;
        }
        self.flush()?;
        Ok(summary)
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn put(&mut self, header: &[u8], contents: &[u8]) -> Result<(), RecordingError> {
        let done = self.out.write_all(header).and_then(|()| self.out.write_all(contents));
        done.map_err(|source| self.failed(source))?;
        let bytes = (header.len() as u64).saturating_add(contents.len() as u64);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> RecordingError {
        RecordingError::Write { name: self.name.clone(), source }
    }
}
