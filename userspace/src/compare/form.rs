//! Compares forms (`application/x-www-form-urlencoded`) by field.
//!
//! The order of fields of different names means nothing; that of fields of one name does.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::align::{Element, pair_up};
use super::json_text::ParseError;
use super::{Findings, Place};
use crate::model::DifferenceKind;

/// A form, sorted by name; fields of one name in the order they were sent.
#[derive(Debug)]
pub(super) struct Form<'a>(Vec<Field<'a>>);

#[derive(Debug)]
struct Field<'a> {
    name: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// Reads a form (URL standard, section 5.1).
///
/// # Errors
/// When bytes of it are no UTF-8, which reading would hide, or there are more fields than `fields_max`.
pub(super) fn read(text: &[u8], fields_max: usize) -> Result<Form<'_>, ParseError> {
    let mut fields = Vec::new();
    for (name, value) in form_urlencoded::parse(text) {
        if fields.len() >= fields_max {
            return Err(ParseError::TooMany);
        }
        if name.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER) {
            return Err(ParseError::Malformed);
        }
        fields.push(Field { name, value });
    }
    // Stable, so that fields of one name keep their order.
    fields.sort_by(|x, y| x.name.cmp(&y.name));
    Ok(Form(fields))
}

/// Reports each field that differs.
pub(super) fn compare(a: &Form<'_>, b: &Form<'_>, found: &mut Findings<'_>) {
    let (Form(a), Form(b)) = (a, b);
    for (i, j) in pair_up(a, b, found.budget()) {
        match (i.and_then(|i| a.get(i)), j.and_then(|j| b.get(j))) {
            (Some(x), Some(y)) if x.name == y.name => {
                if !found.origin().same(x.value.as_bytes(), y.value.as_bytes()) {
                    found.add(&x.place(), DifferenceKind::Value, Some(&x.value), Some(&y.value));
                }
            }
            (x, y) => {
                if let Some(x) = x {
                    found.add(&x.place(), DifferenceKind::Missing, Some(&x.value), None);
                }
                if let Some(y) = y {
                    found.add(&y.place(), DifferenceKind::Added, None, Some(&y.value));
                }
            }
        }
    }
}

// === impl Field ===

impl Field<'_> {
    fn place(&self) -> Place<'_> {
        Place::Form { name: &self.name }
    }

    fn hash_of(parts: [&str; 2]) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        parts.iter().for_each(|part| {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        });
        hasher.finish()
    }
}

impl Element for Field<'_> {
    fn hash(&self) -> u64 {
        Self::hash_of([&self.name, &self.value])
    }

    fn features(&self) -> Vec<u64> {
        vec![Self::hash_of([&self.name, ""])]
    }
}
