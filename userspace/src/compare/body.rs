//! Compares the contents of two answers by what they are: JSON, text, or bytes.
//!
//! Says nothing about a body that was not seen whole, unless its length and hash show that it is the same.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::decode::{codings, decode};
use super::findings::Lossy;
use super::json_text::{Node, ParseError, parse};
use super::{Check, CompareLimits, Findings, Pair, Place, json, text};
use crate::model::{Body, DifferenceKind, Headers, IncomparableReason, Response};

/// Asks whether both branches sent the same content.
#[derive(Debug)]
pub(super) struct BodyCheck;

/// How a body's `Content-Type` says that it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Json,
    Text,
    Other,
    Nothing,
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
    let (declared_a, declared_b) = (Declared::of(headers_a), Declared::of(headers_b));
    let (json_a, json_b) = (read_json(declared_a, a, found)?, read_json(declared_b, b, found)?);
    match (json_a, json_b) {
        (Some(json_a), Some(json_b)) => json::compare(&json_a, &json_b, found),
        (Some(_), None) | (None, Some(_)) => {
            found.add(&Place::Body, DifferenceKind::Type, Some(&Lossy(a)), Some(&Lossy(b)));
        }
        (None, None) if is_text(declared_a, a) && is_text(declared_b, b) => text::compare(a, b, found),
        (None, None) => {
            found.add(&Place::Body, DifferenceKind::Value, Some(&Digested(a)), Some(&Digested(b)));
        }
    }
    Ok(())
}

/// The body as JSON: where it is declared to be, and where it looks like an object or an array and is one.
fn read_json<'a>(
    declared: Declared,
    body: &'a [u8],
    found: &Findings<'_>,
) -> Result<Option<Node<'a>>, IncomparableReason> {
    let looks_like = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    if declared != Declared::Json && !looks_like {
        return Ok(None);
    }
    let limits = found.limits();
    match parse(body, limits.depth_max, limits.values_max) {
        Ok(node) => Ok(Some(node)),
        Err(ParseError::Malformed) => Ok(None),
        // To go on as text would report a difference that no rule for a JSON path could hide.
        Err(ParseError::TooDeep | ParseError::TooMany) => Err(IncomparableReason::TooDeep),
    }
}

fn is_text(declared: Declared, body: &[u8]) -> bool {
    match declared {
        Declared::Json | Declared::Text => true,
        Declared::Other => false,
        Declared::Nothing => std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0')),
    }
}

// === impl Declared ===

impl Declared {
    fn of(headers: &Headers) -> Self {
        let Some(value) = headers.get("content-type") else { return Declared::Nothing };
        let essence = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let essence = essence.to_ascii_lowercase();
        let ends = |ending: &[u8]| essence.ends_with(ending);
        if ends(b"/json") || ends(b"+json") {
            return Declared::Json;
        }
        let is_text = essence.starts_with(b"text/")
            || ends(b"/xml")
            || ends(b"+xml")
            || ends(b"/javascript")
            || ends(b"/x-www-form-urlencoded")
            || ends(b"/x-ndjson")
            || ends(b"/yaml");
        if is_text { Declared::Text } else { Declared::Other }
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
