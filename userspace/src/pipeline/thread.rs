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
use super::protect::memory::MemoryGuard;
use super::protect::pause::PauseFlag;
use super::protect::pressure::PressureReader;
use super::protect::throttle::{Surroundings, Throttle};
use super::protect::watchdog::{Heartbeat, Watchdog};
use super::settings::CaptureConfig;
use super::tee::Tee;
use crate::capture::{CaptureError, CgroupSelector, Hook, Source as _, SourceCounts};
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
    /// Set when the thread stands still, and the probe was detached.
    stalled: watch::Receiver<bool>,
    heartbeat: Heartbeat,
    guard: Guard,
}

/// What keeps a capture from hurting the host, besides what it may cost.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// Whether the process pauses.
    pub(super) pause: PauseFlag,
    /// Memory in bytes that the process may have.
    pub(super) memory_max: u64,
    /// How long the thread may stand still.
    pub(super) stall_max: Duration,
}

/// How long a thread that was asked to stop may make no progress before its end is no longer waited for. What is left to do
/// is bounded, but a host that is short of CPU time gives this thread little.
const STOP_STALL_MAX: Duration = Duration::from_secs(5);

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
        guard: &Guard,
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
        let (governor, flow_sample_max) = (*governor, kernel.flow_sample);
        let (source_counts, is_live, flow_sample) = match &mut feed {
            Feed::Packets(source) => {
                (source.counts().unwrap_or_default(), source.is_live(), source.flow_sample())
            }
            Feed::Recording(_) => (SourceCounts::default(), false, flow_sample_max),
        };
        let throttle = ThrottleCounts { flow_sample, flow_sample_max, ..ThrottleCounts::default() };
        let counts = CaptureCounts { source: source_counts, tee: tee.counts(), throttle, playback: None };
        let (publish, counts) = watch::channel(counts);
        let (tell_end, ended) = oneshot::channel();
        let heartbeat = Heartbeat::default();
        let (tell_stalled, stalled) = watch::channel(false);
        if let Feed::Packets(source) = &feed
            && let Some(detacher) = source.detacher()
        {
            let (heartbeat, stall_max) = (heartbeat.clone(), guard.stall_max);
            Watchdog { heartbeat, detacher, stall_max, stalled: tell_stalled }.start()?;
        }
        let surroundings = is_live.then(|| guard.surroundings(config));
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        if let Feed::Recording(reader) = &mut feed {
            reader.stop_when(Arc::clone(&stop));
        }
        let (stop_waiting, stopped) = watch::channel(false);
        let patience = if is_live { Patience::none() } else { Patience::until(stopped) };
        let beating = heartbeat.clone();
        let started = std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            let hand_over = &mut |exchange| {
                beating.beat();
                sink(exchange, &patience);
            };
            let end = match feed {
                Feed::Packets(source) => {
                    // Made here, because it measures the thread that it is made in.
                    let throttle = surroundings
                        .map(|around| Throttle::new(governor, flow_sample_max, flow_sample, around));
                    Capture { source, tee, throttle, heartbeat: beating.clone(), counts: publish }
                        .run(&asked, hand_over)
                        .map_err(FeedError::from)
                }
                Feed::Recording(reader) => {
                    Playback { reader, counts: publish }.run(&asked, hand_over).map_err(FeedError::from)
                }
            };
            drop(sink);
            beating.end();
            // Nobody may be waiting any more, and then nobody needs to know.
            drop(tell_end.send(end));
        });
        if let Err(error) = started {
            heartbeat.end();
            return Err(error);
        }
        Ok(Self { stop, stop_waiting, ended, counts, stalled, heartbeat, guard: guard.clone() })
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

    /// Asks the thread to stop, which it does when it has drained the ring, and waits for its end as long as it makes
    /// progress.
    async fn finish(&mut self) -> Result<CaptureCounts, FeedError> {
        self.stop();
        loop {
            let beats = self.heartbeat.beats();
            match tokio::time::timeout(STOP_STALL_MAX, self.ended()).await {
                Ok(end) => return end,
                Err(_elapsed) if self.heartbeat.beats() != beats => {}
                Err(_elapsed) => return Err(CaptureError::ThreadStuck.into()),
            }
        }
    }

    /// Asks the thread to stop.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop_waiting.send_replace(true);
    }

    /// Waits for the end, or until the thread stands still. Safe to cancel.
    pub(super) async fn ended(&mut self) -> Result<CaptureCounts, FeedError> {
        let Self { ended, stalled, guard, .. } = self;
        let stalls = async {
            // Without a watchdog nobody will say so.
            if stalled.wait_for(|stalled| *stalled).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            end = ended => match end {
                Ok(end) => end,
                // The thread panicked: its message is on stderr.
                Err(_) => Err(CaptureError::ThreadDied.into()),
            },
            () = stalls => Err(CaptureError::Stalled { stall_max: guard.stall_max }.into()),
        }
    }
}

// === impl Guard ===

impl Guard {
    fn surroundings(&self, config: &CaptureConfig) -> Surroundings {
        let kernel = &config.kernel;
        // What the whole host says is read in any case. A cgroup that cannot be found is none to capture from, either.
        let cgroup = match &kernel.hook {
            // What passes interfaces belongs to no service of this host.
            Hook::Cgroup(CgroupSelector::Root) | Hook::Interfaces(_) => None,
            Hook::Cgroup(selector) => selector.resolve().ok(),
        };
        Surroundings {
            pause: self.pause.clone(),
            memory: Some(MemoryGuard::new(self.memory_max, kernel.ring_bytes.into())),
            pressure: PressureReader::new(cgroup.as_deref()),
            ring_bytes: kernel.ring_bytes,
        }
    }
}

impl Drop for CaptureThread {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufReader, Write as _, pipe};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::model::{ExchangeId, Timestamp, samples};
    use crate::recording::file::Stoppable;
    use crate::recording::{RecordingLimits, RecordingReader, RecordingWriter};
    use crate::wire::WireLimits;

    fn guard() -> Guard {
        Guard { pause: PauseFlag::never(), memory_max: u64::MAX, stall_max: Duration::from_secs(10) }
    }

    /// Concludes a thread that beats once a second for so many seconds, and then ends or hangs.
    #[track_caller]
    fn check_finish(beats: u32, ends: bool, whole: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let broken = runtime.unwrap().block_on(async {
            let (tell_end, ended) = oneshot::channel();
            let (tell_stalled, stalled) = watch::channel(false);
            let heartbeat = Heartbeat::default();
            let mut thread = CaptureThread {
                stop: Arc::default(),
                stop_waiting: watch::Sender::new(false),
                ended,
                counts: watch::channel(CaptureCounts::default()).1,
                stalled,
                heartbeat: heartbeat.clone(),
                guard: guard(),
            };
            let working = async move {
                for _ in 0..beats {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    heartbeat.beat();
                }
                if !ends {
                    std::future::pending::<()>().await;
                }
                tell_end.send(Ok(CaptureCounts::default())).unwrap();
                // The watchdog of a thread that ends has nothing to tell.
                drop(tell_stalled);
            };
            tokio::select! {
                biased;
                (_, broken) = thread.conclude(None) => broken,
                () = async { working.await; std::future::pending().await } => unreachable!(),
            }
        });
        assert_eq!(broken.is_none(), whole, "{beats} beats: {broken:?}");
    }

    #[test]
    fn a_thread_that_makes_progress_is_waited_for() {
        check_finish(0, true, true);
        check_finish(60, true, true);
        check_finish(60, false, false);
        check_finish(0, false, false);
    }

    #[tokio::test]
    async fn a_recording_that_falls_silent_within_a_record_is_stopped() {
        let mut bytes = Vec::new();
        let mut writer =
            RecordingWriter::begin(&mut bytes, "x".to_owned(), RecordingLimits::default()).unwrap();
        for offset in 0..2 {
            let id = ExchangeId { flow: 1, offset };
            let answer = samples::response(200, &[], "hello");
            let exchange = samples::exchange(id, Timestamp(5), samples::request("GET", "/", &[]), answer);
            writer.write(&exchange).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        let (input, mut other_end) = pipe().unwrap();
        other_end.write_all(&bytes[..bytes.len() - 1]).unwrap();
        let input = BufReader::new(Stoppable::from(File::from(OwnedFd::from(input))));
        let reader = RecordingReader::begin(input, "pipe".to_owned(), WireLimits::default()).unwrap();
        let (taken_tx, mut taken) = tokio::sync::mpsc::channel(2);
        let sink = move |exchange: Exchange, _: &Patience| taken_tx.try_send(exchange.id.offset).unwrap();
        let config = CaptureConfig::default();
        let mut thread = CaptureThread::start(Feed::Recording(reader), &config, &guard(), sink).unwrap();
        assert_eq!(taken.recv().await, Some(0));
        let (counts, broken) = thread.conclude(None).await;
        assert!(broken.is_none(), "{broken:?}");
        let playback = counts.playback.unwrap();
        assert_eq!((playback.exchanges, playback.ending), (1, None), "it has no end that anybody saw");
        drop(other_end);
    }
}
