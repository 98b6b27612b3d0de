//! Walks two trees and reports where they differ.
//!
//! Pairs children by what they hold, so that one inserted element is one difference; two elements of different names
//! are one that is missing and one that was added.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::{Attribute, Content, Element, Node, Tree};
use crate::compare::align::{self, FEATURES_MAX, pair_up};
use crate::compare::findings::{Language, Lossy, MarkupStep};
use crate::compare::join::by_name;
use crate::compare::url::OwnOrigin;
use crate::compare::{Findings, Place};
use crate::model::DifferenceKind;

struct Walk<'w, 'f, 'p> {
    found: &'w mut Findings<'f>,
    origin: OwnOrigin<'f>,
    language: Language,
    steps: Vec<MarkupStep<'p>>,
}

/// Children as markup.
struct Children<'a>(&'a [Node]);

/// Reports each place where `b` differs from `a`, which is in the same language.
pub(in crate::compare) fn compare(a: &Tree, b: &Tree, found: &mut Findings<'_>) {
    let origin = found.origin();
    let mut walk = Walk { found, origin, language: a.language, steps: Vec::new() };
    walk.children(&a.roots, &b.roots);
}

// === impl Walk ===

impl<'p> Walk<'_, '_, 'p> {
    fn report(&mut self, kind: DifferenceKind, a: Option<&dyn fmt::Display>, b: Option<&dyn fmt::Display>) {
        self.found.add(&Place::Markup { language: self.language, steps: &self.steps }, kind, a, b);
    }

    fn within(&mut self, step: MarkupStep<'p>, visit: impl FnOnce(&mut Self)) {
        self.steps.push(step);
        visit(self);
        self.steps.pop();
    }

    fn children(&mut self, a: &'p [Node], b: &'p [Node]) {
        if is_reordered(a, b) {
            return self.report(DifferenceKind::Order, Some(&Children(a)), Some(&Children(b)));
        }
        if a.iter().map(|x| x.hash).eq(b.iter().map(|y| y.hash)) && self.are_equal(a, b) {
            return;
        }
        let (positions_a, positions_b) = (positions(a), positions(b));
        for (i, j) in pair_up(a, b, self.found.budget()) {
            let x = i.and_then(|i| Some((a.get(i)?, positions_a.get(i).copied()?)));
            let y = j.and_then(|j| Some((b.get(j)?, positions_b.get(j).copied()?)));
            if let (Some((x, _)), Some((y, _))) = (x, y)
                && x.hash == y.hash
                && self.are_equal(std::slice::from_ref(x), std::slice::from_ref(y))
            {
                continue;
            }
            match (x, y) {
                (Some((x, at)), Some((y, _))) if x.is_of_one_name(y) => self.pair(x, y, at),
                (x, y) => {
                    x.into_iter().for_each(|(x, at)| self.alone(x, at, DifferenceKind::Missing));
                    y.into_iter().for_each(|(y, at)| self.alone(y, at, DifferenceKind::Added));
                }
            }
        }
    }

    /// True when two lists of nodes mean the same, without looking for places.
    fn are_equal(&self, a: &[Node], b: &[Node]) -> bool {
        let are = |(x, y): (&Node, &Node)| match (&x.content, &y.content) {
            (Content::Text(x), Content::Text(y)) => self.origin.same(x, y),
            (Content::Element(x), Content::Element(y)) => {
                let Element { name, attributes, children } = x;
                let same = |((name_a, x), (name_b, y)): (&Attribute, &Attribute)| {
                    name_a == name_b && self.origin.same(x, y)
                };
                *name == y.name
                    && attributes.len() == y.attributes.len()
                    && attributes.iter().zip(&y.attributes).all(same)
                    && self.are_equal(children, &y.children)
            }
            (Content::Text(_), Content::Element(_)) | (Content::Element(_), Content::Text(_)) => false,
        };
        a.len() == b.len() && a.iter().zip(b).all(are)
    }

    /// A node that only one tree has.
    fn alone(&mut self, node: &'p Node, position: usize, kind: DifferenceKind) {
        let shown: &dyn fmt::Display = node;
        let in_a = kind == DifferenceKind::Missing;
        let (a, b) = (in_a.then_some(shown), (!in_a).then_some(shown));
        self.within(node.step(position), |walk| walk.report(kind, a, b));
    }

    fn pair(&mut self, a: &'p Node, b: &'p Node, position: usize) {
        self.within(a.step(position), |walk| match (&a.content, &b.content) {
            (Content::Element(a), Content::Element(b)) => {
                walk.attributes(a, b);
                walk.children(&a.children, &b.children);
            }
            (Content::Text(a), Content::Text(b)) => {
                if !walk.origin.same(a, b) {
                    walk.report(DifferenceKind::Value, Some(&Lossy(a)), Some(&Lossy(b)));
                }
            }
            (Content::Element(_), Content::Text(_)) | (Content::Text(_), Content::Element(_)) => {
                debug_assert!(false, "nodes of two kinds are not paired");
            }
        });
    }

    fn attributes(&mut self, a: &'p Element, b: &'p Element) {
        for (x, y) in by_name(&a.attributes, &b.attributes, |(name, _)| name) {
            let Some((name, _)) = x.or(y) else { return };
            let kind = match (x, y) {
                (Some((_, x)), Some((_, y))) if self.origin.same(x, y) => continue,
                (Some(_), Some(_)) => DifferenceKind::Value,
                (Some(_), None) => DifferenceKind::Missing,
                (None, _) => DifferenceKind::Added,
            };
            let (x, y) = (x.map(|(_, x)| Lossy(x)), y.map(|(_, y)| Lossy(y)));
            self.within(MarkupStep::Attribute(name), |walk| {
                walk.report(kind, x.as_ref().map(|x| x as _), y.as_ref().map(|y| y as _));
            });
        }
    }
}

/// The position of each element among its siblings of one name, counted from 1.
fn positions(nodes: &[Node]) -> Vec<usize> {
    let mut counts: HashMap<&str, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut positions = Vec::with_capacity(nodes.len());
    for node in nodes {
        let position = match &node.content {
            Content::Text(_) => 1,
            Content::Element(element) => {
                let count = counts.entry(&element.name).or_default();
                *count = count.saturating_add(1);
                *count
            }
        };
        positions.push(position);
    }
    positions
}

/// True when both have the same children and in another order.
fn is_reordered(a: &[Node], b: &[Node]) -> bool {
    if a.len() != b.len() || a.iter().map(|x| x.hash).eq(b.iter().map(|y| y.hash)) {
        return false;
    }
    let sorted = |nodes: &[Node]| {
        let mut hashes: Vec<u64> = nodes.iter().map(|node| node.hash).collect();
        hashes.sort_unstable();
        hashes
    };
    sorted(a) == sorted(b)
}

// === impl Node ===

impl Node {
    /// True when the two can be compared: both are text, or elements of one name.
    fn is_of_one_name(&self, other: &Node) -> bool {
        match (&self.content, &other.content) {
            (Content::Text(_), Content::Text(_)) => true,
            (Content::Element(a), Content::Element(b)) => a.name == b.name,
            (Content::Text(_), Content::Element(_)) | (Content::Element(_), Content::Text(_)) => false,
        }
    }

    fn step(&self, position: usize) -> MarkupStep<'_> {
        match &self.content {
            Content::Text(_) => MarkupStep::Text,
            Content::Element(element) => MarkupStep::Element { name: &element.name, position },
        }
    }
}

impl align::Element for Node {
    fn hash(&self) -> u64 {
        self.hash
    }

    /// The name, each attribute and each child; a text has words.
    fn features(&self) -> Vec<u64> {
        let hash = |tag: u8, of: &[&[u8]]| {
            let mut hasher = FixedState::default().build_hasher();
            hasher.write_u8(tag);
            of.iter().for_each(|part| hasher.write(part));
            hasher.finish()
        };
        match &self.content {
            Content::Text(text) => {
                let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                let words = words.take(FEATURES_MAX.saturating_sub(1)).map(|word| hash(b'w', &[word]));
                std::iter::once(hash(b't', &[])).chain(words).collect()
            }
            Content::Element(Element { name, attributes, children }) => {
                let name = std::iter::once(hash(b'n', &[name.as_bytes()]));
                let attributes = attributes.iter().map(|(name, value)| hash(b'@', &[name.as_bytes(), value]));
                let children = children.iter().map(|child| child.hash);
                name.chain(attributes).chain(children).take(FEATURES_MAX).collect()
            }
        }
    }
}

// === impl Children ===

impl fmt::Display for Children<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|child| child.fmt(f))
    }
}
