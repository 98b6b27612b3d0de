//! Writes capture files: whole connections as a client and a server would have made them.
//!
//! Loses and reorders nothing; checksums are left out, as offloading does.

use std::net::SocketAddrV4;
use std::time::Duration;

/// A pcap file of raw IP packets with times in microseconds.
#[derive(Clone, Debug)]
pub struct PcapFile {
    bytes: Vec<u8>,
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

// === impl PcapFile ===

impl Default for PcapFile {
    fn default() -> Self {
        const RAW_IP: u32 = 101;
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, RAW_IP];
        Self { bytes: header.into_iter().flat_map(u32::to_le_bytes).collect() }
    }
}

impl PcapFile {
    /// The file's contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
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
        let length = packet.len() as u32;
        for number in [at.as_secs() as u32, at.subsec_micros(), length, length] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(&packet);
        let occupied = u32::from(flags & (SYN | 0x01) != 0);
        from.next = from.next.wrapping_add(payload.len() as u32 + occupied);
    }
}
