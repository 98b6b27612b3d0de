//! Writes packets as a capture file.
//!
//! Knows one form: pcap 2.4, little-endian, nanoseconds, raw IP.

use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::time::Duration;

/// Link type of packets that begin with an IP header (LINKTYPE_RAW).
const LINKTYPE_RAW: u32 = 101;

/// Magic number of files with time stamps in nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Longest packet that a file says it may hold, in bytes.
const SNAP_BYTES: u32 = 262_144;

/// Whole connections, as a client and a server would have made them. Loses and reorders nothing; checksums are left
/// out, as offloading does.
#[derive(Clone, Debug, Default)]
pub struct PcapFile {
    /// Nanoseconds since 1970, and the packet.
    packets: Vec<(u64, Vec<u8>)>,
}

/// One side of a connection while it is written.
#[derive(Clone, Copy, Debug)]
struct Side {
    address: SocketAddrV4,
    /// Sequence number of the next byte.
    next: u32,
}

const FIN_ACK: u8 = 0x11;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;

/// Payload of one packet, as on Ethernet.
const SEGMENT_BYTES_MAX: usize = 1448;

/// How long a packet takes from one side to the other.
const STEP: Duration = Duration::from_micros(50);

/// Writes packets, each with its time in nanoseconds since 1970.
///
/// # Errors
/// When the output cannot be written.
pub fn write<'a>(
    output: &mut impl Write,
    packets: impl IntoIterator<Item = (u64, &'a [u8])>,
) -> io::Result<()> {
    let (version_major, version_minor) = (2u16, 4u16);
    output.write_all(&MAGIC_NANOSECONDS.to_le_bytes())?;
    output.write_all(&version_major.to_le_bytes())?;
    output.write_all(&version_minor.to_le_bytes())?;
    // Time zone and accuracy, which nobody uses.
    output.write_all(&[0; 8])?;
    output.write_all(&SNAP_BYTES.to_le_bytes())?;
    output.write_all(&LINKTYPE_RAW.to_le_bytes())?;
    for (at_ns, bytes) in packets {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let seconds = u32::try_from(at_ns / 1_000_000_000).map_err(io::Error::other)?;
        let rest_ns = u32::try_from(at_ns % 1_000_000_000).map_err(io::Error::other)?;
        for word in [seconds, rest_ns, length, length] {
            output.write_all(&word.to_le_bytes())?;
        }
        output.write_all(bytes)?;
    }
    Ok(())
}

// === impl PcapFile ===

impl PcapFile {
    /// The file's contents.
    ///
    /// # Panics
    /// When a packet or a time does not fit into a file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packets = self.packets.iter().map(|(at_ns, packet)| (*at_ns, packet.as_slice()));
        write(&mut bytes, packets).expect("what this makes fits into a file");
        bytes
    }

    /// Writes one connection: handshake, then each request and its answer `took` later, then the end. `start` counts
    /// from the epoch.
    pub fn connection(
        &mut self,
        client: SocketAddrV4,
        server: SocketAddrV4,
        start: Duration,
        took: Duration,
        exchanges: &[(Vec<u8>, Vec<u8>)],
    ) {
        let mut client = Side { address: client, next: u32::MAX - 100 };
        let mut server = Side { address: server, next: 7 };
        let mut at = start;
        self.packet(at, &mut client, &server, SYN, b"");
        self.packet(at + STEP, &mut server, &client, SYN_ACK, b"");
        self.packet(at + STEP * 2, &mut client, &server, ACK, b"");
        at += STEP * 3;
        for (request, answer) in exchanges {
            for part in request.chunks(SEGMENT_BYTES_MAX) {
                self.packet(at, &mut client, &server, ACK, part);
            }
            at += took;
            for part in answer.chunks(SEGMENT_BYTES_MAX) {
                self.packet(at, &mut server, &client, ACK, part);
            }
            at += STEP;
        }
        self.packet(at, &mut client, &server, FIN_ACK, b"");
        self.packet(at + STEP, &mut server, &client, FIN_ACK, b"");
        self.packet(at + STEP * 2, &mut client, &server, ACK, b"");
    }

    fn packet(&mut self, at: Duration, from: &mut Side, to: &Side, flags: u8, payload: &[u8]) {
        let acknowledged = if flags == SYN { 0 } else { to.next };
        let mut packet = Vec::with_capacity(40 + payload.len());
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&(40 + payload.len() as u16).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend_from_slice(&from.address.ip().octets());
        packet.extend_from_slice(&to.address.ip().octets());
        packet.extend_from_slice(&from.address.port().to_be_bytes());
        packet.extend_from_slice(&to.address.port().to_be_bytes());
        packet.extend_from_slice(&from.next.to_be_bytes());
        packet.extend_from_slice(&acknowledged.to_be_bytes());
        packet.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(payload);
        self.packets.push((at.as_nanos() as u64, packet));
        let occupied = u32::from(flags & (SYN | 0x01) != 0);
        from.next = from.next.wrapping_add(payload.len() as u32 + occupied);
    }
}
