//! Connections with the same ends in several virtual networks (VLAN, VXLAN, Geneve, NVGRE).
//!
//! Does not go by tags alone: each direction may have its own or none, and a router or a mirror may show one packet
//! in two networks. Two connections whose numbers are the same, or close in both directions, are taken for one.

use crate::model::{Direction, Segment, StreamReader};

use super::assembler::Assembler;
use super::entry::{Entry, Half};

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// True when a segment of another virtual network may belong to this connection all the same: the tags of its
    /// directions differ, or it was captured at several places. Its numbers say so.
    #[cold]
    pub(super) fn may_own(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let (half, other) = (self.half(direction), self.half(direction.reversed()));
        let is_close = |half: &Half, seq| {
            half.assembler.as_ref().is_none_or(|assembler: &Assembler| assembler.is_close(seq))
        };
        let seq_fits = match (half.initial, segment.flags.syn) {
            (Some(initial), true) => initial == segment.seq,
            (_, syn) => is_close(half, if syn { segment.seq.plus(1) } else { segment.seq }),
        };
        seq_fits && segment.ack.is_none_or(|ack| is_close(other, ack))
    }
}
