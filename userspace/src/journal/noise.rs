//! The evidence about the noise at a path, in the form in which it is kept and exported.
//!
//! Judges nothing.

use serde::{Deserialize, Serialize};

use super::{JournalError, PathRecord};
use crate::model::{EvidenceSource, Needs, PathSummary, Rate};

/// What is known about the noise at one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathEvidence {
    /// Classes of the values at the last difference: `timestamp`, or `number→null`.
    pub classes: String,
    /// Comparisons of A and B with a difference here.
    pub candidate: RateEvidence,
    /// Comparisons of one version with itself with a difference here; none without any.
    pub noise: Option<RateEvidence>,
    /// Among those in which one of both differs and the other does not: A against B.
    pub excess: Option<RateEvidence>,
    /// Sources of evidence that said something here: `twin`, `again`, `repeat`.
    pub sources: Vec<String>,
    /// The decision that is nearer for an undecided path: `reported` or `noise`.
    pub towards: Option<String>,
    /// About how many more comparisons on the route it takes.
    pub comparisons_needed: Option<u64>,
}

/// How often something was so, with bounds that hold however often one looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateEvidence {
    /// How often it was.
    pub count: u64,
    /// How often it could have been.
    pub of: u64,
    /// Lower bound of the rate, 0 to 1.
    pub low: f64,
    /// Upper bound of the rate, 0 to 1.
    pub high: f64,
    /// The rate with older cases fading, 0 to 1.
    pub recent: f64,
}

// === impl PathRecord ===

impl PathRecord {
    /// The record of a path as the noise model sums it up.
    ///
    /// # Errors
    /// Never for finite numbers; JSON has no others.
    pub fn new(summary: &PathSummary) -> Result<Self, JournalError> {
        let evidence = PathEvidence::from(summary);
        let detail = serde_json::to_string(&evidence)
            .map_err(|source| JournalError::Json { what: "the evidence at a path", source })?;
        Ok(Self {
            route: summary.route.clone(),
            path: summary.path.clone(),
            state: summary.state.label().to_owned(),
            detail,
        })
    }

    /// The evidence; none where it is not what [`PathRecord::new`] writes.
    pub fn evidence(&self) -> Option<PathEvidence> {
        serde_json::from_str(&self.detail).ok()
    }
}

// === impl PathEvidence ===

impl From<&PathSummary> for PathEvidence {
    fn from(summary: &PathSummary) -> Self {
        let said = EvidenceSource::ALL.into_iter().zip(summary.sources);
        let said = said.filter(|(_, counts)| counts.hits > 0 || counts.misses > 0);
        let needs = summary.needs;
        Self {
            classes: summary.transition.to_string(),
            candidate: RateEvidence::from(summary.candidate),
            noise: summary.noise.map(RateEvidence::from),
            excess: summary.excess.map(RateEvidence::from),
            sources: said.map(|(source, _)| source.label().to_owned()).collect(),
            towards: needs.map(|needs| needs.towards.label().to_owned()),
            comparisons_needed: needs.and_then(|Needs { towards: _, differing: _, comparisons }| comparisons),
        }
    }
}

// === impl RateEvidence ===

impl From<Rate> for RateEvidence {
    fn from(Rate { count, of, low, high, recent }: Rate) -> Self {
        Self { count, of, low, high, recent }
    }
}
