//! The half that replays: experiments over any queue, what compares, and the journal.
//!
//! Captures nothing, and does not know where its exchanges were captured.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use super::clock;
use super::error::RunError;
use super::experiment::{self, Prepared, Timing};
use super::fleet::WorkerTeller;
use super::handover::{ComparisonReceiver, handover};
use super::live::Live;
use super::protect::pause::PauseFlag;
use super::record::{Noted, OnKept, Recorder};
use super::reload::{Changeable, NoMore, Reloader, Reloads, hung_up};
use super::replay::{ReplayEnd, Replayer};
use super::secrets::Secrets;
use super::settings::{Config, JournalConfig};
use super::tasks::{spawn, wait};
use crate::branch::{CapturedPorts, HttpBranch};
use crate::compare::group::cause_of;
use crate::journal::{ExperimentStart, Journal as _, JournalError, RunId, RunStart, SqliteJournal};
use crate::metrics::{ComparisonMetrics, ExperimentStatus, PauseStats, RegressionSource, Status};
use crate::model::Ledger;
use crate::queue::Queue;
use crate::report::{LiveExperiment, LiveLimits, MemberName, RegressionConfig, RegressionWatch};

/// Experiments that are set up; nothing was sent yet.
pub(super) struct Replays<Q> {
    pub(super) replayers: Vec<Replayer<HttpBranch, Q>>,
    pub(super) changeable: Vec<Changeable>,
    pub(super) metrics: ComparisonMetrics,
    statuses: Vec<ExperimentStatus>,
    starts: Vec<ExperimentStart>,
    comparisons: ComparisonReceiver,
    live: Arc<Live>,
    journal: JournalConfig,
    running: Config,
    reloads: Option<Reloads>,
    on_kept: Option<OnKept>,
}

/// A journal with a run in it that has begun.
pub(super) struct Begun {
    journal: SqliteJournal,
    /// The run's name.
    pub(super) id: RunId,
}

/// Experiments that are replayed.
pub(super) struct Replaying {
    run: RunId,
    replays: Vec<(Arc<str>, JoinHandle<ReplayEnd>)>,
    stop: watch::Sender<bool>,
    reloader: Option<JoinHandle<NoMore>>,
    recorder: JoinHandle<Recording>,
    recorded: Option<Result<Recording, JoinError>>,
}

/// What a recorder gives back.
type Recording = (SqliteJournal, Result<(), JournalError>);

/// What replaying came to.
pub(super) struct ReplayingEnd {
    /// The journal, with everything in it that could be kept.
    pub(super) journal: SqliteJournal,
    /// The first thing that could not be kept.
    pub(super) recorded: Result<(), JournalError>,
    /// Experiments that were stopped because their own requests came back.
    pub(super) looped: Vec<Arc<str>>,
}

/// Said of an experiment that was stopped, and why.
pub const LOOPED: &str = "Stopped: replayed requests came back through the capture, so the candidate leads to the \
                          captured service; or it listens on a captured port of this host and others ask it, too: then \
                          name the captured service's own `--cgroup`, or give the candidate another port.";

// === impl Replays ===

impl<Q: Queue + 'static> Replays<Q> {
    /// Sets every experiment up, in the order of the configuration, with its queue and the ledger that this counts in.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) async fn prepare(
        config: &Config,
        guard: &CapturedPorts,
        (timing, secrets): (Timing, Option<Arc<Secrets>>),
        queues: Vec<(Q, Arc<Ledger>)>,
        pause: &PauseFlag,
    ) -> Result<Self, RunError> {
        let Config { journal, experiments, .. } = config;
        if experiments.is_empty() {
            return Err(RunError::NoExperiment);
        }
        let (comparison_tx, comparisons) = handover(journal.handover);
        let mut parts = Vec::new();
        for (experiment, queue) in experiments.iter().zip(queues) {
            let (guard, comparisons) = (guard.clone(), comparison_tx.clone());
            let (anchor, pause) = (clock::anchor(), pause.clone());
            let timing = (timing, secrets.clone());
            let part = experiment::prepare(experiment, guard, timing, anchor, queue, comparisons, pause);
            parts.push(part.await?);
        }
        let routes = experiments.iter().map(|experiment| experiment.select.route_labels());
        let names: Vec<_> = parts.iter().map(|part| Arc::clone(&part.start.name)).collect();
        let mut replays = Self {
            replayers: Vec::new(),
            changeable: Vec::new(),
            metrics: ComparisonMetrics::new(names.iter().zip(routes)),
            statuses: Vec::new(),
            starts: parts.iter().map(|part| part.start.clone()).collect(),
            comparisons,
            live: Arc::new(Live::new(Vec::new(), Default::default())),
            journal: journal.clone(),
            running: config.clone(),
            reloads: None,
            on_kept: None,
        };
        let mut live = Vec::new();
        for Prepared { start, verdict, replayer, status, changeable } in parts {
            let ExperimentStart { name, candidate: _, rules: _, policy: _, routes, context: _ } = start;
            let limits = LiveLimits { causes_max: journal.limits.causes_max };
            let watch = RegressionWatch::new(
                Arc::clone(&name),
                &verdict,
                routes.iter().map(Arc::clone),
                RegressionConfig::default(),
            );
            live.push((LiveExperiment::new(name, verdict, routes, limits), watch));
            replays.changeable.push(changeable);
            replays.replayers.push(replayer);
            replays.statuses.push(status);
        }
        let science = |one: &Changeable| (Arc::clone(&one.name), Arc::clone(&one.science));
        replays.live = Arc::new(Live::new(live, replays.changeable.iter().map(science).collect()));
        Ok(replays)
    }

    /// Reads the configuration again when it is asked to.
    pub(super) fn reload(&mut self, reloads: Reloads) {
        self.reloads = Some(reloads);
    }

    /// Tells somebody of comparisons once the journal has kept them; the journal must not fail then, or all of it ends.
    pub(super) fn tell(&mut self, on_kept: OnKept) {
        self.on_kept = Some(on_kept);
    }

    /// The ledgers by experiment.
    pub(super) fn ledgers(&self) -> Vec<(Arc<str>, Arc<Ledger>)> {
        let ledger = |status: &ExperimentStatus| (Arc::clone(&status.name), Arc::clone(&status.ledger));
        self.statuses.iter().map(ledger).collect()
    }

    /// What each has to tell other hosts of a fleet.
    pub(super) fn tellers(&self, name: &MemberName, pauses: &Arc<PauseStats>) -> Vec<WorkerTeller> {
        let science = |experiment: &Arc<str>| {
            let one = self.changeable.iter().find(|one| one.name == *experiment);
            one.map(|one| Arc::clone(&one.science))
        };
        let guard = |experiment: &Arc<str>| {
            let one = self.replayers.iter().find(|one| one.experiment == *experiment);
            one.map(|one| Arc::clone(&one.loop_guard))
        };
        let teller = |(experiment, ledger): (Arc<str>, Arc<Ledger>)| {
            let (science, guard) = (science(&experiment)?, guard(&experiment)?);
            let (name, pauses) = (name.clone(), Arc::clone(pauses));
            Some(WorkerTeller::new(name, experiment, ledger, science, self.live(), guard, pauses))
        };
        self.ledgers().into_iter().filter_map(teller).collect()
    }

    /// What they would be judged as now.
    pub(super) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// What the evidence says of their candidates, for metrics.
    pub(super) fn regressions(&self) -> RegressionSource {
        let live = self.live();
        RegressionSource::new(move || live.regressions())
    }

    /// What is known of each at its start.
    pub(super) fn starts(&self) -> &[ExperimentStart] {
        &self.starts
    }

    /// What can be exported of each; once.
    pub(super) fn take_statuses(&mut self) -> Vec<ExperimentStatus> {
        std::mem::take(&mut self.statuses)
    }

    /// Opens the journal. Begins no run yet, so that one that cannot start for another reason leaves no trace.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open_journal(&self) -> Result<SqliteJournal, JournalError> {
        SqliteJournal::open(&self.journal.path, self.journal.limits.clone(), cause_of)
    }

    /// Begins a run in the journal. `summary` says in one line where its exchanges come from.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub(super) fn begin(
        &self,
        mut journal: SqliteJournal,
        summary: String,
        ports: Vec<u16>,
    ) -> Result<Begun, JournalError> {
        let start = RunStart {
            started_at: clock::wall(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary,
            ports,
            experiments: self.starts.clone(),
        };
        let id = journal.begin(&start)?;
        Ok(Begun { journal, id })
    }

    /// Replays from now on.
    pub(super) fn start(self, begun: Begun, status: Arc<Status>) -> Replaying {
        let Self {
            replayers,
            changeable,
            metrics,
            statuses: _,
            starts: _,
            comparisons,
            live,
            journal: _,
            running,
            reloads,
            on_kept,
        } = self;
        let Begun { journal, id: run } = begun;
        let (stop, stopping) = watch::channel(false);
        let replays = replayers
            .into_iter()
            .map(|replayer| {
                let name = Arc::clone(&replayer.experiment);
                (name, spawn(replayer.run(wait(stopping.clone()))))
            })
            .collect();
        let noted = |one: &Changeable| Noted::new(Arc::clone(&one.name), Arc::clone(&one.science));
        let sciences = changeable.iter().map(noted).collect();
        let reloader = reloads.map(|reloads| {
            spawn(Reloader { reloads, running, experiments: changeable, metrics: metrics.clone() }.run())
        });
        let recorder = Recorder { journal, run, comparisons, metrics, status, live, sciences, on_kept };
        // The journal blocks on its file; it gets a thread of its own and leaves the others to the network.
        let runtime = tokio::runtime::Handle::current();
        let recorder = tokio::task::spawn_blocking(move || runtime.block_on(recorder.run()));
        Replaying { run, replays, stop, reloader, recorder, recorded: None }
    }
}

// === impl Replaying ===

impl Replaying {
    /// Ends when there is nothing left to replay for: nobody makes comparisons any more, because every replay is
    /// finished, found a loop or failed; the recorder failed itself; or the terminal is gone. Safe to cancel.
    pub(super) async fn over(&mut self) {
        let Self { recorder, recorded, reloader, .. } = self;
        if recorded.is_some() {
            return;
        }
        tokio::select! {
            end = recorder => *recorded = Some(end),
            () = hung_up(reloader) => {}
        }
    }

    /// As [`Replaying::over`], and also when `stop` ends.
    pub(super) async fn over_or(&mut self, stop: &mut (impl Future<Output = ()> + Unpin)) {
        tokio::select! {
            () = self.over() => {}
            () = stop => {}
        }
    }

    /// The configuration is read no more: whatever it was about to change has nothing left to be changed for.
    pub(super) fn stop_reloading(&mut self) {
        if let Some(reloader) = self.reloader.take() {
            reloader.abort();
        }
    }

    /// What is queued is finished within the limits.
    pub(super) fn drain(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until everything has its fate and is kept, and closes the run.
    ///
    /// # Errors
    /// When the recorder panicked. What could not be kept is in [`ReplayingEnd::recorded`].
    pub(super) async fn end(self) -> Result<ReplayingEnd, RunError> {
        let Self { run, replays, stop: _stop, reloader: _, recorder, recorded } = self;
        let mut looped = Vec::new();
        for (name, replay) in replays {
            match replay.await {
                Ok(ReplayEnd::Loop) => looped.push(name),
                Ok(ReplayEnd::Finished | ReplayEnd::Stopped) => {}
                Err(error) => tracing::error!(experiment = %name, %error, "A replay failed."),
            }
        }
        let recorded = match recorded {
            Some(recorded) => recorded,
            None => recorder.await,
        };
        let (mut journal, mut recorded) = recorded.map_err(RunError::Task)?;
        for name in &looped {
            recorded = recorded.and(journal.stop_experiment(run, name, LOOPED));
        }
        recorded = recorded.and(journal.finish(run, clock::wall()));
        Ok(ReplayingEnd { journal, recorded, looped })
    }
}
