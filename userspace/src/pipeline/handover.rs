//! The way of comparisons from the replays to the journal, bounded by their number and by their memory.
//!
//! Drops nothing: at either bound the sender waits, and its request keeps its room in flight.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::model::Comparison;

/// Bounds of comparisons on their way to the journal. A disk that stalls must not fill the memory with the bodies
/// of all that is compared meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoverLimits {
    /// Comparisons. Default: 1,024.
    pub waiting_max: usize,
    /// Memory in bytes, as [`Comparison::memory_bytes`] counts it. One comparison that is larger goes alone.
    /// Default: 16 MiB.
    pub waiting_bytes_max: usize,
}

/// The side of the replays; clones share the bounds.
#[derive(Clone, Debug)]
pub struct ComparisonSender {
    waiting: mpsc::Sender<Handed>,
    room: Arc<Semaphore>,
    room_max: u32,
}

/// The side of the journal.
#[derive(Debug)]
pub struct ComparisonReceiver {
    waiting: mpsc::Receiver<Handed>,
}

/// A comparison that was handed over; its room is free again when this is dropped.
#[derive(Debug)]
pub struct Handed {
    /// The comparison.
    pub comparison: Comparison,
    /// The memory that it takes up of the bound.
    pub room: OwnedSemaphorePermit,
}

/// Nobody takes comparisons any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Bytes for which one permit stands: a semaphore counts in 32 bits.
const ROOM_UNIT: usize = 1024;

/// Both sides.
pub fn handover(limits: HandoverLimits) -> (ComparisonSender, ComparisonReceiver) {
    let HandoverLimits { waiting_max, waiting_bytes_max } = limits;
    let (sender, receiver) = mpsc::channel(waiting_max.max(1));
    let room_max = units(waiting_bytes_max);
    let room = Arc::new(Semaphore::new(room_max as usize));
    (ComparisonSender { waiting: sender, room, room_max }, ComparisonReceiver { waiting: receiver })
}

fn units(bytes: usize) -> u32 {
    // A quarter of the range stays below what a semaphore can hold on any machine.
    u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4)
}

// === impl HandoverLimits ===

impl Default for HandoverLimits {
    fn default() -> Self {
        Self { waiting_max: 1024, waiting_bytes_max: 16 << 20 }
    }
}

// === impl ComparisonSender ===

impl ComparisonSender {
    /// Hands one over, waiting for room. Safe to cancel: then nothing was handed over.
    ///
    /// # Errors
    /// When the journal's side is gone.
    pub async fn send(&self, comparison: Comparison) -> Result<(), Closed> {
        let wanted = units(comparison.memory_bytes()).min(self.room_max);
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(wanted).await else { return Err(Closed) };
        match self.waiting.send(Handed { comparison, room }).await {
            Ok(()) => Ok(()),
            Err(_unsent) => Err(Closed),
        }
    }
}

// === impl ComparisonReceiver ===

impl ComparisonReceiver {
    /// Waits for comparisons and adds at most `batch_max` of them to `batch`; zero when there will be no more. Safe to
    /// cancel: then nothing was taken.
    pub async fn recv_many(&mut self, batch: &mut Vec<Handed>, batch_max: usize) -> usize {
        self.waiting.recv_many(batch, batch_max).await
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::model::{
        Body, BranchFailure, ExchangeId, IncomparableReason, Observation, Outcome, Timestamp, samples,
    };

    fn comparison(body_bytes: usize) -> Comparison {
        let at = Timestamp(0);
        let mut request = samples::request("POST", "/", &[]);
        request.body = Body::whole(vec![0; body_bytes]);
        let id = ExchangeId { flow: 0, offset: 0 };
        Comparison {
            experiment: "x".into(),
            route: "other".into(),
            exchange: Arc::new(samples::exchange(id, at, request, samples::response(200, &[], ""))),
            candidate: Observation::Failed(BranchFailure::TimedOut),
            compared_at: at,
            outcome: Outcome::Incomparable(IncomparableReason::CandidateTimedOut),
        }
    }

    fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    /// Sends bodies of these sizes to a journal that takes nothing, and counts how many find room.
    #[track_caller]
    fn check(limits: HandoverLimits, bodies: &[usize], expected: usize) {
        let (sender, mut receiver) = handover(limits);
        let sent = bodies.iter().map_while(|bytes| now_or_never(sender.send(comparison(*bytes)))).count();
        assert_eq!(sent, expected, "{bodies:?}");
        let mut batch = Vec::new();
        assert_eq!(now_or_never(receiver.recv_many(&mut batch, usize::MAX)), Some(expected));
        batch.clear();
        assert_eq!(now_or_never(sender.send(comparison(0))), Some(Ok(())), "room is free again");
    }

    #[test]
    fn number_and_memory_are_bounded_and_one_large_comparison_still_passes() {
        let limits = HandoverLimits { waiting_max: 3, waiting_bytes_max: 64 << 10 };
        check(limits, &[0, 0, 0, 0], 3);
        check(limits, &[40 << 10, 40 << 10], 1);
        check(limits, &[1 << 20, 0], 1);
    }

    #[test]
    fn a_journal_that_is_gone_takes_nothing_and_blocks_nobody() {
        let (sender, receiver) = handover(HandoverLimits::default());
        drop(receiver);
        assert_eq!(now_or_never(sender.send(comparison(0))), Some(Err(Closed)));
    }
}
