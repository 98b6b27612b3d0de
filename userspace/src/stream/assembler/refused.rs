//! Bytes of segments that their receiver drops: because their checksum is wrong (RFC 9293 section 3.10.7.4 follows section
//! 3.1, by which a wrong checksum makes a segment none), or because of what they acknowledge. Whatever comes in their place
//! is what passed.
//!
//! Never drops bytes for which no others come: captures that were edited have wrong checksums, and a receiver may be more
//! lenient than it should. They are handed on as disputed.

use super::super::{StreamLimits, StreamTally};
use super::{Assembler, Piece, Stamp, slice};
use crate::model::Seq;

/// What the checksums of a direction are worth. A capture on the sending host has them unfinished, and one in which
/// addresses or payload were changed has wrong ones: only beside right ones is a wrong one a sign of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    /// None was found right yet.
    Unknown,
    /// Some were right.
    Kept,
    /// A segment that should have been dropped was acknowledged although nothing else came for its numbers. Right ones on
    /// segments without payload prove nothing any more.
    Doubted,
}

/// Why a piece is there, the better reason last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stream) enum Grade {
    /// The receiver has dropped it, unless the capture tells a lie. `fin`: it ends the stream. `surely`: every receiver does,
    /// so that other contents in its place are no conflict.
    Refused { surely: bool, fin: bool },
    /// The receiver has not taken it, if nothing is missing in the capture: these bytes lie beyond every window that it has
    /// announced, or acknowledge more than it was seen to send.
    Unlikely,
    /// Nothing speaks against it.
    Sound,
}

// === impl Assembler ===

impl Assembler {
    /// Notes that a segment's checksum is right.
    #[inline]
    pub(in crate::stream) fn find_right(&mut self, has_payload: bool) {
        if has_payload || self.checksums == Checksums::Unknown {
            self.checksums = Checksums::Kept;
        }
    }

    /// True when a segment with a wrong checksum is one that the receiver drops.
    pub(in crate::stream) fn drops_wrong_checksums(&self) -> bool {
        self.checksums == Checksums::Kept
    }

    /// Takes the payload of a segment that the receiver drops. It waits for another copy of its bytes; see
    /// [`Assembler::settle_refused`].
    #[cold]
    pub(in crate::stream) fn take_refused(
        &mut self,
        seq: Seq,
        payload: &[u8],
        grade: Grade,
        stamp: Stamp,
        tally: &mut StreamTally,
    ) {
        let distance = self.next_seq.distance_to(seq);
        let known = usize::try_from(distance.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let start = self.next.saturating_add(u64::from(distance.max(0).unsigned_abs()));
        let fresh = payload.get(known..).unwrap_or_default();
        self.hold(start, fresh, stamp, grade, tally);
    }

    /// Looks whether the refused bytes at the front have to be taken all the same: the receiver has acknowledged them
    /// and no other copy was captured, so that either that one is missing, or they were changed after they had passed.
    pub(super) fn settle_refused(&mut self, limits: &StreamLimits) {
        let Some((first, front)) = self.waiting.first_key_value() else { return };
        if front.is_refused() && (self.acknowledged >= front.end(*first) || self.is_full(limits)) {
            self.takes_refused();
        }
    }

    /// Takes the refused bytes at the front for lack of others, as disputed ones. False when there are none.
    pub(super) fn takes_refused(&mut self) -> bool {
        let next = self.next;
        let Some(mut front) = self.waiting.first_entry() else { return false };
        let Grade::Refused { surely: _, fin } = front.get().grade else { return false };
        let end = front.get().end(next);
        if *front.key() != next {
            return false;
        }
        front.get_mut().grade = Grade::Sound;
        front.get_mut().disputed = true;
        let stamp = front.get().stamp;
        self.checksums = Checksums::Doubted;
        if fin {
            self.finish(end, stamp);
        }
        true
    }

    /// Takes away the piece at `at` for one that fills `span`. What reaches out of that stays of a refused one: it may
    /// be the only copy.
    #[cold]
    pub(super) fn replace(&mut self, at: u64, span: (u64, u64)) {
        let Some(piece) = self.waiting.remove(&at) else { return };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(piece.bytes.len());
        if !piece.is_refused() {
            return;
        }
        let end = piece.end(at);
        for part in [(at, span.0.min(end)), (span.1.max(at), end)] {
            if let Some(bytes) = slice(&piece.bytes, at, part).filter(|bytes| !bytes.is_empty()) {
                let bytes = piece.bytes.slice_ref(bytes);
                let Piece { bytes: _, stamp, disputed, grade } = piece;
                let grade = grade.of_part(part.1 == end);
                self.waiting_bytes = self.waiting_bytes.saturating_add(bytes.len());
                self.waiting.insert(part.0, Piece { bytes, stamp, disputed, grade });
            }
        }
    }
}

// === impl Grade ===

impl Grade {
    /// That of a part of a piece, which is its last one or not.
    pub(super) fn of_part(self, is_last: bool) -> Grade {
        match self {
            Grade::Refused { surely, fin } => Grade::Refused { surely, fin: fin && is_last },
            Grade::Unlikely | Grade::Sound => self,
        }
    }
}
