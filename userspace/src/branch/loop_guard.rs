//! Stops an experiment when one of its own requests comes back through the capture.
//!
//! Takes nobody's word for it: a request that merely carries the replay header proves nothing, since any client can
//! send one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::model::ExchangeId;

/// Knows the requests that an experiment sent lately, and whether one of them came back.
///
/// [`CapturedPorts`](super::CapturedPorts) cannot see every way back: a proxy, a translated address or another network
/// namespace can lead to A. A captured request whose replay header names an exchange that was sent is the proof.
#[derive(Debug)]
pub struct LoopGuard {
    tripped: watch::Sender<bool>,
    /// Each sent exchange in the place that its number belongs to, as long as no other takes it. No lock: the capture
    /// thread looks here.
    sent: Box<[AtomicU64]>,
}

/// Exchanges remembered, 8 bytes each. Of a loop, many requests come back; it is enough to know one of them.
const SENT_MAX: usize = 1 << 14;

impl Default for LoopGuard {
    fn default() -> Self {
        Self { tripped: watch::Sender::new(false), sent: (0..SENT_MAX).map(|_| AtomicU64::new(0)).collect() }
    }
}

// === impl LoopGuard ===

impl LoopGuard {
    /// Notes that this exchange's request is sent.
    pub fn note_sent(&self, id: ExchangeId) {
        let number = number(id);
        if let Some(place) = self.place(number) {
            place.store(number, Ordering::Relaxed);
        }
    }

    /// Says that a captured request named this exchange in its replay header. Never waits; may be called from any
    /// thread. True when it is one that was sent: the experiment stops then.
    pub fn saw(&self, id: ExchangeId) -> bool {
        let number = number(id);
        let is_ours = self.place(number).is_some_and(|place| place.load(Ordering::Relaxed) == number);
        if is_ours {
            self.tripped.send_replace(true);
        }
        is_ours
    }

    /// Whether a request came back.
    pub fn is_tripped(&self) -> bool {
        *self.tripped.borrow()
    }

    /// Waits until a request comes back; returns at once when one did.
    pub async fn wait_tripped(&self) {
        let mut changes = self.tripped.subscribe();
        // The sender lives in `self`, so that this cannot fail while it is borrowed.
        if changes.wait_for(|tripped| *tripped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn place(&self, number: u64) -> Option<&AtomicU64> {
        usize::try_from(number).ok().and_then(|number| self.sent.get(number % SENT_MAX))
    }
}

/// An exchange as one number, never zero, with its low bits spread. The flow's part is a hash already.
fn number(id: ExchangeId) -> u64 {
    let ExchangeId { flow, offset } = id;
    (flow ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ExchangeId = ExchangeId { flow: 7, offset: 100 };

    #[tokio::test]
    async fn trips_on_what_was_sent_and_on_nothing_else() {
        let guard = LoopGuard::default();
        assert!(!guard.saw(OURS), "nothing was sent yet");
        guard.note_sent(OURS);
        assert!(!guard.saw(ExchangeId { offset: 101, ..OURS }) && !guard.is_tripped());
        assert!(guard.saw(OURS) && guard.is_tripped());
        guard.wait_tripped().await;
    }

    #[test]
    fn remembers_the_latest() {
        let guard = LoopGuard::default();
        let id = |offset| ExchangeId { offset, ..OURS };
        (0..1_000_000).for_each(|offset| guard.note_sent(id(offset)));
        let known = (999_000..1_000_000).filter(|offset| guard.saw(id(*offset))).count();
        assert!(known > 900, "{known} of the last 1,000 are known");
        assert!(!guard.saw(id(0)), "the first is long gone");
    }
}
