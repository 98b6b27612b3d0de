//! A list of slots in the order in which they were last touched.
//!
//! Holds no values: links only, so that a flow moves to the end in constant time whatever the table's size.

/// Links of one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Links {
    before: Option<u32>,
    after: Option<u32>,
    listed: bool,
}

/// The order of slots, least recently touched first. Invariant: the slots from `first` along `after` are those
/// from `last` along `before`, reversed, and are exactly those with `listed`.
#[derive(Debug, Default)]
pub(super) struct Recency {
    links: Vec<Links>,
    first: Option<u32>,
    last: Option<u32>,
}

// === impl Recency ===

impl Recency {
    /// The slot that was not touched for longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.first
    }

    /// Moves `slot` to the end, listing it when it was not.
    pub(super) fn touch(&mut self, slot: u32) {
        if self.last == Some(slot) {
            return;
        }
        self.remove(slot);
        let needed = (slot as usize).saturating_add(1);
        if self.links.len() < needed {
            self.links.resize(needed, Links::default());
        }
        let before = self.last;
        self.set(slot, Links { before, after: None, listed: true });
        match before {
            Some(before) => self.change(before, |links| links.after = Some(slot)),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
    }

    /// Takes `slot` out of the list.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(&Links { before, after, listed: true }) = self.links.get(slot as usize) else { return };
        match before {
            Some(before) => self.change(before, |links| links.after = after),
            None => self.first = after,
        }
        match after {
            Some(after) => self.change(after, |links| links.before = before),
            None => self.last = before,
        }
        self.set(slot, Links::default());
    }

    fn set(&mut self, slot: u32, links: Links) {
        self.change(slot, |have| *have = links);
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Links)) {
        if let Some(links) = self.links.get_mut(slot as usize) {
            change(links);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The twin is a vector that is searched.
        #[test]
        fn keeps_the_order_of_a_searched_vector(steps in prop::collection::vec((0u32..6, any::<bool>()), 0..60)) {
            let mut list = Recency::default();
            let mut twin: Vec<u32> = Vec::new();
            for (slot, touch) in steps {
                twin.retain(|have| *have != slot);
                if touch {
                    twin.push(slot);
                    list.touch(slot);
                } else {
                    list.remove(slot);
                }
                prop_assert_eq!(list.oldest(), twin.first().copied());
                let mut walked = Vec::new();
                let mut at = list.first;
                while let Some(slot) = at {
                    walked.push(slot);
                    at = list.links[slot as usize].after;
                }
                prop_assert_eq!(&walked, &twin);
            }
        }
    }
}
