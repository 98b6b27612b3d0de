//! Starting tasks, and telling them to stop.
//!
//! Knows nothing of what they do.

use tokio::sync::watch;
use tokio::task::JoinHandle;

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
