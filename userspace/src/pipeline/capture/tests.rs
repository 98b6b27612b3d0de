//! Tests of how a capture ends.
//!
//! They open no probe: packets come from memory.

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
