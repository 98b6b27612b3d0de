//! How many bytes are looked at: in tests, which say that a byte costs the same however many there are.
//!
//! Costs nothing elsewhere, and knows of no search but those that say what they did.

#[cfg(test)]
thread_local! {
    static BYTES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many bytes more were looked at.
#[cfg(test)]
pub(super) fn looked_at(bytes: usize) {
    BYTES.set(BYTES.get().saturating_add(bytes as u64));
}

/// So many bytes more were looked at.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn looked_at(_bytes: usize) {}

/// Bytes that this looks at.
#[cfg(test)]
pub(super) fn bytes_of(work: impl FnOnce()) -> u64 {
    let before = BYTES.get();
    work();
    BYTES.get().saturating_sub(before)
}
