//! What the time of packets does.
//!
//! Reads no clock.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Passes packets at these times, in seconds, and expects those of which the tee was told.
#[track_caller]
fn check(packets: &[u64], expected: &[u64]) {
    let mut tee = Tee::new([80], StreamLimits::default(), HttpLimits::default());
    let mut clock = PacketClock::default();
    let mut told = Vec::new();
    for packet in packets {
        let before = clock.told;
        clock.pass(Timestamp(packet * SECOND), &mut tee, &mut |_| {});
        if clock.told > before {
            told.push(clock.told.0 / SECOND);
        }
    }
    assert_eq!(told, expected, "{packets:?}");
}

#[test]
fn time_has_passed_when_two_packets_in_a_row_say_so() {
    check(&[10, 11, 12], &[10, 11]);
    check(&[10, 11, 9_000, 12, 13], &[10, 11, 12]);
    check(&[10, 11, 9_000, 9_001], &[10, 11, 9_000]);
}

#[test]
fn time_that_goes_back_starts_again_from_there() {
    check(&[10, 11, 2, 3, 4], &[10, 3]);
}
