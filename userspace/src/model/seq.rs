//! TCP sequence numbers.
//!
//! Has no `Ord`: the order of numbers that wrap is not total, so distances are asked for instead.

/// A TCP sequence number: 32 bits that wrap (RFC 9293 section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Signed distance in bytes from `self` to `other`; right while both lie within 2 GiB of each other.
    pub fn distance_to(self, other: Seq) -> i32 {
        other.0.wrapping_sub(self.0).cast_signed()
    }

    /// The number `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_add(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn distance_matches_wide_arithmetic(start: u32, step in -(1i64 << 30)..(1i64 << 30)) {
            let other = Seq((i64::from(start) + step).rem_euclid(1 << 32) as u32);
            prop_assert_eq!(i64::from(Seq(start).distance_to(other)), step);
        }
    }
}
