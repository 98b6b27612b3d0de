//! Starting tasks, and telling them to stop.
//!
//! Knows nothing of what they do.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

/// One task of each experiment, none of which may fail without a word.
#[derive(Default)]
pub(super) struct ExperimentTasks {
    tasks: JoinSet<()>,
    names: HashMap<Id, Arc<str>>,
    failed: Option<(Arc<str>, JoinError)>,
}

/// Starts a task.
#[expect(clippy::disallowed_methods, reason = "`pipeline` spawns tasks")]
pub(super) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// Ends when the flag is set, or nobody can set it any more.
pub(super) async fn wait(mut flag: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the wait as well.
    drop(flag.wait_for(|set| *set).await.map(|_| ()));
}

// === impl ExperimentTasks ===

impl ExperimentTasks {
    /// Starts the task of an experiment.
    pub(super) fn start(&mut self, experiment: Arc<str>, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, experiment);
    }

    /// Ends when a task has failed; never when none does.
    pub(super) async fn failed(&mut self) {
        while self.failed.is_none() {
            if !self.next().await {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for all that have not ended, and gives the first that failed.
    pub(super) async fn end(mut self) -> Option<(Arc<str>, JoinError)> {
        while self.next().await {}
        self.failed
    }

    /// Waits for one task; false when none is left.
    async fn next(&mut self) -> bool {
        match self.tasks.join_next().await {
            None => false,
            Some(Ok(())) => true,
            Some(Err(error)) => {
                let name = self.names.remove(&error.id()).unwrap_or_default();
                self.failed.get_or_insert((name, error));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_named_while_others_go_on() {
        let mut tasks = ExperimentTasks::default();
        let (over, is_over) = watch::channel(false);
        tasks.start("first".into(), wait(is_over.clone()));
        tasks.start("second".into(), async { panic!("as a test wants it") });
        tasks.failed().await;
        over.send_replace(true);
        let (name, error) = tasks.end().await.expect("one failed");
        assert!(&*name == "second" && error.is_panic(), "{name}: {error}");
    }

    #[tokio::test]
    async fn tasks_that_end_have_not_failed() {
        let mut tasks = ExperimentTasks::default();
        tasks.start("first".into(), async {});
        assert!(tasks.failed().now_or_never().is_none());
        assert!(tasks.end().await.is_none());
    }
}
