//! How much a connection that was joined has carried in one direction without a head.
//!
//! Judges nothing: one direction alone may be a long upload or download.

use std::num::NonZeroU32;

/// Bytes without a hole before the first head, and one; nothing where a head was seen, or the beginning. There are two of
/// these for each of many flows, and they take four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headless(Option<NonZeroU32>);

// === impl Headless ===

impl Headless {
    /// Of a flow that was joined after its beginning, or was not.
    pub(super) fn of(is_joined: bool) -> Self {
        Self(is_joined.then_some(NonZeroU32::MIN))
    }

    /// So many bytes go by.
    pub(super) fn pass(&mut self, bytes: usize) {
        if let Self(Some(count)) = self {
            *count = count.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// Bytes are missing: there may have been a head among them.
    pub(super) fn miss(&mut self) {
        *self = Self::of(self.0.is_some());
    }

    /// There is a head, or none will be looked for.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// True when more bytes than that went by.
    pub(super) fn is_beyond(self, bytes_max: u32) -> bool {
        self.0.is_some_and(|count| count.get().saturating_sub(1) > bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_a_head_and_anew_behind_a_hole() {
        let mut headless = Headless::of(true);
        headless.pass(100);
        assert!(!headless.is_beyond(100));
        headless.pass(1);
        assert!(headless.is_beyond(100));
        headless.miss();
        headless.pass(100);
        assert!(!headless.is_beyond(100));
        headless.pass(usize::MAX);
        assert!(headless.is_beyond(100));
        headless.end();
        headless.pass(1_000);
        assert!(!headless.is_beyond(100));
        assert_eq!(size_of::<Headless>(), 4);
    }

    #[test]
    fn of_a_flow_that_was_seen_from_its_beginning_nothing_counts() {
        let mut headless = Headless::of(false);
        headless.miss();
        headless.pass(1_000);
        assert!(!headless.is_beyond(100));
    }
}
