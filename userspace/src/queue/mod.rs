//! Hands exchanges over from capture to replay.
//!
//! Never makes the capture side wait: what finds no room is handed back, with its ticket, to be counted. A capture side
//! that can wait may ask for [`Offer::room`] first.

pub mod entry;
pub mod memory;
pub mod redis;

use std::sync::Arc;

use crate::model::{Exchange, Fate, Ticket};

use self::redis::Delivery;
use memory::Lease;

/// One exchange on its way into a queue.
#[derive(Debug)]
pub struct Offered {
    /// Request, and what A did.
    pub exchange: Arc<Exchange>,
    /// The route that it was selected under.
    pub route: Arc<str>,
    /// Its entry in the ledger.
    pub ticket: Ticket,
}

/// The capture side of a queue.
pub trait Offer {
    /// Hands one exchange over, from any thread, without waiting.
    ///
    /// # Errors
    ///
    /// The ticket, when there is no room or no reader any more: the caller settles it, as [`Fate::Shed`].
    fn offer(&self, offered: Offered) -> Result<(), Ticket>;

    /// Waits until an exchange of this size finds room, if nobody else offers one meanwhile; or until nobody reads any
    /// more. One that is larger than the whole queue never finds room, and waits until it is empty.
    ///
    /// For those who can wait: whoever captures live traffic cannot.
    fn room(&self, exchange_bytes: usize) -> impl Future<Output = ()> + Send;
}

/// The replay side of a queue.
pub trait Queue: Send {
    /// Waits for the next exchange; `None` once the capture side is gone, or [`Queue::close`] was called, and
    /// nothing is left. Safe to cancel: an exchange is either returned or still in the queue.
    fn claim(&mut self) -> impl Future<Output = Option<Claim>> + Send;

    /// Takes no more from the capture side. What is in the queue of this process can still be claimed.
    fn close(&mut self);
}

/// One exchange that the replay side has taken, and has to settle.
///
/// What the queue keeps for it is let go with the claim.
#[derive(Debug)]
pub struct Claim {
    /// Request, and what A did.
    pub exchange: Arc<Exchange>,
    /// The route that it was selected under.
    pub route: Arc<str>,
    ticket: Ticket,
    held: Held,
}

/// What a queue keeps until a claim is settled.
#[derive(Debug)]
enum Held {
    /// Room in a memory queue.
    Memory(Lease),
    /// An entry that Redis has to be told of.
    Redis(Delivery),
}

// === impl Claim ===

impl Claim {
    /// Gives the exchange its fate and frees its room. One from another host that was not begun goes back to where it
    /// came from, and is [`Fate::Returned`] here.
    pub fn settle(self, fate: Fate) {
        let Self { exchange, route, ticket, held } = self;
        drop((exchange, route));
        match held {
            Held::Memory(lease) => {
                ticket.settle(fate);
                drop(lease);
            }
            Held::Redis(delivery) => ticket.settle(delivery.settle(fate)),
        }
    }
}
