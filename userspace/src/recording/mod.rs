//! Recordings: exchanges in a file, to be read in the place of a capture; and what other programs have for the same.
//!
//! Makes nobody wait and reads no clock: it reads and writes what it is given. Redacts nothing.
//!
//! [`write`] and [`read`] are this project's own file, [`gor`] is GoReplay's, [`har`] the HTTP Archive (written only).
//! [`convert`] goes from one to another and says what was lost. The layout of a recording is in `docs/recordings.md`.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

pub mod convert;
pub mod file;
mod frame;
pub mod gor;
pub mod handed;
pub mod har;
mod message;
pub mod read;
pub mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::wire::WireError;

pub use read::{Ending, RecordingReader};
pub use write::{RecordingWriter, Written};

/// The version of the file that is written; as for the wire form, a greater major one is refused.
pub const VERSION: (u16, u16) = (1, 0);

/// Bounds of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingLimits {
    /// Bytes of the file. At the bound recording stops: what comes later is counted, not written.
    /// Default: 1 GiB.
    pub file_bytes_max: u64,
    /// Bounds of one exchange.
    pub wire: crate::wire::WireLimits,
}

/// Why a recording, or a file of another program, cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened.
    #[error("failed to open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a file of this name already.
    #[error("`{}` exists already; name another file, or remove it first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made.
    #[error("failed to make `{}`", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Bytes cannot be written.
    #[error("failed to write to `{name}`")]
    Write {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Bytes cannot be read.
    #[error("failed to read `{name}` at byte {offset}")]
    Read {
        /// The file.
        name: String,
        /// Bytes before the place.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The file does not begin like a recording.
    #[error("`{name}` is no recording of understudy{}", hint(*compressed, *empty))]
    NoRecording {
        /// The file.
        name: String,
        /// True when it is compressed with gzip or zstd.
        compressed: bool,
        /// True when there is not a single byte.
        empty: bool,
    },
    /// It was written by a later program.
    #[error(
        "recording `{name}` has version {major}.{minor}, and this program reads up to {}.*: use a newer understudy",
        VERSION.0
    )]
    NewerMajor {
        /// The file.
        name: String,
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// A record is not as it was written. What comes behind it cannot be found: a damaged length says nothing about
    /// where the next record begins.
    #[error("recording `{name}` is damaged: record {record}, at byte {offset}")]
    Damaged {
        /// The file.
        name: String,
        /// The record, from 1.
        record: u64,
        /// Bytes before it.
        offset: u64,
        /// What is wrong.
        source: Fault,
    },
}

/// What can be wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The checksum of its header is not right.
    #[error("the checksum of its header is not right")]
    HeaderChecksum,
    /// The checksum of its contents is not right.
    #[error("the checksum of its contents is not right")]
    Checksum,
    /// It says that it is longer than allowed.
    #[error("it has {bytes} bytes, and {limit} are allowed")]
    TooLong {
        /// What it says.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Its contents are no exchange.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Its contents are no summary.
    #[error("the summary at the end cannot be read: {0}")]
    Summary(Box<rmp_serde::decode::Error>),
    /// The summary counts other exchanges than there are.
    #[error("the summary counts {said} exchanges, and there are {read}")]
    Count {
        /// What it says.
        said: u64,
        /// What there are.
        read: u64,
    },
    /// Something follows behind the end.
    #[error("bytes follow behind the end")]
    AfterEnd,
}

/// Things that a conversion could not carry, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(BTreeMap<Loss, u64>);

/// One thing that a conversion could not carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A record of a `.gor` file without a line that says what it is.
    RecordMalformed,
    /// A record beyond the limit.
    RecordTooLong,
    /// A record that the end of the file cuts off.
    RecordCut,
    /// A record that holds no HTTP message.
    MessageUnreadable,
    /// Bytes behind the message of a record.
    MessageFollowed,
    /// A response whose request is not in the file, or too far away.
    ResponseAlone,
    /// A request that has the id of another one.
    RequestRepeated,
    /// The answer of another replay.
    ReplayedResponse,
    /// The time of a response's first byte is not known, and the last one's stands for it.
    FirstByteTime,
    /// An exchange whose bytes the format cannot hold.
    NotExpressible,
    /// An exchange beyond the limit of the wire form.
    ExchangeTooLarge,
    /// An exchange that did not fit within the bound of the file.
    NoRoom,
    /// A body of which not all bytes were kept, so that its length and hash are lost.
    BodyCut,
    /// Statuses of 1xx responses.
    Interim,
    /// Trailer fields.
    Trailers,
    /// Marks that the format cannot say.
    Marks,
    /// The addresses of client and server, and the connection.
    Addresses,
    /// A content coding that cannot be undone; the body is kept encoded.
    Coding,
}

/// The end of the message of [`RecordingError::NoRecording`].
fn hint(compressed: bool, empty: bool) -> &'static str {
    match (compressed, empty) {
        (true, _) => {
            " but compressed; read it through `zcat FILE | …` or `zstdcat FILE | …` with `-` as the file"
        }
        (false, true) => ": it is empty",
        (false, false) => {
            "; `understudy convert` makes one of a .gor file, and a capture file is read with --pcap"
        }
    }
}

// === impl RecordingLimits ===

impl Default for RecordingLimits {
    fn default() -> Self {
        Self { file_bytes_max: 1 << 30, wire: crate::wire::WireLimits::default() }
    }
}

// === impl Losses ===

impl Losses {
    /// Counts one more.
    pub fn count(&mut self, loss: Loss) {
        let count = self.0.entry(loss).or_default();
        *count = count.saturating_add(1);
    }

    /// What was lost and how often, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> {
        self.0.iter().map(|(loss, count)| (*loss, *count))
    }

    /// How often this was lost.
    pub fn of(&self, loss: Loss) -> u64 {
        self.0.get(&loss).copied().unwrap_or_default()
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Losses) {
        for (loss, count) in other.iter() {
            let sum = self.0.entry(loss).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

// === impl Loss ===

impl Loss {
    /// What was lost, to stand behind a count.
    pub fn text(self) -> &'static str {
        match self {
            Loss::RecordMalformed => "records without a line that says what they are; left out",
            Loss::RecordTooLong => "records beyond 32 MiB; left out",
            Loss::RecordCut => "records that the end of the file cuts off",
            Loss::MessageUnreadable => "records that hold no HTTP/1.x message; left out",
            Loss::MessageFollowed => "records with bytes behind their message; those are left out",
            Loss::ResponseAlone => "responses whose request is not there; left out",
            Loss::RequestRepeated => {
                "requests with the id of an earlier one, which stays without its response"
            }
            Loss::ReplayedResponse => "responses of another replay; left out",
            Loss::FirstByteTime => {
                "responses without the time of their first byte; that of the last one stands for it"
            }
            Loss::NotExpressible => "exchanges whose bytes the format cannot hold; left out",
            Loss::ExchangeTooLarge => "exchanges beyond 64 MiB; left out",
            Loss::NoRoom => "exchanges beyond the bound of the file; left out",
            Loss::BodyCut => "bodies of which not all bytes are there; their length and hash are lost",
            Loss::Interim => "exchanges with 1xx responses; those are left out",
            Loss::Trailers => "messages with trailer fields; those are left out",
            Loss::Marks => "exchanges with marks that the format cannot say",
            Loss::Addresses => "exchanges whose addresses and connection are lost",
            Loss::Coding => "bodies whose content coding cannot be undone; kept encoded, in base64",
        }
    }
}

#[cfg(test)]
mod tests;
