//! Traffic that costs its sender little and wants memory or time of whoever reads it.
//!
//! Judges nothing: `limits.rs` looks at the memory and `benches/floods.rs` at the time. Each flood goes on for as many
//! packets as it is told, and keeps none of them.

use super::{ACK, Connection, Numbers, SEGMENT_BYTES, SERVER, SERVER_PORT, SYN, packet};

/// Where the packets of a flood go.
pub type To<'a> = &'a mut dyn FnMut(&[u8]);

/// Bytes of a head that is not over.
const OPEN_HEAD: &[u8] =
    b"GET /items/1234?of=all HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: flood/1\r\n\
    Accept: */*\r\nAccept-Language: en\r\nX-Request: 0123456789abcdef0123456789abcdef\r\nCookie: id=012345";

/// Connections that each send a part of a head and then nothing more: four packets each.
pub fn open_heads(packets: usize, to: To<'_>) {
    for number in 0..packets / 4 {
        let mut wire = Connection::new(number as u32);
        wire.open();
        wire.packet(true, ACK, OPEN_HEAD, vec![]);
        wire.drain(to);
    }
}

/// The first packet of a connection, each time of another.
pub fn syns(packets: usize, to: To<'_>) {
    for number in 0..packets {
        let mut wire = Connection::new(number as u32);
        wire.packet(true, SYN, &[], vec![]);
        wire.drain(to);
    }
}

/// Every second byte of what some connections send, a byte a packet; the others never come.
pub fn tiny_segments(packets: usize, to: To<'_>) {
    let mut flows = Flows::open(16, to);
    for number in 0..packets {
        flows.send(number, 1 + 2 * (number / 16) as u32, b"a", to);
    }
}

/// Heads that never end, on as many connections as there are packets for: 40 kB each, in full segments.
pub fn endless_heads(packets: usize, to: To<'_>) {
    const SEGMENTS: usize = 28;
    let line = [&b"X-Filler: "[..], &[b'x'; SEGMENT_BYTES - 12], b"\r\n"].concat();
    for number in 0..packets.div_ceil(SEGMENTS) {
        let mut wire = Connection::new(number as u32);
        wire.open();
        wire.packet(true, ACK, b"GET / HTTP/1.1\r\n", vec![]);
        (1..SEGMENTS).for_each(|_| wire.packet(true, ACK, &line, vec![]));
        wire.drain(to);
    }
}

/// One head that never ends, on one connection.
pub fn one_endless_head(packets: usize, to: To<'_>) {
    let mut wire = Connection::new(0);
    wire.open();
    wire.packet(true, ACK, b"GET / HTTP/1.1\r\nX-Filler: ", vec![]);
    for _ in 0..packets {
        wire.packet(true, ACK, &[b'x'; SEGMENT_BYTES], vec![]);
        wire.drain(to);
    }
}

/// Chunks of one byte with an extension of 50 kB each.
pub fn endless_chunk_extensions(packets: usize, to: To<'_>) {
    const SEGMENTS: usize = 35;
    let mut wire = Connection::new(0);
    wire.open();
    wire.packet(true, ACK, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", vec![]);
    for number in 0..packets {
        match number % SEGMENTS {
            0 => wire.packet(true, ACK, b"1;a=", vec![]),
            last if last == SEGMENTS - 1 => wire.packet(true, ACK, b"\r\nb\r\n", vec![]),
            _ => wire.packet(true, ACK, &[b'x'; SEGMENT_BYTES], vec![]),
        }
        wire.drain(to);
    }
}

/// Ranges that begin and end anywhere behind a hole, so that they overlap in every way.
pub fn interleaved_ranges(packets: usize, to: To<'_>) {
    let mut numbers = Numbers(1);
    let mut flows = Flows::open(16, to);
    for number in 0..packets {
        let bytes = vec![b'a' + (number % 26) as u8; 1 + numbers.below(SEGMENT_BYTES)];
        flows.send(number, 1 + numbers.below(600_000) as u32, &bytes, to);
    }
}

/// Requests that nobody answers, one after the other on some connections.
pub fn unanswered(packets: usize, to: To<'_>) {
    let request = [OPEN_HEAD, b"\r\n\r\n"].concat();
    let mut wires: Vec<Connection> = (0..200).map(Connection::new).collect();
    wires.iter_mut().for_each(Connection::open);
    for number in 0..packets {
        let index = number % wires.len();
        let wire = &mut wires[index];
        wire.packet(true, ACK, &request, vec![]);
        wire.drain(to);
    }
}

/// Bodies of 900 kB that stop before their last byte.
pub fn unfinished_bodies(packets: usize, to: To<'_>) {
    const SEGMENTS: usize = 640;
    for number in 0..packets.div_ceil(SEGMENTS) {
        let mut wire = Connection::new(number as u32);
        wire.open();
        wire.packet(true, ACK, b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", vec![]);
        (1..SEGMENTS).for_each(|_| wire.packet(true, ACK, &[b'x'; SEGMENT_BYTES], vec![]));
        wire.drain(to);
    }
}

/// Open connections on which segments are sent out of order.
struct Flows {
    starts: Vec<(u16, u32)>,
}

// === impl Flows ===

impl Flows {
    const CLIENT: u32 = 0x0c00_0000;

    fn open(count: u16, to: To<'_>) -> Self {
        let starts: Vec<(u16, u32)> =
            (0..count).map(|number| (20_000 + number, u32::MAX - 1_000 * u32::from(number))).collect();
        for (port, start) in &starts {
            let syn = start.wrapping_sub(1);
            to(&packet(((Self::CLIENT, *port), (SERVER, SERVER_PORT)), (syn, 0), SYN, &[]));
            to(&packet(((SERVER, SERVER_PORT), (Self::CLIENT, *port)), (0, *start), SYN | ACK, &[]));
        }
        Self { starts }
    }

    /// Bytes at `offset` of what a connection sends, taken in turn.
    fn send(&mut self, number: usize, offset: u32, payload: &[u8], to: To<'_>) {
        let (port, start) = self.starts[number % self.starts.len()];
        let seq = start.wrapping_add(offset);
        to(&packet(((Self::CLIENT, port), (SERVER, SERVER_PORT)), (seq, 1), ACK, payload));
    }
}
