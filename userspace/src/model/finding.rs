//! What others may count of one comparison, once the journal has kept it.
//!
//! Plain data: `journal` makes it, a queue between hosts counts it, and neither knows the other.

use std::sync::Arc;

use super::{Change, ExchangeId, Timestamp};

/// One comparison, as others count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The exchange, by which whoever delivered it knows it again.
    pub exchange: ExchangeId,
    /// The route.
    pub route: Arc<str>,
    /// `Outcome::label`.
    pub outcome: &'static str,
    /// `IncomparableReason::label`, empty for other outcomes.
    pub reason: &'static str,
    /// When the comparison was made.
    pub compared_at: Timestamp,
    /// Why it is a mismatch; none for other outcomes.
    pub cause: Option<FoundCause>,
}

/// The cause of one mismatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCause {
    /// `Cause::id`.
    pub id: String,
    /// `Cause::signature`.
    pub signature: String,
    /// `Cause::changes`.
    pub changes: Vec<Change>,
    /// An example as JSON, bounded and without secrets. Empty where none is worth being kept.
    pub example: Vec<u8>,
    /// Bytes of the request and of both answers; the smallest example is the one to keep.
    pub example_bytes: u64,
}
