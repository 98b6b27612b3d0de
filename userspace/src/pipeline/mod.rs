//! Wires the parts: the only place that spawns tasks, makes channels and reads the clock.
//!
//! Contains no rule of HTTP or of comparing.
//!
//! [`tee`] is the pure core; [`capture`] runs it on a thread of its own. [`run`] adds selection, replay, comparison
//! and the journal; [`inspect`] only shows.

mod again;
mod ask;
pub mod breaker;
pub mod capture;
pub mod capture_only;
mod capturing;
pub mod clock;
pub mod comparator;
mod credentials;
mod error;
mod experiment;
pub mod feed;
pub mod fleet;
pub mod handover;
pub mod inspect;
pub mod judge;
mod lane;
mod link;
pub mod live;
mod notify;
pub mod observe;
pub mod pace;
mod patience;
pub mod protect;
mod record;
pub mod reload;
pub mod replay;
mod replaying;
pub mod run;
pub mod science;
pub mod secrets;
mod serving;
pub mod settings;
mod tape;
mod tasks;
pub mod tee;
mod thread;
pub mod upload;
pub mod worker;

pub use again::AgainLimits;

use std::path::Path;

use crate::compare::group::cause_of;
use crate::journal::{JournalError, JournalLimits, SqliteJournal};

/// Opens a journal that a run has written.
///
/// # Errors
/// When there is none at `path`, or it cannot be read.
pub fn open_journal(path: &Path) -> Result<SqliteJournal, JournalError> {
    SqliteJournal::open_existing(path, JournalLimits::default(), cause_of)
}

/// Lowers the claim to CPU time of this thread and of those that it starts from now on. A higher niceness that was
/// given from outside stays.
pub fn step_back(nice: i32) {
    let current = rustix::process::getpriority_process(None).unwrap_or_default();
    if let Err(error) = rustix::process::setpriority_process(None, nice.max(current)) {
        tracing::warn!(nice, %error, "Priority stays as it is.");
    }
}
