//! Any exchange comes back as it was from either encoding; any other bytes are refused in bounded room.
//!
//! Knows no queue.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{ExchangeId, Timestamp, samples};
use crate::wire::tests::{any_exchange, shown};

fn coders(limits: EntryLimits) -> (EntryEncoder, EntryDecoder) {
    (EntryEncoder::new(limits).unwrap(), EntryDecoder::new(limits).unwrap())
}

fn with_body(body: Vec<u8>) -> Exchange {
    let id = ExchangeId { flow: 1, offset: 2 };
    samples::exchange(id, Timestamp(3), samples::request("GET", "/", &[]), samples::response(200, &[], body))
}

/// Bytes that do not compress: a linear congruence, its high byte.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[track_caller]
fn check_encoding(body: Vec<u8>, expected: Encoding) {
    let (mut encoder, mut decoder) = coders(EntryLimits::default());
    let exchange = with_body(body);
    let entry = encoder.encode(&exchange, &"/items/{id}".into()).unwrap();
    assert_eq!((entry.encoding, &*entry.route), (expected, "/items/{id}"));
    let back = decoder.decode(entry.encoding, &entry.value).unwrap();
    assert_eq!(shown(&back), shown(&exchange));
}

#[test]
fn what_does_not_shrink_stays_plain() {
    let (mut encoder, _) = coders(EntryLimits::default());
    let exchange = with_body(noise(30_000));
    let entry = encoder.encode(&exchange, &"".into()).unwrap();
    assert_eq!(entry.encoding, Encoding::Plain);
}

#[test]
fn what_is_small_stays_plain() {
    check_encoding(vec![b'a'; 100], Encoding::Plain);
    check_encoding(vec![b'a'; 2_000], Encoding::Zstd);
}

#[test]
fn fields_and_numbers_name_encodings() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::of_field(encoding.field().as_bytes()), Some(encoding));
        assert_eq!(Encoding::of_number(encoding.number()), Some(encoding));
    }
    assert_eq!((Encoding::of_field(b"exchange.gz"), Encoding::of_number(2)), (None, None));
}

#[test]
fn what_is_beyond_the_bound_is_not_written() {
    let wire = WireLimits { exchange_bytes_max: 10_000 };
    let (mut encoder, _) = coders(EntryLimits { wire, ..EntryLimits::default() });
    let error = encoder.encode(&with_body(vec![0; 20_000]), &"".into()).unwrap_err();
    assert!(matches!(error, EntryError::TooLarge(_)), "{error}");
    // It goes on with the next one.
    encoder.encode(&with_body(vec![0; 5_000]), &"".into()).unwrap();
}

#[test]
fn the_documentation_names_every_encoding_and_the_bounds() {
    let text = include_str!("../../../../docs/wire.md");
    let (_, section) = text.split_once("## In Redis").unwrap();
    for encoding in Encoding::ALL {
        assert!(section.contains(&format!("| *`{}`* |", encoding.field())), "{encoding:?}");
    }
    let EntryLimits { wire, compress_bytes_min, compress_level: _ } = EntryLimits::default();
    assert!(section.contains(&format!("{} MiB is", wire.exchange_bytes_max >> 20)));
    assert!(section.contains(&format!("of {} KiB and more", compress_bytes_min >> 10)));
}

/// A frame of zeros that says how long they are, or does not.
fn bomb(bytes: usize, says_size: bool) -> Vec<u8> {
    let mut zstd = CCtx::create();
    zstd.set_parameter(CParameter::ContentSizeFlag(says_size)).unwrap();
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(bytes));
    zstd.compress2(&mut packed, &vec![0; bytes]).unwrap();
    packed
}

#[track_caller]
fn check_bomb(value: &[u8]) {
    let wire = WireLimits { exchange_bytes_max: 300_000 };
    let (_, mut decoder) = coders(EntryLimits { wire, ..EntryLimits::default() });
    let error = decoder.decode(Encoding::Zstd, value).unwrap_err();
    assert!(matches!(error, EntryError::TooLarge(_)), "{error}");
    assert!(decoder.wire.capacity() <= 300_000, "{}", decoder.wire.capacity());
}

#[test]
fn what_decompresses_to_too_much_is_refused_in_bounded_room() {
    check_bomb(&bomb(64 << 20, true));
    check_bomb(&bomb(64 << 20, false));
    // The first frame says little, and others follow it.
    let mut frames = bomb(10, true);
    (0..400).for_each(|_| frames.extend(bomb(1_000, true)));
    check_bomb(&frames);
    let mut frames = bomb(0, true);
    frames.extend(bomb(1 << 20, false));
    check_bomb(&frames);
    // A frame that says more than there can be: magic number, a descriptor with an 8-byte size, no window, the size.
    let mut said = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    said.extend(u64::MAX.wrapping_sub(9).to_le_bytes());
    check_bomb(&said);
}

#[test]
fn a_frame_that_does_not_say_its_size_is_read() {
    let mut wire = Vec::new();
    let exchange = with_body(vec![b'x'; 500_000]);
    crate::wire::encode(&exchange, &WireLimits::default(), &mut wire).unwrap();
    let mut zstd = CCtx::create();
    zstd.set_parameter(CParameter::ContentSizeFlag(false)).unwrap();
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(wire.len()));
    zstd.compress2(&mut packed, &wire).unwrap();
    let (_, mut decoder) = coders(EntryLimits::default());
    assert_eq!(shown(&decoder.decode(Encoding::Zstd, &packed).unwrap()), shown(&exchange));
}

#[test]
fn a_newer_version_is_told_from_garbage() {
    let newer = rmp_serde::to_vec_named(&BTreeMap::from([("version", (2, 3))])).unwrap();
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(newer.len()));
    CCtx::create().compress2(&mut packed, &newer).unwrap();
    let (_, mut decoder) = coders(EntryLimits::default());
    for (encoding, value) in [(Encoding::Plain, &newer), (Encoding::Zstd, &packed)] {
        let error = decoder.decode(encoding, value).unwrap_err();
        assert_eq!(error.newer_major(), Some(Version { major: 2, minor: 3 }), "{error}");
        assert_eq!(decoder.decode(encoding, b"garbage").unwrap_err().newer_major(), None);
    }
}

proptest! {
    #[test]
    fn an_exchange_comes_back_as_it_was(
        exchanges in proptest::collection::vec(any_exchange(), 1..4),
        compress_bytes_min in 0usize..2_000,
        compress_level in -7i32..6,
    ) {
        let limits = EntryLimits { compress_bytes_min, compress_level, ..EntryLimits::default() };
        let (mut encoder, mut decoder) = coders(limits);
        for exchange in exchanges {
            let entry = encoder.encode(&exchange, &"r".into()).unwrap();
            let back = decoder.decode(entry.encoding, &entry.value).unwrap();
            prop_assert_eq!(shown(&back), shown(&exchange));
        }
    }

    /// And leave nothing behind in the decoder.
    #[test]
    fn damaged_values_are_read_or_refused(
        exchange in any_exchange(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        share in 0.0..=1.0f64,
    ) {
        let (mut encoder, mut decoder) = coders(EntryLimits { compress_bytes_min: 300, ..EntryLimits::default() });
        let entry = encoder.encode(&exchange, &"r".into()).unwrap();
        let mut bytes = entry.value.to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate((bytes.len() as f64 * share) as usize);
        for encoding in Encoding::ALL {
            drop(decoder.decode(encoding, &bytes));
        }
        let back = decoder.decode(entry.encoding, &entry.value).unwrap();
        prop_assert_eq!(shown(&back), shown(&exchange));
    }
}
