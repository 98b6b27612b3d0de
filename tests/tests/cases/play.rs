//! Plays the packets of a case through the library.
//!
//! Judges nothing.

use anyhow::{Result, ensure};
use understudy::http::{HttpLimits, HttpTally};
use understudy::model::{
    Chunk, Direction, Exchange, Interest, LinkType, Opened, Packet, Sender, StreamEvent, StreamReader,
    Timestamp, Unused,
};
use understudy::packet::{self, WantedPorts};
use understudy::pipeline::tee::Tee;
use understudy::stream::{FlowTable, StreamLimits, StreamTally};
use understudy_tests::case::{Case, Event};

/// Which ports are said to be the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// The one that the cases use.
    Wanted,
    /// None is: any may be.
    Any,
}

/// What was read.
pub(crate) struct Played {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) stream: StreamTally,
    pub(crate) http: HttpTally,
    pub(crate) unused: Vec<(Unused, u64)>,
    /// Flows of which the source was told that nobody wants them.
    pub(crate) forgotten: usize,
}

/// A reader that writes down the bytes of both directions.
#[derive(Debug, Default)]
struct Log {
    to_server: String,
    to_client: String,
}

/// The port of every case's server.
pub(crate) const SERVER_PORT: u16 = 80;

/// The exchanges in these packets, and what was counted.
pub(crate) fn exchanges(events: &[Event], ports: Ports) -> Result<Played> {
    let (stream, http) = (StreamLimits::default(), HttpLimits::default());
    let mut tee = match ports {
        Ports::Wanted => Tee::new([SERVER_PORT], stream, http),
        Ports::Any => Tee::new(0..=u16::MAX, stream, http),
    };
    let mut exchanges = Vec::new();
    let mut forgotten = 0;
    for event in events {
        match event {
            Event::Packet { at_ns, bytes } => {
                tee.tick(Timestamp(*at_ns), &mut |exchange| exchanges.push(exchange));
                tee.take(&raw_ip(*at_ns, bytes), &mut |exchange| exchanges.push(exchange));
            }
            Event::Silence { at_ns } => tee.tick(Timestamp(*at_ns), &mut |exchange| exchanges.push(exchange)),
        }
        forgotten += tee.take_forgotten().len();
    }
    tee.finish(&mut |exchange| exchanges.push(exchange));
    let counts = tee.counts();
    let packets = events.iter().filter(|event| matches!(event, Event::Packet { .. })).count() as u64;
    ensure!(counts.used + counts.unused.iter().sum::<u64>() == packets, "every packet has its count");
    ensure!(counts.http.exchanges == exchanges.len() as u64, "every exchange is counted");
    ensure!(counts.http.exchanges == counts.http.requests, "every request comes out");
    ensure!((counts.flows, counts.waiting_bytes, counts.kept_bytes) == (0, 0, 0), "nothing is kept");
    let unused = Unused::ALL.into_iter().zip(counts.unused).collect();
    Ok(Played { exchanges, stream: counts.stream, http: counts.http, unused, forgotten })
}

/// Both directions of all connections of a case, whole, after each of its steps.
pub(crate) fn streams(case: &Case) -> Result<String> {
    let wanted = WantedPorts::new([SERVER_PORT]);
    let mut flows: FlowTable<Log> = FlowTable::new(StreamLimits::default());
    let mut heard = Log::default();
    let mut shown = String::new();
    for (number, event) in case.events(|_| Vec::new())?.iter().enumerate() {
        let mut read = |_: &mut Log, event: StreamEvent<'_>| {
            heard.hear(event);
            Interest::Keep
        };
        let outcome = match event {
            Event::Packet { at_ns, bytes } => {
                flows.tick(Timestamp(*at_ns), &mut read);
                match packet::parse(&raw_ip(*at_ns, bytes), &wanted) {
                    Ok(segment) => flows.accept(&segment, &mut read),
                    Err(unused) => Err(unused),
                }
            }
            Event::Silence { at_ns } => {
                flows.tick(Timestamp(*at_ns), &mut read);
                Ok(())
            }
        };
        let unused = outcome.err().map(|unused| format!("  ({})", unused.label())).unwrap_or_default();
        let Log { to_server, to_client } = &heard;
        shown += &format!("{:>2} > \"{to_server}\" < \"{to_client}\"{unused}\n", number + 1);
    }
    flows.finish(&mut |_, event| {
        heard.hear(event);
        Interest::Keep
    });
    let Log { to_server, to_client } = &heard;
    shown += &format!("   > \"{to_server}\" < \"{to_client}\"  at the end\n");
    Ok(shown + &super::show::stream_tally(&flows.tally()))
}

fn raw_ip(at_ns: u64, bytes: &[u8]) -> Packet<'_> {
    let wire_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    Packet { captured_at: Timestamp(at_ns), link: LinkType::RawIp, wire_bytes, bytes }
}

// === impl Log ===

impl Log {
    /// A gap shows as `[3]`, the end of a direction as `|`, a break-off as `!`.
    fn hear(&mut self, event: StreamEvent<'_>) {
        let stream = match event.direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        match event.chunk {
            Chunk::Bytes(bytes) => *stream += &bytes.escape_ascii().to_string(),
            Chunk::Gap { bytes } => *stream += &format!("[{bytes}]"),
            Chunk::End => stream.push('|'),
            Chunk::Again(_) => {}
            Chunk::Disputed { bytes } => *stream += &format!("{{{bytes}}}"),
            Chunk::Abort => stream.push('!'),
        }
    }
}

impl From<Opened> for Log {
    fn from(_: Opened) -> Self {
        Log::default()
    }
}

impl StreamReader for Log {
    fn sender(_: &[u8]) -> Sender {
        Sender::Neither
    }
}
