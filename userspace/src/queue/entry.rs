//! An exchange as the value of one queue entry: its wire form, compressed where that helps.
//!
//! Knows no queue. Never trusts a value: what decompresses to more than allowed is refused before it takes that room.
//!
//! A value that others wrote is read like our own. The names of the fields that hold it are in `docs/wire.md`.
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

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, zstd_sys::ZSTD_ErrorCode};

use crate::model::Exchange;
use crate::wire::{self, Version, WireError, WireLimits};

/// One exchange, ready for a queue. Clones share the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEntry {
    /// The route that it was selected under.
    pub route: Arc<str>,
    /// How `value` is to be read.
    pub encoding: Encoding,
    /// The exchange, whole.
    pub value: Bytes,
}

/// How a value holds an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// The wire form.
    Plain,
    /// The wire form in one Zstandard frame (RFC 8878).
    Zstd,
}

/// Bounds of an entry, and when it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLimits {
    /// Bounds of the wire form, before compression and after decompression. Reading an entry takes its wire form in
    /// memory beside the exchange.
    pub wire: WireLimits,
    /// Wire forms of fewer bytes are left as they are. Default: 1,024.
    pub compress_bytes_min: usize,
    /// Level of Zstandard, -7 to 19; higher ones take more of a capture host's time. Default: -1, which makes a third of
    /// an exchange with 4 KiB of JSON in 12 µs; 1 makes a quarter of it in 14 µs, 3 the same in 22 µs. Of what does not
    /// shrink -1 lets go in 7 µs, 1 in 22 µs.
    pub compress_level: i32,
}

/// Why an exchange is no entry, or an entry no exchange.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The wire form takes more bytes than allowed.
    #[error(transparent)]
    TooLarge(WireError),
    /// A later program wrote it; one of that version can read it.
    #[error(transparent)]
    NewerMajor(WireError),
    /// The value is no exchange, or the exchange cannot be written.
    #[error(transparent)]
    Wire(WireError),
    /// The value does not decompress.
    #[error("failed to decompress an entry of {bytes} bytes: {problem}")]
    Decompress {
        /// Bytes of the value.
        bytes: usize,
        /// In the words of the library.
        problem: &'static str,
    },
    /// The exchange does not compress.
    #[error("failed to compress an exchange of {bytes} bytes: {problem}")]
    Compress {
        /// Bytes of the wire form.
        bytes: usize,
        /// In the words of the library.
        problem: &'static str,
    },
}

/// Makes entries; one for each thread that does. Keeps its room from one exchange to the next.
pub struct EntryEncoder {
    limits: EntryLimits,
    wire: Vec<u8>,
    packed: Vec<u8>,
    zstd: CCtx<'static>,
}

/// Reads entries; one for each thread that does. Keeps its room from one entry to the next.
pub struct EntryDecoder {
    limits: EntryLimits,
    wire: Vec<u8>,
    zstd: DCtx<'static>,
}

/// Compression is worth a worker's time when it saves this part of the wire form: the names in it always shrink a little.
const WORTH_IT: usize = 16;

/// Room in bytes that is kept from one entry to the next; large exchanges are few.
const ROOM_KEPT: usize = 1 << 20;

/// Room in bytes that decompression begins with when the frame does not say how much it needs.
const ROOM_GUESSED: usize = 64 << 10;

/// The library's code for a destination without room: it returns errors as negative numbers.
const NO_ROOM: usize = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();

/// Forgets the contents, and the room where it is large.
fn clear(room: &mut Vec<u8>) {
    room.clear();
    room.shrink_to(ROOM_KEPT);
}

// === impl Encoding ===

impl Encoding {
    /// All encodings.
    pub const ALL: [Encoding; 2] = [Encoding::Plain, Encoding::Zstd];

    /// The name of the field of an entry that holds such a value; stable.
    pub fn field(self) -> &'static str {
        match self {
            Encoding::Plain => "exchange",
            Encoding::Zstd => "exchange.zst",
        }
    }

    /// The encoding as a number, for a spool; stable.
    pub fn number(self) -> u8 {
        match self {
            Encoding::Plain => 0,
            Encoding::Zstd => 1,
        }
    }

    /// The encoding with this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.number() == number)
    }

    /// The encoding of the value that a field of this name holds.
    pub fn of_field(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.field().as_bytes() == name)
    }
}

// === impl EntryLimits ===

impl Default for EntryLimits {
    fn default() -> Self {
        Self { wire: WireLimits::default(), compress_bytes_min: 1024, compress_level: -1 }
    }
}

// === impl EntryError ===

impl EntryError {
    /// The version of an entry that this program is too old for.
    pub fn newer_major(&self) -> Option<Version> {
        match self {
            EntryError::NewerMajor(WireError::NewerMajor { version }) => Some(*version),
            EntryError::NewerMajor(_)
            | EntryError::TooLarge(_)
            | EntryError::Wire(_)
            | EntryError::Decompress { bytes: _, problem: _ }
            | EntryError::Compress { bytes: _, problem: _ } => None,
        }
    }
}

impl From<WireError> for EntryError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLarge { bytes: _, limit: _ } => EntryError::TooLarge(error),
            WireError::NewerMajor { version: _ } => EntryError::NewerMajor(error),
            WireError::Encode { problem: _ }
            | WireError::Decode { problem: _ }
            | WireError::Trailing
            | WireError::Value { field: _, problem: _ } => EntryError::Wire(error),
        }
    }
}

// === impl EntryEncoder ===

impl EntryEncoder {
    /// An encoder. A level that the library does not have is the nearest that it has.
    ///
    /// # Errors
    /// [`EntryError::Compress`], when the library has no memory for it.
    pub fn new(limits: EntryLimits) -> Result<Self, EntryError> {
        let failed = |problem| EntryError::Compress { bytes: 0, problem };
        let mut zstd = CCtx::try_create().ok_or(failed("out of memory"))?;
        zstd.set_parameter(CParameter::CompressionLevel(limits.compress_level))
            .map_err(|code| failed(zstd_safe::get_error_name(code)))?;
        Ok(Self { limits, wire: Vec::new(), packed: Vec::new(), zstd })
    }

    /// The entry of an exchange. Afterwards the encoder is as new, whatever came of it.
    ///
    /// # Errors
    /// [`EntryError::TooLarge`] beyond the bound of the wire form; another when it has more elements than can be read
    /// again.
    pub fn encode(&mut self, exchange: &Exchange, route: &Arc<str>) -> Result<EncodedEntry, EntryError> {
        let value = self.value(exchange);
        clear(&mut self.wire);
        clear(&mut self.packed);
        let (encoding, value) = value?;
        Ok(EncodedEntry { route: Arc::clone(route), encoding, value })
    }

    fn value(&mut self, exchange: &Exchange) -> Result<(Encoding, Bytes), EntryError> {
        let Self { limits, wire, packed, zstd } = self;
        wire::encode(exchange, &limits.wire, wire)?;
        if wire.len() >= limits.compress_bytes_min {
            packed.reserve(zstd_safe::compress_bound(wire.len()));
            zstd.compress2(packed, wire).map_err(|code| EntryError::Compress {
                bytes: wire.len(),
                problem: zstd_safe::get_error_name(code),
            })?;
            if packed.len() < wire.len().saturating_sub(wire.len() / WORTH_IT) {
                return Ok((Encoding::Zstd, Bytes::copy_from_slice(packed)));
            }
        }
        Ok((Encoding::Plain, Bytes::copy_from_slice(wire)))
    }
}

impl fmt::Debug for EntryEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, wire: _, packed: _, zstd: _ } = self;
        f.debug_struct("EntryEncoder").field("limits", limits).finish_non_exhaustive()
    }
}

// === impl EntryDecoder ===

impl EntryDecoder {
    /// A decoder.
    ///
    /// # Errors
    /// [`EntryError::Decompress`], when the library has no memory for it.
    pub fn new(limits: EntryLimits) -> Result<Self, EntryError> {
        let zstd = DCtx::try_create().ok_or(EntryError::Decompress { bytes: 0, problem: "out of memory" })?;
        Ok(Self { limits, wire: Vec::new(), zstd })
    }

    /// The exchange of a value. Any bytes may be given; the decoder is as new afterwards.
    ///
    /// # Errors
    /// Says what is wrong with it; [`EntryError::newer_major`] tells those that a later program can read.
    pub fn decode(&mut self, encoding: Encoding, value: &[u8]) -> Result<Exchange, EntryError> {
        match encoding {
            Encoding::Plain => Ok(wire::decode(value, &self.limits.wire)?),
            Encoding::Zstd => {
                let exchange = self
                    .unpack(value)
                    .and_then(|()| wire::decode(&self.wire, &self.limits.wire).map_err(EntryError::from));
                clear(&mut self.wire);
                exchange
            }
        }
    }

    /// Decompresses into `wire`, in room that is never more than an exchange may take.
    fn unpack(&mut self, value: &[u8]) -> Result<(), EntryError> {
        let Self { limits, wire, zstd } = self;
        let limit = limits.wire.exchange_bytes_max;
        // What the frame says is a wish: it is neither believed beyond the limit nor relied upon.
        let said = zstd_safe::get_frame_content_size(value).ok().flatten();
        let said = said.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if let Some(bytes) = said.filter(|bytes| *bytes > limit) {
            return Err(EntryError::TooLarge(WireError::TooLarge { bytes, limit }));
        }
        let mut room = said.unwrap_or(ROOM_GUESSED).min(limit);
        loop {
            wire.clear();
            wire.reserve_exact(room);
            match zstd.decompress(wire, value) {
                Ok(_) => return Ok(()),
                Err(NO_ROOM) if wire.capacity() < limit => {
                    room = wire.capacity().saturating_mul(4).max(ROOM_GUESSED).min(limit);
                }
                Err(NO_ROOM) => {
                    let bytes = limit.saturating_add(1);
                    return Err(EntryError::TooLarge(WireError::TooLarge { bytes, limit }));
                }
                Err(code) => {
                    let problem = zstd_safe::get_error_name(code);
                    return Err(EntryError::Decompress { bytes: value.len(), problem });
                }
            }
        }
    }
}

impl fmt::Debug for EntryDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, wire: _, zstd: _ } = self;
        f.debug_struct("EntryDecoder").field("limits", limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
