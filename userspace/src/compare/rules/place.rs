//! A place in the words of an external comparator.
//!
//! Refuses no text: what is no place that rules know names itself.

use super::super::findings::{Place, Step};
use super::path::{PathStep, Pattern, parse_pattern};

/// A place that an external comparator names, in the words of rules: exact, without wildcards.
#[derive(Debug)]
pub(in crate::compare) struct NamedPlace<'a> {
    pattern: Option<Pattern>,
    name: &'a str,
}

// === impl NamedPlace ===

impl<'a> NamedPlace<'a> {
    /// Reads a place as rules write it; any other text names itself.
    pub(in crate::compare) fn parse(text: &'a str) -> Self {
        let name = text.strip_prefix("comparator:").unwrap_or(text);
        Self { pattern: parse_pattern(text).ok(), name }
    }

    /// Hands the place on.
    pub(in crate::compare) fn visit<R>(&self, visit: impl FnOnce(&Place<'_>) -> R) -> R {
        let Self { pattern, name } = self;
        match pattern {
            Some(Pattern::Status) => visit(&Place::Status),
            Some(Pattern::Text) => visit(&Place::Text { line: 1 }),
            Some(Pattern::Body) => visit(&Place::Body),
            Some(Pattern::Header { name, part }) => visit(&Place::Header { name, part: part.as_deref() }),
            Some(Pattern::Json(path)) => {
                let steps: Option<Vec<Step<'_>>> = path.iter().map(PathStep::exact).collect();
                match steps {
                    Some(steps) => visit(&Place::Json(&steps)),
                    None => visit(&Place::Named(name)),
                }
            }
            Some(Pattern::AnyHeader | Pattern::Kind(_) | Pattern::Named(_)) | None => {
                visit(&Place::Named(name))
            }
        }
    }
}
