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
    name: String,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
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
            Some((name, value)) => {
                let value = value.trim();
                let wanted = match value.strip_prefix('~') {
                    Some(expression) => Wanted::Matching(whole_match(expression, text)?),
                    None => Wanted::Equal(value.as_bytes().into()),
                };
                (name.trim(), wanted)
            }
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
        match wanted {
            Wanted::Present => headers.get(name).is_some(),
            Wanted::Absent => headers.get(name).is_none(),
            Wanted::Equal(value) => headers.get_all(name).any(|have| *have == **value),
            Wanted::Matching(regex) => headers.get_all(name).any(|have| regex.is_match(have)),
        }
    }
}
