//! The layout of a frame: a sealed header, then a body.
//!
//! Knows no files. All numbers are little-endian. The header has its own checksum, so that its length can be relied upon
//! where the body is damaged: such a frame is lost alone.

use std::sync::Arc;

use bytes::Bytes;

/// One thing that waits. The spool looks at none of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who numbered it: a random number of one process.
    pub producer: u128,
    /// The experiment that it is for; 65,535 bytes at most.
    pub experiment: Arc<str>,
    /// Its shard.
    pub shard: u32,
    /// Its number among those of its producer, experiment and shard.
    pub seq: u64,
    /// The route that it was selected under; 65,535 bytes at most.
    pub route: Arc<str>,
    /// How `value` is to be read, in the words of whoever pushed it.
    pub kind: u8,
    /// What is to be handed over.
    pub value: Bytes,
}

/// Length of the body, CRC-32 of the body, number of the frame, CRC-32 of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) body_bytes: usize,
    checksum: u32,
    pub(super) number: u64,
}

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 20;

/// Bytes of the smallest body: all fields but the three of any length, and two of their lengths.
const BODY_BYTES_MIN: usize = 16 + 8 + 4 + 1 + 2 + 2;

/// Bytes of the smallest frame.
pub(super) const FRAME_BYTES_MIN: u64 = (HEADER_BYTES + BODY_BYTES_MIN) as u64;

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn take_text(bytes: &mut &[u8], length: u16) -> Option<Arc<str>> {
    let (text, rest) = bytes.split_at_checked(usize::from(length))?;
    *bytes = rest;
    str::from_utf8(text).ok().map(Arc::from)
}

// === impl Frame ===

impl Frame {
    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> usize {
        let Self { producer: _, experiment, shard: _, seq: _, route, kind: _, value } = self;
        HEADER_BYTES
            .saturating_add(BODY_BYTES_MIN)
            .saturating_add(experiment.len())
            .saturating_add(route.len())
            .saturating_add(value.len())
    }

    /// Writes the frame with this number into `out`, which is empty. `false` when a name or the whole is too long.
    pub(super) fn write(&self, number: u64, out: &mut Vec<u8>) -> bool {
        let Self { producer, experiment, shard, seq, route, kind, value } = self;
        let (Ok(experiment_bytes), Ok(route_bytes)) =
            (u16::try_from(experiment.len()), u16::try_from(route.len()))
        else {
            return false;
        };
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(&producer.to_le_bytes());
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(&shard.to_le_bytes());
        out.push(*kind);
        out.extend_from_slice(&experiment_bytes.to_le_bytes());
        out.extend_from_slice(&route_bytes.to_le_bytes());
        out.extend_from_slice(experiment.as_bytes());
        out.extend_from_slice(route.as_bytes());
        out.extend_from_slice(value);
        let Some((header, body)) = out.split_first_chunk_mut::<HEADER_BYTES>() else { return false };
        let Ok(body_bytes) = u32::try_from(body.len()) else { return false };
        *header = FrameHeader::to_bytes(body_bytes, crc32fast::hash(body), number);
        true
    }

    /// Reads a body. `None` when it is not what the header says, or no frame.
    pub(super) fn read(header: &FrameHeader, mut body: &[u8]) -> Option<Self> {
        if body.len() != header.body_bytes || crc32fast::hash(body) != header.checksum {
            return None;
        }
        let bytes = &mut body;
        let producer = u128::from_le_bytes(take(bytes)?);
        let seq = u64::from_le_bytes(take(bytes)?);
        let shard = u32::from_le_bytes(take(bytes)?);
        let [kind] = take(bytes)?;
        let experiment_bytes = u16::from_le_bytes(take(bytes)?);
        let route_bytes = u16::from_le_bytes(take(bytes)?);
        let experiment = take_text(bytes, experiment_bytes)?;
        let route = take_text(bytes, route_bytes)?;
        Some(Self { producer, experiment, shard, seq, route, kind, value: Bytes::copy_from_slice(bytes) })
    }
}

// === impl FrameHeader ===

impl FrameHeader {
    fn to_bytes(body_bytes: u32, checksum: u32, number: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let fields =
            body_bytes.to_le_bytes().into_iter().chain(checksum.to_le_bytes()).chain(number.to_le_bytes());
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        if let Some((fields, seal)) = header.split_last_chunk_mut::<4>() {
            *seal = crc32fast::hash(fields).to_le_bytes();
        }
        header
    }

    /// `None` when its checksum is not right.
    pub(super) fn read(mut header: &[u8]) -> Option<Self> {
        let (fields, seal) = header.split_last_chunk::<4>()?;
        if crc32fast::hash(fields) != u32::from_le_bytes(*seal) {
            return None;
        }
        let bytes = &mut header;
        Some(Self {
            body_bytes: usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?,
            checksum: u32::from_le_bytes(take(bytes)?),
            number: u64::from_le_bytes(take(bytes)?),
        })
    }
}
