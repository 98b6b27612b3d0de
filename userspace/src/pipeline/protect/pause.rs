//! Pauses of the whole process: asked for by an operator, or from the time table.
//!
//! Stops nothing itself: capture and replays look at a flag. What is under way is finished.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::clock;
use super::super::tasks::spawn;
use super::timetable::{PauseWindow, paused_until};
use crate::metrics::PauseStats;
use crate::model::Timestamp;
use crate::serve::{Control, ControlState, Order, PausedBy};

/// Whether to stand still, as one part of the process sees it. Never, where nobody can say so.
#[derive(Clone, Debug)]
pub struct PauseFlag(watch::Receiver<bool>);

/// Decides when the process pauses. Ends with this.
#[derive(Debug)]
pub struct Pauses {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    flag: watch::Sender<bool>,
    stats: Arc<PauseStats>,
}

/// What was asked for, and what the time table says.
#[derive(Debug)]
struct Book {
    windows: Vec<PauseWindow>,
    standing: Option<Standing>,
    /// What held at the last look, and when that was, since boot.
    last: Option<Pause>,
    looked_at: Duration,
}

/// An order that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Stand still, up to this time since boot if there is one: a wall clock that is set must not make it longer.
    Pause { until: Option<Duration> },
    /// Go on although the time table says otherwise, until its time is over.
    Resume { until: Timestamp },
}

/// A pause that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    by: PausedBy,
    until: Option<Timestamp>,
}

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: Timestamp,
    since_boot: Duration,
}

/// How often the time table is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

// === impl PauseFlag ===

impl PauseFlag {
    /// A flag that is never set.
    pub fn never() -> Self {
        Self(watch::Sender::new(false).subscribe())
    }

    /// A flag that a test sets.
    #[cfg(test)]
    pub(in crate::pipeline) fn of(flag: watch::Receiver<bool>) -> Self {
        Self(flag)
    }

    /// True while the process pauses.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it changes; for ever where nobody can change it.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

// === impl Pauses ===

impl Pauses {
    /// Looks at the time table from now on. Must be called within a runtime.
    pub(in crate::pipeline) fn start(windows: &[PauseWindow]) -> Self {
        let moment = Moment::now();
        let book =
            Book { windows: windows.to_vec(), standing: None, last: None, looked_at: moment.since_boot };
        let (flag, stats) = (watch::Sender::new(false), Arc::default());
        let shared = Arc::new(Shared { book: Mutex::new(book), flag, stats });
        // What the time table says holds before anything is captured.
        shared.look(Order::Look, moment);
        let looking = Arc::clone(&shared);
        let task = spawn(async move { looking.run().await });
        Self { shared, task }
    }

    /// What says whether to stand still.
    pub(in crate::pipeline) fn flag(&self) -> PauseFlag {
        PauseFlag(self.shared.flag.subscribe())
    }

    /// What is exported.
    pub(in crate::pipeline) fn stats(&self) -> Arc<PauseStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Capture stood still.
    pub(in crate::pipeline) fn note_stall(&self) {
        self.shared.stats.note_stall();
        tracing::error!("The capture thread stands still; the probe was detached, and this process ends.");
    }

    /// What all pauses took so far.
    pub(in crate::pipeline) fn total(&self) -> Duration {
        self.shared.look(Order::Look, Moment::now()).paused
    }

    /// What obeys an operator.
    pub(in crate::pipeline) fn control(&self) -> Control {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |order| shared.look(order, Moment::now()))
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Shared ===

impl Shared {
    #[expect(clippy::infinite_loop, reason = "whoever started it cuts it off")]
    async fn run(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(Order::Look, Moment::now());
        }
    }

    /// Takes an order, counts the time since the last look, and tells everybody what holds.
    fn look(&self, order: Order, now: Moment) -> ControlState {
        let Self { book, flag, stats } = self;
        let mut book: MutexGuard<'_, Book> = book.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = book.pass(now);
        let before = book.last;
        if before.is_some() {
            stats.add(elapsed);
        }
        let pause = book.take(order, now);
        book.last = pause;
        stats.set(pause.is_some());
        flag.send_if_modified(|paused| std::mem::replace(paused, pause.is_some()) != pause.is_some());
        drop(book);
        match (before, pause) {
            (None, Some(pause)) => {
                tracing::warn!(
                    by = pause.by.label(),
                    until = pause.until.map(shown),
                    "Paused: nothing is captured and nothing is sent until `understudy resume`, or the time that is named here."
                );
            }
            (Some(_), None) => tracing::warn!("The pause is over: capture and replay go on."),
            (None, None) | (Some(_), Some(_)) => {}
        }
        ControlState {
            paused_by: pause.map(|pause| pause.by),
            until: pause.and_then(|pause| pause.until),
            paused: stats.total(),
        }
    }
}

fn shown(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(time.0.into()).map(|time| time.to_string()).unwrap_or_default()
}

// === impl Book ===

impl Book {
    /// The time since the last look, in whole milliseconds; what is left counts next time.
    fn pass(&mut self, now: Moment) -> Duration {
        let elapsed = now.since_boot.saturating_sub(self.looked_at);
        let whole = Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.looked_at = self.looked_at.saturating_add(whole);
        whole
    }

    /// Takes an order, and says what holds.
    fn take(&mut self, order: Order, now: Moment) -> Option<Pause> {
        let by_table = paused_until(&self.windows, now.wall);
        match order {
            Order::Look => {}
            Order::Pause { time } => {
                let until = time.map(|time| now.since_boot.saturating_add(time));
                self.standing = Some(Standing::Pause { until });
            }
            Order::Resume => self.standing = by_table.map(|until| Standing::Resume { until }),
        }
        match self.standing {
            Some(Standing::Pause { until: None }) => {
                return Some(Pause { by: PausedBy::Order, until: None });
            }
            Some(Standing::Pause { until: Some(until) }) => {
                let left = until.saturating_sub(now.since_boot);
                if !left.is_zero() {
                    let until = Some(now.wall.after(left).max(by_table.unwrap_or_default()));
                    return Some(Pause { by: PausedBy::Order, until });
                }
                self.standing = None;
            }
            Some(Standing::Resume { until }) => {
                if now.wall < until && by_table.is_some() {
                    return None;
                }
                self.standing = None;
            }
            None => {}
        }
        by_table.map(|until| Pause { by: PausedBy::TimeTable, until: Some(until) })
    }
}

// === impl Moment ===

impl Moment {
    fn now() -> Self {
        Self { wall: clock::wall(), since_boot: clock::since_boot() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-02 00:00 UTC, a Monday.
    const MONDAY: u64 = 1_772_409_600;

    /// Gives orders at minutes after Monday's midnight, with a time table from 02:00 to 04:00 on each day. Shows who
    /// paused after each, and the minute at which that ends.
    #[track_caller]
    fn check(orders: &[(u64, Order)], expected: &str) {
        let windows = vec![PauseWindow::new(None, "02:00", "04:00", "UTC").expect("a window")];
        let mut book = Book { windows, standing: None, last: None, looked_at: Duration::ZERO };
        let shown: Vec<String> = orders
            .iter()
            .map(|(minute, order)| {
                let wall = Timestamp((MONDAY + minute * 60) * 1_000_000_000);
                let now = Moment { wall, since_boot: Duration::from_secs(minute * 60) };
                match book.take(*order, now) {
                    None => "-".to_owned(),
                    Some(Pause { by, until: None }) => by.label().to_owned(),
                    Some(Pause { by, until: Some(until) }) => {
                        format!("{} {}", by.label(), (until.0 / 1_000_000_000 - MONDAY) / 60)
                    }
                }
            })
            .collect();
        assert_eq!(shown.join(", "), expected);
    }

    const fn pause(minutes: u64) -> Order {
        Order::Pause { time: Some(Duration::from_secs(minutes * 60)) }
    }

    #[test]
    fn the_time_table_holds_by_itself() {
        let look = Order::Look;
        check(&[(0, look), (120, look), (239, look), (240, look)], "-, time_table 240, time_table 240, -");
    }

    #[test]
    fn an_order_holds_until_another_one_or_its_time() {
        let forever = Order::Pause { time: None };
        check(&[(0, forever), (1_000, Order::Look), (1_001, Order::Resume)], "order, order, -");
        check(&[(0, pause(30)), (29, Order::Look), (30, Order::Look)], "order 30, order 30, -");
        check(&[(0, pause(30)), (10, pause(5)), (15, Order::Look)], "order 30, order 15, -");
    }

    #[test]
    fn an_order_that_ends_within_the_time_table_leaves_that_in_force() {
        let look = Order::Look;
        check(&[(100, pause(60)), (130, look), (160, look)], "order 160, order 240, time_table 240");
    }

    #[test]
    fn going_on_holds_for_this_time_of_the_table_only() {
        let look = Order::Look;
        check(&[(130, Order::Resume), (200, look), (240, look), (1_600, look)], "-, -, -, time_table 1680");
        check(&[(130, Order::Resume), (140, pause(5)), (145, look)], "-, order 240, time_table 240");
        check(&[(60, Order::Resume), (130, look)], "-, time_table 240");
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_hears_of_a_pause_and_it_is_counted() {
        let pauses = Pauses::start(&[]);
        let (mut flag, control, stats) = (pauses.flag(), pauses.control(), pauses.stats());
        assert!(!flag.is_set());
        assert_eq!(control(Order::Pause { time: None }).paused_by, Some(PausedBy::Order));
        flag.changed().await;
        assert!(flag.is_set() && stats.is_paused());
        assert_eq!(control(Order::Look).paused_by, Some(PausedBy::Order));
        assert_eq!(control(Order::Resume).paused_by, None);
        flag.changed().await;
        assert!(!flag.is_set() && !stats.is_paused());
        assert_eq!(stats.begun(), 1);
    }

    #[test]
    fn no_millisecond_of_a_pause_is_lost_between_two_looks() {
        let mut book = Book { windows: Vec::new(), standing: None, last: None, looked_at: Duration::ZERO };
        let passed: Duration = (1..=1_000)
            .map(|look| {
                let since_boot = Duration::from_micros(look * 700);
                book.pass(Moment { wall: Timestamp(0), since_boot })
            })
            .sum();
        assert_eq!(passed, Duration::from_millis(700));
    }
}
