//! The blocks of pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng) files.
//!
//! Reads no file: it is given bytes, and says how many more it needs.

use pcap_parser::nom::{Err, Needed};
use pcap_parser::{
    Block, EPB_MAGIC, IDB_MAGIC, InterfaceDescriptionBlock, PcapError, SHB_MAGIC, SPB_MAGIC, UnknownBlock,
    parse_block_be, parse_block_le,
};

use super::PcapLimits;
use crate::model::{LinkType, Packet, Timestamp};

/// What kind of capture file it is, and what was described in it so far.
#[derive(Debug)]
pub(super) enum Format {
    /// Not looked at yet.
    Unknown,
    /// One link type, one resolution.
    Pcap(Pcap),
    /// Sections, each with its own byte order and interfaces.
    Pcapng(Section),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pcap {
    link: LinkType,
    big_endian: bool,
    /// What stands before the bytes of a packet.
    packet_header_bytes: usize,
    nanos_per_tick: u64,
}

/// A kind of pcap file, by the number that it begins with.
#[derive(Clone, Copy, Debug)]
struct PcapMagic {
    magic: u32,
    packet_header_bytes: usize,
    nanos_per_tick: u64,
}

#[derive(Debug, Default)]
pub(super) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// Of the last packet: a simple packet block has no time of its own.
    latest: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// The longest packet that it keeps.
    snap_bytes: usize,
    ticks: Ticks,
    offset_seconds: i64,
}

/// How long a tick of an interface's clock is (option `if_tsresol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticks {
    /// So many nanoseconds.
    Nanos(u64),
    /// So many of them are a nanosecond.
    PerNano(u128),
    /// This power of two of them are a second.
    Binary(u32),
}

/// What stands at the front of the unread bytes.
#[derive(Debug)]
pub(super) enum Record<'a> {
    /// A packet.
    Packet {
        packet: Packet<'a>,
        /// The length of its block.
        bytes: usize,
    },
    /// Something that describes packets, and was taken note of.
    Described { bytes: usize },
    /// Something of no interest.
    Skip { bytes: u64 },
    /// Not all of a block.
    Needs {
        /// How many bytes there must be before it is worth looking again.
        bytes: usize,
    },
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It claims a length that no block can have.
    #[error("a block claims to be {bytes} bytes long, and at most {bytes_max} are read")]
    TooLong {
        /// What it claims.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// Its lengths contradict each other.
    #[error("a block contradicts itself")]
    Malformed,
    /// It names an interface that nothing describes.
    #[error("a packet of interface {interface}, which the file does not describe")]
    NoInterface {
        /// The interface's number.
        interface: u32,
    },
    /// There are too many interfaces.
    #[error("more than {interfaces_max} interfaces")]
    Interfaces {
        /// The bound.
        interfaces_max: usize,
    },
}

/// The header of a pcap file, and less than any section header of pcapng.
pub(super) const FILE_HEADER_BYTES: usize = 24;

/// Seconds, their fraction, bytes kept and bytes on the wire.
const PACKET_HEADER_BYTES: usize = 16;

/// Microseconds, nanoseconds, and the modified format: microseconds, with interface, protocol and kind of packet behind the
/// four numbers of the others.
const PCAP_MAGICS: [PcapMagic; 3] = [
    PcapMagic { magic: 0xa1b2_c3d4, packet_header_bytes: PACKET_HEADER_BYTES, nanos_per_tick: 1_000 },
    PcapMagic { magic: 0xa1b2_3c4d, packet_header_bytes: PACKET_HEADER_BYTES, nanos_per_tick: 1 },
    PcapMagic { magic: 0xa1b2_cd34, packet_header_bytes: 24, nanos_per_tick: 1_000 },
];

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The packet block that pcapng had before the enhanced one.
const OBSOLETE_PACKET: u32 = 2;

// === impl Format ===

impl Format {
    /// Recognises a capture file by its first bytes. Gives the length of its header, too.
    pub(super) fn recognise(start: &[u8]) -> Option<(Format, usize)> {
        if start.first_chunk() == Some(&SHB_MAGIC.to_be_bytes()) {
            return Some((Format::Pcapng(Section::default()), 0));
        }
        // Between them stand version, time zone, accuracy and the longest packet, none of which changes what is read.
        let [m0, m1, m2, m3, .., l0, l1, l2, l3] = *start.first_chunk::<FILE_HEADER_BYTES>()?;
        let magic = [m0, m1, m2, m3];
        let known = |big_endian| {
            let magic = number(big_endian, magic);
            PCAP_MAGICS.into_iter().find(|kind| kind.magic == magic).map(|kind| (kind, big_endian))
        };
        let (kind, big_endian) = known(false).or_else(|| known(true))?;
        let PcapMagic { magic: _, packet_header_bytes, nanos_per_tick } = kind;
        // The upper half holds the length of the frame check sequence.
        let link = LinkType::from_number((number(big_endian, [l0, l1, l2, l3]) & 0xffff) as u16);
        Some((
            Format::Pcap(Pcap { link, big_endian, packet_header_bytes, nanos_per_tick }),
            FILE_HEADER_BYTES,
        ))
    }

    /// Reads the block at the front.
    pub(super) fn next<'a>(&mut self, unread: &'a [u8], limits: &PcapLimits) -> Result<Record<'a>, Damage> {
        match self {
            Format::Unknown => Err(Damage::Malformed),
            Format::Pcap(pcap) => pcap.next(unread, limits),
            Format::Pcapng(section) => section.next(unread, limits),
        }
    }
}

#[inline]
fn number(big_endian: bool, bytes: [u8; 4]) -> u32 {
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// How many bytes a parser needs that met the end of `unread`.
fn needs(error: Err<PcapError<&[u8]>>, unread: &[u8], limits: &PcapLimits) -> Result<usize, Damage> {
    match error {
        Err::Incomplete(Needed::Size(more)) => {
            let bytes = unread.len().saturating_add(more.get());
            if bytes > limits.block_bytes_max {
                let (bytes, bytes_max) = (bytes as u64, limits.block_bytes_max as u64);
                return Err(Damage::TooLong { bytes, bytes_max });
            }
            Ok(bytes)
        }
        Err::Incomplete(Needed::Unknown) | Err::Error(_) | Err::Failure(_) => Err(Damage::Malformed),
    }
}

// === impl Pcap ===

impl Pcap {
    /// Four numbers, which are read here and not by a parser for all kinds of blocks: this runs once for each packet.
    #[inline]
    fn next<'a>(&self, unread: &'a [u8], limits: &PcapLimits) -> Result<Record<'a>, Damage> {
        let Self { link, big_endian, packet_header_bytes, nanos_per_tick } = *self;
        let Some(header) = unread.first_chunk::<PACKET_HEADER_BYTES>() else {
            return Ok(Record::Needs { bytes: packet_header_bytes });
        };
        let [s0, s1, s2, s3, f0, f1, f2, f3, c0, c1, c2, c3, w0, w1, w2, w3] = *header;
        let number = |bytes| number(big_endian, bytes);
        let bytes = packet_header_bytes.saturating_add(number([c0, c1, c2, c3]) as usize);
        match unread.get(packet_header_bytes..bytes) {
            Some(captured) => {
                let fraction = u64::from(number([f0, f1, f2, f3])).saturating_mul(nanos_per_tick);
                let seconds = u64::from(number([s0, s1, s2, s3])).saturating_mul(NANOS_PER_SECOND as u64);
                let captured_at = Timestamp(seconds.saturating_add(fraction));
                let wire_bytes = number([w0, w1, w2, w3]);
                Ok(Record::Packet {
                    packet: Packet { captured_at, link, wire_bytes, bytes: captured },
                    bytes,
                })
            }
            None if bytes > limits.block_bytes_max => {
                Err(Damage::TooLong { bytes: bytes as u64, bytes_max: limits.block_bytes_max as u64 })
            }
            None => Ok(Record::Needs { bytes }),
        }
    }
}

// === impl Section ===

impl Section {
    fn next<'a>(&mut self, unread: &'a [u8], limits: &PcapLimits) -> Result<Record<'a>, Damage> {
        let Some(([k0, k1, k2, k3, l0, l1, l2, l3], _)) = unread.split_first_chunk::<8>() else {
            return Ok(Record::Needs { bytes: 8 });
        };
        let number = |bytes| number(self.big_endian, bytes);
        let kind = number([*k0, *k1, *k2, *k3]);
        let claimed = u64::from(number([*l0, *l1, *l2, *l3]));
        match kind {
            SHB_MAGIC | IDB_MAGIC | OBSOLETE_PACKET | SPB_MAGIC | EPB_MAGIC => {}
            _ if claimed < 12 => return Err(Damage::Malformed),
            _ if claimed > limits.skipped_bytes_max => {
                return Err(Damage::TooLong { bytes: claimed, bytes_max: limits.skipped_bytes_max });
            }
            _ => return Ok(Record::Skip { bytes: claimed }),
        }
        let parse = if self.big_endian { parse_block_be } else { parse_block_le };
        let (rest, block) = match parse(unread) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Record::Needs { bytes: needs(error, unread, limits)? }),
        };
        let bytes = unread.len().saturating_sub(rest.len());
        let packet = match block {
            Block::SectionHeader(header) => {
                self.big_endian = header.big_endian();
                self.interfaces.clear();
                return Ok(Record::Described { bytes });
            }
            Block::InterfaceDescription(described) => {
                if self.interfaces.len() >= limits.interfaces_max {
                    return Err(Damage::Interfaces { interfaces_max: limits.interfaces_max });
                }
                self.interfaces.push(Interface::new(&described, self.big_endian));
                return Ok(Record::Described { bytes });
            }
            Block::EnhancedPacket(block) => {
                let bytes = block.data.get(..block.caplen as usize).ok_or(Damage::Malformed)?;
                self.packet(block.if_id, [block.ts_high, block.ts_low], block.origlen, bytes)?
            }
            Block::SimplePacket(block) => {
                let Interface { link, snap_bytes, ticks: _, offset_seconds: _ } = self.interface(0)?;
                let kept = block.data.len().min(snap_bytes).min(block.origlen as usize);
                let bytes = block.data.get(..kept).unwrap_or_default();
                Packet { captured_at: self.latest, link, wire_bytes: block.origlen, bytes }
            }
            Block::Unknown(block) => self.obsolete_packet(&block)?,
            Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::DecryptionSecrets(_)
            | Block::ProcessInformation(_)
            | Block::Custom(_) => return Ok(Record::Described { bytes }),
        };
        self.latest = packet.captured_at;
        Ok(Record::Packet { packet, bytes })
    }

    fn interface(&self, number: u32) -> Result<Interface, Damage> {
        let interface = self.interfaces.get(number as usize).copied();
        interface.ok_or(Damage::NoInterface { interface: number })
    }

    fn packet<'a>(
        &self,
        interface: u32,
        [high, low]: [u32; 2],
        wire_bytes: u32,
        bytes: &'a [u8],
    ) -> Result<Packet<'a>, Damage> {
        let interface = self.interface(interface)?;
        let captured_at = interface.time(u64::from(high) << 32 | u64::from(low));
        Ok(Packet { captured_at, link: interface.link, wire_bytes, bytes })
    }

    /// Interface and drops in two bytes each, then as in an enhanced packet block.
    fn obsolete_packet<'a>(&self, block: &UnknownBlock<'a>) -> Result<Packet<'a>, Damage> {
        let UnknownBlock { block_type: _, block_len1: _, data, block_len2: _ } = *block;
        let (header, data) = data.split_first_chunk::<20>().ok_or(Damage::Malformed)?;
        let [i0, i1, _, _, numbers @ ..] = *header;
        let interface =
            if self.big_endian { u16::from_be_bytes([i0, i1]) } else { u16::from_le_bytes([i0, i1]) };
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|bytes| number(self.big_endian, *bytes));
        let mut number = || numbers.next().unwrap_or_default();
        let time = [number(), number()];
        let captured = number();
        let wire_bytes = number();
        let bytes = data.get(..captured as usize).ok_or(Damage::Malformed)?;
        self.packet(u32::from(interface), time, wire_bytes, bytes)
    }
}

// === impl Interface ===

impl Interface {
    fn new(described: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        // The parser reads this option in one byte order only.
        let offset = described.if_tsoffset;
        let offset_seconds = if big_endian { offset.swap_bytes() } else { offset };
        Self {
            link: LinkType::from_number(u16::try_from(described.linktype.0).unwrap_or(u16::MAX)),
            snap_bytes: if described.snaplen == 0 { usize::MAX } else { described.snaplen as usize },
            ticks: Ticks::new(described.if_tsresol),
            offset_seconds,
        }
    }

    fn time(&self, ticks: u64) -> Timestamp {
        let nanos = i128::from(self.ticks.nanos(ticks));
        let offset = i128::from(self.offset_seconds).saturating_mul(NANOS_PER_SECOND);
        let nanos = nanos.saturating_add(offset).max(0);
        Timestamp(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

// === impl Ticks ===

impl Ticks {
    /// From the option's value: a power of ten, or of two when the highest bit is set.
    fn new(resolution: u8) -> Self {
        let power = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            return Ticks::Binary(power);
        }
        match 9u32.checked_sub(power) {
            Some(missing) => Ticks::Nanos(10u64.saturating_pow(missing)),
            None => Ticks::PerNano(10u128.saturating_pow(power.saturating_sub(9))),
        }
    }

    fn nanos(self, ticks: u64) -> u64 {
        match self {
            Ticks::Nanos(nanos) => ticks.saturating_mul(nanos),
            Ticks::PerNano(ticks_per_nano) => {
                u64::try_from(u128::from(ticks).checked_div(ticks_per_nano).unwrap_or(0)).unwrap_or(u64::MAX)
            }
            Ticks::Binary(power) => {
                let nanos = u128::from(ticks).saturating_mul(NANOS_PER_SECOND as u128);
                u64::try_from(nanos.checked_shr(power).unwrap_or(0)).unwrap_or(u64::MAX)
            }
        }
    }
}
