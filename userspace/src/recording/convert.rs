//! From one format to another, one exchange at a time.
//!
//! Loses nothing in silence: what a format cannot hold is counted.

use std::fmt;
use std::io::{BufRead, Write};
use std::path::Path;
use std::str::FromStr;

use super::gor::{GorLimits, GorReader, GorWriter};
use super::har::HarWriter;
use super::read::Ending;
use super::{Loss, Losses, RecordingError, RecordingLimits, RecordingReader, RecordingWriter, Written};
use crate::compare::CompareLimits;

/// A format of files with exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A recording of understudy.
    Recording,
    /// GoReplay's.
    Gor,
    /// HTTP Archive; is only written.
    Har,
}

/// What a conversion came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Exchanges that were read.
    pub read: u64,
    /// Exchanges that were written.
    pub written: u64,
    /// Of these, exchanges without a response.
    pub unanswered: u64,
    /// What was lost.
    pub losses: Losses,
    /// How a recording ended that was read.
    pub ending: Option<Ending>,
}

/// A file that is read.
enum Reader<R> {
    Recording(RecordingReader<R>),
    Gor(Box<GorReader<R>>),
}

/// A file that is written.
enum Writer<W> {
    Recording(RecordingWriter<W>),
    Gor(GorWriter<W>),
    Har(HarWriter<W>),
}

/// One end of a conversion.
#[derive(Debug)]
pub struct End<T> {
    /// The file, or what makes it.
    pub file: T,
    /// Its name, for errors.
    pub name: String,
    /// Its format.
    pub format: FileFormat,
}

/// Reads all of `from` and writes it to `to`, whose file is made once `from` has begun like one of its kind. A recording that is written has no bound but the disk.
///
/// # Errors
/// When `from` is damaged or cannot be read, or `to` cannot be written. Formats that are only written cannot be `from`;
/// see [`FileFormat::is_read`].
pub fn convert<R: BufRead, W: Write>(
    from: End<R>,
    to: End<impl FnOnce() -> Result<W, RecordingError>>,
) -> Result<Converted, RecordingError> {
    let limits = RecordingLimits { file_bytes_max: u64::MAX, ..RecordingLimits::default() };
    let source = from.name.clone();
    let target = to.name.clone();
    let unreadable = |offset, error| RecordingError::Read { name: source.clone(), offset, source: error };
    let unwritable = |error| RecordingError::Write { name: target.clone(), source: error };
    let mut reader = match from.format {
        FileFormat::Gor => Reader::Gor(Box::new(GorReader::begin(from.file, GorLimits::default()))),
        FileFormat::Recording | FileFormat::Har => {
            Reader::Recording(RecordingReader::begin(from.file, from.name, limits.wire)?)
        }
    };
    let out = (to.file)()?;
    let mut writer = match to.format {
        FileFormat::Recording => Writer::Recording(RecordingWriter::begin(out, to.name, limits)?),
        FileFormat::Gor => Writer::Gor(GorWriter::begin(out)),
        FileFormat::Har => Writer::Har(HarWriter::begin(out, CompareLimits::default()).map_err(unwritable)?),
    };
    let mut done = Converted::default();
    loop {
        let next = match &mut reader {
            Reader::Recording(reader) => reader.next_exchange()?,
            Reader::Gor(reader) => {
                reader.next_exchange().map_err(|error| unreadable(reader.bytes(), error))?
            }
        };
        let Some(exchange) = next else { break };
        done.read = done.read.saturating_add(1);
        let written = match &mut writer {
            Writer::Recording(writer) => match writer.write(&exchange)? {
                Written::Yes => true,
                Written::Full => {
                    done.losses.count(Loss::NoRoom);
                    false
                }
                Written::TooLarge => {
                    done.losses.count(Loss::ExchangeTooLarge);
                    false
                }
            },
            Writer::Gor(writer) => writer.write(&exchange).map_err(unwritable)?,
            Writer::Har(writer) => {
                writer.write(&exchange).map_err(unwritable)?;
                true
            }
        };
        done.written = done.written.saturating_add(u64::from(written));
        done.unanswered = done.unanswered.saturating_add(u64::from(written && exchange.response.is_none()));
    }
    match &reader {
        Reader::Recording(reader) => done.ending = reader.ending().cloned(),
        Reader::Gor(reader) => done.losses.merge(reader.losses()),
    }
    match writer {
        Writer::Recording(writer) => drop(writer.finish([])?),
        Writer::Gor(writer) => done.losses.merge(&writer.finish().map_err(unwritable)?),
        Writer::Har(writer) => done.losses.merge(&writer.finish().map_err(unwritable)?),
    }
    Ok(done)
}

// === impl FileFormat ===

impl FileFormat {
    /// All formats.
    pub const ALL: [FileFormat; 3] = [FileFormat::Recording, FileFormat::Gor, FileFormat::Har];

    /// The format that the ending of a name says.
    pub fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        Self::ALL.into_iter().find(|format| format.label().eq_ignore_ascii_case(ending))
    }

    /// Its name, which is also the ending of its files.
    pub fn label(self) -> &'static str {
        match self {
            FileFormat::Recording => "understudy",
            FileFormat::Gor => "gor",
            FileFormat::Har => "har",
        }
    }

    /// False for formats that are only written.
    pub fn is_read(self) -> bool {
        match self {
            FileFormat::Recording | FileFormat::Gor => true,
            FileFormat::Har => false,
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for FileFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|format| format.label() == text);
        known.ok_or_else(|| "must be `understudy`, `gor` or `har`".to_owned())
    }
}
