//! Puts the bytes of TCP connections back in order.
//!
//! Knows nothing of HTTP. Never waits: late bytes are held within bounds, lost bytes become a [`Chunk::Gap`](crate::model::Chunk::Gap).
//!
//! [`FlowTable`] knows the connections; each has an [`assembler`] per direction, and hands on what the two have in
//! [`causal`] order: nothing before what its sender had received. Whoever reads the bytes keeps its own state per
//! flow in the table and is called with each [`StreamEvent`](crate::model::StreamEvent).
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod assembler;
mod causal;
mod entry;
mod flow_table;
mod network;
mod recency;
mod refused;
mod rival;
mod undecided;
mod window;

use std::time::Duration;

pub use flow_table::FlowTable;

/// Bounds of reassembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Flows known at a time. At the bound the one that is idle for longest is dropped. Default 65,536.
    pub flows_max: usize,
    /// Bytes that may wait in one direction of a flow, for earlier ones or for those of the other direction that they
    /// acknowledge. At the bound what they wait for is given up as a gap. Default 1 MiB.
    pub flow_waiting_bytes_max: usize,
    /// Pieces that may wait in one direction of a flow. Default 1,024.
    pub flow_waiting_pieces_max: usize,
    /// Memory in bytes that waiting may take in all flows together, with 128 bytes for each piece. Default 16 MiB.
    pub waiting_bytes_max: usize,
    /// Memory in bytes that one flow may take whose ends cannot be told apart yet, because no port was given and its
    /// handshake was not seen. At the bound it is forgotten. Counts towards `waiting_bytes_max`. Default 64 KiB.
    pub undecided_bytes_max: usize,
    /// How long bytes wait for earlier ones that the receiver never acknowledged. As long as it has not, they may
    /// still be sent again: senders wait up to 60 s for that (RFC 6298 section 2.5). Also how long they wait for bytes
    /// of the other direction that they acknowledge and that were not captured yet. Default 60 s.
    pub gap_wait_max: Duration,
    /// How long a flow may be silent before it is forgotten. Default 5 minutes.
    pub idle_max: Duration,
    /// How long an ended flow is remembered, so that its late packets do not look like a new one, and how long a
    /// client may be silent whose server has closed its side. Default 5 s.
    pub linger: Duration,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            flows_max: 65_536,
            flow_waiting_bytes_max: 1 << 20,
            flow_waiting_pieces_max: 1024,
            waiting_bytes_max: 16 << 20,
            undecided_bytes_max: 64 << 10,
            gap_wait_max: Duration::from_secs(60),
            idle_max: Duration::from_secs(300),
            linger: Duration::from_secs(5),
        }
    }
}

/// What reassembly met, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamTally {
    /// Flows that were opened or joined.
    pub flows: u64,
    /// Of these, flows joined after their handshake.
    pub flows_mid_stream: u64,
    /// Flows dropped because `flows_max` was reached.
    pub flows_evicted: u64,
    /// Flows forgotten because nothing came for `idle_max`.
    pub flows_idle: u64,
    /// Flows given up because the source leaves them out from now on.
    pub flows_left_out: u64,
    /// Flows forgotten because neither direction began like a message, nor was the handshake seen.
    pub flows_undecided: u64,
    /// Flows whose ends are those of another one, known from it by their virtual network.
    pub flows_divided: u64,
    /// SYNs on an open flow that nobody confirmed when they came: of a new connection, or from elsewhere.
    pub syns_contested: u64,
    /// Bytes handed on in order.
    pub bytes: u64,
    /// Bytes that came again after they had been handed on or while they waited.
    pub repeated_bytes: u64,
    /// Segments that overlapped waiting bytes with other contents. The first copy won, unless it lay beyond the
    /// receiver's window; the exchange is marked.
    pub conflicts: u64,
    /// Segments whose checksum is wrong on directions where others are right: damaged on their way, so that their
    /// receiver dropped them, or changed in the file. Their bytes count only if no others come, and with a mark.
    pub bad_checksums: u64,
    /// Segments whose numbers, or what they acknowledge, are too far from what is expected to belong to the connection.
    /// Bytes with the right numbers count only if no others come, and with a mark.
    pub out_of_window: u64,
    /// Gaps.
    pub gaps: u64,
    /// Bytes in gaps.
    pub gap_bytes: u64,
    /// Gaps declared because a bound of waiting bytes or pieces was reached.
    pub gaps_at_bound: u64,
    /// Gaps declared because `gap_wait_max` passed.
    pub gaps_at_timeout: u64,
    /// Gaps declared because the flow, or the observation of it, was over. The others were acknowledged.
    pub gaps_at_end: u64,
}
