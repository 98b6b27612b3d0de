//! Diffy's rule: for every field, the differences between A and B against those between A and A′.
//!
//! A field is shown when raw > noise, and |raw − noise| / (raw + noise) is above 20 %, and |raw − noise| / total is
//! above 0.03 %; raw counts the requests of an endpoint in which A and B differ there, noise those in which A and A′
//! do. Built after the description of the open-source program, with its defaults. Equal arrays count as equal, as in
//! the original, not as in a later version that reports them as reordered. `Date` is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::log::Observed;
use super::{Kind, lift};

/// Percent of raw and noise together.
const RELATIVE: f64 = 20.0;
/// Percent of the endpoint's requests.
const ABSOLUTE: f64 = 0.03;

/// Counts since the start; Diffy's never age.
#[derive(Debug, Default)]
pub struct Diffy {
    requests: BTreeMap<&'static str, u64>,
    fields: BTreeMap<(&'static str, String), Counts>,
}

/// The answers to one request.
#[derive(Clone, Copy, Debug)]
pub struct Triple<'a> {
    /// The endpoint.
    pub route: &'static str,
    /// Requests before it that A and B answered.
    pub before: usize,
    /// A's answer.
    pub primary: &'a Observed,
    /// B's answer.
    pub candidate: &'a Observed,
    /// A′'s answer.
    pub secondary: &'a Observed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    raw: u64,
    noise: u64,
}

/// The answers of A, B and A′, joined by request.
#[derive(Debug, Default)]
pub struct Joined<'a> {
    /// Requests that A and B answered.
    pub answered: usize,
    /// Of these, those whose answer the planted regression changed.
    pub changed: usize,
    /// Requests that A′ answered as well, in A's order.
    pub triples: Vec<Triple<'a>>,
}

/// Joins the answers to the same requests, in A's order. The first answer of B and of A′ to a request counts.
pub fn join<'a>(
    kind: Kind,
    primary: &'a [Observed],
    candidate: &'a [Observed],
    secondary: &'a [Observed],
) -> Joined<'a> {
    let first = |list: &'a [Observed]| {
        let mut by_number = HashMap::new();
        for observed in list {
            by_number.entry(observed.number).or_insert(observed);
        }
        by_number
    };
    let (candidate, secondary) = (first(candidate), first(secondary));
    let mut joined = Joined::default();
    for primary in primary {
        let Some(&candidate) = candidate.get(&primary.number) else { continue };
        let before = joined.answered;
        joined.answered += 1;
        joined.changed += usize::from(candidate.changed);
        let target = primary.request.split(' ').nth(1).unwrap_or_default();
        let route = kind.route(target.split('?').next().unwrap_or_default());
        if let (Some(route), Some(&secondary)) = (route, secondary.get(&primary.number)) {
            joined.triples.push(Triple { route, before, primary, candidate, secondary });
        }
    }
    joined
}

// === impl Diffy ===

impl Diffy {
    /// Counts the answers to one request.
    pub fn count(&mut self, triple: &Triple<'_>) {
        let Triple { route, before: _, primary, candidate, secondary } = triple;
        *self.requests.entry(route).or_default() += 1;
        let primary = lift::lift(primary);
        for path in differing(&primary, &lift::lift(candidate)) {
            self.fields.entry((route, path)).or_default().raw += 1;
        }
        for path in differing(&primary, &lift::lift(secondary)) {
            self.fields.entry((route, path)).or_default().noise += 1;
        }
    }

    /// The fields shown now: route and path.
    pub fn shown(&self) -> BTreeSet<(String, String)> {
        let is_shown = |((route, _), counts): &(&(&'static str, String), &Counts)| {
            let total = self.requests.get(route).copied().unwrap_or_default() as f64;
            let (raw, noise) = (counts.raw as f64, counts.noise as f64);
            let apart = (raw - noise).abs();
            raw > noise && apart / (raw + noise) * 100.0 > RELATIVE && apart / total * 100.0 > ABSOLUTE
        };
        self.fields
            .iter()
            .filter(is_shown)
            .map(|((route, path), _)| ((*route).to_owned(), path.clone()))
            .collect()
    }
}

/// The fields in which two answers differ.
fn differing(left: &Value, right: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    compare("", left, right, &mut found);
    found
}

fn compare(path: &str, left: &Value, right: &Value, found: &mut BTreeSet<String>) {
    if left == right {
        return;
    }
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let path = format!("{path}.{key}");
                match b.get(key) {
                    Some(other) => compare(&path, value, other, found),
                    None => drop(found.insert(format!("{path} MissingField"))),
                }
            }
            for key in b.keys().filter(|key| !a.contains_key(*key)) {
                found.insert(format!("{path}.{key} ExtraField"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() {
                found.insert(format!("{path} SeqSizeDifference"));
            } else if is_reordered(a, b) {
                found.insert(format!("{path} OrderingDifference"));
            } else {
                for (a, b) in a.iter().zip(b) {
                    compare(path, a, b, found);
                }
            }
        }
        (Value::Null, Value::Null)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => drop(found.insert(format!("{path} PrimitiveDifference"))),
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => drop(found.insert(format!("{path} TypeDifference"))),
    }
}

/// Whether two lists have the same members in another order.
fn is_reordered(a: &[Value], b: &[Value]) -> bool {
    let sorted = |list: &[Value]| {
        let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
        list.sort_unstable();
        list
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(number: u64, body: &str) -> Observed {
        let fields = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        let request = "GET /health".to_owned();
        Observed { number, request, status: 200, fields, body: body.to_owned(), changed: false }
    }

    /// So many requests in which B differs, in which A′ differs, and in all.
    #[track_caller]
    fn check(raw: u64, noise: u64, total: u64, is_shown: bool) {
        let of = |differing: u64| -> Vec<Observed> {
            (0..total).map(|n| observed(n, if n < differing { r#"{"a":2}"# } else { r#"{"a":1}"# })).collect()
        };
        let (a, b, twin) = (of(0), of(raw), of(noise));
        let mut diffy = Diffy::default();
        for triple in join(Kind::Catalog, &a, &b, &twin).triples {
            diffy.count(&triple);
        }
        assert_eq!(!diffy.shown().is_empty(), is_shown, "{raw} against {noise} of {total}");
    }

    #[test]
    fn thresholds_are_those_of_the_field() {
        check(1, 0, 50, true);
        check(600, 500, 1_000, false);
        check(610, 400, 1_000, true);
        check(5, 5, 50, false);
        check(4, 5, 50, false);
        check(1, 0, 4_000, false);
    }

    #[track_caller]
    fn check_paths(left: &str, right: &str, expected: &[&str]) {
        let value = |text| serde_json::from_str(text).unwrap();
        let expected: BTreeSet<String> = expected.iter().map(|&path| path.to_owned()).collect();
        assert_eq!(differing(&value(left), &value(right)), expected);
    }

    #[test]
    fn differences_are_named_by_path_and_kind() {
        check_paths(r#"{"a":{"b":1}}"#, r#"{"a":{"b":"1"}}"#, &[".a.b TypeDifference"]);
        check_paths("[1,2]", "[2,1]", &[" OrderingDifference"]);
        check_paths("[1,2]", "[1]", &[" SeqSizeDifference"]);
        check_paths(r#"[{"a":1},{"a":2}]"#, r#"[{"a":1},{"a":3}]"#, &[".a PrimitiveDifference"]);
        check_paths(r#"{"a":1}"#, r#"{"b":1}"#, &[".a MissingField", ".b ExtraField"]);
        check_paths("[1]", "[1]", &[]);
    }

    #[test]
    fn answers_are_joined_by_number_and_the_first_one_counts() {
        let a: Vec<_> = (0..4).map(|number| observed(number, "1")).collect();
        let mut b: Vec<_> = [3, 1, 1, 0].map(|number| observed(number, "2")).into();
        b[2].body = "again".to_owned();
        b[3].changed = true;
        let twin = [observed(1, "1"), observed(2, "1"), observed(3, "1")];
        let joined = join(Kind::Catalog, &a, &b, &twin);
        assert_eq!((joined.answered, joined.changed), (3, 1));
        let triples: Vec<_> =
            joined.triples.iter().map(|t| (t.before, t.primary.number, t.candidate.body.as_str())).collect();
        assert_eq!(triples, [(1, 1, "2"), (2, 3, "2")]);
    }
}
