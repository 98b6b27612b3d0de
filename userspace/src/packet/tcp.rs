//! The TCP header (RFC 9293 section 3.1).
//!
//! Judges nothing: what the numbers, the flags and the checksum mean for the connection is `stream`'s.

use super::ip::Datagram;
use super::{WantedPorts, checksum};
use crate::model::{Direction, Endpoint, Segment, Seq, TcpFlags, Timestamp, Unused};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

const HEADER_BYTES_MIN: usize = 20;

/// The segment that a datagram holds, when one of its ports is a wanted one.
#[inline]
pub(super) fn segment<'a>(
    captured_at: Timestamp,
    datagram: &Datagram<'a>,
    wanted: &WantedPorts,
) -> Result<Segment<'a>, Unused> {
    let Datagram { version: _, source, destination, protocol: _, rest } = *datagram;
    let (header, _) = rest.bytes().split_first_chunk::<HEADER_BYTES_MIN>().ok_or(Unused::Malformed)?;
    let [sp0, sp1, dp0, dp1, s0, s1, s2, s3, a0, a1, a2, a3, offset, tcp_flags, w0, w1, c0, c1, ..] = *header;
    let header_bytes = usize::from(offset >> 4).saturating_mul(4);
    if header_bytes < HEADER_BYTES_MIN {
        return Err(Unused::Malformed);
    }
    let payload = rest.bytes().get(header_bytes..).ok_or(Unused::Malformed)?;
    let wire_payload = rest.wire().checked_sub(header_bytes).ok_or(Unused::Malformed)?;

    let source = Endpoint { addr: source, port: u16::from_be_bytes([sp0, sp1]) };
    let destination = Endpoint { addr: destination, port: u16::from_be_bytes([dp0, dp1]) };
    let direction = match (wanted.contains(destination.port), wanted.contains(source.port)) {
        (true, false) => Some(Direction::ToServer),
        (false, true) => Some(Direction::ToClient),
        // Both ports are wanted, or any: the stream itself has to tell which end is the server.
        (true, true) => None,
        (false, false) => return Err(Unused::OtherPort),
    };
    Ok(Segment {
        captured_at,
        source,
        destination,
        scope: 0,
        network: rest.network(),
        direction,
        seq: Seq(u32::from_be_bytes([s0, s1, s2, s3])),
        ack: (tcp_flags & ACK != 0).then_some(Seq(u32::from_be_bytes([a0, a1, a2, a3]))),
        flags: flags(tcp_flags),
        window: u16::from_be_bytes([w0, w1]),
        window_scale: if tcp_flags & SYN == 0 {
            None
        } else {
            window_scale(options(rest.bytes(), header_bytes))
        },
        payload,
        wire_payload_bytes: u32::try_from(wire_payload).unwrap_or(u32::MAX),
        checksum: checksum::verify(datagram, [c0, c1]),
        ends_packet: true,
    })
}

fn options(bytes: &[u8], header_bytes: usize) -> &[u8] {
    bytes.get(HEADER_BYTES_MIN..header_bytes).unwrap_or_default()
}

/// The shift count among these options (RFC 9293 section 3.1, RFC 7323 section 2.2). More than 14 counts as 14.
#[cold]
fn window_scale(mut options: &[u8]) -> Option<u8> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const WINDOW_SCALE: u8 = 3;
    loop {
        match options {
            [WINDOW_SCALE, 3, shift, ..] => return Some((*shift).min(14)),
            [NOTHING, rest @ ..] => options = rest,
            [END, ..] | [] | [_] => return None,
            // The length counts itself and the kind.
            [_, length, ..] => options = options.get(usize::from(*length).max(2)..)?,
        }
    }
}

/// The flags that matter here.
pub(super) fn flags(byte: u8) -> TcpFlags {
    TcpFlags { syn: byte & SYN != 0, fin: byte & FIN != 0, rst: byte & RST != 0 }
}
