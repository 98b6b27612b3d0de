//! Reads HTML into a tree: html5gum finds the tags, and this puts them into each other.
//!
//! Is no browser: of the rules for wrong nesting (HTML, section 13.2.6) it knows void elements, end tags that may be
//! left out next to each other, and end tags without a start. That gives one tree for one text, which is what a
//! comparison needs, in time that does not depend on how the tags are nested. Elements that HTML adds on its own
//! (`html`, `head`, `body`, `tbody`) are in the tree only where they are written.

use std::convert::Infallible;

use html5gum::emitters::callback::{Callback, CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

use super::build::Builder;
use super::{Attribute, Tree, TreeLimits};
use crate::compare::findings::Language;
use crate::compare::json_text::ParseError;
use crate::compare::url::OwnOrigin;

/// Elements without content and end tag (HTML, section 13.1.2).
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// Elements whose start ends an open `p` (HTML, section 13.1.2.4).
const ENDS_P: [&str; 33] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "center",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "main",
    "menu",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "ul",
];

/// Attributes of one element that are kept.
const ATTRIBUTES_MAX: usize = 4096;

/// Takes tags as they are found.
struct Nester<'o> {
    builder: Builder<'o>,
    /// The start tag that is being read.
    name: String,
    attributes: Vec<Attribute>,
}

/// A [`Nester`] that the tokenizer can hold while this module keeps it.
struct Borrowed<'n, 'o>(&'n mut Nester<'o>);

pub(super) fn read(text: &[u8], limits: TreeLimits, origin: &OwnOrigin<'_>) -> Result<Tree, ParseError> {
    let builder = Builder::new(Language::Html, limits, origin);
    let mut nester = Nester { builder, name: String::new(), attributes: Vec::new() };
    let mut emitter = CallbackEmitter::new(Borrowed(&mut nester));
    // Without this, tags in scripts would be tags.
    emitter.naively_switch_states(true);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    Tokenizer::new_with_emitter(text, emitter).for_each(|token| match token {
        Ok(never) | Err(never) => match never {},
    });
    nester.builder.finish()
}

// === impl Borrowed ===

impl Callback<Infallible, ()> for Borrowed<'_, '_> {
    fn handle_event(&mut self, event: CallbackEvent<'_>, _: Span<()>) -> Option<Infallible> {
        let nester = &mut *self.0;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match event {
            CallbackEvent::OpenStartTag { name } => {
                nester.name = text(name);
                nester.attributes.clear();
            }
            CallbackEvent::AttributeName { name } if nester.attributes.len() < ATTRIBUTES_MAX => {
                nester.attributes.push((text(name), Vec::new()));
            }
            CallbackEvent::AttributeValue { value } => {
                if let Some((_, last)) = nester.attributes.last_mut() {
                    last.extend_from_slice(value);
                }
            }
            CallbackEvent::CloseStartTag { self_closing } => nester.start(self_closing),
            CallbackEvent::EndTag { name } => nester.end(&text(name)),
            CallbackEvent::String { value } => nester.builder.text(value),
            CallbackEvent::Doctype { name, public_identifier, system_identifier, force_quirks: _ } => {
                // The doctype decides how a browser lays out the page.
                let identifiers = [("public", public_identifier), ("system", system_identifier)];
                let named = identifiers.into_iter().filter_map(|(name, value)| Some((name, value?)));
                let attributes = [("name", name)].into_iter().chain(named);
                let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
                nester.builder.start("!doctype".to_owned(), attributes);
                nester.builder.end("!doctype");
            }
            CallbackEvent::AttributeName { name: _ } | CallbackEvent::Comment { value: _ } => {}
            CallbackEvent::Error(_) => {}
        }
        None
    }
}

// === impl Nester ===

impl Nester<'_> {
    fn start(&mut self, self_closing: bool) {
        let name = std::mem::take(&mut self.name);
        while is_ended_by(self.builder.innermost(), &name) {
            self.builder.end_innermost();
        }
        let in_foreign = self.builder.has_open("svg") || self.builder.has_open("math");
        let is_whole = VOID.contains(&name.as_str())
            || (self_closing && (in_foreign || name == "svg" || name == "math"));
        self.builder.start(name.clone(), std::mem::take(&mut self.attributes));
        if is_whole {
            self.builder.end(&name);
        }
    }

    fn end(&mut self, name: &str) {
        // What is read before an end tag belongs to it and to nobody (HTML, section 13.2.6).
        self.attributes.clear();
        if !VOID.contains(&name) {
            self.builder.end(name);
        }
    }
}

/// True when an open element `open` has no end tag because `next` begins (HTML, section 13.1.2.4).
fn is_ended_by(open: &str, next: &str) -> bool {
    match open {
        "p" => ENDS_P.contains(&next),
        "li" => next == "li",
        "dt" | "dd" => matches!(next, "dt" | "dd"),
        "option" => matches!(next, "option" | "optgroup"),
        "optgroup" => next == "optgroup",
        "td" | "th" => matches!(next, "td" | "th" | "tr" | "tbody" | "tfoot"),
        "tr" => matches!(next, "tr" | "tbody" | "tfoot"),
        "thead" | "tbody" => matches!(next, "tbody" | "tfoot"),
        "head" => next == "body",
        _ => false,
    }
}
