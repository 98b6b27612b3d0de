//! What a byte of a flood costs, for a flood of this size and for one of four and sixteen times as much.
//!
//! The bytes a second of one flood are the same in all its rows: no flood makes the next byte dearer. `limits` in the
//! tests says the same of memory.

#[path = "../tests/traffic/mod.rs"]
mod traffic;

use divan::counter::BytesCount;
use divan::{Bencher, Divan};
use understudy::http::HttpLimits;
use understudy::pipeline::tee::Tee;
use understudy::stream::StreamLimits;

use traffic::floods;
use traffic::{SERVER_PORT, take};

const SIZES: [usize; 3] = [1, 4, 16];

fn main() {
    Divan::from_args().sample_count(5).sample_size(1).main();
}

/// Reads the flood of `size` times so many packets, all at their default bounds.
fn play(bencher: Bencher<'_, '_>, packets: usize, size: usize, flood: fn(usize, floods::To<'_>)) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    flood(packets * size, &mut |packet| {
        bytes.extend_from_slice(packet);
        ends.push(bytes.len());
    });
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        let mut tee = Tee::new([SERVER_PORT], StreamLimits::default(), HttpLimits::default());
        let mut start = 0;
        for (number, end) in ends.iter().enumerate() {
            take(&mut tee, &bytes[start..*end], number as u64, &mut drop);
            start = *end;
        }
        tee.counts().used
    });
}

#[divan::bench(args = SIZES)]
fn open_heads(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 160_000, size, floods::open_heads);
}

#[divan::bench(args = SIZES)]
fn syns(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 200_000, size, floods::syns);
}

#[divan::bench(args = SIZES)]
fn tiny_segments(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 50_000, size, floods::tiny_segments);
}

#[divan::bench(args = SIZES)]
fn endless_heads(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 20_000, size, floods::endless_heads);
}

#[divan::bench(args = SIZES)]
fn one_endless_head(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 10_000, size, floods::one_endless_head);
}

#[divan::bench(args = SIZES)]
fn endless_chunk_extensions(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 5_000, size, floods::endless_chunk_extensions);
}

#[divan::bench(args = SIZES)]
fn interleaved_ranges(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 20_000, size, floods::interleaved_ranges);
}

#[divan::bench(args = SIZES)]
fn unanswered(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 20_000, size, floods::unanswered);
}

#[divan::bench(args = SIZES)]
fn unfinished_bodies(bencher: Bencher<'_, '_>, size: usize) {
    play(bencher, 20_000, size, floods::unfinished_bodies);
}
