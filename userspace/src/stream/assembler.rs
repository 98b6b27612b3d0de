//! Puts the bytes of one direction of a flow in order.
//!
//! Knows no flow, no clock and no other direction; offsets are 64 bits wide, so nothing here wraps but the
//! numbers on the wire.

mod end;
mod refused;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::{Seq, Timestamp};

use super::{StreamLimits, StreamTally};

use refused::Checksums;

pub(super) use refused::Grade;

/// One direction. Invariant: the pieces in `waiting` do not overlap, none is empty, and all lie after `next`.
#[derive(Debug)]
pub(super) struct Assembler {
    /// Sequence number of the byte at offset `next`.
    next_seq: Seq,
    /// Offset of the next byte to hand on.
    next: u64,
    /// Bytes that came before their turn, by offset.
    waiting: BTreeMap<u64, Piece>,
    waiting_bytes: usize,
    /// Since when something waits for the bytes at `next`, or for bytes of the other direction.
    missing_since: Timestamp,
    /// The other side has these bytes: a gap below this offset is certain.
    acknowledged: u64,
    /// Offset after the last byte, once FIN was seen.
    end: Option<u64>,
    /// What the sender of FIN had received.
    end_acknowledged: u64,
    /// `Ready::End` was handed on; nothing follows.
    ended: bool,
    /// Whether a wrong checksum would tell anything.
    checksums: Checksums,
}

/// Bytes that came before their turn.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    stamp: Stamp,
    /// Other contents came for some of these bytes.
    disputed: bool,
    grade: Grade,
}

/// When bytes were captured and what their sender had received by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) at: Timestamp,
    pub(super) acknowledged: u64,
}

/// What is known of the end that receives a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    /// How much of what it sent was handed on.
    pub(super) handed_on: u64,
    /// How much of it was seen, so that nobody can have acknowledged more, unless the capture lacks it.
    pub(super) seen: u64,
    /// The widest window that it has announced, in bytes.
    pub(super) window: u64,
}

/// The next thing to hand on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// Bytes that had waited.
    Bytes(Bytes, Stamp, u64),
    /// The next bytes, so many of them, also came with other contents; and the offset of the first.
    Disputed(u64, u64),
    /// Bytes that were never seen: how many, and the offset of the first.
    Gap(u64, u64),
    /// All bytes up to FIN were handed on.
    End(u64),
}

/// Why a gap is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapCause {
    /// The receiver acknowledged past it (cumulative ACK, RFC 9293 section 3.4).
    Acknowledged,
    /// A bound of waiting bytes was reached.
    Bound,
    /// The wait was too long.
    Timeout,
    /// The flow is over.
    Over,
}

/// Numbers farther from the expected one than this do not belong to the stream: the largest window that
/// TCP can announce (RFC 7323 section 2.3).
const WINDOW_MAX: i32 = 1 << 30;

/// How far the numbers of a connection may be apart in two virtual networks: its packets were captured at two places, or
/// each direction has its own tags. Two connections come so close in both directions in one of 16,384 cases.
const CLOSE: u32 = 1 << 24;

/// What a waiting piece costs besides its bytes: its place in the tree and its allocation, in bytes, rounded up.
pub(super) const PIECE_MEMORY: usize = 128;

// === impl Assembler ===

impl Assembler {
    /// A direction whose next byte has number `next`.
    pub(super) fn new(next: Seq) -> Self {
        Self {
            next_seq: next,
            next: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            missing_since: Timestamp::default(),
            acknowledged: 0,
            end: None,
            end_acknowledged: 0,
            ended: false,
            checksums: Checksums::Unknown,
        }
    }

    /// Offset of the next byte to hand on.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How far this direction was handed on, for whoever acknowledges it: an acknowledged FIN counts one number more.
    #[inline]
    pub(super) fn handed_on(&self) -> u64 {
        if self.ended { u64::MAX } else { self.next }
    }

    /// When that was sent which waits although nothing before it is missing, if something does: for the bytes of
    /// the other direction that its sender had received.
    #[inline]
    pub(super) fn front(&self) -> Option<Stamp> {
        match self.waiting.first_key_value() {
            Some((first, piece)) => (*first == self.next && !piece.is_refused()).then_some(piece.stamp),
            None => (self.end == Some(self.next) && !self.ended)
                .then_some(Stamp { at: self.missing_since, acknowledged: self.end_acknowledged }),
        }
    }

    /// True when nothing waits: all that came was handed on at once.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && (self.end.is_none() || self.ended)
    }

    /// Lets what is at the front need no more than `received` bytes of the other direction.
    pub(super) fn need_at_most(&mut self, received: u64) {
        let acknowledged = match self.waiting.first_entry() {
            Some(front) if *front.key() == self.next => &mut front.into_mut().stamp.acknowledged,
            Some(_) => return,
            None => &mut self.end_acknowledged,
        };
        *acknowledged = received.min(*acknowledged);
    }

    /// True when more waits than may.
    pub(super) fn is_full(&self, limits: &StreamLimits) -> bool {
        self.waiting_bytes > limits.flow_waiting_bytes_max
            || self.waiting.len() > limits.flow_waiting_pieces_max
    }

    /// Memory that waiting bytes take up: many small pieces take much more than their bytes.
    pub(super) fn waiting_memory(&self) -> usize {
        self.waiting_bytes.saturating_add(self.waiting.len().saturating_mul(PIECE_MEMORY))
    }

    /// Since when something waits: bytes before it are missing, or bytes of the other direction that it answers.
    pub(super) fn missing_since(&self) -> Option<Timestamp> {
        self.is_waiting().then_some(self.missing_since)
    }

    #[inline]
    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || (self.end.is_some() && !self.ended)
    }

    /// The offset of a number near the expected one; `None` before the first byte or outside the window.
    pub(super) fn offset_of(&self, seq: Seq) -> Option<u64> {
        let distance = self.next_seq.distance_to(seq);
        self.is_near(seq).then(|| self.next.checked_add_signed(i64::from(distance))).flatten()
    }

    /// True when a number is so near to the next one that another connection would hardly have it by chance.
    pub(super) fn is_close(&self, seq: Seq) -> bool {
        self.next_seq.distance_to(seq).unsigned_abs() <= CLOSE
    }

    /// True when a segment with this number can belong to the stream.
    pub(super) fn is_near(&self, seq: Seq) -> bool {
        (-WINDOW_MAX..=WINDOW_MAX).contains(&self.next_seq.distance_to(seq))
    }

    /// True while no byte of the stream was seen, nor acknowledged, so that only an acknowledgement says where it
    /// begins.
    pub(super) fn is_untouched(&self) -> bool {
        self.next == 0 && self.acknowledged == 0 && !self.is_waiting() && !self.ended
    }

    /// True for the number of a byte that was handed on.
    #[inline]
    pub(super) fn is_behind(&self, seq: Seq) -> bool {
        self.next_seq.distance_to(seq) < 0
    }

    /// The part of a payload that was handed on before, and its offset, when the receiver has not said that it has the
    /// first copy. Not the one byte of a keep-alive probe, which may be garbage (RFC 9293 section 3.8.4).
    #[cold]
    pub(super) fn again<'a>(&self, seq: Seq, payload: &'a [u8]) -> Option<(&'a [u8], u64)> {
        let distance = self.next_seq.distance_to(seq);
        let known = usize::try_from(distance.checked_neg()?).ok().filter(|known| *known > 0)?;
        let is_probe = known == 1 && payload.len() == 1;
        if is_probe || !self.is_near(seq) {
            return None;
        }
        let start = self.next.checked_sub(known as u64)?;
        let taken = self.acknowledged.saturating_sub(start);
        let unsure = payload.get(..known).unwrap_or(payload).get(usize::try_from(taken).ok()?..)?;
        (!unsure.is_empty()).then_some((unsure, start.saturating_add(taken)))
    }

    /// Takes a segment's payload. Returns the part that can be handed on at once, if any; the rest waits, or was
    /// known already. Ask [`Assembler::ready`] afterwards. Bytes that were sent after more of the other direction than was
    /// handed on wait, too.
    pub(super) fn take<'a>(
        &mut self,
        seq: Seq,
        payload: &'a [u8],
        stamp: Stamp,
        receiver: Receiver,
        tally: &mut StreamTally,
    ) -> Option<(&'a [u8], u64)> {
        let distance = self.next_seq.distance_to(seq);
        if !(-WINDOW_MAX..=WINDOW_MAX).contains(&distance) {
            tally.out_of_window = tally.out_of_window.saturating_add(1);
            return None;
        }
        self.doubt_end(seq.plus(u32::try_from(payload.len()).unwrap_or(u32::MAX)), stamp, receiver);
        if distance > 0 {
            let start = self.next.saturating_add(u64::from(distance.unsigned_abs()));
            // What a receiver was not ready for it drops (RFC 9293 section 3.10.7.4). Kept all the same, since an
            // acknowledgement that moved the window may not have been captured, but whatever else comes counts more.
            let is_beyond = start > self.acknowledged.max(self.next).saturating_add(receiver.window);
            let is_unlikely = is_beyond || stamp.acknowledged > receiver.seen;
            let grade = if is_unlikely { Grade::Unlikely } else { Grade::Sound };
            self.hold(start, payload, stamp, grade, tally);
            return None;
        }
        let known = distance.unsigned_abs() as usize;
        let fresh = payload.get(known..).unwrap_or_default();
        tally.repeated_bytes =
            tally.repeated_bytes.saturating_add(payload.len().saturating_sub(fresh.len()) as u64);
        if stamp.acknowledged > receiver.handed_on {
            let grade = if stamp.acknowledged > receiver.seen { Grade::Unlikely } else { Grade::Sound };
            self.hold(self.next, fresh, stamp, grade, tally);
            return None;
        }
        // Bytes past FIN do not exist for the application.
        let fresh = match self.end {
            Some(end) => {
                let room = usize::try_from(end.saturating_sub(self.next)).unwrap_or(usize::MAX);
                fresh.get(..room).unwrap_or(fresh)
            }
            None => fresh,
        };
        // Where bytes wait already, the first copy wins: hand on only up to the first of them.
        let fresh = match self.waiting.first_key_value() {
            Some((first, _)) => {
                let room = usize::try_from(first.saturating_sub(self.next)).unwrap_or(usize::MAX);
                match fresh.split_at_checked(room) {
                    Some((before, after)) => {
                        let first = *first;
                        self.hold(first, after, stamp, Grade::Sound, tally);
                        before
                    }
                    None => fresh,
                }
            }
            None => fresh,
        };
        if fresh.is_empty() {
            return None;
        }
        let offset = self.next;
        self.advance(fresh.len() as u64);
        tally.bytes = tally.bytes.saturating_add(fresh.len() as u64);
        Some((fresh, offset))
    }

    /// The next thing that can be handed on without waiting, if there is one, when `received` bytes of the other
    /// direction have been.
    pub(super) fn ready(
        &mut self,
        received: u64,
        limits: &StreamLimits,
        tally: &mut StreamTally,
    ) -> Option<Ready> {
        if !self.is_waiting() || self.front().is_some_and(|front| front.acknowledged > received) {
            return None;
        }
        if self.end == Some(self.next) && !self.ended {
            self.ended = true;
            return Some(Ready::End(self.next));
        }
        self.settle_refused(limits);
        let Some((&first, front)) = self.waiting.first_key_value() else {
            // Only FIN is known to follow; when the other side has acknowledged it, the bytes before it are lost.
            let lost = self.end.is_some_and(|end| end > self.next && self.acknowledged >= end);
            return if lost { self.give_up(GapCause::Acknowledged, tally) } else { None };
        };
        if first == self.next && front.is_refused() {
            return None;
        }
        if first == self.next && front.disputed {
            let bytes = front.bytes.len() as u64;
            self.waiting.first_entry().into_iter().for_each(|mut front| front.get_mut().disputed = false);
            return Some(Ready::Disputed(bytes, first));
        }
        if first == self.next {
            let (offset, piece) = self.waiting.pop_first()?;
            self.waiting_bytes = self.waiting_bytes.saturating_sub(piece.bytes.len());
            self.advance(piece.bytes.len() as u64);
            tally.bytes = tally.bytes.saturating_add(piece.bytes.len() as u64);
            // What is missing from here on is missing since something after it came, not since the first disorder.
            let since = self.waiting.first_key_value().map_or(piece.stamp.at, |(_, next)| next.stamp.at);
            self.missing_since = since.max(self.missing_since);
            return Some(Ready::Bytes(piece.bytes, piece.stamp, offset));
        }
        if self.acknowledged >= first {
            return self.give_up(GapCause::Acknowledged, tally);
        }
        if self.is_full(limits) { self.give_up(GapCause::Bound, tally) } else { None }
    }

    /// Declares the bytes before the first waiting one lost. When the flow is over, also the bytes that were
    /// acknowledged, or end with FIN, and were never seen.
    pub(super) fn give_up(&mut self, cause: GapCause, tally: &mut StreamTally) -> Option<Ready> {
        if self.takes_refused() {
            return None;
        }
        let first = self.waiting.first_key_value().map(|(first, _)| *first);
        let known = match cause {
            GapCause::Acknowledged | GapCause::Bound | GapCause::Timeout => first.or(self.end),
            GapCause::Over => first.or(self.end).or(Some(self.acknowledged)),
        };
        self.lose(known?, cause, tally)
    }

    /// Declares the bytes before `until` lost that were not seen yet, up to the first one that was.
    pub(super) fn lose(&mut self, until: u64, cause: GapCause, tally: &mut StreamTally) -> Option<Ready> {
        let first = self.waiting.first_key_value().map(|(first, _)| *first);
        let until = until.min(first.or(self.end).unwrap_or(u64::MAX));
        let bytes = until.checked_sub(self.next).filter(|bytes| *bytes > 0)?;
        let offset = self.next;
        self.advance(bytes);
        tally.gaps = tally.gaps.saturating_add(1);
        tally.gap_bytes = tally.gap_bytes.saturating_add(bytes);
        match cause {
            GapCause::Bound => tally.gaps_at_bound = tally.gaps_at_bound.saturating_add(1),
            GapCause::Timeout => tally.gaps_at_timeout = tally.gaps_at_timeout.saturating_add(1),
            GapCause::Over => tally.gaps_at_end = tally.gaps_at_end.saturating_add(1),
            GapCause::Acknowledged => {}
        }
        Some(Ready::Gap(bytes, offset))
    }

    fn advance(&mut self, bytes: u64) {
        self.next = self.next.saturating_add(bytes);
        // Truncation is what wraps the number on the wire.
        self.next_seq = self.next_seq.plus((bytes & u64::from(u32::MAX)) as u32);
    }

    /// Keeps the parts of `payload` that are not known yet. The first copy wins, unless the receiver cannot have taken
    /// it; it is known from then on that there are two, except of those that every receiver drops.
    fn hold(&mut self, start: u64, payload: &[u8], stamp: Stamp, grade: Grade, tally: &mut StreamTally) {
        let payload = match self.end {
            Some(end) => {
                let room = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
                payload.get(..room).unwrap_or(payload)
            }
            None => payload,
        };
        if payload.is_empty() {
            return;
        }
        let is_refused = matches!(grade, Grade::Refused { surely: _, fin: _ });
        if !self.is_waiting() {
            self.missing_since = stamp.at;
        }
        // These bytes are the same ones or later ones. So what is at the front was sent, for the first time at least,
        // when its sender had received no more than this: it came again, or what it says it received is forged.
        if !self.waiting.is_empty() && !is_refused {
            self.need_at_most(stamp.acknowledged);
        }
        let end = start.saturating_add(payload.len() as u64);
        let mut holes: Vec<(u64, u64)> = Vec::new();
        let mut replaced: Vec<u64> = Vec::new();
        let mut cursor = start;
        let (mut conflict, mut disputed) = (false, false);
        // The piece that begins at or before the payload may reach into it; pieces do not overlap, so it is one.
        let from = self.waiting.range(..=start).next_back().map_or(start, |(at, _)| *at);
        for (&at, piece) in self.waiting.range_mut(from..end) {
            let piece_end = piece.end(at);
            if piece_end <= cursor {
                continue;
            }
            let overlap = (cursor.max(at), piece_end.min(end));
            let differs = slice(payload, start, overlap) != slice(&piece.bytes, at, overlap);
            let is_dropped = matches!(piece.grade, Grade::Refused { surely: true, fin: _ });
            if differs && !is_refused && !is_dropped {
                conflict = true;
                piece.disputed = true;
                disputed |= piece.grade < grade;
            }
            if !is_refused && (piece.is_refused() || (differs && piece.grade < grade)) {
                replaced.push(at);
                continue;
            }
            if at > cursor {
                holes.push((cursor, at));
            }
            cursor = piece_end.min(end);
        }
        if cursor < end {
            holes.push((cursor, end));
        }
        if conflict {
            tally.conflicts = tally.conflicts.saturating_add(1);
        }
        for at in replaced {
            self.replace(at, (start, end));
        }
        let mut held = 0usize;
        for hole in holes {
            let grade = grade.of_part(hole.1 == end);
            let bytes = Bytes::copy_from_slice(slice(payload, start, hole).unwrap_or_default());
            held = held.saturating_add(bytes.len());
            self.waiting.insert(hole.0, Piece { bytes, stamp, disputed, grade });
        }
        self.waiting_bytes = self.waiting_bytes.saturating_add(held);
        tally.repeated_bytes = tally.repeated_bytes.saturating_add(payload.len().saturating_sub(held) as u64);
    }
}

// === impl Piece ===

impl Piece {
    fn is_refused(&self) -> bool {
        matches!(self.grade, Grade::Refused { surely: _, fin: _ })
    }

    /// Offset after its last byte, when it begins at `start`.
    fn end(&self, start: u64) -> u64 {
        start.saturating_add(self.bytes.len() as u64)
    }
}

/// The bytes of `span` out of `bytes`, which begin at offset `start`.
fn slice(bytes: &[u8], start: u64, span: (u64, u64)) -> Option<&[u8]> {
    let from = usize::try_from(span.0.checked_sub(start)?).ok()?;
    let to = usize::try_from(span.1.checked_sub(start)?).ok()?;
    bytes.get(from..to)
}

#[cfg(test)]
mod tests;
