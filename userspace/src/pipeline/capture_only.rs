//! Capture alone: into a recording, into the queue between hosts, or into both.
//!
//! Sends nothing to a candidate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::capturing::Capturing;
use super::error::{PartError, RunError};
use super::feed::{Feed, FeedError};
use super::fleet::{CaptureTeller, PublishLimits, Publisher, member_name, pause_share};
use super::lane::Lane;
use super::link::{Agreement, Disagreement, agree_on, connect, random_id};
use super::notify::{Notifier, Presence};
use super::protect::ceilings;
use super::protect::pause::{PauseFlag, Pauses};
use super::reload::{Reloader, Reloads, hung_up};
use super::replaying::LOOPED;
use super::secrets::{Reach, Secrets};
use super::serving::Serving;
use super::settings::{Config, QueueConfig};
use super::tape;
use super::tasks::{spawn, wait};
use super::thread::Guard;
use super::upload::{Channel, UploadParts, Uploader};
use crate::branch::LoopGuard;
use crate::metrics::{
    CaptureCounts, ComparisonMetrics, ExperimentStatus, Metrics, PauseStats, QueueStatus, RedactStats,
    SpoolStats, Status, UploadStats,
};
use crate::model::{Ledger, LedgerSnapshot};
use crate::queue::entry::EntryEncoder;
use crate::queue::memory::{MemoryOffer, memory_queue};
use crate::queue::redis::results::{Results, ResultsLimits, Role};
use crate::queue::redis::{Appender, Keys, ProducerId, RedisConfig};
use crate::report::CaptureShare;
use crate::select::Selector;
use crate::serve::Admin;
use crate::spool::Spool;

/// What it came to.
pub struct CaptureEnd {
    /// What the capture side counted.
    pub capture: CaptureCounts,
    /// What became of the exchanges.
    pub ledgers: Vec<(Arc<str>, LedgerSnapshot)>,
    /// Experiments that were stopped because their own requests came back.
    pub looped: Vec<Arc<str>>,
    /// Why it ended by itself, if others have agreed on another number of shards. What could not be sent is in the spool.
    pub disagreement: Option<RunError>,
    /// Why no more could be captured, if so. What was captured before is where it belongs.
    pub broken: Option<FeedError>,
    /// What was hidden, or would have been; none where nothing was looked for.
    pub redact: Option<Arc<RedactStats>>,
}

/// A capture that is set up: Redis has answered and the spool is open; nothing is captured yet, and no recording made.
pub struct CaptureOnly {
    upload: Option<Upload>,
    config: Config,
    reloads: Option<Reloads>,
    secrets: Option<Arc<Secrets>>,
    pauses: Pauses,
    guard: Guard,
}

/// The way into the queue, set up.
struct Upload {
    lanes: Vec<Lane<MemoryOffer>>,
    guards: Vec<(Arc<str>, Arc<LoopGuard>)>,
    statuses: Vec<ExperimentStatus>,
    queue: Arc<QueueStatus>,
    uploader: Uploader<Appender>,
    /// This process's name in Redis.
    id: String,
    sources: Vec<Source>,
    disagreement: Disagreement,
}

/// What a capture tells the others of one experiment, and where.
struct Source {
    results: Results,
    agreement: Agreement,
    ledger: Arc<Ledger>,
    loop_guard: Arc<LoopGuard>,
    stats: Arc<UploadStats>,
    /// None where entries of several experiments lie in the spool: nobody knows whose are left there.
    spool: Option<Arc<SpoolStats>>,
}

/// How often it is looked whether Redis does its part.
const LOOK_EVERY: Duration = Duration::from_millis(500);

// === impl CaptureOnly ===

impl CaptureOnly {
    /// Opens queue and spool where a Redis is given. Comes before the feed is opened: Redis may keep it waiting for seconds.
    ///
    /// # Errors
    /// When there is nothing to capture into, or something of it cannot be used.
    pub async fn prepare(config: &Config, redis: Option<&RedisConfig>) -> Result<Self, RunError> {
        let memory_max =
            ceilings::memory_max(&config.protect, ceilings::bounds(config, ceilings::Role::Capture))?;
        let reach = if redis.is_some() { Reach::Fleet } else { Reach::Process };
        let secrets = Secrets::of(&config.redact, reach)?;
        let upload = match (&config.queue, redis) {
            (Some(queue), Some(redis)) => {
                Some(Upload::prepare(config, queue, redis, secrets.as_ref()).await?)
            }
            (Some(_), None) | (None, _) => None,
        };
        if upload.is_none() && config.record.path.is_none() {
            return Err(RunError::NoQueue);
        }
        // A file is read when it is read: the time of the week says nothing about it.
        let is_live = config.capture.input.is_live();
        let pauses = Pauses::start(if is_live { &config.protect.pauses } else { &[] });
        let guard = Guard { pause: pauses.flag(), memory_max, stall_max: config.protect.stall_max };
        Ok(Self { upload, config: config.clone(), reloads: None, secrets, pauses, guard })
    }

    /// Reads the configuration again when it is asked to: what is selected for the queue can change.
    pub fn reload(&mut self, reloads: Reloads) {
        self.reloads = Some(reloads);
    }

    /// Whether the process pauses: a feed that is opened meanwhile is to copy nothing yet.
    pub fn pause(&self) -> &PauseFlag {
        &self.guard.pause
    }

    /// Captures until the feed ends or `stop` does; with a recording alone, also until that is at its bound. Then what is
    /// under way is uploaded within the limits, and the rest is left in the spool.
    ///
    /// # Errors
    /// When it cannot start, or the recording cannot be made or written.
    pub async fn run(
        self,
        feed: impl Into<Feed>,
        admin: Option<Admin>,
        stop: impl Future<Output = ()>,
    ) -> Result<CaptureEnd, RunError> {
        let Self { upload, config, reloads, secrets, pauses, guard } = self;
        // Not earlier, so that a capture that cannot start leaves no empty file behind.
        let tape = tape::prepare(&config.record, secrets.clone())?;
        let is_live = config.capture.input.is_live();
        let (mut lanes, mut guards, mut experiments) = (Vec::new(), Vec::new(), Vec::new());
        let (mut queue, mut uploader) = (None, None);
        let (mut id, mut sources, mut disagreement) = (String::new(), Vec::new(), Disagreement::default());
        if let Some(upload) = upload {
            (lanes, guards, experiments) = (upload.lanes, upload.guards, upload.statuses);
            (queue, uploader) = (Some(upload.queue), Some(upload.uploader));
            (id, sources, disagreement) = (upload.id, upload.sources, upload.disagreement);
        }
        let selectors = lanes.iter().map(|lane| Arc::clone(&lane.selector)).collect();
        let mut capturing = Capturing::start(feed.into(), &config.capture, &guard, lanes, tape)?;
        experiments.extend(capturing.take_tape_status());
        let status = Arc::new(Status {
            capture: Some(capturing.counts()),
            experiments,
            queue: queue.clone(),
            redact: secrets.as_ref().map(|secrets| secrets.stats()),
            pause: pauses.stats(),
            ..Status::default()
        });
        let metrics = ComparisonMetrics::new([]);
        let intake = config.observe.then(|| capturing.intake());
        let control = is_live.then(|| pauses.control());
        let serving = Serving::start(admin, intake, control, || Metrics::new(Arc::clone(&status), &metrics));
        let thread = is_live.then(|| capturing.counts());
        let mut reloader = reloads.map(|reloads| {
            spawn(Reloader { reloads, running: config, experiments: selectors, metrics }.run())
        });
        let (stop_upload, stopping) = watch::channel(false);
        let uploading = uploader.map(|uploader| start(uploader, stopping));
        let (all_done, done) = watch::channel(false);
        let publish = |source: Source| {
            let publisher = source.publisher(&id, capturing.counts(), pauses.stats());
            spawn(publisher.run(wait(done.clone())))
        };
        let publishing: Vec<_> = sources.into_iter().map(publish).collect();
        let presence = Presence::start(Notifier::from_environment(), Arc::clone(&status), thread);
        let over = async {
            match &queue {
                Some(_) => capturing.ended().await,
                None => capturing.ended_or_full().await,
            }
        };
        tokio::select! {
            () = over => {}
            () = stop => {}
            () = hung_up(&mut reloader) => {}
            () = disagreement.found() => {}
            () = watch_queue(&serving, queue.as_deref()) => {}
            () = all_looped(&guards) => {}
        }
        serving.set_ready(false);
        presence.stopping().await;
        if capturing.has_stalled() {
            pauses.note_stall();
        }
        if let Some(reloader) = reloader {
            reloader.abort();
        }
        let (capture, broken) = capturing.conclude().await;
        // A capture thread that hangs keeps its side of the queues for ever.
        stop_upload.send_replace(true);
        let uploaded = match uploading {
            Some(uploading) => uploading.await.map_err(RunError::Task),
            None => Ok(()),
        };
        // Everything has its fate by now, so that the last words are the final ones.
        all_done.send_replace(true);
        for publisher in publishing {
            if let Err(error) = publisher.await {
                tracing::error!(%error, "Telling other hosts what was captured failed.");
            }
        }
        let written = capturing.finish_tape().await;
        serving.end().await;
        written.and(uploaded)?;
        let looped =
            guards.into_iter().filter(|(_, guard)| guard.is_tripped()).map(|(name, _)| name).collect();
        let (disagreement, redact) = (disagreement.error(), status.redact.clone());
        Ok(CaptureEnd { capture, ledgers: status.ledgers(), looped, disagreement, broken, redact })
    }
}

// === impl Upload ===

impl Upload {
    async fn prepare(
        config: &Config,
        queue: &QueueConfig,
        redis: &RedisConfig,
        secrets: Option<&Arc<Secrets>>,
    ) -> Result<Self, RunError> {
        let redact = Secrets::agreement(secrets);
        let Config { capture, experiments, spool, .. } = config;
        if experiments.is_empty() {
            return Err(RunError::NoExperiment);
        }
        if config.record.path.is_some() && experiments.iter().any(|experiment| experiment.name == tape::NAME)
        {
            return Err(RunError::RecordingName);
        }
        let redis = connect(redis).await?;
        let producer = random_id()?;
        let appender = {
            let (redis, prefix, limits) = (redis.clone(), queue.prefix.clone(), queue.append.clone());
            move |experiment: &str, producer: u128| {
                let keys = Keys::new(&prefix, experiment);
                Appender::new(redis.clone(), keys, limits.clone(), ProducerId::new(producer))
            }
        };
        let (mut lanes, mut guards, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
        let (mut channels, mut uploads, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        let disagreement = Disagreement::default();
        let spool_stats = Arc::new(SpoolStats::default());
        let of_spool = (experiments.len() == 1).then(|| Arc::clone(&spool_stats));
        for experiment in experiments {
            let name: Arc<str> = experiment.name.as_str().into();
            let selector = Selector::new(experiment.select.clone())
                .map_err(|error| PartError::from(error).of(&experiment.name))?;
            agree_on(&redis, queue, &name, (&redact, None)).await?;
            let (offer, waiting) = memory_queue(experiment.queue);
            let ledger = Arc::new(Ledger::default());
            let loop_guard = Arc::new(LoopGuard::default());
            let stats = Arc::new(UploadStats::default());
            uploads.push((Arc::clone(&name), Arc::clone(&stats)));
            sources.push(Source {
                results: Results::new(redis.clone(), &queue.prefix, &name, ResultsLimits::default()),
                agreement: Agreement::new(&redis, queue, &name, (&redact, None)).watched_by(&disagreement),
                ledger: Arc::clone(&ledger),
                loop_guard: Arc::clone(&loop_guard),
                stats: Arc::clone(&stats),
                spool: of_spool.clone(),
            });
            guards.push((Arc::clone(&name), Arc::clone(&loop_guard)));
            statuses.push(ExperimentStatus {
                name: Arc::clone(&name),
                ledger: Arc::clone(&ledger),
                replay: None,
            });
            lanes.push(Lane {
                selector: Arc::new(ArcSwap::from_pointee(selector)),
                offer,
                ledger: Arc::clone(&ledger),
                loop_guard: capture.input.is_live().then_some(loop_guard),
                sent_elsewhere: true,
            });
            let appender = appender(&name, producer);
            channels.push(Channel { name, queue: waiting, appender, ledger, stats });
        }
        spool_stats.bytes_max.store(spool.bytes_max, Ordering::Relaxed);
        let (spool, recovered) = Spool::open(spool.clone())?;
        if recovered.frames > 0 {
            tracing::info!(
                entries = recovered.frames,
                "Entries of an earlier process lie in the spool; they go first."
            );
        }
        let status = QueueStatus { uploads, spool: Some(Arc::clone(&spool_stats)), ..QueueStatus::default() };
        let status = Arc::new(status);
        let uploader = Uploader::new(UploadParts {
            limits: queue.upload,
            channels,
            shards: queue.shards,
            session: queue.session.clone(),
            encoder: EntryEncoder::new(queue.entry)?,
            spool,
            spool_stats,
            producer,
            make_appender: Box::new(move |experiment, producer| appender(experiment, producer)),
            status: Arc::clone(&status),
            secrets: secrets.cloned(),
        });
        let uploader = uploader.watching(&disagreement);
        let id = ProducerId::new(producer).to_string();
        Ok(Self { lanes, guards, statuses, queue: status, uploader, id, sources, disagreement })
    }
}

// === impl Source ===

impl Source {
    /// Tells it until the upload is over.
    fn publisher(
        self,
        id: &str,
        counts: watch::Receiver<CaptureCounts>,
        pauses: Arc<PauseStats>,
    ) -> Publisher<CaptureTeller<impl FnMut(bool) -> CaptureShare + Send + use<>>> {
        let Self { results, agreement, ledger, loop_guard, stats, spool } = self;
        let share = move |ended| {
            let left = spool.as_ref().map_or(0, |spool| spool.former.load(Ordering::Relaxed));
            let drops = counts.borrow().source.drops.iter().map(|(why, n)| ((*why).to_owned(), *n)).collect();
            CaptureShare {
                ledger: ledger.snapshot(),
                recovered: stats.recovered.load(Ordering::Relaxed).saturating_add(left),
                recovered_left: left,
                given_up: stats.given_up().collect(),
                drops,
                stopped: loop_guard.is_tripped().then(|| LOOPED.to_owned()),
                pause: pause_share(&pauses),
                ended,
            }
        };
        let teller = CaptureTeller { name: member_name(), share };
        Publisher::new(results, Role::Capture, id.to_owned(), teller, PublishLimits::default())
            .agreeing(agreement)
    }
}

/// Uploads on a thread of its own: it encodes, and waits for the disk.
fn start(uploader: Uploader<Appender>, stopping: watch::Receiver<bool>) -> JoinHandle<()> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(uploader.run(wait(stopping))))
}

/// Ends when there is nothing left to capture for: when the requests of every experiment came back. Says of each when its own
/// do. Never ends where there is no experiment.
async fn all_looped(guards: &[(Arc<str>, Arc<LoopGuard>)]) {
    if guards.is_empty() {
        std::future::pending::<()>().await;
    }
    let tell = |(experiment, guard): &(Arc<str>, Arc<LoopGuard>)| {
        let (experiment, guard) = (Arc::clone(experiment), Arc::clone(guard));
        async move {
            guard.wait_tripped().await;
            tracing::error!(%experiment, "{LOOPED}");
        }
    };
    let mut waiting: JoinSet<()> = guards.iter().map(tell).collect();
    while waiting.join_next().await.is_some() {}
}

/// Says on the admin listener whether Redis does its part; never ends.
#[expect(clippy::infinite_loop, reason = "whoever waits for something else cuts it off")]
async fn watch_queue(serving: &Serving, queue: Option<&QueueStatus>) {
    let Some(queue) = queue else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        serving.set_ready(queue.up.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::branch::Returned;
    use crate::model::ExchangeId;

    fn trip(guard: &LoopGuard) {
        let id = ExchangeId { flow: 7, offset: 100 };
        guard.note_sent(id);
        guard.note_taken(0);
        assert_eq!(guard.saw(id, 0), Returned::Looped);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_once_the_requests_of_every_experiment_came_back() {
        let guards = ["a", "b"].map(|name| (Arc::from(name), Arc::new(LoopGuard::default())));
        let is_over = async |guards: &[(Arc<str>, Arc<LoopGuard>)]| {
            tokio::time::timeout(LOOK_EVERY, all_looped(guards)).await.is_ok()
        };
        assert!(!is_over(&guards).await);
        trip(&guards[1].1);
        assert!(!is_over(&guards).await, "the other one goes on");
        trip(&guards[0].1);
        assert!(is_over(&guards).await);
        assert!(!is_over(&[]).await, "a recording alone has no loop");
    }
}
