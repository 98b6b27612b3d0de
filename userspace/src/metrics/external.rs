//! What an external comparator did.
//!
//! Counts only; the process is `pipeline`'s.

use std::sync::atomic::AtomicU64;

/// Counts of one external comparator.
#[derive(Debug, Default)]
pub struct ExternalStats {
    /// Questions that it answered.
    pub answers: AtomicU64,
    /// Times that its process was started again.
    pub restarts: AtomicU64,
    /// Questions without an answer, in the order of [`ExternalFailure::ALL`].
    pub failures: [AtomicU64; ExternalFailure::ALL.len()],
}

/// Why an external comparator gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExternalFailure {
    /// It cannot be started, or a pause after a failure is not over.
    Unavailable,
    /// It took longer than the deadline.
    TimedOut,
    /// It ended, or closed its input or output.
    Ended,
    /// What it wrote is no answer to the question, or beyond a bound.
    Unreadable,
    /// It said itself that it could not compare.
    Refused,
    /// The question is larger than the bound.
    TooLarge,
    /// Too many questions wait.
    Busy,
}

// === impl ExternalFailure ===

impl ExternalFailure {
    /// All failures.
    pub const ALL: [ExternalFailure; 7] = [
        ExternalFailure::Unavailable,
        ExternalFailure::TimedOut,
        ExternalFailure::Ended,
        ExternalFailure::Unreadable,
        ExternalFailure::Refused,
        ExternalFailure::TooLarge,
        ExternalFailure::Busy,
    ];

    /// The failure as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            ExternalFailure::Unavailable => "unavailable",
            ExternalFailure::TimedOut => "timed_out",
            ExternalFailure::Ended => "ended",
            ExternalFailure::Unreadable => "unreadable",
            ExternalFailure::Refused => "refused",
            ExternalFailure::TooLarge => "too_large",
            ExternalFailure::Busy => "busy",
        }
    }
}
