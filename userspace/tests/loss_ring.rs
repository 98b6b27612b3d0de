//! Packets that a full kernel ring drops: what is reported whole is whole, and the connections recover.
//!
//! Needs root. Without it the test says `skipped`, and with `UNDERSTUDY_REQUIRE_BPF=1` it fails instead.
#![expect(clippy::unwrap_used, reason = "a test stops where something unexpected happens")]

mod traffic;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, thread};

use understudy::capture::kernel::{BootClock, KernelConfig, KernelSource};
use understudy::capture::{Polled, Source as _};
use understudy::http::HttpLimits;
use understudy::model::{Exchange, Timestamp};
use understudy::pipeline::tee::Tee;
use understudy::stream::StreamLimits;

use traffic::{Framing, Numbers, Plan, Truth, by_id, is_whole};

/// One packet of loopback can be this large, so that a few connections fill it at once.
const RING_BYTES: u32 = 64 << 10;
const CONNECTIONS: usize = 8;
const EXCHANGES: usize = 150;
/// Exchanges of each connection when the flood is over.
const CALM_EXCHANGES: usize = 3;

/// The probe's ring and what is read out of it.
struct Capture {
    source: KernelSource,
    tee: Tee,
    exchanges: Vec<Exchange>,
}

/// Both ends of one connection.
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

// === impl Capture ===

impl Capture {
    fn open(listener: &TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let config = KernelConfig { ports: vec![port], ring_bytes: RING_BYTES, ..KernelConfig::default() };
        let source = KernelSource::open(&config, BootClock::new(Timestamp(0), Duration::ZERO)).unwrap();
        let tee = Tee::new([port], StreamLimits::default(), HttpLimits::default());
        Self { source, tee, exchanges: Vec::new() }
    }

    /// Reads what is in the ring. True when there was something.
    fn read(&mut self) -> bool {
        let Self { source, tee, exchanges } = self;
        let polled = source.poll(Duration::from_millis(20), &mut |packet| {
            tee.take(packet, &mut |exchange| exchanges.push(exchange));
        });
        polled.unwrap() != Polled::Open { packets: 0 }
    }
}

// === impl Ends ===

impl Ends {
    fn open(listener: &TcpListener) -> Self {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nodelay(true).unwrap();
        Self { client, server }
    }

    /// The request one way, then the response the other way.
    fn talk(&mut self, truth: &Truth) {
        let Self { client, server } = self;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut request = vec![0; truth.request.len()];
                server.read_exact(&mut request).unwrap();
                assert!(request == truth.request);
                server.write_all(&truth.response).unwrap();
            });
            client.write_all(&truth.request).unwrap();
            let mut response = vec![0; truth.response.len()];
            client.read_exact(&mut response).unwrap();
            assert!(response == truth.response);
        });
    }
}

#[test]
fn what_a_full_ring_drops_is_marked_or_absent() {
    if !rustix::process::geteuid().is_root() {
        assert!(env::var_os("UNDERSTUDY_REQUIRE_BPF").is_none_or(|value| value != "1"), "this needs root");
        println!("skipped: what_a_full_ring_drops_is_marked_or_absent needs root");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut capture = Capture::open(&listener);
    let mut numbers = Numbers(1);
    let mut truths: Vec<Vec<Truth>> = Vec::new();
    for connection in 0..CONNECTIONS {
        let first = (connection * (EXCHANGES + CALM_EXCHANGES)) as u64;
        let mut of_connection: Vec<Truth> =
            (first..).map(|id| Truth::of(id, &Plan::draw(&mut numbers))).take(EXCHANGES).collect();
        let calm = Plan { request: (Framing::None, 0), response: (Framing::Length, 100) };
        let next = first + EXCHANGES as u64;
        of_connection.extend((next..).map(|id| Truth::of(id, &calm)).take(CALM_EXCHANGES));
        truths.push(of_connection);
    }

    let mut ends: Vec<Ends> = (0..CONNECTIONS).map(|_| Ends::open(&listener)).collect();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (ends, truths) in ends.iter_mut().zip(&truths) {
            let done = &done;
            scope.spawn(move || {
                truths.iter().take(EXCHANGES).for_each(|truth| ends.talk(truth));
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while done.load(Ordering::SeqCst) < CONNECTIONS {
            capture.read();
        }
    });
    while capture.read() {}
    let flood = capture.source.counts().unwrap();
    // One at a time, so that the ring is never full.
    for place in EXCHANGES..EXCHANGES + CALM_EXCHANGES {
        for (ends, truths) in ends.iter_mut().zip(&truths) {
            ends.talk(&truths[place]);
            while capture.read() {}
        }
    }
    drop(ends);
    while capture.read() {}
    let calm = capture.source.counts().unwrap();

    let Capture { source: _, mut tee, mut exchanges } = capture;
    tee.finish(&mut |exchange| exchanges.push(exchange));
    let exchanges = by_id(exchanges);
    let (mut whole, mut marked, mut absent) = (0, 0, 0);
    for truths in &truths {
        for (place, truth) in truths.iter().enumerate() {
            let exchange = exchanges.get(&truth.id);
            match exchange {
                Some(exchange) => {
                    truth.check(exchange);
                    if is_whole(exchange) { whole += 1 } else { marked += 1 }
                }
                None => absent += 1,
            }
            // The first one afterwards may be the one whose boundary was lost.
            assert!(place <= EXCHANGES || exchange.is_some_and(is_whole), "not recovered: {exchange:#?}");
        }
    }
    let drops = |counts: &understudy::capture::SourceCounts| {
        counts.drops.iter().find(|(reason, _)| *reason == "ring_full").map_or(0, |(_, packets)| *packets)
    };
    let stream = tee.counts().stream;
    println!(
        "{} packets dropped; {whole} exchanges whole, {marked} marked, {absent} absent; {} gaps",
        drops(&calm),
        stream.gaps
    );
    assert!(drops(&flood) > 0, "{flood:?}");
    assert_eq!(drops(&calm), drops(&flood), "nothing is dropped without a flood");
    assert!(whole > 0 && absent + marked > 0 && stream.gaps > 0);
}
