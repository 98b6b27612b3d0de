//! The capture thread as the async side sees it.
//!
//! Starts one thread, and asks it to stop; what runs in it is `capture`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::capture::Capture;
use super::feed::{Feed, FeedError, Playback};
use super::patience::Patience;
use super::settings::CaptureConfig;
use super::tee::Tee;
use super::throttle::Throttle;
use crate::capture::{CaptureError, Source as _};
use crate::metrics::{CaptureCounts, ThrottleCounts};
use crate::model::Exchange;
use crate::packet::{PacketReader, WantedPorts};

/// A capture that runs in a thread of its own. Dropping it asks the thread to stop.
pub(super) struct CaptureThread {
    stop: Arc<AtomicBool>,
    /// The same for a thread that waits.
    stop_waiting: watch::Sender<bool>,
    ended: oneshot::Receiver<Result<CaptureCounts, FeedError>>,
    counts: watch::Receiver<CaptureCounts>,
}

/// How long the thread may take to stop before its end is no longer waited for.
const STOP_MAX: Duration = Duration::from_secs(2);

// === impl CaptureThread ===

impl CaptureThread {
    /// Starts the thread. The sink is given whether it may wait for room, and is dropped when the capture is over,
    /// which tells whoever reads from it.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(super) fn start(
        mut feed: Feed,
        config: &CaptureConfig,
        mut sink: impl FnMut(Exchange, &Patience) + Send + 'static,
    ) -> std::io::Result<Self> {
        let ports = &config.kernel.ports;
        let wanted =
            if ports.is_empty() { WantedPorts::any() } else { WantedPorts::new(ports.iter().copied()) };
        let packets = PacketReader::new(wanted, config.fragments);
        let tee = Tee::reading(packets, config.stream, config.http);
        // Each reason for a drop has its series before the first drop. Counters that cannot be read end the capture as
        // soon as it publishes them.
        let CaptureConfig { governor, kernel, .. } = config;
        let (governor, flow_sample) = (*governor, kernel.flow_sample);
        let throttle =
            ThrottleCounts { flow_sample, flow_sample_max: flow_sample, ..ThrottleCounts::default() };
        let (source_counts, is_live) = match &mut feed {
            Feed::Packets(source) => (source.counts().unwrap_or_default(), source.is_live()),
            Feed::Recording(_) => Default::default(),
        };
        let counts = CaptureCounts { source: source_counts, tee: tee.counts(), throttle, playback: None };
        let (publish, counts) = watch::channel(counts);
        let (tell_end, ended) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let (stop_waiting, stopped) = watch::channel(false);
        let patience = if is_live { Patience::none() } else { Patience::until(stopped) };
        std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            let hand_over = &mut |exchange| sink(exchange, &patience);
            let end = match feed {
                Feed::Packets(source) => {
                    // Made here, because it measures the thread that it is made in.
                    let throttle = is_live.then(|| Throttle::new(governor, flow_sample));
                    Capture { source, tee, throttle, counts: publish }
                        .run(&asked, hand_over)
                        .map_err(FeedError::from)
                }
                Feed::Recording(reader) => {
                    Playback { reader, counts: publish }.run(&asked, hand_over).map_err(FeedError::from)
                }
            };
            drop(sink);
            // Nobody may be waiting any more, and then nobody needs to know.
            drop(tell_end.send(end));
        })?;
        Ok(Self { stop, stop_waiting, ended, counts })
    }

    /// The counts as they are published.
    pub(super) fn counts(&self) -> watch::Receiver<CaptureCounts> {
        self.counts.clone()
    }

    /// What the capture came to, and why it broke, if it did. `early_end` is its end where that came by itself; else the
    /// thread is asked to stop. Of a capture that broke, the counts are those that it published last.
    pub(super) async fn conclude(
        &mut self,
        early_end: Option<Result<CaptureCounts, FeedError>>,
    ) -> (CaptureCounts, Option<FeedError>) {
        let end = match early_end {
            Some(end) => end,
            None => self.finish().await,
        };
        match end {
            Ok(counts) => (counts, None),
            Err(error) => (self.counts.borrow().clone(), Some(error)),
        }
    }

    /// Asks the thread to stop, which it does within one drain of the ring, and waits for its end.
    async fn finish(&mut self) -> Result<CaptureCounts, FeedError> {
        self.stop();
        match tokio::time::timeout(STOP_MAX, self.ended()).await {
            Ok(end) => end,
            Err(_elapsed) => Err(CaptureError::ThreadStuck.into()),
        }
    }

    /// Asks the thread to stop.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_waiting.send_replace(true);
    }

    /// Waits for the end.
    pub(super) async fn ended(&mut self) -> Result<CaptureCounts, FeedError> {
        match (&mut self.ended).await {
            Ok(end) => end,
            // The thread panicked: its message is on stderr.
            Err(_) => Err(CaptureError::ThreadDied.into()),
        }
    }
}

impl Drop for CaptureThread {
    fn drop(&mut self) {
        self.stop();
    }
}
