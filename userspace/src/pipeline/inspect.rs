//! Capture with a reader behind it that only looks.
//!
//! Sends nothing anywhere.

use std::sync::Arc;

use tokio::sync::watch;

use super::run::RunError;
use super::settings::CaptureConfig;
use super::tasks::{spawn, wait};
use super::thread::CaptureThread;
use crate::capture::Source;
use crate::metrics::{CaptureCounts, ComparisonMetrics, ExperimentStatus, Metrics, Status};
use crate::model::{Exchange, Fate, Ledger, LedgerSnapshot};
use crate::queue::memory::{MemoryQueueLimits, memory_queue};
use crate::queue::{Offer, Offered, Queue};
use crate::select::ROUTE_OTHER;
use crate::serve::Admin;

/// What an inspection came to.
pub struct InspectEnd {
    /// What the capture side counted.
    pub capture: CaptureCounts,
    /// What became of the exchanges.
    pub ledger: LedgerSnapshot,
}

/// Shows one exchange; false when nobody looks any more.
pub type Show = Box<dyn FnMut(&Exchange) -> bool + Send>;

/// Captures from `source` until it ends or `stop` does, and gives each exchange to `show`, on a thread of its own.
/// Without `show`, exchanges are only counted. When `show` says that nobody looks any more, the inspection ends.
///
/// # Errors
/// When the capture broke.
pub async fn inspect<S: Source + Send + 'static>(
    source: S,
    config: &CaptureConfig,
    admin: Option<Admin>,
    show: Option<Show>,
    stop: impl Future<Output = ()>,
) -> Result<InspectEnd, RunError> {
    let ledger = Arc::new(Ledger::default());
    let (offer, mut queue) = memory_queue(MemoryQueueLimits::default());
    let offer = show.is_some().then_some(offer);
    let lane = Arc::clone(&ledger);
    let sink = move |exchange| {
        let ticket = lane.admit();
        match &offer {
            Some(offer) => {
                let offered = Offered { exchange: Arc::new(exchange), route: ROUTE_OTHER.into(), ticket };
                if let Err(ticket) = offer.offer(offered) {
                    ticket.settle(Fate::Shed);
                }
            }
            None => ticket.settle(Fate::Shown),
        }
    };
    let mut thread = CaptureThread::start(source, config, sink).map_err(RunError::Thread)?;
    let (stop_admin, stopping) = watch::channel(false);
    let admin = admin.map(|admin| {
        let experiment =
            ExperimentStatus { name: "inspect".into(), ledger: Arc::clone(&ledger), replay: None };
        let status = Arc::new(Status { capture: thread.counts(), experiments: vec![experiment] });
        let metrics = Metrics::new(status, &ComparisonMetrics::new([]));
        let (_ready, ready) = watch::channel(true);
        spawn(admin.run(metrics, ready, wait(stopping)))
    });
    let runtime = tokio::runtime::Handle::current();
    let shown = tokio::task::spawn_blocking(move || {
        let Some(mut show) = show else { return true };
        while let Some(claim) = runtime.block_on(queue.claim()) {
            let looks = show(&claim.exchange);
            claim.settle(Fate::Shown);
            if !looks {
                return false;
            }
        }
        true
    });
    let mut shown = std::pin::pin!(shown);
    let early_end = tokio::select! {
        end = thread.ended() => Some(end),
        _ = &mut shown, if !shown.is_finished() => None,
        () = stop => None,
    };
    thread.stop();
    let capture = match early_end {
        Some(end) => end?,
        None => thread.ended().await?,
    };
    if !shown.is_finished() {
        shown.await.map_err(RunError::Task)?;
    }
    stop_admin.send_replace(true);
    if let Some(admin) = admin
        && let Err(error) = admin.await
    {
        tracing::error!(%error, "The admin listener failed.");
    }
    Ok(InspectEnd { capture, ledger: ledger.snapshot() })
}
