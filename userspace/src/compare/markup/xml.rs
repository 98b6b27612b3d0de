//! Reads XML into a tree with quick-xml.
//!
//! Expands no entities but the five of XML and character references, so that a document is never larger than its
//! text; reads no DTD. Names keep their prefixes: whoever reads `a:x` by its prefix sees `b:x` as something else.

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::build::Builder;
use super::{Content, Tree, TreeLimits};
use crate::compare::findings::Language;
use crate::compare::json_text::ParseError;
use crate::compare::url::OwnOrigin;

const VERSION: XmlVersion = XmlVersion::Implicit1_0;

pub(super) fn read(text: &[u8], limits: TreeLimits, origin: &OwnOrigin<'_>) -> Result<Tree, ParseError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let Ok(text) = str::from_utf8(text) else { return Err(ParseError::Malformed) };
    let mut reader = Reader::from_str(text);
    let mut builder = Builder::new(Language::Xml, limits, origin);
    loop {
        let Ok(event) = reader.read_event() else { return Err(ParseError::Malformed) };
        match event {
            Event::Start(tag) => start(&tag, &mut builder)?,
            Event::Empty(tag) => {
                start(&tag, &mut builder)?;
                builder.end_innermost();
            }
            // The reader has made sure that it ends the innermost element.
            Event::End(_) => builder.end_innermost(),
            Event::Text(text) => builder.text(text.xml_content(VERSION).as_bytes()),
            Event::CData(text) => builder.text(text.xml_content(VERSION).as_bytes()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => builder.text(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Ok(None) => match resolve_predefined_entity(&reference) {
                    Some(text) => builder.text(text.as_bytes()),
                    // An entity of the DTD stands for itself.
                    None => builder.text(format!("&{};", &*reference).as_bytes()),
                },
                Err(_) => return Err(ParseError::Malformed),
            },
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Eof => break,
        }
        if builder.is_full() {
            return Err(ParseError::TooMany);
        }
    }
    // The reader does not ask whether all elements have ended.
    if !builder.innermost().is_empty() {
        return Err(ParseError::Malformed);
    }
    let mut tree = builder.finish()?;
    tree.roots.retain(|root| match &root.content {
        Content::Text(text) => !text.trim_ascii().is_empty(),
        Content::Element(_) => true,
    });
    // A document is one element (XML 1.0 section 2.1).
    match tree.roots.as_slice() {
        [root] if matches!(root.content, Content::Element(_)) => Ok(tree),
        _ => Err(ParseError::Malformed),
    }
}

fn start(tag: &BytesStart<'_>, builder: &mut Builder<'_>) -> Result<(), ParseError> {
    if builder.is_deep() {
        return Err(ParseError::TooDeep);
    }
    let mut attributes = Vec::new();
    // The reader's own check for repeated names takes time that grows with the square of their number.
    for attribute in tag.attributes().with_checks(false) {
        let Ok(attribute) = attribute else { return Err(ParseError::Malformed) };
        let value = match attribute.normalized_value(VERSION) {
            Ok(value) => value.as_bytes().to_vec(),
            // An entity of the DTD stands for itself.
            Err(_) => attribute.value.as_bytes().to_vec(),
        };
        attributes.push((attribute.key.into_inner().to_owned(), value));
    }
    builder.start(tag.name().into_inner().to_owned(), attributes);
    Ok(())
}
