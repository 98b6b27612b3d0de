//! What a source hands over, and the TCP part of it.
//!
//! Both borrow the source's memory: nothing is copied before a byte is known to be needed.

use super::{Direction, Endpoint, Seq, Timestamp};

/// What one run of the probe copied out, or one packet of a capture file.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it was captured.
    pub captured_at: Timestamp,
    /// How `bytes` begin.
    pub link: LinkType,
    /// Length on the wire in bytes; more than `bytes` when the capture cut it.
    pub wire_bytes: u32,
    /// The captured bytes.
    pub bytes: &'a [u8],
}

/// How the bytes of a packet begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// A record of our probe: `understudy_abi::RecordHeader`, then payload.
    Probe,
    /// An IPv4 or IPv6 header.
    RawIp,
    /// An Ethernet header.
    Ethernet,
}

/// The TCP part of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// When it was captured.
    pub captured_at: Timestamp,
    /// The sender.
    pub source: Endpoint,
    /// The receiver.
    pub destination: Endpoint,
    /// See [`super::FlowKey::scope`].
    pub scope: u64,
    /// Which way it travels, where the source knows which end is the server.
    pub direction: Option<Direction>,
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: Seq,
    /// The next byte that the sender expects from the other side, when the ACK flag is set.
    pub ack: Option<Seq>,
    /// The flags that matter here.
    pub flags: TcpFlags,
    /// The payload that was captured.
    pub payload: &'a [u8],
    /// The payload's length on the wire; more than `payload.len()` when the capture cut it.
    pub wire_payload_bytes: u32,
    /// False when more records of the same packet follow (the probe cuts large packets).
    pub ends_packet: bool,
}

/// The TCP flags that reassembly needs (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// First packet of a side; occupies one sequence number before the payload.
    pub syn: bool,
    /// Last byte of a side; occupies one sequence number after the payload.
    pub fin: bool,
    /// The connection is gone.
    pub rst: bool,
}

/// Why a captured packet told us nothing. Packets handed over = packets used + Σ of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unused {
    /// Its headers contradict themselves or are cut.
    Malformed,
    /// It is not TCP.
    NotTcp,
    /// It is a fragment of an IP packet.
    Fragment,
    /// Neither of its ports is a wanted one.
    OtherPort,
    /// It carries no payload and belongs to no flow that is known.
    NoFlow,
    /// Its flow has ended.
    FlowEnded,
    /// Its flow is not HTTP/1.x, or no longer.
    FlowNotHttp,
}

// === impl Unused ===

impl Unused {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Unused; 7] = [
        Unused::Malformed,
        Unused::NotTcp,
        Unused::Fragment,
        Unused::OtherPort,
        Unused::NoFlow,
        Unused::FlowEnded,
        Unused::FlowNotHttp,
    ];

    /// The reason as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Unused::Malformed => "malformed",
            Unused::NotTcp => "not_tcp",
            Unused::Fragment => "fragment",
            Unused::OtherPort => "other_port",
            Unused::NoFlow => "no_flow",
            Unused::FlowEnded => "flow_ended",
            Unused::FlowNotHttp => "flow_not_http",
        }
    }
}
