//! The worker: exchanges of other hosts from the queue, replayed, compared, kept, and told.
//!
//! Captures nothing. Tells Redis of a comparison only when the journal has it, and ends when the journal fails: its entries
//! are then done by others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::clock;
use super::error::RunError;
use super::experiment::Timing;
use super::fleet::{PublishLimits, Publisher, WorkerTeller, member_name};
use super::link::{Agreement, Disagreement, agree_on, connect, random_id};
use super::live::Live;
use super::notify::{Notifier, Presence};
use super::protect::ceilings;
use super::protect::pause::Pauses;
use super::record::OnKept;
use super::reload::Reloads;
use super::replaying::{ReplayingEnd, Replays};
use super::secrets::{Reach, Secrets};
use super::serving::Serving;
use super::settings::{Config, JournalConfig, QueueConfig};
use super::tasks::{ExperimentTasks, spawn, wait};
use crate::branch::CapturedPorts;
use crate::compare::group::cause_of;
use crate::journal::{Finder, FindingLimits, Journal as _, JournalError, RunId, SqliteJournal};
use crate::metrics::{Metrics, QueueStatus, RedactStats, Status};
use crate::model::{Comparison, Finding, Ledger, LedgerSnapshot};
use crate::queue::redis::config::Mode;
use crate::queue::redis::results::{Results, ResultsLimits, Role};
use crate::queue::redis::{
    Kept, QueueStats, RedisConfig, RedisQueue, RedisWorker, WorkerConfig, WorkerLimits, redis_queue,
};
use crate::serve::Admin;
use crate::wire;

/// A worker that is set up: nothing was taken yet.
pub struct Worker {
    admin: Option<Admin>,
    replays: Replays<RedisQueue>,
    workers: Vec<(Arc<str>, RedisWorker)>,
    stats: Vec<(Arc<str>, Arc<QueueStats>)>,
    summary: String,
    publishers: Vec<Publisher<WorkerTeller>>,
    secrets: Option<Arc<Secrets>>,
    disagreement: Disagreement,
    pauses: Pauses,
}

/// What a worker came to.
pub struct WorkerEnd {
    /// Its journal.
    pub journal: SqliteJournal,
    /// The first thing that could not be kept.
    pub recorded: Result<(), JournalError>,
    /// Why it ended by itself: others have agreed on another number of shards, or its part of a queue failed.
    pub cut_short: Option<RunError>,
    /// Its run there.
    pub id: RunId,
    /// The ledgers by experiment.
    pub ledgers: Vec<(Arc<str>, LedgerSnapshot)>,
    /// What was hidden, or would have been; none where nothing is looked for.
    pub redact: Option<Arc<RedactStats>>,
}

/// How often it is looked whether Redis does its part.
const LOOK_EVERY: Duration = Duration::from_millis(500);

// === impl Worker ===

impl Worker {
    /// Checks and opens everything. A Redis that is only away is waited for later.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn prepare(config: Config, redis: &RedisConfig) -> Result<Self, RunError> {
        let Some(queue) = &config.queue else { return Err(RunError::NoQueue) };
        if config.experiments.is_empty() {
            return Err(RunError::NoExperiment);
        }
        ceilings::memory_max(&config.protect, ceilings::bounds(&config, ceilings::Role::Worker))?;
        let secrets = Secrets::of(&config.redact, Reach::Fleet)?;
        let redact = Secrets::agreement(secrets.as_ref());
        let pauses = Pauses::start(&config.protect.pauses);
        let connection = connect(redis).await?;
        let id: Arc<str> = format!("{:032x}", random_id()?).into();
        let (mut queues, mut workers, mut kept, mut stats) =
            (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        for experiment in &config.experiments {
            let name: Arc<str> = experiment.name.as_str().into();
            let keys = agree_on(&connection, queue, &name, (&redact, None)).await?;
            let (ledger, counts) = (Arc::new(Ledger::default()), Arc::new(QueueStats::default()));
            let worker = WorkerConfig {
                experiment: Arc::clone(&name),
                keys,
                worker: Arc::clone(&id),
                shards: queue.shards.get(),
                together: queue.access.mode != Mode::Cluster,
                reads_major: wire::VERSION.major,
                limits: limits(queue),
                ledger: Arc::clone(&ledger),
                stats: Arc::clone(&counts),
                clock: clock::now,
            };
            let (queue, worker, keep) = redis_queue(connection.clone(), worker).await?;
            queues.push((queue, ledger));
            workers.push((Arc::clone(&name), worker));
            stats.push((Arc::clone(&name), counts));
            kept.insert(name, keep);
        }
        // What listens here has nothing to do with what is captured elsewhere; a way back to A is seen there.
        let guard = CapturedPorts::default();
        let timing = (Timing::Queued, secrets.clone());
        let mut replays = Replays::prepare(&config, &guard, timing, queues, &pauses.flag()).await?;
        for start in replays.starts() {
            agree_on(&connection, queue, &start.name, (&redact, Some(start))).await?;
        }
        replays.tell(telling(&config.journal, kept));
        let disagreement = Disagreement::default();
        let publisher = |teller: WorkerTeller| {
            let limits = ResultsLimits::default();
            let start = replays.starts().iter().find(|start| start.name == *teller.experiment());
            let agreement = Agreement::new(&connection, queue, teller.experiment(), (&redact, start))
                .watched_by(&disagreement);
            let results = Results::new(connection.clone(), &queue.prefix, teller.experiment(), limits);
            Publisher::new(results, Role::Worker, id.to_string(), teller, PublishLimits::default())
                .agreeing(agreement)
        };
        let publishers =
            replays.tellers(&member_name(), &pauses.stats()).into_iter().map(publisher).collect();
        let summary = format!("queue {} {}", connection.address(), queue.prefix);
        let admin = Admin::bind_if(config.admin).await?;
        Ok(Self { admin, replays, workers, stats, summary, publishers, secrets, disagreement, pauses })
    }

    /// Reads the configuration again when it is asked to.
    pub fn reload(&mut self, reloads: Reloads) {
        self.replays.reload(reloads);
    }

    /// The ledgers by experiment, to be looked at while it runs.
    pub fn ledgers(&self) -> Vec<(Arc<str>, Arc<Ledger>)> {
        self.replays.ledgers()
    }

    /// What this worker's part would be judged as now.
    pub fn live(&self) -> Arc<Live> {
        self.replays.live()
    }

    /// Where the admin listener listens.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().and_then(Admin::address)
    }

    /// Replays until `stop` ends, the journal fails, others have agreed on another number of shards, or a part of the
    /// queue fails; then what is under way is finished within the limits, and the rest goes back to the queue.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<WorkerEnd, RunError> {
        let Self { admin, mut replays, workers, stats, summary, publishers, secrets, disagreement, pauses } =
            self;
        let journal = replays.open_journal()?;
        let begun = replays.begin(journal, summary, Vec::new())?;
        let id = begun.id;
        let queue = Arc::new(QueueStatus { workers: stats, ..QueueStatus::default() });
        let status = Arc::new(Status {
            capture: None,
            experiments: replays.take_statuses(),
            queue: Some(Arc::clone(&queue)),
            pause: pauses.stats(),
            redact: secrets.as_ref().map(|secrets| secrets.stats()),
            regressions: Some(replays.regressions()),
        });
        let control = Some(pauses.control());
        let serving =
            Serving::start(admin, None, control, || Metrics::new(Arc::clone(&status), &replays.metrics));
        let mut replaying = replays.start(begun, Arc::clone(&status));
        let mut queue_tasks = ExperimentTasks::default();
        for (experiment, worker) in workers {
            queue_tasks.start(experiment, worker.run());
        }
        let (all_done, done) = watch::channel(false);
        let publish = |publisher: Publisher<_>| spawn(publisher.run(wait(done.clone())));
        let publishing: Vec<_> = publishers.into_iter().map(publish).collect();
        let presence = Presence::start(Notifier::from_environment(), Arc::clone(&status), None);
        tokio::select! {
            () = replaying.over() => {}
            () = stop => {}
            () = disagreement.found() => {}
            () = queue_tasks.failed() => {}
            () = watch_queue(&serving, &queue) => {}
        }
        serving.set_ready(false);
        presence.stopping().await;
        replaying.stop_reloading();
        replaying.drain();
        let ReplayingEnd { mut journal, recorded, looped: _ } = replaying.end().await?;
        let recorded = recorded.and(journal.note_pauses(id, pauses.total()));
        let failed = queue_tasks.end().await.map(|(experiment, source)| {
            tracing::error!(%experiment, error = %source, "A part of the queue failed.");
            RunError::QueueTask { experiment, source }
        });
        // Everything has its fate by now, so that the last words are the final ones.
        all_done.send_replace(true);
        for publisher in publishing {
            if let Err(error) = publisher.await {
                tracing::error!(%error, "Telling results to other hosts failed.");
            }
        }
        serving.end().await;
        let cut_short = failed.or(disagreement.error());
        let redact = status.redact.clone();
        Ok(WorkerEnd { journal, recorded, cut_short, id, ledgers: status.ledgers(), redact })
    }
}

/// Says on the admin listener whether Redis does its part; never ends.
#[expect(clippy::infinite_loop, reason = "whoever waits for something else cuts it off")]
async fn watch_queue(serving: &Serving, queue: &QueueStatus) {
    loop {
        let failing = |(_, stats): &(Arc<str>, Arc<QueueStats>)| stats.failing.load(Ordering::Relaxed) > 0;
        let up = !queue.workers.iter().any(failing);
        queue.up.store(up, Ordering::Relaxed);
        serving.set_ready(up);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn limits(queue: &QueueConfig) -> WorkerLimits {
    WorkerLimits { entry: queue.entry, ..queue.worker.clone() }
}

/// Tells the queues of what the journal has kept.
fn telling(journal: &JournalConfig, kept: BTreeMap<Arc<str>, Kept>) -> OnKept {
    let mut finder = Finder::new(FindingLimits::default(), &journal.limits, cause_of);
    Box::new(move |comparisons: &[Comparison]| {
        let mut findings: BTreeMap<&Arc<str>, Vec<Finding>> = BTreeMap::new();
        for comparison in comparisons {
            findings.entry(&comparison.experiment).or_default().push(finder.find(comparison));
        }
        for (experiment, findings) in findings {
            if let Some(kept) = kept.get(experiment) {
                kept.keep(findings);
            }
        }
    })
}
