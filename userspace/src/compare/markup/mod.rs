//! Compares HTML and XML documents as trees.
//!
//! Does not render: styles, scripts and entities of a document type definition are not carried out. Comments,
//! processing instructions, the order of attributes and white space without meaning are no part of a tree.

mod build;
mod html;
mod walk;
mod xml;

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]
mod tests;

use std::fmt::{self, Display};

use super::findings::{Language, Lossy};
use super::json_text::ParseError;
use super::url::OwnOrigin;

pub(super) use walk::compare;

/// A document.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) language: Language,
    /// Elements and text beside each other; one element in well-formed XML.
    roots: Vec<Node>,
}

/// An element or a text, with the hash of what it means.
#[derive(Debug)]
struct Node {
    hash: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(Vec<u8>),
    Element(Element),
}

/// Name and value.
type Attribute = (String, Vec<u8>);

#[derive(Debug, Default)]
struct Element {
    /// In lower case for HTML; with its prefix for XML.
    name: String,
    /// Sorted by name, each name once.
    attributes: Vec<Attribute>,
    children: Vec<Node>,
}

/// Bounds of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeLimits {
    /// Elements within each other. Deeper ones become siblings in HTML, as in browsers; XML is refused.
    pub(super) depth_max: usize,
    /// Elements, texts and attributes together.
    pub(super) nodes_max: usize,
}

/// Reads HTML. Everything is HTML, however badly formed.
///
/// # Errors
/// When there are more nodes than the limit.
pub(super) fn read_html(text: &[u8], limits: TreeLimits, origin: &OwnOrigin<'_>) -> Result<Tree, ParseError> {
    html::read(text, limits, origin)
}

/// Reads XML 1.0 in UTF-8.
///
/// # Errors
/// When the text is not well-formed, or reaches a limit.
pub(super) fn read_xml(text: &[u8], limits: TreeLimits, origin: &OwnOrigin<'_>) -> Result<Tree, ParseError> {
    xml::read(text, limits, origin)
}

// === impl Node ===

/// As markup, in the form in which trees are compared.
impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Text(text) => Lossy(text).fmt(f),
            Content::Element(Element { name, attributes, children }) => {
                write!(f, "<{name}")?;
                attributes.iter().try_for_each(|(name, value)| write!(f, " {name}=\"{}\"", Lossy(value)))?;
                if children.is_empty() {
                    return f.write_str("/>");
                }
                f.write_str(">")?;
                children.iter().try_for_each(|child| child.fmt(f))?;
                write!(f, "</{name}>")
            }
        }
    }
}
