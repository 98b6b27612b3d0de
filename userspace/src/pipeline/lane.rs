//! The capture side of one experiment: what becomes of each exchange before it is queued.
//!
//! Waits only when nobody else would have to: an exchange of live traffic that finds no room is shed and counted.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::patience::Patience;
use crate::branch::{LoopGuard, Returned};
use crate::model::{Exchange, ExchangeId, Fate, Ledger, REPLAY_HEADER};
use crate::queue::{Offer, Offered};
use crate::select::{Decision, Selector};

/// One experiment as the capture thread sees it.
pub(super) struct Lane<O> {
    /// Which exchanges it wants.
    pub(super) selector: Arc<ArcSwap<Selector>>,
    /// Where they go.
    pub(super) offer: O,
    /// Its counts.
    pub(super) ledger: Arc<Ledger>,
    /// Told when one of our own requests comes back; none where the traffic is not of now.
    pub(super) loop_guard: Option<Arc<LoopGuard>>,
    /// Other hosts send what is queued here, and do not say when: the loop guard is told of all of it.
    pub(super) sent_elsewhere: bool,
}

// === impl Lane ===

impl<O: Offer> Lane<O> {
    /// Counts the exchange in, and queues it or gives it its fate.
    pub(super) fn take(&self, exchange: &Arc<Exchange>, patience: &Patience) {
        let ticket = self.ledger.admit();
        match self.selector.load().decide(exchange) {
            Decision::Take { route } => {
                if self.loop_guard.as_ref().is_some_and(|guard| guard.is_tripped()) {
                    return ticket.settle(Fate::Stopped);
                }
                if let Some(loop_guard) = &self.loop_guard {
                    loop_guard.note_taken(exchange.flow.key.scope);
                    if self.sent_elsewhere {
                        loop_guard.note_sent(exchange.id);
                    }
                }
                patience.wait_for(self.offer.room(exchange.memory_bytes()));
                let offered = Offered { exchange: Arc::clone(exchange), route, ticket };
                if let Err(ticket) = self.offer.offer(offered) {
                    ticket.settle(patience.fate_without_room());
                }
            }
            Decision::Drop(fate) => {
                if fate == Fate::Replay {
                    self.look_for_loop(exchange);
                }
                ticket.settle(fate);
            }
        }
    }

    /// Tells the loop guard of a replayed request that was captured.
    fn look_for_loop(&self, exchange: &Exchange) {
        let Some((loop_guard, id)) = self.loop_guard.as_ref().zip(replayed(exchange)) else { return };
        match loop_guard.saw(id, exchange.flow.key.scope) {
            Returned::AtCandidate { first: true } => tracing::warn!(
                server = %exchange.flow.key.server,
                "What is sent to the candidate is captured there, and dropped: it listens on a captured port of this host. \
                 With the captured service's own `--cgroup` it is not copied."
            ),
            // Whoever waits for it says so.
            Returned::Looped => {}
            Returned::Unknown | Returned::AtCandidate { first: false } => {}
        }
    }
}

/// The exchange that a replayed request names.
fn replayed(exchange: &Exchange) -> Option<ExchangeId> {
    let value = exchange.request.headers.get(REPLAY_HEADER)?;
    ExchangeId::from_hex(std::str::from_utf8(value).ok()?)
}
