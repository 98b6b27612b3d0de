//! How far a direction goes: what was seen of it, what the other side says that it has, and where it ends.
//!
//! Holds no bytes.

use super::{Assembler, Receiver, Stamp};
use crate::model::Seq;

// === impl Assembler ===

impl Assembler {
    /// Notes that the other side has received everything below `seq`, and gives its offset. `is_latest`: it has sent
    /// nothing later that was seen. So if it says less than before, what it said before of bytes that nobody saw is not
    /// true: acknowledgements never go back (RFC 9293 section 3.4).
    pub(in crate::stream) fn acknowledge(&mut self, seq: Seq, is_latest: bool) -> Option<u64> {
        let offset = self.offset_of(seq)?;
        // An acknowledged FIN counts one number that is no byte.
        let bytes = self.end.map_or(offset, |end| offset.min(end));
        let is_refuted = is_latest && self.acknowledged > self.seen();
        self.acknowledged = if is_refuted { bytes } else { self.acknowledged.max(bytes) };
        Some(offset)
    }

    /// The highest offset that can be acknowledged, as far as was seen: an acknowledged FIN counts as well.
    #[inline]
    pub(in crate::stream) fn seen(&self) -> u64 {
        self.end.map_or_else(|| self.waiting_end(), |end| self.waiting_end().max(end.saturating_add(1)))
    }

    /// True when a reset at `offset` is one that the other side obeys: only one with exactly the number that it
    /// expects (RFC 5961 section 3.2), which is what it has acknowledged, or what was seen of this direction so far.
    pub(in crate::stream) fn obeys_reset_at(&self, offset: u64) -> bool {
        // A FIN counts one number that is no byte.
        let after_end = self.end.is_some_and(|end| offset == end || offset == end.saturating_add(1));
        offset == self.next || offset == self.acknowledged || offset == self.waiting_end() || after_end
    }

    /// Offset after the last byte that was seen.
    pub(in crate::stream) fn waiting_end(&self) -> u64 {
        let last = self.waiting.last_key_value();
        last.map_or(self.next, |(start, piece)| piece.end(*start))
    }

    /// Notes that no byte follows the one before `offset`. The first FIN counts, unless bytes wait behind it.
    pub(in crate::stream) fn finish(&mut self, offset: u64, stamp: Stamp) {
        if self.end == Some(offset) {
            // It came again. What its sender had received when it sent the first one is no more than either says.
            self.end_acknowledged = self.end_acknowledged.min(stamp.acknowledged);
        } else if self.end.is_none_or(|end| offset < end) && offset >= self.waiting_end() {
            if !self.is_waiting() {
                self.missing_since = stamp.at;
            }
            self.end = Some(offset);
            self.end_acknowledged = stamp.acknowledged;
            self.acknowledged = self.acknowledged.min(offset);
        }
    }

    /// Takes back an end that bytes lie behind, which reach up to `until`, when its FIN acknowledged more than anyone has
    /// seen, and they do not: one of the two was not sent here.
    pub(super) fn doubt_end(&mut self, until: Seq, stamp: Stamp, receiver: Receiver) {
        if let Some(end) = self.end
            && !self.ended
            && stamp.acknowledged <= receiver.seen
            && self.end_acknowledged > receiver.seen
            && self.offset_of(until).is_some_and(|until| until > end)
        {
            self.end = None;
        }
    }
}
