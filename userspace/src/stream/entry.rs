//! One flow: both directions, and the way of a segment through them.
//!
//! Knows no other flow; what all flows share is lent to it as [`Shared`].

use crate::model::{
    Checksum, Chunk, Direction, Flow, FlowKey, Interest, Segment, Seq, StreamEvent, StreamReader, TcpFlags,
    Timestamp,
};

use super::assembler::{Assembler, GapCause, Ready, Receiver, Stamp};
use super::rival::Rival;
use super::undecided::Undecided;
use super::{StreamLimits, StreamTally};

#[derive(Debug)]
pub(super) struct Entry<R> {
    pub(super) flow: Flow,
    pub(super) state: State,
    pub(super) last_seen: Timestamp,
    /// Of its first packet.
    pub(super) network: u32,
    /// Tells this flow from an earlier one in the same slot.
    pub(super) generation: u64,
    pub(super) to_server: Half,
    pub(super) to_client: Half,
    pub(super) hearing: Hearing<R>,
    /// A SYN of another connection between the same two ends, as long as nobody has answered it.
    pub(super) rival: Option<Box<Rival>>,
}

/// Who hears what happens on a flow.
#[derive(Debug)]
pub(super) enum Hearing<R> {
    Reader(R),
    /// Nobody yet: it is not known which end is the server.
    Undecided(Box<Undecided>),
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
    /// That SYN acknowledged one of the other side.
    pub(super) answered_syn: bool,
    pub(super) ended: bool,
    /// Segments of this direction are captured, as far as is known.
    pub(super) heard: bool,
    /// It has acknowledged something that the other one can have sent.
    pub(super) acknowledges: bool,
    /// The widest window that it has announced, as the field says it; 0 while none is known.
    pub(super) window: u16,
    /// By how many bits that is to be shifted, where its SYN says so.
    pub(super) window_scale: Option<u8>,
    /// A reset that waits for what was sent before it.
    pub(super) reset: Option<Box<Stamp>>,
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

impl<R: StreamReader> Entry<R> {
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

    /// Takes a segment of this flow, and hands on whatever can be read now.
    pub(super) fn segment(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let at = segment.captured_at;
        if self.is_refused(direction, segment) {
            return self.refuse(direction, segment, shared, read);
        }
        if !self.belongs(direction, segment) {
            let bytes = u64::from(!segment.payload.is_empty());
            shared.tally.out_of_window = shared.tally.out_of_window.saturating_add(bytes);
            return Interest::Keep;
        }
        let acknowledged = match segment.ack {
            Some(ack) => match self.acknowledge(segment, direction, ack, shared, read) {
                Ok(offset) => offset,
                Err(interest) => return interest,
            },
            None => 0,
        };
        let receiver = self.receiver(direction);
        let stamp = Stamp { at, acknowledged };
        let half = self.half_mut(direction);
        let first_byte = half.open(segment);
        let Some(assembler) = &mut half.assembler else {
            return if segment.flags.rst { self.abort(at, shared, read) } else { Interest::Keep };
        };
        if segment.checksum == Checksum::Right {
            assembler.find_right(!segment.payload.is_empty());
        }
        if segment.flags.fin
            && let Some(offset) = assembler.offset_of(first_byte.plus(segment.wire_payload_bytes))
        {
            assembler.finish(offset, stamp);
        }
        let reset = segment.flags.rst
            && assembler.offset_of(segment.seq).is_some_and(|offset| assembler.obeys_reset_at(offset));
        // What a reset carries is a remark, not a part of the stream (RFC 9293 section 3.5.3).
        if !segment.payload.is_empty() && !segment.flags.rst {
            let payload = (first_byte, segment.payload);
            if self.payload(direction, payload, stamp, receiver, shared, read) == Interest::Forget {
                return Interest::Forget;
            }
        }
        if self.pump_within_bound(direction, at, shared, read) == Interest::Forget {
            return Interest::Forget;
        }
        if reset {
            self.half_mut(direction).reset = Some(Box::new(stamp));
        }
        if self.is_reset() { self.abort(at, shared, read) } else { Interest::Keep }
    }

    /// Hands on what comes in its turn of a payload, given with the number of its first byte, and keeps what is early.
    fn payload(
        &mut self,
        direction: Direction,
        (first_byte, payload): (Seq, &[u8]),
        stamp: Stamp,
        receiver: Receiver,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let Stamp { at, acknowledged } = stamp;
        let half = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        let Some(assembler) = &mut half.assembler else { return Interest::Keep };
        if assembler.is_behind(first_byte)
            && let Some((bytes, offset)) = assembler.again(first_byte, payload)
        {
            let event = StreamEvent { direction, offset, acknowledged, at, chunk: Chunk::Again(bytes) };
            if self.hearing.tell(event, shared.limits, read) == Interest::Forget {
                return Interest::Forget;
            }
        }
        let held_before = assembler.waiting_memory();
        let fresh = assembler.take(first_byte, payload, stamp, receiver, shared.tally);
        let held = shared.waiting_bytes.saturating_add(assembler.waiting_memory());
        *shared.waiting_bytes = held.saturating_sub(held_before);
        let Some((bytes, offset)) = fresh else { return Interest::Keep };
        let event = StreamEvent { direction, offset, acknowledged, at, chunk: Chunk::Bytes(bytes) };
        self.hearing.tell(event, shared.limits, read)
    }

    /// Notes what the sender of `direction` has received, which may prove a gap in the other one. Gives the acknowledged
    /// offset.
    fn acknowledge(
        &mut self,
        segment: &Segment<'_>,
        direction: Direction,
        ack: Seq,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Result<u64, Interest> {
        let own = self.half(direction).assembler.as_ref().filter(|_| !segment.payload.is_empty());
        let is_latest = own.is_some_and(|own| own.offset_of(segment.seq) >= Some(own.seen()));
        let other = direction.reversed();
        let assembler = self.half_mut(other).assembler.get_or_insert_with(|| Assembler::new(ack));
        let offset = assembler.acknowledge(ack, is_latest);
        let is_sent = offset.is_some_and(|offset| offset <= assembler.seen());
        let is_missing = assembler.missing_since().is_some();
        self.half_mut(direction).acknowledges |= is_sent;
        if is_missing && self.pump(other, segment.captured_at, shared, read) == Interest::Forget {
            return Err(Interest::Forget);
        }
        Ok(offset.unwrap_or_default())
    }

    /// Hands on everything of one direction that needs no more waiting.
    #[inline]
    pub(super) fn pump_one(
        &mut self,
        direction: Direction,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let received = self.received(direction);
        while let Some(assembler) = &mut self.half_mut(direction).assembler {
            let held = assembler.waiting_memory();
            let Some(ready) = assembler.ready(received, shared.limits, shared.tally) else { break };
            let freed = held.saturating_sub(assembler.waiting_memory());
            *shared.waiting_bytes = shared.waiting_bytes.saturating_sub(freed);
            if self.hand_on(direction, at, ready, shared, read) == Interest::Forget {
                return Interest::Forget;
            }
        }
        Interest::Keep
    }

    /// Waits no longer for what is missing before the next bytes of `direction`, or for what they answer.
    pub(super) fn give_up(
        &mut self,
        direction: Direction,
        cause: GapCause,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        if self.held(direction).is_some() {
            if self.stop_holding(direction, cause, at, shared, read) == Interest::Forget {
                return Interest::Forget;
            }
        } else if self.half(direction).reset.is_some() && cause == GapCause::Timeout {
            return self.abort(at, shared, read);
        } else {
            let assembler = self.half_mut(direction).assembler.as_mut();
            let gap = assembler.and_then(|assembler| assembler.give_up(cause, shared.tally));
            if let Some(gap) = gap
                && self.hand_on(direction, at, gap, shared, read) == Interest::Forget
            {
                return Interest::Forget;
            }
        }
        if self.pump(direction, at, shared, read) == Interest::Forget {
            return Interest::Forget;
        }
        if self.is_reset() { self.abort(at, shared, read) } else { Interest::Keep }
    }

    /// The connection is over: everything that waits comes out, with gaps where bytes are missing.
    pub(super) fn abort(
        &mut self,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let both = [Direction::ToServer, Direction::ToClient];
        for direction in both {
            self.half_mut(direction).reset = None;
        }
        let reached = |entry: &Self| {
            both.map(|direction| entry.half(direction).assembler.as_ref().map(Assembler::handed_on))
        };
        loop {
            let before = reached(self);
            // What is held first, so that nothing comes before what it answers.
            let held = both.into_iter().find(|direction| self.held(*direction).is_some());
            let next = held.map_or(&both[..], |held| if held == both[0] { &both[..1] } else { &both[1..] });
            for direction in next {
                if self.give_up(*direction, GapCause::Over, at, shared, read) == Interest::Forget {
                    return Interest::Forget;
                }
            }
            if reached(self) == before {
                break;
            }
        }
        for direction in [Direction::ToServer, Direction::ToClient] {
            let half = self.half_mut(direction);
            let offset = half.assembler.as_ref().map_or(0, Assembler::next);
            if !std::mem::replace(&mut half.ended, true) {
                let event = StreamEvent { direction, offset, acknowledged: 0, at, chunk: Chunk::Abort };
                if self.hearing.tell(event, shared.limits, read) == Interest::Forget {
                    return Interest::Forget;
                }
            }
        }
        Interest::Keep
    }

    pub(super) fn hand_on(
        &mut self,
        direction: Direction,
        at: Timestamp,
        ready: Ready,
        shared: &Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        match ready {
            Ready::Bytes(bytes, Stamp { at, acknowledged }, offset) => {
                let chunk = Chunk::Bytes(&bytes);
                let event = StreamEvent { direction, offset, acknowledged, at, chunk };
                self.hearing.tell(event, shared.limits, read)
            }
            Ready::Disputed(bytes, offset) => {
                let chunk = Chunk::Disputed { bytes };
                let event = StreamEvent { direction, offset, acknowledged: 0, at, chunk };
                self.hearing.tell(event, shared.limits, read)
            }
            Ready::Gap(bytes, offset) => {
                let chunk = Chunk::Gap { bytes };
                let event = StreamEvent { direction, offset, acknowledged: 0, at, chunk };
                self.hearing.tell(event, shared.limits, read)
            }
            Ready::End(offset) => {
                self.half_mut(direction).ended = true;
                let event = StreamEvent { direction, offset, acknowledged: 0, at, chunk: Chunk::End };
                self.hearing.tell(event, shared.limits, read)
            }
        }
    }

    /// False for a segment whose number lies outside of its stream: its receiver drops it with all that it says
    /// (RFC 9293 section 3.10.7.4, first check).
    #[inline]
    fn belongs(&mut self, direction: Direction, segment: &Segment<'_>) -> bool {
        let assembler = self.half(direction).assembler.as_ref();
        assembler.is_none_or(|assembler| assembler.is_near(segment.seq))
            || self.begins_anew(direction, segment)
    }

    /// An acknowledgement from elsewhere may have said wrongly where a direction begins; its own bytes know.
    #[cold]
    fn begins_anew(&mut self, direction: Direction, segment: &Segment<'_>) -> bool {
        let half = self.half_mut(direction);
        let anew = (segment.flags.syn || !segment.payload.is_empty()) && half.is_untouched();
        if anew {
            half.assembler = None;
        }
        anew
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

    /// What of this flow is counted in the memory of all flows.
    pub(super) fn waiting_memory(&self) -> usize {
        let undecided = match &self.hearing {
            Hearing::Reader(_) => 0,
            Hearing::Undecided(undecided) => undecided.counted,
        };
        undecided
            .saturating_add(self.to_server.waiting_memory())
            .saturating_add(self.to_client.waiting_memory())
    }

    /// Lets go of the memory of a flow that nobody reads.
    fn discard(&mut self, shared: &mut Shared<'_>) {
        *shared.waiting_bytes = shared.waiting_bytes.saturating_sub(self.waiting_memory());
        for half in [&mut self.to_server, &mut self.to_client] {
            half.assembler = None;
            half.reset = None;
        }
    }
}

// === impl Hearing ===

impl<R: StreamReader> Hearing<R> {
    #[inline]
    pub(super) fn tell(
        &mut self,
        event: StreamEvent<'_>,
        limits: &StreamLimits,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        match self {
            Hearing::Reader(reader) => read(reader, event),
            Hearing::Undecided(undecided) => {
                undecided.hear(event, R::sender, limits.undecided_bytes_max);
                Interest::Keep
            }
        }
    }
}

// === impl Half ===

impl Half {
    /// Takes note of a segment of this direction, which begins with the first one that says where. Gives the number of the
    /// segment's first byte.
    #[inline]
    fn open(&mut self, segment: &Segment<'_>) -> Seq {
        let TcpFlags { syn, fin: _, rst } = segment.flags;
        self.heard = true;
        self.window = self.window.max(segment.window);
        // A SYN takes up a number of its own.
        let first_byte = if syn { segment.seq.plus(1) } else { segment.seq };
        if syn {
            if self.is_untouched() {
                // It knows better than an acknowledgement where its direction begins.
                self.assembler = None;
            }
            self.initial = Some(segment.seq);
            self.answered_syn = segment.ack.is_some();
            self.window_scale = segment.window_scale;
        }
        if self.assembler.is_none() && (syn || (!segment.payload.is_empty() && !rst)) {
            self.assembler = Some(Assembler::new(first_byte));
        }
        first_byte
    }

    /// True while nothing of this direction was seen but acknowledgements of the other one.
    pub(super) fn is_untouched(&self) -> bool {
        self.initial.is_none() && self.assembler.as_ref().is_none_or(Assembler::is_untouched)
    }

    pub(super) fn missing_since(&self) -> Option<Timestamp> {
        let missing_since = self.assembler.as_ref().and_then(Assembler::missing_since);
        missing_since.or(self.reset.as_ref().map(|reset| reset.at))
    }

    pub(super) fn waiting_memory(&self) -> usize {
        self.assembler.as_ref().map_or(0, Assembler::waiting_memory)
    }
}
