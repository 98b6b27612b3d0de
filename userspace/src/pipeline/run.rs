//! The whole way in one process: capture, select, replay, compare, keep.
//!
//! Prints nothing; gives back what a report needs.

use std::sync::Arc;

use super::capturing::Capturing;
use super::experiment::Timing;
use super::feed::{Feed, FeedError};
use super::lane::Lane;
use super::live::Live;
use super::notify::{Notifier, Presence};
use super::protect::ceilings::{self, Role};
use super::protect::pause::{PauseFlag, Pauses};
use super::reload::Reloads;
use super::replaying::{Replaying, ReplayingEnd, Replays};
use super::secrets::{Reach, Secrets};
use super::serving::Serving;
use super::settings::{CaptureConfig, Config, Input, RecordConfig};
use super::tape;
use super::thread::Guard;
use crate::branch::CapturedPorts;
use crate::journal::{Journal as _, JournalError, RunId, SqliteJournal};
use crate::metrics::{CaptureCounts, Metrics, RedactStats, Status};
use crate::model::{Ledger, LedgerSnapshot};
use crate::queue::memory::{MemoryOffer, MemoryQueue, memory_queue};
use crate::serve::Admin;

pub use super::error::{ExperimentError, PartError, RunError};
pub use super::replaying::LOOPED;

/// A run that is set up: nothing is captured yet, and nothing can be wrong with the configuration any more.
pub struct Run {
    capture: CaptureConfig,
    admin: Option<Admin>,
    lanes: Vec<Lane<MemoryOffer>>,
    replays: Replays<MemoryQueue>,
    record: RecordConfig,
    observe: bool,
    secrets: Option<Arc<Secrets>>,
    pauses: Pauses,
    guard: Guard,
}

/// What a run came to.
pub struct RunEnd {
    /// The journal, with everything in it that could be kept.
    pub journal: SqliteJournal,
    /// The first thing that could not be kept.
    pub recorded: Result<(), JournalError>,
    /// The run's name there.
    pub id: RunId,
    /// What the capture side counted.
    pub capture: CaptureCounts,
    /// The ledgers by experiment.
    pub ledgers: Vec<(Arc<str>, LedgerSnapshot)>,
    /// Experiments that were stopped because their own requests came back.
    pub looped: Vec<Arc<str>>,
    /// Why no more could be captured, if so. What was captured before has been replayed.
    pub broken: Option<FeedError>,
    /// What was hidden, or would have been; none where nothing was looked for.
    pub redact: Option<Arc<RedactStats>>,
}

// === impl Run ===

impl Run {
    /// Checks and opens everything that can be checked and opened without touching the traffic.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn prepare(config: Config) -> Result<Self, RunError> {
        let Config {
            capture,
            admin,
            observe,
            journal: _,
            experiments,
            speed,
            record,
            queue: _,
            spool: _,
            redact,
            protect,
        } = &config;
        if experiments.is_empty() {
            return Err(RunError::NoExperiment);
        }
        let is_live = capture.input.is_live();
        if is_live && capture.kernel.ports.is_empty() {
            return Err(RunError::NoPort);
        }
        if record.path.is_some() && experiments.iter().any(|experiment| experiment.name == tape::NAME) {
            return Err(RunError::RecordingName);
        }
        let memory_max = ceilings::memory_max(protect, ceilings::bounds(&config, Role::Run))?;
        // A file is read when it is read: the time of the week says nothing about it.
        let pauses = Pauses::start(if is_live { &protect.pauses } else { &[] });
        let guard_of_host = Guard { pause: pauses.flag(), memory_max, stall_max: protect.stall_max };
        // What listens here has nothing to do with what was captured somewhere and some time ago.
        let guarded = if is_live { &capture.kernel.ports[..] } else { &[] };
        let guard = CapturedPorts::new(guarded.iter().copied());
        let timing = if is_live { Timing::Live } else { Timing::Offline { speed: *speed } };
        let (mut offers, mut queues) = (Vec::new(), Vec::new());
        for experiment in experiments {
            let (offer, queue) = memory_queue(experiment.queue);
            let ledger = Arc::new(Ledger::default());
            offers.push((offer, Arc::clone(&ledger)));
            queues.push((queue, ledger));
        }
        let secrets = Secrets::of(redact, Reach::Process)?;
        let replays =
            Replays::prepare(&config, &guard, (timing, secrets.clone()), queues, &pauses.flag()).await?;
        let parts = replays.changeable.iter().zip(&replays.replayers).zip(offers);
        let lanes = parts.map(|((changeable, replayer), (offer, ledger))| Lane {
            selector: Arc::clone(&changeable.selector),
            offer,
            ledger,
            loop_guard: is_live.then(|| Arc::clone(&replayer.loop_guard)),
            sent_elsewhere: false,
        });
        let lanes = lanes.collect();
        let observe = *observe;
        let admin = Admin::bind_if(admin.clone()).await?;
        let Config { capture, record, .. } = config;
        Ok(Self { capture, admin, lanes, replays, record, observe, secrets, pauses, guard: guard_of_host })
    }

    /// Reads the configuration again when it is asked to.
    pub fn reload(&mut self, reloads: Reloads) {
        self.replays.reload(reloads);
    }

    /// The ledgers by experiment, to be looked at while it runs.
    pub fn ledgers(&self) -> Vec<(Arc<str>, Arc<Ledger>)> {
        self.replays.ledgers()
    }

    /// What the run would be judged as now, to be looked at while it runs.
    pub fn live(&self) -> Arc<Live> {
        self.replays.live()
    }

    /// Where the admin listener listens.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().and_then(Admin::address)
    }

    /// Whether the process pauses: a feed that is opened meanwhile is to copy nothing yet.
    pub fn pause(&self) -> &PauseFlag {
        &self.guard.pause
    }

    /// Captures from `feed` until it ends, `stop` does, or no experiment is left that replays. What came of a feed that
    /// ends by itself is replayed at its own times, until `stop` ends; then what is under way is finished within the
    /// limits.
    ///
    /// # Errors
    /// When it cannot start. What breaks later is in [`RunEnd`]: the counts and the other results are still to be had.
    pub async fn run(
        self,
        feed: impl Into<Feed>,
        stop: impl Future<Output = ()>,
    ) -> Result<RunEnd, RunError> {
        let Self { capture, admin, lanes, mut replays, record, observe, secrets, pauses, guard } = self;
        // Not earlier, so that a run that cannot start leaves no trace.
        let journal = replays.open_journal()?;
        let tape = tape::prepare(&record, secrets.clone())?;
        let begun = replays.begin(journal, summary(&capture), capture.kernel.ports.clone())?;
        let id = begun.id;
        let mut capturing = Capturing::start(feed.into(), &capture, &guard, lanes, tape)?;
        let mut experiments = replays.take_statuses();
        experiments.extend(capturing.take_tape_status());
        let status = Arc::new(Status {
            capture: Some(capturing.counts()),
            experiments,
            pause: pauses.stats(),
            redact: secrets.as_ref().map(|secrets| secrets.stats()),
            regressions: Some(replays.regressions()),
            ..Status::default()
        });
        let intake = observe.then(|| capturing.intake());
        let control = capture.input.is_live().then(|| pauses.control());
        let serving =
            Serving::start(admin, intake, control, || Metrics::new(Arc::clone(&status), &replays.metrics));
        let mut replaying: Replaying = replays.start(begun, Arc::clone(&status));
        let is_live = capture.input.is_live();
        let thread = is_live.then(|| capturing.counts());
        let presence = Presence::start(Notifier::from_environment(), Arc::clone(&status), thread);

        let mut stop = std::pin::pin!(stop);
        tokio::select! {
            () = capturing.ended() => {}
            // To go on would be to capture for nothing.
            () = replaying.over() => {}
            () = &mut stop => {}
        }
        let has_ended = capturing.has_ended();
        if has_ended && !is_live {
            // A file is read long before its last exchange is due: most of the work is still to be done.
            replaying.over_or(&mut stop).await;
        }
        serving.set_ready(false);
        presence.stopping().await;
        if capturing.has_stalled() {
            pauses.note_stall();
        }
        replaying.stop_reloading();
        if !has_ended {
            // Before the queues close: what finds no room from now on is drained, where it would be shed.
            capturing.stop();
        } else if is_live {
            // Traffic is captured no more, but the last of it waits for its time.
            replaying.over_or(&mut stop).await;
        }
        replaying.drain();
        let (capture, broken) = capturing.conclude().await;
        let ReplayingEnd { mut journal, recorded, looped } = replaying.end().await?;
        let recorded = recorded.and(journal.note_pauses(id, pauses.total()));
        if let Err(error) = capturing.finish_tape().await {
            // What was found out stands all the same.
            tracing::error!(error = &error as &dyn std::error::Error, "The recording is not whole.");
        }
        serving.end().await;
        Ok(RunEnd {
            journal,
            recorded,
            id,
            capture,
            ledgers: status.ledgers(),
            looped,
            broken,
            redact: status.redact.clone(),
        })
    }
}

/// Where the exchanges of a run come from, in one line.
fn summary(capture: &CaptureConfig) -> String {
    match &capture.input {
        Input::Probe => capture.kernel.hook.to_string(),
        Input::Pcap(path) => format!("capture file {}", path.display()),
        Input::Recording(path) => format!("recording {}", path.display()),
    }
}

#[cfg(test)]
mod tests;
