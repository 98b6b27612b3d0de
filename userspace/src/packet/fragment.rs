//! Puts fragmented IP packets together (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! Waits for nothing and reads no clock: a datagram that does not become whole in time or within the bounds is given
//! up when the next fragment comes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::ip::{Datagram, Fragment, Version};
use super::rest::Rest;
use crate::model::Timestamp;

/// Bounds of putting fragments together. At each of the first two the oldest datagram is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams that wait for fragments at a time. Default 256.
    pub datagrams_max: usize,
    /// Bytes that they take up together. Default 4 MiB.
    pub bytes_max: usize,
    /// Pieces of one datagram that do not touch each other. One more, and it is given up. Default 128.
    pub pieces_max: usize,
    /// How long a datagram may wait for its last fragment. Default 30 s, which is what Linux waits.
    pub wait_max: Duration,
}

/// What putting fragments together met. Datagrams begun = whole + given up + those that still wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentTally {
    /// Fragments of datagrams.
    pub fragments: u64,
    /// Datagrams of which a fragment was seen.
    pub begun: u64,
    /// Datagrams that became whole.
    pub whole: u64,
    /// Datagrams given up because `wait_max` passed.
    pub late: u64,
    /// Datagrams given up at another bound.
    pub at_bound: u64,
    /// Fragments that repeat bytes; the first copy won.
    pub overlaps: u64,
    /// Of these, fragments that differed in a byte that they repeat.
    pub conflicts: u64,
    /// Fragments that no datagram can have: beyond its end, or beyond 64 KiB.
    pub impossible: u64,
}

/// The datagrams that wait for fragments.
#[derive(Debug)]
pub(super) struct FragmentTable {
    limits: FragmentLimits,
    tally: FragmentTally,
    waiting: HashMap<Key, Partial>,
    /// In the order in which they were begun. Those that are gone stay listed until they come to the front.
    order: VecDeque<(Key, u64)>,
    bytes: usize,
    /// The last datagram that became whole.
    whole: Vec<u8>,
}

/// What the fragments of one datagram have in common. The protocol is no part of it for IPv6, whose fragments may
/// name different ones (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    network: u32,
    version: Version,
    source: [u8; 16],
    destination: [u8; 16],
    protocol: Option<u8>,
    identification: u32,
}

#[derive(Debug)]
struct Partial {
    number: u64,
    since: Timestamp,
    /// Of the fragment at the start.
    protocol: Option<u8>,
    bytes: Vec<u8>,
    /// What of `bytes` was seen: sorted, and no two touch each other.
    pieces: Vec<Piece>,
    /// The length of the whole, once the last fragment was seen.
    total: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: usize,
    end: usize,
}

/// What inserting a fragment showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Overlap {
    repeats: bool,
    differs: bool,
}

/// No datagram is longer (RFC 791 section 3.1).
const DATAGRAM_BYTES_MAX: usize = 65_535;

// === impl FragmentLimits ===

impl Default for FragmentLimits {
    fn default() -> Self {
        Self { datagrams_max: 256, bytes_max: 4 << 20, pieces_max: 128, wait_max: Duration::from_secs(30) }
    }
}

// === impl FragmentTable ===

impl FragmentTable {
    pub(super) fn new(limits: FragmentLimits) -> Self {
        Self {
            limits,
            tally: FragmentTally::default(),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            whole: Vec::new(),
        }
    }

    pub(super) fn tally(&self) -> FragmentTally {
        self.tally
    }

    /// Takes a fragment; gives the datagram when it was the last one that was missing.
    pub(super) fn insert(&mut self, fragment: &Fragment<'_>, now: Timestamp) -> Option<Datagram<'_>> {
        let Fragment { identification, offset, more, part } = *fragment;
        let Datagram { version, source, destination, protocol, rest } = part;
        self.tally.fragments = self.tally.fragments.saturating_add(1);
        self.give_up_late(now);
        let Some(end) = offset.checked_add(rest.wire()).filter(|end| *end <= DATAGRAM_BYTES_MAX) else {
            self.tally.impossible = self.tally.impossible.saturating_add(1);
            return None;
        };
        let by_protocol = (version == Version::V4).then_some(protocol);
        let network = rest.network();
        let key = Key { network, version, source, destination, protocol: by_protocol, identification };
        if !self.waiting.contains_key(&key) {
            self.begin(key, now);
        }
        let partial = self.waiting.get_mut(&key)?;
        let before = partial.bytes.len();
        let placed = partial.place(offset, end, more, rest.bytes());
        if offset == 0 {
            partial.protocol = partial.protocol.or(Some(protocol));
        }
        self.bytes = self.bytes.saturating_add(partial.bytes.len().saturating_sub(before));
        match placed {
            Some(Overlap { repeats, differs }) => {
                self.tally.overlaps = self.tally.overlaps.saturating_add(u64::from(repeats));
                self.tally.conflicts = self.tally.conflicts.saturating_add(u64::from(differs));
            }
            None => self.tally.impossible = self.tally.impossible.saturating_add(1),
        }
        if partial.pieces.len() > self.limits.pieces_max {
            self.remove(&key);
            self.tally.at_bound = self.tally.at_bound.saturating_add(1);
            return None;
        }
        if !partial.is_whole() {
            while self.bytes > self.limits.bytes_max && self.give_up_oldest() {}
            return None;
        }
        let Partial { number: _, since: _, protocol: first, bytes, pieces: _, total: _ } =
            self.remove(&key)?;
        self.tally.whole = self.tally.whole.saturating_add(1);
        self.whole = bytes;
        let rest = Rest::new(&self.whole, self.whole.len()).within(network);
        Some(Datagram { version, source, destination, protocol: first?, rest })
    }

    fn begin(&mut self, key: Key, now: Timestamp) {
        while self.waiting.len() >= self.limits.datagrams_max.max(1) && self.give_up_oldest() {}
        // The list also holds those that are gone; most of them became whole, and never come to the front in time.
        if self.order.len() >= self.limits.datagrams_max.max(1).saturating_mul(2) {
            let waiting = &self.waiting;
            self.order.retain(|(key, number)| waiting.get(key).is_some_and(|one| one.number == *number));
        }
        self.tally.begun = self.tally.begun.saturating_add(1);
        let number = self.tally.begun;
        self.order.push_back((key, number));
        let (protocol, bytes, pieces, total) = (None, Vec::new(), Vec::new(), None);
        self.waiting.insert(key, Partial { number, since: now, protocol, bytes, pieces, total });
    }

    fn give_up_late(&mut self, now: Timestamp) {
        while let Some((key, number)) = self.order.front() {
            match self.waiting.get(key).filter(|one| one.number == *number) {
                Some(one) if now.since(one.since) <= self.limits.wait_max => return,
                Some(_) => {
                    let key = *key;
                    self.remove(&key);
                    self.tally.late = self.tally.late.saturating_add(1);
                }
                None => {}
            }
            self.order.pop_front();
        }
    }

    /// False when none is left.
    fn give_up_oldest(&mut self) -> bool {
        while let Some((key, number)) = self.order.pop_front() {
            if self.waiting.get(&key).is_some_and(|one| one.number == number) {
                self.remove(&key);
                self.tally.at_bound = self.tally.at_bound.saturating_add(1);
                return true;
            }
        }
        false
    }

    fn remove(&mut self, key: &Key) -> Option<Partial> {
        let partial = self.waiting.remove(key)?;
        self.bytes = self.bytes.saturating_sub(partial.bytes.len());
        Some(partial)
    }
}

// === impl Partial ===

impl Partial {
    /// Puts the captured bytes of `offset..end` where nothing is yet. `None` when no datagram can have such a
    /// fragment besides those that came before.
    fn place(&mut self, offset: usize, end: usize, more: bool, captured: &[u8]) -> Option<Overlap> {
        let highest = self.pieces.last().map_or(0, |last| last.end);
        if self.total.is_some_and(|total| end > total || (!more && end < total)) || (!more && highest > end) {
            return None;
        }
        if !more {
            self.total = Some(end);
        }
        // Less than `end` when the capture cut the packet.
        let seen_end = offset.saturating_add(captured.len());
        if self.bytes.len() < seen_end {
            self.bytes.resize(seen_end, 0);
        }
        let mut overlap = Overlap::default();
        let mut at = offset;
        // The pieces that touch the new one, and then the one that stands for all of them.
        let first = self.pieces.partition_point(|piece| piece.end < offset);
        let behind = self.pieces.partition_point(|piece| piece.start <= seen_end);
        let touching = self.pieces.get(first..behind).unwrap_or_default();
        let merged = Piece {
            start: touching.first().map_or(offset, |piece| piece.start.min(offset)),
            end: touching.last().map_or(seen_end, |piece| piece.end.max(seen_end)),
        };
        for piece in touching {
            copy(&mut self.bytes, captured, offset, at, piece.start);
            let repeated = (piece.start.max(offset), piece.end.min(seen_end));
            if repeated.0 < repeated.1 {
                overlap.repeats = true;
                let kept = self.bytes.get(repeated.0..repeated.1);
                overlap.differs |= kept != within(captured, offset, repeated.0, repeated.1);
            }
            at = at.max(piece.end);
        }
        copy(&mut self.bytes, captured, offset, at, seen_end);
        if seen_end > offset {
            self.pieces.splice(first..behind, [merged]);
        }
        Some(overlap)
    }

    fn is_whole(&self) -> bool {
        let whole = |total| self.pieces.first() == Some(&Piece { start: 0, end: total });
        self.total.is_some_and(whole) && self.protocol.is_some()
    }
}

/// The part `from..to` of a datagram, of whose bytes `captured` begins at `offset`.
fn within(captured: &[u8], offset: usize, from: usize, to: usize) -> Option<&[u8]> {
    captured.get(from.checked_sub(offset)?..to.checked_sub(offset)?)
}

fn copy(bytes: &mut [u8], captured: &[u8], offset: usize, from: usize, to: usize) {
    if from < to
        && let Some(target) = bytes.get_mut(from..to)
        && let Some(part) = within(captured, offset, from, to)
    {
        target.copy_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
