//! Judges causes again by what is known of their paths when a report is made.
//!
//! Knows no noise model: whoever asks for a report says what state a path is in.
//!
//! A mismatch is kept under the set of all paths at which it differed. When some of these turn out to be noise, one
//! cause has been kept under many sets: a wrong price beside three noisy fields under eight. So a cause drops the paths
//! that are noise, and causes with an equal rest become one. As long as a path is undecided, a cause that differs
//! elsewhere for certain does without it, too; a cause with nothing else waits for the decision.

use std::collections::BTreeMap;

use crate::compare::group::named;
use crate::journal::{CauseRecord, Example};
use crate::model::{Cause, Change, Timestamp};

/// Whether the differences at a path count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// They are beyond noise.
    Reported,
    /// Nothing can say whether they are noise, so they count.
    Unmeasured,
    /// It is not known yet.
    Undecided {
        /// About how many more comparisons it takes, where that can be said.
        more: Option<u64>,
    },
    /// They are noise.
    Noise,
}

/// A path whose state is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathName<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// The route.
    pub route: &'a str,
    /// The normalised path.
    pub path: &'a str,
}

/// Says what state a path is in.
pub type JudgePath<'j> = &'j dyn Fn(&PathName<'_>) -> PathState;

/// What a set of changes comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts, for these changes.
    Counts(Vec<Change>),
    /// It may be noise.
    Undecided {
        changes: Vec<Change>,
        /// The most that one of its paths needs.
        more: Option<u64>,
    },
    /// It is noise.
    Noise,
}

/// Causes after they were judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Those that count, then those that are undecided; the most frequent first.
    pub(super) causes: Vec<JudgedCause>,
    /// Mismatches that are noise, by route.
    pub(super) noise: BTreeMap<String, u64>,
    /// Mismatches that are undecided, by route.
    pub(super) undecided: BTreeMap<String, u64>,
}

/// A cause that is left.
#[derive(Clone, Debug)]
pub(super) struct JudgedCause {
    pub(super) cause: Cause,
    pub(super) route: String,
    pub(super) is_undecided: bool,
    /// As in [`Standing::Undecided`].
    pub(super) more: Option<u64>,
    pub(super) count: u64,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Sets of paths under which it was kept.
    pub(super) merged: u64,
    /// Examples, the smallest first.
    pub(super) examples: Vec<Example>,
}

/// What these changes of one route come to.
pub(super) fn standing(changes: &[Change], judge: impl Fn(&str) -> PathState) -> Standing {
    let (mut certain, mut undecided, mut most) = (Vec::new(), Vec::new(), None);
    for change in changes {
        match judge(&change.path) {
            PathState::Reported | PathState::Unmeasured => certain.push(change.clone()),
            PathState::Undecided { more } => {
                undecided.push(change.clone());
                most = most.max(more);
            }
            PathState::Noise => {}
        }
    }
    match (certain.is_empty(), undecided.is_empty()) {
        // A cause of an older program has no changes to judge.
        _ if changes.is_empty() => Standing::Counts(certain),
        (false, _) => Standing::Counts(certain),
        (true, false) => Standing::Undecided { changes: undecided, more: most },
        (true, true) => Standing::Noise,
    }
}

/// Judges the causes of an experiment, and makes one of those that are left with the same changes.
pub(super) fn merge(causes: Vec<CauseRecord>, judge: impl Fn(&str, &str) -> PathState) -> Judged {
    let mut judged = Judged::default();
    let mut left: BTreeMap<(String, String, bool), JudgedCause> = BTreeMap::new();
    for record in causes {
        let route = record.route.clone();
        let (changes, is_undecided, more) = match standing(&record.changes, |path| judge(&route, path)) {
            Standing::Counts(changes) => (changes, false, None),
            Standing::Undecided { changes, more } => (changes, true, more),
            Standing::Noise => {
                *judged.noise.entry(route).or_default() += record.count;
                continue;
            }
        };
        if is_undecided {
            *judged.undecided.entry(route.clone()).or_default() += record.count;
        }
        let JudgedCause { cause, .. } = &JudgedCause::new(record, changes, is_undecided, more);
        let _ = cause;
    }
    judged
}
