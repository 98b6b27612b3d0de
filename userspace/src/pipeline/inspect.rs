//! Capture with a reader behind it that only looks.
//!
//! Sends nothing anywhere.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use super::error::RunError;
use super::feed::{Feed, FeedError};
use super::patience::Patience;
use super::protect::ProtectConfig;
use super::protect::ceilings;
use super::protect::pause::PauseFlag;
use super::serving::Serving;
use super::settings::CaptureConfig;
use super::thread::{CaptureThread, Guard};
use crate::metrics::{CaptureCounts, ComparisonMetrics, ExperimentStatus, Metrics, Status};
use crate::model::{Exchange, Fate, Ledger, LedgerSnapshot};
use crate::queue::memory::{MemoryQueue, MemoryQueueLimits, memory_queue};
use crate::queue::{Offer, Offered, Queue};
use crate::select::ROUTE_OTHER;

pub use crate::http::sha256;
pub use crate::serve::Admin;

/// What an inspection came to.
pub struct InspectEnd {
    /// What the capture side counted.
    pub capture: CaptureCounts,
    /// What became of the exchanges.
    pub ledger: LedgerSnapshot,
    /// Why the capture broke, if it did. What was captured before has been shown.
    pub broken: Option<FeedError>,
    /// Why no more could be shown, if so.
    pub unshown: Option<io::Error>,
}

/// Shows one exchange, or, without one, whatever it still holds back: nothing more may come for a while. Fails when it
/// cannot, or nobody looks any more.
pub type Show = Box<dyn FnMut(Option<&Exchange>) -> io::Result<()> + Send>;

/// Captures from `feed` until it ends or `stop` does, and gives each exchange to `show`, on a thread of its own.
/// Without `show`, exchanges are only counted. When `show` fails, the inspection ends.
///
/// # Errors
/// When it cannot start, or a part of it fails.
pub async fn inspect(
    feed: impl Into<Feed>,
    config: &CaptureConfig,
    protect: &ProtectConfig,
    admin: Option<Admin>,
    show: Option<Show>,
    stop: impl Future<Output = ()>,
) -> Result<InspectEnd, RunError> {
    let memory_max = ceilings::memory_max(protect, ceilings::capture_bounds(config))?;
    // Whoever looks wants to see: nothing pauses that.
    let guard = Guard { pause: PauseFlag::never(), memory_max, stall_max: protect.stall_max };
    let ledger = Arc::new(Ledger::default());
    let (offer, mut queue) = memory_queue(MemoryQueueLimits::default());
    let offer = show.is_some().then_some(offer);
    let lane = Arc::clone(&ledger);
    let sink = move |exchange: Exchange, patience: &Patience| {
        let ticket = lane.admit();
        match &offer {
            Some(offer) => {
                patience.wait_for(offer.room(exchange.memory_bytes()));
                let offered = Offered { exchange: Arc::new(exchange), route: ROUTE_OTHER.into(), ticket };
                if let Err(ticket) = offer.offer(offered) {
                    ticket.settle(patience.fate_without_room());
                }
            }
            None => ticket.settle(Fate::Shown),
        }
    };
    let mut thread = CaptureThread::start(feed.into(), config, &guard, sink).map_err(RunError::Thread)?;
    let serving = Serving::start(admin, None, None, || {
        let experiment =
            ExperimentStatus { name: "inspect".into(), ledger: Arc::clone(&ledger), replay: None };
        let status = Arc::new(Status {
            capture: Some(thread.counts()),
            experiments: vec![experiment],
            ..Status::default()
        });
        Metrics::new(status, &ComparisonMetrics::new([]))
    });
    let runtime = Handle::current();
    let mut shown = show.map(|mut show| {
        tokio::task::spawn_blocking(move || {
            let shown = show_all(&mut queue, &mut show, &runtime);
            // What nobody will see has its fate all the same.
            queue.close();
            while let Some(claim) = runtime.block_on(queue.claim()) {
                claim.settle(Fate::Drained);
            }
            shown
        })
    });
    let nobody_looks = async {
        match &mut shown {
            Some(shown) => shown.await,
            None => std::future::pending().await,
        }
    };
    let (early_end, showing_ended) = tokio::select! {
        end = thread.ended() => (Some(end), None),
        ended = nobody_looks => (None, Some(ended)),
        () = stop => (None, None),
    };
    let (capture, broken) = thread.conclude(early_end).await;
    let shown = match (showing_ended, shown) {
        (Some(ended), _) => ended.map_err(RunError::Task)?,
        (None, Some(shown)) => shown.await.map_err(RunError::Task)?,
        (None, None) => Ok(()),
    };
    serving.end().await;
    Ok(InspectEnd { capture, ledger: ledger.snapshot(), broken, unshown: shown.err() })
}

/// Shows what comes through the queue until there will be no more; what is held back is shown whenever nothing waits.
fn show_all(queue: &mut MemoryQueue, show: &mut Show, runtime: &Handle) -> io::Result<()> {
    loop {
        let waiting = pin!(queue.claim()).poll(&mut Context::from_waker(Waker::noop()));
        let claim = match waiting {
            Poll::Ready(claim) => claim,
            Poll::Pending => {
                show(None)?;
                runtime.block_on(queue.claim())
            }
        };
        let Some(claim) = claim else { break };
        let shown = show(Some(&claim.exchange));
        claim.settle(if shown.is_ok() { Fate::Shown } else { Fate::Drained });
        shown?;
    }
    show(None)
}
