//! What a line leaves out: sequence and acknowledgement numbers, as a TCP that loses nothing would count them.
//!
//! Checks nothing: a case may say what no TCP would.

use anyhow::{Context, Result};
use etherparse::PacketBuilder;

use super::steps::{Checksum, Segment, Side};

/// How far both sides of each connection have come.
#[derive(Debug)]
pub(super) struct Numbers {
    connections: Vec<[Half; 2]>,
}

#[derive(Clone, Copy, Debug)]
struct Half {
    initial: u32,
    /// Relative number of the next byte to send.
    next: i64,
}

/// A segment with all its numbers.
#[derive(Clone, Debug)]
pub struct Sent {
    side: Side,
    seq: u32,
    ack: Option<u32>,
    syn: bool,
    fin: bool,
    rst: bool,
    window: u16,
    checksum: Checksum,
    /// Its bytes.
    pub payload: Vec<u8>,
}

const CLIENT: ([u8; 4], u16) = ([192, 0, 2, 1], 40_000);
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 2], 80);
const HOPS: u8 = 64;
const TCP_HEADER_BYTES: usize = 20;
/// Where a packet has its TCP checksum, behind an IP header of twenty bytes.
const CHECKSUM: std::ops::Range<usize> = 36..38;

// === impl Numbers ===

impl Numbers {
    pub(super) fn new(initial: &[(u32, u32)]) -> Self {
        // The number of a SYN is the one before the first byte.
        let half = |initial| Half { initial, next: -1 };
        Self { connections: initial.iter().map(|(client, server)| [half(*client), half(*server)]).collect() }
    }

    /// Gives a segment the numbers that its line leaves out, and counts on.
    pub(super) fn send(&mut self, segment: &Segment) -> Result<Sent> {
        let Segment {
            side,
            connection,
            seq,
            ack,
            without_ack,
            syn,
            fin,
            rst,
            window,
            lost: _,
            checksum,
            payload,
        } = segment;
        let halves = self
            .connections
            .get_mut(*connection)
            .with_context(|| format!("connection {} has no initial numbers", connection + 1))?;
        let [client, server] = halves;
        let (own, other) = match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        // Without a SYN the first byte is the first that is seen.
        let start = seq.unwrap_or(if *syn { -1 } else { own.next.max(0) });
        let length = i64::try_from(payload.len())? + i64::from(*syn) + i64::from(*fin);
        own.next = own.next.max(start + length);
        let first_syn = *syn && *side == Side::Client;
        let acknowledged = if *without_ack || (first_syn && ack.is_none()) {
            None
        } else {
            Some(absolute(other.initial, ack.unwrap_or(other.next.max(0)))?)
        };
        let (seq, payload) = (absolute(own.initial, start)?, payload.clone());
        let (side, syn, fin, rst, window, checksum) = (*side, *syn, *fin, *rst, *window, *checksum);
        Ok(Sent { side, seq, ack: acknowledged, syn, fin, rst, window, checksum, payload })
    }
}

/// The number on the wire of relative number `relative`; the first byte follows the SYN's number.
fn absolute(initial: u32, relative: i64) -> Result<u32> {
    let number = (i64::from(initial) + 1 + relative).rem_euclid(1 << 32);
    u32::try_from(number).context("a sequence number has 32 bits")
}

// === impl Sent ===

impl Sent {
    /// The segment in pieces that end at these offsets. Flags at its start are on the first, those at its end on the
    /// last one.
    pub(super) fn pieces(self, ends: &[usize]) -> Vec<Sent> {
        let length = self.payload.len();
        let mut starts: Vec<usize> = ends.iter().copied().filter(|end| *end > 0 && *end < length).collect();
        starts.insert(0, 0);
        let stops: Vec<usize> = starts.iter().copied().skip(1).chain([length]).collect();
        let syn_number = u32::from(self.syn);
        (starts.iter().zip(stops))
            .map(|(start, stop)| {
                let (first, last) = (*start == 0, stop == length);
                let skipped = if first { 0 } else { u32::try_from(*start).unwrap_or(0) + syn_number };
                Sent {
                    seq: self.seq.wrapping_add(skipped),
                    syn: self.syn && first,
                    fin: self.fin && last,
                    rst: self.rst && last,
                    payload: self.payload.get(*start..stop).unwrap_or_default().to_vec(),
                    ..self
                }
            })
            .collect()
    }

    /// The IPv4 packet that carries it.
    pub(super) fn packet(&self) -> Result<Vec<u8>> {
        let ((from, from_port), (to, to_port)) = match self.side {
            Side::Client => (CLIENT, SERVER),
            Side::Server => (SERVER, CLIENT),
        };
        let mut builder = PacketBuilder::ipv4(from, to, HOPS).tcp(from_port, to_port, self.seq, self.window);
        if let Some(ack) = self.ack {
            builder = builder.ack(ack);
        }
        if self.syn {
            builder = builder.syn();
        }
        if self.fin {
            builder = builder.fin();
        }
        if self.rst {
            builder = builder.rst();
        }
        let mut packet = Vec::with_capacity(builder.size(self.payload.len()));
        builder.write(&mut packet, &self.payload).context("too long for a packet")?;
        let field = packet.get_mut(CHECKSUM).context("the packet has no TCP header")?;
        match self.checksum {
            Checksum::Right => {}
            Checksum::Wrong => field.iter_mut().for_each(|byte| *byte ^= 0x5a),
            Checksum::Unfinished => {
                let length = u16::try_from(self.payload.len() + TCP_HEADER_BYTES)?;
                field.copy_from_slice(&unfinished(from, to, length).to_be_bytes());
            }
        }
        Ok(packet)
    }
}

/// The sum of the pseudo header (RFC 9293 section 3.1) with no payload nor header added to it.
fn unfinished(from: [u8; 4], to: [u8; 4], length: u16) -> u16 {
    const TCP: u32 = 6;
    let words = [from, to].into_iter().flat_map(|[a, b, c, d]| [[a, b], [c, d]]);
    let sum = words.map(|word| u32::from(u16::from_be_bytes(word))).sum::<u32>() + TCP + u32::from(length);
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from(folded).unwrap_or(u16::MAX)
}
