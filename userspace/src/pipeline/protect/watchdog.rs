//! Detaches the probe when the capture thread stands still, and ends a process that cannot end itself.
//!
//! A thread of its own that takes nothing which others hold for long: it logs nothing, and allocates nothing once it runs.
//! Never attaches anything again: a process that stood still is started anew by whoever runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::watch;

use crate::capture::Detacher;

/// Beats while a thread makes progress. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<Pulse>);

#[derive(Debug, Default)]
struct Pulse {
    beats: AtomicU64,
    over: AtomicBool,
}

/// What a watchdog watches over.
pub(in crate::pipeline) struct Watchdog {
    /// Beats while all is well.
    pub(in crate::pipeline) heartbeat: Heartbeat,
    /// What to do when it does not.
    pub(in crate::pipeline) detacher: Detacher,
    /// How long it may not beat.
    pub(in crate::pipeline) stall_max: Duration,
    /// Set when the probe was detached.
    pub(in crate::pipeline) stalled: watch::Sender<bool>,
}

/// Looks at a pulse from time to time, and says when it has stopped. Counts its own looks instead of time: a process that
/// was stopped as a whole, or a host that slept, has not stood still.
#[derive(Debug)]
struct Looker {
    last: u64,
    /// Looks since it changed.
    silent: u32,
}

/// Looks in [`super::ProtectConfig::stall_max`].
const LOOKS: u32 = 20;

/// How long a process may take to end after the probe was detached; then it is killed.
const END_MAX: Duration = Duration::from_secs(30);

// === impl Heartbeat ===

impl Heartbeat {
    /// There was progress. Called by one thread, for each packet: no locked instruction is needed.
    #[inline]
    pub fn beat(&self) {
        let beats = &self.0.beats;
        beats.store(beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// There will be none any more, and need not be.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    /// How often there was progress.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// True when there need not be any more.
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }
}

// === impl Looker ===

impl Looker {
    fn new(beats: u64) -> Self {
        Self { last: beats, silent: 0 }
    }

    /// True when there was no progress for as many looks as are allowed.
    fn look(&mut self, beats: u64) -> bool {
        self.silent = if beats == self.last { self.silent.saturating_add(1) } else { 0 };
        self.last = beats;
        self.silent >= LOOKS
    }
}

// === impl Watchdog ===

impl Watchdog {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(in crate::pipeline) fn start(self) -> std::io::Result<()> {
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            if self.watch() {
                end_process();
            }
        })?;
        Ok(())
    }

    /// Watches until there need be no progress any more; true when there was none before, and the probe is detached.
    fn watch(&self) -> bool {
        let Self { heartbeat, detacher, stall_max, stalled } = self;
        let every = *stall_max / LOOKS;
        let mut looker = Looker::new(heartbeat.beats());
        while !heartbeat.is_over() {
            // Nobody unparks it; what wakes it early by chance only makes it look once more.
            std::thread::park_timeout(every);
            if looker.look(heartbeat.beats()) && !heartbeat.is_over() {
                detacher.detach();
                stalled.send_replace(true);
                return true;
            }
        }
        false
    }
}

/// Waits for the end of the process, and brings it about when it does not come: by the signal that nothing in this process
/// can hold up, and that leaves no copy of its memory behind.
fn end_process() {
    for _ in 0..LOOKS {
        std::thread::park_timeout(END_MAX / LOOKS);
    }
    // A process may always send itself a signal.
    kill_process(getpid(), Signal::KILL).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these beats; the number of the look at which it is found to stand still.
    #[track_caller]
    fn check(beats: impl Iterator<Item = u64>, expected: Option<usize>) {
        let mut looker = Looker::new(0);
        assert_eq!(beats.into_iter().position(|beats| looker.look(beats)), expected);
    }

    #[test]
    fn only_silence_of_all_looks_in_a_row_is_standing_still() {
        check(1..1_000, None);
        check((0..1_000).map(|look| 1 + look / 20), None);
        check(std::iter::repeat_n(0, 100), Some(19));
        check((0..100).map(|look| if look < 50 { look } else { 50 }), Some(70));
    }

    #[test]
    fn detaches_once_and_says_so() {
        let (detacher, detached) = Detacher::observed();
        let (stalled, is_stalled) = watch::channel(false);
        let heartbeat = Heartbeat::default();
        let watchdog = Watchdog { heartbeat, detacher, stall_max: Duration::from_millis(20), stalled };
        assert!(watchdog.watch());
        assert!(*is_stalled.borrow() && detached.load(Ordering::Relaxed));
    }

    #[test]
    fn a_capture_that_is_over_is_left_alone() {
        let (detacher, detached) = Detacher::observed();
        let heartbeat = Heartbeat::default();
        heartbeat.end();
        let (stalled, _) = watch::channel(false);
        let watchdog = Watchdog { heartbeat, detacher, stall_max: Duration::from_millis(20), stalled };
        assert!(!watchdog.watch());
        assert!(!detached.load(Ordering::Relaxed));
    }
}
