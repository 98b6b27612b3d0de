//! The order of the two directions of a flow: what was sent after something comes after it.
//!
//! Knows no time of capture but to tell an older lie from a newer one: what orders the directions is what a segment
//! acknowledges. Its sender had received that (RFC 9293 section 3.4), so it was sent before, wherever a capture has it:
//! several queues, interfaces or clocks make captures in which an answer stands before its question.

use crate::model::{Direction, Interest, StreamEvent, StreamReader, Timestamp};

use super::assembler::{Assembler, GapCause, Stamp};
use super::entry::{Entry, Half, Shared};

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// Hands on everything that needs no more waiting, of `direction` first.
    #[inline(always)]
    pub(super) fn pump(
        &mut self,
        direction: Direction,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let is_idle = |half: &Half| half.assembler.as_ref().is_none_or(Assembler::is_idle);
        if is_idle(&self.to_server) && is_idle(&self.to_client) {
            return Interest::Keep;
        }
        self.pump_both(direction, at, shared, read)
    }

    /// Hands on everything that needs no more waiting, and what finds no room to wait.
    #[inline]
    pub(super) fn pump_within_bound(
        &mut self,
        direction: Direction,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
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
        Interest::Keep
    }

    fn pump_both(
        &mut self,
        mut direction: Direction,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        loop {
            if self.pump_one(direction, at, shared, read) == Interest::Forget {
                return Interest::Forget;
            }
            let other = direction.reversed();
            let front = |half: &Half| half.assembler.as_ref().and_then(Assembler::front);
            match (front(self.half(direction)), front(self.half(other))) {
                (None, None) => return Interest::Keep,
                (_, Some(front)) if front.acknowledged <= self.received(other) => direction = other,
                // Each says that it was sent after the other: one of them lies.
                (Some(one), Some(two)) => {
                    if two.at < one.at {
                        direction = other;
                    }
                    self.release(direction);
                }
                (Some(_), None) => {
                    let assembler = self.half(direction).assembler.as_ref();
                    if !assembler.is_some_and(|assembler| assembler.is_full(shared.limits)) {
                        return Interest::Keep;
                    }
                    if self.stop_holding(direction, GapCause::Bound, at, shared, read) == Interest::Forget {
                        return Interest::Forget;
                    }
                }
                (None, Some(_)) => return Interest::Keep,
            }
        }
    }

    /// Lets what is next in `direction` wait for the other one no longer.
    fn release(&mut self, direction: Direction) {
        let received = self.received(direction);
        if let Some(assembler) = &mut self.half_mut(direction).assembler {
            assembler.need_at_most(received);
        }
    }

    /// Declares those bytes lost for which the next ones of `direction` wait: whoever sent these had received them,
    /// and they were not seen.
    pub(super) fn stop_holding(
        &mut self,
        direction: Direction,
        cause: GapCause,
        at: Timestamp,
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Interest {
        let Some(held) = self.held(direction) else { return Interest::Keep };
        let other = direction.reversed();
        let half = self.half_mut(other);
        let Some(assembler) = &mut half.assembler else { return Interest::Keep };
        let gap = assembler.lose(held.acknowledged, cause, shared.tally);
        // Nothing came of it for so long: perhaps its segments are not captured any more.
        half.heard &= cause == GapCause::Over || assembler.missing_since().is_some();
        match gap {
            Some(gap) => self.hand_on(other, at, gap, shared, read),
            None => {
                self.release(direction);
                Interest::Keep
            }
        }
    }

    /// True when one side has reset the connection and all that it had sent or received before was handed on.
    #[inline]
    pub(super) fn is_reset(&self) -> bool {
        [Direction::ToServer, Direction::ToClient].into_iter().any(|direction| {
            let reset = self.half(direction).reset.as_ref();
            reset.is_some_and(|reset| {
                reset.acknowledged <= self.received(direction) && self.held(direction).is_none()
            })
        })
    }

    /// How much of the other direction has been handed on. What is sent in `direction` after more than that has to
    /// wait: the bytes in between are only late, or they are lost, and then it will be known that they are. A
    /// direction of which nothing is captured is not waited for.
    #[inline]
    pub(super) fn received(&self, direction: Direction) -> u64 {
        let other = self.half(direction.reversed());
        match &other.assembler {
            Some(assembler) if other.heard => assembler.handed_on(),
            Some(_) | None => u64::MAX,
        }
    }

    /// What is next in `direction`, when it only waits for the other direction.
    #[inline]
    pub(super) fn held(&self, direction: Direction) -> Option<Stamp> {
        let front = self.half(direction).assembler.as_ref()?.front()?;
        (front.acknowledged > self.received(direction)).then_some(front)
    }
}

#[cfg(test)]
mod tests;
