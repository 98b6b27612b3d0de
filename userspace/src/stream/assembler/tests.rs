//! The assembler against a twin that keeps every byte of the stream in a table, and step tests near the wrap.
//!
//! Uses small bounds, so that they are reached.

use proptest::prelude::*;

use super::*;

/// A receiver that has sent whatever is acknowledged, and takes all.
const ANY: Receiver = Receiver { handed_on: u64::MAX, seen: u64::MAX, window: u64::MAX };

fn stamp(at: u64) -> Stamp {
    Stamp { at: Timestamp(at), acknowledged: 0 }
}

/// Takes a segment and gives everything that is handed on; a gap shows as dots.
fn take(
    assembler: &mut Assembler,
    limits: &StreamLimits,
    tally: &mut StreamTally,
    seq: u32,
    payload: &[u8],
) -> String {
    let mut out = String::new();
    if let Some((bytes, _)) = assembler.take(Seq(seq), payload, stamp(1), ANY, tally) {
        out += &String::from_utf8_lossy(bytes);
    }
    drain(assembler, limits, tally, &mut out);
    out
}

fn drain(assembler: &mut Assembler, limits: &StreamLimits, tally: &mut StreamTally, out: &mut String) {
    while let Some(ready) = assembler.ready(u64::MAX, limits, tally) {
        match ready {
            Ready::Bytes(bytes, _, _) => *out += &String::from_utf8_lossy(&bytes),
            Ready::Gap(bytes, _) => *out += &".".repeat(bytes as usize),
            Ready::Disputed(_, _) => {}
            Ready::End(_) => *out += "|",
        }
    }
}

/// Plays steps of (offset from the first byte, payload) and compares what each hands on. The first byte has a
/// number just before the wrap.
#[track_caller]
fn check(steps: &[(u32, &str, &str)]) {
    let first = u32::MAX - 3;
    let (limits, mut tally) = (StreamLimits::default(), StreamTally::default());
    let mut assembler = Assembler::new(Seq(first));
    let mut stream = String::new();
    for (step, (offset, payload, whole)) in steps.iter().enumerate() {
        stream += &take(&mut assembler, &limits, &mut tally, first.wrapping_add(*offset), payload.as_bytes());
        assert_eq!(stream, *whole, "after step {step}");
    }
}

#[test]
fn hands_on_in_order() {
    check(&[(0, "ab", "ab"), (2, "cdef", "abcdef"), (6, "g", "abcdefg")]);
}

#[test]
fn holds_what_comes_early() {
    check(&[(2, "cd", ""), (6, "gh", ""), (4, "ef", ""), (0, "ab", "abcdefgh")]);
}

#[test]
fn passes_over_repetitions() {
    check(&[(0, "abcd", "abcd"), (0, "ab", "abcd"), (2, "cdef", "abcdef"), (0, "abcdefg", "abcdefg")]);
}

#[test]
fn the_first_copy_wins() {
    check(&[(2, "cd", ""), (0, "abXXe", "abcde")]);
    check(&[(4, "ef", ""), (2, "XdXX", ""), (1, "bc", ""), (0, "a", "abXdef")]);
    check(&[(2, "c", ""), (4, "e", ""), (1, "bXdXf", ""), (0, "a", "abcdef")]);
}

#[test]
fn a_gap_needs_the_word_of_the_receiver() {
    let (limits, mut tally) = (StreamLimits::default(), StreamTally::default());
    let mut assembler = Assembler::new(Seq(u32::MAX));
    assert_eq!(take(&mut assembler, &limits, &mut tally, 1, b"cd"), "");
    assembler.acknowledge(Seq(0), false);
    assert_eq!(
        take(&mut assembler, &limits, &mut tally, 3, b"e"),
        "",
        "one of two missing bytes is acknowledged"
    );
    assembler.acknowledge(Seq(1), false);
    assert_eq!(take(&mut assembler, &limits, &mut tally, 4, b"f"), "..cdef");
    assert_eq!((tally.gaps, tally.gap_bytes), (1, 2));
}

#[test]
fn bounds_end_the_waiting() {
    let limits = StreamLimits { flow_waiting_bytes_max: 4, ..StreamLimits::default() };
    let mut tally = StreamTally::default();
    let mut assembler = Assembler::new(Seq(0));
    assert_eq!(take(&mut assembler, &limits, &mut tally, 1, b"bcde"), "");
    assert_eq!(take(&mut assembler, &limits, &mut tally, 6, b"g"), ".bcde");
    assert_eq!(tally.gaps_at_bound, 1);
    let limits = StreamLimits { flow_waiting_pieces_max: 2, ..StreamLimits::default() };
    let mut assembler = Assembler::new(Seq(0));
    assert_eq!(take(&mut assembler, &limits, &mut tally, 1, b"b"), "");
    assert_eq!(take(&mut assembler, &limits, &mut tally, 3, b"d"), "");
    assert_eq!(take(&mut assembler, &limits, &mut tally, 5, b"f"), ".b");
}

#[test]
fn nothing_follows_fin() {
    let (limits, mut tally) = (StreamLimits::default(), StreamTally::default());
    let mut assembler = Assembler::new(Seq(0));
    assembler.finish(4, stamp(1));
    assert_eq!(take(&mut assembler, &limits, &mut tally, 2, b"cdXX"), "");
    assert_eq!(take(&mut assembler, &limits, &mut tally, 0, b"ab"), "abcd|");
    assert_eq!(take(&mut assembler, &limits, &mut tally, 4, b"X"), "");
}

#[test]
fn far_numbers_do_not_belong_to_the_stream() {
    let (limits, mut tally) = (StreamLimits::default(), StreamTally::default());
    let mut assembler = Assembler::new(Seq(0));
    assert_eq!(take(&mut assembler, &limits, &mut tally, 1 << 31, b"x"), "");
    assert_eq!((tally.out_of_window, assembler.waiting_bytes), (1, 0));
}

#[test]
fn the_end_of_a_flow_shows_what_is_missing() {
    let mut tally = StreamTally::default();
    let mut assembler = Assembler::new(Seq(0));
    assembler.acknowledge(Seq(5), false);
    assert_eq!(assembler.give_up(GapCause::Over, &mut tally), Some(Ready::Gap(5, 0)));
    assert_eq!(assembler.give_up(GapCause::Over, &mut tally), None);
}

proptest! {
    /// The twin writes each byte into a table where it is still empty, and reads from the front.
    #[test]
    fn agrees_with_a_table_of_bytes(
        first: u32,
        segments in prop::collection::vec((0usize..60, 1usize..12, any::<u8>()), 0..60),
    ) {
        let (limits, mut tally) = (StreamLimits::default(), StreamTally::default());
        let mut assembler = Assembler::new(Seq(first));
        let mut table: Vec<Option<u8>> = vec![None; 80];
        let mut read = 0;
        for (offset, length, fill) in segments {
            let payload: Vec<u8> = (0..length).map(|n| b'a' + (fill.wrapping_add(n as u8) % 26)).collect();
            let handed = take(&mut assembler, &limits, &mut tally, first.wrapping_add(offset as u32), &payload);
            for (at, byte) in (offset..).zip(&payload) {
                table[at].get_or_insert(*byte);
            }
            let expected: Vec<u8> = table[read..].iter().map_while(|byte| *byte).collect();
            read += expected.len();
            prop_assert_eq!(handed.as_bytes(), &expected[..]);
            let waiting = table[read..].iter().flatten().count();
            prop_assert_eq!(assembler.waiting_bytes, waiting);
        }
    }
}
