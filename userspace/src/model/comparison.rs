//! What each branch did, and how the two differ.
//!
//! Decides nothing: `compare` fills these in, `report` reads them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Exchange, Response, Timestamp};

/// What one branch did with one request.
#[derive(Clone, Debug)]
pub enum Observation {
    /// It answered.
    Answered {
        /// The answer.
        response: Box<Response>,
        /// Last request byte to first response byte.
        ttfb: Duration,
        /// Last request byte to last response byte.
        served: Duration,
    },
    /// It did not give an answer that can be compared.
    Failed(BranchFailure),
}

/// Why a branch gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BranchFailure {
    /// No connection: refused, no route, name not found.
    Unreachable,
    /// No whole answer within the deadline.
    TimedOut,
    /// The connection ended before the answer did.
    Closed,
    /// What came back is not HTTP/1.x.
    Garbage,
}

/// One place where two observations differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The normalised place: `status`, `header:content-type`, `json:$.items[*].id`, `text`, `body`.
    pub path: String,
    /// In which way they differ there.
    pub kind: DifferenceKind,
    /// The exact place, with array positions: `json:$.items[3].id`.
    pub place: String,
    /// A's value, shortened; absent where A has none.
    pub control: Option<String>,
    /// B's value, shortened; absent where B has none.
    pub candidate: Option<String>,
}

/// In which way two values differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// Both are there, of one type, with other contents.
    Value,
    /// Both are there, of different types (a number and a string).
    Type,
    /// Only A has it.
    Missing,
    /// Only B has it.
    Added,
    /// The same members in another order.
    Order,
}

/// The observations of one exchange and what became of them.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The experiment's name.
    pub experiment: Arc<str>,
    /// The configured route that the request fell under, `other` where none was.
    pub route: Arc<str>,
    /// Request, and what A did.
    pub exchange: Arc<Exchange>,
    /// What B did.
    pub candidate: Observation,
    /// When the comparison was made.
    pub compared_at: Timestamp,
    /// Whether they agree.
    pub outcome: Outcome,
}

/// Whether two observations agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No difference.
    Match,
    /// Differences that no rule explains; never empty. `ignored` are those that a rule explains.
    Mismatch {
        /// What is wrong.
        differences: Vec<Difference>,
        /// Which rules hid other differences: rule, number of differences.
        ignored: Vec<(Arc<str>, u32)>,
        /// Differences beyond the limits, counted and not kept.
        omitted: u32,
    },
    /// Differences, each explained by a rule: rule, number of differences.
    Ignored(Vec<(Arc<str>, u32)>),
    /// No statement can be made.
    Incomparable(IncomparableReason),
}

/// What many mismatches have in common: one route, one set of difference paths and kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// A short name, stable over runs and versions: hexadecimal digits.
    pub id: String,
    /// The set in words: `json:$.items[*].price value; status value`.
    pub signature: String,
    /// The set itself, in order.
    pub changes: Vec<Change>,
}

/// One element of a cause: where answers differ, and in which way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The normalised path, as in [`Difference::path`].
    pub path: String,
    /// [`DifferenceKind::label`].
    pub kind: String,
    /// The classes of A's and B's value where they are not the same: `timestamp to text`.
    pub classes: Option<String>,
}

/// Why no statement can be made about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IncomparableReason {
    /// A's response was not seen whole.
    ControlIncomplete,
    /// A's or B's body passed the cap, and the hashes differ.
    BodyCut,
    /// A's or B's body could not be decoded, or decoded to more than the cap.
    Undecodable,
    /// A's or B's body is nested deeper than the limit, or holds more values than the limit.
    TooDeep,
    /// B could not be reached.
    CandidateUnreachable,
    /// B gave no whole answer in time.
    CandidateTimedOut,
    /// B closed the connection early.
    CandidateClosed,
    /// B answered something that is not HTTP.
    CandidateGarbage,
    /// A rule failed, or the external comparator gave no answer.
    RuleError,
    /// B refused a credential of ours that is another by now, or that could not be asked for again.
    CredentialsRefused,
}

// === impl BranchFailure ===

impl BranchFailure {
    /// All failures.
    pub const ALL: [BranchFailure; 4] =
        [BranchFailure::Unreachable, BranchFailure::TimedOut, BranchFailure::Closed, BranchFailure::Garbage];

    /// The failure as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            BranchFailure::Unreachable => "unreachable",
            BranchFailure::TimedOut => "timed_out",
            BranchFailure::Closed => "closed",
            BranchFailure::Garbage => "garbage",
        }
    }
}

// === impl DifferenceKind ===

impl DifferenceKind {
    /// The kind as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            DifferenceKind::Value => "value",
            DifferenceKind::Type => "type",
            DifferenceKind::Missing => "missing",
            DifferenceKind::Added => "added",
            DifferenceKind::Order => "order",
        }
    }
}

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kind, classes } = self;
        write!(f, "{path} {kind}")?;
        classes.as_ref().map_or(Ok(()), |classes| write!(f, " ({classes})"))
    }
}

// === impl Comparison ===

impl Comparison {
    /// Bytes of memory that this holds, roughly, with an exchange that may be shared.
    pub fn memory_bytes(&self) -> usize {
        let candidate = match &self.candidate {
            Observation::Answered { response, ttfb: _, served: _ } => response.memory_bytes(),
            Observation::Failed(_) => 0,
        };
        size_of::<Self>().saturating_add(self.exchange.memory_bytes()).saturating_add(candidate)
    }
}

// === impl Outcome ===

impl Outcome {
    /// The labels of all outcomes.
    pub const LABELS: [&'static str; 4] = ["match", "mismatch", "ignored", "incomparable"];

    /// Why no statement can be made; none for other outcomes.
    pub fn reason(&self) -> Option<IncomparableReason> {
        match self {
            Outcome::Incomparable(reason) => Some(*reason),
            Outcome::Match
            | Outcome::Ignored(_)
            | Outcome::Mismatch { differences: _, ignored: _, omitted: _ } => None,
        }
    }

    /// The outcome as a label value; stable.
    pub fn label(&self) -> &'static str {
        match self {
            Outcome::Match => "match",
            Outcome::Mismatch { differences: _, ignored: _, omitted: _ } => "mismatch",
            Outcome::Ignored(_) => "ignored",
            Outcome::Incomparable(_) => "incomparable",
        }
    }
}

// === impl IncomparableReason ===

impl IncomparableReason {
    /// All reasons.
    pub const ALL: [IncomparableReason; 10] = [
        IncomparableReason::ControlIncomplete,
        IncomparableReason::BodyCut,
        IncomparableReason::Undecodable,
        IncomparableReason::TooDeep,
        IncomparableReason::CandidateUnreachable,
        IncomparableReason::CandidateTimedOut,
        IncomparableReason::CandidateClosed,
        IncomparableReason::CandidateGarbage,
        IncomparableReason::RuleError,
        IncomparableReason::CredentialsRefused,
    ];

    /// The reason as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            IncomparableReason::ControlIncomplete => "control_incomplete",
            IncomparableReason::BodyCut => "body_cut",
            IncomparableReason::Undecodable => "undecodable",
            IncomparableReason::TooDeep => "too_deep",
            IncomparableReason::CandidateUnreachable => "candidate_unreachable",
            IncomparableReason::CandidateTimedOut => "candidate_timed_out",
            IncomparableReason::CandidateClosed => "candidate_closed",
            IncomparableReason::CandidateGarbage => "candidate_garbage",
            IncomparableReason::RuleError => "rule_error",
            IncomparableReason::CredentialsRefused => "credentials_refused",
        }
    }
}

impl From<BranchFailure> for IncomparableReason {
    fn from(failure: BranchFailure) -> Self {
        match failure {
            BranchFailure::Unreachable => IncomparableReason::CandidateUnreachable,
            BranchFailure::TimedOut => IncomparableReason::CandidateTimedOut,
            BranchFailure::Closed => IncomparableReason::CandidateClosed,
            BranchFailure::Garbage => IncomparableReason::CandidateGarbage,
        }
    }
}
