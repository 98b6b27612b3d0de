//! Conditions of `ignore` rules on the values that differ.
//!
//! A closed set, not a language: what is wrong with one is known when the file is read, none can loop or fail while it
//! runs, and a report can print each. What it cannot say, an external comparator can.

use regex::Regex;

use super::super::class::{RULE_CLASSES, is_of_rule_class};
use super::value::Text;
use crate::model::DifferenceKind;

/// When an `ignore` rule hides a difference at its place; all that is given has to hold. Nothing given: always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Both values look like this: `timestamp`, `uuid`, `hash`, `nonce`, `counter` or `ip`.
    pub class: Option<String>,
    /// The kind of the difference: `value`, `type`, `missing`, `added` or `order`.
    pub kind: Option<String>,
    /// A regular expression that the whole of both values matches.
    pub both_match: Option<String>,
    /// A regular expression that the whole of A's value matches.
    pub control_matches: Option<String>,
    /// A regular expression that the whole of B's value matches.
    pub candidate_matches: Option<String>,
    /// A's value is this text.
    pub control_is: Option<String>,
    /// B's value is this text.
    pub candidate_is: Option<String>,
}

/// The checked form of a [`When`].
#[derive(Clone, Debug)]
pub(super) struct Predicate {
    kind: Option<DifferenceKind>,
    control: Side,
    candidate: Side,
}

/// What one value has to be.
#[derive(Clone, Debug, Default)]
struct Side {
    class: Option<&'static str>,
    matching: Vec<Regex>,
    equal: Option<String>,
}

const KINDS: [DifferenceKind; 5] = [
    DifferenceKind::Value,
    DifferenceKind::Type,
    DifferenceKind::Missing,
    DifferenceKind::Added,
    DifferenceKind::Order,
];

// === impl When ===

impl When {
    /// The conditions in words, for the name of a rule; empty when there are none.
    pub(super) fn words(&self) -> String {
        let Self { class, kind, both_match, control_matches, candidate_matches, control_is, candidate_is } =
            self;
        let named = [
            ("class", class),
            ("kind", kind),
            ("both_match", both_match),
            ("control_matches", control_matches),
            ("candidate_matches", candidate_matches),
            ("control_is", control_is),
            ("candidate_is", candidate_is),
        ];
        let words = named.into_iter().filter_map(|(key, value)| {
            let value = value.as_ref()?;
            let quoted = !matches!(key, "class" | "kind");
            Some(if quoted { format!("{key} {value:?}") } else { format!("{key} {value}") })
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

// === impl Predicate ===

impl Predicate {
    pub(super) fn new(when: &When) -> Result<Self, String> {
        let When { class, kind, both_match, control_matches, candidate_matches, control_is, candidate_is } =
            when;
        let class = class.as_deref().map(class_named).transpose()?;
        let kind = kind.as_deref().map(kind_named).transpose()?;
        let side = |matching: &Option<String>, equal: &Option<String>| -> Result<Side, String> {
            let matching = [both_match, matching].into_iter().flatten();
            let matching = matching.map(|text| whole_match(text)).collect::<Result<_, _>>()?;
            Ok(Side { class, matching, equal: equal.clone() })
        };
        Ok(Self {
            kind,
            control: side(control_matches, control_is)?,
            candidate: side(candidate_matches, candidate_is)?,
        })
    }

    /// True when it holds for every difference.
    pub(super) fn is_always(&self) -> bool {
        let Self { kind, control, candidate } = self;
        kind.is_none() && control.is_always() && candidate.is_always()
    }

    /// True when it has to see the values.
    pub(super) fn needs_values(&self) -> bool {
        !self.control.is_always() || !self.candidate.is_always()
    }

    pub(super) fn allows_kind(&self, kind: DifferenceKind) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    pub(super) fn holds(&self, control: Option<&Text<'_>>, candidate: Option<&Text<'_>>) -> bool {
        self.control.holds(control) && self.candidate.holds(candidate)
    }
}

fn class_named(name: &str) -> Result<&'static str, String> {
    let known = RULE_CLASSES.into_iter().find(|class| *class == name);
    known.ok_or_else(|| format!("`{name}` is no class of values; there are {}", RULE_CLASSES.join(", ")))
}

fn kind_named(name: &str) -> Result<DifferenceKind, String> {
    let known = KINDS.into_iter().find(|kind| kind.label() == name);
    let all = KINDS.map(DifferenceKind::label).join(", ");
    known.ok_or_else(|| format!("`{name}` is no kind of difference; there are {all}"))
}

/// An expression that has to match the whole of a value. Takes time linear in the value's length.
fn whole_match(expression: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?s:{expression})$"))
        .map_err(|error| format!("the regular expression {expression:?} does not parse: {error}"))
}

// === impl Side ===

impl Side {
    fn is_always(&self) -> bool {
        self.class.is_none() && self.matching.is_empty() && self.equal.is_none()
    }

    /// A value that is absent is of no class and matches nothing.
    fn holds(&self, value: Option<&Text<'_>>) -> bool {
        let Some(value) = value else { return self.is_always() };
        self.class.is_none_or(|class| is_of_rule_class(&value.text, class))
            && self.matching.iter().all(|regex| regex.is_match(&value.text))
            && self.equal.as_ref().is_none_or(|text| value.text == *text)
    }
}
