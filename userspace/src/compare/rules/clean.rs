//! Rewrites values before they are compared.
//!
//! Rewrites both values in the same way, and never an absent one.

use std::borrow::Cow;

use regex::{NoExpand, Regex};
use rust_decimal::RoundingStrategy;

use super::value::{Number, Text};

/// Rewrites both values at a place before they are compared. What is given is done in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanRule {
    /// The place, as in `ignore`.
    pub at: String,
    /// A regular expression; each match becomes `with`.
    pub replace: Option<String>,
    /// What takes its place, word by word. Default: nothing.
    pub with: Option<String>,
    /// Removes white space at both ends.
    pub trim: bool,
    /// Makes letters lower case.
    pub lower: bool,
    /// Rounds numbers to this many digits behind the point, halves away from zero; at most 28. Other values stay.
    pub round: Option<u32>,
    /// Sorts the elements of a JSON array.
    pub sort: bool,
}

/// The checked form of a [`CleanRule`], without its place.
#[derive(Clone, Debug)]
pub(super) struct Cleaning {
    replace: Option<(Regex, String)>,
    trim: bool,
    lower: bool,
    round: Option<u32>,
    pub(super) sort: bool,
}

/// Digits that a decimal can hold.
const DIGITS_MAX: u32 = 28;

// === impl CleanRule ===

impl CleanRule {
    pub(super) fn words(&self) -> String {
        let Self { at, replace, with, trim, lower, round, sort } = self;
        let with = with.as_deref().unwrap_or_default();
        let parts = [
            replace.as_ref().map(|expression| format!("replace {expression:?} with {with:?}")),
            trim.then(|| "trim".to_owned()),
            lower.then(|| "lower".to_owned()),
            round.map(|digits| format!("round {digits}")),
            sort.then(|| "sort".to_owned()),
        ];
        format!("clean {at} ({})", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

// === impl Cleaning ===

impl Cleaning {
    pub(super) fn new(rule: &CleanRule) -> Result<Self, String> {
        let CleanRule { at, replace, with, trim, lower, round, sort } = rule;
        if replace.is_none() && with.is_some() {
            return Err("`with` has no `replace`".to_owned());
        }
        if replace.is_none() && !*trim && !*lower && round.is_none() && !*sort {
            return Err("says nothing to do: add `replace`, `trim`, `lower`, `round` or `sort`".to_owned());
        }
        if round.is_some_and(|digits| digits > DIGITS_MAX) {
            return Err(format!("`round` must be from 0 to {DIGITS_MAX}"));
        }
        if *sort && !at.starts_with("json:") {
            return Err("`sort` is for arrays: its place must begin with `json:`".to_owned());
        }
        let replace = replace.as_ref().map(|expression| {
            Regex::new(expression)
                .map(|regex| (regex, with.clone().unwrap_or_default()))
                .map_err(|error| format!("the regular expression {expression:?} does not parse: {error}"))
        });
        let replace = replace.transpose()?;
        Ok(Self { replace, trim: *trim, lower: *lower, round: *round, sort: *sort })
    }

    /// True when it changes texts, not only the order of elements.
    pub(super) fn rewrites(&self) -> bool {
        self.replace.is_some() || self.trim || self.lower || self.round.is_some()
    }

    /// The value as it is compared.
    pub(super) fn apply<'a>(&self, value: Text<'a>) -> Text<'a> {
        let Self { replace, trim, lower, round, sort: _ } = self;
        let mut value = value;
        if let Some((regex, with)) = replace
            && let Cow::Owned(text) = regex.replace_all(&value.text, NoExpand(with))
        {
            value.text = Cow::Owned(text);
        }
        if *trim && value.text.trim().len() < value.text.len() {
            value.text = Cow::Owned(value.text.trim().to_owned());
        }
        if *lower {
            value.text = Cow::Owned(value.text.to_lowercase());
        }
        if let Some(digits) = round
            && let Ok(Some(Number::Exact(number))) = value.number()
        {
            let rounded = number.round_dp_with_strategy(*digits, RoundingStrategy::MidpointAwayFromZero);
            value.text = Cow::Owned(rounded.normalize().to_string());
        }
        value
    }
}
