//! Judges three answers to one request, two of them from one version: which pair differs where.
//!
//! Compares no answers itself, and weighs nothing.
//!
//! | source | the middle answer | the pair A/B | the pair of one version | the third pair |
//! |---|---|---|---|---|
//! | twin A′ | A | A, B | A, A′ | A′, B |
//! | again B₂ | B₁ | A, B₁ | B₁, B₂ | A, B₂ |
//! | repeat A₁, A₂ | A₂ | A₂, B | A₁, A₂ | A₁, B |
//!
//! Both first pairs share the middle answer, so that the other two answers are like the ends of a stick: if B does as A
//! does, turning the stick round changes no probability. So a hit and a miss are then equally likely. What only the
//! third pair could tell (which of three different answers is the odd one) enters no bet.
//!
//! | A/B | one version | third | sign |
//! |---|---|---|---|
//! | differ | equal | | hit |
//! | equal | differ | | miss |
//! | differ | differ | equal | middle different |
//! | differ | differ | differ or unknown | by class of value if only one pair changes it: hit or miss; else all different |
//! | equal | equal | | none |
//! | not compared | | | none |
//!
//! A path was not compared where a list of differences was cut off at its bound and does not name it, or where the
//! statuses are of different classes, so that nothing else was looked at.

use super::super::class::{numbers_of, transition_of};
use super::reach::Reach;
use crate::compare::CompareLimits;
use crate::model::{Difference, EvidenceSource, Outcome, Transition};

/// The paths at which two answers differ.
#[derive(Clone, Debug, PartialEq)]
pub struct DifferingPaths {
    /// By path, each once.
    paths: Vec<PathDifference>,
    /// False when a path that is not listed may differ all the same.
    complete: bool,
}

/// One path at which two answers differ.
#[derive(Clone, Debug, PartialEq)]
pub struct PathDifference {
    /// The normalised path.
    pub path: Box<str>,
    /// Classes of the values at the first difference there.
    pub transition: Transition,
    /// True when the values of any difference there are of two classes.
    pub class_changed: bool,
    /// A's value at the first difference there, where it is a number.
    pub control_number: Option<f64>,
    /// B's value there, likewise.
    pub candidate_number: Option<f64>,
    /// How far the answers lie apart there.
    pub reach: Reach,
}

/// Three answers to one request.
#[derive(Clone, Copy, Debug)]
pub struct Triple<'a> {
    /// Where the third answer came from.
    pub source: EvidenceSource,
    /// Where A and B differ.
    pub candidate: &'a DifferingPaths,
    /// Where the two answers of one version differ.
    pub same_version: &'a DifferingPaths,
    /// Where the third pair differs, when it was compared; tells whether the middle answer is the odd one.
    pub third: Option<&'a DifferingPaths>,
    /// False when the answers came at times that favour a hit ([`super::Repeat::is_fair`],
    /// [`super::AgainConfig::is_fair`]): hits then do not count against B; everything else does.
    pub fair: bool,
}

/// What a triple says at one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Only the pair A/B differs.
    Hit,
    /// Only the pair of one version differs.
    Miss,
    /// All three differ, or it is not known whether the third pair does.
    AllDifferent,
    /// Both pairs differ and the third does not: the middle answer is the odd one.
    MiddleDifferent,
}

/// One path with what a triple says there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signed<'a> {
    /// The normalised path.
    pub path: &'a str,
    /// What the triple says there.
    pub sign: Sign,
    /// Classes of the values: of the pair A/B where that differs, else of the pair of one version.
    pub transition: Transition,
    /// How far the pair A/B lies apart; none where it agrees.
    pub candidate: Option<Reach>,
    /// How far the pair of one version lies apart; none where it agrees.
    pub same_version: Option<Reach>,
}

// === impl DifferingPaths ===

impl Default for DifferingPaths {
    /// Two answers that differ nowhere.
    fn default() -> Self {
        Self { paths: Vec::new(), complete: true }
    }
}

impl DifferingPaths {
    /// The paths of these differences; `omitted` others were left out, for the bounds in `limits`.
    pub fn new(differences: &[Difference], omitted: u32, limits: &CompareLimits) -> Self {
        // With room left, what was omitted was so for its path, which is listed.
        let cut_off = omitted > 0 && differences.len() >= limits.differences_max;
        let mut paths: Vec<PathDifference> = differences.iter().map(PathDifference::new).collect();
        // Stable: the first difference of a path stays its first.
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        paths.dedup_by(|next, first| {
            let same = next.path == first.path;
            first.class_changed |= same && next.class_changed;
            first.reach.places = first.reach.places.saturating_add(u32::from(same));
            first.reach.changes_class = first.class_changed;
            same
        });
        Self { paths, complete: !cut_off && !differences.iter().any(ends_comparing) }
    }

    /// The paths at which an outcome says that two answers differ; none where nothing could be compared.
    pub fn of_outcome(outcome: &Outcome, limits: &CompareLimits) -> Option<Self> {
        match outcome {
            Outcome::Match | Outcome::Ignored(_) => Some(Self::default()),
            Outcome::Mismatch { differences, ignored: _, omitted } => {
                Some(Self::new(differences, *omitted, limits))
            }
            Outcome::Incomparable(_) => None,
        }
    }

    /// The paths, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &PathDifference> {
        self.paths.iter()
    }

    /// For simulations: these paths, in their order, with values of one class each that lie so far apart.
    #[cfg(test)]
    pub(super) fn of(paths: &[(&str, crate::model::ValueClass, f64)]) -> Self {
        let of_class = |(path, class, step): &(&str, crate::model::ValueClass, f64)| PathDifference {
            path: (*path).into(),
            transition: Transition { control: *class, candidate: *class },
            class_changed: false,
            control_number: None,
            candidate_number: None,
            reach: Reach { changes_class: false, places: 1, step: *step },
        };
        Self { paths: paths.iter().map(of_class).collect(), complete: true }
    }

    /// True when the answers differ nowhere.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn get(&self, path: &str) -> Option<&PathDifference> {
        let at = self.paths.binary_search_by(|have| (*have.path).cmp(path)).ok()?;
        self.paths.get(at)
    }

    /// Whether the answers differ there; none when that is not known.
    fn differs(&self, path: &str) -> Option<bool> {
        match self.get(path) {
            Some(_) => Some(true),
            None if self.complete => Some(false),
            None => None,
        }
    }
}

// === impl PathDifference ===

impl PathDifference {
    fn new(difference: &Difference) -> Self {
        let transition = transition_of(difference);
        let (control_number, candidate_number) = numbers_of(difference);
        let step = control_number.zip(candidate_number).map_or(0.0, |(a, b)| b - a);
        Self {
            path: difference.path.as_str().into(),
            transition,
            class_changed: transition.is_change(),
            control_number,
            candidate_number,
            reach: Reach { changes_class: transition.is_change(), places: 1, step },
        }
    }
}

/// True for statuses of two classes: the comparator then compares nothing else.
fn ends_comparing(difference: &Difference) -> bool {
    let class = |shown: &Option<String>| shown.as_deref().and_then(|status| status.chars().next());
    difference.path == "status" && class(&difference.control) != class(&difference.candidate)
}

// === impl Triple ===

impl<'a> Triple<'a> {
    /// What this triple says at each path where it says anything, in the order of the paths.
    pub fn signs(&self) -> Vec<Signed<'a>> {
        let Self { source: _, candidate, same_version, third, fair: _ } = *self;
        let lone = same_version.paths.iter().filter(|same| candidate.get(&same.path).is_none());
        let mut signs: Vec<Signed<'a>> = lone
            .filter(|_| candidate.complete)
            .map(|same| Signed {
                path: &same.path,
                sign: Sign::Miss,
                transition: same.transition,
                candidate: None,
                same_version: Some(same.reach),
            })
            .collect();
        signs.extend(candidate.paths.iter().filter_map(|differing| {
            let sign = match same_version.get(&differing.path) {
                None if same_version.complete => Sign::Hit,
                None => return None,
                Some(same) => {
                    let third = third.and_then(|third| third.differs(&differing.path));
                    match (third, differing.class_changed, same.class_changed) {
                        (Some(false), _, _) => Sign::MiddleDifferent,
                        (Some(true) | None, true, false) => Sign::Hit,
                        (Some(true) | None, false, true) => Sign::Miss,
                        (Some(true) | None, _, _) => Sign::AllDifferent,
                    }
                }
            };
            Some(Signed {
                path: &differing.path,
                sign,
                transition: differing.transition,
                candidate: Some(differing.reach),
                same_version: same_version.get(&differing.path).map(|same| same.reach),
            })
        }));
        signs.sort_by_key(|signed| signed.path);
        signs
    }
}
