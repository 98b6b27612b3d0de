//! The wire form of an exchange: what leaves this process and can be read in another one, or years later.
//!
//! Reads no file and no socket, and does not judge HTTP: it says what the exchange says.
//!
//! One exchange is one MessagePack map with named fields, described in `docs/wire.md`. It stands for itself: nothing
//! outside of it is needed to read it. Its first field is the version. A reader passes over fields that it does not
//! know, so that a minor version can add some; it refuses a greater major version.
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

mod bounded;
mod form;

use std::io::ErrorKind;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::model::Exchange;

use form::{WireExchange, WireVersion};

/// The version that is written. A reader of this version reads every minor version of the same major one, and no
/// greater major one.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// Header or trailer fields of one message at most; `http` reads 256 of a head.
pub const FIELDS_MAX: usize = 1024;

/// Interim responses of one exchange at most; `http` keeps 64 unless it is told otherwise.
pub const INTERIM_MAX: usize = 1024;

/// Marks of one exchange at most.
pub const MARKS_MAX: usize = 64;

/// Nesting of fields that are passed over. Those that are known need 5.
const DEPTH_MAX: usize = 16;

/// Version of the wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Grows when an older reader would misunderstand.
    pub major: u16,
    /// Grows when fields are added that an older reader may pass over.
    pub minor: u16,
}

/// Bounds of the wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes that one exchange may take. Reading it takes at most some ten times that in memory, the worst case
    /// being very many empty header fields. Default: 64 MiB, twice what `http` keeps of all bodies together.
    pub exchange_bytes_max: usize,
}

/// Why an exchange cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It takes more bytes than allowed.
    #[error("an exchange of {bytes} bytes is beyond the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// It was written by a later program, in a form that this one would misunderstand.
    #[error(
        "the exchange has version {}.{} of the wire form, and this program reads up to {}.*: use a newer understudy",
        version.major, version.minor, VERSION.major
    )]
    NewerMajor {
        /// Its version.
        version: Version,
    },
    /// It cannot be written.
    #[error("failed to write an exchange as MessagePack: {problem}")]
    Encode {
        /// Why. Not a `source`: its message holds those of its own sources, and whoever prints the chain would repeat
        /// them.
        problem: Box<rmp_serde::encode::Error>,
    },
    /// It is not MessagePack, or a field is missing or has another type.
    #[error("the bytes are no exchange in the wire form: {problem}")]
    Decode {
        /// Why; as for [`WireError::Encode`].
        problem: Box<rmp_serde::decode::Error>,
    },
    /// Bytes follow behind the exchange.
    #[error("bytes follow behind the exchange")]
    Trailing,
    /// A field says something that cannot be.
    #[error("field `{field}` {problem}")]
    Value {
        /// The field with those that hold it, such as `response.body.kept`.
        field: &'static str,
        /// What cannot be.
        problem: &'static str,
    },
}

/// Writes one exchange behind what `out` holds. After an error `out` is as it was.
///
/// # Errors
/// When it is beyond a bound, so that nobody could read it again.
pub fn encode(exchange: &Exchange, limits: &WireLimits, out: &mut Vec<u8>) -> Result<(), WireError> {
    let before = out.len();
    let encoded = WireExchange::from_model(exchange).and_then(|form| {
        rmp_serde::encode::write_named(out, &form)
            .map_err(|problem| WireError::Encode { problem: Box::new(problem) })
    });
    let bytes = out.len().saturating_sub(before);
    let outcome = encoded.and_then(|()| within(bytes, limits));
    if outcome.is_err() {
        out.truncate(before);
    }
    outcome
}

/// Reads one exchange, which must be all of `bytes`. Any bytes may be given.
///
/// # Errors
/// Says what is wrong; a version that is too new before anything else.
pub fn decode(bytes: &[u8], limits: &WireLimits) -> Result<Exchange, WireError> {
    within(bytes.len(), limits)?;
    let (form, ended): (WireExchange<'_>, bool) = match read::<WireExchange<'_>>(bytes) {
        Ok((form, ended)) if form.is_known() => (form, ended),
        // Nothing but the version can be relied on in a later one, so that its error comes before any other. Looked for
        // only here: to pass over the other fields takes as long as to read them.
        outcome => {
            let WireVersion { version: (major, minor) } = read(bytes)?.0;
            if major > VERSION.major {
                return Err(WireError::NewerMajor { version: Version { major, minor } });
            }
            outcome?
        }
    };
    if !ended {
        return Err(WireError::Trailing);
    }
    form.into_model()
}

/// A value at the start of `bytes`, and whether it is all of them.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, bool), WireError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(DEPTH_MAX);
    let value =
        T::deserialize(&mut reader).map_err(|problem| WireError::Decode { problem: Box::new(problem) })?;
    // The reader does not say where it stands: only at the end is there no first byte of another value.
    let ended = match IgnoredAny::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(error)) => error.kind() == ErrorKind::UnexpectedEof,
        Err(_) | Ok(IgnoredAny) => false,
    };
    Ok((value, ended))
}

fn within(bytes: usize, limits: &WireLimits) -> Result<(), WireError> {
    let limit = limits.exchange_bytes_max;
    if bytes > limit { Err(WireError::TooLarge { bytes, limit }) } else { Ok(()) }
}

// === impl WireLimits ===

impl Default for WireLimits {
    fn default() -> Self {
        Self { exchange_bytes_max: 64 << 20 }
    }
}

#[cfg(test)]
pub(crate) mod tests;
