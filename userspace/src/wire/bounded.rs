//! A list that is read up to a bound.
//!
//! Takes no list's own word for its length: room grows as elements come.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// At most `MAX` elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Bounded<T, const MAX: usize>(Vec<T>);

struct Elements<T, const MAX: usize>(PhantomData<T>);

/// Room that is made at once, in elements.
const ROOM_AT_ONCE: usize = 32;

// === impl Bounded ===

impl<T, const MAX: usize> Bounded<T, MAX> {
    /// These elements; `None` when there are more than fit.
    pub(super) fn collect(elements: impl IntoIterator<Item = T>) -> Option<Self> {
        let list: Vec<T> = elements.into_iter().take(MAX.saturating_add(1)).collect();
        (list.len() <= MAX).then_some(Self(list))
    }

    /// The elements.
    pub(super) fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

// === impl Elements ===

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let announced = elements.size_hint().unwrap_or_default();
        if announced > MAX {
            return Err(A::Error::invalid_length(announced, &self));
        }
        let mut list = Vec::with_capacity(announced.min(ROOM_AT_ONCE));
        while let Some(element) = elements.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX.saturating_add(1), &self));
            }
            list.push(element);
        }
        Ok(Bounded(list))
    }
}
