//! Reads a recording.
//!
//! Any bytes may be given: what is damaged is named, what is cut is read up to the cut.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::file::{self, Input};
use super::frame::{FileHeader, HEADER_BYTES, KIND_END, KIND_EXCHANGE, MAGIC, RecordHeader};
use super::write::Summary;
use super::{Fault, RecordingError, VERSION};
use crate::model::Exchange;
use crate::wire::{self, WireLimits};

/// Reads exchanges one after the other. Memory is bounded by the limit of one exchange.
#[derive(Debug)]
pub struct RecordingReader<R> {
    input: R,
    name: String,
    limits: WireLimits,
    offset: u64,
    records: u64,
    exchanges: u64,
    contents: Vec<u8>,
    ending: Option<Ending>,
    /// Reading was stopped before the end, perhaps within a record.
    stopped: bool,
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a summary, as its writer wanted.
    Whole(Summary),
    /// Without one: the writer did not finish, or the file was cut. All exchanges before were read.
    Cut {
        /// Bytes up to the end of the last whole record.
        offset: u64,
        /// Bytes behind that, of a record that is not all there.
        rest: u64,
    },
}

/// Bytes of a summary; that of this version has a few hundred.
const SUMMARY_BYTES_MAX: u64 = 64 << 10;

/// What a recording has next.
#[expect(clippy::large_enum_variant, reason = "one is alive at a time, and most are exchanges")]
enum Next {
    Exchange(Exchange),
    /// A kind of record that a later minor version has.
    Unknown,
    Ended(Ending),
}

// === impl RecordingReader ===

impl RecordingReader<Input> {
    /// Opens a recording; `-` is standard input.
    ///
    /// # Errors
    /// As for [`RecordingReader::begin`], and when the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::begin(file::open(path)?, path.display().to_string(), WireLimits::default())
    }

    /// No more is read, within a fraction of a second, when `stop` is set: a pipe may be silent for hours, also within a
    /// record.
    pub fn stop_when(&mut self, stop: Arc<AtomicBool>) {
        self.input.get_mut().stop_when(stop);
    }
}

impl<R: Read> RecordingReader<R> {
    /// Begins to read; `name` is for errors. `input` should be buffered.
    ///
    /// # Errors
    /// When it is no recording, or one of a later major version.
    pub fn begin(mut input: R, name: String, limits: WireLimits) -> Result<Self, RecordingError> {
        let mut header = [0; HEADER_BYTES];
        let got = match fill(&mut input, &mut header) {
            Ok(got) => got,
            Err(source) => return Err(RecordingError::Read { name, offset: 0, source }),
        };
        let begun = header.get(..got).unwrap_or_default();
        let looks = begun.get(..MAGIC.len()).unwrap_or(begun);
        let cut = got > 0 && got < HEADER_BYTES && MAGIC.starts_with(looks);
        let mut reader = Self {
            input,
            name,
            limits,
            offset: got as u64,
            records: 0,
            exchanges: 0,
            contents: Vec::new(),
            ending: None,
            stopped: false,
        };
        match FileHeader::from_bytes(&header) {
            Some(FileHeader { major, minor }) if major > VERSION.0 => {
                Err(RecordingError::NewerMajor { name: reader.name, major, minor })
            }
            Some(_) => Ok(reader),
            None if cut => {
                reader.ending = Some(Ending::Cut { offset: 0, rest: got as u64 });
                Ok(reader)
            }
            None => {
                // gzip (RFC 1952 section 2.3.1) and zstd (RFC 8878 section 3.1.1).
                let magics = [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd]];
                let compressed = magics.iter().any(|magic| begun.starts_with(magic));
                Err(RecordingError::NoRecording { name: reader.name, compressed, empty: got == 0 })
            }
        }
    }

    /// The next exchange; `None` at the end, about which [`RecordingReader::ending`] says more, and when reading was stopped.
    ///
    /// # Errors
    /// When a record is damaged, with its place. Nothing can be read behind it.
    pub fn next_exchange(&mut self) -> Result<Option<Exchange>, RecordingError> {
        while self.ending.is_none() && !self.stopped {
            let offset = self.offset;
            let next = match self.next_record() {
                Err(RecordingError::Read { name: _, offset: _, source }) if file::was_stopped(&source) => {
                    self.stopped = true;
                    break;
                }
                next => next?,
            };
            match next {
                Ok(Next::Exchange(exchange)) => {
                    self.records = self.records.saturating_add(1);
                    self.exchanges = self.exchanges.saturating_add(1);
                    return Ok(Some(exchange));
                }
                Ok(Next::Unknown) => self.records = self.records.saturating_add(1),
                Ok(Next::Ended(ending)) => self.ending = Some(ending),
                Err(source) => {
                    let (name, record) = (self.name.clone(), self.records.saturating_add(1));
                    return Err(RecordingError::Damaged { name, record, offset, source });
                }
            }
        }
        Ok(None)
    }

    /// How the recording ended; `None` before that, and when reading was stopped.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Exchanges read so far.
    pub fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Its name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn next_record(&mut self) -> Result<Result<Next, Fault>, RecordingError> {
        let start = self.offset;
        let mut header = [0; HEADER_BYTES];
        let got = fill(&mut self.input, &mut header).map_err(|source| self.failed(source))?;
        self.offset = self.offset.saturating_add(got as u64);
        let cut =
            |offset: u64| Next::Ended(Ending::Cut { offset: start, rest: offset.saturating_sub(start) });
        if got < HEADER_BYTES {
            return Ok(Ok(cut(self.offset)));
        }
        let Some(RecordHeader { bytes, kind, checksum }) = RecordHeader::from_bytes(&header) else {
            return Ok(Err(Fault::HeaderChecksum));
        };
        let limit = if kind == KIND_END { SUMMARY_BYTES_MAX } else { self.limits.exchange_bytes_max as u64 };
        let bytes = u64::from(bytes);
        if bytes > limit {
            return Ok(Err(Fault::TooLong { bytes, limit }));
        }
        self.contents.clear();
        // Grows as bytes come: a length alone costs no memory.
        let read = self.input.by_ref().take(bytes).read_to_end(&mut self.contents);
        let read = read.map_err(|source| self.failed(source))? as u64;
        self.offset = self.offset.saturating_add(read);
        if read < bytes {
            return Ok(Ok(cut(self.offset)));
        }
        if crc32fast::hash(&self.contents) != checksum {
            return Ok(Err(Fault::Checksum));
        }
        match kind {
            KIND_EXCHANGE => {
                Ok(wire::decode(&self.contents, &self.limits).map(Next::Exchange).map_err(Fault::Wire))
            }
            KIND_END => self.end(),
            _ => Ok(Ok(Next::Unknown)),
        }
    }

    fn end(&mut self) -> Result<Result<Next, Fault>, RecordingError> {
        let summary: Summary = match rmp_serde::from_slice(&self.contents) {
            Ok(summary) => summary,
            Err(error) => return Ok(Err(Fault::Summary(Box::new(error)))),
        };
        if summary.exchanges != self.exchanges {
            return Ok(Err(Fault::Count { said: summary.exchanges, read: self.exchanges }));
        }
        let behind = fill(&mut self.input, &mut [0; 1]).map_err(|source| self.failed(source))?;
        if behind > 0 {
            return Ok(Err(Fault::AfterEnd));
        }
        Ok(Ok(Next::Ended(Ending::Whole(summary))))
    }

    fn failed(&self, source: io::Error) -> RecordingError {
        RecordingError::Read { name: self.name.clone(), offset: self.offset, source }
    }
}

/// Reads until `buffer` is full or the input ends, and says how far it came.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0usize;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(bytes) => filled = filled.saturating_add(bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
