//! Finds the TCP segment in the bytes of a packet: probe records, Ethernet, IPv4, IPv6 with extension headers.
//!
//! Keeps no state and copies nothing; checksums are not looked at, because offloading leaves them unset.
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

use understudy_abi as abi;

use crate::model::{Direction, Endpoint, LinkType, Packet, Segment, Seq, TcpFlags, Unused};

/// The ports whose traffic is wanted, as the server's side of a connection.
#[derive(Clone, Debug)]
pub struct WantedPorts {
    words: Box<[u64; 1024]>,
}

/// Takes numbers off the front of a slice.
struct Reader<'a>(&'a [u8]);

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const PROTOCOL_TCP: u8 = 6;

/// IPv6 extension headers that a packet may carry before we call it malformed. Longer chains are legal and not
/// seen outside attacks (RFC 8504 section 5.3 lets a node limit them).
const EXTENSION_HEADERS_MAX: usize = 8;

/// The segment in `packet`.
///
/// # Errors
/// Why the packet holds no segment that we want.
pub fn parse<'a>(packet: &Packet<'a>, wanted: &WantedPorts) -> Result<Segment<'a>, Unused> {
    match packet.link {
        LinkType::Probe => probe_record(packet),
        LinkType::RawIp => ip(packet, packet.bytes, wanted),
        LinkType::Ethernet => ethernet(packet, wanted),
    }
}

fn probe_record<'a>(packet: &Packet<'a>) -> Result<Segment<'a>, Unused> {
    let mut reader = Reader(packet.bytes);
    record(&mut reader, packet).ok_or(Unused::Malformed)
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
        direction: Some(direction),
        seq: Seq(sequence),
        ack: (tcp_flags & ACK != 0).then_some(Seq(acknowledgement)),
        flags: flags(tcp_flags),
        payload,
        wire_payload_bytes: payload_bytes,
        ends_packet: part & abi::RECORD_LAST != 0,
    })
}

fn ethernet<'a>(packet: &Packet<'a>, wanted: &WantedPorts) -> Result<Segment<'a>, Unused> {
    let mut reader = Reader(packet.bytes);
    let header = reader.bytes::<12>().and_then(|_| reader.be16());
    match header.ok_or(Unused::Malformed)? {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => ip(packet, reader.0, wanted),
        _ => Err(Unused::NotTcp),
    }
}

fn ip<'a>(packet: &Packet<'a>, bytes: &'a [u8], wanted: &WantedPorts) -> Result<Segment<'a>, Unused> {
    match bytes.first().ok_or(Unused::Malformed)? >> 4 {
        4 => ipv4(packet, bytes, wanted),
        6 => ipv6(packet, bytes, wanted),
        _ => Err(Unused::Malformed),
    }
}

/// RFC 791 section 3.1.
fn ipv4<'a>(packet: &Packet<'a>, bytes: &'a [u8], wanted: &WantedPorts) -> Result<Segment<'a>, Unused> {
    let mut reader = Reader(bytes);
    let [version_length, _, total_high, total_low, _, _, fragment_high, fragment_low, _, protocol, _, _] =
        reader.bytes().ok_or(Unused::Malformed)?;
    let source = mapped(reader.bytes().ok_or(Unused::Malformed)?);
    let destination = mapped(reader.bytes().ok_or(Unused::Malformed)?);
    if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
        return Err(Unused::Fragment);
    }
    if protocol != PROTOCOL_TCP {
        return Err(Unused::NotTcp);
    }
    let header_bytes = usize::from(version_length & 0x0f).saturating_mul(4);
    let options = header_bytes.checked_sub(20).ok_or(Unused::Malformed)?;
    reader.skip(options).ok_or(Unused::Malformed)?;
    let total = match usize::from(u16::from_be_bytes([total_high, total_low])) {
        // A length of zero is what TCP segmentation offload writes for more than 64 KiB.
        0 => bytes.len(),
        total => total,
    };
    let wire_payload = total.checked_sub(header_bytes).ok_or(Unused::Malformed)?;
    tcp(packet, reader.0, wire_payload, source, destination, wanted)
}

/// RFC 8200 sections 3 and 4.
fn ipv6<'a>(packet: &Packet<'a>, bytes: &'a [u8], wanted: &WantedPorts) -> Result<Segment<'a>, Unused> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;

    let mut reader = Reader(bytes);
    let [_, _, _, _, length_high, length_low, mut next, _] = reader.bytes().ok_or(Unused::Malformed)?;
    let source = reader.bytes::<16>().ok_or(Unused::Malformed)?;
    let destination = reader.bytes::<16>().ok_or(Unused::Malformed)?;
    let mut wire_left = match usize::from(u16::from_be_bytes([length_high, length_low])) {
        // Zero is a jumbogram (RFC 2675), which is also how more than 64 KiB look under BIG TCP.
        0 => reader.0.len(),
        length => length,
    };
    for _ in 0..EXTENSION_HEADERS_MAX {
        let extension_bytes = match next {
            PROTOCOL_TCP => return tcp(packet, reader.0, wire_left, source, destination, wanted),
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [_, length] = reader.peek().ok_or(Unused::Malformed)?;
                usize::from(length).saturating_add(1).saturating_mul(8)
            }
            AUTHENTICATION => {
                let [_, length] = reader.peek().ok_or(Unused::Malformed)?;
                usize::from(length).saturating_add(2).saturating_mul(4)
            }
            FRAGMENT => {
                let [_, _, offset_high, offset_low] = reader.peek().ok_or(Unused::Malformed)?;
                // Offset and the more-fragments bit; both zero is an atomic fragment (RFC 6946).
                if u16::from_be_bytes([offset_high, offset_low]) & 0xfff9 != 0 {
                    return Err(Unused::Fragment);
                }
                8
            }
            _ => return Err(Unused::NotTcp),
        };
        let [following, _] = reader.peek().ok_or(Unused::Malformed)?;
        next = following;
        reader.skip(extension_bytes).ok_or(Unused::Malformed)?;
        wire_left = wire_left.checked_sub(extension_bytes).ok_or(Unused::Malformed)?;
    }
    Err(Unused::Malformed)
}

/// RFC 9293 section 3.1. `wire_bytes` is what the IP header says lies behind it.
fn tcp<'a>(
    packet: &Packet<'a>,
    bytes: &'a [u8],
    wire_bytes: usize,
    source: [u8; 16],
    destination: [u8; 16],
    wanted: &WantedPorts,
) -> Result<Segment<'a>, Unused> {
    // What lies behind the IP packet is link padding, not payload.
    let bytes = bytes.get(..wire_bytes).unwrap_or(bytes);
    let mut reader = Reader(bytes);
    let ports = reader.be16().zip(reader.be16()).ok_or(Unused::Malformed)?;
    let seq = reader.be32().ok_or(Unused::Malformed)?;
    let acknowledgement = reader.be32().ok_or(Unused::Malformed)?;
    let [offset, tcp_flags, ..] = reader.bytes::<8>().ok_or(Unused::Malformed)?;
    let header_bytes = usize::from(offset >> 4).saturating_mul(4);
    let payload = bytes.get(header_bytes..).filter(|_| header_bytes >= 20).ok_or(Unused::Malformed)?;
    let wire_payload = wire_bytes.checked_sub(header_bytes).ok_or(Unused::Malformed)?;

    let source = Endpoint { addr: source, port: ports.0 };
    let destination = Endpoint { addr: destination, port: ports.1 };
    let direction = match (wanted.contains(destination.port), wanted.contains(source.port)) {
        (true, false) => Some(Direction::ToServer),
        (false, true) => Some(Direction::ToClient),
        // Both ports are wanted: only the handshake tells which end is the server.
        (true, true) => None,
        (false, false) => return Err(Unused::OtherPort),
    };
    Ok(Segment {
        captured_at: packet.captured_at,
        source,
        destination,
        scope: 0,
        direction,
        seq: Seq(seq),
        ack: (tcp_flags & ACK != 0).then_some(Seq(acknowledgement)),
        flags: flags(tcp_flags),
        payload,
        wire_payload_bytes: u32::try_from(wire_payload).unwrap_or(u32::MAX),
        ends_packet: true,
    })
}

fn flags(byte: u8) -> TcpFlags {
    TcpFlags { syn: byte & SYN != 0, fin: byte & FIN != 0, rst: byte & RST != 0 }
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}

// === impl WantedPorts ===

impl WantedPorts {
    /// The set of these ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut words = Box::new([0; 1024]);
        for port in ports {
            if let Some(word) = words.get_mut(usize::from(port >> 6)) {
                *word |= 1u64 << (port & 63);
            }
        }
        Self { words }
    }

    /// True when `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.words.get(usize::from(port >> 6)).is_some_and(|word| word & (1u64 << (port & 63)) != 0)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.0.first_chunk::<N>().copied()
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn be16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    fn be32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
