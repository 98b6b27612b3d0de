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
    /// The loopback of BSD: an address family in four bytes, in the byte order of one host or of the network.
    Loopback,
    /// Linux' "cooked" header, version 1.
    LinuxCooked,
    /// Linux' "cooked" header, version 2.
    LinuxCooked2,
    /// A PPP header, with or without address and control bytes.
    Ppp,
    /// The same behind a byte that says who sent the packet, which may stand in the place of the address byte.
    PppDirected,
    /// A PPPoE session header.
    Pppoe,
    /// What netfilter logged: attributes, one of which is an IP packet.
    Netfilter,
    /// 802.11 in one of its forms.
    Wireless,
    /// Any other, with its number in capture files.
    Other(u16),
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
    /// The virtual network as its tags name it (VLAN, VXLAN, Geneve, NVGRE), 0 without any. The two directions of one
    /// connection may have different tags, or one of them none.
    pub network: u32,
    /// Which way it travels, where the source knows which end is the server.
    pub direction: Option<Direction>,
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: Seq,
    /// The next byte that the sender expects from the other side, when the ACK flag is set.
    pub ack: Option<Seq>,
    /// The flags that matter here.
    pub flags: TcpFlags,
    /// The window as its field says it; 0 where the source does not know it.
    pub window: u16,
    /// By how many bits windows of this side are to be shifted; only a SYN says that (RFC 7323 section 2.2).
    pub window_scale: Option<u8>,
    /// The payload that was captured.
    pub payload: &'a [u8],
    /// The payload's length on the wire; more than `payload.len()` when the capture cut it.
    pub wire_payload_bytes: u32,
    /// What its checksum says.
    pub checksum: Checksum,
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

/// What the checksum of a segment says of its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: it is known to be unfinished, not all of the segment was captured, or the source is inside the host.
    #[default]
    Unjudged,
    /// They are those that were sent.
    Right,
    /// They are not those it was made for.
    Wrong,
}

/// Why a captured packet told us nothing. Packets handed over = packets used + Σ of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unused {
    /// Its headers contradict themselves or are cut.
    Malformed,
    /// It is not TCP.
    NotTcp,
    /// It is a fragment of an IP packet: the rest has not come, or may never come.
    Fragment,
    /// Neither of its ports is a wanted one.
    OtherPort,
    /// It carries no payload and belongs to no flow that is known.
    NoFlow,
    /// Its flow has ended.
    FlowEnded,
    /// Its flow is not HTTP/1.x, or no longer.
    FlowNotHttp,
    /// It is not IP.
    NotIp,
    /// It may hold TCP inside of something that is not read; see [`Unsupported`].
    Unsupported,
}

/// What may hold TCP and is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unsupported {
    /// 802.11 frames.
    Wireless,
    /// A link type that is not known here.
    LinkType,
    /// PPP with compression, encryption or several links.
    PppProtocol,
    /// ESP: encrypted (RFC 4303).
    Esp,
    /// MACsec: encrypted or not (IEEE 802.1AE).
    Macsec,
    /// GRE of another version or with routing.
    Gre,
    /// L2TP (RFC 3931).
    L2tp,
    /// Teredo (RFC 4380).
    Teredo,
    /// VXLAN with another payload than Ethernet.
    VxlanGpe,
    /// Backbone bridging, TRILL, service headers and other encapsulations that an EtherType names.
    EtherType,
    /// An IP protocol that wraps packets, such as EtherIP or IPComp.
    IpProtocol,
    /// Layers upon layers.
    TooDeep,
    /// A fragment inside of a packet that was put together from fragments.
    NestedFragment,
}

// === impl LinkType ===

impl LinkType {
    /// One of each kind; of those that are not known, the first number that is left for private use.
    pub const ALL: [LinkType; 12] = [
        LinkType::Probe,
        LinkType::RawIp,
        LinkType::Ethernet,
        LinkType::Loopback,
        LinkType::LinuxCooked,
        LinkType::LinuxCooked2,
        LinkType::Ppp,
        LinkType::PppDirected,
        LinkType::Pppoe,
        LinkType::Netfilter,
        LinkType::Wireless,
        LinkType::Other(147),
    ];

    /// The link type with this number in capture files (<https://www.tcpdump.org/linktypes.html>). Several numbers
    /// for raw IP differ by system.
    pub fn from_number(number: u16) -> LinkType {
        match number {
            0 | 108 => LinkType::Loopback,
            1 => LinkType::Ethernet,
            // The last one is Cisco's HDLC, which the others may also turn out to be.
            9 | 50 | 104 => LinkType::Ppp,
            51 => LinkType::Pppoe,
            166 | 204 => LinkType::PppDirected,
            12 | 14 | 101 | 228 | 229 => LinkType::RawIp,
            // Plain, Prism, radiotap, AVS, PPI.
            105 | 119 | 127 | 163 | 192 => LinkType::Wireless,
            113 => LinkType::LinuxCooked,
            239 => LinkType::Netfilter,
            276 => LinkType::LinuxCooked2,
            other => LinkType::Other(other),
        }
    }
}

// === impl Unused ===

impl Unused {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Unused; 9] = [
        Unused::Malformed,
        Unused::NotTcp,
        Unused::Fragment,
        Unused::OtherPort,
        Unused::NoFlow,
        Unused::FlowEnded,
        Unused::FlowNotHttp,
        Unused::NotIp,
        Unused::Unsupported,
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
            Unused::NotIp => "not_ip",
            Unused::Unsupported => "unsupported",
        }
    }
}

// === impl Unsupported ===

impl Unsupported {
    /// All of them, in the order of their numbers.
    pub const ALL: [Unsupported; 13] = [
        Unsupported::Wireless,
        Unsupported::LinkType,
        Unsupported::PppProtocol,
        Unsupported::Esp,
        Unsupported::Macsec,
        Unsupported::Gre,
        Unsupported::L2tp,
        Unsupported::Teredo,
        Unsupported::VxlanGpe,
        Unsupported::EtherType,
        Unsupported::IpProtocol,
        Unsupported::TooDeep,
        Unsupported::NestedFragment,
    ];

    /// What it is, for people.
    pub fn label(self) -> &'static str {
        match self {
            Unsupported::Wireless => "802.11",
            Unsupported::LinkType => "link type",
            Unsupported::PppProtocol => "PPP protocol",
            Unsupported::Esp => "ESP",
            Unsupported::Macsec => "MACsec",
            Unsupported::Gre => "GRE variant",
            Unsupported::L2tp => "L2TP",
            Unsupported::Teredo => "Teredo",
            Unsupported::VxlanGpe => "VXLAN-GPE",
            Unsupported::EtherType => "EtherType",
            Unsupported::IpProtocol => "IP protocol",
            Unsupported::TooDeep => "too many layers",
            Unsupported::NestedFragment => "nested fragments",
        }
    }
}
