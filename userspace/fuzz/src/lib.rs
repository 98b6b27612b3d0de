//! What must hold whatever comes in, for each border of the core.
//!
//! Knows neither fuzzer nor test framework: each target is a function of bytes that panics when something does not
//! hold. `userspace/tests/core.rs` runs the same functions on random input.

mod bodies;
mod entries;
mod redact;

use std::cell::LazyCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use understudy::capture::pcap::{PcapLimits, PcapSource};
use understudy::capture::{Polled, Source as _};
use understudy::http::{Connection, HttpContext, HttpLimits};
use understudy::model::{
    Body, Checksum, Chunk, Direction, Endpoint, Exchange, Flow, FlowKey, Interest, LinkType, Mark, Opened,
    Packet, Segment, Seq, StreamEvent, TcpFlags, Timestamp,
};
use understudy::packet::{self, FragmentLimits, PacketReader, WantedPorts};
use understudy::pipeline::tee::Tee;
use understudy::stream::{FlowTable, StreamLimits};

pub use bodies::bodies;
pub use entries::entries;
pub use redact::redact;

/// Takes values off the front of the input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

/// Pieces of messages: random bytes alone seldom make one.
const PIECES: [&str; 24] = [
    "GET /a HTTP/1.1\r\n",
    "POST /b HTTP/1.1\r\n",
    "HEAD /c HTTP/1.0\r\n",
    "CONNECT d:1 HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "X : y\r\n",
    " folded\r\n",
    "\r\n",
    "\n",
    "abc",
    "3\r\nabc\r\n",
    "3;x=\"y\"\n",
    "0\r\n\r\n",
    "0\r\nT: v\r\n\r\n",
    "GET /e HTTP/1.1\r\nHost: h\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
];

/// Any bytes as packets of one link layer: what comes out lies in what went in, or in fragments that did.
pub fn packet(bytes: &[u8]) {
    thread_local! {
        // A set of ports is 8 KiB; to make one takes longer than to read a packet.
        static WANTED: LazyCell<WantedPorts> = LazyCell::new(|| WantedPorts::new([80, 8080]));
    }
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let link = LinkType::ALL[usize::from(*kind) % LinkType::ALL.len()];
    if kind & 0x80 == 0 {
        let packet = Packet { captured_at: Timestamp(1), link, wire_bytes: bytes.len() as u32, bytes };
        let Ok(segment) = WANTED.with(|wanted| packet::parse(&packet, wanted)) else { return };
        assert!(bytes.as_ptr_range().start <= segment.payload.as_ptr_range().start);
        assert!(segment.payload.as_ptr_range().end <= bytes.as_ptr_range().end);
        assert!(segment.wire_payload_bytes as usize >= segment.payload.len());
        return;
    }
    let limits =
        FragmentLimits { datagrams_max: 3, bytes_max: 4_000, pieces_max: 4, ..FragmentLimits::default() };
    let mut reader = PacketReader::new(WANTED.with(|wanted| (**wanted).clone()), limits);
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        let [length, time] = [input.byte(), input.byte()];
        let (bytes, rest) = input.0.split_at(input.0.len().min(usize::from(length)));
        input = Input(rest);
        let captured_at = Timestamp(1 + u64::from(time) * 1_000_000_000);
        let packet = Packet { captured_at, link, wire_bytes: bytes.len() as u32, bytes };
        if let Ok(segment) = reader.read(&packet) {
            assert!(segment.wire_payload_bytes as usize >= segment.payload.len());
            assert!(segment.payload.len() < 1 << 16);
        }
        let fragments = reader.tally().fragments;
        let over = fragments.whole + fragments.late + fragments.at_bound;
        let waiting = fragments.begun.checked_sub(over).expect("what is over was begun");
        assert!(waiting <= limits.datagrams_max as u64);
    }
}

/// Any bytes as a capture file: reading ends, and each packet in it is counted once.
pub fn file(bytes: &[u8]) {
    // In memory, as far as the system has such a folder.
    let folder =
        if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let path = folder.join(format!("understudy-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("writes the file");
    let limits =
        PcapLimits { read_bytes: 512, block_bytes_max: 2_000, skipped_bytes_max: 4_000, interfaces_max: 4 };
    let mut tee = Tee::new([80, 8080], StreamLimits::default(), HttpLimits::default());
    let (mut packets, mut exchanges) = (0, 0);
    if let Ok(mut source) = PcapSource::open(&path, limits) {
        let mut each = |packet: &Packet<'_>| {
            packets += 1;
            tee.take(packet, &mut |_| exchanges += 1);
        };
        // Each turn takes something off the file, or ends.
        for turn in 0.. {
            assert!(turn <= bytes.len(), "reading does not end");
            match source.poll(Duration::ZERO, &mut each) {
                Ok(Polled::Open { packets: _ }) => {}
                Ok(Polled::Ended) | Err(_) => break,
            }
        }
    }
    std::fs::remove_file(&path).expect("removes the file");
    tee.finish(&mut |_| exchanges += 1);
    let counts = tee.counts();
    assert_eq!(counts.used + counts.unused.iter().sum::<u64>(), packets);
    assert_eq!((counts.http.exchanges, counts.kept_bytes, counts.flows), (exchanges, 0, 0));
}

/// Any segments through the flow table and the message readers: bounds hold after each, and nothing is kept at the end.
pub fn segments(bytes: &[u8]) {
    let stream_limits = StreamLimits {
        flows_max: 4,
        flow_waiting_bytes_max: 200,
        flow_waiting_pieces_max: 8,
        waiting_bytes_max: 1_000,
        ..StreamLimits::default()
    };
    let http_limits = HttpLimits {
        head_bytes_max: 200,
        body_kept_max: 20,
        pipelined_max: 3,
        kept_bytes_max: 100,
        heads_kept_max: 4_000,
        interim_max: 2,
        headless_bytes_max: 500,
    };
    let mut input = Input(bytes);
    let mut flows: FlowTable<Connection> = FlowTable::new(stream_limits);
    let mut http = HttpContext::new(http_limits);
    let mut now = Timestamp(1);
    let mut taken = 0;
    let mut payload = Vec::new();
    while !input.0.is_empty() {
        let [kind, flow, time] = [input.byte(), input.byte(), input.byte()];
        let direction = if kind & 1 == 0 { Direction::ToServer } else { Direction::ToClient };
        let (client, server) = (end(4_000 + u16::from(flow % 6)), end(80));
        let (source, destination) = match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        };
        // Numbers near the wrap, seldom far away.
        let far = if flow > 250 { u32::from(input.byte()) << 24 } else { 0 };
        let seq = Seq(u32::MAX - 100).plus(u32::from(input.byte())).plus(far);
        let ack = Seq(u32::MAX - 100).plus(u32::from(input.byte()));
        payload.clear();
        if kind & 2 != 0 {
            input.pieces(kind >> 6, &mut payload);
        }
        now = Timestamp(now.0 + u64::from(time) * u64::from(time) * 10_000_000);
        let segment = Segment {
            captured_at: now,
            source,
            destination,
            scope: 0,
            network: 0,
            window: 0,
            window_scale: None,
            direction: (kind & 4 == 0).then_some(direction),
            seq,
            ack: (kind & 8 == 0).then_some(ack),
            flags: TcpFlags { syn: kind & 0x31 == 0x10, fin: kind & 0x30 == 0x20, rst: kind & 0x3c == 0x3c },
            payload: &payload,
            wire_payload_bytes: payload.len() as u32 + u32::from(time == 255),
            checksum: match time & 0x0f {
                0x0d => Checksum::Wrong,
                0x0e => Checksum::Right,
                _ => Checksum::Unjudged,
            },
            ends_packet: true,
        };
        let mut read =
            |connection: &mut Connection, event: StreamEvent<'_>| connection.read(event, &mut http);
        let _unused = flows.accept(&segment, &mut read);
        if time > 200 {
            flows.tick(now, &mut read);
        }
        assert!(flows.flows() <= stream_limits.flows_max);
        assert!(flows.waiting_bytes() <= stream_limits.waiting_bytes_max);
        assert!(http.kept_bytes() <= http_limits.kept_bytes_max + http_limits.heads_kept_max);
        taken += drain(&mut http);
    }
    flows.finish(&mut |connection, event| connection.read(event, &mut http));
    taken += drain(&mut http);
    assert_eq!((flows.flows(), flows.waiting_bytes(), http.kept_bytes()), (0, 0, 0), "nothing is kept");
    assert_eq!(taken, http.tally.exchanges, "every exchange is counted once");
    assert_eq!(http.tally.exchanges, http.tally.requests, "each request comes out once");
    assert!(http.tally.orphans <= http.tally.responses);
}

/// A conversation in pieces gives the exchanges that it gives whole.
pub fn bytes(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut turns = Vec::new();
    for _ in 0..input.byte() % 16 {
        let direction = if input.byte() & 1 == 0 { Direction::ToServer } else { Direction::ToClient };
        let mut turn = Vec::new();
        let count = input.byte() % 8;
        input.pieces(count, &mut turn);
        turns.push((direction, turn));
    }
    let mut whole: Vec<(Direction, Vec<u8>)> = Vec::new();
    let mut pieces = Vec::new();
    for (direction, turn) in turns {
        // Turns of one side that follow each other are one chunk here.
        match whole.last_mut() {
            Some((last, joined)) if *last == direction => Vec::extend(joined, turn),
            Some(_) | None => whole.push((direction, turn)),
        }
    }
    for (direction, turn) in &whole {
        let mut rest = &turn[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + usize::from(input.byte() % 40)));
            pieces.push((*direction, piece.to_vec()));
            rest = after;
        }
    }
    let (exchanges, certain) = play(&whole);
    // Where the boundary of messages was lost, reading goes on where a segment begins, so there cuts matter.
    if certain {
        let (in_pieces, _) = play(&pieces);
        assert!(
            exchanges.len() == in_pieces.len() && exchanges.iter().zip(&in_pieces).all(|(a, b)| same(a, b)),
            "whole: {exchanges:#?}\nin pieces: {in_pieces:#?}"
        );
    }
}

/// Segments that come twice or out of order give what they give in order, without a gap.
pub fn disorder(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut ordered = Vec::new();
    let mut disordered = Vec::new();
    let mut sent = [0u32; 2];
    let count = 1 + usize::from(input.byte() % 4);
    for number in 0..count {
        let body = "b".repeat(usize::from(input.byte() % 100));
        let turns = [
            (
                Direction::ToServer,
                format!("POST /{number} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            ),
            (
                Direction::ToClient,
                format!("HTTP/1.1 20{number} OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            ),
        ];
        for (direction, turn) in turns {
            let mut pieces = Vec::new();
            let mut rest = turn.as_bytes();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(1 + usize::from(input.byte() % 60)));
                pieces.push((direction, sent, piece.to_vec()));
                sent[usize::from(direction == Direction::ToClient)] += piece.len() as u32;
                rest = after;
            }
            ordered.extend(pieces.iter().cloned());
            // Pieces change places, and some come once more; the last one stays where it acknowledges the turn.
            for _ in 0..input.byte() % 16 {
                let [one, other] = [input.byte(), input.byte()].map(|at| usize::from(at) % pieces.len());
                if input.byte() & 1 == 0 {
                    pieces.swap(one, other);
                } else {
                    let again = pieces[one].clone();
                    pieces.insert(other, again);
                }
            }
            disordered.extend(pieces);
        }
    }
    let (exchanges, gaps) = deliver(&ordered);
    assert_eq!((exchanges.len(), gaps), (count, 0));
    let (again, gaps) = deliver(&disordered);
    assert_eq!((again.len(), gaps), (count, 0));
    assert!(exchanges.iter().zip(&again).all(|(a, b)| same(a, b)), "{exchanges:#?}\ndisordered: {again:#?}");
}

/// Segments as direction, offsets of both directions and payload, on a flow whose handshake is seen. Gives the
/// exchanges, and how many gaps there were.
fn deliver(segments: &[(Direction, [u32; 2], Vec<u8>)]) -> (Vec<Exchange>, u64) {
    let mut flows: FlowTable<Connection> = FlowTable::new(StreamLimits::default());
    let mut http = HttpContext::new(HttpLimits::default());
    // Both numbers wrap on the way.
    let first = [Seq(u32::MAX - 70), Seq(u32::MAX - 90)];
    let handshake = [(Direction::ToServer, false), (Direction::ToClient, true)];
    let handshake =
        handshake.map(|(direction, acknowledges)| (direction, true, acknowledges, [0, 0], &[][..]));
    let all =
        segments.iter().map(|(direction, sent, payload)| (*direction, false, true, *sent, &payload[..]));
    for (direction, syn, acknowledges, sent, payload) in handshake.into_iter().chain(all) {
        let numbers = [0, 1].map(|side: usize| first[side].plus(sent[side] + u32::from(!syn)));
        let (source, destination, seq, ack) = match direction {
            Direction::ToServer => (end(4_000), end(80), numbers[0], numbers[1]),
            Direction::ToClient => (end(80), end(4_000), numbers[1], numbers[0].plus(u32::from(syn))),
        };
        let segment = Segment {
            captured_at: Timestamp(1),
            source,
            destination,
            scope: 0,
            network: 0,
            window: 0,
            window_scale: None,
            direction: Some(direction),
            seq,
            ack: acknowledges.then_some(ack),
            flags: TcpFlags { syn, fin: false, rst: false },
            payload,
            wire_payload_bytes: payload.len() as u32,
            checksum: Checksum::Unjudged,
            ends_packet: true,
        };
        let used = flows
            .accept(&segment, &mut |connection: &mut Connection, event| connection.read(event, &mut http));
        assert_eq!(used, Ok(()));
    }
    let gaps = flows.tally().gaps;
    assert_eq!(flows.waiting_bytes(), 0);
    flows.finish(&mut |connection, event| connection.read(event, &mut http));
    assert_eq!(http.kept_bytes(), 0);
    (http.exchanges, gaps)
}

/// Reads a conversation on a flow whose opening was seen. Gives the exchanges, and whether the boundaries of all
/// messages were known.
fn play(turns: &[(Direction, Vec<u8>)]) -> (Vec<Exchange>, bool) {
    let mut sent = [0u64; 2];
    let flow = Flow { key: FlowKey { client: end(4_000), server: end(80), scope: 0 }, opened: Timestamp(1) };
    let mut http = HttpContext::new(HttpLimits::default());
    let mut connection = Connection::from(Opened { flow, mid_stream: false });
    for (direction, turn) in turns {
        let [to_server, to_client] = &mut sent;
        let (offset, acknowledged) = match direction {
            Direction::ToServer => (to_server, *to_client),
            Direction::ToClient => (to_client, *to_server),
        };
        let chunk = Chunk::Bytes(turn);
        let event =
            StreamEvent { direction: *direction, offset: *offset, acknowledged, at: Timestamp(1), chunk };
        *offset += turn.len() as u64;
        if connection.read(event, &mut http) == Interest::Forget {
            break;
        }
    }
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (acknowledged, at, chunk) = (0, Timestamp(1), Chunk::Abort);
        connection.read(StreamEvent { direction, offset: 0, acknowledged, at, chunk }, &mut http);
    }
    assert_eq!(http.kept_bytes(), 0);
    let certain = http.tally.boundaries_lost == 0 && http.tally.orphans == 0;
    (http.exchanges, certain)
}

/// True when both say the same in everything that does not depend on where segments end.
fn same(one: &Exchange, other: &Exchange) -> bool {
    let Exchange { id, flow: _, request, response, interim, times: _, marks } = one;
    let same_response = match (response, &other.response) {
        (Some(one), Some(other)) => {
            (one.status, one.version) == (other.status, other.version)
                && one.headers == other.headers
                && one.trailers == other.trailers
                && same_body(&one.body, &other.body)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    same_response
        && *id == other.id
        && *interim == other.interim
        && *marks == other.marks
        && (&request.method, &request.target, request.version)
            == (&other.request.method, &other.request.target, other.request.version)
        && request.headers == other.request.headers
        && request.trailers == other.request.trailers
        && same_body(&request.body, &other.request.body)
}

fn same_body(one: &Body, other: &Body) -> bool {
    (one.bytes, one.complete, &one.kept, one.digest)
        == (other.bytes, other.complete, &other.kept, other.digest)
}

/// Counts the finished exchanges and lets go of them.
fn drain(http: &mut HttpContext) -> u64 {
    http.exchanges
        .drain(..)
        .map(|exchange| {
            let Exchange { id: _, flow: _, request, response, interim, times: _, marks } = &exchange;
            let bodies = || [Some(&request.body), response.as_ref().map(|response| &response.body)];
            // A body that is called complete has all its bytes, or the hash of them; one that is not has its reason.
            let reasons = [Mark::Gap, Mark::Truncated, Mark::Ambiguous];
            for body in bodies().into_iter().flatten() {
                let known = body.kept.len() as u64 == body.bytes || body.digest.is_some();
                assert!(!body.complete || known, "{exchange:#?}");
                assert!(body.complete || reasons.iter().any(|reason| marks.has(*reason)), "{exchange:#?}");
            }
            assert_eq!(response.is_none(), marks.has(Mark::NoResponse), "{exchange:#?}");
            assert!(interim.len() <= 2);
        })
        .count() as u64
}

fn end(port: u16) -> Endpoint {
    Endpoint { addr: [0; 16], port }
}

// === impl Input ===

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// Adds `count` pieces, and now and then a byte of its own.
    fn pieces(&mut self, count: u8, to: &mut Vec<u8>) {
        for _ in 0..count {
            let choice = self.byte();
            match PIECES.get(usize::from(choice % 32)) {
                Some(piece) => to.extend_from_slice(piece.as_bytes()),
                None => to.push(self.byte()),
            }
        }
    }
}
