//! Tests of how a capture ends, and of how it leaves flows out.
//!
//! They open no probe: packets come from memory.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::super::protect::governor::GovernorLimits;
use super::super::protect::pause::PauseFlag;
use super::super::protect::throttle::Surroundings;
use super::*;
use crate::capture::{FlowSample, SourceCounts};
use crate::http::HttpLimits;
use crate::model::{FlowKey, LinkType, Packet, Timestamp};
use crate::stream::StreamLimits;

/// Hands over one packet, and breaks once it was closed.
struct BreaksAtTheEnd {
    packet: Option<Vec<u8>>,
    closed: bool,
}

impl Source for BreaksAtTheEnd {
    fn poll(&mut self, _: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        if self.closed {
            return Err(CaptureError::BadRecord { record_bytes: 0, payload_bytes: 1 });
        }
        let Some(bytes) = self.packet.take() else { return Ok(Polled::Ended) };
        let wire_bytes = u32::try_from(bytes.len()).unwrap();
        let captured_at = Timestamp(1);
        take(&Packet { captured_at, link: LinkType::RawIp, wire_bytes, bytes: &bytes });
        Ok(Polled::Open { packets: 1 })
    }

    fn forget_flow(&mut self, _: &FlowKey) -> Result<(), CaptureError> {
        Ok(())
    }

    fn keep_flows(&mut self, _: FlowSample) -> Result<(), CaptureError> {
        Ok(())
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn counts(&mut self) -> Result<SourceCounts, CaptureError> {
        Ok(SourceCounts::default())
    }
}

/// A ring that hands over one packet at a time.
#[derive(Default)]
struct Ring {
    packets: VecDeque<(Timestamp, Vec<u8>)>,
    /// What the probe was told to keep, in order.
    kept: Vec<FlowSample>,
}

impl Source for Ring {
    fn poll(&mut self, _: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        let Some((captured_at, bytes)) = self.packets.pop_front() else {
            return Ok(Polled::Open { packets: 0 });
        };
        let wire_bytes = u32::try_from(bytes.len()).unwrap();
        take(&Packet { captured_at, link: LinkType::RawIp, wire_bytes, bytes: &bytes });
        Ok(Polled::Open { packets: 1 })
    }

    fn forget_flow(&mut self, _: &FlowKey) -> Result<(), CaptureError> {
        Ok(())
    }

    fn keep_flows(&mut self, sample: FlowSample) -> Result<(), CaptureError> {
        self.kept.push(sample);
        Ok(())
    }

    fn close(&mut self) {}

    fn counts(&mut self) -> Result<SourceCounts, CaptureError> {
        Ok(SourceCounts::default())
    }
}

/// The packets of one exchange: the SYN of either side, the request, and the answer that acknowledges it.
fn exchange_packets() -> [Vec<u8>; 4] {
    let request = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let to_server = || etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let to_client = || etherparse::PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64);
    let mut packets = [const { Vec::new() }; 4];
    let [opening, agreeing, asking, answering] = &mut packets;
    to_server().tcp(40_000, 80, 0, 1024).syn().write(opening, &[]).unwrap();
    to_client().tcp(80, 40_000, 0, 1024).syn().ack(1).write(agreeing, &[]).unwrap();
    to_server().tcp(40_000, 80, 1, 1024).ack(1).write(asking, request).unwrap();
    let asked = u32::try_from(1 + request.len()).unwrap();
    to_client().tcp(80, 40_000, 1, 1024).ack(asked).write(answering, answer).unwrap();
    packets
}

#[test]
fn a_flow_that_is_left_out_ends_when_its_last_packet_has_come_out_of_the_ring() {
    let steady = clock::Steady::start();
    let [opening, agreeing, request, answer] = exchange_packets();
    let (pause, is_paused) = watch::channel(false);
    let surroundings = Surroundings { pause: PauseFlag::of(is_paused), ..Surroundings::none(1 << 20) };
    let mut capture = Capture {
        source: Ring::default(),
        tee: Tee::new([80], StreamLimits::default(), HttpLimits::default()),
        throttle: Some(Throttle::new(
            GovernorLimits::default(),
            FlowSample::ALL,
            FlowSample::ALL,
            surroundings,
        )),
        heartbeat: Heartbeat::default(),
        counts: watch::Sender::new(CaptureCounts::default()),
    };
    let mut answered = Vec::new();
    let mut round = |capture: &mut Capture<Ring>, packet: Option<(Timestamp, &Vec<u8>)>| {
        let mut sink = |exchange: Exchange| answered.push(exchange.response.is_some());
        let (now, counts) = (steady.now(), SourceCounts::default());
        capture.source.packets.extend(packet.map(|(at, bytes)| (at, bytes.clone())));
        if let Some(throttle) = &mut capture.throttle {
            throttle.backlog().begin(now);
        }
        capture.drain(Duration::ZERO, &mut None, &mut sink).unwrap();
        capture.throttle(&counts, steady, &mut sink).unwrap();
        (capture.tee.counts().flows, answered.clone())
    };
    let before = steady.now();
    for packet in [&opening, &agreeing] {
        assert_eq!(round(&mut capture, Some((before, packet))), (1, vec![]));
    }
    pause.send_replace(true);
    // From here on nothing more is copied; the answer was copied before, and lies in the ring.
    assert_eq!(round(&mut capture, Some((before, &request))), (1, vec![]));
    pause.send_replace(false);
    assert_eq!(round(&mut capture, Some((before, &answer))), (1, vec![true]));
    assert_eq!(
        capture.source.kept,
        [FlowSample::NONE],
        "more flows wait for the end of those that were left out"
    );
    // Something of another port, copied later.
    let later = steady.now().after(Duration::from_secs(3_600));
    assert_eq!(round(&mut capture, Some((later, &vec![0]))), (0, vec![true]));
    assert_eq!(capture.tee.counts().stream.flows_left_out, 1);
    assert_eq!(capture.source.kept, [FlowSample::NONE, FlowSample::ALL]);
}

#[test]
fn what_was_read_comes_out_when_the_source_breaks_at_the_end() {
    let request = b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(40_000, 80, 1, 1024)
        .write(&mut bytes, request)
        .unwrap();
    let capture = Capture {
        source: BreaksAtTheEnd { packet: Some(bytes), closed: false },
        tee: Tee::new([80], StreamLimits::default(), HttpLimits::default()),
        throttle: None,
        heartbeat: Heartbeat::default(),
        counts: watch::Sender::new(CaptureCounts::default()),
    };
    let mut targets = Vec::new();
    let end = capture.run(&AtomicBool::new(false), &mut |exchange| targets.push(exchange.request.target));
    assert!(matches!(end, Err(CaptureError::BadRecord { .. })), "{end:?}");
    assert_eq!(targets, ["/half"]);
}
