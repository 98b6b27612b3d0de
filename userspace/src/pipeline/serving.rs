//! The admin listener while a command runs.
//!
//! Its failure ends nothing: it is said, and the command goes on.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tasks::{spawn, wait};
use crate::metrics::Metrics;
use crate::serve::{Admin, Control, Intake, Routes};

/// The admin listener, answering. Nothing, where none is configured.
pub(super) struct Serving {
    ready: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

// === impl Serving ===

impl Serving {
    /// Answers from now on; the process is said to do its work.
    /// `intake` takes exchanges that are handed in, `control` pauses and resumes.
    pub(super) fn start(
        admin: Option<Admin>,
        intake: Option<Intake>,
        control: Option<Control>,
        metrics: impl FnOnce() -> Metrics,
    ) -> Self {
        let (ready, is_ready) = watch::channel(true);
        let (stop, stopping) = watch::channel(false);
        let task = admin.map(|admin| {
            let routes = Routes { metrics: metrics(), ready: is_ready, intake, control };
            spawn(admin.run(routes, wait(stopping)))
        });
        Self { ready, stop, task }
    }

    /// Says whether the process does its work.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.send_if_modified(|now| std::mem::replace(now, ready) != ready);
    }

    /// Stops it, and waits for its end.
    pub(super) async fn end(self) {
        let Self { ready: _, stop, task } = self;
        stop.send_replace(true);
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "The admin listener failed.");
        }
    }
}
