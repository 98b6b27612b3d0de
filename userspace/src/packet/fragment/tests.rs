//! Fragments against a twin that keeps every byte with who said it first.
//!
//! Builds no packets: fragments are given as their header would say.

use proptest::prelude::*;

use super::*;
use crate::model::Timestamp;

fn fragment(identification: u32, offset: usize, more: bool, bytes: &[u8]) -> Fragment<'_> {
    let rest = Rest::new(bytes, bytes.len());
    let part = Datagram { version: Version::V4, source: [1; 16], destination: [2; 16], protocol: 6, rest };
    Fragment { identification, offset, more, part }
}

const SECOND: u64 = 1_000_000_000;

/// Gives the fragments one after the other, at these seconds, and expects the tally.
#[track_caller]
fn check(limits: FragmentLimits, given: &[(u64, u32, usize, bool, &[u8])], expected: FragmentTally) {
    let mut table = FragmentTable::new(limits);
    for (second, identification, offset, more, bytes) in given {
        table.insert(&fragment(*identification, *offset, *more, bytes), Timestamp(second * SECOND));
    }
    assert_eq!(table.tally(), expected);
    let waiting = expected.begun - expected.whole - expected.late - expected.at_bound;
    assert_eq!(table.waiting.len() as u64, waiting);
    assert_eq!(table.bytes, table.waiting.values().map(|partial| partial.bytes.len()).sum::<usize>());
}

#[test]
fn what_does_not_become_whole_is_given_up() {
    let limits =
        FragmentLimits { datagrams_max: 2, bytes_max: 64, pieces_max: 2, ..FragmentLimits::default() };
    let late = FragmentTally { fragments: 2, begun: 2, late: 1, ..FragmentTally::default() };
    check(limits, &[(0, 1, 0, true, b"aaaaaaaa"), (31, 2, 0, true, b"aaaaaaaa")], late);
    let datagrams = FragmentTally { fragments: 3, begun: 3, at_bound: 1, ..FragmentTally::default() };
    check(limits, &[(0, 1, 0, true, b"a"), (0, 2, 0, true, b"a"), (0, 3, 0, true, b"a")], datagrams);
    let bytes = FragmentTally { fragments: 2, begun: 2, at_bound: 1, ..FragmentTally::default() };
    check(limits, &[(0, 1, 0, true, &[0; 40]), (0, 2, 0, true, &[0; 40])], bytes);
    let pieces = FragmentTally { fragments: 3, begun: 1, at_bound: 1, ..FragmentTally::default() };
    check(limits, &[(0, 1, 0, true, b"a"), (0, 1, 8, true, b"a"), (0, 1, 16, true, b"a")], pieces);
}

#[test]
fn a_clock_that_steps_back_gives_nothing_up() {
    let whole = FragmentTally { fragments: 2, begun: 1, whole: 1, ..FragmentTally::default() };
    check(FragmentLimits::default(), &[(100, 1, 0, true, b"12345678"), (0, 1, 8, false, b"9")], whole);
}

#[test]
fn what_no_datagram_can_have_is_counted() {
    let limits = FragmentLimits::default();
    let impossible = |fragments, begun, impossible| FragmentTally {
        fragments,
        begun,
        impossible,
        ..FragmentTally::default()
    };
    check(limits, &[(0, 1, 65_528, true, &[0; 9])], impossible(1, 0, 1));
    check(limits, &[(0, 1, 8, false, b"end"), (0, 1, 16, true, b"x")], impossible(2, 1, 1));
    check(limits, &[(0, 1, 8, false, b"end"), (0, 1, 8, false, b"en")], impossible(2, 1, 1));
    check(limits, &[(0, 1, 16, true, b"x"), (0, 1, 8, false, b"end")], impossible(2, 1, 1));
}

#[test]
fn a_fragment_that_the_capture_cut_makes_no_datagram_whole() {
    let mut table = FragmentTable::new(FragmentLimits::default());
    let mut cut = fragment(1, 0, true, b"1234");
    cut.part.rest = Rest::new(b"1234", 8);
    assert!(table.insert(&cut, Timestamp(0)).is_none());
    assert!(table.insert(&fragment(1, 8, false, b"9"), Timestamp(0)).is_none());
    let whole = table.insert(&fragment(1, 0, true, b"abcdefgh"), Timestamp(0)).unwrap();
    assert_eq!(whole.rest.bytes(), b"1234efgh9", "the first copy won");
    assert_eq!((table.tally().overlaps, table.tally().conflicts), (1, 1));
}

/// Every byte with who said it first; nothing is merged, nothing is clever.
#[derive(Default)]
struct Twin {
    bytes: Vec<Option<u8>>,
    total: Option<usize>,
    started: bool,
    overlaps: u64,
    conflicts: u64,
}

impl Twin {
    fn insert(&mut self, offset: usize, more: bool, bytes: &[u8]) -> Option<Vec<u8>> {
        let end = offset + bytes.len();
        let possible = match (self.total, more) {
            (Some(total), true) => end <= total,
            (Some(total), false) => end == total,
            (None, true) => true,
            (None, false) => self.bytes.len() <= end,
        };
        self.started |= offset == 0;
        if !possible {
            return None;
        }
        if !more {
            self.total = Some(end);
        }
        self.bytes.resize(self.bytes.len().max(end), None);
        let (mut repeats, mut differs) = (false, false);
        for (have, new) in self.bytes[offset..end].iter_mut().zip(bytes) {
            repeats |= have.is_some();
            differs |= have.is_some_and(|have| have != *new);
            *have = have.or(Some(*new));
        }
        self.overlaps += u64::from(repeats);
        self.conflicts += u64::from(differs);
        let whole: Option<Vec<u8>> = self.bytes.iter().copied().collect();
        whole.filter(|whole| self.started && self.total == Some(whole.len()) && !whole.is_empty())
    }
}

proptest! {
    #[test]
    fn becomes_whole_when_the_twin_does(
        given in prop::collection::vec((0usize..8, 1usize..20, any::<bool>(), any::<u8>()), 1..30),
    ) {
        let mut table = FragmentTable::new(FragmentLimits::default());
        let mut twin = Twin::default();
        let (mut overlaps, mut conflicts) = (0, 0);
        for (at, length, more, byte) in given {
            let bytes: Vec<u8> = (0..length).map(|n| if byte < 200 { 7 } else { byte.wrapping_add(n as u8) }).collect();
            let expected = twin.insert(at * 8, more, &bytes);
            let got = table.insert(&fragment(1, at * 8, more, &bytes), Timestamp(0));
            prop_assert_eq!(got.map(|whole| whole.rest.bytes().to_vec()), expected.clone());
            prop_assert_eq!(table.tally().overlaps, overlaps + twin.overlaps);
            prop_assert_eq!(table.tally().conflicts, conflicts + twin.conflicts);
            if expected.is_some() {
                (overlaps, conflicts) = (overlaps + twin.overlaps, conflicts + twin.conflicts);
                twin = Twin::default();
            }
        }
    }

    #[test]
    fn stays_within_its_bounds(
        given in prop::collection::vec((0u32..40, 0usize..8_000, any::<bool>(), 0usize..60), 1..200),
    ) {
        let limits = FragmentLimits { datagrams_max: 8, bytes_max: 20_000, pieces_max: 4, ..FragmentLimits::default() };
        let mut table = FragmentTable::new(limits);
        for (number, (identification, at, more, length)) in given.into_iter().enumerate() {
            let bytes = vec![1; length];
            table.insert(&fragment(identification, at * 8, more, &bytes), Timestamp(number as u64 * SECOND / 4));
            prop_assert!(table.waiting.len() <= limits.datagrams_max);
            prop_assert!(table.order.len() <= limits.datagrams_max * 2);
            prop_assert!(table.bytes <= limits.bytes_max);
            let held: usize = table.waiting.values().map(|partial| partial.bytes.len()).sum();
            prop_assert_eq!(table.bytes, held);
            let FragmentTally { begun, whole, late, at_bound, .. } = table.tally();
            prop_assert_eq!(begun, whole + late + at_bound + table.waiting.len() as u64);
        }
    }
}
