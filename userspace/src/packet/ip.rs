//! IPv4 with options, IPv6 with extension headers, and what either of them carries.
//!
//! Puts no fragments together; it only says that there is one.

use super::rest::Rest;
use super::{Layer, Skipped, Step, tunnel};
use crate::model::{Unsupported, Unused};

/// What an IP packet carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    /// Of IP.
    pub(super) version: Version,
    /// Sender, IPv4-mapped where it is one of version 4.
    pub(super) source: [u8; 16],
    /// Receiver.
    pub(super) destination: [u8; 16],
    /// What `rest` begins with: an IP protocol number, or an extension header.
    pub(super) protocol: u8,
    /// The bytes.
    pub(super) rest: Rest<'a>,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Version {
    V4,
    V6,
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    /// What its sender gave all parts of this datagram.
    pub(super) identification: u32,
    /// Where it begins, in bytes.
    pub(super) offset: usize,
    /// True when it is not the last one.
    pub(super) more: bool,
    /// The part.
    pub(super) part: Datagram<'a>,
}

/// IPv6 extension headers that a packet may carry before we call it malformed. Longer chains are legal and not
/// seen outside attacks (RFC 8504 section 5.3 lets a node limit them).
const EXTENSION_HEADERS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const IPV4: u8 = 4;
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
const ETHERIP: u8 = 97;
const IPCOMP: u8 = 108;
const L2TP: u8 = 115;
const MPLS: u8 = 137;

/// Reads the IP header at the front.
#[inline]
pub(super) fn step(rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    let [first] = rest.peek()?;
    match first >> 4 {
        4 => ipv4(rest),
        6 => ipv6(rest),
        _ => Err(Unused::Malformed.into()),
    }
}

/// RFC 791 section 3.1.
#[inline]
fn ipv4(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    let on_wire = rest.wire();
    let [
        version_length,
        _,
        total_high,
        total_low,
        id_high,
        id_low,
        fragment_high,
        fragment_low,
        _,
        protocol,
        _,
        _,
    ] = rest.take()?;
    let source = mapped(rest.take()?);
    let destination = mapped(rest.take()?);
    let header_bytes = usize::from(version_length & 0x0f).saturating_mul(4);
    rest.skip(header_bytes.checked_sub(20).ok_or(Unused::Malformed)?)?;
    let total = match usize::from(u16::from_be_bytes([total_high, total_low])) {
        // A length of zero is what TCP segmentation offload writes for more than 64 KiB.
        0 => on_wire,
        total => total,
    };
    rest.limit(total.checked_sub(header_bytes).ok_or(Unused::Malformed)?);
    let datagram = Datagram { version: Version::V4, source, destination, protocol, rest };
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
    let (offset, more) = (usize::from(fragment & 0x1fff).saturating_mul(8), fragment & 0x2000 != 0);
    if offset > 0 || more {
        let identification = u32::from(u16::from_be_bytes([id_high, id_low]));
        return Ok(Step::Fragment(Fragment { identification, offset, more, part: datagram }));
    }
    payload(datagram)
}

/// RFC 8200 section 3.
fn ipv6(mut rest: Rest<'_>) -> Result<Step<'_>, Skipped> {
    let [_, _, _, _, length_high, length_low, protocol, _] = rest.take()?;
    let source = rest.take::<16>()?;
    let destination = rest.take::<16>()?;
    match usize::from(u16::from_be_bytes([length_high, length_low])) {
        // Zero is a jumbogram (RFC 2675), which is also how more than 64 KiB look under BIG TCP.
        0 => {}
        length => rest.limit(length),
    }
    payload(Datagram { version: Version::V6, source, destination, protocol, rest })
}

/// Walks over extension headers (RFC 8200 section 4, RFC 4302, and those that RFC 7045 section 4 lists besides) to what the
/// packet carries.
#[inline]
pub(super) fn payload(mut datagram: Datagram<'_>) -> Result<Step<'_>, Skipped> {
    for _ in 0..EXTENSION_HEADERS_MAX {
        let rest = &mut datagram.rest;
        let extension_bytes = match (datagram.protocol, datagram.version) {
            (TCP, _) => return Ok(Step::Tcp(datagram)),
            (HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6, Version::V6) => {
                let [_, length] = rest.peek()?;
                usize::from(length).saturating_add(1).saturating_mul(8)
            }
            (AUTHENTICATION, _) => {
                let [_, length] = rest.peek()?;
                usize::from(length).saturating_add(2).saturating_mul(4)
            }
            (FRAGMENT, Version::V6) => {
                let [protocol, _, offset_high, offset_low, id @ ..] = rest.take::<8>()?;
                let field = u16::from_be_bytes([offset_high, offset_low]);
                datagram.protocol = protocol;
                // Offset and the more-fragments bit; both zero is an atomic fragment (RFC 6946).
                if field & 0xfff9 == 0 {
                    continue;
                }
                return Ok(Step::Fragment(Fragment {
                    identification: u32::from_be_bytes(id),
                    offset: usize::from(field & 0xfff8),
                    more: field & 1 != 0,
                    part: datagram,
                }));
            }
            (IPV4 | IPV6, _) => return Ok(Step::Into(Layer::Ip(datagram.rest))),
            (UDP, _) => return tunnel::udp(datagram.rest),
            (GRE, _) => return tunnel::gre(datagram.rest),
            (MPLS, _) => return tunnel::mpls(datagram.rest),
            (ESP, _) => return Err(Unsupported::Esp.into()),
            (L2TP, _) => return Err(Unsupported::L2tp.into()),
            (ETHERIP | IPCOMP, _) => return Err(Unsupported::IpProtocol.into()),
            (_, Version::V4 | Version::V6) => return Err(Unused::NotTcp.into()),
        };
        let [following, _] = rest.peek()?;
        rest.skip(extension_bytes)?;
        datagram.protocol = following;
    }
    Err(Unused::Malformed.into())
}

pub(super) fn mapped(v4: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}
