//! Simulations: how often an interval misses, and how soon a slower B is named.
//!
//! Draws the same numbers in every run.

use super::*;
use crate::compare::sim::Uniform;

/// A pair as of one request: a common part, a part of each branch, and what B adds.
fn pair(random: &mut Uniform, factor: f64, extra_ms: f64) -> LatencyPair {
    let base = 2_000.0 + 10_000.0 * random.exponential();
    let mut noisy = |factor: f64| (base * factor + 3_000.0 * random.exponential()) as u64;
    let control_us = noisy(1.0);
    LatencyPair { control_us, candidate_us: noisy(factor) + (extra_ms * 1000.0) as u64 }
}

fn pairs(count: usize, seed: u64, factor: f64, extra_ms: f64) -> Vec<LatencyPair> {
    let mut random = Uniform::new(seed);
    (0..count).map(|_| pair(&mut random, factor, extra_ms)).collect()
}

/// What pairs say that are known to the last byte only.
fn summary(pairs: &[LatencyPair], policy: &LatencyPolicy) -> Option<LatencySummary> {
    let mut tally = LatencyTally::new(*policy);
    for last_byte in pairs {
        tally.observe(Timestamp::default(), &LatencySample { first_byte: None, last_byte: *last_byte });
    }
    tally.summary()
}

fn verdict(count: usize, factor: f64, extra_ms: f64) -> LatencyVerdict {
    let policy = LatencyPolicy { warm_up_pairs: 0, ..LatencyPolicy::default() };
    summary(&pairs(count, 5, factor, extra_ms), &policy).unwrap().verdict
}

/// Pairs until B is named slower, looked at after every tenth.
fn pairs_until_slower(
    seed: u64,
    policy: &LatencyPolicy,
    most: u64,
    mut next: impl FnMut(&mut Uniform) -> LatencyPair,
) -> Option<(u64, Slower)> {
    let mut random = Uniform::new(seed);
    let mut tally = LatencyTally::new(*policy);
    (1..=most).find_map(|number| {
        let last_byte = next(&mut random);
        tally.observe(Timestamp::default(), &LatencySample { first_byte: None, last_byte });
        if number % 10 != 0 {
            return None;
        }
        Some((number, tally.summary()?.slower?))
    })
}

#[test]
fn an_interval_misses_its_quantile_at_some_look_no_more_often_than_the_level_says() {
    for (quantile, looks) in [(0.5, 300_u64), (0.95, 600)] {
        let truth = -f64::ln(1.0 - quantile);
        let runs = 500;
        let missed = (0..runs)
            .filter(|seed| {
                let (mut random, mut sample) = (Uniform::new(*seed), Buckets::default());
                (0..looks).any(|number| {
                    sample.add(random.exponential() * RATIO_SCALE);
                    let interval = (number % 5 == 0).then(|| interval(&sample, quantile, 0.95)).flatten();
                    interval.is_some_and(|interval| {
                        !(interval.low..=interval.high).contains(&(truth * RATIO_SCALE))
                    })
                })
            })
            .count();
        println!("quantile {quantile}: {missed} of {runs} runs missed at 95 %");
        assert!(missed <= runs as usize / 20, "quantile {quantile}: {missed} of {runs}");
    }
}

#[test]
fn equal_times_are_never_called_slower_however_often_one_looks() {
    // Without margins: each false alarm of the intervals would show.
    let policy = LatencyPolicy {
        ratio_max: 1.0,
        tail_ratio_max: 1.0,
        extra_ms_max: 0.0,
        confidence: 0.95,
        ..LatencyPolicy::default()
    };
    let runs = 2_000;
    let alarms = (0..runs)
        .filter(|seed| pairs_until_slower(*seed, &policy, 150, |random| pair(random, 1.0, 0.0)).is_some())
        .count();
    println!("{alarms} of {runs} runs called an equal B slower at 95 %");
    assert!(alarms <= runs as usize / 20, "{alarms} of {runs}");
}

#[test]
fn a_slower_branch_is_named_only_when_both_margins_are_cleared() {
    assert_eq!(verdict(200, 1.0, 40.0), LatencyVerdict::Slower);
    assert_eq!(verdict(200, 3.0, 0.0), LatencyVerdict::Slower);
    assert_eq!(verdict(200, 1.0, 4.0), LatencyVerdict::NotSlower);
    assert_eq!(verdict(29, 1.0, 40.0), LatencyVerdict::NotEnoughData);
    assert_eq!(summary(&[], &LatencyPolicy::default()), None);
}

#[test]
fn pairs_that_a_slower_route_needs() {
    println!("pairs until named slower (median, longest of 10 runs)");
    let slow = |factor, extra_ms| move |random: &mut Uniform| pair(random, factor, extra_ms);
    let tail = |one_in: u64| {
        move |random: &mut Uniform| {
            let extra_ms = if random.below(one_in) == 0 { 200.0 } else { 0.0 };
            pair(random, 1.0, extra_ms)
        }
    };
    check_needed("1.5 times", LatencyPart::Median, 500, 4_000, slow(1.5, 3.0));
    check_needed("2 times", LatencyPart::Median, 250, 4_000, slow(2.0, 0.0));
    check_needed("20 ms more", LatencyPart::Median, 150, 4_000, slow(1.0, 20.0));
    check_needed("200 ms more in 1 of 10", LatencyPart::P95, 1_500, 8_000, tail(10));
    check_needed("200 ms more in 1 of 50", LatencyPart::P99, 8_000, 20_000, tail(50));
}

#[track_caller]
fn check_needed(
    name: &str,
    part: LatencyPart,
    limit: u64,
    most: u64,
    next: impl Fn(&mut Uniform) -> LatencyPair,
) {
    let policy = LatencyPolicy::default();
    let mut needed: Vec<u64> = (0..10)
        .map(|seed| {
            let (number, slower) = pairs_until_slower(seed, &policy, most, &next).unwrap();
            assert_eq!(slower.part == LatencyPart::Median, part == LatencyPart::Median, "{name}");
            number
        })
        .collect();
    needed.sort_unstable();
    let (median, longest) = (needed.get(5).copied().unwrap(), needed.last().copied().unwrap());
    println!("{name:>24}: {median:>6} {longest:>6}");
    assert!(longest <= limit, "{name}: {longest}");
}

#[test]
fn the_warm_up_is_left_out() {
    let policy =
        LatencyPolicy { warm_up_pairs: 5, warm_up: Duration::from_secs(2), ..LatencyPolicy::default() };
    let mut tally = LatencyTally::new(policy);
    let cold = LatencyPair { control_us: 1_000, candidate_us: 900_000 };
    let warm = LatencyPair { control_us: 1_000, candidate_us: 1_000 };
    let start = Timestamp::default().after(Duration::from_secs(100));
    for number in 0..100_u64 {
        let last_byte = if number < 20 { cold } else { warm };
        let at = start.after(Duration::from_millis(100 * number));
        tally.observe(at, &LatencySample { first_byte: Some(last_byte), last_byte });
    }
    let summary = tally.summary().unwrap();
    assert_eq!((summary.warm_up_pairs, summary.pairs), (20, 80));
    assert_eq!(summary.verdict, LatencyVerdict::NotSlower);
    assert_eq!(summary.last_byte.ratio.map(|ratio| ratio.high), Some(1.0));
}

#[test]
fn a_slow_first_byte_is_named_too() {
    let mut tally = LatencyTally::new(LatencyPolicy::default());
    for _ in 0..100 {
        let first_byte = Some(LatencyPair { control_us: 1_000, candidate_us: 80_000 });
        let last_byte = LatencyPair { control_us: 100_000, candidate_us: 100_000 };
        tally.observe(Timestamp::default(), &LatencySample { first_byte, last_byte });
    }
    let slower = tally.summary().unwrap().slower.unwrap();
    assert_eq!((slower.point, slower.part), (LatencyPoint::FirstByte, LatencyPart::Median));
    assert_eq!((slower.ratio.low, slower.extra_us.high), (80.0, 79_000.0));
}

#[test]
fn what_two_workers_saw_is_what_one_would_have_seen() {
    let policy = LatencyPolicy { warm_up_pairs: 0, ..LatencyPolicy::default() };
    let mut random = Uniform::new(7);
    let (mut one, mut two) =
        (LatencyTally::new(policy), [LatencyTally::new(policy), LatencyTally::new(policy)]);
    for number in 0..3_000 {
        let control_us = 500 + random.below(20_000);
        // Whole multiples, so that the ratio has no fraction that is rounded on its way.
        let last_byte = LatencyPair { control_us, candidate_us: control_us * (1 + random.below(3)) };
        let sample = LatencySample { first_byte: None, last_byte };
        one.observe(Timestamp::default(), &sample);
        two.get_mut(number % 2).unwrap().observe(Timestamp::default(), &sample);
    }
    let shares = two.map(|tally| {
        let json = serde_json::to_string(&tally.share()).unwrap();
        serde_json::from_str::<LatencyShare>(&json).unwrap()
    });
    assert_eq!(LatencyTally::merged(policy, &shares).summary(), one.summary());
}

#[test]
fn the_warm_up_of_each_worker_is_left_out() {
    let pair = |control_us, candidate_us| LatencySample {
        first_byte: None,
        last_byte: LatencyPair { control_us, candidate_us },
    };
    let warm_up = LatencyPolicy::default().warm_up_pairs;
    let share = |pairs: usize, sample: LatencySample| {
        let mut tally = LatencyTally::new(LatencyPolicy::default());
        (0..pairs).for_each(|_| tally.observe(Timestamp::default(), &sample));
        tally.share()
    };
    let cold = share(warm_up, pair(1_000, 900_000));
    let both = [cold.clone(), share(warm_up + 50, pair(1_000, 1_000)), cold.clone()];
    let summary = LatencyTally::merged(LatencyPolicy::default(), &both).summary().unwrap();
    assert_eq!((summary.pairs, summary.warm_up_pairs), (50, 3 * warm_up));
    let summary = LatencyTally::merged(LatencyPolicy::default(), &[cold]).summary().unwrap();
    assert_eq!((summary.pairs, summary.verdict), (warm_up, LatencyVerdict::NotEnoughData));
}

#[test]
fn what_another_host_wrote_may_be_anything() {
    let rows = [(0, 1, 2), (3, 9, 2), (u64::MAX, i64::MIN, i64::MAX), (1, 5, 5)];
    let buckets = Buckets::of_share(&rows);
    assert_eq!(buckets.len(), u64::MAX);
    assert_eq!(buckets.share().len(), 2);
}
