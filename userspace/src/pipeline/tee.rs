//! From packets to exchanges: packet → segment → stream → http → pair, in one place and one thread.
//!
//! Reads no clock, waits for nothing, shares nothing; the same packets always give the same exchanges.

use std::time::Duration;

use crate::http::{Connection, HttpContext, HttpLimits};
use crate::metrics::TeeCounts;
use crate::model::{Exchange, FlowKey, Packet, Timestamp, Unused};
use crate::packet::{FragmentLimits, PacketReader, WantedPorts};
use crate::stream::{FlowTable, StreamLimits};

/// Reads exchanges out of packets.
#[derive(Debug)]
pub struct Tee {
    packets: PacketReader,
    flows: FlowTable<Connection>,
    http: HttpContext,
    used: u64,
    unused: [u64; Unused::ALL.len()],
}

/// Tells a [`Tee`] the time of packets that were captured at some other time.
///
/// Time has passed when two packets in a row say so: a single one with a wrong time moves nothing. When it goes back,
/// it starts again from there.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketClock {
    /// When the tee was last told.
    told: Timestamp,
    /// Of the packet before.
    before: Timestamp,
}

/// How much time of packets passes before the tee is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

// === impl Tee ===

impl Tee {
    /// Reads the traffic of these server ports.
    pub fn new(ports: impl IntoIterator<Item = u16>, stream: StreamLimits, http: HttpLimits) -> Self {
        let packets = PacketReader::new(WantedPorts::new(ports), FragmentLimits::default());
        Self::reading(packets, stream, http)
    }

    /// Reads what this reader finds.
    pub fn reading(packets: PacketReader, stream: StreamLimits, http: HttpLimits) -> Self {
        Self {
            packets,
            flows: FlowTable::new(stream),
            http: HttpContext::new(http),
            used: 0,
            unused: [0; Unused::ALL.len()],
        }
    }

    /// Takes one packet and gives each exchange that it finishes to `sink`.
    pub fn take(&mut self, packet: &Packet<'_>, sink: &mut impl FnMut(Exchange)) {
        let Self { packets, flows, http, used, unused } = self;
        let mut count = |taken: Result<(), Unused>| match taken {
            Ok(()) => *used = used.saturating_add(1),
            Err(reason) => {
                if let Some(count) = unused.get_mut(reason as usize) {
                    *count = count.saturating_add(1);
                }
            }
        };
        match packets.read(packet) {
            Ok(segment) => {
                let taken = flows
                    .accept(&segment, &mut |connection: &mut Connection, event| connection.read(event, http));
                if segment.ends_packet {
                    count(taken);
                }
            }
            Err(reason) => count(Err(reason)),
        }
        // Most packets finish no exchange.
        if !http.exchanges.is_empty() {
            http.exchanges.drain(..).for_each(sink);
        }
    }

    /// Lets time pass: gives up gaps that waited too long, and idle flows.
    pub fn tick(&mut self, now: Timestamp, sink: &mut impl FnMut(Exchange)) {
        let Self { packets: _, flows, http, used: _, unused: _ } = self;
        flows.tick(now, &mut |connection: &mut Connection, event| connection.read(event, http));
        http.exchanges.drain(..).for_each(sink);
    }

    /// Ends the flows that the source leaves out from now on, as [`Tee::finish`] ends all.
    pub fn end_flows(&mut self, is_left_out: impl Fn(&FlowKey) -> bool, sink: &mut impl FnMut(Exchange)) {
        let Self { packets: _, flows, http, used: _, unused: _ } = self;
        flows.end_flows(is_left_out, &mut |connection: &mut Connection, event| connection.read(event, http));
        http.exchanges.drain(..).for_each(sink);
    }

    /// Ends all flows: requests that wait for their response come out without it.
    pub fn finish(&mut self, sink: &mut impl FnMut(Exchange)) {
        let Self { packets: _, flows, http, used: _, unused: _ } = self;
        flows.finish(&mut |connection: &mut Connection, event| connection.read(event, http));
        http.exchanges.drain(..).for_each(sink);
    }

    /// Flows that are not HTTP/1.x or no longer, since the last call.
    pub fn take_forgotten(&mut self) -> Vec<FlowKey> {
        self.flows.take_forgotten()
    }

    /// The counts now.
    pub fn counts(&self) -> TeeCounts {
        TeeCounts {
            used: self.used,
            unused: self.unused,
            packet: self.packets.tally(),
            stream: self.flows.tally(),
            http: self.http.tally,
            flows: self.flows.flows(),
            waiting_bytes: self.flows.waiting_bytes(),
            kept_bytes: self.http.kept_bytes(),
        }
    }
}

// === impl PacketClock ===

impl PacketClock {
    /// Takes the time of a packet that the tee has taken, and tells the tee when enough of it has passed. Not before
    /// the packet was taken: a flow that goes on after a long silence is not idle.
    pub fn pass(&mut self, packet: Timestamp, tee: &mut Tee, sink: &mut impl FnMut(Exchange)) {
        let now = packet.min(std::mem::replace(&mut self.before, packet));
        if now < self.told {
            self.told = now;
        } else if now.since(self.told) >= TELL_EVERY {
            self.told = now;
            tee.tick(now, sink);
        }
    }
}

#[cfg(test)]
mod tests;
