//! Segments that their receiver drops because their checksum is wrong.
//!
//! Believes nothing that they say: neither flags nor acknowledgements. Their payload waits for a better copy.

use crate::model::{Checksum, Direction, Interest, Segment, StreamEvent, StreamReader, TcpFlags};

use super::assembler::{Assembler, Stamp};
use super::entry::{Entry, Shared};

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// True for a segment whose receiver drops it, with all that it says, because its checksum is wrong.
    #[inline]
    pub(super) fn is_damaged(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        segment.checksum == Checksum::Wrong
            && self.half(direction).assembler.as_ref().is_some_and(Assembler::drops_wrong_checksums)
    }

    /// Keeps the payload of a damaged segment, in case that no other copy of its bytes comes.
    #[cold]
    pub(super) fn damaged(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        shared.tally.bad_checksums = shared.tally.bad_checksums.saturating_add(1);
        let (at, received) = (segment.captured_at, self.received(direction));
        let other = self.half(direction.reversed()).assembler.as_ref();
        let acknowledged =
            segment.ack.and_then(|ack| other?.offset_of(ack)).unwrap_or_default().min(received);
        let TcpFlags { syn, fin, rst } = segment.flags;
        let Some(assembler) = &mut self.half_mut(direction).assembler else { return Interest::Keep };
        if syn || rst || segment.payload.is_empty() || !assembler.is_near(segment.seq) {
            return Interest::Keep;
        }
        let held_before = assembler.waiting_memory();
        assembler.take_damaged(segment.seq, segment.payload, fin, Stamp { at, acknowledged }, shared.tally);
        let held = shared.waiting_bytes.saturating_add(assembler.waiting_memory());
        *shared.waiting_bytes = held.saturating_sub(held_before);
        self.pump_within_bound(direction, at, shared, read)
    }
}
