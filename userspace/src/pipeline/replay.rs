//! Sends claimed exchanges to a candidate at their intended times and hands on what came of them.
//!
//! Never retries, and never makes A's side wait: what has no room or no time gets a fate that says so.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::again::{AgainLimits, AgainQueue};
use super::ask::{Done, Question, Shared, ask, ask_again};
use super::breaker::{Breaker, BreakerChange, BreakerLimits, Report};
use super::clock::now;
use super::handover::ComparisonSender;
use super::pace::{Anchor, Pace, RateLimit};
use super::protect::pause::PauseFlag;
use super::science::Science;
use crate::branch::{Branch, LoopGuard};
use crate::compare::noise::Repeat;
use crate::metrics::ReplayStats;
use crate::model::{BranchFailure, Fate, Outcome};
use crate::queue::{Claim, Queue};

/// Bounds of the replay to one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// Requests that are under way at once. Default: 64. One that waits for room longer than `slot_wait_max` is
    /// [`Fate::Overdue`].
    pub in_flight_max: usize,
    /// How long a request may take, from connecting to the last byte of the answer. Default: 10 s.
    pub response_wait_max: Duration,
    /// How long a request that is due waits for room. Default: 5 s.
    pub slot_wait_max: Duration,
    /// Requests in a second; more are [`Fate::RateLimited`]. Default: no limit.
    pub requests_per_second_max: Option<NonZeroU32>,
    /// Exchanges that are claimed and wait for their time or for room; beyond it they stay in the queue.
    /// Default: 4,096.
    pub waiting_max: usize,
    /// How long the replay goes on after it is told to stop; the rest is [`Fate::Drained`]. Default: 4 s, so that
    /// a report can be written within five.
    pub drain_max: Duration,
    /// When to pause.
    pub breaker: BreakerLimits,
    /// What waits to be asked a second time.
    pub again: AgainLimits,
}

/// The replay of one experiment to one candidate.
pub struct Replayer<B, Q> {
    /// The experiment's name.
    pub experiment: Arc<str>,
    /// Where requests go.
    pub branch: Arc<B>,
    /// A second instance of A's version, which is asked the same.
    pub twin: Option<Arc<B>>,
    /// Where exchanges come from.
    pub queue: Q,
    /// When each is due.
    pub pace: Pace,
    /// Ties captured times to the runtime's clock, for the time of a comparison.
    pub anchor: Anchor,
    /// Bounds.
    pub limits: ReplayLimits,
    /// How answers are compared.
    pub science: Arc<Science>,
    /// Where comparisons go. While it is full, requests that are done keep their room in flight.
    pub comparisons: ComparisonSender,
    /// While it is set, nothing is sent: what becomes due is [`Fate::Paused`].
    pub pause: PauseFlag,
    /// Stops the replay when its own requests come back.
    pub loop_guard: Arc<LoopGuard>,
    /// What it did so far.
    pub stats: Arc<ReplayStats>,
}

/// Why a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayEnd {
    /// The queue ended and everything in it has its fate.
    Finished,
    /// It was told to stop.
    Stopped,
    /// Its own requests came back through the capture.
    Loop,
}

struct Running<B> {
    shared: Arc<Shared<B>>,
    loop_guard: Arc<LoopGuard>,
    pace: Pace,
    limits: ReplayLimits,
    pause: PauseFlag,
    stats: Arc<ReplayStats>,
    breaker: Breaker,
    rate: Option<RateLimit>,
    /// Claims whose time has not come, the next one on top.
    scheduled: BinaryHeap<Reverse<Scheduled>>,
    /// Orders claims that are due at the same time.
    claimed: u64,
    /// Claims that are due and wait for room, the one that waits longest in front.
    ready: VecDeque<Scheduled>,
    /// What the candidate will be asked a second time.
    again: AgainQueue,
    tasks: JoinSet<Done>,
    /// The claims of `tasks`. They stay here, so that a task that is cut off cannot take a ticket with it.
    in_flight: HashMap<Id, Claim>,
    /// When the drain ends, once it has begun.
    drain_until: Option<Instant>,
    /// Until when second answers are waited for, once nothing else is.
    again_until: Option<Instant>,
}

struct Scheduled {
    /// When it is sent at the earliest: its intended time, or when it was claimed if that was later.
    at: Instant,
    order: u64,
    intended: Instant,
    claim: Claim,
    /// A's earlier answer to the same request.
    repeat: Option<Repeat>,
}

/// The fate of an exchange that was compared.
pub fn fate_of(outcome: &Outcome) -> Fate {
    match outcome {
        Outcome::Match => Fate::Matched,
        Outcome::Mismatch { differences: _, ignored: _, omitted: _ } => Fate::Mismatched,
        Outcome::Ignored(_) => Fate::Ignored,
        Outcome::Incomparable(_) => Fate::Incomparable,
    }
}

// === impl ReplayLimits ===

impl Default for ReplayLimits {
    fn default() -> Self {
        Self {
            in_flight_max: 64,
            response_wait_max: Duration::from_secs(10),
            slot_wait_max: Duration::from_secs(5),
            requests_per_second_max: None,
            waiting_max: 4096,
            drain_max: Duration::from_secs(4),
            breaker: BreakerLimits::default(),
            again: AgainLimits::default(),
        }
    }
}

// === impl Replayer ===

impl<B: Branch, Q: Queue> Replayer<B, Q> {
    /// Runs until the queue ends, or `stop` does and the drain after it, or a loop is found. Every exchange that
    /// was claimed, and every one that is still in the queue then, has its fate when this returns.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> ReplayEnd {
        let Self {
            experiment,
            branch,
            twin,
            mut queue,
            pace,
            anchor,
            limits,
            science,
            comparisons,
            pause,
            loop_guard,
            stats,
        } = self;
        let shared = Shared {
            experiment,
            branch,
            twin,
            anchor,
            is_live: pace.is_live(),
            deadline: limits.response_wait_max,
            science,
            comparisons,
        };
        let mut running = Running {
            shared: Arc::new(shared),
            loop_guard: Arc::clone(&loop_guard),
            pace,
            limits,
            pause,
            stats,
            breaker: Breaker::new(limits.breaker),
            rate: limits.requests_per_second_max.map(RateLimit::new),
            scheduled: BinaryHeap::new(),
            claimed: 0,
            ready: VecDeque::new(),
            again: AgainQueue::new(limits.again),
            tasks: JoinSet::new(),
            in_flight: HashMap::new(),
            drain_until: None,
            again_until: None,
        };
        let end = running.drive(&mut queue, &loop_guard, stop).await;
        running.settle_rest(&mut queue).await;
        end
    }
}

// === impl Running ===

impl<B: Branch> Running<B> {
    async fn drive<Q: Queue>(
        &mut self,
        queue: &mut Q,
        loop_guard: &LoopGuard,
        stop: impl Future<Output = ()> + Send,
    ) -> ReplayEnd {
        let mut queue_ended = false;
        let mut timer = std::pin::pin!(tokio::time::sleep_until(now()));
        let mut stop = std::pin::pin!(stop);
        let mut looped = std::pin::pin!(loop_guard.wait_tripped());
        let mut pause = self.pause.clone();
        loop {
            let wake = self.advance(now());
            if queue_ended && self.tasks.is_empty() && self.waiting() == 0 {
                self.drain_again(now());
                if self.again.is_empty() {
                    return if self.drain_until.is_some() { ReplayEnd::Stopped } else { ReplayEnd::Finished };
                }
            }
            if let Some(wake) = wake
                && timer.deadline() != wake
            {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                () = &mut looped => {
                    tracing::error!(
                        experiment = %self.shared.experiment,
                        "Replayed requests come back through the capture; the experiment is stopped."
                    );
                    return ReplayEnd::Loop;
                }
                () = &mut stop, if self.drain_until.is_none() => {
                    queue.close();
                    self.drain(now());
                }
                Some(done) = self.tasks.join_next_with_id() => self.finish(done, now()),
                () = &mut timer, if wake.is_some() => {
                    if self.drain_until.is_some_and(|until| until <= now()) {
                        return ReplayEnd::Stopped;
                    }
                }
                () = pause.changed() => {}
                claim = queue.claim(), if !queue_ended && self.claims() => match claim {
                    Some(claim) => self.schedule(claim, now()),
                    None => queue_ended = true,
                },
            }
        }
    }

    /// Whether there is room for one more. Exchanges of other hosts stay in the queue during a pause; those of this process
    /// are taken, and get their fate.
    fn claims(&self) -> bool {
        let stays = self.pause.is_set() && self.pace.is_queued();
        self.waiting() < self.limits.waiting_max && !stays
    }

    fn waiting(&self) -> usize {
        self.scheduled.len().saturating_add(self.ready.len())
    }

    fn schedule(&mut self, claim: Claim, now: Instant) {
        let intended = self.pace.due(claim.exchange.times.request_first, now);
        if self.drain_until.is_some_and(|until| intended > until) {
            claim.settle(Fate::Drained);
            return;
        }
        self.claimed = self.claimed.wrapping_add(1);
        let at = intended.max(now);
        let repeat = self.shared.science.note(&claim.exchange);
        self.scheduled.push(Reverse(Scheduled { at, order: self.claimed, intended, claim, repeat }));
    }

    /// Begins the drain: what is due before its end goes on, the rest has its fate.
    fn drain(&mut self, now: Instant) {
        let until = now.checked_add(self.limits.drain_max).unwrap_or(now);
        self.drain_until = Some(until);
        for Reverse(scheduled) in std::mem::take(&mut self.scheduled) {
            if scheduled.at > until {
                scheduled.claim.settle(Fate::Drained);
            } else {
                self.scheduled.push(Reverse(scheduled));
            }
        }
    }

    /// Second answers are waited for as long as a drain may take, and no longer.
    fn drain_again(&mut self, now: Instant) {
        let until = self.again_until.or(self.drain_until).or_else(|| now.checked_add(self.limits.drain_max));
        self.again_until = until;
        let dropped = until.map_or(0, |until| self.again.drop_after(until));
        self.stats.again_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }

    /// Sends what is due and has room; says when to look again at the latest.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        while self.scheduled.peek().is_some_and(|Reverse(next)| next.at <= now) {
            self.ready.extend(self.scheduled.pop().map(|Reverse(due)| due));
        }
        let is_paused = self.pause.is_set();
        while let Some(first) = self.ready.front() {
            let refused = self.breaker.refuses(now);
            let full = self.tasks.len() >= self.limits.in_flight_max;
            let overdue = full && now.saturating_duration_since(first.at) >= self.limits.slot_wait_max;
            if full && !overdue && !refused && !is_paused {
                break;
            }
            let Some(due) = self.ready.pop_front() else { break };
            if is_paused {
                due.claim.settle(Fate::Paused);
            } else if refused {
                due.claim.settle(Fate::BreakerOpen);
            } else if overdue {
                due.claim.settle(Fate::Overdue);
            } else if self.rate.as_mut().is_some_and(|rate| !rate.take(now)) {
                due.claim.settle(Fate::RateLimited);
            } else if self.breaker.admit(now) {
                self.send(due, now);
            } else {
                due.claim.settle(Fate::BreakerOpen);
            }
        }
        let again = self.advance_again(now);
        self.stats.waiting.store(self.waiting() as u64, Ordering::Relaxed);
        self.stats.in_flight.store(self.tasks.len() as u64, Ordering::Relaxed);
        let due = self.scheduled.peek().map(|Reverse(next)| next.at);
        let overdue = self.ready.front().and_then(|first| first.at.checked_add(self.limits.slot_wait_max));
        [due, overdue, again, self.drain_until].into_iter().flatten().min()
    }

    /// Asks again what is due, where there is room that nobody else waits for; says when to look again.
    fn advance_again(&mut self, now: Instant) -> Option<Instant> {
        while self.tasks.len() < self.limits.in_flight_max {
            let Some(due) = self.again.pop(now) else { return self.again.next_at() };
            if self.pause.is_set()
                || self.breaker.is_open()
                || self.rate.as_mut().is_some_and(|rate| !rate.take(now))
            {
                self.stats.again_dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.stats.again_sent.fetch_add(1, Ordering::Relaxed);
            self.loop_guard.note_sent(due.again.exchange.id);
            self.tasks.spawn(ask_again(Arc::clone(&self.shared), due));
        }
        // The next request that is done makes room.
        None
    }

    fn send(&mut self, due: Scheduled, now: Instant) {
        let Scheduled { at: _, order: _, intended, claim, repeat } = due;
        let late = now.saturating_duration_since(intended);
        self.loop_guard.note_sent(claim.exchange.id);
        self.stats.sent.fetch_add(1, Ordering::Relaxed);
        self.stats.late_us.fetch_add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        // When A got the request of a file says nothing about how far behind a replay is.
        let delay = if self.pace.is_live() {
            self.shared.anchor.wall_at(now).since(claim.exchange.times.request_first)
        } else {
            late
        };
        self.stats.delay.observe(delay);
        let (exchange, route) = (Arc::clone(&claim.exchange), Arc::clone(&claim.route));
        let task = ask(Arc::clone(&self.shared), Question { exchange, route, repeat });
        let id = self.tasks.spawn(task).id();
        self.in_flight.insert(id, claim);
    }

    fn finish(&mut self, done: Result<(Id, Done), JoinError>, now: Instant) {
        let (id, done) = match done {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(experiment = %self.shared.experiment, %error, "A replay task failed; its exchange is lost.");
                }
                (error.id(), None)
            }
        };
        let claim = self.in_flight.remove(&id);
        let (fate, report, failure) = match done {
            Some(Done::NotSent) => {
                self.stats.not_sent.fetch_add(1, Ordering::Relaxed);
                (Fate::NotReplayable, Report::Nothing, None)
            }
            Some(Done::Compared { fate, failure, twin_failure, again }) => {
                if twin_failure.is_some() {
                    self.stats.twin_failures.fetch_add(1, Ordering::Relaxed);
                }
                if let Some((again, answered_at)) = again
                    && !self.again.push(again, answered_at)
                {
                    self.stats.again_dropped.fetch_add(1, Ordering::Relaxed);
                }
                let report = if failure.is_some() { Report::Failed } else { Report::Answered };
                (fate, report, failure)
            }
            Some(Done::Unwanted) => (Fate::Drained, Report::Nothing, None),
            // It has no claim, and says nothing that the first answer did not say.
            Some(Done::Repeated { failure }) => (Fate::Lost, Report::Nothing, failure),
            None => (Fate::Lost, Report::Nothing, None),
        };
        if let Some(count) = failure.and_then(|failure| self.stats.failures.get(failure as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Without a claim the breaker was never asked: it waits for what its own probe says.
        if let Some(claim) = claim {
            claim.settle(fate);
            self.tell_breaker(report, failure, now);
        }
    }

    fn tell_breaker(&mut self, report: Report, failure: Option<BranchFailure>, now: Instant) {
        let experiment = &self.shared.experiment;
        match self.breaker.report(report, now) {
            Some(BreakerChange::Opened { pause }) => tracing::warn!(
                %experiment,
                failure = failure.map(BranchFailure::label),
                pause_ms = pause.as_millis(),
                "Candidate fails again and again; replay is paused."
            ),
            Some(BreakerChange::Closed) => {
                tracing::warn!(%experiment, "Candidate answers again; replay goes on.");
            }
            None => {}
        }
        self.stats.breaker_open.store(self.breaker.is_open(), Ordering::Relaxed);
    }

    /// Cuts off what is under way and gives the rest its fate.
    async fn settle_rest<Q: Queue>(&mut self, queue: &mut Q) {
        queue.close();
        self.tasks.abort_all();
        while let Some(done) = self.tasks.join_next_with_id().await {
            match done {
                // It was done before it could be cut off: its comparison is handed over, and so it counts.
                Ok(done) => self.finish(Ok(done), now()),
                Err(error) if error.is_cancelled() => {
                    if let Some(claim) = self.in_flight.remove(&error.id()) {
                        claim.settle(Fate::Drained);
                    }
                }
                Err(error) => self.finish(Err(error), now()),
            }
        }
        let scheduled = std::mem::take(&mut self.scheduled).into_iter().map(|Reverse(scheduled)| scheduled);
        for Scheduled { at: _, order: _, intended: _, claim, repeat: _ } in
            scheduled.chain(self.ready.drain(..))
        {
            claim.settle(Fate::Drained);
        }
        while let Some(claim) = queue.claim().await {
            claim.settle(Fate::Drained);
        }
        self.stats.waiting.store(0, Ordering::Relaxed);
        self.stats.in_flight.store(0, Ordering::Relaxed);
    }
}

// === impl Scheduled ===

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests;
