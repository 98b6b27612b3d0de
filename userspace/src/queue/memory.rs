//! The queue inside one process.
//!
//! Keeps nothing across a restart, and holds no more than its two bounds.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Claim, Held, Offer, Offered, Queue};
use crate::model::Ticket;

/// Bounds of a memory queue. At either one an exchange is handed back to be shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryQueueLimits {
    /// Exchanges that wait to be claimed. Default: 4,096.
    pub exchanges_max: usize,
    /// Bytes of all exchanges that wait or are claimed and not settled, as [`crate::model::Exchange::memory_bytes`]
    /// counts them. Default: 32 MiB.
    pub bytes_max: usize,
}

/// The capture side of a memory queue.
#[derive(Clone, Debug)]
pub struct MemoryOffer {
    waiting: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    bytes_max: usize,
}

/// The replay side of a memory queue.
#[derive(Debug)]
pub struct MemoryQueue {
    waiting: mpsc::Receiver<Waiting>,
    room: Arc<Semaphore>,
    bytes_max: usize,
}

/// A share of a queue's bytes, given back when dropped.
pub(super) type Lease = OwnedSemaphorePermit;

#[derive(Debug)]
struct Waiting {
    offered: Offered,
    lease: Lease,
}

/// Both sides of a new queue.
pub fn memory_queue(limits: MemoryQueueLimits) -> (MemoryOffer, MemoryQueue) {
    let MemoryQueueLimits { exchanges_max, bytes_max } = limits;
    let (sender, receiver) = mpsc::channel(exchanges_max.max(1));
    // A permit for each byte. One exchange can take as many as 32 bits count.
    let bytes_max = bytes_max.min(u32::MAX as usize);
    let room = Arc::new(Semaphore::new(bytes_max));
    (
        MemoryOffer { waiting: sender, room: Arc::clone(&room), bytes_max },
        MemoryQueue { waiting: receiver, room, bytes_max },
    )
}

// === impl MemoryQueueLimits ===

impl Default for MemoryQueueLimits {
    fn default() -> Self {
        Self { exchanges_max: 4096, bytes_max: 32 << 20 }
    }
}

// === impl MemoryOffer ===

impl Offer for MemoryOffer {
    fn offer(&self, offered: Offered) -> Result<(), Ticket> {
        let bytes = u32::try_from(offered.exchange.memory_bytes()).unwrap_or(u32::MAX);
        let Ok(lease) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return Err(offered.ticket);
        };
        self.waiting.try_send(Waiting { offered, lease }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting) => {
                waiting.offered.ticket
            }
        })
    }

    async fn room(&self, exchange_bytes: usize) {
        if self.waiting.capacity() == 0 {
            // Both sides would wake each other for each exchange; so half of the places have to be free. An error means
            // that nobody reads any more.
            let places = self.waiting.max_capacity().div_ceil(2);
            let Ok(_places) = self.waiting.reserve_many(places).await else { return };
        }
        let bytes = exchange_bytes.min(self.bytes_max);
        if self.room.available_permits() < bytes {
            let most = u32::try_from(bytes.max(self.bytes_max / 2)).unwrap_or(u32::MAX);
            tokio::select! {
                _bytes = self.room.acquire_many(most) => {}
                () = self.waiting.closed() => {}
            }
        }
    }
}

// === impl MemoryQueue ===

impl MemoryQueue {
    /// Waits for the next exchange as [`Queue::claim`] does, and gives it away whole: its room here is free at once, and its
    /// ticket is the caller's.
    pub async fn take(&mut self) -> Option<Offered> {
        let Waiting { offered, lease } = self.waiting.recv().await?;
        drop(lease);
        Some(offered)
    }

    /// Bytes that are taken now.
    pub fn bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.room.available_permits())
    }
}

impl Queue for MemoryQueue {
    async fn claim(&mut self) -> Option<Claim> {
        let Waiting { offered, lease } = self.waiting.recv().await?;
        let Offered { exchange, route, ticket } = offered;
        Some(Claim { exchange, route, ticket, held: Held::Memory(lease) })
    }

    fn close(&mut self) {
        self.waiting.close();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Body, Exchange, ExchangeId, Fate, Ledger, Timestamp, samples};

    fn exchange(offset: u64, body_bytes: usize) -> Arc<Exchange> {
        let id = ExchangeId { flow: 0, offset };
        let mut request = samples::request("GET", "/", &[]);
        request.body = Body::whole(vec![0; body_bytes]);
        Arc::new(samples::exchange(id, Timestamp(0), request, samples::response(200, &[], "")))
    }

    /// The claim, or `None` when a claim would have to wait or the queue has ended.
    fn claim_now(queue: &mut MemoryQueue) -> Option<Claim> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(queue.claim()).poll(&mut context) {
            std::task::Poll::Ready(claim) => claim,
            std::task::Poll::Pending => None,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer { body_bytes: usize },
        Claim,
        Settle,
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0usize..3_000).prop_map(|body_bytes| Step::Offer { body_bytes }),
            4 => Just(Step::Claim),
            4 => Just(Step::Settle),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        /// Against a list of what should be in it: order, both bounds, closing, and the ledger.
        #[test]
        fn it_behaves_like_a_list_with_two_bounds(
            steps in proptest::collection::vec(step(), 0..200),
            exchanges_max in 1usize..8,
            bytes_max in 0usize..12_000,
        ) {
            let (offer, mut queue) = memory_queue(MemoryQueueLimits { exchanges_max, bytes_max });
            let ledger = Arc::new(Ledger::default());
            let mut waiting: VecDeque<(u64, usize)> = VecDeque::new();
            let mut claimed: VecDeque<(Claim, usize)> = VecDeque::new();
            let mut closed = false;
            for (number, step) in (0u64..).zip(steps) {
                let used = waiting.iter().map(|(_, bytes)| bytes).sum::<usize>()
                    + claimed.iter().map(|(_, bytes)| bytes).sum::<usize>();
                prop_assert_eq!(queue.bytes(), used);
                match step {
                    Step::Offer { body_bytes } => {
                        let exchange = exchange(number, body_bytes);
                        let bytes = exchange.memory_bytes();
                        let offered = Offered { exchange, route: "/".into(), ticket: ledger.admit() };
                        let result = offer.offer(offered);
                        let fits = !closed && waiting.len() < exchanges_max && used + bytes <= bytes_max;
                        prop_assert_eq!(result.is_ok(), fits);
                        match result {
                            Ok(()) => waiting.push_back((number, bytes)),
                            Err(ticket) => ticket.settle(Fate::Shed),
                        }
                    }
                    Step::Claim => {
                        let claim = claim_now(&mut queue);
                        let expected = waiting.pop_front();
                        prop_assert_eq!(
                            claim.as_ref().map(|claim| claim.exchange.id.offset),
                            expected.map(|(number, _)| number)
                        );
                        claimed.extend(claim.zip(expected.map(|(_, bytes)| bytes)));
                    }
                    Step::Settle => {
                        if let Some((claim, _)) = claimed.pop_front() {
                            claim.settle(Fate::Matched);
                        }
                    }
                    Step::Close => { queue.close(); closed = true; }
                }
            }
            claimed.into_iter().for_each(|(claim, _)| claim.settle(Fate::Matched));
            while let Some(claim) = claim_now(&mut queue) {
                claim.settle(Fate::Drained);
            }
            let end = ledger.snapshot();
            prop_assert!(end.balances());
            prop_assert_eq!((end.in_flight, end.count(Fate::Lost), queue.bytes()), (0, 0, 0));
        }
    }

    /// Offers exchanges one after the other, each when there is room, while the other side reads; none is shed.
    #[track_caller]
    fn check_room(limits: MemoryQueueLimits, bodies: &[usize]) {
        let (offer, mut queue) = memory_queue(limits);
        let ledger = Arc::new(Ledger::default());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for (number, body_bytes) in bodies.iter().enumerate() {
            let exchange = exchange(number as u64, *body_bytes);
            let mut room = std::pin::pin!(offer.room(exchange.memory_bytes()));
            while room.as_mut().poll(&mut context).is_pending() {
                claim_now(&mut queue).expect("it waits only for those before it").settle(Fate::Matched);
            }
            let offered = Offered { exchange, route: "/".into(), ticket: ledger.admit() };
            assert!(offer.offer(offered).is_ok(), "exchange {number} with {body_bytes} bytes");
        }
    }

    #[test]
    fn whoever_waits_for_room_finds_it() {
        let limits = MemoryQueueLimits { exchanges_max: 3, bytes_max: 20_000 };
        check_room(limits, &[0; 20]);
        check_room(limits, &[5_000, 100, 9_000, 12_000, 12_000, 0, 0, 0, 15_000]);
        check_room(MemoryQueueLimits { exchanges_max: 1, ..limits }, &[0; 5]);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_is_gone() {
        let (offer, queue) = memory_queue(MemoryQueueLimits { exchanges_max: 1, bytes_max: 0 });
        drop(queue);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(offer.room(1)).poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn it_drains_and_then_ends_when_the_capture_side_is_gone() {
        let (offer, mut queue) = memory_queue(MemoryQueueLimits::default());
        let ledger = Arc::new(Ledger::default());
        for offset in 0..2 {
            let offered =
                Offered { exchange: exchange(offset, 0), route: "/".into(), ticket: ledger.admit() };
            assert!(offer.offer(offered).is_ok());
        }
        drop(offer);
        for _ in 0..2 {
            queue.claim().await.expect("it was offered").settle(Fate::Matched);
        }
        assert!(queue.claim().await.is_none());
        assert_eq!(ledger.snapshot().count(Fate::Matched), 2);
    }
}
