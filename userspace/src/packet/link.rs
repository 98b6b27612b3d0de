//! Link layers: what stands before the IP header in a capture file.
//!
//! VLAN tags are noted and judged nowhere here: whether they tell two connections apart is `stream`'s to say.

use super::rest::Rest;
use super::{Layer, Skipped, Step, tunnel};
use crate::model::{LinkType, Packet, Unsupported, Unused};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and two numbers that were used before it.
const VLAN: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const BRIDGED_ETHERNET: u16 = 0x6558;
const MPLS: [u16; 2] = [0x8847, 0x8848];
const PPP: u16 = 0x880b;
const PPPOE_SESSION: u16 = 0x8864;
const MACSEC: u16 = 0x88e5;
/// ERSPAN II, which GRE carries, and I, which has no header.
const ERSPAN: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;
/// TRILL, FabricPath, backbone bridging, network service header.
const WRAPPING: [u16; 4] = [0x22f3, 0x8903, 0x88e7, 0x894f];

/// Unnumbered information (RFC 1662 section 3.1). No protocol of PPP has this number.
const PPP_CONTROL: u8 = 0x03;

/// Below this, the field is the length of an 802.3 frame.
const ETHERTYPE_MIN: u16 = 0x0600;

/// `AF_INET` of every system.
const FAMILY_IPV4: u32 = 2;
/// `AF_INET6` of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
const FAMILY_IPV6: [u32; 4] = [10, 24, 28, 30];

/// The outermost layer of a packet.
#[inline]
pub(super) fn outermost<'a>(packet: &Packet<'a>) -> Result<Layer<'a>, Skipped> {
    let mut rest = Rest::new(packet.bytes, packet.wire_bytes as usize);
    Ok(match packet.link {
        LinkType::Ethernet => Layer::Ethernet(rest),
        LinkType::RawIp => Layer::Ip(rest),
        LinkType::Loopback => {
            let family = rest.be32()?;
            let is_ip = |family| family == FAMILY_IPV4 || FAMILY_IPV6.contains(&family);
            if !is_ip(family) && !is_ip(family.swap_bytes()) {
                return Err(Unused::NotIp.into());
            }
            Layer::Ip(rest)
        }
        LinkType::LinuxCooked => {
            rest.skip(14)?;
            Layer::EtherType(rest.be16()?, rest)
        }
        LinkType::LinuxCooked2 => {
            let ethertype = rest.be16()?;
            rest.skip(18)?;
            Layer::EtherType(ethertype, rest)
        }
        LinkType::Ppp => Layer::Ppp(rest),
        LinkType::PppDirected => {
            rest.skip(1)?;
            if rest.peek()? == [PPP_CONTROL] {
                rest.skip(1)?;
            }
            Layer::Ppp(rest)
        }
        LinkType::Pppoe => Layer::EtherType(PPPOE_SESSION, rest),
        LinkType::Netfilter => Layer::Ip(netfilter(rest)?),
        LinkType::Wireless => return Err(Unsupported::Wireless.into()),
        // A record of the probe is read elsewhere.
        LinkType::Other(_) | LinkType::Probe => return Err(Unsupported::LinkType.into()),
    })
}

/// IEEE 802.3.
#[inline]
pub(super) fn ethernet(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    rest.skip(12)?;
    let ethertype = rest.be16()?;
    if ethertype >= ETHERTYPE_MIN {
        return by_ethertype(ethertype, rest);
    }
    // IEEE 802.2 with SNAP, an EtherType behind eight bytes (RFC 1042).
    rest.limit(usize::from(ethertype));
    match rest.take()? {
        [0xaa, 0xaa, 0x03, 0, 0, 0] => Ok(Step::Into(Layer::EtherType(rest.be16()?, rest))),
        _ => Err(Unused::NotIp.into()),
    }
}

/// What an EtherType announces.
#[inline]
pub(super) fn by_ethertype(ethertype: u16, mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    Ok(Step::Into(match ethertype {
        IPV4 | IPV6 => Layer::Ip(rest),
        tag if VLAN.contains(&tag) => {
            // Twelve bits name the network; 0 only gives a priority (IEEE 802.1Q section 9.6).
            let tag = rest.be16()? & 0x0fff;
            rest.enter_network(u32::from(tag));
            Layer::EtherType(rest.be16()?, rest)
        }
        BRIDGED_ETHERNET => Layer::Ethernet(rest),
        label if MPLS.contains(&label) => return tunnel::mpls(rest),
        PPP => Layer::Ppp(rest),
        PPPOE_SESSION => {
            // RFC 2516 section 4: version and type, code, session, length.
            let [_, _, _, _, length_high, length_low] = rest.take()?;
            rest.limit(usize::from(u16::from_be_bytes([length_high, length_low])));
            Layer::Ppp(rest)
        }
        ERSPAN => {
            rest.skip(8)?;
            Layer::Ethernet(rest)
        }
        ERSPAN_3 => {
            let [_, _, _, _, _, _, _, _, _, _, _, flags] = rest.take()?;
            rest.skip(if flags & 1 == 0 { 0 } else { 8 })?;
            Layer::Ethernet(rest)
        }
        MACSEC => return Err(Unsupported::Macsec.into()),
        wrapping if WRAPPING.contains(&wrapping) => return Err(Unsupported::EtherType.into()),
        _ => return Err(Unused::NotIp.into()),
    }))
}

/// RFC 1661 section 2 and RFC 1662 section 3.1. Either compression of the header may have been agreed on.
pub(super) fn ppp(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    const IP: u16 = 0x0021;
    const IPV6: u16 = 0x0057;
    const MPLS: u16 = 0x0281;
    match rest.peek()? {
        [0xff, PPP_CONTROL] => rest.skip(2)?,
        // Cisco's HDLC, which shares its link type with PPP (RFC 1547 section 4.3.1): an EtherType follows.
        [0x0f | 0x8f, 0] => {
            rest.skip(2)?;
            return Ok(Step::Into(Layer::EtherType(rest.be16()?, rest)));
        }
        _ => {}
    }
    let [first] = rest.peek()?;
    let protocol = if first & 1 == 1 {
        rest.skip(1)?;
        u16::from(first)
    } else {
        rest.be16()?
    };
    match protocol {
        IP | IPV6 => Ok(Step::Into(Layer::Ip(rest))),
        MPLS => tunnel::mpls(rest),
        // Van Jacobson's compression, multilink, encryption and compression of whole packets, bridging.
        0x002d | 0x002f | 0x0031 | 0x003d | 0x0053 | 0x0055 | 0x00fb | 0x00fd => {
            Err(Unsupported::PppProtocol.into())
        }
        _ => Err(Unused::NotIp.into()),
    }
}

/// The packet among the attributes of a log entry (`linux/netfilter/nfnetlink_log.h`), whose lengths stand in the
/// byte order of the host that captured.
fn netfilter(mut rest: Rest<'_>) -> Result<Rest<'_>, Skipped> {
    const PAYLOAD: u16 = 9;
    rest.skip(4)?;
    let little_endian = netlink_attribute(rest, PAYLOAD, u16::from_le_bytes);
    let found = little_endian.or_else(|| netlink_attribute(rest, PAYLOAD, u16::from_be_bytes));
    found.ok_or(Skipped::Unused(Unused::NotIp))
}

fn netlink_attribute(mut rest: Rest<'_>, wanted: u16, number: fn([u8; 2]) -> u16) -> Option<Rest<'_>> {
    loop {
        let [l0, l1, k0, k1] = rest.take().ok()?;
        let bytes = usize::from(number([l0, l1])).checked_sub(4)?;
        if number([k0, k1]) == wanted {
            rest.limit(bytes);
            return Some(rest);
        }
        rest.skip(bytes.checked_next_multiple_of(4)?).ok()?;
    }
}
