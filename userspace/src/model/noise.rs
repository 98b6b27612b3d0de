//! What is known about the noise of each path, as plain data.
//!
//! Decides nothing: `compare::noise` fills these in, the journal keeps them, `report` reads them.

use std::fmt;

/// What stands among the rules that hid a difference where it was known to be noise.
pub const NOISE_RULE: &str = "noise";

/// What is known about one path: whether what differs there is B's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathState {
    /// A and B differ there more often than one version differs from itself; the false discovery rate holds.
    Reported,
    /// Was reported, and has stopped: no difference for long, or no more than one version differs from itself.
    Ceased,
    /// The evidence does not suffice yet for either side.
    Undecided,
    /// No source of evidence can ever say anything (a request that may write, and no twin), and both values look as if
    /// they always differed: ids that each instance counts or draws, times. Neither counted as a mismatch nor hidden.
    Withheld,
    /// Nothing was measured: no twin, no safe request that came or was sent twice.
    Unmeasured,
    /// One version differs from itself there about as often as B differs from A.
    Noise,
}

/// Where the second answer of one version came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceSource {
    /// A second instance of A's version in B's environment was asked too.
    Twin,
    /// B was asked a second time.
    Again,
    /// A itself answered the same safe request twice.
    Repeat,
}

/// What kind of value stands somewhere, told from how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueClass {
    /// There is no value.
    Absent,
    /// `null`.
    Null,
    /// A text without characters, or of white space only.
    Empty,
    /// `true` or `false`.
    Bool,
    /// A point in time: RFC 3339, a date of HTTP (RFC 9110 section 5.6.7), seconds or milliseconds since 1970.
    Timestamp,
    /// A UUID (RFC 9562).
    Uuid,
    /// A hash, token or nonce: hexadecimal digits or base64 without a meaning to a reader.
    Hash,
    /// An IP address.
    Ip,
    /// A number that never went down at its path.
    Counter,
    /// Any other number.
    Number,
    /// An array or another list.
    List,
    /// An object.
    Object,
    /// Any other text.
    Text,
}

/// The classes of two values that differ: A's, then B's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transition {
    /// Of A's value.
    pub control: ValueClass,
    /// Of B's value.
    pub candidate: ValueClass,
}

/// How often something was so, with bounds that hold at every moment of looking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How often it was.
    pub count: u64,
    /// How often it could have been.
    pub of: u64,
    /// Lower bound of the rate, 0 to 1.
    pub low: f64,
    /// Upper bound of the rate, 0 to 1.
    pub high: f64,
    /// The rate with older cases fading, 0 to 1; without bounds.
    pub recent: f64,
}

/// What the triples of one source said at one path. Triples in which nothing differed there are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvidenceCounts {
    /// A and B differed, the two answers of one version did not: evidence against B.
    pub hits: u64,
    /// The two answers of one version differed, A and B did not: evidence for noise.
    pub misses: u64,
    /// Both pairs differed, and so did the third: says that the path is noisy, not whose doing a difference is.
    pub all_different: u64,
    /// Both pairs differed, the third did not: with a twin, B's environment makes the difference, not B.
    pub middle_different: u64,
}

/// What is lacking for a decision, if things go on as they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The decision that is nearer: [`PathState::Reported`] or [`PathState::Noise`].
    pub towards: PathState,
    /// Triples in which something differs at the path.
    pub differing: u64,
    /// Comparisons on the route that it takes to see as many; none when there is no rate to tell from.
    pub comparisons: Option<u64>,
}

/// All that is known about one path of one route.
#[derive(Clone, Debug, PartialEq)]
pub struct PathSummary {
    /// The route.
    pub route: String,
    /// The normalised path.
    pub path: String,
    /// What follows from the rest.
    pub state: PathState,
    /// Classes of the values at the last difference.
    pub transition: Transition,
    /// A against B: comparisons on the route with a difference here.
    pub candidate: Rate,
    /// One version against itself, from twins and repeats: triples on the route with a difference here. None without
    /// such triples. Triples of [`EvidenceSource::Again`] are not in it: they are made where A and B differ.
    pub noise: Option<Rate>,
    /// Hits among hits and misses. Above one half, A and B differ more often than one version from itself. None
    /// before the first.
    pub excess: Option<Rate>,
    /// Natural logarithm of the e-value against "B does as A does".
    pub evidence: f64,
    /// What `evidence` must reach to be reported, with the other paths as they are now.
    pub evidence_needed: f64,
    /// Natural logarithm of the e-value against "most of what differs is B's doing".
    pub noise_evidence: f64,
    /// What `noise_evidence` must reach to be noise.
    pub noise_evidence_needed: f64,
    /// What each source said, in the order of [`EvidenceSource::ALL`].
    pub sources: [EvidenceCounts; 3],
    /// For an undecided path: what is lacking.
    pub needs: Option<Needs>,
    /// Number of the first comparison on the route that differed here, counted from 1.
    pub first_seen: u64,
    /// Number of the last one.
    pub last_seen: u64,
    /// For a path that has ceased: the comparison from which on it was quiet.
    pub ceased_since: Option<u64>,
}

/// How much was measured on one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMeasure {
    /// The route.
    pub route: String,
    /// Comparisons of A and B that could be made.
    pub comparisons: u64,
    /// Triples, in the order of [`EvidenceSource::ALL`].
    pub triples: [u64; 3],
}

/// What is known about the noise of one experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseReport {
    /// Level of false discoveries among reported paths.
    pub false_discovery_rate: f64,
    /// Level of the bounds of each [`Rate`].
    pub confidence: f64,
    /// By route name.
    pub routes: Vec<RouteMeasure>,
    /// By route name, then state, then path.
    pub paths: Vec<PathSummary>,
    /// Differences at paths beyond the bound on paths; nothing is measured there.
    pub differences_unmeasured: u64,
}

// === impl PathState ===

impl PathState {
    /// All states, what matters most first.
    pub const ALL: [PathState; 6] = [
        PathState::Reported,
        PathState::Ceased,
        PathState::Undecided,
        PathState::Withheld,
        PathState::Unmeasured,
        PathState::Noise,
    ];

    /// The state as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            PathState::Reported => "reported",
            PathState::Ceased => "ceased",
            PathState::Undecided => "undecided",
            PathState::Withheld => "withheld",
            PathState::Unmeasured => "unmeasured",
            PathState::Noise => "noise",
        }
    }
}

// === impl EvidenceSource ===

impl EvidenceSource {
    /// All sources.
    pub const ALL: [EvidenceSource; 3] =
        [EvidenceSource::Twin, EvidenceSource::Again, EvidenceSource::Repeat];

    /// The source as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            EvidenceSource::Twin => "twin",
            EvidenceSource::Again => "again",
            EvidenceSource::Repeat => "repeat",
        }
    }
}

// === impl ValueClass ===

impl ValueClass {
    /// All classes.
    pub const ALL: [ValueClass; 13] = [
        ValueClass::Absent,
        ValueClass::Null,
        ValueClass::Empty,
        ValueClass::Bool,
        ValueClass::Timestamp,
        ValueClass::Uuid,
        ValueClass::Hash,
        ValueClass::Ip,
        ValueClass::Counter,
        ValueClass::Number,
        ValueClass::List,
        ValueClass::Object,
        ValueClass::Text,
    ];

    /// The class as output names it; stable.
    pub fn label(self) -> &'static str {
        match self {
            ValueClass::Absent => "absent",
            ValueClass::Null => "null",
            ValueClass::Empty => "empty",
            ValueClass::Bool => "bool",
            ValueClass::Timestamp => "timestamp",
            ValueClass::Uuid => "uuid",
            ValueClass::Hash => "hash",
            ValueClass::Ip => "ip",
            ValueClass::Counter => "counter",
            ValueClass::Number => "number",
            ValueClass::List => "list",
            ValueClass::Object => "object",
            ValueClass::Text => "text",
        }
    }

    /// True for what often differs between two runs of one program. A prior, never a reason alone.
    pub fn is_volatile(self) -> bool {
        match self {
            ValueClass::Timestamp
            | ValueClass::Uuid
            | ValueClass::Hash
            | ValueClass::Ip
            | ValueClass::Counter => true,
            ValueClass::Absent
            | ValueClass::Null
            | ValueClass::Empty
            | ValueClass::Bool
            | ValueClass::Number
            | ValueClass::List
            | ValueClass::Object
            | ValueClass::Text => false,
        }
    }
}

// === impl Transition ===

impl Transition {
    /// True when the value became one of another kind.
    pub fn is_change(self) -> bool {
        self.control != self.candidate
    }

    /// True when both values are of one class that often differs between two runs of one program.
    pub fn is_volatile(self) -> bool {
        !self.is_change() && self.control.is_volatile()
    }
}

/// `timestamp` where both are of one class, else `timestamp→null`.
impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.control.label())?;
        if self.is_change() { write!(f, "→{}", self.candidate.label()) } else { Ok(()) }
    }
}
