//! Compares the contents of two answers by what they are: JSON, HTML, XML, forms, parts, events, text, or bytes.
//!
//! Says nothing about a body that was not seen whole, unless its length and hash show that it is the same.
//!
//! Content is what A's `Content-Type` says that it is; that B's says something else is a difference of the header, and
//! B's body is read as A's is. Content of a wrong type is recognised where its beginning and all the rest agree: JSON,
//! XML and HTML. When only one of two bodies can be read as what the other is, that is a difference of type.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::decode::{codings, decode};
use super::events::{self, Events};
use super::findings::Lossy;
use super::form::{self, Form};
use super::json_text::{Node, ParseError, parse, parse_lines};
use super::markup::{self, Tree, TreeLimits};
use super::media::{self, Media};
use super::multipart::{self, Parts};
use super::rules::guide;
use super::{Check, CompareLimits, Findings, Pair, Place, json, text};
use crate::model::{Body, DifferenceKind, Headers, IncomparableReason, Response};

/// Asks whether both branches sent the same content.
#[derive(Debug)]
pub(super) struct BodyCheck;

/// A body that was read.
enum Document<'a> {
    Json(Node<'a>),
    /// Documents of their own, one on each line.
    JsonLines(Node<'a>),
    Markup(Tree),
    Form(Form<'a>),
    Parts(Parts<'a>),
    Events(Events),
    Text,
    Bytes,
}

/// Length and hash of bytes that no one would read.
struct Digested<'a>(&'a [u8]);

// === impl BodyCheck ===

impl Check for BodyCheck {
    fn name(&self) -> &'static str {
        "body"
    }

    fn check(&self, pair: &Pair<'_>, found: &mut Findings<'_>) -> Result<(), IncomparableReason> {
        if pair.is_bodiless() {
            return Ok(());
        }
        let (a, b) = (pair.control, pair.candidate);
        let same_codings = same_names(codings(&a.headers), codings(&b.headers));
        if a.body.is_cut() || b.body.is_cut() {
            let same = same_codings && a.body.bytes == b.body.bytes && digest(&a.body) == digest(&b.body);
            return if same { Ok(()) } else { Err(IncomparableReason::BodyCut) };
        }
        if same_codings && a.body.kept == b.body.kept {
            return Ok(());
        }
        let (decoded_a, decoded_b) = (contents(a, found.limits())?, contents(b, found.limits())?);
        compare_contents((&a.headers, &decoded_a), (&b.headers, &decoded_b), found)
    }
}

/// Compares two lists of names without regard to case.
fn same_names<'a>(mut a: impl Iterator<Item = &'a [u8]>, mut b: impl Iterator<Item = &'a [u8]>) -> bool {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(x), Some(y)) if x.eq_ignore_ascii_case(y) => {}
            (Some(_), _) | (None, Some(_)) => return false,
        }
    }
}

fn digest(body: &Body) -> [u8; 32] {
    body.digest.unwrap_or_else(|| Sha256::digest(&body.kept).into())
}

fn contents<'a>(
    response: &'a Response,
    limits: &CompareLimits,
) -> Result<std::borrow::Cow<'a, [u8]>, IncomparableReason> {
    decode(&response.headers, &response.body.kept, limits).map_err(|error| {
        // Results count the reason only; the error's words are for whoever debugs a test.
        drop(error);
        IncomparableReason::Undecodable
    })
}

fn compare_contents(
    (headers_a, a): (&Headers, &[u8]),
    (headers_b, b): (&Headers, &[u8]),
    found: &mut Findings<'_>,
) -> Result<(), IncomparableReason> {
    if a == b {
        return Ok(());
    }
    if a.is_empty() || b.is_empty() {
        let kind = if b.is_empty() { DifferenceKind::Missing } else { DifferenceKind::Added };
        let (shown_a, shown_b) = (Lossy(a), Lossy(b));
        found.add(
            &Place::Body,
            kind,
            (!a.is_empty()).then_some(&shown_a as _),
            (!b.is_empty()).then_some(&shown_b as _),
        );
        return Ok(());
    }
    let of_a = Media::of(headers_a);
    let declared = if of_a == Media::Nothing { Media::of(headers_b) } else { of_a };
    compare_documents((headers_a, declared.clone(), a), (headers_b, declared, b), found)
}

fn compare_documents(
    (headers_a, media_a, a): (&Headers, Media, &[u8]),
    (headers_b, media_b, b): (&Headers, Media, &[u8]),
    found: &mut Findings<'_>,
) -> Result<(), IncomparableReason> {
    let document_a = read(headers_a, &media_a, a, found)?;
    let document_b = read(headers_b, &media_b, b, found)?;
    match (document_a, document_b) {
        (Document::Json(x), Document::Json(y)) | (Document::JsonLines(x), Document::JsonLines(y)) => {
            json::compare(&x, &y, found);
        }
        (Document::Markup(x), Document::Markup(y)) if x.language == y.language => {
            markup::compare(&x, &y, found);
        }
        (Document::Markup(_), Document::Markup(_)) => {
            // One of them is well-formed XML: both are HTML.
            let html = |text| read_html(text, found);
            let (x, y) = (html(a)?, html(b)?);
            markup::compare(&x, &y, found);
        }
        (Document::Form(x), Document::Form(y)) => form::compare(&x, &y, found),
        (Document::Parts(x), Document::Parts(y)) => {
            return multipart::compare(&x, &y, found, compare_parts);
        }
        (Document::Events(x), Document::Events(y)) => {
            events::compare(&x, &y, found).map_err(reason_of)?;
        }
        (Document::Text, Document::Text) => text::compare(a, b, found),
        (Document::Text | Document::Bytes, Document::Text | Document::Bytes) => {
            found.add(&Place::Body, DifferenceKind::Value, Some(&Digested(a)), Some(&Digested(b)));
        }
        (_, _) => found.add(&Place::Body, DifferenceKind::Type, Some(&Lossy(a)), Some(&Lossy(b))),
    }
    Ok(())
}

/// Compares the contents of two parts; a part holds no parts and no events.
fn compare_parts(
    (headers_a, a): (&Headers, &[u8]),
    (headers_b, b): (&Headers, &[u8]),
    found: &mut Findings<'_>,
) -> Result<(), IncomparableReason> {
    if a == b {
        return Ok(());
    }
    let flat = |media: Media| {
        let holds_others = matches!(media, Media::Multipart { boundary: _ } | Media::Events);
        if holds_others { Media::Text } else { media }
    };
    let declared = flat(Media::of(headers_a));
    compare_documents((headers_a, declared.clone(), a), (headers_b, declared, b), found)
}

/// Reads a body as what it is said to be, or looks like.
fn read<'a>(
    headers: &Headers,
    declared: &Media,
    body: &'a [u8],
    found: &Findings<'_>,
) -> Result<Document<'a>, IncomparableReason> {
    let CompareLimits { depth_max, values_max, rule_value_bytes_max, .. } = found.limits();
    let origin = found.origin();
    let is_lines = *declared == Media::JsonLines;
    let looks_like_json = media::looks_like_json(body);
    if (*declared == Media::Json || (looks_like_json && !is_lines))
        && let Some(mut node) = readable(parse(body, *depth_max, *values_max, Some(&origin)))?
    {
        guide(&mut node, found.rules(), *rule_value_bytes_max);
        return Ok(Document::Json(node));
    }
    if (is_lines || looks_like_json)
        && let Some(mut node) = readable(parse_lines(body, *depth_max, *values_max, Some(&origin)))?
    {
        guide(&mut node, found.rules(), *rule_value_bytes_max);
        return Ok(Document::JsonLines(node));
    }
    let may_be_markup = declared.may_be_markup();
    if *declared == Media::Xml || (may_be_markup && media::looks_like_xml(body)) {
        let limits = TreeLimits { depth_max: *depth_max, nodes_max: *values_max };
        if let Some(tree) = readable(markup::read_xml(body, limits, &origin))? {
            return Ok(Document::Markup(tree));
        }
    }
    if *declared == Media::Html || (may_be_markup && media::looks_like_html(body)) {
        return read_html(body, found).map(Document::Markup);
    }
    match declared {
        Media::Form => {
            if let Some(form) = readable(form::read(body, *values_max))? {
                return Ok(Document::Form(form));
            }
        }
        Media::Multipart { boundary } => {
            // B's boundary is its own.
            let own = Media::of(headers).boundary().unwrap_or_else(|| boundary.clone());
            if let Some(parts) = readable(multipart::read(body, &own, *values_max))? {
                return Ok(Document::Parts(parts));
            }
        }
        Media::Events => {
            if let Some(events) = readable(events::read(body, *values_max))? {
                return Ok(Document::Events(events));
            }
        }
        Media::Other => return Ok(Document::Bytes),
        Media::Nothing => {
            let is_text = std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0'));
            return Ok(if is_text { Document::Text } else { Document::Bytes });
        }
        Media::Json | Media::JsonLines | Media::Html | Media::Xml | Media::Text => {}
    }
    Ok(Document::Text)
}

fn read_html(body: &[u8], found: &Findings<'_>) -> Result<Tree, IncomparableReason> {
    let limits = found.limits();
    let limits = TreeLimits { depth_max: limits.depth_max, nodes_max: limits.values_max };
    markup::read_html(body, limits, &found.origin()).map_err(reason_of)
}

/// What was read; none for what is something else.
fn readable<T>(read: Result<T, ParseError>) -> Result<Option<T>, IncomparableReason> {
    match read {
        Ok(document) => Ok(Some(document)),
        Err(ParseError::Malformed) => Ok(None),
        // To go on as text would report a difference that no rule for a path could hide.
        Err(error @ (ParseError::TooDeep | ParseError::TooMany)) => Err(reason_of(error)),
    }
}

fn reason_of(error: ParseError) -> IncomparableReason {
    match error {
        ParseError::Malformed => IncomparableReason::Undecodable,
        ParseError::TooDeep | ParseError::TooMany => IncomparableReason::TooDeep,
    }
}

// === impl Digested ===

impl fmt::Display for Digested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, SHA-256 ", self.0.len())?;
        Sha256::digest(self.0).iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests;
