//! Finds the TCP segment in the bytes of a packet: probe records, and every link layer, tunnel and kind of IP packet
//! that capture files hold.
//!
//! Copies nothing but fragments. Drops nothing for its checksum: [`Checksum`](crate::model::Checksum) goes on with it.
//!
//! A packet is read layer by layer in a loop, not by functions that call each other, so that no packet can make the
//! stack grow. Whatever is not read has a name: [`Unused`], and [`Unsupported`] for what may hold TCP all the same.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod checksum;
mod fragment;
mod ip;
mod link;
mod plain;
mod probe;
mod rest;
mod tcp;
mod tunnel;

use crate::model::{LinkType, Packet, Segment, Unsupported, Unused};

use fragment::FragmentTable;
use ip::{Datagram, Fragment};
use rest::Rest;

pub use fragment::{FragmentLimits, FragmentTally};

/// The ports whose traffic is wanted, as the server's side of a connection.
#[derive(Clone, Debug)]
pub struct WantedPorts {
    words: Box<[u64; 1024]>,
}

/// Reads packets, and puts the fragmented ones together.
#[derive(Debug)]
pub struct PacketReader {
    wanted: WantedPorts,
    fragments: FragmentTable,
    tally: PacketTally,
}

/// What was met besides segments, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketTally {
    /// Packets that were not read because of what they are wrapped in, in the order of [`Unsupported::ALL`].
    pub unsupported: [u64; Unsupported::ALL.len()],
    /// The first link type that is not known, by its number in capture files.
    pub unknown_link_type: Option<u16>,
    /// What putting fragments together met.
    pub fragments: FragmentTally,
}

/// Layers of a packet that are read: tags, tunnels and the packets in them. More are legal and not seen outside
/// attacks.
const LAYERS_MAX: usize = 16;

/// What comes next in a packet.
#[derive(Clone, Copy, Debug)]
enum Layer<'a> {
    Ethernet(Rest<'a>),
    EtherType(u16, Rest<'a>),
    Ppp(Rest<'a>),
    Ip(Rest<'a>),
    Carried(Datagram<'a>),
}

/// What reading a layer came to.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Into(Layer<'a>),
    Tcp(Datagram<'a>),
    Fragment(Fragment<'a>),
}

/// What the layers end in.
enum Found<'a> {
    Tcp(Datagram<'a>),
    Fragment(Fragment<'a>),
}

/// Why they end in nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipped {
    Unused(Unused),
    Unsupported(Unsupported),
}

/// The segment in one packet. Fragments stay what they are; [`PacketReader`] puts them together.
///
/// # Errors
/// Why the packet holds no segment that we want.
pub fn parse<'a>(packet: &Packet<'a>, wanted: &WantedPorts) -> Result<Segment<'a>, Unused> {
    if packet.link == LinkType::Probe {
        return probe::segment(packet);
    }
    if let Some(datagram) = plain::tcp(packet) {
        return tcp::segment(packet.captured_at, &datagram, wanted);
    }
    match link::outermost(packet).and_then(descend) {
        Ok(Found::Tcp(datagram)) => tcp::segment(packet.captured_at, &datagram, wanted),
        Ok(Found::Fragment(_)) => Err(Unused::Fragment),
        Err(Skipped::Unused(reason)) => Err(reason),
        Err(Skipped::Unsupported(_)) => Err(Unused::Unsupported),
    }
}

/// Goes down to what an IP packet carries.
fn descend(outermost: Layer<'_>) -> Result<Found<'_>, Skipped> {
    let mut layer = outermost;
    for _ in 0..LAYERS_MAX {
        let step = match layer {
            Layer::Ethernet(rest) => link::ethernet(rest),
            Layer::EtherType(ethertype, rest) => link::by_ethertype(ethertype, rest),
            Layer::Ppp(rest) => link::ppp(rest),
            Layer::Ip(rest) => ip::step(rest),
            Layer::Carried(datagram) => ip::payload(datagram),
        };
        layer = match step? {
            Step::Into(layer) => layer,
            Step::Tcp(datagram) => return Ok(Found::Tcp(datagram)),
            Step::Fragment(fragment) => return Ok(Found::Fragment(fragment)),
        };
    }
    Err(Unsupported::TooDeep.into())
}

// === impl WantedPorts ===

impl WantedPorts {
    /// The set of these ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut words = Box::new([0; 1024]);
        for port in ports {
            if let Some(word) = words.get_mut(usize::from(port >> 6)) {
                *word |= 1u64 << (port & 63);
            }
        }
        Self { words }
    }

    /// Every port. Nothing tells then which end of a connection is the server.
    pub fn any() -> Self {
        Self { words: Box::new([u64::MAX; 1024]) }
    }

    /// True when `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.words.get(usize::from(port >> 6)).is_some_and(|word| word & (1u64 << (port & 63)) != 0)
    }
}

// === impl PacketReader ===

impl PacketReader {
    /// A reader of the traffic of these ports.
    pub fn new(wanted: WantedPorts, limits: FragmentLimits) -> Self {
        Self { wanted, fragments: FragmentTable::new(limits), tally: PacketTally::default() }
    }

    /// The segment in a packet, or in the datagram that this packet is the last missing fragment of.
    ///
    /// # Errors
    /// Why the packet holds no segment that we want.
    pub fn read<'a>(&'a mut self, packet: &Packet<'a>) -> Result<Segment<'a>, Unused> {
        if packet.link == LinkType::Probe {
            return probe::segment(packet);
        }
        let Self { wanted, fragments, tally } = self;
        if let Some(datagram) = plain::tcp(packet) {
            return tcp::segment(packet.captured_at, &datagram, wanted);
        }
        let found = match link::outermost(packet).and_then(descend) {
            Ok(Found::Fragment(fragment)) => {
                let whole = fragments.insert(&fragment, packet.captured_at).ok_or(Unused::Fragment)?;
                match descend(Layer::Carried(whole)) {
                    Ok(Found::Fragment(_)) => Err(Unsupported::NestedFragment.into()),
                    found => found,
                }
            }
            found => found,
        };
        match found {
            Ok(Found::Tcp(datagram)) => tcp::segment(packet.captured_at, &datagram, wanted),
            Ok(Found::Fragment(_)) => Err(Unused::Fragment),
            Err(Skipped::Unused(reason)) => Err(reason),
            Err(Skipped::Unsupported(what)) => {
                tally.count(what, packet.link);
                Err(Unused::Unsupported)
            }
        }
    }

    /// What was met so far.
    pub fn tally(&self) -> PacketTally {
        PacketTally { fragments: self.fragments.tally(), ..self.tally }
    }
}

// === impl PacketTally ===

impl PacketTally {
    fn count(&mut self, what: Unsupported, link: LinkType) {
        if let Some(count) = self.unsupported.get_mut(what as usize) {
            *count = count.saturating_add(1);
        }
        if let LinkType::Other(number) = link {
            self.unknown_link_type = self.unknown_link_type.or(Some(number));
        }
    }
}

// === impl Skipped ===

impl From<Unused> for Skipped {
    fn from(reason: Unused) -> Self {
        Skipped::Unused(reason)
    }
}

impl From<Unsupported> for Skipped {
    fn from(what: Unsupported) -> Self {
        Skipped::Unsupported(what)
    }
}

#[cfg(test)]
mod tests;
