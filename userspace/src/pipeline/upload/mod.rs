//! The way of exchanges from the lanes of capture into Redis, and over the disk while Redis is away.
//!
//! Never makes capture wait: at its bound it takes no more, and the queue before it sheds. Gives no fate to an entry of
//! which nobody knows whether Redis has it: such a batch is sent again, with the numbers that it had, until Redis answers or
//! the process ends. Only what Redis refuses for longer than a limit, and refuses alone, is given up, so that it holds up
//! nobody else.
//!
//! One actor has all of it. Entries of a shard are numbered as they are sent or spooled, and one batch of a shard is under
//! way at a time, since Redis takes a lower number after a higher one for a copy. While anything lies in the spool, newer
//! entries go behind it.

mod lane;
mod refused;
mod round;
mod spooled;

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::clock::now;
use super::link::Disagreement;
use super::secrets::Secrets;
use crate::metrics::{QueueStatus, SpoolStats, UploadStats};
use crate::model::{Fate, Ledger, TicketBundle};
use crate::queue::entry::{EncodedEntry, EntryEncoder, EntryError};
use crate::queue::memory::MemoryQueue;
use crate::queue::redis::{Appended, Appender, Numbered, RedisError};
use crate::queue::{Offered, Queue as _};
use crate::select::SessionBy;
use crate::spool::Spool;

use lane::{Batch, ShardLane};
use refused::Refusals;
use round::RoundEnd;
use spooled::Drain;

/// Bounds of the way into Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Entries of one shard in one message. Default: 256.
    pub batch_max: usize,
    /// How long entries are gathered. Default: 5 ms.
    pub batch_wait: Duration,
    /// Bytes of all entries that are encoded and neither in Redis nor in the spool. Beyond it nothing is taken from the
    /// queue before. Default: 16 MiB.
    pub in_flight_bytes_max: usize,
    /// Pause before the second attempt in a row; it doubles with each. Default: 50 ms.
    pub retry_min: Duration,
    /// Longest pause. Default: 2 s.
    pub retry_max: Duration,
    /// How long Redis may refuse entries of a shard, or break the connection off over them, before those that it refuses
    /// alone are given up as [`Fate::Refused`]. All others wait meanwhile. Default: 1 min.
    pub refused_wait_max: Duration,
    /// Panics in a row after which entries of the spool are sent one by one. The one that panics alone is given up, as is a
    /// batch in memory that has panicked as often. Default: 3.
    pub panics_max: u32,
    /// How long uploading goes on after the end of capture; the rest is [`Fate::Spooled`]. Default: 4 s.
    pub drain_max: Duration,
}

/// Puts entries into Redis: the appender of `queue::redis`, or a test's.
pub trait Append: Send + 'static {
    /// Appends batches of different shards; the results stand in their order.
    fn append_all(
        &mut self,
        batches: &[(u32, &[Numbered<EncodedEntry>])],
    ) -> impl Future<Output = Vec<Result<Appended, RedisError>>> + Send;

    /// Whether Redis answers now.
    fn answers(&mut self) -> impl Future<Output = bool> + Send;
}

/// One experiment, as it is uploaded.
pub struct Channel<A> {
    /// Its name.
    pub name: Arc<str>,
    /// Where exchanges come from.
    pub queue: MemoryQueue,
    /// Where they go.
    pub appender: A,
    /// Their counts.
    pub ledger: Arc<Ledger>,
    /// What is counted of the way.
    pub stats: Arc<UploadStats>,
}

/// Makes an appender for what another process had numbered.
pub type MakeAppender<A> = Box<dyn Fn(&Arc<str>, u128) -> A + Send>;

/// Everything that an upload is made of.
pub struct UploadParts<A> {
    /// Bounds.
    pub limits: UploadLimits,
    /// What is uploaded.
    pub channels: Vec<Channel<A>>,
    /// Shards of each experiment.
    pub shards: NonZeroU32,
    /// What chooses the shard of an exchange.
    pub session: SessionBy,
    /// Makes entries.
    pub encoder: EntryEncoder,
    /// Where entries wait while Redis is away.
    pub spool: Spool,
    /// Its counts.
    pub spool_stats: Arc<SpoolStats>,
    /// Who numbers the entries of this process.
    pub producer: u128,
    /// For what lies in the spool of an earlier process.
    pub make_appender: MakeAppender<A>,
    /// Whether Redis does its part.
    pub status: Arc<QueueStatus>,
    /// What hides secrets before an entry is made; none where nothing is hidden.
    pub secrets: Option<Arc<Secrets>>,
}

/// Uploads.
pub struct Uploader<A> {
    limits: UploadLimits,
    experiments: Vec<Experiment<A>>,
    shards: NonZeroU32,
    session: SessionBy,
    encoder: EntryEncoder,
    spool: Spool,
    spool_stats: Arc<SpoolStats>,
    producer: u128,
    make_appender: MakeAppender<A>,
    /// Appenders of earlier processes, whose entries lie in the spool.
    former: HashMap<(u128, Arc<str>), A>,
    status: Arc<QueueStatus>,
    secrets: Option<Arc<Secrets>>,
    disagreement: Disagreement,
    rounds: JoinSet<RoundEnd<A>>,
    refusals: Refusals,
    /// None while entries go straight to Redis.
    drain: Option<Drain>,
    /// Entries in the spool that an earlier process left; they lie before all others.
    former_left: u64,
    /// Where the next claim is looked for first.
    turn: usize,
}

struct Experiment<A> {
    name: Arc<str>,
    queue: MemoryQueue,
    /// None while a round has it.
    appender: Option<A>,
    lanes: Vec<ShardLane>,
    /// What is under way, with its tickets.
    round: Vec<Batch>,
    /// When the entries that wait are sent at the latest.
    due: Option<Instant>,
    /// Tickets of the entries in the spool.
    spooled: TicketBundle,
    /// Entries in the spool, by shard and number, whose tickets are with a batch in memory: it did not fit as a whole.
    strays: BTreeSet<(u32, u64)>,
    stats: Arc<UploadStats>,
    ended: bool,
    in_flight_bytes: usize,
}

impl Append for Appender {
    fn append_all(
        &mut self,
        batches: &[(u32, &[Numbered<EncodedEntry>])],
    ) -> impl Future<Output = Vec<Result<Appended, RedisError>>> + Send {
        Appender::append_all(self, batches)
    }

    async fn answers(&mut self) -> bool {
        self.ping().await.is_ok()
    }
}

// === impl UploadLimits ===

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            batch_max: 256,
            batch_wait: Duration::from_millis(5),
            in_flight_bytes_max: 16 << 20,
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(2),
            refused_wait_max: Duration::from_secs(60),
            panics_max: 3,
            drain_max: Duration::from_secs(4),
        }
    }
}

// === impl Uploader ===

impl<A: Append> Uploader<A> {
    /// Uploads nothing yet. What an earlier process left in the spool goes first.
    pub fn new(parts: UploadParts<A>) -> Self {
        let UploadParts {
            limits,
            channels,
            shards,
            session,
            encoder,
            spool,
            spool_stats,
            producer,
            make_appender,
            status,
            secrets,
        } = parts;
        let lanes = || (0..shards.get()).map(|_| ShardLane::default()).collect();
        let experiments = channels.into_iter().map(|channel| {
            let Channel { name, queue, appender, ledger, stats } = channel;
            Experiment {
                name,
                queue,
                appender: Some(appender),
                lanes: lanes(),
                round: Vec::new(),
                due: None,
                spooled: ledger.bundle(),
                strays: BTreeSet::new(),
                stats,
                ended: false,
                in_flight_bytes: 0,
            }
        });
        let experiments = experiments.collect();
        let former_left = spool.counts().frames;
        let drain = (!spool.is_empty()).then(|| Drain::new(now(), limits.retry_min));
        Self {
            limits,
            experiments,
            shards,
            session,
            encoder,
            spool,
            spool_stats,
            producer,
            make_appender,
            former: HashMap::new(),
            status,
            secrets,
            disagreement: Disagreement::default(),
            rounds: JoinSet::new(),
            refusals: Refusals::default(),
            drain,
            former_left,
            turn: 0,
        }
    }

    /// Once it is said, everything goes into the spool, and nothing from there.
    pub(super) fn watching(self, disagreement: &Disagreement) -> Self {
        Self { disagreement: disagreement.clone(), ..self }
    }

    /// Runs until the capture side is gone, or `stop` says so, and everything is where it belongs or the time is over. Every
    /// exchange has its fate then.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        self.status.up.store(true, Ordering::Relaxed);
        let mut stop = std::pin::pin!(stop);
        let mut stopping = false;
        let mut until = None;
        loop {
            let all_ended = self.experiments.iter().all(|experiment| experiment.ended);
            if (all_ended || stopping) && until.is_none() {
                until = now().checked_add(self.limits.drain_max);
            }
            self.advance(now(), all_ended);
            self.show();
            // Where nothing is sent, all that is left to do is to spool what still lies in the queue.
            let is_over =
                until.is_some_and(|until| until <= now() || all_ended && self.disagreement.is_said());
            if all_ended && self.is_done() || is_over {
                break;
            }
            let wake = [self.wake_at(), until].into_iter().flatten().min();
            let has_room = self.in_flight_bytes() < self.limits.in_flight_bytes_max;
            let Self { experiments, rounds, turn, .. } = &mut self;
            tokio::select! {
                biased;
                Some(end) = rounds.join_next() => match end {
                    Ok(end) => self.finish_round(end, now()),
                    // Nobody ends one but this task, and what it calls may panic.
                    Err(error) => tracing::error!(%error, "A part of the upload failed."),
                },
                () = sleep_until(wake) => {}
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.experiments.iter_mut().for_each(|experiment| experiment.close());
                }
                taken = take_any(experiments, turn), if has_room && !all_ended => match taken {
                    (index, Some(offered)) => self.accept(index, offered, now()),
                    (index, None) => {
                        if let Some(experiment) = self.experiments.get_mut(index) {
                            experiment.ended = true;
                        }
                    }
                },
            }
        }
        self.leave_rest().await;
        self.show();
    }

    /// Encodes one exchange and puts it behind the others of its shard.
    fn accept(&mut self, index: usize, offered: Offered, now: Instant) {
        let Offered { exchange, route, ticket } = offered;
        let Some(experiment) = self.experiments.get_mut(index) else { return ticket.settle(Fate::Lost) };
        let shard = self.session.shard(&exchange, self.shards);
        // From here on it may come to the disk, and to Redis.
        let exchange =
            self.secrets.as_ref().map_or(Arc::clone(&exchange), |secrets| secrets.exchange(&exchange));
        let entry = match self.encoder.encode(&exchange, &route) {
            Ok(entry) => entry,
            Err(error) => {
                if !matches!(error, EntryError::TooLarge(_)) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "An exchange cannot be encoded."
                    );
                }
                return ticket.settle(Fate::TooLarge);
            }
        };
        let Some(lane) = lane_of(&mut experiment.lanes, shard) else { return ticket.settle(Fate::Lost) };
        experiment.in_flight_bytes = experiment.in_flight_bytes.saturating_add(lane::bytes_of(&entry));
        lane.push(entry, ticket);
        experiment.due = experiment.due.or(now.checked_add(self.limits.batch_wait));
    }

    /// Starts what is due.
    fn advance(&mut self, now: Instant, all_ended: bool) {
        if self.disagreement.is_said() {
            return self.spool_waiting();
        }
        if self.drain.is_some() {
            self.spool_waiting();
            self.advance_drain(now);
            return;
        }
        for index in 0..self.experiments.len() {
            self.send_waiting(index, now, all_ended);
        }
    }

    fn in_flight_bytes(&self) -> usize {
        self.experiments.iter().map(|experiment| experiment.in_flight_bytes).sum()
    }

    /// True when nothing is left to upload.
    fn is_done(&self) -> bool {
        let idle = |experiment: &Experiment<A>| {
            experiment.round.is_empty() && experiment.lanes.iter().all(ShardLane::is_empty)
        };
        self.drain.is_none() && self.rounds.is_empty() && self.experiments.iter().all(idle)
    }

    /// When there is something to do at the latest; the end of what is under way wakes by itself.
    fn wake_at(&self) -> Option<Instant> {
        match &self.drain {
            _ if self.disagreement.is_said() => None,
            Some(drain) => drain.wake_at().filter(|_| self.rounds.is_empty()),
            None => {
                let idle = self.experiments.iter().filter(|experiment| experiment.round.is_empty());
                idle.filter_map(|experiment| experiment.due).min()
            }
        }
    }

    /// Writes the counts where the metrics look.
    fn show(&self) {
        for experiment in &self.experiments {
            let bytes = experiment.in_flight_bytes as u64;
            experiment.stats.in_flight_bytes.store(bytes, Ordering::Relaxed);
        }
        let counts = self.spool.counts();
        self.spool_stats.entries.store(counts.frames, Ordering::Relaxed);
        self.spool_stats.former.store(self.former_left.min(counts.frames), Ordering::Relaxed);
        self.spool_stats.bytes.store(counts.bytes, Ordering::Relaxed);
        self.spool_stats.damaged.store(counts.damaged_frames, Ordering::Relaxed);
    }
}

// === impl Experiment ===

impl<A> Experiment<A> {
    fn close(&mut self) {
        self.queue.close();
    }
}

fn lane_of(lanes: &mut [ShardLane], shard: u32) -> Option<&mut ShardLane> {
    lanes.get_mut(usize::try_from(shard).ok()?)
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// The next exchange of any experiment that has not ended, in turn. Safe to cancel, as each queue is.
async fn take_any<A>(experiments: &mut [Experiment<A>], turn: &mut usize) -> (usize, Option<Offered>) {
    std::future::poll_fn(|context| {
        let count = experiments.len().max(1);
        for step in 0..count {
            let index = turn.wrapping_add(step) % count;
            let Some(experiment) = experiments.get_mut(index).filter(|experiment| !experiment.ended) else {
                continue;
            };
            if let Poll::Ready(taken) = std::pin::pin!(experiment.queue.take()).poll(context) {
                *turn = index.wrapping_add(1);
                return Poll::Ready((index, taken));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests;
