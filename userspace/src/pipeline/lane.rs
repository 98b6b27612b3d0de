//! The capture side of one experiment: what becomes of each exchange before it is queued.
//!
//! Never waits: an exchange that finds no room is shed and counted.

use std::sync::Arc;

use crate::branch::LoopGuard;
use crate::model::{Exchange, ExchangeId, Fate, Ledger, REPLAY_HEADER};
use crate::queue::{Offer, Offered};
use crate::select::{Decision, Selector};

/// One experiment as the capture thread sees it.
pub(super) struct Lane<O> {
    /// Which exchanges it wants.
    pub(super) selector: Selector,
    /// Where they go.
    pub(super) offer: O,
    /// Its counts.
    pub(super) ledger: Arc<Ledger>,
    /// Told when one of our own requests comes back.
    pub(super) loop_guard: Arc<LoopGuard>,
}

// === impl Lane ===

impl<O: Offer> Lane<O> {
    /// Counts the exchange in, and queues it or gives it its fate.
    pub(super) fn take(&self, exchange: &Arc<Exchange>) {
        let ticket = self.ledger.admit();
        match self.selector.decide(exchange) {
            Decision::Take { route } => {
                if self.loop_guard.is_tripped() {
                    return ticket.settle(Fate::Stopped);
                }
                let offered = Offered { exchange: Arc::clone(exchange), route, ticket };
                if let Err(ticket) = self.offer.offer(offered) {
                    ticket.settle(Fate::Shed);
                }
            }
            Decision::Drop(fate) => {
                if fate == Fate::Replay
                    && let Some(id) = replayed(exchange)
                {
                    self.loop_guard.saw(id);
                }
                ticket.settle(fate);
            }
        }
    }
}

/// The exchange that a replayed request names.
fn replayed(exchange: &Exchange) -> Option<ExchangeId> {
    let value = exchange.request.headers.get(REPLAY_HEADER)?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
