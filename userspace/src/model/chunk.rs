//! The ordered bytes of one direction of a flow, and what stands in the place of missing ones.
//!
//! Says nothing about how the order was found; that is `stream`'s.

use super::{Direction, Flow, Timestamp};

/// What happens in one direction of a flow, in the order of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct StreamEvent<'a> {
    /// Which direction.
    pub direction: Direction,
    /// Bytes of this direction before this event, counted from the first one seen.
    pub offset: u64,
    /// Bytes of the *other* direction that the sender had received when it sent these.
    pub acknowledged: u64,
    /// When the bytes were captured; for a gap or an end, when that became certain.
    pub at: Timestamp,
    /// What happened.
    pub chunk: Chunk<'a>,
}

/// The next bytes of one direction, or what stands in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// The next bytes, in order. One chunk is at most one segment, and starts where a segment started unless
    /// bytes before it were already known.
    Bytes(&'a [u8]),
    /// Bytes that existed and were not seen.
    Gap {
        /// How many.
        bytes: u64,
    },
    /// The next bytes, which follow at once, also came with other contents. No byte is handed on by this.
    Disputed {
        /// How many.
        bytes: u64,
    },
    /// Bytes that were handed on before came again, from this event's offset on, and the receiver had not said that it
    /// has the first ones. Mostly they are the same.
    Again(&'a [u8]),
    /// No byte follows: FIN was seen, and everything before it.
    End,
    /// The connection was reset, or the observation of it ended; what follows, if anything, is not known.
    Abort,
}

/// A flow as its reader first meets it.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The connection.
    pub flow: Flow,
    /// False when the handshake was seen, so that the first byte is the first one of the connection.
    pub mid_stream: bool,
}

/// Which end sent the bytes with which a direction begins, as far as they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The end that opened the connection.
    Client,
    /// The end that listens.
    Server,
    /// Too few bytes to tell.
    Unsure,
    /// They do not say.
    Neither,
}

/// What is kept for each flow by whoever reads it.
pub trait StreamReader: From<Opened> {
    /// Which end begins with `first`, the first bytes of a direction. Asked only of flows whose source does not say
    /// which end is the server, and whose handshake does not either.
    fn sender(first: &[u8]) -> Sender;
}

/// Whether a reader wants more of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Go on.
    Keep,
    /// Forget the flow; it is not of the kind that is read here, or no longer.
    Forget,
}
