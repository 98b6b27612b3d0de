//! Reads a record of the probe, whose headers the kernel has taken apart.
//!
//! Selects nothing: the probe copies packets of wanted ports only.

use understudy_abi as abi;

use super::tcp::{ACK, flags};
use crate::model::{Checksum, Direction, Endpoint, Packet, Segment, Seq, Unused};

/// Takes numbers off the front of a slice.
struct Reader<'a>(&'a [u8]);

/// The segment in a record.
pub(super) fn segment<'a>(packet: &Packet<'a>) -> Result<Segment<'a>, Unused> {
    record(&mut Reader(packet.bytes), packet).ok_or(Unused::Malformed)
}

/// Reads the fields of [`abi::RecordHeader`] in their order.
fn record<'a>(reader: &mut Reader<'a>, packet: &Packet<'a>) -> Option<Segment<'a>> {
    let _boot_ns = reader.bytes::<8>()?;
    let scope = u64::from_ne_bytes(reader.bytes()?);
    let local_addr = reader.bytes::<16>()?;
    let remote_addr = reader.bytes::<16>()?;
    let sequence = u32::from_ne_bytes(reader.bytes()?);
    let acknowledgement = u32::from_ne_bytes(reader.bytes()?);
    let payload_bytes = u32::from_ne_bytes(reader.bytes()?);
    let _packet_payload_bytes = reader.bytes::<4>()?;
    let local_port = u16::from_ne_bytes(reader.bytes()?);
    let remote_port = u16::from_ne_bytes(reader.bytes()?);
    let _window = reader.bytes::<2>()?;
    let [tcp_flags, direction, part] = reader.bytes()?;
    let _reserved = reader.bytes::<7>()?;
    let payload = reader.0.get(..payload_bytes as usize)?;

    let local = Endpoint { addr: local_addr, port: local_port };
    let remote = Endpoint { addr: remote_addr, port: remote_port };
    let (source, destination, direction) = match direction {
        abi::INGRESS => (remote, local, Direction::ToServer),
        abi::EGRESS => (local, remote, Direction::ToClient),
        _ => return None,
    };
    Some(Segment {
        captured_at: packet.captured_at,
        source,
        destination,
        scope,
        network: 0,
        direction: Some(direction),
        seq: Seq(sequence),
        ack: (tcp_flags & ACK != 0).then_some(Seq(acknowledgement)),
        flags: flags(tcp_flags),
        // No record says by how much its side shifts it.
        window: 0,
        window_scale: None,
        payload,
        wire_payload_bytes: payload_bytes,
        // A packet on its way out has none yet, and one on its way in was found right before it came here.
        checksum: Checksum::Unjudged,
        ends_packet: part & abi::RECORD_LAST != 0,
    })
}

// === impl Reader ===

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}
