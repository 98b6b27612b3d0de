//! Stops an experiment when one of its own requests comes back through the capture to the captured service.
//!
//! Takes nobody's word for it: a request that merely carries the replay header proves nothing, since any client can
//! send one. Nor does one that was sent and is captured at the candidate itself, which may listen on the same port of
//! the same host, as containers do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::model::ExchangeId;

/// Knows the requests that an experiment sent lately, and whether one of them came back.
///
/// [`CapturedPorts`](super::CapturedPorts) cannot see every way back: a proxy, a translated address or another network
/// namespace can lead to A. Two things together are the proof: a captured request whose replay header names an exchange
/// that was sent, and a server from which exchanges are taken as A's.
///
/// Servers are told apart by the scope of their flows, the socket's cgroup: a service has one of its own under systemd and
/// in a container. Addresses tell nothing, since A may have several. Where capture is on interfaces there is no scope,
/// and every server counts as A.
#[derive(Debug)]
pub struct LoopGuard {
    tripped: watch::Sender<bool>,
    /// Each sent exchange in the place that its number belongs to, as long as no other takes it. No lock: the capture
    /// thread looks here.
    sent: Box<[AtomicU64]>,
    /// Scopes from which exchanges were taken, each plus one, in places of their own likewise.
    taken: Box<[AtomicU64]>,
    seen_at_candidate: AtomicBool,
}

/// What a captured request is that names an exchange in its replay header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// Nothing that was sent lately: anybody's.
    Unknown,
    /// Sent by us, and captured at a server from which no exchange was taken: the candidate, as far as anybody can tell.
    AtCandidate {
        /// True the first time, when somebody should hear of it.
        first: bool,
    },
    /// Sent by us, and captured at the captured service: the experiment stops.
    Looped,
}

/// Exchanges remembered, 8 bytes each. Of a loop, many requests come back; it is enough to know one of them.
const SENT_MAX: usize = 1 << 14;

/// Scopes remembered, 8 bytes each. One that another took the place of is back with its next exchange.
const SCOPES_MAX: usize = 1 << 10;

impl Default for LoopGuard {
    fn default() -> Self {
        let places = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            tripped: watch::Sender::new(false),
            sent: places(SENT_MAX),
            taken: places(SCOPES_MAX),
            seen_at_candidate: AtomicBool::new(false),
        }
    }
}

// === impl LoopGuard ===

impl LoopGuard {
    /// Notes that this exchange's request is sent.
    pub fn note_sent(&self, id: ExchangeId) {
        note(&self.sent, number(id));
    }

    /// Notes that an exchange is taken as A's from a server in this scope. Never waits; may be called from any thread. Of
    /// one A, this comes before any of its requests is sent; a further instance of A gets its share of traffic as it gets
    /// its share of a loop.
    pub fn note_taken(&self, scope: u64) {
        note(&self.taken, scope.saturating_add(1));
    }

    /// Says that a captured request named this exchange in its replay header, and in which scope its server is. Never
    /// waits; may be called from any thread. The experiment stops when this gives [`Returned::Looped`].
    pub fn saw(&self, id: ExchangeId, scope: u64) -> Returned {
        if !knows(&self.sent, number(id)) {
            Returned::Unknown
        } else if knows(&self.taken, scope.saturating_add(1)) {
            self.tripped.send_replace(true);
            Returned::Looped
        } else {
            Returned::AtCandidate { first: !self.seen_at_candidate.swap(true, Ordering::Relaxed) }
        }
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
}

/// Puts a number into the place that it belongs to. Reads first: most are there already, and the place is shared.
fn note(places: &[AtomicU64], number: u64) {
    if let Some(place) = place(places, number)
        && place.load(Ordering::Relaxed) != number
    {
        place.store(number, Ordering::Relaxed);
    }
}

/// Whether a number is in its place.
fn knows(places: &[AtomicU64], number: u64) -> bool {
    place(places, number).is_some_and(|place| place.load(Ordering::Relaxed) == number)
}

fn place(places: &[AtomicU64], number: u64) -> Option<&AtomicU64> {
    usize::try_from(number).ok().and_then(|number| places.get(number.checked_rem(places.len())?))
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
    const A: u64 = 4_242;
    const B: u64 = 5_151;

    #[tokio::test]
    async fn trips_on_what_was_sent_and_on_nothing_else() {
        let guard = LoopGuard::default();
        guard.note_taken(A);
        assert_eq!(guard.saw(OURS, A), Returned::Unknown, "nothing was sent yet");
        guard.note_sent(OURS);
        assert_eq!(guard.saw(ExchangeId { offset: 101, ..OURS }, A), Returned::Unknown);
        assert!(!guard.is_tripped());
        assert_eq!(guard.saw(OURS, A), Returned::Looped);
        assert!(guard.is_tripped());
        guard.wait_tripped().await;
    }

    #[test]
    fn what_the_candidate_gets_is_no_loop_until_it_serves_as_a() {
        let guard = LoopGuard::default();
        guard.note_taken(A);
        guard.note_sent(OURS);
        assert_eq!(guard.saw(OURS, B), Returned::AtCandidate { first: true });
        assert_eq!(guard.saw(OURS, B), Returned::AtCandidate { first: false }, "told already");
        assert!(!guard.is_tripped());
        // Another instance of A, which had no traffic before.
        guard.note_taken(B);
        assert_eq!(guard.saw(OURS, B), Returned::Looped);
    }

    #[test]
    fn without_scopes_every_server_is_a() {
        let guard = LoopGuard::default();
        guard.note_sent(OURS);
        guard.note_taken(0);
        assert_eq!(guard.saw(OURS, 0), Returned::Looped);
    }

    #[test]
    fn a_scope_that_lost_its_place_is_back_with_its_next_exchange() {
        let guard = LoopGuard::default();
        guard.note_sent(OURS);
        (0..100_000).for_each(|scope| guard.note_taken(scope));
        guard.note_taken(A);
        assert_eq!(guard.saw(OURS, A), Returned::Looped);
    }

    #[test]
    fn remembers_the_latest() {
        let guard = LoopGuard::default();
        guard.note_taken(A);
        let id = |offset| ExchangeId { offset, ..OURS };
        let is_known = |offset: &u64| guard.saw(id(*offset), A) == Returned::Looped;
        (0..1_000_000).for_each(|offset| guard.note_sent(id(offset)));
        let known = (999_000..1_000_000).filter(is_known).count();
        assert!(known > 900, "{known} of the last 1,000 are known");
        assert!(!is_known(&0), "the first is long gone");
    }
}
