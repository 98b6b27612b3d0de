//! Lets go of the traffic, from any thread and whatever the one that reads it does.
//!
//! Reads nothing and attaches nothing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The links of a source to the traffic. Clones hold the same ones; a link that is dropped is detached.
#[derive(Clone, Default)]
pub struct Detacher(Arc<Mutex<Vec<Box<dyn Send>>>>);

// === impl Detacher ===

impl Detacher {
    /// Holds one more link, whatever the kernel calls it.
    pub(super) fn hold(&self, link: impl Send + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(link));
    }

    /// Drops all of them: the kernel runs nothing of ours for packets that come from now on.
    pub fn detach(&self) {
        // Nobody holds this for longer than it takes to add a link or to drop some.
        let links = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(links);
    }

    /// One that holds a link, and what is set when that is dropped.
    #[cfg(test)]
    pub(crate) fn observed() -> (Self, Arc<std::sync::atomic::AtomicBool>) {
        struct Link(Arc<std::sync::atomic::AtomicBool>);
        impl Drop for Link {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let (detacher, dropped) = (Self::default(), Arc::default());
        detacher.hold(Link(Arc::clone(&dropped)));
        (detacher, dropped)
    }
}

impl fmt::Debug for Detacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Detacher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_clone_lets_go_of_the_same_links() {
        let (detacher, dropped) = Detacher::observed();
        let clone = detacher.clone();
        assert!(!dropped.load(Ordering::Relaxed));
        clone.detach();
        assert!(dropped.load(Ordering::Relaxed));
        detacher.detach();
    }
}
