//! Segments that their receiver drops, with all that they say: their checksum is wrong, or they acknowledge what the
//! other side never sent on this connection.
//!
//! Believes neither their flags nor their acknowledgements. Their payload waits for a better copy.
//!
//! What an acknowledgement shows (RFC 9293 section 3.10.7.4, fifth check; RFC 5961 section 5) depends on what was captured:
//!
//! - Numbers before the first one of the other side, or further from its last one than any window, were not sent on this
//!   connection: the segment belongs to another one. The same goes for a segment that acknowledges nothing. Such segments are
//!   refused, once this side has shown that it acknowledges what was sent; in captures that were made by hand some never do.
//! - Numbers behind the last byte that was captured were either sent and lost to the capture, or never sent. These segments
//!   wait like others for what they acknowledge, and any other copy of their bytes counts more than they do.
//! - Numbers that lie more than a window back are refused by a receiver that had told so by then. A capture whose packets
//!   stand in another order does not say what it had told, so these are not judged.

use crate::model::{Checksum, Direction, Interest, Segment, Seq, StreamEvent, StreamReader, TcpFlags};

use super::StreamTally;
use super::assembler::{Assembler, Grade, Stamp};
use super::entry::{Entry, Shared};

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// True for a segment that its receiver drops.
    #[inline]
    pub(super) fn is_refused(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        self.is_damaged(direction, segment) || self.acknowledges_another(direction, segment)
    }

    /// True when the checksum is wrong where others are right.
    #[inline]
    pub(super) fn is_damaged(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        segment.checksum == Checksum::Wrong
            && self.half(direction).assembler.as_ref().is_some_and(Assembler::drops_wrong_checksums)
    }

    /// True when nothing is acknowledged, or something that was never sent on this connection. A SYN or a reset is obeyed
    /// before its receiver looks at that.
    #[inline]
    fn acknowledges_another(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let TcpFlags { syn, fin: _, rst } = segment.flags;
        if syn || rst || !self.half(direction).acknowledges {
            return false;
        }
        let other = self.half(direction.reversed());
        let may_have_sent = |ack: Seq| match &other.assembler {
            Some(assembler) if other.heard && other.initial.is_some() => assembler.offset_of(ack).is_some(),
            Some(assembler) if other.heard => assembler.is_near(ack),
            Some(_) | None => true,
        };
        !segment.ack.is_some_and(may_have_sent)
    }

    /// Keeps the payload of a refused segment, in case that no other copy of its bytes comes.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let is_damaged = self.is_damaged(direction, segment);
        let StreamTally { bad_checksums, out_of_window, .. } = shared.tally;
        let count = if is_damaged { bad_checksums } else { out_of_window };
        *count = count.saturating_add(1);
        let at = segment.captured_at;
        // If its bytes are taken after all, whatever was captured before was sent before, for want of a better sign.
        let other = self.half(direction.reversed()).assembler.as_ref();
        let before = other.map_or(0, Assembler::waiting_end);
        let acknowledged = segment.ack.and_then(|ack| other?.offset_of(ack)).unwrap_or(before).min(before);
        let TcpFlags { syn, fin, rst } = segment.flags;
        let Some(assembler) = &mut self.half_mut(direction).assembler else { return Interest::Keep };
        if syn || rst || segment.payload.is_empty() || !assembler.is_near(segment.seq) {
            return Interest::Keep;
        }
        let held_before = assembler.waiting_memory();
        // Who does not follow RFC 5961 takes a number from before the connection for one that it knows.
        let grade = Grade::Refused { surely: is_damaged || segment.ack.is_none(), fin };
        assembler.take_refused(segment.seq, segment.payload, grade, Stamp { at, acknowledged }, shared.tally);
        let held = shared.waiting_bytes.saturating_add(assembler.waiting_memory());
        *shared.waiting_bytes = held.saturating_sub(held_before);
        self.pump_within_bound(direction, at, shared, read)
    }
}
