//! Compares JSON documents by structure.
//!
//! Does not judge values: `1`, `1.0` and `1.00` are three numbers, since clients that read decimals as text
//! see three; a missing member, `null` and an empty value are three things. The order of an object's members
//! means nothing (RFC 8259 section 4), that of an array's elements does, unless a rule says otherwise. A key
//! that was sent twice is compared twice: the first with the first, the second with the second.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::align::{Element, FEATURES_MAX, LIKENESS_PRICE, pair_up};
use super::join::by_name;
use super::json_text::{Node, Value};
use super::{Findings, Place, Step};
use crate::model::DifferenceKind;

struct Walk<'w, 'f, 'p> {
    found: &'w mut Findings<'f>,
    steps: Vec<Step<'p>>,
}

type Member<'p> = (std::borrow::Cow<'p, str>, Node<'p>);

/// The elements of an array as compact JSON.
struct Elements<'a>(&'a [Node<'a>]);

/// Reports each place where `b` differs from `a`.
pub(super) fn compare(a: &Node<'_>, b: &Node<'_>, found: &mut Findings<'_>) {
    Walk { found, steps: Vec::new() }.values(a, b);
}

// === impl Walk ===

impl<'p> Walk<'_, '_, 'p> {
    fn values(&mut self, a: &'p Node<'p>, b: &'p Node<'p>) {
        let same = match (&a.value, &b.value) {
            (Value::Array(a), Value::Array(b)) => return self.arrays(a, b),
            (Value::Object(a), Value::Object(b)) => return self.objects(a, b),
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => self.found.origin().same(a.as_bytes(), b.as_bytes()),
            (a, b) => {
                debug_assert_ne!(a.type_name(), b.type_name(), "values of one type have an arm of their own");
                false
            }
        };
        if !same {
            let of_one_type = a.value.type_name() == b.value.type_name();
            let kind = if of_one_type { DifferenceKind::Value } else { DifferenceKind::Type };
            self.report(kind, Some(a), Some(b));
        }
    }

    fn report(&mut self, kind: DifferenceKind, a: Option<&Node<'_>>, b: Option<&Node<'_>>) {
        self.found.add(&Place::Json(&self.steps), kind, a.map(|a| a as _), b.map(|b| b as _));
    }

    fn within(&mut self, step: Step<'p>, visit: impl FnOnce(&mut Self)) {
        self.steps.push(step);
        visit(self);
        self.steps.pop();
    }

    /// One member or element: in both, in A alone, or in B alone.
    fn part(&mut self, step: Step<'p>, a: Option<&'p Node<'p>>, b: Option<&'p Node<'p>>) {
        self.within(step, |walk| match (a, b) {
            (Some(a), Some(b)) => walk.values(a, b),
            (Some(_), None) => walk.report(DifferenceKind::Missing, a, None),
            (None, Some(_)) => walk.report(DifferenceKind::Added, None, b),
            (None, None) => {}
        });
    }

    fn objects(&mut self, a: &'p [Member<'p>], b: &'p [Member<'p>]) {
        // Two versions of one program send the same members in the same order, nearly always.
        if a.len() == b.len() && a.iter().zip(b).all(|((x, _), (y, _))| x == y) {
            for ((key, x), (_, y)) in a.iter().zip(b) {
                self.part(Step::Key(key), Some(x), Some(y));
            }
            return;
        }
        // A stable sort keeps members of one key in the order they were sent, so that repetitions pair up.
        let sorted = |members: &'p [Member<'p>]| {
            let mut members: Vec<&'p Member<'p>> = members.iter().collect();
            members.sort_by(|(x, _), (y, _)| x.cmp(y));
            members
        };
        for (x, y) in by_name(sorted(a), sorted(b), |(key, _)| key) {
            if let Some((key, _)) = x.or(y) {
                self.part(Step::Key(key), x.map(|(_, node)| node), y.map(|(_, node)| node));
            }
        }
    }

    fn arrays(&mut self, a: &'p [Node<'p>], b: &'p [Node<'p>]) {
        if let Some(rule) = self.found.unordered(&Place::Json(&self.steps)) {
            self.multisets(a, b, rule);
            return;
        }
        if let Some((rule, keys)) = self.found.match_by(&Place::Json(&self.steps)) {
            self.named(a, b, rule, keys);
            return;
        }
        if is_reordered(a, b) {
            let (a, b) = (Elements(a), Elements(b));
            self.found.add(&Place::Json(&self.steps), DifferenceKind::Order, Some(&a), Some(&b));
            return;
        }
        for (i, j) in pair_up(a, b, self.found.budget()) {
            let step = Step::Index(i.or(j).unwrap_or(0));
            self.part(step, i.and_then(|i| a.get(i)), j.and_then(|j| b.get(j)));
        }
    }

    /// Pairs elements that have one name, the first of a name with the first. Those without a name pair by position
    /// among themselves. The order is the rule's to hide.
    fn named(&mut self, a: &'p [Node<'p>], b: &'p [Node<'p>], rule: usize, keys: &[String]) {
        let names = |nodes: &[Node<'_>]| nodes.iter().map(|node| name_of(node, keys)).collect::<Vec<_>>();
        let (names_a, names_b) = (names(a), names(b));
        if !a.is_empty() && names_a.iter().all(Option::is_none) {
            // A decides what an element is like: the rule is about something else than what A sends.
            self.found.fail(rule);
            return;
        }
        let mut rest: HashMap<&Option<Vec<u64>>, VecDeque<usize>> = HashMap::new();
        for (j, name) in names_b.iter().enumerate() {
            rest.entry(name).or_default().push_back(j);
        }
        let mut is_in_order = true;
        let mut last = None;
        for ((i, x), name) in a.iter().enumerate().zip(&names_a) {
            let j = rest.get_mut(name).and_then(VecDeque::pop_front);
            is_in_order &= j.is_none() || last < j;
            last = j.or(last);
            self.part(Step::Index(i), Some(x), j.and_then(|j| b.get(j)));
        }
        if !is_in_order {
            self.found.hide(rule);
        }
        let mut added: Vec<usize> = rest.into_values().flatten().collect();
        added.sort_unstable();
        for j in added {
            self.part(Step::Index(j), None, b.get(j));
        }
    }

    /// Compares without regard to order. Equal elements pair first, then alike ones; the rest is missing or added.
    fn multisets(&mut self, a: &'p [Node<'p>], b: &'p [Node<'p>], rule: usize) {
        if a.iter().map(|x| x.hash).ne(b.iter().map(|y| y.hash)) && is_reordered(a, b) {
            self.found.hide(rule);
        }
        let sorted = |nodes: &'p [Node<'p>]| {
            let mut nodes: Vec<(usize, &'p Node<'p>)> = nodes.iter().enumerate().collect();
            nodes.sort_by_key(|(index, node)| (node.hash, *index));
            nodes.into_iter().peekable()
        };
        let (mut a, mut b) = (sorted(a), sorted(b));
        let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
        loop {
            match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some((_, x)), Some((_, y))) if x.hash == y.hash => {
                    if let (Some((i, x)), Some((_, y))) = (a.next(), b.next()) {
                        self.part(Step::Index(i), Some(x), Some(y));
                    }
                }
                (Some((_, x)), Some((_, y))) if x.hash > y.hash => only_b.extend(b.next()),
                (None, Some(_)) => only_b.extend(b.next()),
                (Some(_), _) => only_a.extend(a.next()),
            }
        }
        only_a.sort_by_key(|(i, _)| *i);
        only_b.sort_by_key(|(j, _)| *j);
        let pairs_up = self.found.budget().pay(only_a.len(), only_b.len(), LIKENESS_PRICE);
        for (i, x) in only_a {
            let alike = only_b
                .iter()
                .enumerate()
                .take_while(|_| pairs_up)
                .map(|(at, (_, y))| (likeness(Some(x), Some(y)), at))
                .filter(|(likeness, _)| *likeness > 0)
                // The first of equals, so that the result does not depend on the order of a search.
                .max_by_key(|(likeness, at)| (*likeness, std::cmp::Reverse(*at)));
            let y = alike.map(|(_, at)| only_b.remove(at).1);
            self.part(Step::Index(i), Some(x), y);
        }
        for (j, y) in only_b {
            self.part(Step::Index(j), None, Some(y));
        }
    }
}

/// What names an element: the hashes of its members of these keys; none where one is missing.
fn name_of(node: &Node<'_>, keys: &[String]) -> Option<Vec<u64>> {
    let Value::Object(members) = &node.value else { return None };
    let member = |wanted: &String| members.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.hash);
    keys.iter().map(member).collect()
}

// === impl Elements ===

impl std::fmt::Display for Elements<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, element) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "[" } else { "," })?;
            element.fmt(f)?;
        }
        f.write_str("]")
    }
}

// === impl Node ===

impl Element for Node<'_> {
    fn hash(&self) -> u64 {
        self.hash
    }

    /// Members with their keys, elements with their positions; a value without parts has none.
    fn features(&self) -> Vec<u64> {
        let hash = |name: &[u8], part: &Node<'_>| {
            let mut hasher = FixedState::default().build_hasher();
            hasher.write(name);
            hasher.write_u64(part.hash);
            hasher.finish()
        };
        match &self.value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => Vec::new(),
            Value::Array(elements) => {
                let elements = elements.iter().take(FEATURES_MAX).enumerate();
                elements.map(|(at, element)| hash(&at.to_le_bytes(), element)).collect()
            }
            Value::Object(members) => {
                members.iter().take(FEATURES_MAX).map(|(key, member)| hash(key.as_bytes(), member)).collect()
            }
        }
    }
}

/// True when both arrays hold the same elements and in another order.
fn is_reordered(a: &[Node<'_>], b: &[Node<'_>]) -> bool {
    if a.len() != b.len() || a.iter().map(|x| x.hash).eq(b.iter().map(|y| y.hash)) {
        return false;
    }
    let sorted = |nodes: &[Node<'_>]| {
        let mut hashes: Vec<u64> = nodes.iter().map(|node| node.hash).collect();
        hashes.sort_unstable();
        hashes
    };
    sorted(a) == sorted(b)
}

/// How many of their first members or elements two values share; 0 for values that share none.
fn likeness(a: Option<&Node<'_>>, b: Option<&Node<'_>>) -> u32 {
    let shared = match (a.map(|a| &a.value), b.map(|b| &b.value)) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => a
            .iter()
            .take(FEATURES_MAX)
            .enumerate()
            .filter(|(at, (key, x))| {
                let is_same = |(other, y): &Member<'_>| other == key && y.hash == x.hash;
                b.get(*at).is_some_and(is_same) || b.iter().take(FEATURES_MAX).any(is_same)
            })
            .count(),
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.iter().zip(b).take(FEATURES_MAX).filter(|(x, y)| x.hash == y.hash).count()
        }
        (_, _) => 0,
    };
    u32::try_from(shared).unwrap_or(u32::MAX)
}
