//! Knows which kind of content a media type stands for, and how content looks that has a wrong type.
//!
//! Reads no content.

use crate::model::Headers;

/// What a body is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    /// JSON documents, one on each line.
    JsonLines,
    Html,
    Xml,
    Form,
    Multipart {
        boundary: Vec<u8>,
    },
    Events,
    Text,
    /// A type that no one reads: images, archives.
    Other,
    /// No type, or the one for anything.
    Nothing,
}

// === impl Media ===

impl Media {
    /// As `Content-Type` says it (RFC 9110 section 8.3).
    pub(super) fn of(headers: &Headers) -> Self {
        let Some(value) = headers.get("content-type") else { return Media::Nothing };
        let essence = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let essence = essence.to_ascii_lowercase();
        let (kind, subtype) = match essence.iter().position(|b| *b == b'/') {
            Some(slash) => essence.split_at_checked(slash).unwrap_or_default(),
            None => return Media::Nothing,
        };
        let subtype = subtype.get(1..).unwrap_or_default();
        match (kind, subtype) {
            (b"multipart", _) => match super::headers::parameter(value, "boundary") {
                Some(boundary) if !boundary.is_empty() => Media::Multipart { boundary },
                Some(_) | None => Media::Other,
            },
            (_, b"json") => Media::Json,
            (
                _,
                b"x-ndjson" | b"ndjson" | b"jsonl" | b"jsonlines" | b"x-jsonlines" | b"json-lines"
                | b"stream+json",
            ) => Media::JsonLines,
            (_, b"html") | (_, b"xhtml+xml") => Media::Html,
            (_, b"xml") => Media::Xml,
            (_, b"x-www-form-urlencoded") => Media::Form,
            (b"text", b"event-stream") => Media::Events,
            (_, subtype) if subtype.ends_with(b"+json") => Media::Json,
            (_, subtype) if subtype.ends_with(b"+xml") => Media::Xml,
            (b"text", _)
            | (_, b"javascript" | b"x-javascript" | b"ecmascript" | b"yaml" | b"x-yaml" | b"toml") => {
                Media::Text
            }
            (b"application", b"octet-stream") => Media::Nothing,
            (_, _) => Media::Other,
        }
    }

    /// What stands between the parts of a multipart body.
    pub(super) fn boundary(self) -> Option<Vec<u8>> {
        if let Media::Multipart { boundary } = self { Some(boundary) } else { None }
    }

    /// True where content may be recognised as markup: nobody said that it is something else.
    pub(super) fn may_be_markup(&self) -> bool {
        match self {
            Media::Html | Media::Xml | Media::Nothing | Media::Json | Media::Text => true,
            Media::JsonLines
            | Media::Form
            | Media::Multipart { boundary: _ }
            | Media::Events
            | Media::Other => false,
        }
    }
}

/// True for what begins like an object or an array of JSON.
pub(super) fn looks_like_json(content: &[u8]) -> bool {
    matches!(start_of(content).first(), Some(b'{' | b'['))
}

/// True for what begins like an XML document.
pub(super) fn looks_like_xml(content: &[u8]) -> bool {
    start_of(content).starts_with(b"<?xml")
}

/// True for what begins like an HTML document.
pub(super) fn looks_like_html(content: &[u8]) -> bool {
    let start = start_of(content);
    let begins = |with: &[u8]| start.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with));
    begins(b"<!doctype html") || begins(b"<html")
}

fn start_of(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii_start()
}
