//! How many exchanges a second one core reads out of packets: packet → stream → http → pair.
//!
//! Reads no file and captures nothing: the packets lie in memory before the clock runs.
//!
//! Each kind of traffic prints two lines, the last of which is for programs. `--once KIND` plays one round without
//! measuring, for a profiler; `--write KIND FILE` writes the packets as a capture file, for other programs.
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use understudy::http::{Connection, HttpContext, HttpLimits};
use understudy::model::{LinkType, Packet, Timestamp};
use understudy::packet::{self, WantedPorts};
use understudy::stream::{FlowTable, StreamLimits};

const ROUNDS: usize = 9;
const FLOWS: usize = 64;
const SERVER_PORT: u16 = 8080;
/// Payload of a full Ethernet frame with the time stamp option.
const SEGMENT_BYTES: usize = 1448;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Packets one after the other, as a capture file holds them.
#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    exchanges: usize,
    body_bytes: usize,
}

/// A kind of traffic, and how much of it.
struct Kind {
    name: &'static str,
    unit: &'static str,
    /// For a profiler.
    once: usize,
    /// For the clock.
    rounds: usize,
    /// For a file.
    file: usize,
    write: fn(usize) -> Capture,
}

const KINDS: [Kind; 3] = [
    Kind { name: "small", unit: "exchanges/s", once: 64, rounds: 3_000, file: 2_000, write: small },
    Kind { name: "bodies", unit: "bytes/s", once: 32, rounds: 256, file: 256, write: bodies },
    Kind { name: "disorder", unit: "bytes/s", once: 64, rounds: 4_000, file: 2_000, write: disorder },
];

/// One connection while its packets are written.
struct Peer {
    port: u16,
    client_seq: u32,
    server_seq: u32,
}

fn main() -> io::Result<()> {
    // Cargo adds one of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mode, name, file) = (arguments.next(), arguments.next(), arguments.next());
    let kind = KINDS.iter().find(|kind| name.as_deref() == Some(kind.name));
    match (mode.as_deref(), kind, file) {
        (Some("--once"), Some(Kind { name: _, unit: _, once, rounds: _, file: _, write }), None) => {
            let capture = write(*once);
            assert_eq!(play(&capture), capture.exchanges);
        }
        (
            Some("--write"),
            Some(Kind { name: _, unit: _, once: _, rounds: _, file: rounds, write }),
            Some(file),
        ) => {
            let capture = write(*rounds);
            capture.save(Path::new(&file))?;
            println!(
                "{} exchanges, {} body bytes, {} packets",
                capture.exchanges,
                capture.body_bytes,
                capture.ends.len()
            );
        }
        (_, _, _) => KINDS.iter().for_each(|Kind { name, unit, once: _, rounds, file: _, write }| {
            let capture = write(*rounds);
            let amount = if *unit == "exchanges/s" { capture.exchanges } else { capture.body_bytes };
            report(name, unit, &capture, amount);
        }),
    }
    Ok(())
}

/// Plays the capture several times and prints the median of the amounts a second.
fn report(name: &str, unit: &str, capture: &Capture, amount: usize) {
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(play(capture), capture.exchanges, "every exchange is found");
            amount as f64 / begun.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let at = |index: usize| rates.get(index).copied().unwrap_or_default();
    println!("pair {name}: lowest {:.0}, highest {:.0} of {ROUNDS} rounds", at(0), at(ROUNDS - 1));
    println!("pair {name}: {:.0} {unit}", at(ROUNDS / 2));
}

/// All packets through the core. Gives the number of whole exchanges.
///
/// Never inlined, so that a profiler can tell it from the writing of packets.
#[inline(never)]
fn play(capture: &Capture) -> usize {
    let wanted = WantedPorts::new([SERVER_PORT]);
    let mut flows: FlowTable<Connection> = FlowTable::new(StreamLimits::default());
    let mut http = HttpContext::new(HttpLimits::default());
    let mut whole = 0;
    let mut start = 0;
    for (number, end) in capture.ends.iter().enumerate() {
        let bytes = &capture.bytes[start..*end];
        start = *end;
        let packet = Packet {
            captured_at: Timestamp(number as u64 * 1_000),
            link: LinkType::RawIp,
            wire_bytes: bytes.len() as u32,
            bytes,
        };
        let Ok(segment) = packet::parse(&packet, &wanted) else { continue };
        let _unused = flows
            .accept(&segment, &mut |connection: &mut Connection, event| connection.read(event, &mut http));
        whole += http
            .exchanges
            .drain(..)
            .filter(|exchange| {
                exchange.marks.is_empty()
                    && exchange.response.as_ref().is_some_and(|response| response.body.complete)
            })
            .count();
    }
    flows.finish(&mut |connection, event| connection.read(event, &mut http));
    whole
}

/// `rounds` small exchanges on each of the flows, a request, an answer and both acknowledgements, in turn.
fn small(rounds: usize) -> Capture {
    let mut capture = Capture::default();
    let mut peers = capture.open();
    for round in 0..rounds {
        let requests: Vec<Vec<u8>> = peers.iter().map(|peer| request(round, peer.port)).collect();
        for (peer, request) in peers.iter_mut().zip(&requests) {
            capture.up(peer, request, ACK);
        }
        for peer in &mut peers {
            capture.down(peer, b"", ACK);
            let answer = answer(round);
            capture.down(peer, &answer, ACK);
            capture.exchanges += 1;
        }
        for peer in &mut peers {
            capture.up(peer, b"", ACK);
        }
    }
    capture.close(&mut peers);
    capture
}

/// Answers with bodies of 1 MiB in full segments; the client acknowledges every second one.
fn bodies(exchanges: usize) -> Capture {
    let mut capture = Capture::default();
    let mut peers = capture.open();
    let body: Vec<u8> = (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(&body);
    for round in 0..exchanges {
        let Some(peer) = peers.get_mut(round % FLOWS) else { continue };
        let request = request(round, peer.port);
        capture.up(peer, &request, ACK);
        for (number, piece) in answer.chunks(SEGMENT_BYTES).enumerate() {
            capture.down(peer, piece, ACK);
            if number % 2 == 1 {
                capture.up(peer, b"", ACK);
            }
        }
        capture.up(peer, b"", ACK);
        capture.exchanges += 1;
        capture.body_bytes += body.len();
    }
    capture.close(&mut peers);
    capture
}

/// Answers of 64 KiB whose segments come eight at a time backwards, every twentieth of them twice.
fn disorder(exchanges: usize) -> Capture {
    const BODY_BYTES: usize = 64 << 10;
    let mut capture = Capture::default();
    let mut peers = capture.open();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n").into_bytes();
    answer.extend((0..BODY_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8));
    for round in 0..exchanges {
        let Some(peer) = peers.get_mut(round % FLOWS) else { continue };
        let request = request(round, peer.port);
        capture.up(peer, &request, ACK);
        for burst in answer.chunks(8 * SEGMENT_BYTES) {
            let start = peer.server_seq;
            for (number, piece) in
                burst.chunks(SEGMENT_BYTES).enumerate().collect::<Vec<_>>().into_iter().rev()
            {
                peer.server_seq = start.wrapping_add((number * SEGMENT_BYTES) as u32);
                let copies = if (round * 46 + number).is_multiple_of(20) { 2 } else { 1 };
                for _ in 0..copies {
                    capture.packet((SERVER_PORT, peer.port), (peer.server_seq, peer.client_seq), piece, ACK);
                }
            }
            peer.server_seq = start.wrapping_add(burst.len() as u32);
            capture.up(peer, b"", ACK);
        }
        capture.exchanges += 1;
        capture.body_bytes += BODY_BYTES;
    }
    capture.close(&mut peers);
    capture
}

fn request(round: usize, port: u16) -> Vec<u8> {
    format!(
        "GET /items/{round}?of={port} HTTP/1.1\r\nHost: shop\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\
         Accept-Encoding: gzip\r\nAccept-Language: en\r\nConnection: keep-alive\r\nCookie: id={port}\r\n\
         Cache-Control: no-cache\r\nDNT: 1\r\nX-Id: {round}\r\n\r\n"
    )
    .into_bytes()
}

fn answer(round: usize) -> Vec<u8> {
    let body = format!("{{\"id\":{round:06},\"name\":\"item\",\"in_stock\":true}}");
    format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 22 Sep 2025 10:00:00 GMT\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: keep-alive\r\nETag: \"{round:06}\"\r\nVary: Accept\r\n\
         Cache-Control: no-store\r\nX-Time: 3\r\nX-Node: a\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

// === impl Capture ===

impl Capture {
    /// Writes a pcap file of Ethernet frames, a microsecond apart, which every program can read.
    fn save(&self, file: &Path) -> io::Result<()> {
        const ETHERNET: u32 = 1;
        const FRAME_HEADER: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        let mut file = BufWriter::new(File::create(file)?);
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, ETHERNET] {
            file.write_all(&u32::to_le_bytes(word))?;
        }
        let mut start = 0;
        for (number, end) in self.ends.iter().enumerate() {
            let packet = &self.bytes[start..*end];
            start = *end;
            let length = (FRAME_HEADER.len() + packet.len()) as u32;
            let (seconds, micros) = (1_700_000_000 + number as u32 / 1_000_000, number as u32 % 1_000_000);
            for word in [seconds, micros, length, length] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(&FRAME_HEADER)?;
            file.write_all(packet)?;
        }
        file.flush()
    }

    fn open(&mut self) -> Vec<Peer> {
        (0..FLOWS)
            .map(|flow| {
                let port = 40_000 + flow as u16;
                let mut peer =
                    Peer { port, client_seq: 1_000 * u32::from(port), server_seq: u32::MAX - 5_000 };
                self.up(&mut peer, b"", SYN);
                self.down(&mut peer, b"", SYN | ACK);
                self.up(&mut peer, b"", ACK);
                peer
            })
            .collect()
    }

    fn close(&mut self, peers: &mut [Peer]) {
        for peer in peers {
            self.up(peer, b"", FIN | ACK);
            self.down(peer, b"", FIN | ACK);
            self.up(peer, b"", ACK);
        }
    }

    fn up(&mut self, peer: &mut Peer, payload: &[u8], flags: u8) {
        self.packet((peer.port, SERVER_PORT), (peer.client_seq, peer.server_seq), payload, flags);
        peer.client_seq = peer.client_seq.wrapping_add(numbers(payload, flags));
    }

    fn down(&mut self, peer: &mut Peer, payload: &[u8], flags: u8) {
        self.packet((SERVER_PORT, peer.port), (peer.server_seq, peer.client_seq), payload, flags);
        peer.server_seq = peer.server_seq.wrapping_add(numbers(payload, flags));
    }

    /// An IPv4 packet with a TCP header of 32 bytes, the common one with time stamps, and its right checksum.
    fn packet(&mut self, ports: (u16, u16), numbers: (u32, u32), payload: &[u8], flags: u8) {
        let total = (20 + 32 + payload.len()) as u16;
        let address = |port: u16| if port == SERVER_PORT { [10, 0, 0, 2] } else { [10, 0, 0, 1] };
        self.bytes.extend_from_slice(&[0x45, 0]);
        self.bytes.extend_from_slice(&total.to_be_bytes());
        self.bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        self.bytes.extend_from_slice(&address(ports.0));
        self.bytes.extend_from_slice(&address(ports.1));
        let segment = self.bytes.len();
        self.bytes.extend_from_slice(&ports.0.to_be_bytes());
        self.bytes.extend_from_slice(&ports.1.to_be_bytes());
        self.bytes.extend_from_slice(&numbers.0.to_be_bytes());
        self.bytes.extend_from_slice(&numbers.1.to_be_bytes());
        self.bytes.extend_from_slice(&[0x80, flags, 0xff, 0xff, 0, 0, 0, 0]);
        self.bytes.extend_from_slice(&[1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend_from_slice(payload);
        let addresses = u32::from(u16::from_be_bytes([10, 0])) * 2 + 1 + 2;
        let checksum = checksum(&self.bytes[segment..], addresses);
        self.bytes[segment + 16..][..2].copy_from_slice(&checksum.to_be_bytes());
        self.ends.push(self.bytes.len());
    }
}

/// Sequence numbers that a segment takes up.
fn numbers(payload: &[u8], flags: u8) -> u32 {
    payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0)
}

/// The checksum of a segment whose own field is zero (RFC 9293 section 3.1), between hosts whose addresses add up to
/// `addresses`.
fn checksum(segment: &[u8], addresses: u32) -> u16 {
    const TCP: u32 = 6;
    let words = segment.chunks(2).map(|pair| {
        let [first, second] = [pair.first(), pair.get(1)].map(|byte| u32::from(byte.copied().unwrap_or(0)));
        first << 8 | second
    });
    let sum = words.sum::<u32>() + addresses + TCP + segment.len() as u32;
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
