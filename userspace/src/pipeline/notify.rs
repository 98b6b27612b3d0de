//! Tells the service manager how this process does: ready, reading its configuration again, stopping, alive (sd_notify(3)).
//!
//! Says that it is alive only while the capture thread and the runtime get on. Says nothing where nobody asked for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::capture::PUBLISH_EVERY;
use super::tasks::{spawn, wait};
use crate::metrics::{CaptureCounts, ExperimentStatus, Status};
use crate::model::Fate;

/// The way to the service manager; silent where there is none.
#[derive(Clone, Default)]
pub(super) struct Notifier {
    tell: Option<Tell>,
    /// How long the manager waits for a sign of life before it ends this process (`WatchdogSec=`).
    watchdog: Option<Duration>,
    /// Whether it was said that the manager cannot be reached.
    complained: Arc<AtomicBool>,
}

type Tell = Arc<dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + Send + Sync>;

/// The service as the manager sees it, from ready to stopping.
pub(super) struct Presence {
    notifier: Notifier,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// What the signs of life are made of.
struct Pulse {
    notifier: Notifier,
    status: Arc<Status>,
    /// The capture thread, as far as it works by itself: it publishes its counts some times a second.
    thread: Option<watch::Receiver<CaptureCounts>>,
    was_alive: bool,
}

/// How often the manager hears how things stand, at the least.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How often at the most: a thread that publishes its counts as often as it does must be seen to do so each time.
const TELL_EVERY_MIN: Duration = PUBLISH_EVERY.saturating_mul(3);

/// Signs of life within the time that the manager waits for one: two may come late.
const BEATS: u32 = 3;

// === impl Notifier ===

impl Notifier {
    /// The manager that started this process, where `NOTIFY_SOCKET` names one.
    pub(super) fn from_environment() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty());
        let tell: Option<Tell> =
            is_there.then(|| Arc::new(|state: &[NotifyState<'_>]| sd_notify::notify(state)) as Tell);
        // 0 is none (sd_watchdog_enabled(3)).
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        Self { tell, watchdog, ..Self::default() }
    }

    /// The configuration is being read again; [`Notifier::ready`] ends that.
    pub(super) fn reloading(&self) {
        // Managers from version 253 on want the time of it (sd_notify(3), RELOADING=1).
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    /// The process does its work.
    pub(super) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        let Some(tell) = &self.tell else { return };
        if let Err(error) = tell(state)
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "The service manager cannot be told how this service does.");
        }
    }
}

// === impl Presence ===

impl Presence {
    /// Ready from now on. `thread` is the capture thread's counts, where it must get on by itself; one that reads a file
    /// may wait for others, and proves nothing.
    pub(super) fn start(
        notifier: Notifier,
        status: Arc<Status>,
        thread: Option<watch::Receiver<CaptureCounts>>,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        notifier.ready();
        let task = notifier.tell.is_some().then(|| {
            let pulse = Pulse { notifier: notifier.clone(), status, thread, was_alive: true };
            spawn(pulse.run(wait(stopping)))
        });
        Self { notifier, stop, task }
    }

    /// The process stops: it finishes what is under way, within its limits.
    pub(super) async fn stopping(self) {
        let Self { notifier, stop, task } = self;
        stop.send_replace(true);
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "The service manager was told nothing.");
        }
        notifier.tell(&[NotifyState::Stopping, NotifyState::Status("Finishing what is under way.")]);
    }
}

// === impl Pulse ===

impl Pulse {
    /// Beats until `stop` ends. This runs on the runtime, so that its beats are the runtime's.
    async fn run(mut self, stop: impl Future<Output = ()>) {
        let beats = self.notifier.watchdog.map(|time| time / BEATS);
        let mut every = tokio::time::interval(beats.unwrap_or(TELL_EVERY).clamp(TELL_EVERY_MIN, TELL_EVERY));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // One that is at once would say nothing of the thread.
        every.reset();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                _ = every.tick() => self.beat(),
                () = &mut stop => return,
            }
        }
    }

    fn beat(&mut self) {
        let is_alive = match &mut self.thread {
            // Ended, or not heard of since the last beat.
            Some(counts) if !counts.has_changed().unwrap_or(false) => false,
            Some(counts) => {
                counts.mark_unchanged();
                true
            }
            None => true,
        };
        if self.was_alive && !is_alive {
            tracing::error!(
                "The capture thread gives no sign of life; without one the service manager starts this service again."
            );
        }
        self.was_alive = is_alive;
        let line = if is_alive { line(&self.status) } else { "The capture thread hangs.".to_owned() };
        let mut state = vec![NotifyState::Status(&line)];
        if is_alive && self.notifier.watchdog.is_some() {
            state.push(NotifyState::Watchdog);
        }
        self.notifier.tell(&state);
    }
}

/// How things stand, in one line for `systemctl status`.
fn line(status: &Status) -> String {
    let Status { capture, experiments, queue: _, pause, regressions: _, redact: _ } = status;
    let mut parts = Vec::new();
    if pause.is_paused() {
        parts.push("paused".to_owned());
    }
    for ExperimentStatus { name, ledger, replay } in experiments {
        let ledger = ledger.snapshot();
        let mut part = format!("{name}: {} exchanges, {} in flight", ledger.seen, ledger.in_flight);
        if replay.is_some() {
            let compared = [Fate::Matched, Fate::Mismatched, Fate::Ignored].map(|fate| ledger.count(fate));
            let [_, mismatched, _] = compared;
            part += &format!(", {} compared, {mismatched} differ", compared.iter().sum::<u64>());
        }
        parts.push(part);
    }
    if let Some(capture) = capture {
        let dropped: u64 = capture.borrow().source.drops.iter().map(|(_, packets)| packets).sum();
        parts.push(format!("{dropped} packets not copied"));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What the manager heard, without what it was told in words.
    type Heard = Arc<Mutex<Vec<String>>>;

    fn notifier(watchdog: Option<Duration>) -> (Notifier, Heard) {
        let heard = Heard::default();
        let ears = Arc::clone(&heard);
        let tell: Tell = Arc::new(move |state: &[NotifyState<'_>]| {
            let words = state.iter().filter(|state| !matches!(state, NotifyState::Status(_)));
            ears.lock().unwrap().extend(words.map(|state| state.to_string()));
            Ok(())
        });
        (Notifier { tell: Some(tell), watchdog, ..Notifier::default() }, heard)
    }

    fn status() -> Arc<Status> {
        Arc::new(Status::default())
    }

    fn beats(heard: &Heard) -> usize {
        heard.lock().unwrap().iter().filter(|word| *word == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_come_while_the_capture_thread_publishes() {
        const WATCHDOG: Duration = Duration::from_secs(3);
        let (notifier, heard) = notifier(Some(WATCHDOG));
        let (publish, counts) = watch::channel(CaptureCounts::default());
        let presence = Presence::start(notifier, status(), Some(counts));
        let publish_for = async |time: Duration| {
            for _ in 0..time.as_millis() / 100 {
                publish.send_replace(CaptureCounts::default());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        publish_for(WATCHDOG).await;
        let alive = beats(&heard);
        assert!((2..=4).contains(&alive), "{alive} beats");
        // It hangs: what was published before it did may make for one more.
        tokio::time::sleep(4 * WATCHDOG).await;
        assert!(beats(&heard) <= alive + 1, "{} beats after {alive}", beats(&heard));
        let silent = beats(&heard);
        publish_for(WATCHDOG).await;
        assert!(beats(&heard) >= silent + 2, "it does not come back to life");
        presence.stopping().await;
        let heard = heard.lock().unwrap();
        assert_eq!(heard.first().map(String::as_str), Some("READY=1"));
        assert_eq!(heard.last().map(String::as_str), Some("STOPPING=1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_capture_thread_that_has_ended_gives_no_sign_of_life() {
        let (notifier, heard) = notifier(Some(Duration::from_secs(3)));
        let (publish, counts) = watch::channel(CaptureCounts::default());
        drop(publish);
        let presence = Presence::start(notifier, status(), Some(counts));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(beats(&heard), 0);
        presence.stopping().await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_there_are_words_only() {
        let (notifier, heard) = notifier(None);
        let presence = Presence::start(notifier, status(), None);
        tokio::time::sleep(3 * TELL_EVERY).await;
        presence.stopping().await;
        assert_eq!(*heard.lock().unwrap(), ["READY=1", "STOPPING=1"]);
    }

    #[tokio::test]
    async fn without_a_manager_nothing_runs() {
        let presence = Presence::start(Notifier::default(), status(), None);
        assert!(presence.task.is_none());
        presence.stopping().await;
    }
}
