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
//! Both first pairs share the middle answer, so that B's answer and the second one of the known version are like the
//! two ends of a stick: if B does as A does, turning the stick round changes no probability.

use crate::model::{Difference, EvidenceSource, Outcome, Transition};

/// The paths at which two answers differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DifferingPaths {
    /// By path, each once.
    paths: Vec<PathDifference>,
    /// False when differences were left out for their number: a path that is not listed may then differ all the same.
    complete: bool,
}

/// One path at which two answers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathDifference {
    /// The normalised path.
    pub path: Box<str>,
    /// Classes of the values at the first difference there.
    pub transition: Transition,
    /// True when the values of any difference there are of two classes.
    pub class_changed: bool,
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
    /// Where the third pair differs, when it was compared; only counts of what differed in the middle need it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The normalised path.
    pub path: &'a str,
    /// What the triple says there.
    pub sign: Sign,
    /// Classes of the values: of the pair A/B where that differs, else of the pair of one version.
    pub transition: Transition,
}

// === impl DifferingPaths ===

impl DifferingPaths {
    /// The paths of these differences; `omitted` others were left out.
    pub fn new(differences: &[Difference], omitted: u32) -> Self {
        let _ = (differences, omitted);
        Self::default()
    }

    /// The paths at which an outcome says that two answers differ; none where nothing could be compared.
    pub fn of_outcome(outcome: &Outcome) -> Option<Self> {
        let _ = outcome;
        None
    }

    /// The paths, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &PathDifference> {
        self.paths.iter()
    }
}

// === impl Triple ===

impl<'a> Triple<'a> {
    /// What this triple says at each path where it says anything, in the order of the paths.
    pub fn signs(&self) -> Vec<Signed<'a>> {
        Vec::new()
    }
}
