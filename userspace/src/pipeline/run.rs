//! The whole way in one process: capture, select, replay, compare, keep.
//!
//! Prints nothing; gives back what a report needs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::clock;
use super::comparator::ExternalComparator;
use super::feed::{Feed, FeedError};
use super::handover::{ComparisonReceiver, ComparisonSender, handover};
use super::judge::{Judge, Judging};
use super::lane::Lane;
use super::live::Live;
use super::pace::Pace;
use super::patience::Patience;
use super::record::{Noted, Recorder};
use super::reload::{Changeable, Reloader, Reloads, hung_up};
use super::replay::{ReplayEnd, Replayer};
use super::science::Science;
use super::settings::{CaptureConfig, Config, ExperimentConfig, Input, JournalConfig, RecordConfig};
use super::tape;
use super::tasks::{spawn, wait, wait_for_admin};
use super::thread::CaptureThread;
use crate::branch::{BranchConfigError, CapturedPorts, HttpBranch, LoopGuard};
use crate::compare::group::cause_of;
use crate::compare::noise::{NoiseConfigError, NoiseModel};
use crate::compare::{Comparator, CompareConfig, CompareConfigError};
use crate::journal::{ExperimentStart, Journal, JournalError, RunId, RunStart, SqliteJournal};
use crate::metrics::{CaptureCounts, ComparisonMetrics, ExperimentStatus, Metrics, ReplayStats, Status};
use crate::model::{Ledger, LedgerSnapshot};
use crate::queue::memory::{MemoryOffer, MemoryQueue, memory_queue};
use crate::recording::RecordingError;
use crate::report::{LiveExperiment, LiveLimits, PolicyError, VerdictPolicy};
use crate::select::{SelectConfigError, Selector};
use crate::serve::{Admin, AdminError};

/// A run that is set up: nothing is captured yet, and nothing can be wrong with the configuration any more.
pub struct Run {
    capture: CaptureConfig,
    admin: Option<Admin>,
    journal: JournalConfig,
    start: RunStart,
    lanes: Vec<Lane<MemoryOffer>>,
    replayers: Vec<Replayer<HttpBranch, MemoryQueue>>,
    comparisons: ComparisonReceiver,
    comparison_metrics: ComparisonMetrics,
    experiments: Vec<ExperimentStatus>,
    live: Arc<Live>,
    record: RecordConfig,
    changeable: Vec<Changeable>,
    running: Config,
    reloads: Option<Reloads>,
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
}

/// Said of an experiment that was stopped, and why.
pub const LOOPED: &str = "Stopped: replayed requests came back through the capture, so the candidate leads to the \
                          captured service.";

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No experiment is configured.
    #[error(
        "nothing to do: name a candidate with --candidate URL, or an [[experiment]] in the configuration"
    )]
    NoExperiment,
    /// No port is configured.
    #[error(
        "nothing to capture: name a port with --port, or `ports` under [capture] in the configuration, a capture file with --pcap, or a recording with --recording"
    )]
    NoPort,
    /// A rule does not parse.
    #[error("experiment `{experiment}`")]
    Select {
        /// The experiment.
        experiment: String,
        /// What is wrong.
        source: SelectConfigError,
    },
    /// A rule does not parse.
    #[error("experiment `{experiment}`")]
    Compare {
        /// The experiment.
        experiment: String,
        /// What is wrong.
        source: CompareConfigError,
    },
    /// A candidate cannot be used.
    #[error("experiment `{experiment}`")]
    Candidate {
        /// The experiment.
        experiment: String,
        /// What is wrong.
        source: BranchConfigError,
    },
    /// A twin cannot be used.
    #[error("experiment `{experiment}`: twin")]
    Twin {
        /// The experiment.
        experiment: String,
        /// What is wrong.
        source: BranchConfigError,
    },
    /// Noise cannot be measured like this.
    #[error("experiment `{experiment}`")]
    Noise {
        /// The experiment.
        experiment: String,
        /// What is wrong.
        source: NoiseConfigError,
    },
    /// A verdict policy cannot be kept.
    #[error("experiment `{experiment}`: its verdict policy cannot be written down")]
    Policy {
        /// The experiment.
        experiment: String,
        /// Why.
        source: PolicyError,
    },
    /// The admin listener cannot be had.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An experiment has the name under which the recording is counted.
    #[error(
        "an experiment is named `{}`, which is what the counts of --record stand under: name it otherwise",
        tape::NAME
    )]
    RecordingName,
    /// A recording is to be made, and nobody says where.
    #[error("nothing to do: name the recording with --record FILE")]
    NoRecording,
    /// The recording cannot be made or written.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The capture broke, or the recording that is read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A part of the pipeline panicked; its message is in the log.
    #[error("a part of the pipeline failed")]
    Task(#[source] tokio::task::JoinError),
    /// The kernel gives no thread.
    #[error("failed to start the capture thread")]
    Thread(#[source] io::Error),
}

// === impl Run ===

impl Run {
    /// Checks and opens everything that can be checked and opened without touching the traffic.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn prepare(config: Config) -> Result<Self, RunError> {
        let running = config.clone();
        let Config { capture, admin, journal, experiments, speed, record } = config;
        if experiments.is_empty() {
            return Err(RunError::NoExperiment);
        }
        if capture.input.is_live() && capture.kernel.ports.is_empty() {
            return Err(RunError::NoPort);
        }
        if record.path.is_some() && experiments.iter().any(|experiment| experiment.name == tape::NAME) {
            return Err(RunError::RecordingName);
        }
        let (comparison_tx, comparisons) = handover(journal.handover);
        let mut parts = Vec::new();
        for experiment in &experiments {
            parts.push(prepare_experiment(experiment, &capture, speed, comparison_tx.clone()).await?);
        }
        let admin = Admin::bind_if(admin).await?;
        let start = RunStart {
            started_at: clock::wall(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: match &capture.input {
                Input::Probe => format!("cgroup {}", capture.kernel.cgroup),
                Input::Pcap(path) => format!("capture file {}", path.display()),
                Input::Recording(path) => format!("recording {}", path.display()),
            },
            ports: capture.kernel.ports.clone(),
            experiments: parts.iter().map(|part| part.start.clone()).collect(),
        };
        let routes = experiments.iter().map(|experiment| experiment.select.route_labels());
        let names: Vec<_> = parts.iter().map(|part| Arc::clone(&part.start.name)).collect();
        let comparison_metrics = ComparisonMetrics::new(names.iter().zip(routes));
        let mut run = Self {
            capture,
            admin,
            journal,
            start,
            lanes: Vec::new(),
            replayers: Vec::new(),
            comparisons,
            comparison_metrics,
            experiments: Vec::new(),
            live: Arc::new(Live::new(Vec::new(), BTreeMap::new())),
            record,
            changeable: Vec::new(),
            running,
            reloads: None,
        };
        let mut live = Vec::new();
        for Prepared { start, verdict, lane, replayer, status, changeable } in parts {
            let ExperimentStart { name, candidate: _, rules: _, policy: _, routes, context: _ } = start;
            let limits = LiveLimits { causes_max: run.journal.limits.causes_max };
            live.push(LiveExperiment::new(name, verdict, routes, limits));
            run.changeable.push(changeable);
            run.lanes.push(lane);
            run.replayers.push(replayer);
            run.experiments.push(status);
        }
        let sciences = run.changeable.iter().map(|one| (Arc::clone(&one.name), Arc::clone(&one.science)));
        run.live = Arc::new(Live::new(live, sciences.collect()));
        Ok(run)
    }

    /// Reads the configuration again when it is asked to.
    pub fn reload(&mut self, reloads: Reloads) {
        self.reloads = Some(reloads);
    }

    /// The ledgers by experiment, to be looked at while it runs.
    pub fn ledgers(&self) -> Vec<(Arc<str>, Arc<Ledger>)> {
        let ledger = |status: &ExperimentStatus| (Arc::clone(&status.name), Arc::clone(&status.ledger));
        self.experiments.iter().map(ledger).collect()
    }

    /// What the run would be judged as now, to be looked at while it runs.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Where the admin listener listens.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        self.admin.as_ref().and_then(Admin::address)
    }

    /// Captures from `feed` until it ends, `stop` does, or no experiment is left that replays; then what is under
    /// way is finished within the limits.
    ///
    /// # Errors
    /// When it cannot start. What breaks later is in [`RunEnd`]: the counts and the other results are still to be had.
    pub async fn run(
        self,
        feed: impl Into<Feed>,
        stop: impl Future<Output = ()>,
    ) -> Result<RunEnd, RunError> {
        let Self {
            capture,
            admin,
            journal,
            start,
            lanes,
            replayers,
            comparisons,
            comparison_metrics,
            mut experiments,
            live,
            record,
            changeable,
            running,
            reloads,
        } = self;
        // Not earlier, so that a run that cannot start leaves no trace.
        let mut journal = SqliteJournal::open(&journal.path, journal.limits, cause_of)?;
        let (tape, writer) = tape::prepare(&record)?.unzip();
        let id = journal.begin(&RunStart { started_at: clock::wall(), ..start })?;
        let taping = writer.map(|writer| {
            experiments.push(writer.status());
            writer.start()
        });
        let sink = move |exchange, patience: &Patience| {
            let exchange = Arc::new(exchange);
            if let Some(tape) = &tape {
                tape.take(&exchange, patience);
            }
            lanes.iter().for_each(|lane| lane.take(&exchange, patience));
        };
        let mut thread = CaptureThread::start(feed.into(), &capture, sink).map_err(RunError::Thread)?;
        let status = Arc::new(Status { capture: thread.counts(), experiments });
        let (stop_all, _) = watch::channel(false);
        let (tell_ready, ready) = watch::channel(true);
        let admin = admin.map(|admin| {
            let metrics = Metrics::new(Arc::clone(&status), &comparison_metrics);
            spawn(admin.run(metrics, ready, wait(stop_all.subscribe())))
        });
        let (stop_replay, replay_stopping) = watch::channel(false);
        let replays: Vec<_> = replayers
            .into_iter()
            .map(|replayer| {
                let name = Arc::clone(&replayer.experiment);
                (name, spawn(replayer.run(wait(replay_stopping.clone()))))
            })
            .collect();
        let metrics = comparison_metrics;
        let noted = |one: &Changeable| Noted::new(Arc::clone(&one.name), Arc::clone(&one.science));
        let sciences = changeable.iter().map(noted).collect();
        let mut reloader = reloads.map(|reloads| {
            spawn(Reloader { reloads, running, experiments: changeable, metrics: metrics.clone() }.run())
        });
        let recorder =
            Recorder { journal, run: id, comparisons, metrics, status: Arc::clone(&status), live, sciences };
        // The journal blocks on its file; it gets a thread of its own and leaves the others to the network.
        let runtime = tokio::runtime::Handle::current();
        let mut recorder = tokio::task::spawn_blocking(move || runtime.block_on(recorder.run()));

        let (early_end, early_record) = tokio::select! {
            end = thread.ended() => (Some(end), None),
            // It ends when nobody makes comparisons any more, because every replay found a loop or failed, or when
            // it failed itself. To go on would be to capture for nothing.
            recorded = &mut recorder => (None, Some(recorded)),
            () = stop => (None, None),
            () = hung_up(&mut reloader) => (None, None),
        };
        tell_ready.send_replace(false);
        if let Some(reloader) = reloader {
            // Whatever it was about to change has nothing left to be changed for.
            reloader.abort();
        }
        if early_end.is_none() {
            // Before the queues close: what finds no room from now on is drained, where it would be shed.
            thread.stop();
        }
        stop_replay.send_replace(early_end.is_none());
        let (capture, broken) = thread.conclude(early_end).await;
        let mut looped = Vec::new();
        for (name, replay) in replays {
            match replay.await {
                Ok(ReplayEnd::Loop) => looped.push(name),
                Ok(ReplayEnd::Finished | ReplayEnd::Stopped) => {}
                Err(error) => tracing::error!(experiment = %name, %error, "A replay failed."),
            }
        }
        let recorded = match early_record {
            Some(recorded) => recorded,
            None => recorder.await,
        };
        if let Some(taping) = taping
            && let Err(error) = taping.finish().await
        {
            // What was found out stands all the same.
            tracing::error!(error = &error as &dyn std::error::Error, "The recording is not whole.");
        }
        let (mut journal, mut recorded) = recorded.map_err(RunError::Task)?;
        for name in &looped {
            recorded = recorded.and(journal.stop_experiment(id, name, LOOPED));
        }
        recorded = recorded.and(journal.finish(id, clock::wall()));
        stop_all.send_replace(true);
        wait_for_admin(admin).await;
        let ledgers = status
            .experiments
            .iter()
            .map(|experiment| (Arc::clone(&experiment.name), experiment.ledger.snapshot()))
            .collect();
        Ok(RunEnd { journal, recorded, id, capture, ledgers, looped, broken })
    }
}

/// One experiment, set up.
struct Prepared {
    start: ExperimentStart,
    verdict: VerdictPolicy,
    lane: Lane<MemoryOffer>,
    replayer: Replayer<HttpBranch, MemoryQueue>,
    status: ExperimentStatus,
    changeable: Changeable,
}

async fn prepare_experiment(
    config: &ExperimentConfig,
    capture: &CaptureConfig,
    speed: f64,
    comparisons: ComparisonSender,
) -> Result<Prepared, RunError> {
    let ExperimentConfig {
        name,
        select,
        candidate,
        twin,
        lag,
        replay,
        queue,
        compare,
        comparator: external,
        noise,
        context,
        verdict,
    } = config;
    let named = || name.clone();
    let selector =
        Selector::new(select.clone()).map_err(|source| RunError::Select { experiment: named(), source })?;
    let comparator = comparator_of(name, compare.clone())?;
    let is_live = capture.input.is_live();
    // What listens here has nothing to do with what was captured somewhere and some time ago.
    let guarded = if is_live { &capture.kernel.ports[..] } else { &[] };
    let guard = CapturedPorts::new(guarded.iter().copied());
    let refused = |source| RunError::Candidate { experiment: named(), source };
    let branch = HttpBranch::new(candidate.clone(), guard.clone()).map_err(refused)?;
    branch.resolve().await.map_err(refused)?;
    let twin = match twin {
        Some(twin) => {
            let refused = |source| RunError::Twin { experiment: named(), source };
            let twin = HttpBranch::new(twin.clone(), guard).map_err(refused)?;
            twin.resolve().await.map_err(refused)?;
            Some(Arc::new(twin))
        }
        None => None,
    };
    let model = NoiseModel::new(noise.model.clone())
        .map_err(|source| RunError::Noise { experiment: named(), source })?;
    let experiment: Arc<str> = name.as_str().into();
    let (offer, queue) = memory_queue(*queue);
    let ledger = Arc::new(Ledger::default());
    let loop_guard = Arc::new(LoopGuard::default());
    let stats = Arc::new(ReplayStats::default());
    // B's times at another speed than A's own say nothing about B.
    let verdict = VerdictPolicy { latency_judged: verdict.latency_judged && speed == 1.0, ..verdict.clone() };
    let start = ExperimentStart {
        name: Arc::clone(&experiment),
        candidate: candidate.url.clone(),
        rules: comparator.rules().map(Arc::clone).collect(),
        context: context.clone(),
        policy: verdict.to_text().map_err(|source| RunError::Policy { experiment: named(), source })?,
        routes: select.route_labels(),
    };
    let anchor = clock::anchor();
    let external = external.clone().map(|external| {
        let (name, stats) = (Arc::clone(&experiment), Arc::clone(&stats));
        Arc::new(ExternalComparator::new(external, compare.limits.clone(), name, stats))
    });
    let judge = Arc::new(Judge::new(Judging::new(Arc::new(comparator), external)));
    let limits = compare.limits.clone();
    let science = Arc::new(Science::new(judge, limits, twin.is_some(), noise.clone(), model));
    let selector = Arc::new(ArcSwap::from_pointee(selector));
    let changeable = Changeable {
        name: Arc::clone(&experiment),
        selector: Arc::clone(&selector),
        science: Arc::clone(&science),
        stats: Arc::clone(&stats),
    };
    Ok(Prepared {
        start,
        verdict,
        changeable,
        lane: Lane {
            selector,
            offer,
            ledger: Arc::clone(&ledger),
            loop_guard: is_live.then(|| Arc::clone(&loop_guard)),
        },
        status: ExperimentStatus { name: Arc::clone(&experiment), ledger, replay: Some(Arc::clone(&stats)) },
        replayer: Replayer {
            experiment,
            branch: Arc::new(branch),
            twin,
            queue,
            pace: if is_live { Pace::live(anchor, *lag) } else { Pace::offline(speed) },
            anchor,
            limits: *replay,
            science: Arc::clone(&science),
            comparisons,
            loop_guard,
            stats,
        },
    })
}

fn comparator_of(experiment: &str, config: CompareConfig) -> Result<Comparator, RunError> {
    Comparator::new(config).map_err(|source| RunError::Compare { experiment: experiment.to_owned(), source })
}

#[cfg(test)]
mod tests;
