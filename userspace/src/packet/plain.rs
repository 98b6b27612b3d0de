//! The packets that nearly all are: Ethernet or nothing, an IPv4 header without options, and TCP.
//!
//! Decides about no other packet: those go down layer by layer, with the same result for these.

use super::ip::{Datagram, TCP, Version, mapped};
use super::rest::Rest;
use crate::model::{LinkType, Packet};

const HEADER_BYTES: usize = 20;

/// What such a packet carries, when all of it was captured and it is no fragment.
#[inline]
pub(super) fn tcp<'a>(packet: &Packet<'a>) -> Option<Datagram<'a>> {
    let bytes = match packet.link {
        LinkType::Ethernet => match packet.bytes {
            [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, bytes @ ..] => bytes,
            _ => return None,
        },
        LinkType::RawIp => packet.bytes,
        LinkType::Probe
        | LinkType::Loopback
        | LinkType::LinuxCooked
        | LinkType::LinuxCooked2
        | LinkType::Ppp
        | LinkType::PppDirected
        | LinkType::Pppoe
        | LinkType::Netfilter
        | LinkType::Wireless
        | LinkType::Other(_) => return None,
    };
    let [0x45, _, t0, t1, _, _, f0, f1, _, TCP, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *bytes.first_chunk::<HEADER_BYTES>()?
    else {
        return None;
    };
    // Offset, and the more-fragments bit.
    if u16::from_be_bytes([f0, f1]) & 0x3fff != 0 {
        return None;
    }
    let carried = bytes.get(HEADER_BYTES..usize::from(u16::from_be_bytes([t0, t1])))?;
    let (source, destination) = (mapped([s0, s1, s2, s3]), mapped([d0, d1, d2, d3]));
    let rest = Rest::new(carried, carried.len());
    Some(Datagram { version: Version::V4, source, destination, protocol: TCP, rest })
}

#[cfg(test)]
mod tests {
    use super::super::{Found, descend, link};
    use super::*;
    use crate::model::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_the_way_through_the_layers_finds(
            changes in prop::collection::vec((0usize..40, any::<u8>()), 0..3),
            length in 0usize..64,
            wire_bytes in 0u32..128,
            ethernet: bool,
        ) {
            let mut bytes = vec![2; 12];
            bytes.extend([0x08, 0x00]);
            bytes.extend([0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            bytes.extend(0..30u8);
            let mut bytes = bytes.split_off(if ethernet { 0 } else { 14 });
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(length);
            let link = if ethernet { LinkType::Ethernet } else { LinkType::RawIp };
            let packet = Packet { captured_at: Timestamp::default(), link, wire_bytes, bytes: &bytes };
            if let Some(datagram) = tcp(&packet) {
                let Ok(Found::Tcp(found)) = link::outermost(&packet).and_then(descend) else {
                    panic!("{packet:?} holds no TCP")
                };
                prop_assert_eq!(format!("{datagram:?}"), format!("{found:?}"));
            }
        }
    }
}
