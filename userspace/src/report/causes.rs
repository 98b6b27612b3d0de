//! Judges causes again by what is known of their paths when a report is made.
//!
//! Knows no noise model: whoever asks says what state a path is in.
//!
//! A mismatch is kept under the set of all paths at which it differed. When some of these turn out to be noise, one
//! cause has been kept under many sets: a wrong price beside three noisy fields under eight. So a cause drops the paths
//! that are noise, and causes with an equal rest become one. As long as a path is undecided, a cause that differs
//! elsewhere for certain does without it, too; a cause with nothing else waits for the decision.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::compare::group::named;
use crate::journal::{CauseRecord, Example};
use crate::model::{Cause, Change, PathState, Timestamp};

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

/// A cause that was asked for and cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCause {
    /// The run has no such experiment.
    #[error("the run has no experiment `{experiment}`")]
    Experiment {
        /// The name.
        experiment: String,
    },
    /// There is no such cause.
    #[error("there is no cause `{cause}`: {}", those(*causes))]
    Cause {
        /// As it was asked for.
        cause: String,
        /// Causes that there are.
        causes: usize,
    },
    /// Each experiment counts its causes from 1.
    #[error("several experiments have a cause {number}: name one with --experiment, or the cause by its id")]
    Ambiguous {
        /// The number.
        number: usize,
    },
    /// The journal keeps no example.
    #[error("no example of cause `{cause}` was kept: `journal.examples_per_cause_max` must be at least 1")]
    NoExample {
        /// The id.
        cause: String,
    },
}

/// Says what state a path is in. [`PathState::Unmeasured`] where nothing is known: its differences count.
pub type JudgePath<'j> = &'j dyn Fn(&PathName<'_>) -> PathState;

/// What a set of changes comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts, for these changes.
    Counts(Vec<Change>),
    /// It may be noise: all of these are undecided, or withheld.
    Undecided(Vec<Change>),
    /// It may be noise, and nothing will ever tell: all of these are withheld.
    Withheld(Vec<Change>),
    /// It is noise.
    Noise,
}

/// What a cause comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CauseState {
    Counts,
    Undecided,
    Withheld,
    Noise,
}

/// Causes after they were judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Those that are left; what counts comes first, then the most frequent.
    pub(super) causes: Vec<JudgedCause>,
    /// Mismatches that are noise, by route.
    pub(super) noise: BTreeMap<String, u64>,
}

/// A cause that is left.
#[derive(Clone, Debug)]
pub(super) struct JudgedCause {
    pub(super) cause: Cause,
    pub(super) route: String,
    pub(super) state: CauseState,
    pub(super) count: u64,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Sets of paths under which it was kept.
    pub(super) merged: u64,
    /// Examples, those with the fewest other paths first, then the smallest.
    pub(super) examples: Vec<Example>,
    /// Changes that each of `examples` was kept under, in the same order.
    breadths: Vec<usize>,
}

/// What these changes come to.
pub(super) fn standing(changes: &[Change], judge: impl Fn(&str) -> PathState) -> Standing {
    let (mut certain, mut undecided, mut all_withheld) = (Vec::new(), Vec::new(), true);
    for change in changes {
        match judge(&change.path) {
            PathState::Reported | PathState::Ceased | PathState::Unmeasured => certain.push(change.clone()),
            state @ (PathState::Undecided | PathState::Withheld) => {
                all_withheld &= state == PathState::Withheld;
                undecided.push(change.clone());
            }
            PathState::Noise => {}
        }
    }
    // What an older program kept has no changes to judge.
    if !certain.is_empty() || changes.is_empty() {
        Standing::Counts(certain)
    } else if undecided.is_empty() {
        Standing::Noise
    } else if all_withheld {
        Standing::Withheld(undecided)
    } else {
        Standing::Undecided(undecided)
    }
}

/// Judges the causes of one experiment by the state of a path on a route, and makes one of those that are left with the
/// same changes.
pub(super) fn merge(causes: Vec<CauseRecord>, judge: impl Fn(&str, &str) -> PathState) -> Judged {
    let mut noise: BTreeMap<String, u64> = BTreeMap::new();
    let mut left: BTreeMap<(CauseState, String, String), JudgedCause> = BTreeMap::new();
    for record in causes {
        let (state, changes) = match standing(&record.changes, |path| judge(&record.route, path)) {
            Standing::Counts(changes) => (CauseState::Counts, changes),
            Standing::Undecided(changes) => (CauseState::Undecided, changes),
            Standing::Withheld(changes) => (CauseState::Withheld, changes),
            Standing::Noise => {
                *noise.entry(record.route).or_default() += record.count;
                continue;
            }
        };
        let judged = JudgedCause::new(record, changes, state);
        match left.entry((state, judged.route.clone(), judged.cause.id.clone())) {
            Entry::Vacant(free) => drop(free.insert(judged)),
            Entry::Occupied(same) => same.into_mut().add(judged),
        }
    }
    let mut causes: Vec<JudgedCause> = left.into_values().collect();
    // Ties keep the order of the map, which the order of the records does not enter.
    causes.sort_by_key(|cause| (cause.state, std::cmp::Reverse(cause.count)));
    Judged { causes, noise }
}

/// The causes that can be named.
fn those(causes: usize) -> String {
    match causes {
        0 => "the report has none".to_owned(),
        1 => "the report has one, number 1".to_owned(),
        more => format!("name one of {more} by its number in the report, or by its id"),
    }
}

// === impl CauseState ===

impl CauseState {
    /// The state as output names it; stable.
    pub(super) fn label(self) -> &'static str {
        match self {
            CauseState::Counts => "counts",
            CauseState::Undecided => "undecided",
            CauseState::Withheld => "withheld",
            CauseState::Noise => "noise",
        }
    }
}

// === impl JudgedCause ===

impl JudgedCause {
    fn new(record: CauseRecord, left: Vec<Change>, state: CauseState) -> Self {
        let CauseRecord { id, route, signature, changes, count, first_seen, last_seen, examples } = record;
        let breadths = vec![changes.len(); examples.len()];
        let cause = if left == changes { Cause { id, signature, changes } } else { named(&route, left) };
        Self { cause, route, state, count, first_seen, last_seen, merged: 1, examples, breadths }
    }

    /// Takes in another set of paths with the same rest.
    fn add(&mut self, other: Self) {
        let Self { cause: _, route: _, state: _, count, first_seen, last_seen, merged, examples, breadths } =
            other;
        self.count += count;
        self.first_seen = self.first_seen.min(first_seen);
        self.last_seen = self.last_seen.max(last_seen);
        self.merged += merged;
        let examples_max = self.examples.len().max(examples.len());
        let ours = self.breadths.drain(..).zip(self.examples.drain(..));
        let mut all: Vec<(usize, Example)> = ours.chain(breadths.into_iter().zip(examples)).collect();
        all.sort_by(|(a_breadth, a), (b_breadth, b)| {
            (a_breadth, a.bytes, &a.exchange).cmp(&(b_breadth, b.bytes, &b.exchange))
        });
        all.truncate(examples_max);
        (self.breadths, self.examples) = all.into_iter().unzip();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ROUTES: [&str; 2] = ["/a", "/b"];

    fn change(path: &str) -> Change {
        Change { path: path.to_owned(), kind: "value".to_owned(), classes: None }
    }

    fn example(cause: &str, bytes: u64) -> Example {
        Example {
            cause: cause.to_owned(),
            bytes,
            exchange: format!("{cause}-{bytes}"),
            method: "GET".to_owned(),
            target: "/".to_owned(),
            headers: Vec::new(),
            headers_omitted: 0,
            body: Vec::new(),
            body_bytes: 0,
            control_status: 200,
            candidate_status: 200,
            differences: Vec::new(),
            differences_omitted: 0,
        }
    }

    fn record(route: &str, paths: &str, count: u64, bytes: u64) -> CauseRecord {
        let Cause { id, signature, changes } = named(route, paths.split(' ').map(change));
        let examples = vec![example(&id, bytes)];
        let route = route.to_owned();
        let at = Timestamp(bytes);
        CauseRecord { route, changes, count, first_seen: at, last_seen: at, examples, id, signature }
    }

    /// A path is in the state that its name begins with.
    fn by_name(_route: &str, path: &str) -> PathState {
        match path.as_bytes().first() {
            Some(b'n') => PathState::Noise,
            Some(b'u') => PathState::Undecided,
            Some(b'w') => PathState::Withheld,
            Some(b'c') => PathState::Ceased,
            Some(b'?') => PathState::Unmeasured,
            _ => PathState::Reported,
        }
    }

    #[track_caller]
    fn check(causes: &[(&str, u64)], expected: &[&str], noise: u64) {
        let records = (0..).zip(causes).map(|(n, (paths, count))| record("/a", paths, *count, n)).collect();
        let judged = merge(records, by_name);
        let shown = |cause: &JudgedCause| {
            let undecided = match cause.state {
                CauseState::Counts | CauseState::Noise => "",
                CauseState::Undecided => " ?",
                CauseState::Withheld => " w",
            };
            format!("{} x{} of {}{undecided}", cause.cause.signature, cause.count, cause.merged)
        };
        assert_eq!(judged.causes.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!(judged.noise.values().sum::<u64>(), noise);
    }

    #[test]
    fn noise_is_dropped_and_what_is_left_is_merged() {
        check(
            &[("price", 3), ("n1 price", 4), ("n1 n2 price", 5), ("n1", 100), ("title", 6)],
            &["price value x12 of 3", "title value x6 of 1"],
            100,
        );
    }

    #[test]
    fn what_is_undecided_comes_last_and_only_on_its_own() {
        check(
            &[("u1", 50), ("n1 u1", 5), ("price u1", 2), ("?x", 9), ("c1 u1", 1)],
            &["?x value x9 of 1", "price value x2 of 1", "c1 value x1 of 1", "u1 value x55 of 2 ?"],
            0,
        );
    }

    #[test]
    fn what_nothing_can_tell_stands_apart_and_behind_what_is_decided() {
        check(
            &[("w1", 50), ("n1 w1", 5), ("price w1", 2), ("u1 w1", 4)],
            &["price value x2 of 1", "u1 value; w1 value x4 of 1 ?", "w1 value x55 of 2 w"],
            0,
        );
    }

    #[test]
    fn a_cause_of_an_older_program_stays_as_it_is() {
        let mut old = record("/a", "n1", 7, 1);
        old.changes.clear();
        let judged = merge(vec![old], by_name);
        assert_eq!((judged.causes[0].cause.signature.as_str(), judged.causes[0].count), ("n1 value", 7));
    }

    #[test]
    fn the_example_with_the_least_beside_it_is_the_first() {
        let records = vec![record("/a", "n1 price", 9, 1), record("/a", "price", 1, 30)];
        let judged = merge(records, by_name);
        let cause = &judged.causes[0];
        assert_eq!((cause.first_seen, cause.last_seen), (Timestamp(1), Timestamp(30)));
        assert_eq!(cause.examples.iter().map(|example| example.bytes).collect::<Vec<_>>(), [30]);
    }

    proptest! {
        /// The obvious twin: sets in a map.
        #[test]
        fn merging_agrees_with_sets(
            causes in proptest::collection::btree_map(
                (0..2_usize, proptest::sample::subsequence(vec!["n1", "n2", "u1", "u2", "r1", "r2"], 1..=6)), 1..50_u64, 0..40)
        ) {
            let records: Vec<_> = causes.iter()
                .map(|((route, paths), count)| record(ROUTES[*route], &paths.join(" "), *count, 1)).collect();
            let mut expected: BTreeMap<(bool, &str, BTreeSet<&str>), u64> = BTreeMap::new();
            let mut noise = 0;
            for ((route, paths), count) in &causes {
                let of = |first: char| paths.iter().copied().filter(|path| path.starts_with(first)).collect::<BTreeSet<_>>();
                let (certain, undecided) = (of('r'), of('u'));
                if certain.is_empty() && undecided.is_empty() {
                    noise += count;
                    continue;
                }
                let is_undecided = certain.is_empty();
                let rest = if is_undecided { undecided } else { certain };
                *expected.entry((is_undecided, ROUTES[*route], rest)).or_default() += count;
            }
            let judged = merge(records, by_name);
            let got: BTreeMap<_, _> = judged.causes.iter().map(|cause| {
                let paths: BTreeSet<&str> = cause.cause.changes.iter().map(|change| change.path.as_str()).collect();
                ((cause.state == CauseState::Undecided, cause.route.as_str(), paths), cause.count)
            }).collect();
            prop_assert_eq!(judged.causes.len(), got.len(), "no cause is there twice");
            prop_assert_eq!(got, expected);
            prop_assert_eq!(judged.noise.values().sum::<u64>(), noise);
        }
    }
}
