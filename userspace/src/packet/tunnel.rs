//! Tunnels that leave the packets inside as they are: GRE, MPLS, VXLAN, Geneve, GTP-U.
//!
//! A tunnel over UDP is known by its port alone, which is a guess; whatever does not look like one is plain UDP.

use super::rest::Rest;
use super::{Layer, Skipped, Step};
use crate::model::{Unsupported, Unused};

const VXLAN: [u16; 2] = [4789, 8472];
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const GTP_U: u16 = 2152;
const L2TP: u16 = 1701;
const TEREDO: u16 = 3544;

/// GTP-U extension headers that a packet may carry.
const EXTENSIONS_MAX: usize = 8;

/// RFC 2784, RFC 2890, and RFC 2637 section 4.1 for version 1.
pub(super) fn gre(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    const ERSPAN: u16 = 0x88be;
    const BRIDGED_ETHERNET: u16 = 0x6558;

    let flags = rest.be16()?;
    let protocol = rest.be16()?;
    if flags & ROUTING != 0 || flags & 0x0007 > 1 {
        return Err(Unsupported::Gre.into());
    }
    let fields = [CHECKSUM, KEY, SEQUENCE].into_iter().filter(|field| flags & field != 0).count();
    let acknowledgement = usize::from(flags & 0x0007 == 1 && flags & ACKNOWLEDGEMENT != 0);
    if flags & (CHECKSUM | KEY | 0x0007) == KEY && protocol == BRIDGED_ETHERNET {
        // NVGRE: 24 bits of the key name the network, the others a flow in it (RFC 7637 section 3.2).
        let [v0, v1, v2, _] = rest.peek()?;
        rest.enter_network(virtual_network(v0, v1, v2));
    }
    rest.skip(fields.saturating_add(acknowledgement).saturating_mul(4))?;
    // ERSPAN I has neither a sequence number nor a header of its own.
    let is_plain_mirror = protocol == ERSPAN && flags & SEQUENCE == 0;
    Ok(Step::Into(if is_plain_mirror { Layer::Ethernet(rest) } else { Layer::EtherType(protocol, rest) }))
}

/// RFC 3032 section 2.1. Nothing says what lies under the labels; the first four bits tell well enough (RFC 4928).
pub(super) fn mpls(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    loop {
        let [_, _, class_and_bottom, _] = rest.take()?;
        if class_and_bottom & 1 == 1 {
            break;
        }
    }
    let [first] = rest.peek()?;
    Ok(Step::Into(match first >> 4 {
        4 | 6 => Layer::Ip(rest),
        0 => {
            // A control word before an Ethernet frame (RFC 4385 section 3).
            rest.skip(4)?;
            Layer::Ethernet(rest)
        }
        _ => Layer::Ethernet(rest),
    }))
}

/// A tunnel over UDP, when the port is that of one.
pub(super) fn udp(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    let source = rest.be16()?;
    let destination = rest.be16()?;
    rest.skip(4)?;
    let either = |port| source == port || destination == port;
    let layer = match destination {
        port if VXLAN.contains(&port) => vxlan(rest),
        VXLAN_GPE => return Err(Unsupported::VxlanGpe.into()),
        GENEVE => geneve(rest),
        _ if either(GTP_U) => gtp(rest),
        _ if either(L2TP) => return Err(Unsupported::L2tp.into()),
        _ if either(TEREDO) => return Err(Unsupported::Teredo.into()),
        _ => None,
    };
    layer.map(Step::Into).ok_or(Skipped::Unused(Unused::NotTcp))
}

/// RFC 7348 section 5.
fn vxlan(mut rest: Rest<'_>) -> Option<Layer<'_>> {
    const NETWORK_IS_VALID: u8 = 0x08;
    let [flags, _, _, _, v0, v1, v2, _] = rest.take().ok()?;
    rest.enter_network(virtual_network(v0, v1, v2));
    (flags & NETWORK_IS_VALID != 0).then_some(Layer::Ethernet(rest))
}

/// A tag out of the 24 bits that name a network there, apart from the tags of a VLAN.
fn virtual_network(high: u8, middle: u8, low: u8) -> u32 {
    u32::from_be_bytes([1, high, middle, low])
}

/// RFC 8926 section 3.4.
fn geneve(mut rest: Rest<'_>) -> Option<Layer<'_>> {
    let [version_options, _, protocol_high, protocol_low, v0, v1, v2, _] = rest.take().ok()?;
    rest.enter_network(virtual_network(v0, v1, v2));
    rest.skip(usize::from(version_options & 0x3f).saturating_mul(4)).ok()?;
    let protocol = u16::from_be_bytes([protocol_high, protocol_low]);
    (version_options >> 6 == 0).then_some(Layer::EtherType(protocol, rest))
}

/// 3GPP TS 29.281 section 5.
fn gtp(mut rest: Rest<'_>) -> Option<Layer<'_>> {
    const VERSION_1: u8 = 0x30;
    const OPTIONAL_FIELDS: u8 = 0x07;
    const EXTENSION: u8 = 0x04;
    const USER_PACKET: u8 = 255;
    let [flags, kind, ..] = rest.take::<8>().ok()?;
    if flags & 0xf0 != VERSION_1 || kind != USER_PACKET {
        return None;
    }
    if flags & OPTIONAL_FIELDS != 0 {
        let [_, _, _, next] = rest.take().ok()?;
        if flags & EXTENSION != 0 {
            gtp_extensions(&mut rest, next)?;
        }
    }
    let [first] = rest.peek().ok()?;
    matches!(first >> 4, 4 | 6).then_some(Layer::Ip(rest))
}

/// Reads over a chain of extension headers, each of which names its length in units of four bytes and the next one.
fn gtp_extensions(rest: &mut Rest<'_>, mut next: u8) -> Option<()> {
    for _ in 0..EXTENSIONS_MAX {
        if next == 0 {
            return Some(());
        }
        let [words] = rest.peek().ok()?;
        rest.skip(usize::from(words).checked_mul(4)?.checked_sub(1)?).ok()?;
        [next] = rest.take().ok()?;
    }
    None
}
