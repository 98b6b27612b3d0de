//! What a packet takes of the probe's ring.
//!
//! Opens no ring.

use understudy_abi::{PAYLOAD_CLASSES, RecordHeader};

/// Bytes before each record, and the multiple that records are rounded up to (`BPF_RINGBUF_HDR_SZ`,
/// `kernel/bpf/ringbuf.c`).
const ENTRY_BYTES: usize = 8;

/// Bytes of the ring that a record takes whose header and payload have `record_bytes`.
pub fn ring_bytes(record_bytes: usize) -> u64 {
    let payload = record_bytes.saturating_sub(size_of::<RecordHeader>());
    let class = PAYLOAD_CLASSES.into_iter().find(|class| *class >= payload).unwrap_or(payload);
    let record = size_of::<RecordHeader>().saturating_add(class).saturating_add(ENTRY_BYTES);
    record.next_multiple_of(ENTRY_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_takes_the_room_of_its_class() {
        let header = size_of::<RecordHeader>();
        let empty = ring_bytes(header);
        assert_eq!(empty, (header + 8).next_multiple_of(8) as u64);
        assert_eq!(ring_bytes(header + 1), empty + PAYLOAD_CLASSES[1] as u64);
        assert_eq!(ring_bytes(header + PAYLOAD_CLASSES[1]), ring_bytes(header + 1));
        assert_eq!(ring_bytes(header + PAYLOAD_CLASSES[1] + 1), empty + PAYLOAD_CLASSES[2] as u64);
        assert_eq!(ring_bytes(0), empty);
    }
}
