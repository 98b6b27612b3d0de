//! What the admin listener refused.
//!
//! Counts nothing itself, and knows no address of whoever was refused.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::collect::{Rows, export};
use super::table;

/// Counts of the admin listener.
#[derive(Debug, Default)]
pub struct AdminStats {
    /// Connections and requests that it refused, in the order of [`AdminRefusal::ALL`].
    refused: [AtomicU64; AdminRefusal::ALL.len()],
}

/// Why the admin listener refused a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdminRefusal {
    /// All places are taken; the connection that had waited longest without a request was closed, or this one was.
    Connections,
    /// No TLS, no certificate of the right authority, or nothing that both sides speak.
    Handshake,
    /// The head did not come in time.
    HeadTime,
    /// The head is longer than the bound.
    HeadSize,
    /// What came is no HTTP.
    Malformed,
    /// The body is longer than the bound.
    BodySize,
    /// The body did not come, or the answer was not taken, in time.
    RequestTime,
    /// More requests in this second than the bound.
    Rate,
    /// No token, or another one; no client certificate.
    Identity,
    /// The request names a host that is not this listener: what a web page that was bound to our address would send.
    Host,
    /// A web page sent something that changes something.
    Origin,
}

/// Exports [`AdminStats`].
#[derive(Debug)]
pub(super) struct AdminCollector(pub(super) Arc<AdminStats>);

// === impl AdminStats ===

impl AdminStats {
    /// Counts one refusal.
    pub fn refused(&self, why: AdminRefusal) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Refusals for this reason.
    pub fn count(&self, why: AdminRefusal) -> u64 {
        self.refused.get(why as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

// === impl AdminRefusal ===

impl AdminRefusal {
    /// All reasons.
    pub const ALL: [AdminRefusal; 11] = [
        AdminRefusal::Connections,
        AdminRefusal::Handshake,
        AdminRefusal::HeadTime,
        AdminRefusal::HeadSize,
        AdminRefusal::Malformed,
        AdminRefusal::BodySize,
        AdminRefusal::RequestTime,
        AdminRefusal::Rate,
        AdminRefusal::Identity,
        AdminRefusal::Host,
        AdminRefusal::Origin,
    ];

    /// The reason as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            AdminRefusal::Connections => "connections",
            AdminRefusal::Handshake => "handshake",
            AdminRefusal::HeadTime => "head_time",
            AdminRefusal::HeadSize => "head_size",
            AdminRefusal::Malformed => "malformed",
            AdminRefusal::BodySize => "body_size",
            AdminRefusal::RequestTime => "request_time",
            AdminRefusal::Rate => "rate",
            AdminRefusal::Identity => "identity",
            AdminRefusal::Host => "host",
            AdminRefusal::Origin => "origin",
        }
    }
}

// === impl AdminCollector ===

impl Collector for AdminCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = AdminRefusal::ALL.into_iter().map(|why| (vec![why.label()], self.0.count(why)));
        let rows: Rows<'_, u64> = counts.collect();
        export(&mut encoder, &table::ADMIN_REFUSED, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_listed_in_the_order_of_their_numbers() {
        for (index, why) in AdminRefusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index, "{}", why.label());
        }
    }
}
