//! The paths that rules are written in, and what they match.
//!
//! Never matches a part of a name: a rule names a whole place, with wildcards for whole steps.

use super::super::findings::{Place, Step};
use super::super::headers;
use super::super::patterns::KindPattern;

/// The places that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compare) enum Pattern {
    Status,
    Text,
    Body,
    AnyHeader,
    Header {
        name: String,
        part: Option<String>,
    },
    Json(Vec<PathStep>),
    /// Cookies, trees, forms, parts and events.
    Kind(KindPattern),
    Named(String),
}

/// One step of a path into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compare) enum PathStep {
    Key(String),
    Index(usize),
    AnyKey,
    AnyIndex,
    Many,
}

// === impl Pattern ===

impl Pattern {
    /// True for a place that is one of these.
    pub(in crate::compare) fn matches(&self, place: &Place<'_>) -> bool {
        match (self, place) {
            (Pattern::Kind(pattern), place) => pattern.matches(place),
            (Pattern::Status, Place::Status)
            | (Pattern::Text, Place::Text { line: _ })
            | (Pattern::Body, Place::Body)
            | (
                Pattern::AnyHeader,
                Place::Header { name: _, part: _ } | Place::Cookie { name: _, attribute: _ },
            ) => true,
            (Pattern::Header { name, part: None }, Place::Cookie { name: _, attribute: _ }) => {
                name == "set-cookie"
            }
            (Pattern::Header { name, part }, Place::Header { name: have, part: have_part }) => {
                // A rule for a field covers its parts; a rule for a part covers that part alone.
                name == have && (part.is_none() || part.as_deref() == *have_part)
            }
            (Pattern::Json(pattern), Place::Json(steps)) => path_matches(pattern, steps),
            (Pattern::Named(wanted), Place::Named(name)) => wanted == name,
            (
                Pattern::Status
                | Pattern::Text
                | Pattern::Body
                | Pattern::AnyHeader
                | Pattern::Header { name: _, part: _ }
                | Pattern::Json(_)
                | Pattern::Named(_),
                _,
            ) => false,
        }
    }
}

/// Parses a place as `docs/comparison.md` lists them, or `comparator:NAME`.
pub(in crate::compare) fn parse_pattern(text: &str) -> Result<Pattern, String> {
    if let Some(pattern) = KindPattern::parse(text) {
        return pattern.map(Pattern::Kind);
    }
    match text.split_once(':') {
        None => match text {
            "status" => Ok(Pattern::Status),
            "text" => Ok(Pattern::Text),
            "body" => Ok(Pattern::Body),
            other => Err(format!(
                "`{other}` is no place; write `status`, `text`, `body`, `header:NAME` or `json:$.PATH`"
            )),
        },
        Some(("header", "*")) => Ok(Pattern::AnyHeader),
        Some(("header", field)) => parse_header(field),
        Some(("json", path)) => parse_path(path).map(Pattern::Json),
        Some(("comparator", name)) if !name.is_empty() => Ok(Pattern::Named(name.to_owned())),
        Some((other, _)) => Err(format!("`{other}:` is no place; write `header:NAME` or `json:$.PATH`")),
    }
}

fn parse_header(field: &str) -> Result<Pattern, String> {
    let (name, part) = match field.split_once('[') {
        None => (field, None),
        Some((name, rest)) => {
            let part = rest.strip_suffix(']').ok_or("`[` without `]`")?;
            (name, Some(part.to_owned()))
        }
    };
    if !headers::is_field_name(name) {
        return Err(format!("`{name}` is not the name of a header field"));
    }
    Ok(Pattern::Header { name: name.to_ascii_lowercase(), part })
}

/// True for keys that are written as `.key`.
pub(in crate::compare) fn is_plain_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn parse_path(text: &str) -> Result<Vec<PathStep>, String> {
    let mut rest = text.strip_prefix('$').ok_or("a JSON path begins with `$`")?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('.') {
            Some(named) => parse_named(named)?,
            None => match rest.strip_prefix('[') {
                Some(bracketed) => parse_bracketed(bracketed)?,
                None => return Err(format!("expected `.` or `[` at `{rest}`")),
            },
        };
        steps.push(step);
        rest = after;
    }
    Ok(steps)
}

fn parse_named(text: &str) -> Result<(PathStep, &str), String> {
    let (name, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    match name {
        "" => Err("a `.` without a key after it".to_owned()),
        "*" => Ok((PathStep::AnyKey, rest)),
        "**" => Ok((PathStep::Many, rest)),
        key if key.contains('*') => Err(format!("`{key}`: a wildcard stands for a whole step")),
        key if key.chars().any(|c| c.is_control() || matches!(c, ']' | '\'' | '"')) => {
            Err(format!("`{key}` must be written as `['{key}']`"))
        }
        key => Ok((PathStep::Key(key.to_owned()), rest)),
    }
}

fn parse_bracketed(text: &str) -> Result<(PathStep, &str), String> {
    if let Some(quoted) = text.strip_prefix('\'') {
        return parse_quoted(quoted);
    }
    let (inner, rest) = text.split_once(']').ok_or("`[` without `]`")?;
    if inner == "*" {
        return Ok((PathStep::AnyIndex, rest));
    }
    match inner.parse() {
        Ok(index) if inner.bytes().all(|b| b.is_ascii_digit()) => Ok((PathStep::Index(index), rest)),
        Ok(_) | Err(_) => Err(format!("`[{inner}]` is neither `[*]`, a position, nor a key in quotes")),
    }
}

fn parse_quoted(text: &str) -> Result<(PathStep, &str), String> {
    let mut key = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.extend(chars.next()),
            '\'' => {
                let rest = chars.as_str().strip_prefix(']').ok_or("expected `]` after the quoted key")?;
                return Ok((PathStep::Key(key), rest));
            }
            c => key.push(c),
        }
    }
    Err("a quoted key without its end".to_owned())
}

pub(in crate::compare) fn path_matches(pattern: &[PathStep], steps: &[Step<'_>]) -> bool {
    whole_matches(pattern, steps, |wanted| *wanted == PathStep::Many, PathStep::matches)
}

/// Matches a whole path; time is at most the product of the lengths, since only the last `**` is retried.
pub(in crate::compare) fn whole_matches<P, S>(
    pattern: &[P],
    steps: &[S],
    is_many: impl Fn(&P) -> bool,
    matches: impl Fn(&P, &S) -> bool,
) -> bool {
    let (mut p, mut s) = (0_usize, 0_usize);
    let mut retry = None;
    loop {
        match (pattern.get(p), steps.get(s)) {
            (None, None) => return true,
            (Some(wanted), _) if is_many(wanted) => {
                retry = Some((p, s));
                p = p.saturating_add(1);
                continue;
            }
            (Some(wanted), Some(step)) if matches(wanted, step) => {
                p = p.saturating_add(1);
                s = s.saturating_add(1);
                continue;
            }
            (Some(_) | None, _) => {}
        }
        let Some((many, from)) = retry.filter(|(_, from)| *from < steps.len()) else { return false };
        s = from.saturating_add(1);
        p = many.saturating_add(1);
        retry = Some((many, s));
    }
}

// === impl PathStep ===

impl PathStep {
    fn matches(&self, step: &Step<'_>) -> bool {
        match (self, step) {
            (PathStep::Key(wanted), Step::Key(key)) => wanted == key,
            (PathStep::Index(wanted), Step::Index(index)) => wanted == index,
            (PathStep::AnyKey, Step::Key(_)) | (PathStep::AnyIndex, Step::Index(_)) | (PathStep::Many, _) => {
                true
            }
            (PathStep::Key(_) | PathStep::AnyKey, Step::Index(_))
            | (PathStep::Index(_) | PathStep::AnyIndex, Step::Key(_)) => false,
        }
    }

    /// The one step that this stands for; none for a wildcard.
    pub(super) fn exact(&self) -> Option<Step<'_>> {
        match self {
            PathStep::Key(key) => Some(Step::Key(key)),
            PathStep::Index(index) => Some(Step::Index(*index)),
            PathStep::AnyKey | PathStep::AnyIndex | PathStep::Many => None,
        }
    }
}
