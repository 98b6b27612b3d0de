//! What waits for the other direction, and conversations captured in any order against the same ones in the order in
//! which they took place.
//!
//! Loses nothing but where a test says so.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{FlowTable, StreamLimits, StreamTally};
use crate::http::{Connection, HttpContext, HttpLimits};
use crate::model::{
    Checksum, Chunk, Direction, Endpoint, Interest, Opened, Segment, Sender, Seq, StreamEvent, StreamReader,
    TcpFlags, Timestamp,
};

/// A reader that keeps nothing.
#[derive(Debug)]
struct Silent;

impl From<Opened> for Silent {
    fn from(_: Opened) -> Self {
        Silent
    }
}

impl StreamReader for Silent {
    fn sender(_: &[u8]) -> Sender {
        Sender::Neither
    }
}

/// A segment by offsets: bytes from `at` on, sent when the other direction was received up to `acknowledged`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    direction: Direction,
    at: u32,
    acknowledged: u32,
    bytes: Vec<u8>,
    flags: TcpFlags,
}

const UP: Direction = Direction::ToServer;
const DOWN: Direction = Direction::ToClient;
const NONE: TcpFlags = TcpFlags { syn: false, fin: false, rst: false };
const FIN: TcpFlags = TcpFlags { fin: true, ..NONE };
const RST: TcpFlags = TcpFlags { rst: true, ..NONE };

fn sent(direction: Direction, at: u32, acknowledged: u32, bytes: &str, flags: TcpFlags) -> Sent {
    Sent { direction, at, acknowledged, bytes: bytes.as_bytes().to_vec(), flags }
}

/// As a segment; the numbers of both directions wrap soon.
fn segment(sent: &Sent, captured_at: Timestamp) -> Segment<'_> {
    let (client, server) = (Endpoint { addr: [1; 16], port: 4_000 }, Endpoint { addr: [2; 16], port: 80 });
    let first = [Seq(u32::MAX - 70), Seq(u32::MAX - 90)];
    let (source, destination, own, other) = match sent.direction {
        Direction::ToServer => (client, server, first[0], first[1]),
        Direction::ToClient => (server, client, first[1], first[0]),
    };
    let opens = sent.flags.syn;
    Segment {
        captured_at,
        source,
        destination,
        scope: 0,
        network: 0,
        window: 0,
        window_scale: None,
        direction: Some(sent.direction),
        seq: if opens { own } else { own.plus(1 + sent.at) },
        ack: (!opens || sent.direction == DOWN).then_some(other.plus(1 + sent.acknowledged)),
        flags: sent.flags,
        payload: &sent.bytes,
        wire_payload_bytes: sent.bytes.len() as u32,
        checksum: Checksum::Unjudged,
        ends_packet: true,
    }
}

fn handshake() -> [Sent; 2] {
    [UP, DOWN].map(|direction| sent(direction, 0, 0, "", TcpFlags { syn: true, ..NONE }))
}

struct Table {
    table: FlowTable<Silent>,
    heard: String,
    now: Timestamp,
}

// === impl Table ===

impl Table {
    fn new(limits: StreamLimits) -> Self {
        let mut new = Self { table: FlowTable::new(limits), heard: String::new(), now: Timestamp(1) };
        for syn in handshake() {
            new.accept(&syn);
        }
        new
    }

    fn write(heard: &mut String, event: StreamEvent<'_>) -> Interest {
        *heard += if event.direction == UP { " >" } else { " <" };
        match event.chunk {
            Chunk::Bytes(bytes) => *heard += &String::from_utf8_lossy(bytes),
            Chunk::Gap { bytes } => *heard += &format!("[{bytes}]"),
            Chunk::End => *heard += "end",
            Chunk::Again(_) => {}
            Chunk::Disputed { bytes } => *heard += &format!("{{{bytes}}}"),
            Chunk::Abort => *heard += "abort",
        }
        Interest::Keep
    }

    fn accept(&mut self, sent: &Sent) {
        self.now = self.now.after(Duration::from_millis(1));
        let Self { table, heard, now } = self;
        table.accept(&segment(sent, *now), &mut |_, event| Self::write(heard, event)).unwrap();
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        let Self { table, heard, now } = self;
        table.tick(*now, &mut |_, event| Self::write(heard, event));
    }

    fn finish(&mut self) {
        let Self { table, heard, now: _ } = self;
        table.finish(&mut |_, event| Self::write(heard, event));
        assert_eq!(table.waiting_bytes(), 0);
    }
}

/// What is heard while segments come, and then, when the flow is over.
#[track_caller]
fn check(segments: &[Sent], while_they_come: &str, at_the_end: &str) -> StreamTally {
    let mut table = Table::new(StreamLimits::default());
    for sent in segments {
        table.accept(sent);
    }
    assert_eq!(table.heard.trim(), while_they_come);
    table.heard.clear();
    table.finish();
    assert_eq!(table.heard.trim(), at_the_end);
    table.table.tally()
}

#[test]
fn an_answer_waits_for_its_question() {
    check(&[sent(DOWN, 0, 3, "de", NONE), sent(UP, 0, 0, "abc", NONE)], ">abc <de", ">abort <abort");
    let in_part = [sent(DOWN, 0, 3, "de", NONE), sent(UP, 0, 0, "ab", NONE)];
    check(&in_part, ">ab", ">[1] <de >abort <abort");
}

#[test]
fn ends_and_resets_wait_for_what_they_acknowledge() {
    check(&[sent(DOWN, 0, 3, "d", FIN), sent(UP, 0, 0, "abc", NONE)], ">abc <d <end", ">abort");
    check(&[sent(DOWN, 0, 3, "", RST), sent(UP, 0, 0, "abc", NONE)], ">abc >abort <abort", "");
    // A reset behind bytes that wait.
    let behind = [sent(DOWN, 0, 3, "d", NONE), sent(DOWN, 1, 3, "", RST), sent(UP, 0, 0, "abc", NONE)];
    check(&behind, ">abc <d >abort <abort", "");
    // An acknowledged FIN counts one number that is no byte.
    let half_closed = [sent(UP, 0, 0, "abc", NONE), sent(DOWN, 0, 4, "d", NONE), sent(UP, 3, 0, "", FIN)];
    check(&half_closed, ">abc >end <d", "<abort");
}

#[test]
fn a_lost_question_holds_its_answer_until_more_is_known() {
    let lost = [sent(DOWN, 0, 3, "r1", NONE), sent(UP, 3, 2, "q2", NONE), sent(DOWN, 2, 5, "r2", NONE)];
    let tally = check(&lost, ">[3] <r1 >q2 <r2", ">abort <abort");
    assert_eq!((tally.gaps, tally.gaps_at_timeout, tally.gaps_at_bound), (1, 0, 0));
    let all_lost = [sent(DOWN, 0, 3, "r1", NONE), sent(DOWN, 2, 5, "r2", NONE)];
    assert_eq!(check(&all_lost, "", ">[3] <r1 >[2] <r2 >abort <abort").gaps_at_end, 2);
}

#[test]
fn time_gives_up_a_question_that_never_came() {
    for flags in [NONE, FIN, RST] {
        let mut table = Table::new(StreamLimits::default());
        table.accept(&sent(DOWN, 0, 3, "", flags));
        table.accept(&sent(DOWN, 0, 3, if flags == NONE { "d" } else { "" }, flags));
        table.wait(Duration::from_secs(59));
        assert_eq!(table.heard, "");
        table.wait(Duration::from_secs(2));
        let told = if flags.rst {
            " >[3] >abort <abort"
        } else if flags.fin {
            " >[3] <end"
        } else {
            " >[3] <d"
        };
        assert_eq!(table.heard, told);
        table.wait(Duration::from_secs(61));
        assert_eq!(table.table.waiting_bytes(), 0);
    }
}

#[test]
fn a_direction_that_falls_silent_is_waited_for_once() {
    let mut table = Table::new(StreamLimits::default());
    table.accept(&sent(DOWN, 0, 3, "a", NONE));
    table.wait(Duration::from_secs(61));
    table.accept(&sent(DOWN, 1, 6, "b", NONE));
    assert_eq!(table.heard, " >[3] <a <b");
    // It speaks again.
    table.accept(&sent(UP, 6, 2, "xy", NONE));
    assert_eq!(table.heard, " >[3] <a <b >[3] >xy");
    table.accept(&sent(DOWN, 2, 11, "c", NONE));
    table.accept(&sent(UP, 8, 2, "zzz", NONE));
    assert_eq!(table.heard, " >[3] <a <b >[3] >xy >zzz <c");
}

#[test]
fn a_direction_that_is_not_captured_is_not_waited_for() {
    let mut table: FlowTable<Silent> = FlowTable::new(StreamLimits::default());
    let mut heard = String::new();
    for step in 0..3 {
        let bytes = sent(DOWN, step, 100 * step, "r", NONE);
        table
            .accept(&segment(&bytes, Timestamp(1)), &mut |_, event| Table::write(&mut heard, event))
            .unwrap();
    }
    assert_eq!((heard.trim(), table.waiting_bytes(), table.tally().gaps), ("<r <r <r", 0, 0));
}

#[test]
fn a_bound_gives_up_what_is_waited_for() {
    for (limits, pieces) in [
        (StreamLimits { flow_waiting_bytes_max: 4, ..StreamLimits::default() }, 3),
        (StreamLimits { flow_waiting_pieces_max: 4, ..StreamLimits::default() }, 5),
        (StreamLimits { waiting_bytes_max: 4 * 130 - 1, ..StreamLimits::default() }, 4),
    ] {
        let mut table = Table::new(limits);
        for step in 0..pieces {
            assert_eq!(table.heard, "", "before piece {step}");
            table.accept(&sent(DOWN, 2 * step, 3, "ab", NONE));
            assert!(table.table.waiting_bytes() <= limits.waiting_bytes_max);
        }
        assert_eq!(table.heard, format!(" >[3]{}", " <ab".repeat(pieces as usize)));
        assert_eq!((table.table.tally().gaps_at_bound, table.table.waiting_bytes()), (1, 0));
    }
}

#[test]
fn two_sides_that_wait_for_each_other_do_not_wait() {
    check(&[sent(UP, 0, 1, "older", NONE), sent(DOWN, 0, 5, "d", NONE)], ">older <d", ">abort <abort");
    // It acknowledges more than was ever sent, until its sender says something else.
    check(
        &[sent(DOWN, 0, 70_000, "forged", NONE), sent(DOWN, 6, 0, "g", NONE)],
        "<forged <g",
        ">abort <abort",
    );
}

#[test]
fn an_acknowledgement_from_far_away_is_none() {
    check(&[sent(DOWN, 0, 1 << 31, "d", NONE)], "", "<{1} <d >abort <abort");
    let two = [sent(DOWN, 0, 1 << 31, "forged", NONE), sent(DOWN, 0, 0, "d", NONE)];
    check(&two, "<{1} <d", "<{5} <orged >abort <abort");
}

/// A conversation in the order in which it takes place. Each choice is who acts, how much of what is on its way
/// reaches that side before, and how much that side says at most.
fn conversation(requests: usize, depth: usize, choices: &[(bool, usize, usize)]) -> Vec<Sent> {
    // Where each message ends.
    let mut said = [Vec::new(), Vec::new()];
    let mut ends = [Vec::new(), Vec::new()];
    for number in 0..requests {
        let body = "b".repeat(number * 7 % 20);
        let length = body.len();
        let messages = [
            format!("PUT /{number} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"),
            format!("HTTP/1.1 {} N\r\nContent-Length: {length}\r\n\r\n{body}", 200 + number),
        ];
        for (side, message) in messages.iter().enumerate() {
            said[side].extend_from_slice(message.as_bytes());
            ends[side].push(said[side].len());
        }
    }
    // What each side has sent, and received of the other one. FIN is one number more.
    let (mut sent, mut received) = ([0usize; 2], [0usize; 2]);
    let mut order = Vec::new();
    let rest = (0..).map(|turn| (turn % 2 == 0, usize::MAX, usize::MAX));
    for (is_server, reaches, length) in choices.iter().copied().chain(rest) {
        if sent == [said[0].len() + 1, said[1].len() + 1] {
            break;
        }
        let (side, other) = if is_server { (1, 0) } else { (0, 1) };
        received[side] = received[side].saturating_add(reaches).min(sent[other]);
        // A server has as many answers as it has received requests; a client asks on until `depth` are open.
        let known = ends[other].iter().filter(|end| **end <= received[side]).count();
        let messages = if is_server { known } else { requests.min(known + depth) };
        let until = if messages == 0 { 0 } else { ends[side][messages - 1] };
        let bytes =
            said[side][sent[side].min(until)..until].iter().copied().take(length).collect::<Vec<u8>>();
        let after = sent[side] + bytes.len();
        // The server ends after its last answer, and the client when it has heard that.
        let over = after == said[side].len() && (is_server || received[0] == said[1].len() + 1);
        let ends_now = over && sent[side] <= said[side].len();
        if bytes.is_empty() && !ends_now {
            continue;
        }
        order.push(Sent {
            direction: if is_server { DOWN } else { UP },
            at: sent[side] as u32,
            acknowledged: received[side] as u32,
            bytes,
            flags: TcpFlags { fin: ends_now, ..NONE },
        });
        sent[side] = after + usize::from(ends_now);
    }
    order
}

/// The twin's view: true when what was captured proves that bytes are lost, because later ones were captured and the
/// other side had received those before them.
fn shows_a_loss(order: &[Sent]) -> bool {
    let mut seen = [vec![false; 500], vec![false; 500]];
    let mut acknowledged = [0; 2];
    order.iter().any(|sent| {
        let side = usize::from(sent.direction == DOWN);
        let end = sent.at as usize + sent.bytes.len() + usize::from(sent.flags.fin);
        acknowledged[1 - side] = acknowledged[1 - side].max(sent.acknowledged as usize);
        // The acknowledgement counts before the bytes.
        let lost = |seen: &[Vec<bool>; 2]| {
            [0, 1].into_iter().any(|side| {
                let missing = seen[side].iter().position(|seen| !seen).unwrap();
                let later = (missing..500).find(|at| seen[side][*at]);
                later.is_some_and(|later| later <= acknowledged[side])
            })
        };
        let before = lost(&seen);
        seen[side][sent.at as usize..end].fill(true);
        before || lost(&seen)
    })
}

/// Reads a conversation. Gives the exchanges, and all that was said by each side.
fn read(order: &[Sent]) -> (Vec<String>, [Vec<u8>; 2], StreamTally) {
    let mut flows: FlowTable<Connection> = FlowTable::new(StreamLimits::default());
    let mut http = HttpContext::new(HttpLimits::default());
    let mut said = [Vec::new(), Vec::new()];
    let mut handed_on = [0; 2];
    let mut each = |connection: &mut Connection, event: StreamEvent<'_>| {
        let side = usize::from(event.direction == DOWN);
        match event.chunk {
            Chunk::Bytes(bytes) => {
                assert!(event.acknowledged <= handed_on[1 - side], "{event:?} comes before what it answers");
                said[side].extend_from_slice(bytes);
                handed_on[side] += bytes.len() as u64;
            }
            Chunk::End => {
                said[side].push(b'|');
                handed_on[side] += 1;
            }
            Chunk::Disputed { .. } | Chunk::Again(_) => {}
            Chunk::Gap { .. } | Chunk::Abort => said[side].push(b'!'),
        }
        connection.read(event, &mut http)
    };
    for sent in handshake().iter().chain(order) {
        let _ended = flows.accept(&segment(sent, Timestamp(1)), &mut each);
    }
    assert_eq!(flows.waiting_bytes(), 0);
    let tally = flows.tally();
    flows.finish(&mut each);
    // Whether an answer passed before the next request, which no acknowledgement orders, is what the capture says.
    let told = |exchange| format!("{exchange:?}").replace("marks: {\"pipelined\"}", "marks: {}");
    let exchanges = http.exchanges.iter().map(told).collect();
    (exchanges, said, tally)
}

proptest! {
    /// Segments change places, within a direction and across both, and some come twice. As long as that does not look
    /// like a loss, each side has said the same, nothing comes before what it answers, and the exchanges are the same.
    #[test]
    fn the_order_of_a_capture_changes_nothing(
        requests in 1usize..5,
        depth in 1usize..4,
        choices in prop::collection::vec((any::<bool>(), 0usize..80, 1usize..60), 0..60),
        moves in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4), 0..40),
    ) {
        let order = conversation(requests, depth, &choices);
        prop_assert!(!shows_a_loss(&order));
        let (exchanges, said, tally) = read(&order);
        prop_assert_eq!((exchanges.len(), tally.gaps), (requests, 0));
        let mut captured = order;
        for (from, to, again) in moves {
            let mut moved = captured.clone();
            let (from, to) = (from.index(moved.len()), to.index(moved.len()));
            let segment = if again == 0 { moved[from].clone() } else { moved.remove(from) };
            moved.insert(to, segment);
            if !shows_a_loss(&moved) {
                captured = moved;
            }
        }
        let (exchanges_again, said_again, tally) = read(&captured);
        prop_assert_eq!((tally.gaps, tally.conflicts), (0, 0));
        prop_assert_eq!(said_again, said);
        prop_assert_eq!(exchanges_again, exchanges);
    }
}
