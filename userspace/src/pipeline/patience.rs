//! Whether capture waits for those behind it.
//!
//! Never makes traffic wait: a live source gets none of it.

use std::task::{Context, Waker};

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::model::Fate;

/// How long the capture thread waits for room behind it.
#[derive(Debug)]
pub(super) struct Patience(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    runtime: Handle,
    stopped: watch::Receiver<bool>,
}

// === impl Patience ===

impl Patience {
    /// None at all: traffic goes on, and what finds no room is lost to us.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// For a source that is read as fast as it is taken: until there is room, or `stopped` is set.
    pub(super) fn until(stopped: watch::Receiver<bool>) -> Self {
        Self(Some(Waiting { runtime: Handle::current(), stopped }))
    }

    /// Blocks the thread for as long as it may.
    pub(super) fn wait_for(&self, room: impl Future<Output = ()>) {
        let Some(Waiting { runtime, stopped }) = &self.0 else { return };
        let mut room = std::pin::pin!(room);
        // Nearly always there is room, and to enter the runtime only to find that out costs more than the exchange.
        if room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        let mut stopped = stopped.clone();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = room => {}
                // An error means that nobody can stop us any more, and so nobody is interested.
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    /// What became of an exchange that found no room all the same.
    pub(super) fn fate_without_room(&self) -> Fate {
        match &self.0 {
            Some(waiting) if *waiting.stopped.borrow() => Fate::Drained,
            Some(_) | None => Fate::Shed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_source_does_not_wait() {
        Patience::none().wait_for(std::future::pending());
        assert_eq!(Patience::none().fate_without_room(), Fate::Shed);
    }

    #[test]
    fn waiting_ends_with_room_and_with_a_stop() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let patience = runtime.block_on(async { Patience::until(stopped) });
        patience.wait_for(std::future::ready(()));
        assert_eq!(patience.fate_without_room(), Fate::Shed, "it was too large for the queue");
        stop.send_replace(true);
        patience.wait_for(std::future::pending());
        assert_eq!(patience.fate_without_room(), Fate::Drained);
    }
}
