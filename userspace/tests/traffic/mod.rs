//! Packets of connections whose every byte is known: what the core must make of them can be told beforehand.
//!
//! Shares no code with the core but the types of its interface, so that one cannot repeat the other's mistakes.
#![expect(unreachable_pub, reason = "several test programs and a bench include this file")]
#![expect(dead_code, reason = "each of them uses a part of it")]

pub mod floods;

use std::collections::HashMap;
use std::net::Ipv4Addr;

use sha2::{Digest as _, Sha256};
use understudy::http::sha256;
use understudy::model::{Exchange, Headers, LinkType, Mark, Packet, Timestamp};
use understudy::pipeline::tee::Tee;

/// The port of every server here.
pub const SERVER_PORT: u16 = 8080;
/// The address of every server here.
pub const SERVER: u32 = 0x0a00_0001;
/// Payload of a full Ethernet frame with the time stamp option.
pub const SEGMENT_BYTES: usize = 1448;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// IPv4 header and TCP header without options.
const HEADER_BYTES: usize = 40;

/// Numbers that look random and are the same in each run (splitmix64).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

/// How a body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no field that says so.
    None,
    /// `Content-Length`.
    Length,
    /// Chunked, in chunks of this many bytes.
    Chunked(usize),
}

/// What an exchange shall be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub request: (Framing, usize),
    pub response: (Framing, usize),
}

/// What an exchange is: the bytes that pass, and what must be read out of them.
#[derive(Clone, Debug)]
pub struct Truth {
    /// No other exchange has it; it stands in the target and in a field of the response.
    pub id: u64,
    pub request: Vec<u8>,
    pub response: Vec<u8>,
    pub request_body: (u64, [u8; 32]),
    pub response_body: (u64, [u8; 32]),
}

/// One packet and what it carries.
#[derive(Clone, Debug)]
pub struct Sent {
    /// From the IPv4 header on.
    pub bytes: Vec<u8>,
    pub to_server: bool,
    /// Exchanges of which it carries bytes.
    pub ids: Vec<u64>,
}

/// Both ends of one connection, writing packets.
#[derive(Debug)]
pub struct Connection {
    pub packets: Vec<Sent>,
    client: (u32, u16),
    client_seq: u32,
    server_seq: u32,
}

// === impl Numbers ===

impl Numbers {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end.max(1) as u64) as usize
    }

    /// True in this many of a million cases.
    pub fn happens(&mut self, per_million: u32) -> bool {
        self.draw() % 1_000_000 < u64::from(per_million)
    }
}

// === impl Framing ===

impl Framing {
    fn field(self, bytes: usize) -> String {
        match self {
            Self::None => String::new(),
            Self::Length => format!("Content-Length: {bytes}\r\n"),
            Self::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
        }
    }

    fn write(self, body: &[u8], to: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Length => to.extend_from_slice(body),
            Self::Chunked(size) => {
                for chunk in body.chunks(size.max(1)) {
                    to.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    to.extend_from_slice(chunk);
                    to.extend_from_slice(b"\r\n");
                }
                to.extend_from_slice(b"0\r\n\r\n");
            }
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Mostly small bodies, some of many segments, and a few that pass the cap of what is kept.
    pub fn draw(numbers: &mut Numbers) -> Self {
        let mut part = |without: u32| {
            let bytes = match numbers.below(100) {
                0 => 1_200_000,
                1..8 => 20_000 + numbers.below(60_000),
                8..40 => 1_000 + numbers.below(4_000),
                _ => numbers.below(300),
            };
            let framing = match numbers.below(3) {
                _ if numbers.happens(without) => Framing::None,
                0 => Framing::Chunked(1 + numbers.below(5_000)),
                _ => Framing::Length,
            };
            (framing, bytes)
        };
        Self { request: part(700_000), response: part(50_000) }
    }
}

// === impl Truth ===

impl Truth {
    pub fn of(id: u64, plan: &Plan) -> Self {
        let Plan { request: (request_framing, request_bytes), response: (response_framing, response_bytes) } =
            *plan;
        let request_bytes = if request_framing == Framing::None { 0 } else { request_bytes };
        let response_bytes = if response_framing == Framing::None { 0 } else { response_bytes };
        let method = if request_framing == Framing::None { "GET" } else { "POST" };
        let request_body = body(id, request_bytes);
        let response_body = body(!id, response_bytes);
        let mut request = format!("{method} /of/{id} HTTP/1.1\r\nHost: shop\r\nX-Id: {id}\r\n").into_bytes();
        request.extend_from_slice(request_framing.field(request_bytes).as_bytes());
        request.extend_from_slice(b"\r\n");
        request_framing.write(&request_body, &mut request);
        // Without a field a response would go on until the connection closes (RFC 9112 section 6.3).
        let status = if response_framing == Framing::None { "204 No Content" } else { "200 OK" };
        let mut response = format!("HTTP/1.1 {status}\r\nServer: a\r\nX-Id: {id}\r\n").into_bytes();
        response.extend_from_slice(response_framing.field(response_bytes).as_bytes());
        response.extend_from_slice(b"\r\n");
        response_framing.write(&response_body, &mut response);
        Self {
            id,
            request,
            response,
            request_body: (request_bytes as u64, Sha256::digest(&request_body).into()),
            response_body: (response_bytes as u64, Sha256::digest(&response_body).into()),
        }
    }

    /// Nothing that was read contradicts what was sent: the pair belongs together, and each part that is called
    /// whole is.
    #[track_caller]
    pub fn check(&self, exchange: &Exchange) {
        let Exchange { id: _, flow: _, request, response, interim, times: _, marks } = exchange;
        let id = self.id.to_string();
        let field = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(field(request.headers.get("x-id")), Some(id.clone()), "{exchange:#?}");
        assert_eq!(&request.target[..], format!("/of/{id}").as_bytes());
        let read = (request.body.bytes, sha256(&request.body));
        let (bytes, hash) = self.request_body;
        assert!(!request.body.complete || read == (bytes, Some(hash)), "{exchange:#?}");
        assert!(interim.is_empty());
        assert!(holds_head(&self.request, &request.headers), "{exchange:#?}");
        assert!(self.request.starts_with(&request.method), "{exchange:#?}");
        let Some(response) = response else {
            assert!(marks.has(Mark::NoResponse), "{exchange:#?}");
            return;
        };
        assert_eq!(field(response.headers.get("x-id")), Some(id), "{exchange:#?}");
        assert!(holds_head(&self.response, &response.headers), "{exchange:#?}");
        assert!(self.response.starts_with(format!("HTTP/1.1 {} ", response.status).as_bytes()));
        let read = (response.body.bytes, sha256(&response.body));
        let (bytes, hash) = self.response_body;
        assert!(!response.body.complete || read == (bytes, Some(hash)), "{exchange:#?}");
        if !(request.body.complete && response.body.complete) {
            assert!(marks.has(Mark::Gap) || marks.has(Mark::Truncated), "{exchange:#?}");
        }
    }
}

/// The fields are those of the head that `message` begins with, all of them and in order.
fn holds_head(message: &[u8], headers: &Headers) -> bool {
    let mut head = Vec::new();
    for (name, value) in headers.iter() {
        for part in [&b"\r\n"[..], name, b": ", value] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n\r\n");
    let line_bytes = message.iter().take_while(|byte| **byte != b'\r').count();
    message[line_bytes..].starts_with(&head)
}

/// The exchange has both messages, to their ends.
pub fn is_whole(exchange: &Exchange) -> bool {
    exchange.request.body.complete
        && exchange.response.as_ref().is_some_and(|response| response.body.complete)
}

/// The id that a request was sent with.
pub fn id_of(exchange: &Exchange) -> u64 {
    let target = String::from_utf8_lossy(&exchange.request.target).into_owned();
    target.trim_start_matches("/of/").parse().expect("every target names its exchange")
}

/// Bytes that nothing but `id` decides.
fn body(id: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers(id);
    let mut body = Vec::with_capacity(bytes + 8);
    while body.len() < bytes {
        body.extend_from_slice(&numbers.draw().to_le_bytes());
    }
    body.truncate(bytes);
    body
}

// === impl Connection ===

impl Connection {
    /// A connection of which nothing was sent yet. Its sequence numbers pass the wrap soon.
    pub fn new(number: u32) -> Self {
        let client = (0x0b00_0000 + number / 20_000, 10_000 + (number % 20_000) as u16);
        Self { packets: Vec::new(), client, client_seq: u32::MAX - 700, server_seq: u32::MAX - 3_000 }
    }

    /// The handshake.
    pub fn open(&mut self) {
        self.packet(true, SYN, &[], vec![]);
        self.packet(false, SYN | ACK, &[], vec![]);
        self.packet(true, ACK, &[], vec![]);
    }

    /// Both ends close.
    pub fn close(&mut self) {
        self.packet(true, FIN | ACK, &[], vec![]);
        self.packet(false, FIN | ACK, &[], vec![]);
        self.packet(true, ACK, &[], vec![]);
    }

    /// Sends messages one after the other in segments whose sizes `cut` gives; the other end acknowledges now and
    /// then, and at the end.
    pub fn send(&mut self, to_server: bool, messages: &[(u64, &[u8])], cut: &mut impl FnMut() -> usize) {
        let mut ends = Vec::new();
        let mut bytes = Vec::new();
        for (id, message) in messages {
            bytes.extend_from_slice(message);
            ends.push((*id, bytes.len()));
        }
        let mut at = 0;
        let mut number = 0usize;
        while at < bytes.len() {
            let to = (at + cut().max(1)).min(bytes.len());
            let starts = [0].into_iter().chain(ends.iter().map(|(_, end)| *end));
            let carried = ends
                .iter()
                .zip(starts)
                .filter(|((_, end), start)| *start < to && *end > at)
                .map(|((id, _), _)| *id);
            let ids = carried.collect();
            self.packet(to_server, ACK, &bytes[at..to], ids);
            at = to;
            number += 1;
            if number.is_multiple_of(2) || at == bytes.len() {
                self.packet(!to_server, ACK, &[], vec![]);
            }
        }
    }

    /// Hands on what was written and forgets it.
    pub fn drain(&mut self, to: &mut dyn FnMut(&[u8])) {
        self.packets.drain(..).for_each(|sent| to(&sent.bytes));
    }

    /// One packet with the numbers of this moment.
    pub fn packet(&mut self, to_server: bool, flags: u8, payload: &[u8], ids: Vec<u64>) {
        let server = (SERVER, SERVER_PORT);
        let (ends, numbers) = match to_server {
            true => ((self.client, server), (self.client_seq, self.server_seq)),
            false => ((server, self.client), (self.server_seq, self.client_seq)),
        };
        let bytes = packet(ends, numbers, flags, payload);
        let taken = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        let own = if to_server { &mut self.client_seq } else { &mut self.server_seq };
        *own = own.wrapping_add(taken);
        self.packets.push(Sent { bytes, to_server, ids });
    }
}

/// An IPv4 packet; checksums are zero, as offloading leaves them.
pub fn packet(
    ((source, source_port), (destination, destination_port)): ((u32, u16), (u32, u16)),
    (seq, ack): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&[0x45, 0]);
    bytes.extend_from_slice(&((HEADER_BYTES + payload.len()) as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend_from_slice(&Ipv4Addr::from(source).octets());
    bytes.extend_from_slice(&Ipv4Addr::from(destination).octets());
    bytes.extend_from_slice(&source_port.to_be_bytes());
    bytes.extend_from_slice(&destination_port.to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&if flags & ACK == 0 { 0 } else { ack }.to_be_bytes());
    bytes.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Gives one packet to the tee, captured at this many microseconds.
pub fn take(tee: &mut Tee, bytes: &[u8], at_us: u64, sink: &mut impl FnMut(Exchange)) {
    let captured_at = Timestamp(1_000_000_000 + at_us * 1_000);
    let wire_bytes = bytes.len() as u32;
    tee.take(&Packet { captured_at, link: LinkType::RawIp, wire_bytes, bytes }, sink);
}

/// All packets through the tee, to the end of all flows.
pub fn play<'a>(tee: &mut Tee, packets: impl IntoIterator<Item = &'a [u8]>) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for (number, bytes) in packets.into_iter().enumerate() {
        take(tee, bytes, number as u64, &mut |exchange| exchanges.push(exchange));
    }
    tee.finish(&mut |exchange| exchanges.push(exchange));
    exchanges
}

/// Exchanges by the id that they were sent with. None may come twice.
#[track_caller]
pub fn by_id(exchanges: Vec<Exchange>) -> HashMap<u64, Exchange> {
    let count = exchanges.len();
    let by_id: HashMap<u64, Exchange> =
        exchanges.into_iter().map(|exchange| (id_of(&exchange), exchange)).collect();
    assert_eq!(by_id.len(), count, "an exchange came twice");
    by_id
}
