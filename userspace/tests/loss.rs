//! Packets that are lost on purpose: what is reported whole is whole, and what is not has its reason.
//!
//! Loses packets of a generated capture with seeds that stay the same; `loss_ring.rs` loses them in a real ring.
#![expect(clippy::print_stdout, reason = "what was lost and what came of it is worth reading")]

mod traffic;

use std::collections::{HashMap, HashSet};

use understudy::http::HttpLimits;
use understudy::pipeline::tee::Tee;
use understudy::stream::StreamLimits;

use traffic::{Connection, Numbers, Plan, SEGMENT_BYTES, SERVER_PORT, Sent, Truth, by_id, is_whole, play};

/// Packets of many connections, in the order in which they pass.
struct Capture {
    packets: Vec<Sent>,
    truths: HashMap<u64, Truth>,
    /// Exchanges of each connection, in order.
    order: Vec<Vec<u64>>,
}

/// What is lost.
#[derive(Clone, Copy, Debug)]
struct Loss {
    per_million: u32,
    seed: u64,
}

const CONNECTIONS: usize = 40;
/// 0.1 %, 1 % and 10 %.
const RATES: [u32; 3] = [1_000, 10_000, 100_000];

/// Connections of `rounds` turns each. `pipelined` requests go out together in each turn, each in segments of its own
/// that are `cut_min` bytes long at least.
fn capture(seed: u64, rounds: usize, pipelined: usize, cut_min: usize) -> Capture {
    let mut numbers = Numbers(seed);
    let mut truths = HashMap::new();
    let mut order = Vec::new();
    let mut waiting = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut wire = Connection::new(connection as u32);
        let mut ids = Vec::new();
        wire.open();
        for round in 0..rounds {
            let of_turn: Vec<Truth> = (0..pipelined)
                .map(|place| {
                    let id = ((connection * rounds + round) * pipelined + place) as u64;
                    Truth::of(id, &Plan::draw(&mut numbers))
                })
                .collect();
            let mut small = Numbers(numbers.draw());
            let requests: Vec<(u64, &[u8])> =
                of_turn.iter().map(|truth| (truth.id, &truth.request[..])).collect();
            let responses: Vec<(u64, &[u8])> =
                of_turn.iter().map(|truth| (truth.id, &truth.response[..])).collect();
            let mut cut =
                || if small.below(4) == 0 { cut_min + small.below(SEGMENT_BYTES) } else { SEGMENT_BYTES };
            for request in &requests {
                wire.send(true, std::slice::from_ref(request), &mut cut);
            }
            for response in &responses {
                wire.send(false, std::slice::from_ref(response), &mut cut);
            }
            for truth in of_turn {
                ids.push(truth.id);
                truths.insert(truth.id, truth);
            }
        }
        wire.close();
        order.push(ids);
        waiting.push(wire.packets.into_iter());
    }
    let mut packets = Vec::new();
    while !waiting.is_empty() {
        let turn = numbers.below(waiting.len());
        // A few at a time, as they come off a card.
        let burst: Vec<Sent> = waiting[turn].by_ref().take(1 + numbers.below(6)).collect();
        if burst.is_empty() {
            drop(waiting.swap_remove(turn));
        }
        packets.extend(burst);
    }
    Capture { packets, truths, order }
}

/// Loses packets and looks at every exchange that was sent.
#[track_caller]
fn check(capture: &Capture, loss: Loss, pipelined: usize) {
    let Loss { per_million, seed } = loss;
    let mut numbers = Numbers(seed);
    let (lost, seen): (Vec<&Sent>, Vec<&Sent>) =
        capture.packets.iter().partition(|_| numbers.happens(per_million));
    let touched: HashSet<u64> = lost.iter().flat_map(|sent| sent.ids.iter().copied()).collect();

    let mut tee = Tee::new([SERVER_PORT], StreamLimits::default(), HttpLimits::default());
    let exchanges = by_id(play(&mut tee, seen.iter().map(|sent| &sent.bytes[..])));
    let counts = tee.counts();
    let (mut whole, mut marked, mut absent) = (0, 0, 0);
    for ids in &capture.order {
        for (place, id) in ids.iter().enumerate() {
            let exchange = exchanges.get(id);
            if let Some(exchange) = exchange {
                capture.truths[id].check(exchange);
            }
            match exchange {
                Some(exchange) if is_whole(exchange) => whole += 1,
                Some(_) => marked += 1,
                None => absent += 1,
            }
            if pipelined > 1 && !lost.is_empty() {
                // What answers what behind a loss cannot always be known then.
                continue;
            }
            // A request whose end was lost may have had another behind it, so that the next answer may be that one's.
            let near = &ids[place.saturating_sub(1)..=place];
            assert!(
                exchange.is_some_and(is_whole) || near.iter().any(|id| touched.contains(id)),
                "no byte of {id} was lost, nor of the one before it: {exchange:#?}"
            );
            assert!(exchange.is_some() || touched.contains(id), "{id} is absent");
        }
    }
    println!(
        "{per_million} of a million lost, seed {seed}: {} of {} packets; {whole} exchanges whole, {marked} marked, \
         {absent} absent; {} gaps",
        lost.len(),
        capture.packets.len(),
        counts.stream.gaps
    );
    assert_eq!(exchanges.len() as u64, counts.http.exchanges);
    assert_eq!(counts.http.exchanges, counts.http.requests);
    assert_eq!((counts.flows, counts.waiting_bytes, counts.kept_bytes), (0, 0, 0));
    assert_eq!(counts.used + counts.unused.iter().sum::<u64>(), seen.len() as u64);
    assert!(absent + marked == 0 || counts.stream.gaps + counts.stream.flows_mid_stream > 0);
    assert!(whole > 0 && (lost.is_empty() || absent + marked > 0));
}

#[test]
fn without_loss_every_exchange_is_whole() {
    for pipelined in [1, 5] {
        check(&capture(1, 8, pipelined, 1), Loss { per_million: 0, seed: 1 }, pipelined);
    }
}

#[test]
fn with_one_request_at_a_time_a_loss_reaches_the_next_exchange_at_most() {
    for seed in 1..=3 {
        // A start line is not cut.
        let capture = capture(seed, 60, 1, 64);
        for per_million in RATES {
            check(&capture, Loss { per_million, seed }, 1);
        }
    }
}

#[test]
fn a_segment_that_begins_inside_a_start_line_is_no_request() {
    for seed in 11..=13 {
        let capture = capture(seed, 60, 1, 1);
        for per_million in RATES {
            check(&capture, Loss { per_million, seed }, 1);
        }
    }
}

#[test]
fn pipelined_exchanges_are_never_mispaired() {
    for seed in 1..=3 {
        for cut_min in [1, 64] {
            let capture = capture(100 + seed, 12, 5, cut_min);
            for per_million in RATES {
                check(&capture, Loss { per_million, seed }, 5);
            }
        }
    }
}
