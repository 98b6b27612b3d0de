//! Puts a body back under its content codings (RFC 9110 section 8.4) after it was changed.
//!
//! Compresses nothing: a body that was changed is stored in its coding, so that head and body still agree, and that costs
//! little time. Decodes nothing; `compare` does.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// Bytes of one stored block of brotli: what 16 bits can say (RFC 7932 section 9.2).
const BROTLI_BLOCK_BYTES: usize = 1 << 16;

/// The body in this coding; none where we cannot write it.
pub(super) fn stored(coding: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    match coding.to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()
        }
        b"deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::none());
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()
        }
        b"br" => Some(brotli(plain)),
        b"zstd" => Some(zstd(plain)),
        _ => None,
    }
}

/// Uncompressed meta-blocks (RFC 7932 section 9.2): a window of 16 bits in the first, an empty one at the end.
fn brotli(plain: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(plain.len().saturating_add(16));
    let mut first = true;
    for block in plain.chunks(BROTLI_BLOCK_BYTES) {
        // From the lowest bit: WBITS = 0 in the first block alone, ISLAST = 0, MNIBBLES = 00, MLEN - 1, ISUNCOMPRESSED = 1.
        let length = u32::try_from(block.len().saturating_sub(1)).unwrap_or_default();
        let header = (length << 3) | (1 << 19);
        let header = if std::mem::take(&mut first) { header << 1 } else { header };
        let [low, middle, high, _] = header.to_le_bytes();
        stored.extend_from_slice(&[low, middle, high]);
        stored.extend_from_slice(block);
    }
    // ISLAST = 1, ISLASTEMPTY = 1, behind WBITS where nothing came before.
    stored.push(if first { 0b110 } else { 0b11 });
    stored
}

/// One frame of raw blocks (RFC 8878 section 3.1.1).
fn zstd(plain: &[u8]) -> Vec<u8> {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    /// No checksum, no dictionary, eight bytes of length, and the window is that length.
    const DESCRIPTOR: u8 = 0b1110_0000;
    const BLOCK_BYTES: usize = 128 << 10;
    let mut stored = Vec::with_capacity(plain.len().saturating_add(32));
    stored.extend_from_slice(&MAGIC);
    stored.push(DESCRIPTOR);
    stored.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    let mut blocks = plain.chunks(BLOCK_BYTES).peekable();
    if blocks.peek().is_none() {
        stored.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        // Last_Block in the lowest bit, Block_Type 0 (raw) in the next two, Block_Size above.
        let last = u32::from(blocks.peek().is_none());
        let header = (u32::try_from(block.len()).unwrap_or_default() << 3) | last;
        let [low, middle, high, _] = header.to_le_bytes();
        stored.extend_from_slice(&[low, middle, high]);
        stored.extend_from_slice(block);
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{CompareLimits, plain_body};
    use crate::model::{Body, Headers};

    #[track_caller]
    fn check(plain: &[u8]) {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            let body = Body::whole(stored(coding.as_bytes(), plain).unwrap());
            let headers = Headers::from_pairs([("Content-Encoding", coding)]);
            let read = plain_body(&headers, &body, &CompareLimits::default());
            assert_eq!(read.as_deref(), Some(plain), "{coding}, {} bytes", plain.len());
        }
    }

    #[test]
    fn what_is_stored_is_read_again() {
        check(b"a");
        check(b"{\"a\":1}");
        check(&vec![7; BROTLI_BLOCK_BYTES]);
        check(&vec![7; BROTLI_BLOCK_BYTES + 1]);
        check(&(0..400_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
        assert_eq!(stored(b"compress", b"a"), None);
    }
}
