//! Reads HTTP/1.x messages out of ordered bytes and pairs requests with responses.
//!
//! Knows nothing of TCP but the order of bytes and what had been acknowledged. Never guesses: what is not certain
//! becomes a mark on the exchange, or no exchange.
//!
//! [`Connection`] reads both directions of one flow: [`reader`] cuts messages, [`head`] and [`plain`] read their heads,
//! [`framing`] says where a body ends (RFC 9112 section 6.3), [`chunked`] and [`body`] read it, [`protocol`] names what
//! is no HTTP/1.x, and [`refused`] what no server has to accept.
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

mod body;
mod chunked;
mod framing;
mod head;
mod headless;
mod lead;
mod pair;
mod plain;
mod protocol;
mod reader;
mod refused;
mod waiting;

use std::collections::VecDeque;

use crate::model::Exchange;

use waiting::Waiting;

pub use body::sha256;
pub use pair::Connection;
pub use protocol::{Foreign, Upgraded};

/// Bounds of message reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a head, or of a trailer section. A longer one is not kept and its exchange is not reported.
    /// Default 64 KiB.
    pub head_bytes_max: usize,
    /// Bytes of a body that are kept. Of a longer one, length and SHA-256 are. Default 1 MiB.
    pub body_kept_max: usize,
    /// Requests of one connection that may wait for their response. Default 256.
    pub pipelined_max: usize,
    /// Bytes of bodies that unfinished exchanges keep, all connections together. At the bound bodies are cut.
    /// Default 32 MiB.
    pub kept_bytes_max: usize,
    /// Memory in bytes that heads of unfinished exchanges take up, all connections together; apart from bodies, so
    /// that long bodies do not cost whole exchanges. At the bound heads that come in pieces are not kept, and a
    /// connection that needs more hands its exchanges on unfinished. Default 32 MiB.
    pub heads_kept_max: usize,
    /// 1xx responses of one exchange that are noted. More are read and only counted. Default 64.
    pub interim_max: usize,
    /// Bytes that a connection which was joined after its beginning may carry in each direction, without a hole, before
    /// its first head. One that carries as much both ways is [`Foreign::Joined`]: a long upload or download fills one
    /// direction only, and ends with a head in the other. Default 256 KiB.
    pub headless_bytes_max: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 << 10,
            body_kept_max: 1 << 20,
            pipelined_max: 256,
            kept_bytes_max: 32 << 20,
            heads_kept_max: 32 << 20,
            interim_max: 64,
            headless_bytes_max: 256 << 10,
        }
    }
}

/// What message reading met, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTally {
    /// Request heads.
    pub requests: u64,
    /// Final response heads.
    pub responses: u64,
    /// 1xx responses.
    pub interim: u64,
    /// Exchanges handed on.
    pub exchanges: u64,
    /// Responses that belong to no request that was seen.
    pub orphans: u64,
    /// Heads that cannot be read.
    pub malformed_heads: u64,
    /// Heads beyond the limit, or for which there was no room.
    pub oversize_heads: u64,
    /// Exchanges that were handed on unfinished because a bound was reached.
    pub exchanges_at_bound: u64,
    /// Times that the boundary between two messages was lost.
    pub boundaries_lost: u64,
    /// Bodies of which only length and hash were kept.
    pub bodies_cut: u64,
    /// Connections that are not HTTP/1.x.
    pub flows_not_http: u64,
    /// The same by what they speak, in the order of [`Foreign::ALL`].
    pub flows_not_http_by_kind: [u64; Foreign::ALL.len()],
    /// Connections that left HTTP/1.x (101, or 2xx to CONNECT).
    pub flows_upgraded: u64,
    /// The same by where they went, in the order of [`Upgraded::ALL`].
    pub flows_upgraded_by_kind: [u64; Upgraded::ALL.len()],
}

/// What all connections share: bounds, counts, and the exchanges that are ready.
#[derive(Debug)]
pub struct HttpContext {
    /// Bounds.
    pub limits: HttpLimits,
    /// Counts.
    pub tally: HttpTally,
    /// Finished exchanges in the order in which they were finished; the caller takes them.
    pub exchanges: Vec<Exchange>,
    kept_bytes: usize,
    head_bytes: usize,
    /// Empty lists with room for a few requests each.
    spare_lists: Vec<VecDeque<Waiting>>,
}

/// Lists that are kept for the next request. Few connections are within an exchange at one moment of one thread.
const SPARE_LISTS_MAX: usize = 64;

/// Requests that such a list has room for at most; longer ones come from pipelining, which is rare.
const SPARE_REQUESTS_MAX: usize = 8;

// === impl HttpTally ===

impl HttpTally {
    fn count_foreign(&mut self, kind: Foreign) {
        count(&mut self.flows_not_http);
        self.flows_not_http_by_kind.get_mut(kind as usize).into_iter().for_each(count);
    }

    fn count_upgraded(&mut self, kind: Upgraded) {
        count(&mut self.flows_upgraded);
        self.flows_upgraded_by_kind.get_mut(kind as usize).into_iter().for_each(count);
    }
}

// === impl HttpContext ===

impl HttpContext {
    /// Nothing read yet.
    pub fn new(limits: HttpLimits) -> Self {
        Self {
            limits,
            tally: HttpTally::default(),
            exchanges: Vec::new(),
            kept_bytes: 0,
            head_bytes: 0,
            spare_lists: Vec::new(),
        }
    }

    /// Memory in bytes that unfinished exchanges keep, heads and bodies.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes.saturating_add(self.head_bytes)
    }

    /// An empty list, with room if there is one to spare.
    fn lend_list(&mut self) -> VecDeque<Waiting> {
        self.spare_lists.pop().unwrap_or_default()
    }

    /// Takes the room of a list that is empty. Thousands of connections that are open and idle would otherwise keep
    /// room for four requests each, which is most of their memory.
    fn take_back_list(&mut self, list: &mut VecDeque<Waiting>) {
        if list.is_empty() && list.capacity() > 0 {
            let list = std::mem::take(list);
            if self.spare_lists.len() < SPARE_LISTS_MAX && list.capacity() <= SPARE_REQUESTS_MAX {
                self.spare_lists.push(list);
            }
        }
    }
}

/// Adds one to a count.
fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
