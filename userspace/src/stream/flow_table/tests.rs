//! Segments through the table, and what each flow's reader is told.
//!
//! The reader here writes down what it hears.

use std::time::Duration;

use super::*;
use crate::model::{Checksum, Chunk, Endpoint, Sender, Seq, TcpFlags};

/// A reader that writes down what it hears: `>abc` to the server, `<abc` to the client.
#[derive(Debug)]
struct Log;

impl From<Opened> for Log {
    fn from(_: Opened) -> Self {
        Log
    }
}

/// `C` begins what a client says, `S` what a server does; more than three bytes are needed.
impl StreamReader for Log {
    fn sender(first: &[u8]) -> Sender {
        match first {
            [b'C', ..] if first.len() > 3 => Sender::Client,
            [b'S', ..] if first.len() > 3 => Sender::Server,
            [b'C' | b'S', ..] => Sender::Unsure,
            _ => Sender::Neither,
        }
    }
}

struct Table {
    table: FlowTable<Log>,
    heard: String,
    now: Timestamp,
}

fn end(port: u16) -> Endpoint {
    Endpoint { addr: [0; 16], port }
}

fn segment(
    direction: Direction,
    port: u16,
    seq: u32,
    ack: u32,
    flags: &str,
    payload: &'static str,
) -> Segment<'static> {
    let (source, destination) = match direction {
        Direction::ToServer => (end(port), end(80)),
        Direction::ToClient => (end(80), end(port)),
    };
    Segment {
        captured_at: Timestamp::default(),
        source,
        destination,
        scope: 0,
        network: 0,
        window: 0,
        window_scale: None,
        direction: Some(direction),
        seq: Seq(seq),
        ack: (ack != 0).then_some(Seq(ack)),
        flags: TcpFlags { syn: flags.contains('S'), fin: flags.contains('F'), rst: flags.contains('R') },
        payload: payload.as_bytes(),
        wire_payload_bytes: payload.len() as u32,
        checksum: Checksum::Unjudged,
        ends_packet: true,
    }
}

fn up(seq: u32, ack: u32, flags: &str, payload: &'static str) -> Segment<'static> {
    segment(Direction::ToServer, 4000, seq, ack, flags, payload)
}

fn down(seq: u32, ack: u32, flags: &str, payload: &'static str) -> Segment<'static> {
    segment(Direction::ToClient, 4000, seq, ack, flags, payload)
}

impl Table {
    fn new(limits: StreamLimits) -> Self {
        Self { table: FlowTable::new(limits), heard: String::new(), now: Timestamp(1) }
    }

    fn write(heard: &mut String, event: StreamEvent<'_>) -> Interest {
        *heard += if event.direction == Direction::ToServer { ">" } else { "<" };
        match event.chunk {
            Chunk::Bytes(bytes) => *heard += &String::from_utf8_lossy(bytes),
            Chunk::Gap { bytes } => *heard += &format!("[{bytes}]"),
            Chunk::End => *heard += "end",
            Chunk::Again(_) => {}
            Chunk::Disputed { bytes } => *heard += &format!("{{{bytes}}}"),
            Chunk::Abort => *heard += "abort",
        }
        *heard += " ";
        if event.chunk == Chunk::Bytes(b"forget") { Interest::Forget } else { Interest::Keep }
    }

    fn accept(&mut self, mut segment: Segment<'_>) -> Result<(), Unused> {
        self.now = self.now.after(Duration::from_millis(1));
        segment.captured_at = self.now;
        let Self { table, heard, now: _ } = self;
        table.accept(&segment, &mut |_, event| Self::write(heard, event))
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        let Self { table, heard, now } = self;
        table.tick(*now, &mut |_, event| Self::write(heard, event));
    }
}

#[track_caller]
fn check(segments: &[Segment<'_>], heard: &str) {
    let mut table = Table::new(StreamLimits::default());
    for segment in segments {
        let _unused = table.accept(*segment);
    }
    assert_eq!(table.heard.trim(), heard);
    assert_eq!(table.table.waiting_bytes(), 0);
}

#[test]
fn a_whole_connection() {
    check(
        &[
            up(9, 0, "S", ""),
            down(99, 10, "S", ""),
            up(10, 100, "", "abc"),
            down(100, 13, "", "de"),
            down(102, 13, "F", "f"),
            up(13, 104, "F", ""),
        ],
        ">abc <de <f <end >end",
    );
}

#[test]
fn fin_before_its_data_waits() {
    check(&[up(9, 0, "S", ""), up(13, 0, "F", "de"), up(10, 0, "", "abc")], ">abc >de >end");
}

#[test]
fn an_acknowledgement_proves_a_gap() {
    check(
        &[up(9, 0, "S", ""), down(99, 10, "S", ""), up(13, 100, "", "def"), down(100, 16, "", "x")],
        ">[3] >def <x",
    );
}

#[test]
fn late_data_before_the_acknowledgement_is_no_gap() {
    check(
        &[up(9, 0, "S", ""), up(13, 100, "", "def"), up(10, 100, "", "abc"), down(100, 16, "", "x")],
        ">abc >def <x",
    );
}

#[test]
fn reset_brings_out_what_waits() {
    check(&[up(9, 0, "S", ""), up(13, 0, "", "d"), up(14, 0, "R", "")], ">[3] >d >abort <abort");
}

#[test]
fn a_reset_from_elsewhere_is_ignored() {
    check(&[up(9, 0, "S", ""), up(2_000_000_000, 0, "R", ""), up(10, 0, "", "a")], ">a");
}

#[test]
fn a_port_used_again_is_a_new_flow() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [
        up(9, 0, "S", ""),
        up(10, 0, "", "old"),
        up(9, 0, "S", ""),
        up(500, 0, "S", ""),
        up(501, 0, "", "new"),
    ] {
        table.accept(segment).unwrap();
    }
    assert_eq!(table.heard.trim(), ">old >abort <abort >new");
    assert_eq!((table.table.tally().flows, table.table.flows()), (2, 1));
}

fn within(network: u32, segment: Segment<'static>) -> Segment<'static> {
    Segment { network, ..segment }
}

#[test]
fn the_same_ends_in_another_network_are_another_flow() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [
        within(5, up(100, 0, "S", "")),
        within(6, up(70_000, 0, "S", "")),
        within(5, down(400, 101, "S", "")),
        within(6, down(80_000, 70_001, "S", "")),
        within(5, up(101, 401, "", "a")),
        within(6, up(70_001, 80_001, "", "b")),
        within(6, down(80_001, 70_002, "", "B")),
        within(5, down(401, 102, "", "A")),
        within(6, up(70_002, 80_002, "", "c")),
    ] {
        table.accept(segment).unwrap();
    }
    assert_eq!(table.heard.trim(), ">a >b <B <A >c");
    let tally = table.table.tally();
    assert_eq!((tally.flows, tally.flows_divided, tally.gaps, table.table.flows()), (2, 1, 0, 2));
}

#[test]
fn a_network_that_is_met_second_goes_on_without_the_first() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [
        within(5, up(100, 0, "S", "")),
        within(6, up(70_000, 0, "S", "")),
        within(5, down(400, 101, "S", "")),
        within(6, down(80_000, 70_001, "S", "")),
        within(5, up(101, 401, "R", "")),
    ] {
        table.accept(segment).unwrap();
    }
    table.wait(Duration::from_secs(6));
    assert_eq!(table.table.flows(), 1);
    table.accept(within(6, up(70_001, 80_001, "", "b"))).unwrap();
    table.accept(within(5, up(900, 0, "S", ""))).unwrap();
    table.accept(within(5, up(901, 0, "", "new"))).unwrap();
    assert_eq!(table.heard.trim(), ">abort <abort >b >new");
    assert_eq!((table.table.tally().flows, table.table.flows()), (3, 2));
}

#[test]
fn one_connection_may_pass_through_several_networks() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [
        within(5, up(100, 0, "S", "")),
        within(7, up(100, 0, "S", "")),
        within(0, down(400, 101, "S", "")),
        within(5, up(101, 401, "", "a")),
        within(7, up(101, 401, "", "a")),
        within(0, down(401, 102, "", "A")),
        within(7, up(102, 402, "", "b")),
    ] {
        table.accept(segment).unwrap();
    }
    assert_eq!(table.heard.trim(), ">a <A >b");
    assert_eq!((table.table.tally().flows, table.table.tally().flows_divided), (1, 0));
}

#[test]
fn bytes_beyond_the_window_do_not_win() {
    let segments = |scale: Option<u8>| {
        let opening = |segment| Segment { window: 10, window_scale: scale, ..segment };
        [
            opening(up(9, 0, "S", "")),
            opening(down(99, 10, "S", "")),
            up(40, 100, "", "XX"),
            up(10, 100, "", "0123456789"),
            up(20, 100, "", "0123456789"),
            up(30, 100, "", "01234567890123"),
        ]
    };
    check(&segments(None), ">0123456789 >0123456789 >0123456789 >{4} >0123");
    check(&segments(Some(4)), ">0123456789 >0123456789 >0123456789 >{2} >XX >23");
}

#[test]
fn an_ended_flow_absorbs_late_packets_and_is_then_forgotten() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [up(9, 0, "S", ""), up(10, 0, "F", "a"), down(99, 12, "SF", "")] {
        table.accept(segment).unwrap();
    }
    assert_eq!(table.accept(up(10, 0, "F", "a")), Err(Unused::FlowEnded));
    table.wait(Duration::from_secs(6));
    assert_eq!(table.table.flows(), 0);
    assert_eq!(table.accept(up(11, 0, "", "")), Err(Unused::NoFlow));
}

#[test]
fn a_flow_that_nobody_wants_is_named_once() {
    let mut table = Table::new(StreamLimits::default());
    table.accept(up(10, 0, "", "forget")).unwrap();
    assert_eq!(table.accept(up(16, 0, "", "more")), Err(Unused::FlowNotHttp));
    assert_eq!(table.table.take_forgotten().len(), 1);
    assert_eq!(table.table.take_forgotten().len(), 0);
    table.accept(up(900, 0, "S", "")).unwrap();
    table.accept(up(901, 0, "", "again")).unwrap();
    assert_eq!(table.heard.trim(), ">forget >again");
}

#[test]
fn time_gives_up_what_nobody_acknowledged() {
    let mut table =
        Table::new(StreamLimits { gap_wait_max: Duration::from_millis(500), ..StreamLimits::default() });
    table.accept(up(9, 0, "S", "")).unwrap();
    table.accept(up(13, 0, "", "d")).unwrap();
    table.wait(Duration::from_millis(400));
    assert_eq!(table.heard, "");
    table.wait(Duration::from_millis(200));
    assert_eq!(table.heard.trim(), ">[3] >d");
    assert_eq!((table.table.tally().gaps_at_timeout, table.table.waiting_bytes()), (1, 0));
    table.wait(Duration::from_secs(301));
    assert_eq!(table.heard.trim(), ">[3] >d >abort <abort");
    assert_eq!(table.table.flows(), 0);
}

#[test]
fn short_flows_with_a_gap_leave_no_trace() {
    let mut table = Table::new(StreamLimits { flows_max: 2, ..StreamLimits::default() });
    for port in 1..1_000 {
        table.accept(segment(Direction::ToServer, port, 9, 0, "S", "")).unwrap();
        table.accept(segment(Direction::ToServer, port, 13, 0, "", "d")).unwrap();
        assert!(table.table.waits.len() <= 4 * 2, "{} wait", table.table.waits.len());
    }
}

#[test]
fn a_full_table_drops_the_idlest_flow() {
    let mut table = Table::new(StreamLimits { flows_max: 3, ..StreamLimits::default() });
    for port in [1, 2, 3, 1, 4] {
        table.accept(segment(Direction::ToServer, port, 9, 0, "S", "")).unwrap();
    }
    assert_eq!(table.table.flows(), 3);
    assert_eq!(table.table.tally().flows_evicted, 1);
    let known = |port| table.table.by_key.keys().any(|key| key.client.port == port);
    assert_eq!([known(1), known(2), known(3), known(4)], [true, false, true, true]);
}

#[test]
fn waiting_bytes_of_all_flows_are_bounded() {
    let mut table = Table::new(StreamLimits { waiting_bytes_max: 300, ..StreamLimits::default() });
    for port in 1..50 {
        table.accept(segment(Direction::ToServer, port, 9, 0, "S", "")).unwrap();
        table.accept(segment(Direction::ToServer, port, 20, 0, "", "abcd")).unwrap();
        assert!(table.table.waiting_bytes() <= 300);
    }
    table.wait(Duration::from_secs(61));
    assert_eq!(table.table.waiting_bytes(), 0);
}

#[test]
fn an_acknowledged_fin_proves_a_lost_tail() {
    check(
        &[
            up(9, 0, "S", ""),
            down(99, 10, "S", ""),
            up(10, 100, "", "ab"),
            up(14, 100, "F", ""),
            down(100, 15, "", "x"),
        ],
        ">ab >[2] >end <x",
    );
}

#[test]
fn time_gives_up_a_lost_tail() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [up(9, 0, "S", ""), up(10, 0, "", "ab"), up(14, 0, "F", "")] {
        table.accept(segment).unwrap();
    }
    table.wait(Duration::from_secs(61));
    assert_eq!(table.heard.trim(), ">ab >[2] >end");
}

#[test]
fn a_bogus_fin_does_not_hide_the_true_one() {
    check(&[up(9, 0, "S", ""), up(500, 0, "F", ""), up(10, 0, "", "ab"), up(12, 0, "F", "")], ">ab >end");
    check(
        &[up(9, 0, "S", ""), up(12, 0, "", "c"), up(10, 0, "F", ""), up(10, 0, "", "ab"), up(13, 0, "F", "")],
        ">ab >c >end",
    );
}

#[test]
fn a_reset_before_what_was_acknowledged_is_ignored() {
    let open = [up(9, 0, "S", ""), down(99, 10, "S", ""), up(10, 100, "", "abc"), down(100, 13, "", "x")];
    check(&[&open[..], &[up(11, 0, "R", ""), up(13, 101, "", "d")]].concat(), ">abc <x >d");
    check(&[&open[..], &[up(13, 0, "R", "")]].concat(), ">abc <x >abort <abort");
}

#[test]
fn a_client_whose_last_fin_is_never_seen_does_not_linger() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [
        up(9, 0, "S", ""),
        down(99, 10, "S", ""),
        up(10, 100, "", "a"),
        down(100, 11, "F", "b"),
        up(11, 102, "", "c"),
    ] {
        table.accept(segment).unwrap();
    }
    table.wait(Duration::from_secs(6));
    assert_eq!(table.heard.trim(), ">a <b <end >c >abort");
    assert_eq!((table.table.flows(), table.table.tally().flows_idle), (0, 0));
}

#[test]
fn a_server_that_has_closed_makes_room_before_an_open_flow() {
    let mut table = Table::new(StreamLimits { flows_max: 2, ..StreamLimits::default() });
    for segment in [
        segment(Direction::ToServer, 1, 9, 0, "S", ""),
        segment(Direction::ToServer, 2, 9, 0, "S", ""),
        segment(Direction::ToClient, 2, 9, 10, "SF", ""),
        segment(Direction::ToServer, 3, 9, 0, "S", ""),
    ] {
        table.accept(segment).unwrap();
    }
    assert_eq!((table.table.flows(), table.table.tally().flows_evicted), (2, 0));
    assert_eq!(table.heard.trim(), "<end >abort");
}

#[test]
fn lasting_disorder_is_no_loss() {
    let limits = StreamLimits { gap_wait_max: Duration::from_millis(500), ..StreamLimits::default() };
    let mut table = Table::new(limits);
    table.accept(up(9, 0, "S", "")).unwrap();
    table.accept(up(11, 0, "", "b")).unwrap();
    for step in 0..20 {
        table.accept(up(13 + 2 * step, 0, "", "b")).unwrap();
        table.wait(Duration::from_millis(100));
        table.accept(up(10 + 2 * step, 0, "", "a")).unwrap();
    }
    assert_eq!((table.table.tally().gaps, table.heard.matches('a').count()), (0, 20));
}

#[test]
fn a_flow_that_nobody_wants_stays_unwanted_while_packets_come() {
    let mut table = Table::new(StreamLimits::default());
    table.accept(up(10, 0, "", "forget")).unwrap();
    for _ in 0..10 {
        table.wait(Duration::from_secs(200));
        assert_eq!(table.accept(up(16, 0, "", "more")), Err(Unused::FlowNotHttp));
    }
    assert_eq!(table.heard.trim(), ">forget");
}

#[test]
fn small_pieces_count_for_what_they_cost() {
    let mut table = Table::new(StreamLimits { waiting_bytes_max: 4_000, ..StreamLimits::default() });
    table.accept(up(9, 0, "S", "")).unwrap();
    for step in 0..200 {
        table.accept(up(20 + 2 * step, 0, "", "x")).unwrap();
        assert!(table.table.waiting_bytes() <= 4_000);
    }
    assert!(table.table.tally().gaps_at_bound > 100);
    table.table.finish(&mut |_, _| Interest::Keep);
    assert_eq!((table.table.waiting_bytes(), table.table.flows()), (0, 0));
}

/// Without the source's word which end is the server.
fn either<'a>(segment: Segment<'a>) -> Segment<'a> {
    Segment { direction: None, ..segment }
}

#[track_caller]
fn check_undecided(segments: &[Segment<'_>], heard: &str, client_port: Option<u16>) {
    let mut table = Table::new(StreamLimits::default());
    for segment in segments {
        let _unused = table.accept(either(*segment));
    }
    assert_eq!(table.heard.trim(), heard);
    assert_eq!(table.table.waiting_bytes(), 0, "nothing is held back");
    let clients: Vec<u16> = table.table.by_key.keys().map(|key| key.client.port).collect();
    assert_eq!(clients.first().copied(), client_port);
    table.table.finish(&mut |_, _| Interest::Keep);
    assert_eq!((table.table.flows(), table.table.waiting_bytes()), (0, 0));
}

#[test]
fn the_handshake_says_which_end_is_the_server() {
    check_undecided(&[up(9, 0, "S", ""), down(99, 10, "S", ""), down(100, 10, "", "x")], "<x", Some(4000));
    check_undecided(&[down(99, 10, "S", ""), up(10, 100, "", "a")], ">a", Some(4000));
}

#[test]
fn content_says_which_end_is_the_server() {
    check_undecided(&[up(10, 100, "", "Cabc")], ">Cabc", Some(4000));
    check_undecided(&[down(100, 10, "", "Sabc"), up(10, 104, "", "x")], "<Sabc >x", Some(4000));
    check_undecided(
        &[up(10, 100, "", "Ca"), down(100, 12, "", "S"), up(12, 101, "", "bc"), down(101, 14, "F", "x")],
        ">Ca <S >bc <x <end",
        Some(4000),
    );
}

#[test]
fn the_rest_of_a_message_says_nothing() {
    // What was joined inside of a message is not kept, and the offsets behind it count it.
    check_undecided(
        &[down(100, 10, "", "tail"), down(104, 10, "", "more"), up(10, 108, "", "Cabc")],
        "<tail >Cabc",
        Some(4000),
    );
}

#[test]
fn a_flow_that_says_nothing_is_forgotten() {
    let mut table = Table::new(StreamLimits::default());
    table.accept(either(up(10, 100, "", "abc"))).unwrap();
    table.accept(either(down(100, 13, "", "def"))).unwrap();
    assert_eq!(table.accept(either(up(13, 103, "", "Cabc"))), Err(Unused::FlowNotHttp));
    assert_eq!((table.table.tally().flows_undecided, table.table.waiting_bytes()), (1, 0));
    assert_eq!(table.table.take_forgotten().len(), 1);
}

#[test]
fn a_flow_that_does_not_decide_itself_is_bounded() {
    let limits = StreamLimits { undecided_bytes_max: 2_000, ..StreamLimits::default() };
    let mut table = Table::new(limits);
    let mut step = 0;
    table.accept(either(up(10, 100, "", "C"))).unwrap();
    while table.table.tally().flows_undecided == 0 {
        step += 1;
        let _unused = table.accept(either(down(100 + step, 11, "", if step == 1 { "S" } else { "" })));
        let _unused = table.accept(either(up(13 + 2 * step, 100, "", "x")));
        assert!(step < 2_000 && table.table.waiting_bytes() <= 200_000);
        table.wait(Duration::from_secs(61));
    }
    table.table.finish(&mut |_, _| Interest::Keep);
    assert_eq!(table.table.waiting_bytes(), 0);
}

#[test]
fn after_a_simultaneous_open_content_says_which_end_is_the_server() {
    // RFC 9293 section 3.5: both ends send SYN, then both acknowledge.
    let opened = [down(99, 0, "S", ""), up(9, 0, "S", ""), down(99, 10, "S", ""), up(9, 100, "S", "")];
    check_undecided(&[&opened[..], &[up(10, 100, "", "Cabc")]].concat(), ">Cabc", Some(4000));
    check_undecided(&[&opened[..], &[down(100, 10, "", "Sabc")]].concat(), "<Sabc", Some(4000));
    check(&[&opened[..], &[up(10, 100, "", "abc")]].concat(), ">abc");
}

#[test]
fn bytes_that_wait_survive_the_naming_of_the_ends() {
    let mut table = Table::new(StreamLimits::default());
    for segment in [down(100, 10, "", "Sab"), down(105, 10, "", "f"), down(103, 10, "", "cd")] {
        table.accept(either(segment)).unwrap();
    }
    assert_eq!(table.heard.trim(), "<Sab <cd <f");
    let mut table = Table::new(StreamLimits::default());
    table.accept(either(down(100, 10, "", "Sab"))).unwrap();
    table.accept(either(down(105, 10, "", "f"))).unwrap();
    table.accept(either(up(10, 100, "", "Cabc"))).unwrap();
    table.wait(Duration::from_secs(61));
    assert_eq!(table.heard.trim(), "<Sab >Cabc <[2] <f");
}

#[test]
fn a_syn_that_nobody_confirms_ends_nothing() {
    // RFC 5961 section 4: the server answers with an acknowledgement of the old connection.
    check(
        &[
            up(9, 0, "S", ""),
            down(99, 10, "S", ""),
            up(10, 100, "", "ab"),
            up(5_000, 0, "S", ""),
            down(100, 12, "", ""),
            up(5_001, 0, "", "forged"),
            down(100, 12, "", "x"),
            up(12, 101, "", "c"),
        ],
        ">ab <x >c",
    );
}

#[test]
fn a_syn_that_the_server_confirms_is_a_new_flow() {
    let again = [up(5_000, 0, "S", ""), down(7_000, 5_001, "S", ""), up(5_001, 7_001, "", "new")];
    check(
        &[&[up(9, 0, "S", ""), down(99, 10, "S", ""), up(10, 100, "", "ab")][..], &again].concat(),
        ">ab >abort <abort >new",
    );
    // The SYN was not captured: its answer stands for it once the client has acknowledged that.
    check(
        &[&[up(9, 0, "S", ""), down(99, 10, "S", ""), up(10, 100, "", "ab")][..], &again[1..]].concat(),
        ">ab >abort <abort >new",
    );
    // The answer was not captured.
    check(
        &[up(9, 0, "S", ""), down(99, 10, "S", ""), up(5_000, 0, "S", ""), up(5_001, 7_001, "", "new")],
        ">abort <abort >new",
    );
}

#[test]
fn a_forged_acknowledgement_does_not_say_where_a_direction_begins() {
    check(
        &[up(9, 0, "S", ""), up(10, 3_000_000_000, "", "ab"), down(99, 10, "S", ""), down(100, 12, "", "x")],
        ">ab <x",
    );
    check(&[up(10, 3_000_000_000, "", "ab"), down(100, 12, "", "x")], ">ab <x");
}

#[test]
fn a_segment_from_elsewhere_acknowledges_nothing() {
    check(
        &[
            up(9, 0, "S", ""),
            down(99, 10, "S", ""),
            up(13, 100, "", "d"),
            down(2_000_000_000, 14, "", ""),
            up(10, 100, "", "abc"),
        ],
        ">abc >d",
    );
}
