//! Conditions on the header fields of a request.
//!
//! Never joins repeated fields: each is looked at by itself.

use regex::bytes::Regex;

use crate::model::{Headers, is_token};

use super::SelectConfigError;
use super::route::whole_match;

/// One condition.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) name: String,
    pub(super) wanted: Wanted,
}

/// What the values of one name have to be.
#[derive(Debug)]
pub(super) enum Wanted {
    Present,
    Absent,
    Equal(Box<[u8]>),
    Matching(Regex),
}

// === impl Condition ===

impl Condition {
    /// Parses `name`, `!name`, `name: value` or `name: ~regex`.
    pub(super) fn parse(text: &str) -> Result<Self, SelectConfigError> {
        let (name, wanted) = match text.split_once(':') {
            Some((name, value)) => (name.trim(), Wanted::value(value, text)?),
            None => match text.trim().strip_prefix('!') {
                Some(name) => (name.trim(), Wanted::Absent),
                None => (text.trim(), Wanted::Present),
            },
        };
        // `!` may stand in a token, yet `!name: value` is more likely a wish that this cannot express.
        if !is_token(name.as_bytes()) || name.starts_with('!') {
            return Err(SelectConfigError::Header { condition: text.to_owned() });
        }
        Ok(Self { name: name.to_owned(), wanted })
    }

    /// True when the fields of a request are as wanted.
    pub(super) fn holds(&self, headers: &Headers) -> bool {
        let Self { name, wanted } = self;
        wanted.holds(headers.get_all(name))
    }
}

// === impl Wanted ===

impl Wanted {
    /// Parses `value` or `~regex`; `condition` is for errors.
    pub(super) fn value(value: &str, condition: &str) -> Result<Self, SelectConfigError> {
        let value = value.trim();
        Ok(match value.strip_prefix('~') {
            Some(expression) => Wanted::Matching(whole_match(expression, condition)?),
            None => Wanted::Equal(value.as_bytes().into()),
        })
    }

    /// True when the values are as wanted: none, any, or one of them this.
    pub(super) fn holds<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        match self {
            Wanted::Present => values.next().is_some(),
            Wanted::Absent => values.next().is_none(),
            Wanted::Equal(value) => values.any(|have| *have == **value),
            Wanted::Matching(regex) => values.any(|have| regex.is_match(have)),
        }
    }
}
