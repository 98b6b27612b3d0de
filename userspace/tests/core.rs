//! What must hold whatever comes in: the bodies of the fuzz targets on random input, and whole conversations against
//! the plan that they were written from.
//!
//! Knows no expected output but that plan: see `traffic`, and `fuzz/src/lib.rs` for the targets.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use understudy::http::HttpLimits;
use understudy::pipeline::tee::Tee;
use understudy::stream::StreamLimits;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another package")]
mod targets;
mod traffic;

use traffic::{Connection, Framing, Plan, SEGMENT_BYTES, SERVER_PORT, Sent, Truth, by_id, is_whole, play};

/// A conversation: what is exchanged, how it is cut, and how many requests go out before their answers.
#[derive(Clone, Debug)]
struct Conversation {
    plans: Vec<Plan>,
    cuts: Vec<usize>,
    pipelined: usize,
}

/// The seeds of failures lie in the repository; where they are cannot be found out for a test outside `src`.
fn cases(cases: u32) -> ProptestConfig {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/core.txt");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(seeds)) as _);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let framing =
        || prop_oneof![Just(Framing::None), Just(Framing::Length), (1usize..200).prop_map(Framing::Chunked)];
    let plan = (framing(), 0usize..600, framing(), 0usize..600)
        .prop_map(|(one, bytes, other, more)| Plan { request: (one, bytes), response: (other, more) });
    let plans = prop::collection::vec(plan, 1..8);
    let cuts = prop::collection::vec(prop_oneof![1usize..20, 1usize..SEGMENT_BYTES], 1..40);
    (plans, cuts, 1usize..4).prop_map(|(plans, cuts, pipelined)| Conversation { plans, cuts, pipelined })
}

/// Where two neighbours of one direction, with no packet of the other between them, may change places, or where one
/// comes a second time.
fn places() -> impl Strategy<Value = Vec<(prop::sample::Index, usize)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 1usize..12), 0..30)
}

// === impl Conversation ===

impl Conversation {
    /// Its packets, and what must be read out of them.
    fn write(&self) -> (Vec<Sent>, Vec<Truth>) {
        let Self { plans, cuts, pipelined } = self;
        let truths: Vec<Truth> =
            plans.iter().enumerate().map(|(id, plan)| Truth::of(id as u64, plan)).collect();
        let mut sizes = cuts.iter().copied().cycle();
        let mut cut = || sizes.next().unwrap_or(1);
        let mut wire = Connection::new(7);
        wire.open();
        for turn in truths.chunks(*pipelined) {
            let requests: Vec<(u64, &[u8])> =
                turn.iter().map(|truth| (truth.id, &truth.request[..])).collect();
            let responses: Vec<(u64, &[u8])> =
                turn.iter().map(|truth| (truth.id, &truth.response[..])).collect();
            wire.send(true, &requests, &mut cut);
            wire.send(false, &responses, &mut cut);
        }
        wire.close();
        (wire.packets, truths)
    }
}

/// Every exchange is whole and is what was written, and the ledger balances.
#[track_caller]
fn check(packets: &[Sent], truths: &[Truth]) {
    let mut tee = Tee::new([SERVER_PORT], StreamLimits::default(), HttpLimits::default());
    let exchanges = by_id(play(&mut tee, packets.iter().map(|sent| &sent.bytes[..])));
    for truth in truths {
        let exchange = exchanges.get(&truth.id).expect("every exchange is reported");
        truth.check(exchange);
        assert!(is_whole(exchange), "{exchange:#?}");
    }
    let counts = tee.counts();
    let sent = truths.len() as u64;
    assert_eq!((exchanges.len() as u64, counts.http.exchanges), (sent, sent));
    assert_eq!((counts.http.requests, counts.http.responses, counts.http.orphans), (sent, sent, 0));
    assert_eq!((counts.stream.gaps, counts.stream.conflicts), (0, 0));
    let bytes: usize = truths.iter().map(|truth| truth.request.len() + truth.response.len()).sum();
    assert_eq!(counts.stream.bytes, bytes as u64);
    balanced(&tee, packets.len());
}

/// Nothing is kept at the end, and every packet and every message was counted once.
#[track_caller]
fn balanced(tee: &Tee, packets: usize) {
    let counts = tee.counts();
    assert_eq!((counts.flows, counts.waiting_bytes, counts.kept_bytes), (0, 0, 0));
    assert_eq!(counts.used + counts.unused.iter().sum::<u64>(), packets as u64);
    assert_eq!(counts.http.requests, counts.http.exchanges);
}

/// The packets from `at` on that one side sent in one go.
fn burst(packets: &[Sent], at: usize) -> usize {
    let same_way = |sent: &&Sent| sent.to_server == packets[at].to_server && !sent.ids.is_empty();
    packets[at..].iter().take_while(same_way).count()
}

/// Inputs of the targets that failed once: behind a refused CONNECT, with a method beyond its bound, with a start line
/// cut where a body may have been left out, with a chunked response that breaks, with a chunk size cut at such a place, and with two secrets that touch.
#[test]
fn what_failed_once_holds() {
    targets::bytes(b"\x8e\xf4\x7a\x23\x6e\x21\x14\xaf\x47\x00\xaf\x6e\x65\x2d\x00\xaf");
    targets::bytes(b"\x08~~~CPP~~~~~~~~~~~~~~~~~CP~~~~~~~~~CP~~~~~~~~~~~~~\xd5");
    targets::bytes(
        b"\x0a\x40\x06\x00\x04\x47\xa6\x09\x0b\xc7\xc7\xc7\x29\x2a\x00\x51\x00\x24\x0e\x23\x31\x0a\x0e\x01\xa9\x0e\x04\x2f\x00\x2e",
    );
    targets::bytes(
        b"\x9a\x5e\x5e\x5e\x5e\x5e\x5e\x4e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x9a\x5e\x5e\x01\x00\x00\x00\
          \x5e\x5e\x5f\x5e\x7e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x9a\x5e\x5e\x5e\x5e\x5e\x01\x0c\x5e\xd5\xd5\x5e\x0d\x7c\x5e",
    );
    targets::bytes(
        b"\x0a\x40\x07\x00\x09\xf2\x2a\x2a\x40\x07\x00\x09\x0b\xf2\x2a\x2a\xf5\xd5\xc7\xd7\x44\x44\x0c\x00\x8a\x82\x8a\x48\x54\x54\x58\x30\x2d\xa9\x28\x6a\x6b\x00\x51\x6b\
          \x26\x26\x26\x26\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\xfb\xf2\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x0d\x8f\xb9\x57\x07\x12",
    );
    targets::redact(b"\x10Bearer abcdef123456token=%40");
    targets::segments(
        b"\xde\xd3\x9a\x00\x10\x75\xa6\xa2\x97\x97\x97\x3a\xde\x24\x8a\x97\x97\x54\x54\x50\x97",
    );
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn any_bytes_are_packets_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), kind: u8, start in 0usize..4) {
        let begins: [&[u8]; 4] = [&[], &[0x45, 0, 0, 120, 0, 0, 0, 0, 64, 6], &[0x60, 0, 0, 0, 0, 90, 6], &[0x60, 0, 0, 0, 0, 90, 0]];
        targets::packet(&[&[kind], begins[start], &bytes].concat());
    }

    #[test]
    fn any_bytes_are_a_capture_file_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0usize..3) {
        let begins: [&[u8]; 3] = [
            &[],
            &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0],
            &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 28, 0, 0, 0],
        ];
        targets::file(&[begins[start], &bytes].concat());
    }

    #[test]
    fn any_segments_keep_the_bounds(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
        targets::segments(&bytes);
    }

    #[test]
    fn any_conversation_gives_the_same_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        targets::bytes(&bytes);
    }

    #[test]
    fn disorder_and_repetition_change_nothing(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        targets::disorder(&bytes);
    }

    /// Two bodies of the same beginning, so that more than their first bytes are looked at.
    #[test]
    fn any_two_bodies_are_compared(
        kind in any::<u8>(),
        begins in prop::sample::select(&[
            "", "{\"a\":[1,2,", "{\"a\":1}\n{\"a\":", "<ul><li>", "<?xml version=\"1.0\"?><a b='c'>", "a=b&c=%2", "data: {\"a\":1}\n\n",
            "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n",
        ][..]),
        a in prop::collection::vec(any::<u8>(), 0..40),
        b in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (a, b) = ([begins.as_bytes(), &a].concat(), [begins.as_bytes(), &b].concat());
        let cut = (a.len() * 255).div_ceil((a.len() + b.len()).max(1)) as u8;
        targets::bodies(&[&[kind, kind, cut][..], &a, &b].concat());
    }

    /// Damage to a value that is nearly right comes further than random bytes.
    #[test]
    fn any_value_of_an_entry_is_read_or_refused(
        value in prop::sample::select(vec![
            include_bytes!("../fuzz/corpus/entries/plain").to_vec(),
            include_bytes!("../fuzz/corpus/entries/zstd").to_vec(),
            Vec::new(),
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        behind in prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(any::<u8>(), 0..60)],
    ) {
        let mut value = [value, behind].concat();
        for (at, byte) in damage {
            if let Some(place) = value.len().checked_sub(1).map(|last| at.index(last + 1)) {
                value[place] = byte;
            }
        }
        targets::entries(&value);
    }

    /// Pieces that mean something to one kind of body or another, and bytes between them.
    #[test]
    fn any_message_is_redacted_once(
        choice: u8,
        pieces in prop::collection::vec(
            prop_oneof![
                3 => prop::sample::select(vec![
                    "{\"password\":\"", "\",\"x\":", "[1,", "}", "token=", "&", "=", "%40", "a@b.example", "4111111111111111", " ",
                    "Bearer abcdef123456", "--B\r\n", "Content-Disposition: form-data; name=\"pin\"\r\n\r\n", "<password>",
                    "<input name=csrf value='", "\\u0040", "eyJhbGciOiJIUzI1NiJ9.eyJh.c2ln", ";", "\"",
                ]).prop_map(|piece| piece.as_bytes().to_vec()),
                1 => prop::collection::vec(any::<u8>(), 0..12),
            ],
            0..14,
        ),
    ) {
        targets::redact(&[&[choice][..], &pieces.concat()].concat());
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_cut_anywhere_gives_what_was_written(conversation in conversation()) {
        let (packets, truths) = conversation.write();
        check(&packets, &truths);
    }

    #[test]
    fn another_order_within_the_window_gives_what_was_written(conversation in conversation(), places in places()) {
        let (mut packets, truths) = conversation.write();
        for (at, far) in places {
            let at = at.index(packets.len());
            let far = far.min(burst(&packets, at).saturating_sub(1));
            packets.swap(at, at + far);
        }
        check(&packets, &truths);
    }

    #[test]
    fn what_comes_twice_changes_nothing(conversation in conversation(), places in places()) {
        let (mut packets, truths) = conversation.write();
        for (at, later) in places {
            let at = at.index(packets.len());
            let copy = packets[at].clone();
            packets.insert((at + later).min(packets.len()), copy);
        }
        check(&packets, &truths);
    }

    #[test]
    fn whatever_is_missing_the_ledger_balances(
        conversation in conversation(),
        missing in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        swapped in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..8),
    ) {
        let (mut packets, truths) = conversation.write();
        for (one, other) in swapped {
            let (one, other) = (one.index(packets.len()), other.index(packets.len()));
            packets.swap(one, other);
        }
        for at in missing {
            packets.remove(at.index(packets.len()));
        }
        let mut tee = Tee::new([SERVER_PORT], StreamLimits::default(), HttpLimits::default());
        let exchanges = play(&mut tee, packets.iter().map(|sent| &sent.bytes[..]));
        balanced(&tee, packets.len());
        prop_assert!(exchanges.len() <= truths.len());
        let answered = exchanges.iter().filter(|exchange| exchange.response.is_some()).count() as u64;
        let http = tee.counts().http;
        prop_assert_eq!(http.responses, answered + http.orphans);
    }
}
