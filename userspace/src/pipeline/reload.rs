//! Reads the configuration again while a run goes on, and changes what can change.
//!
//! Takes a file whole or not at all: what is wrong, or cannot change at run time, is named, and everything stays as it
//! was. No exchange is lost: those that were selected stay selected, and a comparison ends by the rules it began with.

mod fixed;

use std::error::Error;
use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::comparator::ExternalComparator;
use super::error::{ExperimentError, PartError};
use super::judge::Judging;
use super::notify::Notifier;
use super::science::Science;
use super::settings::{Config, ExperimentConfig};
use crate::compare::Comparator;
use crate::metrics::{ComparisonMetrics, ReloadResult, ReplayStats};
use crate::select::Selector;

pub use fixed::{FixedKey, listed, restart_keys};

/// Gives the configuration as it is now.
pub type Load = Box<dyn FnMut() -> Result<Config, Box<dyn Error + Send + Sync>> + Send>;

/// When to read the configuration again, and how.
pub struct Reloads {
    asked: Asked,
    load: Load,
    /// Who is told that it is being read; whoever asks by a channel knows already.
    notifier: Notifier,
}

enum Asked {
    Hangup { signal: Signal, at_terminal: bool },
    Channel(mpsc::Receiver<()>),
}

/// Why nobody asks any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMore {
    /// The terminal that this was started from is gone.
    HungUp,
    /// Whoever asked is gone.
    Closed,
}

/// What can change of one experiment.
pub(super) struct Changeable {
    pub(super) name: Arc<str>,
    pub(super) selector: Arc<ArcSwap<Selector>>,
    pub(super) science: Arc<Science>,
    pub(super) stats: Arc<ReplayStats>,
}

/// What a reload replaces, in two steps: all that can go wrong, and what cannot.
pub(super) trait Renew {
    /// What takes the place of what runs.
    type Renewed;

    /// Makes it from the new configuration. Changes nothing.
    fn renewed(&self, new: &ExperimentConfig) -> Result<Self::Renewed, ExperimentError>;

    /// Puts it in place, with series in `metrics` for the routes that are new.
    fn replace(&self, renewed: Self::Renewed, new: &ExperimentConfig, metrics: &ComparisonMetrics);
}

/// Changes a process that runs: `T` is [`Changeable`], or the selector alone where nothing is replayed.
pub(super) struct Reloader<T> {
    pub(super) reloads: Reloads,
    /// The configuration that runs.
    pub(super) running: Config,
    /// In the order of its experiments.
    pub(super) experiments: Vec<T>,
    pub(super) metrics: ComparisonMetrics,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read, or makes no sense.
    #[error(transparent)]
    Load(Box<dyn Error + Send + Sync>),
    /// Something differs that cannot change at run time: all of it, at least one key.
    #[error("{} cannot change while it runs; restart to change it", listed(.0))]
    Fixed(Vec<FixedKey>),
    /// An experiment makes no sense.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
}

// === impl Reloads ===

impl Reloads {
    /// At each SIGHUP, unless it comes because the terminal of this program went away. Must be called within a runtime.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn at_hangup(load: Load) -> std::io::Result<Self> {
        let asked =
            Asked::Hangup { signal: signal(SignalKind::hangup())?, at_terminal: stderr().is_terminal() };
        Ok(Self { asked, load, notifier: Notifier::from_environment() })
    }

    /// At each message.
    pub fn at_message(messages: mpsc::Receiver<()>, load: Load) -> Self {
        Self { asked: Asked::Channel(messages), load, notifier: Notifier::default() }
    }
}

// === impl Asked ===

impl Asked {
    /// Waits until somebody asks.
    async fn next(&mut self) -> Result<(), NoMore> {
        match self {
            Asked::Hangup { signal, at_terminal } => {
                signal.recv().await.ok_or(NoMore::Closed)?;
                // A terminal that hung up is none any more (tty_ioctl(4): EIO); whoever ran this there is gone.
                if *at_terminal && !stderr().is_terminal() { Err(NoMore::HungUp) } else { Ok(()) }
            }
            Asked::Channel(messages) => messages.recv().await.ok_or(NoMore::Closed),
        }
    }
}

// === impl Changeable ===

impl Renew for Changeable {
    type Renewed = (Selector, Comparator);

    fn renewed(&self, new: &ExperimentConfig) -> Result<Self::Renewed, ExperimentError> {
        let selector = self.selector.renewed(new)?;
        let mut comparator =
            Comparator::new(new.compare.clone()).map_err(|error| PartError::from(error).of(&new.name))?;
        if let Some(before) = self.science.judge().judging().comparator() {
            comparator.take_over_counts(before);
        }
        Ok((selector, comparator))
    }

    fn replace(
        &self,
        (selector, comparator): Self::Renewed,
        new: &ExperimentConfig,
        metrics: &ComparisonMetrics,
    ) {
        metrics.add(&self.name, new.select.route_labels());
        let external = external(self, new);
        self.science.judge().replace(Judging::new(Arc::new(comparator), external));
        self.selector.store(Arc::new(selector));
    }
}

impl Renew for Arc<ArcSwap<Selector>> {
    type Renewed = Selector;

    fn renewed(&self, new: &ExperimentConfig) -> Result<Selector, ExperimentError> {
        let mut selector =
            Selector::new(new.select.clone()).map_err(|error| PartError::from(error).of(&new.name))?;
        selector.take_over(&self.load());
        Ok(selector)
    }

    fn replace(&self, renewed: Selector, _: &ExperimentConfig, _: &ComparisonMetrics) {
        self.store(Arc::new(renewed));
    }
}

// === impl Reloader ===

impl<T: Renew> Reloader<T> {
    /// Runs until nobody asks any more, and says why.
    pub(super) async fn run(mut self) -> NoMore {
        loop {
            if let Err(no_more) = self.reloads.asked.next().await {
                return no_more;
            }
            self.reloads.notifier.reloading();
            let loaded = (self.reloads.load)().map_err(ReloadError::Load);
            let changed = loaded.and_then(|config| self.change(config));
            note(&changed, &self.metrics);
            self.reloads.notifier.ready();
        }
    }

    /// Takes the configuration whole, or leaves everything as it is.
    fn change(&mut self, config: Config) -> Result<(), ReloadError> {
        let fixed = restart_keys(&self.running, &config);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        let pairs = || self.experiments.iter().zip(&config.experiments);
        let renewed =
            pairs().map(|(experiment, new)| experiment.renewed(new)).collect::<Result<Vec<_>, _>>()?;
        // Nothing can go wrong any more.
        for ((experiment, new), renewed) in pairs().zip(renewed) {
            experiment.replace(renewed, new, &self.metrics);
        }
        self.running = config;
        Ok(())
    }
}

/// Counts and says what came of it.
fn note(changed: &Result<(), ReloadError>, metrics: &ComparisonMetrics) {
    let result = match changed {
        Ok(()) => ReloadResult::Ok,
        Err(ReloadError::Fixed(_)) => ReloadResult::RestartNeeded,
        Err(ReloadError::Load(_) | ReloadError::Experiment(_)) => ReloadResult::Failed,
    };
    metrics.reloaded(result);
    let error = changed.as_ref().err().map(|error| error as &dyn Error);
    match result {
        ReloadResult::Ok => tracing::info!("The configuration was read again and holds from now on."),
        ReloadResult::Failed => {
            tracing::error!(error, "The configuration was read again and is refused; nothing changes.");
        }
        ReloadResult::RestartNeeded => {
            tracing::error!(
                error,
                "The configuration was read again and takes a restart; nothing changes until then."
            );
        }
    }
}

/// Ends when the terminal is gone.
pub(super) async fn hung_up(reloader: &mut Option<JoinHandle<NoMore>>) {
    let no_more = match reloader {
        Some(reloader) => reloader.await.unwrap_or(NoMore::Closed),
        None => NoMore::Closed,
    };
    // A task that has ended must not be asked again.
    *reloader = None;
    match no_more {
        NoMore::HungUp => {}
        NoMore::Closed => std::future::pending().await,
    }
}

/// The process that runs, where the new configuration wants the same; else a new one.
fn external(experiment: &Changeable, new: &ExperimentConfig) -> Option<Arc<ExternalComparator>> {
    let wanted = new.comparator.as_ref()?;
    let judging = experiment.science.judge().judging();
    if let Some(running) = judging.external()
        && running.is(wanted, &new.compare.limits)
    {
        return Some(Arc::clone(running));
    }
    let (name, stats) = (Arc::clone(&experiment.name), Arc::clone(&experiment.stats));
    Some(Arc::new(ExternalComparator::new(wanted.clone(), new.compare.limits.clone(), name, stats)))
}
