//! How exchanges leave the pipeline, and the counts that must add up.
//!
//! Holds the law `seen = in flight + Σ fates`; who settles what is for `pipeline` to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How an exchange left the pipeline of one experiment. Each exchange has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fate {
    /// It was shown by `inspect`, which sends nothing.
    Shown,
    /// It was written to a recording.
    Recorded,
    /// It was not: the recording was at its bound or could not be written, or the exchange is too large for it.
    NotRecorded,
    /// The experiment does not want its method.
    FilteredMethod,
    /// The experiment does not want its path.
    FilteredRoute,
    /// The experiment does not want its host.
    FilteredHost,
    /// The experiment does not want its header fields.
    FilteredHeader,
    /// A condition of the experiment does not hold for it.
    FilteredRunIf,
    /// It is outside the sample.
    SampledOut,
    /// It carried the replay header: somebody, perhaps we, had replayed it.
    Replay,
    /// No response to it was seen.
    NoResponse,
    /// The request was not seen whole, was cut, or has ambiguous framing.
    NotReplayable,
    /// Its method may have effects and the candidate is not declared isolated.
    UnsafeMethod,
    /// The queue to the replayer was full.
    Shed,
    /// Redis has it: what comes of it is counted there.
    Queued,
    /// Redis could not be reached, and the spool had no room or could not be written. Of what was under way when the
    /// process ended, Redis may have some: it could not say so.
    SpoolFull,
    /// Redis refuses it: a key of another type lies in its way, the user may not write there, or it is too long for it.
    Refused,
    /// It is larger than an entry of the queue may be.
    TooLarge,
    /// Redis could not be reached before the end: it lies in the spool, for the next start.
    Spooled,
    /// The experiment had been stopped, because its own requests came back through the capture.
    Stopped,
    /// The rate limit had no room for it.
    RateLimited,
    /// The in-flight limit kept it waiting longer than allowed.
    Overdue,
    /// The breaker was open: the candidate had failed too often.
    BreakerOpen,
    /// Its turn came while the process was paused.
    Paused,
    /// The run ended before its turn, or before the candidate answered.
    Drained,
    /// The worker ended before its turn and gave it back to the queue, where another one takes it.
    Returned,
    /// An entry of the queue that is no exchange, or not one that this version can read.
    Unreadable,
    /// It was delivered too often without ever being done, and stands aside now for people to look at.
    SetAside,
    /// It was delivered again while its first settlement waited to be confirmed; that one counts.
    Duplicate,
    /// Compared: no difference.
    Matched,
    /// Compared: differences.
    Mismatched,
    /// Compared: only differences that a rule explains.
    Ignored,
    /// Replayed, but no statement can be made.
    Incomparable,
    /// A defect: it was dropped without a fate. Always zero.
    Lost,
}

/// The counts of one experiment. `seen = in flight + Σ fates` whenever no thread is between two counts.
#[derive(Debug)]
pub struct Ledger {
    seen: AtomicU64,
    in_flight: AtomicU64,
    fates: [AtomicU64; Fate::ALL.len()],
}

/// One exchange that has no fate yet. Settle it; a ticket that is dropped counts as [`Fate::Lost`].
#[derive(Debug)]
pub struct Ticket {
    ledger: Arc<Ledger>,
    settled: bool,
}

/// Exchanges of one ledger that have no fate yet and whose order is kept elsewhere, as that of entries in a spool is.
/// Those that are left when it is dropped count as [`Fate::Lost`].
#[derive(Debug)]
pub struct TicketBundle {
    ledger: Arc<Ledger>,
    count: u64,
}

/// The counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Exchanges that came in.
    pub seen: u64,
    /// Exchanges without a fate.
    pub in_flight: u64,
    /// Exchanges by fate, in the order of [`Fate::ALL`].
    pub fates: Vec<(Fate, u64)>,
}

// === impl Fate ===

impl Fate {
    /// All fates, in the order of their numbers.
    pub const ALL: [Fate; 34] = [
        Fate::Shown,
        Fate::Recorded,
        Fate::NotRecorded,
        Fate::FilteredMethod,
        Fate::FilteredRoute,
        Fate::FilteredHost,
        Fate::FilteredHeader,
        Fate::FilteredRunIf,
        Fate::SampledOut,
        Fate::Replay,
        Fate::NoResponse,
        Fate::NotReplayable,
        Fate::UnsafeMethod,
        Fate::Shed,
        Fate::Queued,
        Fate::SpoolFull,
        Fate::Refused,
        Fate::TooLarge,
        Fate::Spooled,
        Fate::Stopped,
        Fate::RateLimited,
        Fate::Overdue,
        Fate::BreakerOpen,
        Fate::Paused,
        Fate::Drained,
        Fate::Returned,
        Fate::Unreadable,
        Fate::SetAside,
        Fate::Duplicate,
        Fate::Matched,
        Fate::Mismatched,
        Fate::Ignored,
        Fate::Incomparable,
        Fate::Lost,
    ];

    /// The fate as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Fate::Shown => "shown",
            Fate::Recorded => "recorded",
            Fate::NotRecorded => "not_recorded",
            Fate::FilteredMethod => "filtered_method",
            Fate::FilteredRoute => "filtered_route",
            Fate::FilteredHost => "filtered_host",
            Fate::FilteredHeader => "filtered_header",
            Fate::FilteredRunIf => "filtered_run_if",
            Fate::SampledOut => "sampled_out",
            Fate::Replay => "replay",
            Fate::NoResponse => "no_response",
            Fate::NotReplayable => "not_replayable",
            Fate::UnsafeMethod => "unsafe_method",
            Fate::Shed => "shed",
            Fate::Queued => "queued",
            Fate::SpoolFull => "spool_full",
            Fate::Refused => "refused",
            Fate::TooLarge => "too_large",
            Fate::Spooled => "spooled",
            Fate::Stopped => "stopped",
            Fate::RateLimited => "rate_limited",
            Fate::Overdue => "overdue",
            Fate::BreakerOpen => "breaker_open",
            Fate::Paused => "paused",
            Fate::Drained => "drained",
            Fate::Returned => "returned",
            Fate::Unreadable => "unreadable",
            Fate::SetAside => "set_aside",
            Fate::Duplicate => "duplicate",
            Fate::Matched => "matched",
            Fate::Mismatched => "mismatched",
            Fate::Ignored => "ignored",
            Fate::Incomparable => "incomparable",
            Fate::Lost => "lost",
        }
    }
}

// === impl Ledger ===

impl Default for Ledger {
    fn default() -> Self {
        Self {
            seen: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            fates: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Ledger {
    /// Counts one exchange in.
    pub fn admit(self: &Arc<Self>) -> Ticket {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ticket { ledger: Arc::clone(self), settled: false }
    }

    /// A bundle of this ledger, with nothing in it.
    pub fn bundle(self: &Arc<Self>) -> TicketBundle {
        TicketBundle { ledger: Arc::clone(self), count: 0 }
    }

    /// The counts now.
    pub fn snapshot(&self) -> LedgerSnapshot {
        LedgerSnapshot {
            seen: self.seen.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            fates: Fate::ALL
                .into_iter()
                .zip(&self.fates)
                .map(|(fate, count)| (fate, count.load(Ordering::Relaxed)))
                .collect(),
        }
    }

    fn settle(&self, fate: Fate) {
        if let Some(count) = self.fates.get(fate as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Ticket ===

impl Ticket {
    /// Gives the exchange its fate.
    pub fn settle(mut self, fate: Fate) {
        self.settled = true;
        self.ledger.settle(fate);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.ledger.settle(Fate::Lost);
        }
    }
}

// === impl TicketBundle ===

impl TicketBundle {
    /// Takes one more exchange.
    ///
    /// # Errors
    /// The ticket, when it is of another ledger.
    pub fn absorb(&mut self, mut ticket: Ticket) -> Result<(), Ticket> {
        if !Arc::ptr_eq(&self.ledger, &ticket.ledger) {
            return Err(ticket);
        }
        ticket.settled = true;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Gives one exchange its fate; false when there was none left.
    pub fn settle_one(&mut self, fate: Fate) -> bool {
        let Some(rest) = self.count.checked_sub(1) else { return false };
        self.count = rest;
        self.ledger.settle(fate);
        true
    }

    /// Gives all that are left the same fate.
    pub fn settle_all(&mut self, fate: Fate) {
        while self.settle_one(fate) {}
    }

    /// Exchanges in it.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl Drop for TicketBundle {
    fn drop(&mut self) {
        self.settle_all(Fate::Lost);
    }
}

// === impl LedgerSnapshot ===

impl LedgerSnapshot {
    /// Exchanges with this fate.
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.iter().find(|(have, _)| *have == fate).map_or(0, |(_, count)| *count)
    }

    /// True when `seen = in flight + Σ fates`.
    pub fn balances(&self) -> bool {
        let settled: u64 = self.fates.iter().map(|(_, count)| count).sum();
        self.seen == self.in_flight.saturating_add(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ticket_is_settled_once_and_a_dropped_one_is_lost() {
        let ledger = Arc::new(Ledger::default());
        ledger.admit().settle(Fate::Matched);
        drop(ledger.admit());
        let open = ledger.admit();
        let now = ledger.snapshot();
        assert_eq!((now.seen, now.in_flight), (3, 1));
        assert_eq!((now.count(Fate::Matched), now.count(Fate::Lost)), (1, 1));
        assert!(now.balances());
        open.settle(Fate::Shed);
        assert!(ledger.snapshot().balances());
    }

    #[test]
    fn a_bundle_settles_each_ticket_once_and_loses_what_is_left() {
        let (ledger, other) = (Arc::new(Ledger::default()), Arc::new(Ledger::default()));
        let mut bundle = ledger.bundle();
        for _ in 0..3 {
            assert!(bundle.absorb(ledger.admit()).is_ok());
        }
        bundle.absorb(other.admit()).expect_err("it is of another ledger").settle(Fate::Shed);
        assert!(bundle.settle_one(Fate::Queued) && bundle.settle_one(Fate::Spooled));
        assert_eq!((bundle.count(), ledger.snapshot().in_flight), (1, 1));
        drop(bundle);
        let end = ledger.snapshot();
        assert!(end.balances());
        assert_eq!([Fate::Queued, Fate::Spooled, Fate::Lost].map(|fate| end.count(fate)), [1, 1, 1]);
        let mut empty = ledger.bundle();
        assert!(!empty.settle_one(Fate::Queued));
    }

    #[test]
    fn fates_are_listed_in_the_order_of_their_numbers() {
        for (index, fate) in Fate::ALL.into_iter().enumerate() {
            assert_eq!(fate as usize, index, "{}", fate.label());
        }
    }
}
