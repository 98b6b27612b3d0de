//! Patterns for places in cookies, trees, forms, parts and events, as rules write them.
//!
//! Does not decide what a rule does with a place.

use super::findings::{Container, Language, MarkupStep, Place};
use super::rules::path::{Pattern, parse_pattern, whole_matches};

/// A pattern for a place that is neither a whole header field, nor JSON, nor a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KindPattern {
    /// A cookie with all its attributes, or one attribute of it.
    Cookie { name: Name, attribute: Option<Name> },
    /// A place in a tree.
    Markup { language: Language, steps: Vec<MarkupPattern> },
    /// A field of a form.
    Form(Name),
    /// A part or an event with all that is in it, or a place in it.
    Within { container: Container, name: Name, place: Option<Box<Pattern>> },
    /// A field of an event.
    Property(String),
}

/// A name, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Any,
    Is(String),
}

/// One step of a path into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MarkupPattern {
    Element { name: Name, position: Option<usize> },
    Attribute(Name),
    Text,
    Many,
}

// === impl KindPattern ===

impl KindPattern {
    /// The pattern that `text` is; none where it is of another kind.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "header" => Self::parse_cookie(rest),
            "html" => Some(Self::parse_markup(Language::Html, rest)),
            "xml" => Some(Self::parse_markup(Language::Xml, rest)),
            "form" => Some(Name::parse(rest).map(KindPattern::Form)),
            "multipart" => Some(Self::parse_within(Container::Part, rest)),
            "event" => Some(Self::parse_within(Container::Event, rest)),
            _ => None,
        }
    }

    /// `set-cookie[NAME]` or `set-cookie[NAME].ATTRIBUTE`.
    fn parse_cookie(field: &str) -> Option<Result<Self, String>> {
        let (header, rest) = field.split_once('[')?;
        if !header.eq_ignore_ascii_case("set-cookie") {
            return None;
        }
        let Some((name, after)) = rest.rsplit_once(']') else {
            return Some(Err("`[` without `]`".to_owned()));
        };
        let attribute = match (after, after.strip_prefix('.')) {
            ("", _) => Ok(None),
            (_, Some(attribute)) => Name::parse(&attribute.to_ascii_lowercase()).map(Some),
            (_, None) => Err(format!("expected `.ATTRIBUTE` at `{after}`")),
        };
        Some(attribute.and_then(|attribute| Ok(KindPattern::Cookie { name: Name::parse(name)?, attribute })))
    }

    fn parse_markup(language: Language, path: &str) -> Result<Self, String> {
        let steps = path.strip_prefix('/').ok_or_else(|| "a path into a tree begins with `/`".to_owned())?;
        let steps = steps.split('/').map(MarkupPattern::parse).collect::<Result<_, _>>()?;
        Ok(KindPattern::Markup { language, steps })
    }

    fn parse_within(container: Container, text: &str) -> Result<Self, String> {
        let (name, place) = match text.split_once('/') {
            None => (text, None),
            Some((name, property @ ("id" | "retry" | "end"))) => {
                (name, Some(Pattern::Kind(KindPattern::Property(property.to_owned()))))
            }
            Some((name, place)) => (name, Some(parse_pattern(place)?)),
        };
        Ok(KindPattern::Within { container, name: Name::parse(name)?, place: place.map(Box::new) })
    }

    pub(super) fn matches(&self, place: &Place<'_>) -> bool {
        match (self, place) {
            (
                KindPattern::Cookie { name, attribute },
                Place::Cookie { name: have, attribute: have_attribute },
            ) => {
                let attribute_fits = |wanted: &Name| have_attribute.is_some_and(|have| wanted.is(have));
                name.is(have) && attribute.as_ref().is_none_or(attribute_fits)
            }
            (
                KindPattern::Markup { language, steps },
                Place::Markup { language: have, steps: have_steps },
            ) => {
                let is_many = |step: &MarkupPattern| *step == MarkupPattern::Many;
                language == have && whole_matches(steps, have_steps, is_many, MarkupPattern::matches)
            }
            (KindPattern::Form(name), Place::Form { name: have }) => name.is(have),
            (
                KindPattern::Within { container, name, place },
                Place::Within { container: have, name: have_name, place: have_place },
            ) => {
                let place_fits = |wanted: &Pattern| have_place.is_some_and(|have| wanted.matches(have));
                container == have && name.is(have_name) && place.as_deref().is_none_or(place_fits)
            }
            (KindPattern::Property(name), Place::Property(have)) => name == have,
            (
                KindPattern::Cookie { name: _, attribute: _ }
                | KindPattern::Markup { language: _, steps: _ }
                | KindPattern::Form(_)
                | KindPattern::Within { container: _, name: _, place: _ }
                | KindPattern::Property(_),
                _,
            ) => false,
        }
    }
}

// === impl Name ===

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a name is missing".to_owned()),
            "*" => Ok(Name::Any),
            // How a part without a name is written.
            "[*]" => Ok(Name::Is(text.to_owned())),
            name if name.contains('*') => Err(format!("`{name}`: a wildcard stands for a whole name")),
            name => Ok(Name::Is(name.to_owned())),
        }
    }

    fn is(&self, name: &str) -> bool {
        match self {
            Name::Any => true,
            Name::Is(wanted) => wanted == name,
        }
    }
}

// === impl MarkupPattern ===

impl MarkupPattern {
    fn parse(step: &str) -> Result<Self, String> {
        if step == "**" {
            return Ok(MarkupPattern::Many);
        }
        if step == "text()" {
            return Ok(MarkupPattern::Text);
        }
        if let Some(name) = step.strip_prefix('@') {
            return Name::parse(name).map(MarkupPattern::Attribute);
        }
        let (name, position) = match step.split_once('[') {
            None => (step, None),
            Some((name, rest)) => {
                let position = rest.strip_suffix(']').and_then(|position| position.parse().ok());
                let position = position.filter(|position| *position > 0);
                (name, Some(position.ok_or_else(|| format!("`[{rest}` is no position, counted from 1"))?))
            }
        };
        Ok(MarkupPattern::Element { name: Name::parse(name)?, position })
    }

    fn matches(&self, step: &MarkupStep<'_>) -> bool {
        match (self, step) {
            (MarkupPattern::Element { name, position }, MarkupStep::Element { name: have, position: at }) => {
                name.is(have) && position.is_none_or(|position| position == *at)
            }
            (MarkupPattern::Attribute(name), MarkupStep::Attribute(have)) => name.is(have),
            (MarkupPattern::Text, MarkupStep::Text) | (MarkupPattern::Many, _) => true,
            (
                MarkupPattern::Element { name: _, position: _ }
                | MarkupPattern::Attribute(_)
                | MarkupPattern::Text,
                _,
            ) => false,
        }
    }
}
