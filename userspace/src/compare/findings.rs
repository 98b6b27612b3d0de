//! Collects differences, asks the rules about each, and keeps a bounded number.
//!
//! Does not look for differences: checks do.

use std::fmt::{self, Display, Write};
use std::sync::Arc;

use super::align::Budget;
use super::class::is_name_of_one;
use super::rules::{Asked, Judgement, Rules, Uses};
use super::url::OwnOrigin;
use super::{CompareLimits, Purpose};
use crate::model::{Difference, DifferenceKind, IncomparableReason, Outcome};

/// What was found in one comparison so far.
#[derive(Debug)]
pub struct Findings<'c> {
    rules: &'c Rules,
    limits: &'c CompareLimits,
    origin: OwnOrigin<'c>,
    budget: Budget,
    /// The part or event that is being compared now.
    inside: Option<(Container, String)>,
    /// Both answers are errors of one class.
    errors_alike: bool,
    differences: Vec<Difference>,
    omitted: u32,
    uses: Uses,
}

/// Where two answers can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// The status code.
    Status,
    /// A header field, or the named part of one (one cookie of `Set-Cookie`).
    Header {
        /// Name in lower case.
        name: &'a str,
        /// The part.
        part: Option<&'a str>,
    },
    /// One cookie of `Set-Cookie`, or an attribute of it.
    Cookie {
        /// The cookie's name.
        name: &'a str,
        /// `value`, or an attribute in lower case; `expires` stands for `Max-Age` too.
        attribute: Option<&'a str>,
    },
    /// A place in a JSON document.
    Json(&'a [Step<'a>]),
    /// A place in a tree of HTML or XML.
    Markup {
        /// How the document was read.
        language: Language,
        /// The way from the root.
        steps: &'a [MarkupStep<'a>],
    },
    /// A field of a form.
    Form {
        /// The field's name.
        name: &'a str,
    },
    /// A part of a multipart body or an event of a stream.
    Within {
        /// Which of the two.
        container: Container,
        /// The part's name (`[*]` where it has none), the event's type.
        name: &'a str,
        /// The place in it; none for all of it.
        place: Option<&'a Place<'a>>,
    },
    /// A field of an event: `id`, `retry`, or `end` for how it ends.
    Property(&'a str),
    /// A line of a text.
    Text {
        /// Counted from 1 in A's text.
        line: usize,
    },
    /// A body as a whole.
    Body,
    /// What an external comparator calls a place of its own.
    Named(&'a str),
}

/// One step into a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into the member of an object.
    Key(&'a str),
    /// Into the element of an array, counted from 0: A's position where A has the element, else B's.
    Index(usize),
}

/// What a document tree is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// HTML, however badly formed.
    Html,
    /// Well-formed XML.
    Xml,
}

/// One step into a tree of HTML or XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkupStep<'a> {
    /// Into an element.
    Element {
        /// As it is written, with its prefix; in lower case for HTML.
        name: &'a str,
        /// Among siblings of one name, counted from 1: A's position where A has the element, else B's.
        position: usize,
    },
    /// To an attribute.
    Attribute(&'a str),
    /// To text, also that of a CDATA section.
    Text,
}

/// What holds a document besides a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A part of a multipart body.
    Part,
    /// An event of an event stream.
    Event,
}

/// Text from bytes that may be anything.
pub(super) struct Lossy<'a>(pub(super) &'a [u8]);

/// A text that takes no more than a number of bytes, then ends with `…`.
struct Bounded {
    text: String,
    bytes_max: usize,
}

/// A place as text; unless `exact`, array positions are written as `[*]`, and keys that name one thing of many as `.*`.
struct Written<'a> {
    place: &'a Place<'a>,
    exact: bool,
}

// === impl Findings ===

impl<'c> Findings<'c> {
    pub(super) fn new(
        rules: &'c Rules,
        limits: &'c CompareLimits,
        origin: OwnOrigin<'c>,
        errors_alike: bool,
    ) -> Self {
        let budget = Budget::new(limits.align_steps_max);
        Self {
            rules,
            limits,
            origin,
            budget,
            inside: None,
            errors_alike,
            differences: Vec::new(),
            omitted: 0,
            uses: Uses::default(),
        }
    }

    /// The rules, for checks that rewrite before they look.
    pub(super) fn rules(&self) -> &'c Rules {
        self.rules
    }

    /// The bounds of this comparison.
    pub fn limits(&self) -> &'c CompareLimits {
        self.limits
    }

    /// What the branches call themselves.
    pub(super) fn origin(&self) -> OwnOrigin<'c> {
        self.origin
    }

    /// Work that is left for aligning in this comparison.
    pub(super) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// Reports what `visit` finds as lying in a part or an event; not to be nested.
    pub(super) fn within<T>(
        &mut self,
        container: Container,
        name: &str,
        visit: impl FnOnce(&mut Self) -> T,
    ) -> T {
        debug_assert!(self.inside.is_none(), "parts and events hold no parts and events");
        self.inside = Some((container, name.to_owned()));
        let result = visit(self);
        self.inside = None;
        result
    }

    /// Reports one place where the answers differ, with both values where they exist.
    ///
    /// Values are written only when the difference is kept, and no further than the limit.
    pub fn add(
        &mut self,
        place: &Place<'_>,
        kind: DifferenceKind,
        control: Option<&dyn Display>,
        candidate: Option<&dyn Display>,
    ) {
        // Taken out, so that a place that borrows from it does not hold on to the rest.
        let inside = self.inside.take();
        let wrapped;
        let place = match &inside {
            None => place,
            Some((container, name)) => {
                wrapped = Place::Within { container: *container, name, place: Some(place) };
                &wrapped
            }
        };
        let asked = Asked {
            place,
            kind,
            control,
            candidate,
            errors_alike: self.errors_alike,
            value_bytes_max: self.limits.rule_value_bytes_max,
        };
        match self.rules.judge(&asked, &mut self.uses) {
            Judgement::Hidden | Judgement::Failed => {}
            Judgement::Stands => self.keep(place, kind, control, candidate),
            Judgement::Rewritten(control, candidate) => {
                let [control, candidate] =
                    [&control, &candidate].map(|text| text.as_ref().map(|text| text as _));
                self.keep(place, kind, control, candidate);
            }
        }
        self.inside = inside;
    }

    fn keep(
        &mut self,
        place: &Place<'_>,
        kind: DifferenceKind,
        control: Option<&dyn Display>,
        candidate: Option<&dyn Display>,
    ) {
        if self.differences.len() >= self.limits.differences_max {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let path = bounded(&Written { place, exact: false }, self.limits.path_bytes_max);
        let alike = self.differences.iter().filter(|have| have.kind == kind && have.path == path).count();
        if alike >= self.limits.differences_per_path_max {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let value = |shown: &dyn Display| bounded(shown, self.limits.value_bytes_max);
        self.differences.push(Difference {
            path,
            kind,
            place: bounded(&Written { place, exact: true }, self.limits.path_bytes_max),
            control: control.map(value),
            candidate: candidate.map(value),
        });
    }

    /// The number of the rule under which the order of this array means nothing.
    pub(super) fn unordered(&self, place: &Place<'_>) -> Option<usize> {
        // Paths of these rules begin at the body.
        if self.inside.is_some() {
            return None;
        }
        self.rules.unordered(place)
    }

    /// The number of the rule that pairs elements of this array, and the members that name an element.
    pub(super) fn match_by(&self, place: &Place<'_>) -> Option<(usize, &'c [String])> {
        if self.inside.is_some() {
            return None;
        }
        self.rules.match_by(place)
    }

    /// Counts a difference that rule number `index` hid.
    pub(super) fn hide(&mut self, index: usize) {
        self.rules.hide(&mut self.uses, index);
    }

    /// Counts that rule number `index` failed: what it is about cannot be compared.
    pub(super) fn fail(&mut self, index: usize) {
        self.rules.fail_at(&mut self.uses, index);
    }

    /// True when there is a difference that no rule hides.
    pub fn has_differences(&self) -> bool {
        !self.differences.is_empty()
    }

    /// The outcome; what the rules did is counted where that is what it is for.
    pub(super) fn into_outcome(self, reason: Option<IncomparableReason>, purpose: Purpose) -> Outcome {
        let Self {
            rules,
            limits: _,
            origin: _,
            budget: _,
            inside: _,
            errors_alike: _,
            differences,
            omitted,
            uses,
        } = self;
        let hid = uses.iter().filter(|(_, used)| used.hid > 0);
        let ignored: Vec<(Arc<str>, u32)> =
            hid.filter_map(|(index, used)| Some((Arc::clone(rules.text(index)?), used.hid))).collect();
        let reason = reason.or(uses.any_failed().then_some(IncomparableReason::RuleError));
        let outcome = match reason {
            _ if !differences.is_empty() => Outcome::Mismatch { differences, ignored, omitted },
            Some(reason) => Outcome::Incomparable(reason),
            None if !ignored.is_empty() => Outcome::Ignored(ignored),
            None => Outcome::Match,
        };
        let counts = match purpose {
            Purpose::Outcome => true,
            Purpose::Glance => outcome == Outcome::Match,
            Purpose::Evidence => false,
        };
        if counts {
            rules.count(&uses);
        }
        outcome
    }
}

// === impl Place ===

impl Place<'_> {
    /// The path without array positions and ids, as in `Difference::path`, of no more than `bytes_max` bytes.
    pub fn normalised(&self, bytes_max: usize) -> String {
        bounded(&Written { place: self, exact: false }, bytes_max)
    }
}

// === impl Language ===

impl Language {
    /// As places and rules name it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Language::Html => "html",
            Language::Xml => "xml",
        }
    }
}

// === impl Container ===

impl Container {
    /// As places and rules name it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Container::Part => "multipart",
            Container::Event => "event",
        }
    }
}

// === impl Written ===

impl Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Status => f.write_str("status"),
            Place::Header { name, part: None } => write!(f, "header:{name}"),
            Place::Header { name, part: Some(part) } => write!(f, "header:{name}[{part}]"),
            Place::Json(steps) => {
                f.write_str("json:$")?;
                steps.iter().try_for_each(|step| match step {
                    Step::Key(key) if !self.exact && is_name_of_one(key) => f.write_str(".*"),
                    Step::Key(key) => write_key(f, key),
                    Step::Index(index) if self.exact => write!(f, "[{index}]"),
                    Step::Index(_) => f.write_str("[*]"),
                })
            }
            Place::Cookie { name, attribute: None } => write!(f, "header:set-cookie[{name}]"),
            Place::Cookie { name, attribute: Some(attribute) } => {
                write!(f, "header:set-cookie[{name}].{attribute}")
            }
            Place::Markup { language, steps } => {
                write!(f, "{}:", language.label())?;
                steps.iter().try_for_each(|step| match step {
                    MarkupStep::Element { name, position } if self.exact => write!(f, "/{name}[{position}]"),
                    MarkupStep::Element { name, position: _ } => write!(f, "/{name}"),
                    MarkupStep::Attribute(name) => write!(f, "/@{name}"),
                    MarkupStep::Text => f.write_str("/text()"),
                })
            }
            Place::Form { name } => write!(f, "form:{name}"),
            Place::Within { container, name, place } => {
                write!(f, "{}:{name}", container.label())?;
                place.map_or(Ok(()), |place| write!(f, "/{}", Written { place, exact: self.exact }))
            }
            Place::Property(name) => f.write_str(name),
            Place::Text { line } if self.exact => write!(f, "text:{line}"),
            Place::Text { line: _ } => f.write_str("text"),
            Place::Body => f.write_str("body"),
            Place::Named(name) => write!(f, "comparator:{name}"),
        }
    }
}

/// `.key` where that reads back as the same key, else `['key']`.
fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    if super::rules::is_plain_key(key) {
        return write!(f, ".{key}");
    }
    f.write_str("['")?;
    for c in key.chars() {
        match c {
            '\'' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("']")
}

// === impl Lossy ===

impl Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            if chunk.invalid().is_empty() { Ok(()) } else { f.write_char(char::REPLACEMENT_CHARACTER) }
        })
    }
}

// === impl Bounded ===

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.bytes_max.saturating_sub(self.text.len());
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(more.get(..more.floor_char_boundary(room)).unwrap_or_default());
        self.text.push('…');
        // The error ends the writing: what lies beyond the bound costs nothing.
        Err(fmt::Error)
    }
}

fn bounded(shown: &dyn Display, bytes_max: usize) -> String {
    let mut bounded = Bounded { text: String::new(), bytes_max };
    match write!(bounded, "{shown}") {
        Ok(()) | Err(fmt::Error) => bounded.text,
    }
}
