//! One flow: both directions, and the way of a segment through them.
//!
//! Knows no other flow; what all flows share is lent to it as [`Shared`].

use crate::model::{Chunk, Direction, Flow, FlowKey, Interest, Segment, Seq, StreamEvent, Timestamp};

use super::assembler::{Assembler, GapCause, Ready, Stamp};
use super::{StreamLimits, StreamTally};

#[derive(Debug)]
pub(super) struct Entry<R> {
    pub(super) flow: Flow,
    pub(super) state: State,
    pub(super) last_seen: Timestamp,
    /// Tells this flow from an earlier one in the same slot.
    pub(super) generation: u64,
    pub(super) to_server: Half,
    pub(super) to_client: Half,
    pub(super) reader: R,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Ended,
    Forgotten,
}

#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) assembler: Option<Assembler>,
    /// Number of the SYN, where it was seen.
    pub(super) initial: Option<Seq>,
    pub(super) ended: bool,
    /// This direction is in `waits`.
    pub(super) queued: bool,
}

/// What the processing of one flow needs of the table.
pub(super) struct Shared<'a> {
    pub(super) limits: &'a StreamLimits,
    pub(super) tally: &'a mut StreamTally,
    pub(super) waiting_bytes: &'a mut usize,
}

// === impl Entry ===

impl<R> Entry<R> {
    pub(super) fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    pub(super) fn half_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    pub(super) fn segment(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let at = segment.captured_at;
        let acknowledged = match segment.ack {
            Some(ack) => match self.acknowledge(direction.reversed(), ack, at, shared, read) {
                Ok(offset) => offset,
                Err(interest) => return interest,
            },
            None => 0,
        };
        let half = self.half_mut(direction);
        let first_byte = if segment.flags.syn { segment.seq.plus(1) } else { segment.seq };
        if segment.flags.syn {
            half.initial = Some(segment.seq);
        }
        if half.assembler.is_none() && (segment.flags.syn || !segment.payload.is_empty()) {
            half.assembler = Some(Assembler::new(first_byte));
        }
        let Some(assembler) = &mut half.assembler else {
            return if segment.flags.rst { self.abort(at, shared, read) } else { Interest::Keep };
        };
        if segment.flags.fin
            && let Some(offset) = assembler.offset_of(first_byte.plus(segment.wire_payload_bytes))
        {
            assembler.finish(offset, at);
        }
        let reset = segment.flags.rst
            && assembler.offset_of(segment.seq).is_some_and(|offset| assembler.obeys_reset_at(offset));
        if !segment.payload.is_empty() {
            let held_before = assembler.waiting_memory();
            let stamp = Stamp { at, acknowledged };
            let fresh = assembler.take(first_byte, segment.payload, stamp, shared.tally);
            let held = assembler.waiting_memory().saturating_sub(held_before);
            *shared.waiting_bytes = shared.waiting_bytes.saturating_add(held);
            if let Some((bytes, offset)) = fresh {
                let event = StreamEvent { direction, offset, acknowledged, at, chunk: Chunk::Bytes(bytes) };
                if read(&mut self.reader, event) == Interest::Forget {
                    return Interest::Forget;
                }
            }
        }
        if self.pump(direction, at, shared, read) == Interest::Forget {
            return Interest::Forget;
        }
        while *shared.waiting_bytes > shared.limits.waiting_bytes_max
            && self.half(direction).waiting_memory() > 0
        {
            if self.give_up(direction, GapCause::Bound, at, shared, read) == Interest::Forget {
                return Interest::Forget;
            }
        }
        if reset { self.abort(at, shared, read) } else { Interest::Keep }
    }

    /// Notes what one side has received, which may prove a gap in `direction`. Gives the acknowledged offset.
    fn acknowledge(
        &mut self,
        direction: Direction,
        ack: Seq,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Result<u64, Interest> {
        let half = self.half_mut(direction);
        let assembler = half.assembler.get_or_insert_with(|| Assembler::new(ack));
        assembler.acknowledge(ack);
        let offset = assembler.offset_of(ack).unwrap_or_default();
        if assembler.missing_since().is_some() && self.pump(direction, at, shared, read) == Interest::Forget {
            return Err(Interest::Forget);
        }
        Ok(offset)
    }

    /// Hands on everything that needs no more waiting.
    fn pump(
        &mut self,
        direction: Direction,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        while let Some(assembler) = &mut self.half_mut(direction).assembler {
            let held = assembler.waiting_memory();
            let Some(ready) = assembler.ready(shared.limits, shared.tally) else { break };
            let freed = held.saturating_sub(assembler.waiting_memory());
            *shared.waiting_bytes = shared.waiting_bytes.saturating_sub(freed);
            if self.hand_on(direction, at, ready, read) == Interest::Forget {
                return Interest::Forget;
            }
        }
        Interest::Keep
    }

    pub(super) fn give_up(
        &mut self,
        direction: Direction,
        cause: GapCause,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let gap =
            self.half_mut(direction).assembler.as_mut().and_then(|half| half.give_up(cause, shared.tally));
        if let Some(gap) = gap
            && self.hand_on(direction, at, gap, read) == Interest::Forget
        {
            return Interest::Forget;
        }
        self.pump(direction, at, shared, read)
    }

    /// The connection is over: everything that waits comes out, with gaps where bytes are missing.
    pub(super) fn abort(
        &mut self,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        for direction in [Direction::ToServer, Direction::ToClient] {
            loop {
                let before = self.half(direction).assembler.as_ref().map(Assembler::next);
                if self.give_up(direction, GapCause::Over, at, shared, read) == Interest::Forget {
                    return Interest::Forget;
                }
                if self.half(direction).assembler.as_ref().map(Assembler::next) == before {
                    break;
                }
            }
        }
        for direction in [Direction::ToServer, Direction::ToClient] {
            let half = self.half_mut(direction);
            let offset = half.assembler.as_ref().map_or(0, Assembler::next);
            if !std::mem::replace(&mut half.ended, true) {
                let event = StreamEvent { direction, offset, acknowledged: 0, at, chunk: Chunk::Abort };
                if read(&mut self.reader, event) == Interest::Forget {
                    return Interest::Forget;
                }
            }
        }
        Interest::Keep
    }

    fn hand_on(
        &mut self,
        direction: Direction,
        at: Timestamp,
        ready: Ready,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        match ready {
            Ready::Bytes(bytes, Stamp { at, acknowledged }, offset) => {
                let chunk = Chunk::Bytes(&bytes);
                read(&mut self.reader, StreamEvent { direction, offset, acknowledged, at, chunk })
            }
            Ready::Gap(bytes, offset) => {
                let chunk = Chunk::Gap { bytes };
                read(&mut self.reader, StreamEvent { direction, offset, acknowledged: 0, at, chunk })
            }
            Ready::End(offset) => {
                self.half_mut(direction).ended = true;
                let chunk = Chunk::End;
                read(&mut self.reader, StreamEvent { direction, offset, acknowledged: 0, at, chunk })
            }
        }
    }

    /// Notes that nobody reads this flow any more. The list of such flows is as long as a table may be at most; a
    /// flow that finds no place there only costs the source its bytes.
    pub(super) fn forget(&mut self, shared: &mut Shared<'_>, forgotten: &mut Vec<FlowKey>) {
        self.state = State::Forgotten;
        if forgotten.len() < shared.limits.flows_max {
            forgotten.push(self.flow.key);
        }
        self.discard(shared);
    }

    pub(super) fn waiting_memory(&self) -> usize {
        self.to_server.waiting_memory().saturating_add(self.to_client.waiting_memory())
    }

    /// Lets go of the memory of a flow that nobody reads.
    fn discard(&mut self, shared: &mut Shared<'_>) {
        *shared.waiting_bytes = shared.waiting_bytes.saturating_sub(self.waiting_memory());
        self.to_server.assembler = None;
        self.to_client.assembler = None;
    }
}

// === impl Half ===

impl Half {
    pub(super) fn missing_since(&self) -> Option<Timestamp> {
        self.assembler.as_ref().and_then(Assembler::missing_since)
    }

    pub(super) fn waiting_memory(&self) -> usize {
        self.assembler.as_ref().map_or(0, Assembler::waiting_memory)
    }
}
