//! Recordings: whole, cut at every byte, damaged at every byte, at their bound.
//!
//! Everything is in memory; files are `file`'s, and the end-to-end tests'.

use proptest::prelude::*;

use super::frame::HEADER_BYTES;
use super::write::Summary;
use super::*;
use crate::model::{Exchange, ExchangeId, Timestamp, samples};
use crate::wire::WireLimits;
use crate::wire::tests::{any_exchange, shown};

fn exchange(offset: u64) -> Exchange {
    let answer = samples::response(200, &[("Content-Type", "text/plain")], "hello");
    samples::exchange(ExchangeId { flow: 1, offset }, Timestamp(5), samples::request("GET", "/", &[]), answer)
}

fn recording(exchanges: &[Exchange]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RecordingWriter::begin(&mut out, "x".to_owned(), RecordingLimits::default()).unwrap();
    for exchange in exchanges {
        assert_eq!(writer.write(exchange).unwrap(), Written::Yes);
    }
    writer.finish([("shed", 3), ("other", 0)]).unwrap();
    out
}

/// Reads all; the exchanges as text, and how it ended. Any bytes may be given: this is the body of a fuzz target.
pub(crate) fn read_all(bytes: &[u8]) -> (Vec<String>, Result<Ending, RecordingError>) {
    let mut all = Vec::new();
    let mut reader = match RecordingReader::begin(bytes, "x".to_owned(), WireLimits::default()) {
        Ok(reader) => reader,
        Err(error) => return (all, Err(error)),
    };
    loop {
        match reader.next_exchange() {
            Ok(Some(exchange)) => all.push(shown(&exchange)),
            Ok(None) => return (all, Ok(reader.ending().unwrap().clone())),
            Err(error) => return (all, Err(error)),
        }
    }
}

fn message(error: RecordingError) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

#[track_caller]
fn check_damage(bytes: &[u8], expected: &[&str]) {
    let message = message(read_all(bytes).1.unwrap_err());
    for part in expected {
        assert!(message.contains(part), "{message}\nshould say: {part}");
    }
}

#[test]
fn the_end_says_what_is_missing() {
    let (read, ending) = read_all(&recording(&[exchange(1), exchange(2)]));
    let missing = [("shed".to_owned(), 3)].into();
    assert_eq!(ending.unwrap(), Ending::Whole(Summary { exchanges: 2, missing }));
    assert_eq!(read, [shown(&exchange(1)), shown(&exchange(2))]);
}

/// At every byte: everything before the cut is read, and the cut is said.
#[test]
fn a_recording_cut_at_any_byte_is_read_up_to_its_last_whole_record() {
    let mut whole = Vec::new();
    let mut ends = vec![HEADER_BYTES as u64];
    let mut writer = RecordingWriter::begin(&mut whole, "x".to_owned(), RecordingLimits::default()).unwrap();
    for offset in 0..3 {
        writer.write(&exchange(offset)).unwrap();
        ends.push(writer.bytes());
    }
    writer.finish([]).unwrap();
    for cut in 1..whole.len() {
        let (read, ending) = read_all(&whole[..cut]);
        let before = ends.iter().filter(|end| **end <= cut as u64);
        let offset = before.clone().max().copied().unwrap_or_default();
        assert_eq!(ending.unwrap(), Ending::Cut { offset, rest: cut as u64 - offset }, "cut at {cut}");
        assert_eq!(read.len(), before.count().saturating_sub(1), "cut at {cut}");
    }
}

/// Every single byte is under a checksum, and a wrong one is never read as something else.
#[test]
fn a_recording_damaged_at_any_byte_is_refused_there() {
    let whole = recording(&[exchange(1), exchange(2)]);
    let (all, _) = read_all(&whole);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let (read, ending) = read_all(&damaged);
        assert!(ending.is_err(), "byte {at}");
        assert!(all.starts_with(&read) && read.len() < 3, "byte {at}");
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let mut damaged = recording(&[exchange(1), exchange(2)]);
    let second = (damaged.len() - HEADER_BYTES) / 2;
    damaged[second] ^= 1;
    check_damage(&damaged, &["`x`", "is damaged: record ", "at byte ", "checksum"]);
    let mut behind = recording(&[exchange(1)]);
    behind.push(0);
    check_damage(&behind, &["record 2", "bytes follow behind the end"]);
}

#[test]
fn what_is_no_recording_is_refused_with_a_hint() {
    check_damage(b"", &["`x` is no recording", "empty"]);
    check_damage(b"1 a 5\nGET / HTTP/1.1\r\n\r\n", &["is no recording", "understudy convert"]);
    check_damage(b"\x1f\x8b\x08", &["compressed", "zcat"]);
    let later = frame::FileHeader { major: 2, minor: 1 }.to_bytes();
    check_damage(&later, &["version 2.1", "newer understudy"]);
}

/// A record that says it is long costs no memory and no wait.
#[test]
fn a_record_beyond_the_limit_is_refused_by_its_length() {
    let mut bytes = recording(&[]);
    bytes.truncate(HEADER_BYTES);
    let header = frame::RecordHeader { bytes: u32::MAX, kind: frame::KIND_EXCHANGE, checksum: 0 };
    bytes.extend(header.to_bytes());
    check_damage(&bytes, &["record 1, at byte 16", "4294967295 bytes", "67108864 are allowed"]);
}

#[test]
fn kinds_of_later_minor_versions_are_passed_over() {
    let mut bytes = Vec::new();
    let mut writer = RecordingWriter::begin(&mut bytes, "x".to_owned(), RecordingLimits::default()).unwrap();
    writer.write(&exchange(1)).unwrap();
    let end = writer.bytes() as usize;
    writer.finish([]).unwrap();
    let unknown = frame::RecordHeader::of(77, b"whatever").unwrap();
    bytes.splice(end..end, [&unknown.to_bytes()[..], b"whatever"].concat());
    let (read, ending) = read_all(&bytes);
    assert_eq!((read.len(), ending.is_ok()), (1, true));
}

#[test]
fn at_its_bound_a_recording_stops_for_good_and_still_ends() {
    let limits = RecordingLimits { file_bytes_max: 2500, ..RecordingLimits::default() };
    let mut out = Vec::new();
    let mut writer = RecordingWriter::begin(&mut out, "x".to_owned(), limits).unwrap();
    let mut large = exchange(0);
    large.request.body = crate::model::Body::whole(vec![0; 2000]);
    assert_eq!(writer.write(&exchange(1)).unwrap(), Written::Yes);
    assert_eq!(writer.write(&large).unwrap(), Written::Full);
    assert_eq!(writer.write(&exchange(2)).unwrap(), Written::Full);
    writer.finish([("not_recorded", 2)]).unwrap();
    assert!(out.len() <= 2500);
    let (read, ending) = read_all(&out);
    assert_eq!((read.len(), ending.is_ok()), (1, true));
}

proptest! {
    #[test]
    fn exchanges_come_back_as_they_were(exchanges in proptest::collection::vec(any_exchange(), 0..4)) {
        let (read, ending) = read_all(&recording(&exchanges));
        prop_assert_eq!(read, exchanges.iter().map(shown).collect::<Vec<_>>());
        prop_assert!(matches!(ending.unwrap(), Ending::Whole(_)));
    }

    #[test]
    fn any_bytes_behind_a_header_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (major, minor) = VERSION;
        let begun = frame::FileHeader { major, minor }.to_bytes();
        drop(read_all(&[&begun[..], &bytes].concat()));
        drop(read_all(&bytes));
    }
}
