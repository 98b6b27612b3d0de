//! Names what many mismatches have in common.
//!
//! Looks at paths, kinds and classes only: two mismatches with other values at one place have one cause.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::model::{Cause, Change, Comparison, Difference, Outcome};

/// The cause of a mismatch; none for other outcomes.
pub fn cause_of(comparison: &Comparison) -> Option<Cause> {
    match &comparison.outcome {
        Outcome::Mismatch { differences, ignored: _, omitted: _ } => {
            Some(cause(&comparison.route, differences))
        }
        Outcome::Match | Outcome::Ignored(_) | Outcome::Incomparable(_) => None,
    }
}

/// The cause that a set of differences on one route points to.
pub fn cause(route: &str, differences: &[Difference]) -> Cause {
    let change = |difference: &Difference| Change {
        path: difference.path.clone(),
        kind: difference.kind.label().to_owned(),
        classes: None,
    };
    named(route, differences.iter().map(change))
}

/// The cause that consists of these changes on one route, in whatever order and number they come.
///
/// Its signature is the sorted set of changes, `; ` between them. Its id is the first 8 hexadecimal digits of the
/// SHA-256 over route and signature, so that a cause has one name in every run.
pub fn named(route: &str, changes: impl IntoIterator<Item = Change>) -> Cause {
    let changes: BTreeSet<Change> = changes.into_iter().collect();
    let changes: Vec<Change> = changes.into_iter().collect();
    let signature = changes.iter().map(Change::to_string).collect::<Vec<_>>().join("; ");
    let digest = Sha256::new().chain_update(route).chain_update([0]).chain_update(&signature).finalize();
    let id = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Cause { id, signature, changes }
}
