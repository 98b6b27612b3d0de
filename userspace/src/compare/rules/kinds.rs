//! Rules as a configuration says them, and the names that results give them.
//!
//! Checks nothing: `rule` does.

use std::fmt::{self, Display};

use super::super::findings::Place;
use super::clean::CleanRule;
use super::predicate::When;
use super::tolerance::ToleranceRule;

/// Differences to hide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoreRule {
    /// The place: `status`, `text`, `body`, `header:NAME`, `header:*`, `header:set-cookie[NAME]`, `comparator:NAME`, or
    /// `json:PATH` where PATH begins with `$` and goes on with `.key`, `['key']`, `[3]`, `.*` (any key), `[*]` (any
    /// array element) and `.**` (any number of steps, also none).
    pub at: String,
    /// Under which conditions. Default: always.
    pub when: When,
}

/// Pairs the elements of an array by members that name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchRule {
    /// The array, as `json:PATH`.
    pub at: String,
    /// The members whose values name an element. Never empty.
    pub keys: Vec<String>,
}

/// What counts as the same error, where both branches answer with one (a status of 400 or more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompareErrors {
    /// Errors are compared like all other answers.
    #[default]
    Full,
    /// The status has to be the same; nothing else has.
    Status,
    /// Both have to be 4xx, or both 5xx; nothing else has to be the same.
    Class,
    /// As `Class`; and where A answered 5xx, a B that gives no answer failed likewise.
    Failure,
}

// === impl IgnoreRule ===

impl From<String> for IgnoreRule {
    fn from(at: String) -> Self {
        Self { at, when: When::default() }
    }
}

impl From<&str> for IgnoreRule {
    fn from(at: &str) -> Self {
        at.to_owned().into()
    }
}

/// The rule as results name it.
impl Display for IgnoreRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, when } = self;
        match when.words() {
            words if words.is_empty() => f.write_str(at),
            words => write!(f, "{at} ({words})"),
        }
    }
}

// === impl CleanRule ===

/// The rule as results name it.
impl Display for CleanRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

// === impl ToleranceRule ===

/// The rule as results name it.
impl Display for ToleranceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

// === impl MatchRule ===

/// The rule as results name it.
impl Display for MatchRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "match_by {} ({})", self.at, self.keys.join(", "))
    }
}

// === impl CompareErrors ===

impl CompareErrors {
    /// All of them.
    pub const ALL: [CompareErrors; 4] =
        [CompareErrors::Full, CompareErrors::Status, CompareErrors::Class, CompareErrors::Failure];

    /// Its name in the configuration; stable.
    pub fn label(self) -> &'static str {
        match self {
            CompareErrors::Full => "full",
            CompareErrors::Status => "status",
            CompareErrors::Class => "class",
            CompareErrors::Failure => "failure",
        }
    }

    /// True when it hides a difference here, between errors of one class.
    pub(super) fn hides(self, place: &Place<'_>) -> bool {
        match self {
            CompareErrors::Full => false,
            CompareErrors::Status => !matches!(place, Place::Status),
            CompareErrors::Class | CompareErrors::Failure => true,
        }
    }
}
