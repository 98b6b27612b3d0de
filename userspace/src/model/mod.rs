//! The words of this project as plain data: packets, flows, messages, exchanges, comparisons, fates.
//!
//! Knows no serialisation, no async runtime, no clock and no other module; every other module may import this one.

mod chunk;
mod comparison;
mod exchange;
mod fate;
mod field;
mod finding;
mod fleet;
mod flow;
mod hash;
mod message;
mod noise;
mod packet;
mod regression;
#[cfg(test)]
pub(crate) mod samples;
mod seq;
mod time;

pub use chunk::{Chunk, Interest, Opened, Sender, StreamEvent, StreamReader};
pub use comparison::{
    BranchFailure, Cause, Change, Comparison, Difference, DifferenceKind, IncomparableReason, Observation,
    Outcome,
};
pub use exchange::{Exchange, ExchangeId, Mark, Marks, REPLAY_HEADER, Times};
pub use fate::{Fate, Ledger, LedgerSnapshot, Ticket, TicketBundle};
pub use field::{REDACTED, host_of, is_per_connection, is_secret, is_token};
pub use finding::{Finding, FoundCause};
pub use fleet::{AsideEntry, FleetCopy, MemberCopy, ShardCopy};
pub use flow::{Direction, Endpoint, Flow, FlowKey};
pub use hash::fnv1a;
pub use message::{Body, FieldPlace, Headers, Request, Response, Version};
pub use noise::{
    EvidenceCounts, EvidenceSource, NOISE_RULE, Needs, NoiseReport, PathState, PathSummary, Rate,
    RouteMeasure, Transition, ValueClass,
};
pub use packet::{Checksum, LinkType, Packet, Segment, TcpFlags, Unsupported, Unused};
pub use regression::{Regression, RegressionKind};
pub use seq::Seq;
pub use time::Timestamp;
