//! What must hold whatever comes in: the bodies of the fuzz targets, on random input.
//!
//! States nothing itself; see `fuzz/src/lib.rs`.

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another package")]
mod targets;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_packet_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0usize..4) {
        let begins: [&[u8]; 4] = [&[], &[0x45, 0, 0, 120, 0, 0, 0, 0, 64, 6], &[0x60, 0, 0, 0, 0, 90, 6], &[0x60, 0, 0, 0, 0, 90, 0]];
        targets::packet(&[begins[start], &bytes].concat());
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
}
