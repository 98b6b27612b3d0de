//! Memory under hostile traffic: a counting allocator sees that no flood takes more than the named bounds.
//!
//! Measures no time; `benches/floods.rs` does.
#![expect(clippy::print_stdout, reason = "what was measured is worth reading, and ARCHITECTURE.md quotes it")]

mod traffic;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use understudy::http::HttpLimits;
use understudy::metrics::TeeCounts;
use understudy::pipeline::tee::Tee;
use understudy::stream::StreamLimits;

use traffic::floods;
use traffic::{SERVER_PORT, take};

/// Counts what this thread holds.
struct Counting;

thread_local! {
    /// Bytes that are held now, and the most since the last look. A test has a thread of its own.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(freed: usize, taken: usize) {
    // Threads allocate once more when their locals are gone already.
    let _gone = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = (now + taken).saturating_sub(freed);
        held.set((now, most.max(now)));
    });
}

// === impl Counting ===

// SAFETY: every call goes on to the system's allocator as it came.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // For a moment both may exist.
        count(0, size);
        count(layout.size(), 0);
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

/// A connection that is known and idle, with its place in every index.
const FLOW_BYTES: usize = 1_300;
/// The part of a head that each flow of `open_heads` sends, with the room that its list grows to.
const OPEN_HEAD_BYTES: usize = 400;
/// What does not grow: the set of ports, spare lists, buffers of one packet.
const FIXED_BYTES: usize = 256 << 10;
const MIB: usize = 1 << 20;

/// Plays a flood of so many packets. Memory must not pass `bytes_max` at any moment, and all of it is free at the end.
/// Gives the counts before the end.
#[track_caller]
fn check(
    packets: usize,
    stream: StreamLimits,
    http: HttpLimits,
    bytes_max: usize,
    flood: fn(usize, floods::To<'_>),
) -> TeeCounts {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let mut tee = Tee::new([SERVER_PORT], stream, http);
    let mut taken = 0u64;
    let mut bytes = 0usize;
    flood(packets, &mut |packet| {
        // Whoever takes exchanges has bounds of its own.
        take(&mut tee, packet, taken, &mut drop);
        taken += 1;
        bytes += packet.len();
        if taken.is_multiple_of(1_000) {
            let counts = tee.counts();
            assert!(counts.flows <= stream.flows_max, "{counts:?}");
            assert!(counts.waiting_bytes <= stream.waiting_bytes_max, "{counts:?}");
            assert!(counts.kept_bytes <= http.kept_bytes_max + http.heads_kept_max, "{counts:?}");
        }
    });
    let (_, most) = HELD.get();
    let counts = tee.counts();
    let held = most - before;
    tee.finish(&mut drop);
    drop(tee);
    let (after, _) = HELD.get();
    assert!(after <= before, "{} bytes are held for ever", after - before);
    // Only now: what is printed may be kept in memory as well.
    println!(
        "{taken} packets of {bytes} bytes, {} flows now: {held} bytes of memory at most, {bytes_max} are allowed",
        counts.flows
    );
    assert!(held <= bytes_max, "{held} bytes of memory, {bytes_max} are allowed");
    counts
}

fn limits() -> (StreamLimits, HttpLimits) {
    (StreamLimits::default(), HttpLimits::default())
}

#[test]
fn a_hundred_thousand_open_flows_with_a_head_each() {
    let (stream, http) = limits();
    let stream = StreamLimits { flows_max: 100_000, ..stream };
    let counts = check(400_000, stream, http, 100_000 * (FLOW_BYTES + OPEN_HEAD_BYTES), floods::open_heads);
    assert_eq!((counts.flows, counts.stream.flows_evicted), (100_000, 0));
    assert_eq!(counts.http.oversize_heads, 0, "each of the heads is held");
}

#[test]
fn a_flood_of_syns() {
    let (stream, http) = limits();
    let counts = check(500_000, stream, http, stream.flows_max * FLOW_BYTES, floods::syns);
    assert_eq!(counts.flows, stream.flows_max);
    assert_eq!(counts.stream.flows_evicted, 500_000 - stream.flows_max as u64);
}

#[test]
fn tiny_segments_out_of_order() {
    let (stream, http) = limits();
    let counts = check(300_000, stream, http, stream.waiting_bytes_max + FIXED_BYTES, floods::tiny_segments);
    assert!(counts.stream.gaps_at_bound > 0);
}

#[test]
fn heads_without_an_end() {
    let (stream, http) = limits();
    // A buffer doubles when it is full, and may be half empty then; so below with bodies.
    let counts = check(60_000, stream, http, 2 * http.heads_kept_max + 4 * MIB, floods::endless_heads);
    assert!(counts.http.oversize_heads > 0);
    check(10_000, stream, http, 4 * http.head_bytes_max + FIXED_BYTES, floods::one_endless_head);
}

#[test]
fn chunk_extensions_without_an_end() {
    let (stream, http) = limits();
    let counts = check(60_000, stream, http, FIXED_BYTES, floods::endless_chunk_extensions);
    assert_eq!((counts.http.requests, counts.http.boundaries_lost), (1, 0), "they are passed over");
}

#[test]
fn interleaved_ranges() {
    let (stream, http) = limits();
    let counts = check(300_000, stream, http, stream.waiting_bytes_max + MIB, floods::interleaved_ranges);
    assert!(counts.stream.repeated_bytes > 0 && counts.stream.conflicts > 0);
}

#[test]
fn requests_without_an_answer() {
    let (stream, http) = limits();
    // The lists of requests double when they are full.
    let counts = check(300_000, stream, http, http.heads_kept_max * 3 / 2, floods::unanswered);
    assert!(counts.http.exchanges_at_bound > 0);
}

#[test]
fn bodies_without_an_end() {
    let (stream, http) = limits();
    let counts = check(60_000, stream, http, 2 * http.kept_bytes_max + 4 * MIB, floods::unfinished_bodies);
    assert!(counts.http.bodies_cut > 0);
}
