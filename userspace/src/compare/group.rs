//! Names what many mismatches have in common.
//!
//! Looks at paths, kinds and classes only: two mismatches with other values at one place have one cause.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::class::transition_of;
use crate::model::{Cause, Change, Comparison, Difference, Outcome, Transition, ValueClass};

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
    let mut changes: BTreeMap<(&str, &str), Option<String>> = BTreeMap::new();
    for difference in differences {
        let classes = class_change(transition_of(difference));
        changes
            .entry((&difference.path, difference.kind.label()))
            // Elements of one array that changed in different ways are one cause all the same.
            .and_modify(|have| *have = have.take().filter(|have| Some(have) == classes.as_ref()))
            .or_insert_with(|| classes.clone());
    }
    let change = |((path, kind), classes): ((&str, &str), Option<String>)| Change {
        path: path.to_owned(),
        kind: kind.to_owned(),
        classes,
    };
    named(route, changes.into_iter().map(change))
}

/// The change from one class of value to another, in words; none where the class stayed, or a value is not there, which
/// the kind of the difference says already.
///
/// Whether a word is a hash and whether numbers only count up are guesses that come out differently from one value to
/// the next, and would make many causes of one.
fn class_change(transition: Transition) -> Option<String> {
    let certain = |class: ValueClass| match class {
        ValueClass::Hash => ValueClass::Text,
        ValueClass::Counter => ValueClass::Number,
        ValueClass::Absent
        | ValueClass::Null
        | ValueClass::Empty
        | ValueClass::Bool
        | ValueClass::Timestamp
        | ValueClass::Uuid
        | ValueClass::Ip
        | ValueClass::Number
        | ValueClass::List
        | ValueClass::Object
        | ValueClass::Text => class,
    };
    let Transition { control, candidate } = transition;
    let transition = Transition { control: certain(control), candidate: certain(candidate) };
    let is_absent = [control, candidate].contains(&ValueClass::Absent);
    (transition.is_change() && !is_absent).then(|| transition.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DifferenceKind;

    fn difference(path: &str, place: &str) -> Difference {
        Difference {
            path: path.to_owned(),
            kind: DifferenceKind::Value,
            place: place.to_owned(),
            control: Some("1".to_owned()),
            candidate: Some("2".to_owned()),
        }
    }

    #[test]
    fn order_and_number_of_differences_do_not_matter() {
        let (a, b) = (difference("json:$.a", "json:$.a"), difference("json:$.b[*]", "json:$.b[0]"));
        let again = difference("json:$.b[*]", "json:$.b[1]");
        let cause_1 = cause("/x", &[a.clone(), b.clone()]);
        assert_eq!(cause_1, cause("/x", &[again, b.clone(), a.clone()]));
        assert_eq!(cause_1.signature, "json:$.a value; json:$.b[*] value");
        assert_ne!(cause_1.id, cause("/y", &[a, b]).id, "another route is another cause");
    }

    #[track_caller]
    fn check_classes(control: ValueClass, candidate: ValueClass, expected: Option<&str>) {
        assert_eq!(class_change(Transition { control, candidate }).as_deref(), expected);
    }

    #[test]
    fn only_a_certain_change_of_class_makes_a_cause() {
        check_classes(ValueClass::Number, ValueClass::Number, None);
        check_classes(ValueClass::Number, ValueClass::Null, Some("number→null"));
        check_classes(ValueClass::Hash, ValueClass::Text, None);
        check_classes(ValueClass::Counter, ValueClass::Number, None);
        check_classes(ValueClass::Uuid, ValueClass::Hash, Some("uuid→text"));
        check_classes(ValueClass::Absent, ValueClass::Number, None);
    }
}
