//! Asks a process of somebody else's making in what two answers differ. Protocol: `docs/comparator.md`.
//!
//! Waits for no process longer than its deadline, and is of no concern to other experiments: each has its own process.
//! What the process fails to say is an outcome, never an error of the run.

mod lines;
mod message;
mod process;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::tasks::spawn;
use crate::compare::{Comparator, CompareLimits, External, ExternalDifference};
use crate::metrics::{ExternalFailure, ReplayStats};
use crate::model::{Exchange, IncomparableReason, Observation};

use process::Worker;

/// Which process, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalConfig {
    /// Program and arguments. No shell takes part. Never empty.
    pub command: Vec<String>,
    /// True when its differences take the place of those of the built-in checks. Default: they are added.
    pub instead: bool,
    /// True when it gets values of fields that carry secrets. Default: it gets `<redacted>`.
    pub secrets: bool,
    /// How long it may take with one exchange; then it is killed. Default 200 ms.
    pub deadline: Duration,
    /// How long it may take with the first exchange after its start. Default 10 s.
    pub start_max: Duration,
    /// Exchanges that may wait for it; more are not asked about. Default 64.
    pub waiting_max: usize,
    /// Bytes of a question; larger ones are not asked. Default 4 MiB.
    pub message_bytes_max: usize,
    /// Bytes of an answer; at more it is killed. Default 256 KiB.
    pub answer_bytes_max: usize,
    /// Differences taken from one answer; at more it is killed. Default 1,000.
    pub differences_max: usize,
    /// The first pause before it is started again; doubled each time until it answers. Default 100 ms.
    pub pause_min: Duration,
    /// The longest pause. Default 30 s.
    pub pause_max: Duration,
}

/// The way to the process of one experiment. When this is dropped, the process ends.
#[derive(Debug)]
pub struct ExternalComparator {
    questions: mpsc::Sender<Question>,
    config: ExternalConfig,
    limits: CompareLimits,
    experiment: Arc<str>,
    stats: Arc<ReplayStats>,
    asked: AtomicU64,
}

/// What a process is asked, and where its answer goes.
struct Question {
    id: u64,
    line: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<ExternalDifference>, ExternalFailure>>,
}

// === impl ExternalConfig ===

impl Default for ExternalConfig {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            instead: false,
            secrets: false,
            deadline: Duration::from_millis(200),
            start_max: Duration::from_secs(10),
            waiting_max: 64,
            message_bytes_max: 4 << 20,
            answer_bytes_max: 256 << 10,
            differences_max: 1_000,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(30),
        }
    }
}

// === impl ExternalComparator ===

impl ExternalComparator {
    /// Starts what will start the process, with the first question. Must be called within a runtime.
    pub fn new(
        config: ExternalConfig,
        limits: CompareLimits,
        experiment: Arc<str>,
        stats: Arc<ReplayStats>,
    ) -> Self {
        let (questions, waiting) = mpsc::channel(config.waiting_max.max(1));
        let worker = Worker::new(config.clone(), Arc::clone(&experiment), Arc::clone(&stats));
        // Ends when the sender is dropped, and the process with it.
        drop(spawn(worker.run(waiting)));
        Self { questions, config, limits, experiment, stats, asked: AtomicU64::new(0) }
    }

    /// True when it was made from the same.
    pub fn is(&self, config: &ExternalConfig, limits: &CompareLimits) -> bool {
        self.config == *config && self.limits == *limits
    }

    /// Asks about one exchange; none where there are no two answers to ask about. Safe to cancel: the process goes on
    /// to answer, and nobody hears it.
    pub async fn ask(&self, route: &str, exchange: &Exchange, candidate: &Observation) -> Option<External> {
        let Observation::Answered { response: _, ttfb: _, served: _ } = candidate else { return None };
        if !Comparator::is_comparable(exchange, candidate) {
            return None;
        }
        let answer = self.answer(route, exchange, candidate).await.map_err(|failure| {
            if let Some(count) = self.stats.external.failures.get(failure as usize) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            IncomparableReason::RuleError
        });
        Some(External { instead: self.config.instead, answer })
    }

    async fn answer(
        &self,
        route: &str,
        exchange: &Exchange,
        candidate: &Observation,
    ) -> Result<Vec<ExternalDifference>, ExternalFailure> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let about = message::About { id, experiment: &self.experiment, route, exchange, candidate };
        let line = about.line(&self.config, &self.limits).ok_or(ExternalFailure::TooLarge)?;
        let (answer, answered) = oneshot::channel();
        self.questions.try_send(Question { id, line, answer }).map_err(|refused| {
            drop(refused);
            ExternalFailure::Busy
        })?;
        match answered.await {
            Ok(answer) => answer,
            // The worker is gone, with the runtime.
            Err(_) => Err(ExternalFailure::Unavailable),
        }
    }
}
