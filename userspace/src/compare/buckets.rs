//! A sample of numbers in little memory: how many lie where, to one part in a hundred.
//!
//! Does no statistics.

use std::collections::BTreeMap;

/// Each bucket ends a hundredth above where it begins.
const GROWTH: f64 = 1.01;

/// Counts of numbers in buckets of equal relative width (C. Masson, J. E. Rim and H. K. Lee, "DDSketch: a fast and
/// fully-mergeable quantile sketch with relative-error guarantees", 2019).
///
/// Numbers between -1 and 1 share one bucket unless they were scaled. For numbers that fit in 64 bits there are at most
/// 9,000 buckets of 40 bytes; times of one route take some hundreds. Each bucket knows its least and its largest number,
/// so that a bound can be taken on the safe side, and a sample of few different numbers is kept exactly.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    by_size: BTreeMap<i32, Bucket>,
    total: u64,
}

#[derive(Clone, Debug)]
struct Bucket {
    count: u64,
    least: f64,
    most: f64,
}

// === impl Buckets ===

impl Buckets {
    /// Takes a number in; one that is none counts as zero.
    pub(super) fn add(&mut self, number: f64) {
        let number = if number.is_nan() { 0.0 } else { number };
        let empty = Bucket { count: 0, least: number, most: number };
        let bucket = self.by_size.entry(key(number)).or_insert(empty);
        bucket.count = bucket.count.saturating_add(1);
        bucket.least = bucket.least.min(number);
        bucket.most = bucket.most.max(number);
        self.total = self.total.saturating_add(1);
    }

    /// Takes in what another has counted. Buckets have the same edges everywhere, so nothing is lost by it.
    pub(super) fn merge(&mut self, other: &Self) {
        for (key, Bucket { count, least, most }) in &other.by_size {
            let bucket = self.by_size.entry(*key).or_insert(Bucket { count: 0, least: *least, most: *most });
            bucket.count = bucket.count.saturating_add(*count);
            bucket.least = bucket.least.min(*least);
            bucket.most = bucket.most.max(*most);
            self.total = self.total.saturating_add(*count);
        }
    }

    /// The counts for another host: count, least and largest number of each bucket, in whole numbers, so that they are
    /// short. A fraction is rounded to the outer side.
    pub(super) fn share(&self) -> Vec<(u64, i64, i64)> {
        let share = |bucket: &Bucket| {
            // A float beyond the range of an integer becomes the end of that range.
            (bucket.count, bucket.least.floor() as i64, bucket.most.ceil() as i64)
        };
        self.by_size.values().map(share).collect()
    }

    /// What another host has shared. What it cannot have counted is left out.
    pub(super) fn of_share(share: &[(u64, i64, i64)]) -> Self {
        let mut buckets = Self::default();
        for (count, least, most) in share.iter().filter(|(count, least, most)| *count > 0 && least <= most) {
            let (least, most) = (*least as f64, *most as f64);
            let bucket = Bucket { count: *count, least, most };
            let of_one =
                Self { by_size: BTreeMap::from([(key(f64::midpoint(least, most)), bucket)]), total: 0 };
            buckets.merge(&of_one);
        }
        buckets
    }

    /// How many numbers were taken in.
    pub(super) fn len(&self) -> u64 {
        self.total
    }

    /// Bounds of the number at this rank, counted from 1 by size.
    pub(super) fn at_rank(&self, rank: u64) -> Option<(f64, f64)> {
        let mut seen = 0_u64;
        let bucket = self.by_size.values().find(|bucket| {
            seen = seen.saturating_add(bucket.count);
            seen >= rank
        });
        bucket.map(|bucket| (bucket.least, bucket.most))
    }

    /// The number below which this share of the sample lies, to a hundredth of itself.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        self.at_rank(rank).map(|(least, most)| f64::midpoint(least, most))
    }
}

/// The bucket that a number lies in; buckets are in the order of their numbers.
fn key(number: f64) -> i32 {
    let size = number.abs().max(1.0).log(GROWTH).floor() as i32;
    match number {
        _ if number >= 1.0 => size.saturating_add(1),
        _ if number <= -1.0 => size.saturating_add(1).saturating_neg(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn each_rank_encloses_the_number_at_its_place(
            mut numbers in proptest::collection::vec(-1e9_f64..1e9, 1..200),
        ) {
            let mut buckets = Buckets::default();
            numbers.iter().for_each(|number| buckets.add(*number));
            numbers.sort_by(f64::total_cmp);
            for (rank, number) in (1..).zip(&numbers) {
                let (least, most) = buckets.at_rank(rank).unwrap();
                assert!((least..=most).contains(number), "{number} in {least}..{most}");
                assert!(most - least <= 2.0_f64.max(number.abs() * 0.0102), "{least}..{most}");
            }
            assert_eq!(buckets.len(), numbers.len() as u64);
            assert_eq!(buckets.at_rank(u64::MAX), None);
        }
    }

    #[test]
    fn what_is_no_finite_number_has_a_place() {
        let mut buckets = Buckets::default();
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].iter().for_each(|number| buckets.add(*number));
        assert_eq!(buckets.at_rank(2), Some((0.0, 0.0)));
    }
}
