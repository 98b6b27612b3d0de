//! The end that receives: what it sent, and how far ahead its sender may be.
//!
//! Only ever says how wide a window was at most; captures lose announcements, and a window that shrinks is discouraged
//! (RFC 9293 section 3.8.6).

use crate::model::{Direction, StreamReader};

use super::assembler::{Assembler, Receiver};
use super::entry::{Entry, Half};

/// Windows are shifted by no more (RFC 7323 section 2.3).
const SHIFT_MAX: u8 = 14;

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// What is known of the end that receives `direction`.
    #[inline]
    pub(super) fn receiver(&self, direction: Direction) -> Receiver {
        let own = self.half(direction.reversed());
        let seen = own.assembler.as_ref().filter(|_| own.heard).map_or(u64::MAX, Assembler::seen);
        Receiver { handed_on: self.received(direction), seen, window: self.announced(direction) }
    }

    /// The widest window, in bytes, that the receiver of `direction` has announced; what is not known counts as wide.
    #[inline]
    fn announced(&self, direction: Direction) -> u64 {
        let (sender, receiver) = (self.half(direction), self.half(direction.reversed()));
        // Both have to agree on shifting in their SYNs (RFC 7323 section 2.2).
        let refused = |half: &Half| half.initial.is_some() && half.window_scale.is_none();
        let shift = match receiver.window_scale {
            _ if refused(sender) || refused(receiver) => 0,
            Some(shift) => shift,
            None => SHIFT_MAX,
        };
        match receiver.window {
            0 => u64::MAX,
            window => u64::from(window).checked_shl(u32::from(shift)).unwrap_or(u64::MAX),
        }
    }
}
