//! Builds a tree from tags and texts in the order in which they are read.
//!
//! Does not know how tags are written.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::{Attribute, Content, Element, Node, Tree, TreeLimits};
use crate::compare::findings::Language;
use crate::compare::json_text::ParseError;
use crate::compare::url::OwnOrigin;

/// Elements of HTML that stand within a line: white space next to others means nothing. What is not known is one of
/// them, so that a space there counts.
const BLOCKS: [&str; 64] = [
    "address",
    "article",
    "aside",
    "base",
    "blockquote",
    "body",
    "br",
    "caption",
    "center",
    "col",
    "colgroup",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "frame",
    "frameset",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hgroup",
    "hr",
    "html",
    "legend",
    "li",
    "link",
    "main",
    "menu",
    "meta",
    "nav",
    "noscript",
    "ol",
    "optgroup",
    "option",
    "p",
    "param",
    "pre",
    "script",
    "search",
    "section",
    "select",
    "source",
    "style",
    "summary",
    "table",
    "tbody",
    "td",
    "template",
    "title",
    "tr",
    "ul",
];

/// Elements of HTML whose white space counts: those that show it, and those whose text is no text for people.
const AS_WRITTEN: [&str; 4] = ["pre", "script", "style", "textarea"];

type Counts = HashMap<String, usize, foldhash::fast::RandomState>;

/// A tree that is not whole yet.
pub(super) struct Builder<'o> {
    language: Language,
    limits: TreeLimits,
    origin: &'o OwnOrigin<'o>,
    /// Elements that are open; the first is the document.
    open: Vec<Element>,
    /// How many elements of a name are open.
    open_names: Counts,
    /// Elements beyond the depth whose end tags are still to come.
    flattened: Counts,
    nodes: usize,
}

// === impl Builder ===

impl<'o> Builder<'o> {
    pub(super) fn new(language: Language, limits: TreeLimits, origin: &'o OwnOrigin<'o>) -> Self {
        let open = vec![Element::default()];
        Self {
            language,
            limits,
            origin,
            open,
            open_names: Counts::default(),
            flattened: Counts::default(),
            nodes: 0,
        }
    }

    fn count(&mut self) -> bool {
        self.nodes = self.nodes.saturating_add(1);
        self.nodes <= self.limits.nodes_max
    }

    /// True when nodes were left out because of the limit.
    pub(super) fn is_full(&self) -> bool {
        self.nodes > self.limits.nodes_max
    }

    /// True when one more element within the open ones would be too deep.
    pub(super) fn is_deep(&self) -> bool {
        self.open.len() > self.limits.depth_max
    }

    /// The name of the innermost open element; empty at the top of the document.
    pub(super) fn innermost(&self) -> &str {
        self.open.last().map_or("", |element| &element.name)
    }

    /// True when an element of this name is open.
    pub(super) fn has_open(&self, name: &str) -> bool {
        self.open_names.get(name).is_some_and(|count| *count > 0)
    }

    /// Begins an element; one that is too deep is put beside the innermost one.
    pub(super) fn start(&mut self, name: String, mut attributes: Vec<Attribute>) {
        if !self.count() {
            return;
        }
        self.nodes = self.nodes.saturating_add(attributes.len());
        // The first of a name is the one that readers see.
        attributes.sort_by(|(x, _), (y, _)| x.cmp(y));
        attributes.dedup_by(|(x, _), (y, _)| x == y);
        if self.is_deep() {
            let count = self.flattened.entry(name.clone()).or_default();
            *count = count.saturating_add(1);
            let node = self.node(Element { name, attributes, children: Vec::new() });
            self.append(node);
            return;
        }
        match self.open_names.get_mut(&name) {
            Some(count) => *count = count.saturating_add(1),
            None => drop(self.open_names.insert(name.clone(), 1)),
        }
        self.open.push(Element { name, attributes, children: Vec::new() });
    }

    /// Adds text to the innermost element.
    pub(super) fn text(&mut self, text: &[u8]) {
        let Some(innermost) = self.open.last_mut() else { return };
        if let Some(Node { hash: _, content: Content::Text(before) }) = innermost.children.last_mut() {
            before.extend_from_slice(text);
        } else if self.count() {
            self.append(Node { hash: 0, content: Content::Text(text.to_vec()) });
        }
    }

    /// Ends the innermost element of this name with all that is open in it; nothing where there is none.
    pub(super) fn end(&mut self, name: &str) {
        if !self.flattened.is_empty()
            && let Some(count) = self.flattened.get_mut(name).filter(|count| **count > 0)
        {
            *count = count.saturating_sub(1);
            return;
        }
        if !self.has_open(name) {
            return;
        }
        while self.open.len() > 1 {
            let found = self.innermost() == name;
            self.end_innermost();
            if found {
                return;
            }
        }
    }

    /// Ends the innermost element.
    pub(super) fn end_innermost(&mut self) {
        if self.open.len() <= 1 {
            return;
        }
        if let Some(element) = self.open.pop() {
            if let Some(count) = self.open_names.get_mut(&element.name) {
                *count = count.saturating_sub(1);
            }
            let node = self.node(element);
            self.append(node);
        }
    }

    fn append(&mut self, node: Node) {
        if let Some(innermost) = self.open.last_mut() {
            innermost.children.push(node);
        }
    }

    /// The tree, with what is still open ended here.
    pub(super) fn finish(mut self) -> Result<Tree, ParseError> {
        if self.is_full() {
            return Err(ParseError::TooMany);
        }
        while self.open.len() > 1 {
            self.end_innermost();
        }
        let document = self.open.pop().unwrap_or_default();
        let roots = self.normal_children(&document.name, document.children);
        Ok(Tree { language: self.language, roots })
    }

    /// An element whose children are all there, as it is compared.
    fn node(&self, element: Element) -> Node {
        let Element { name, mut attributes, children } = element;
        if self.language == Language::Html {
            attributes.iter_mut().for_each(|(name, value)| match name.as_str() {
                "class" => *value = set_of_words(value),
                // New in every answer, and equal to the one in `Content-Security-Policy`.
                "nonce" => *value = b"*".to_vec(),
                _ => {}
            });
        }
        let children = self.normal_children(&name, children);
        let mut hasher = FixedState::default().build_hasher();
        hasher.write_u8(b'<');
        hasher.write(name.as_bytes());
        for (name, value) in &attributes {
            hasher.write_u8(b'@');
            hasher.write(name.as_bytes());
            hasher.write_u64(hash_of(&self.origin.canonical(value)));
        }
        for child in &children {
            hasher.write_u64(child.hash);
        }
        Node { hash: hasher.finish(), content: Content::Element(Element { name, attributes, children }) }
    }

    /// Children of the element `parent` with the white space that means something, and with hashes.
    fn normal_children(&self, parent: &str, mut children: Vec<Node>) -> Vec<Node> {
        match self.language {
            Language::Html if AS_WRITTEN.contains(&parent) => {}
            Language::Html if self.has_open("pre") => {}
            Language::Html => collapse_spaces(parent, &mut children),
            Language::Xml => {
                // Space between elements is for people (XML 1.0 section 2.10); next to text it may count.
                let has_elements = children.iter().any(|node| matches!(node.content, Content::Element(_)));
                children.retain(|node| !has_elements || !is_space_only(node));
            }
        }
        for child in &mut children {
            if let Content::Text(text) = &child.content {
                child.hash = hash_of(&self.origin.canonical(text));
            }
        }
        children
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

fn is_space_only(node: &Node) -> bool {
    match &node.content {
        Content::Text(text) => text.trim_ascii().is_empty(),
        Content::Element(_) => false,
    }
}

/// Words in any order (HTML, section 3.2.6).
fn set_of_words(value: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> =
        value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    words.sort_unstable();
    words.dedup();
    words.join(&b" "[..])
}

/// Runs of white space become one space, and none is left next to the edge of a block.
fn collapse_spaces(parent: &str, children: &mut Vec<Node>) {
    let is_block = |name: &str| name.is_empty() || BLOCKS.binary_search(&name).is_ok();
    let edges: Vec<bool> = children
        .iter()
        .map(|node| match &node.content {
            Content::Element(element) => is_block(&element.name),
            Content::Text(_) => false,
        })
        .collect();
    let parent_is_block = is_block(parent);
    let last = children.len().saturating_sub(1);
    for (at, node) in children.iter_mut().enumerate() {
        let Content::Text(text) = &mut node.content else { continue };
        let before = match at.checked_sub(1) {
            Some(before) => edges.get(before).copied().unwrap_or(false),
            None => parent_is_block,
        };
        let after = if at == last {
            parent_is_block
        } else {
            edges.get(at.saturating_add(1)).copied().unwrap_or(false)
        };
        *text = collapsed(text, before, after);
    }
    children.retain(|node| !matches!(&node.content, Content::Text(text) if text.is_empty()));
}

fn collapsed(text: &[u8], trim_start: bool, trim_end: bool) -> Vec<u8> {
    let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut collapsed = words.collect::<Vec<_>>().join(&b" "[..]);
    let starts = text.first().is_some_and(u8::is_ascii_whitespace) && !trim_start;
    let ends = text.last().is_some_and(u8::is_ascii_whitespace) && !trim_end;
    if collapsed.is_empty() {
        // Space alone is one space where it parts two things of one line.
        return if starts && ends { b" ".to_vec() } else { collapsed };
    }
    if starts {
        collapsed.insert(0, b' ');
    }
    if ends {
        collapsed.push(b' ');
    }
    collapsed
}

#[cfg(test)]
mod tests {
    use super::BLOCKS;

    #[test]
    fn the_table_of_blocks_is_sorted() {
        assert!(BLOCKS.is_sorted());
    }
}
