//! Undoes content codings (RFC 9110 section 8.4) behind one cap.
//!
//! The only place that may name a decompressor: nothing is decoded here to more than the limit.

use std::borrow::Cow;
use std::io::Read;

use super::CompareLimits;
use crate::model::Headers;

/// Memory that a brotli stream is read through.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// RFC 8878 section 3.1.1.1.2 recommends that decoders support windows of 8 MiB; more is refused.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// A body that cannot be decoded within the limits.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("content coding `{0}` is not known")]
    Unknown(String),
    #[error("{count} content codings are stacked, at most {limit} are undone")]
    TooMany { count: usize, limit: usize },
    #[error("body decodes to more than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("body is not well-formed `{coding}`")]
    Malformed { coding: &'static str, source: std::io::Error },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The content codings of a message in the order in which they were applied, without `identity`.
pub(super) fn codings(headers: &Headers) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all("content-encoding")
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// The body as it was before content coding.
pub(super) fn decode<'a>(
    headers: &Headers,
    body: &'a [u8],
    limits: &CompareLimits,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let names: Vec<&[u8]> = codings(headers).collect();
    if names.len() > limits.codings_max {
        return Err(DecodeError::TooMany { count: names.len(), limit: limits.codings_max });
    }
    let mut decoded = Cow::Borrowed(body);
    for name in names.into_iter().rev() {
        let coding = Coding::from_name(name)?;
        // Servers name a coding and send nothing, for instance with an empty 404.
        if !decoded.is_empty() {
            decoded = Cow::Owned(coding.undo(&decoded, limits.decoded_bytes_max)?);
        }
    }
    if decoded.len() > limits.decoded_bytes_max {
        return Err(DecodeError::TooLarge { limit: limits.decoded_bytes_max });
    }
    Ok(decoded)
}

// === impl Coding ===

impl Coding {
    fn from_name(name: &[u8]) -> Result<Self, DecodeError> {
        match name.to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Ok(Coding::Gzip),
            b"deflate" => Ok(Coding::Deflate),
            b"br" => Ok(Coding::Brotli),
            b"zstd" => Ok(Coding::Zstd),
            other => Err(DecodeError::Unknown(String::from_utf8_lossy(other).chars().take(32).collect())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    #[expect(clippy::disallowed_types, reason = "this is the one place; `capped` bounds each of them")]
    fn undo(self, encoded: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
        match self {
            Coding::Gzip => self.capped(flate2::read::MultiGzDecoder::new(encoded), limit),
            Coding::Deflate => {
                // RFC 9110 section 8.4.1.2 means zlib; some servers send the bare stream all the same.
                match self.capped(flate2::read::ZlibDecoder::new(encoded), limit) {
                    Err(DecodeError::Malformed { coding: _, source: _ }) => {
                        self.capped(flate2::read::DeflateDecoder::new(encoded), limit)
                    }
                    decided => decided,
                }
            }
            Coding::Brotli => {
                self.capped(brotli_decompressor::Decompressor::new(encoded, BROTLI_BUFFER_BYTES), limit)
            }
            Coding::Zstd => self.undo_zstd(encoded, limit),
        }
    }

    /// A zstd body is one frame or several (RFC 8878 section 3).
    fn undo_zstd(self, encoded: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
        let mut rest = encoded;
        let mut decoded = Vec::new();
        while !rest.is_empty() {
            let frame = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(
                &mut rest,
                ZSTD_WINDOW_BYTES_MAX,
            )
            .map_err(|source| DecodeError::Malformed {
                coding: self.name(),
                source: std::io::Error::other(source),
            })?;
            let left = limit.saturating_sub(decoded.len());
            decoded.append(&mut self.capped(frame, left)?);
        }
        Ok(decoded)
    }

    fn capped(self, reader: impl Read, limit: usize) -> Result<Vec<u8>, DecodeError> {
        let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let mut decoded = Vec::new();
        reader
            .take(cap)
            .read_to_end(&mut decoded)
            .map_err(|source| DecodeError::Malformed { coding: self.name(), source })?;
        if decoded.len() > limit { Err(DecodeError::TooLarge { limit }) } else { Ok(decoded) }
    }
}
