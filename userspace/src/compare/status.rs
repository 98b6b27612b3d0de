//! Compares the status codes.
//!
//! Does not weigh them: a 201 for a 200 is a difference like any other.

use super::{Check, Findings, Pair, Place};
use crate::model::{DifferenceKind, IncomparableReason};

/// Asks whether both branches answered with one status.
#[derive(Debug)]
pub(super) struct StatusCheck;

// === impl StatusCheck ===

impl Check for StatusCheck {
    fn name(&self) -> &'static str {
        "status"
    }

    fn check(&self, pair: &Pair<'_>, found: &mut Findings<'_>) -> Result<(), IncomparableReason> {
        let (control, candidate) = (pair.control.status, pair.candidate.status);
        if control != candidate {
            found.add(&Place::Status, DifferenceKind::Value, Some(&control), Some(&candidate));
        }
        Ok(())
    }
}
