//! Reads the head of a message: start line and header fields.
//!
//! [`plain`] reads nearly all of them, and `httparse` what else follows RFC 9112. What that refuses and lenient servers
//! accept is read here by lines, and marked as ambiguous.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memchr_iter};

use crate::model::{FieldPlace, Headers, Mark, Marks, Sender, Version, is_token};

use super::plain::{self, Plain, RequestLine, StatusLine};

/// A request's head.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Bytes,
    pub(super) target: Bytes,
    pub(super) version: Version,
    pub(super) headers: Headers,
    pub(super) marks: Marks,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) headers: Headers,
    pub(super) marks: Marks,
}

/// What the bytes at a message boundary hold.
#[derive(Debug)]
pub(super) enum Parsed<H> {
    /// A whole head and its length in bytes.
    Whole(H, usize),
    /// The beginning of a head.
    Partial,
    /// No head of HTTP/1.x.
    Invalid,
}

/// Whether bytes look like the start of a message, before a whole head is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They begin a start line.
    Yes,
    /// Too few bytes to tell.
    Unsure,
    /// They do not.
    No,
}

/// Room for as many fields is made on the stack. How many there may be is not bounded but by the length of a head: RFC
/// 9110 section 5.4 has no bound, nginx and Go count bytes only, and what refuses more than 100 says so in its answer.
const FIELDS_USUAL: usize = 256;

/// Longest method in the IANA registry is 17 characters (UPDATEREDIRECTREF); private ones may be longer.
pub(super) const METHOD_BYTES_MAX: usize = 32;

/// Methods of the IANA registry that do not end like another one of them, so that none is read out of the rest of a
/// start line. PATCH does (PROPPATCH), yet is too common to be left out.
const METHODS: [&[u8]; 33] = [
    b"GET",
    b"POST",
    b"PUT",
    b"HEAD",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"QUERY",
    b"ACL",
    b"BASELINE-CONTROL",
    b"CHECKIN",
    b"COPY",
    b"LABEL",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"MOVE",
    b"ORDERPATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UNLOCK",
    b"UPDATEREDIRECTREF",
];

/// Reads a request head.
pub(super) fn request(bytes: &[u8]) -> Parsed<RequestHead> {
    match plain::request(bytes) {
        Some(Plain { line, fields, bytes: length }) if line.method.len() <= METHOD_BYTES_MAX => {
            Parsed::Whole(whole_request(bytes, length, line, fields, Marks::default()), length)
        }
        Some(_) | None => any_request(bytes),
    }
}

/// The same, whatever form the head has.
pub(super) fn any_request(bytes: &[u8]) -> Parsed<RequestHead> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_USUAL];
    let mut strict = strict_request(bytes, &mut fields);
    if matches!(strict, Err(httparse::Error::TooManyHeaders)) {
        strict = strict_request(bytes, &mut room_for_all(bytes));
    }
    if let Ok(parsed) = strict {
        return parsed;
    }
    lenient(bytes, |line, start| {
        let method_end = memchr(b' ', line)?;
        let version_start = line.len().checked_sub(9)?;
        let version = lenient_version(line.get(version_start..)?.strip_prefix(b" ")?)?;
        let target = method_end.checked_add(1)?..version_start;
        let method = line.get(..method_end)?;
        let target_bytes = line.get(target.clone())?;
        (is_method(method) && !target_bytes.is_empty() && !target_bytes.contains(&b' ')).then(|| {
            let at = |range: Range<usize>| start.saturating_add(range.start)..start.saturating_add(range.end);
            RequestLine { method: at(0..method_end), target: at(target), version }
        })
    })
    .map(|line, length, fields| whole_request(bytes, length, line, fields, Mark::Ambiguous.into()))
}

/// Reads a response head.
pub(super) fn response(bytes: &[u8]) -> Parsed<ResponseHead> {
    match plain::response(bytes) {
        Some(Plain { line, fields, bytes: length }) => {
            Parsed::Whole(whole_response(bytes, length, line, fields, Marks::default()), length)
        }
        None => any_response(bytes),
    }
}

/// The same, whatever form the head has.
pub(super) fn any_response(bytes: &[u8]) -> Parsed<ResponseHead> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_USUAL];
    let mut strict = strict_response(bytes, &mut fields);
    if matches!(strict, Err(httparse::Error::TooManyHeaders)) {
        strict = strict_response(bytes, &mut room_for_all(bytes));
    }
    if let Ok(parsed) = strict {
        return parsed;
    }
    lenient(bytes, |line, _| {
        let version = lenient_version(line.get(..8)?)?;
        // RFC 9112 section 4 lets a reader take any white space for the one space.
        let after_version = line.get(8..).filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))?;
        let code = after_version.trim_ascii_start();
        let digits = code.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        let ends = code.get(3).is_none_or(u8::is_ascii_whitespace);
        let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
        ends.then_some(StatusLine { status, version })
    })
    .map(|line, length, fields| whole_response(bytes, length, line, fields, Mark::Ambiguous.into()))
}

/// Reads a trailer section: fields up to an empty line. `None` when it cannot be read.
pub(super) fn trailers(bytes: &[u8]) -> Option<Headers> {
    let mut fields = vec![httparse::EMPTY_HEADER; lines(bytes)];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((length, found))) => {
            let (fields, _) = places(bytes, length, found);
            Some(Headers::from_places(Bytes::copy_from_slice(bytes), fields))
        }
        Ok(httparse::Status::Partial) | Err(_) => None,
    }
}

/// Whether these bytes begin a request line: a token, a space, and, as far as it is there, a target and version.
pub(super) fn looks_like_request(bytes: &[u8]) -> Look {
    let prefix = bytes.get(..METHOD_BYTES_MAX.saturating_add(1)).unwrap_or(bytes);
    match memchr(b' ', prefix) {
        Some(end) if prefix.get(..end).is_some_and(is_method) => match memchr(b'\n', bytes) {
            Some(line_end) => {
                let line = bytes.get(..line_end).unwrap_or_default().trim_ascii_end();
                let version = line.len().checked_sub(8).and_then(|start| line.get(start..));
                if version.and_then(lenient_version).is_some() { Look::Yes } else { Look::No }
            }
            None => Look::Unsure,
        },
        Some(_) => Look::No,
        None if prefix.is_empty() => Look::Unsure,
        None if prefix.len() <= METHOD_BYTES_MAX && is_token(prefix) => Look::Unsure,
        None => Look::No,
    }
}

/// The same where it is not known that a message begins: only methods that everybody knows count.
pub(super) fn looks_like_registered_request(bytes: &[u8]) -> Look {
    let method_end = memchr(b' ', bytes);
    let method = method_end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
    let known = match method_end {
        Some(_) => METHODS.contains(&method),
        None => METHODS.iter().any(|known| known.starts_with(method)),
    };
    if known { looks_like_request(bytes) } else { Look::No }
}

/// Whether these bytes begin a status line of HTTP/1.x.
pub(super) fn looks_like_response(bytes: &[u8]) -> Look {
    const START: &[u8] = b"HTTP/1.";
    let prefix = bytes.get(..START.len()).unwrap_or(bytes);
    match START.starts_with(prefix) {
        true if prefix.len() == START.len() => Look::Yes,
        true => Look::Unsure,
        false => Look::No,
    }
}

/// Which end sends a message that begins like this.
pub(super) fn sender(bytes: &[u8]) -> Sender {
    let empty_lines = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let bytes = bytes.get(empty_lines..).unwrap_or_default();
    match (looks_like_request(bytes), looks_like_response(bytes)) {
        (Look::Yes, _) => Sender::Client,
        (_, Look::Yes) => Sender::Server,
        (Look::No, Look::No) => Sender::Neither,
        (Look::Unsure, _) | (_, Look::Unsure) => Sender::Unsure,
    }
}

/// Bytes of `next` up to the empty line that ends a head whose beginning is `before`. Both CRLF and bare LF
/// end a line (RFC 9112 section 2.2).
pub(super) fn end(before: &[u8], next: &[u8]) -> Option<usize> {
    let byte_at = |index: usize, back: usize| match index.checked_sub(back) {
        Some(at) => next.get(at).copied(),
        None => {
            let beyond = back.checked_sub(index)?;
            before.len().checked_sub(beyond).and_then(|at| before.get(at)).copied()
        }
    };
    memchr_iter(b'\n', next)
        .find(|index| match byte_at(*index, 1) {
            Some(b'\n') => true,
            Some(b'\r') => byte_at(*index, 2) == Some(b'\n'),
            Some(_) | None => false,
        })
        .map(|index| index.saturating_add(1))
}

fn strict_request<'a>(
    bytes: &'a [u8],
    fields: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Parsed<RequestHead>, httparse::Error> {
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, fields)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(Parsed::Partial),
    };
    let line = parsed.method.zip(parsed.path).and_then(|(method, target)| {
        let (method, target) = (span(bytes, method.as_bytes())?, span(bytes, target.as_bytes())?);
        // A head in pieces is looked at before it is whole, and held to this.
        let version = version(parsed.version);
        (method.len() <= METHOD_BYTES_MAX).then_some(RequestLine { method, target, version })
    });
    let Some(line) = line else { return Ok(Parsed::Invalid) };
    let (fields, marks) = places(bytes, length, parsed.headers);
    Ok(Parsed::Whole(whole_request(bytes, length, line, fields, marks), length))
}

fn strict_response<'a>(
    bytes: &'a [u8],
    fields: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Parsed<ResponseHead>, httparse::Error> {
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, fields)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(Parsed::Partial),
    };
    let Some(status) = parsed.code else { return Ok(Parsed::Invalid) };
    let line = StatusLine { status, version: version(parsed.version) };
    let (fields, marks) = places(bytes, length, parsed.headers);
    Ok(Parsed::Whole(whole_response(bytes, length, line, fields, marks), length))
}

/// Room for the fields of a head that has more than nearly all have.
#[cold]
fn room_for_all<'a>(bytes: &[u8]) -> Vec<MaybeUninit<httparse::Header<'a>>> {
    vec![MaybeUninit::uninit(); lines(bytes)]
}

/// How many fields `bytes` may hold.
fn lines(bytes: &[u8]) -> usize {
    memchr_iter(b'\n', bytes).count()
}

fn whole_request(
    bytes: &[u8],
    length: usize,
    line: RequestLine,
    fields: Vec<FieldPlace>,
    marks: Marks,
) -> RequestHead {
    let RequestLine { method, target, version } = line;
    let part = |range| bytes.get(range).unwrap_or_default();
    let method = match METHODS.iter().find(|known| **known == part(method.clone())) {
        Some(known) => Bytes::from_static(known),
        None => Bytes::copy_from_slice(part(method)),
    };
    // A copy costs less than a share in the head's bytes, which would have to be counted.
    let target = Bytes::copy_from_slice(part(target));
    let raw = Bytes::copy_from_slice(part(0..length));
    RequestHead { method, target, version, headers: Headers::from_places(raw, fields), marks }
}

fn whole_response(
    bytes: &[u8],
    length: usize,
    line: StatusLine,
    fields: Vec<FieldPlace>,
    mut marks: Marks,
) -> ResponseHead {
    let StatusLine { status, version } = line;
    let raw = Bytes::copy_from_slice(bytes.get(..length).unwrap_or_default());
    if status < 100 {
        // No status code (RFC 9110 section 15); what a reader makes of it is its own affair.
        marks.set(Mark::Ambiguous);
    }
    ResponseHead { status, version, headers: Headers::from_places(raw, fields), marks }
}

/// Where names and values of the head with which `bytes` begins lie in it, whose slices they are. What did not would
/// lie beyond its end, and read as empty; so nothing has to be checked for each field. Lines that end with a bare LF are
/// ambiguous: some readers see a line's end there, some do not.
fn places(bytes: &[u8], length: usize, fields: &[httparse::Header<'_>]) -> (Vec<FieldPlace>, Marks) {
    let first = bytes.as_ptr() as usize;
    let place = |part: &[u8]| {
        let start = (part.as_ptr() as usize).wrapping_sub(first);
        start..start.saturating_add(part.len())
    };
    let mut bare = !bytes.get(..length).is_some_and(|head| head.ends_with(b"\r\n\r\n"));
    let fields = fields.iter().map(|field| {
        let name = place(field.name.as_bytes());
        let before = name.start.checked_sub(2).and_then(|from| bytes.get(from..name.start));
        bare |= before.is_some_and(|before| before != b"\r\n");
        FieldPlace::new(name, place(field.value))
    });
    let fields = fields.collect();
    (fields, bare.then_some(Mark::Ambiguous).into_iter().collect())
}

/// Where `part`, a slice of `whole`, lies in it.
fn span(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// `HTTP/1.` and a digit. A higher minor version is read as 1.1 (RFC 9110 section 2.5).
fn lenient_version(bytes: &[u8]) -> Option<Version> {
    match bytes.strip_prefix(b"HTTP/1.")? {
        b"0" => Some(Version::Http10),
        [digit] if digit.is_ascii_digit() => Some(Version::Http11),
        _ => None,
    }
}

fn is_method(bytes: &[u8]) -> bool {
    bytes.len() <= METHOD_BYTES_MAX && is_token(bytes)
}

/// What a lenient reading found.
enum Lenient<L> {
    Whole(L, usize, Vec<FieldPlace>),
    Partial,
    Invalid,
}

impl<L> Lenient<L> {
    fn map<H>(self, build: impl FnOnce(L, usize, Vec<FieldPlace>) -> H) -> Parsed<H> {
        match self {
            Lenient::Whole(line, length, fields) => Parsed::Whole(build(line, length, fields), length),
            Lenient::Partial => Parsed::Partial,
            Lenient::Invalid => Parsed::Invalid,
        }
    }
}

/// Reads a head line by line: bare LF, obs-fold (RFC 9112 section 5.2) and white space before the colon pass.
/// `start_line` gets the line and its offset.
fn lenient<L>(bytes: &[u8], start_line: impl FnOnce(&[u8], usize) -> Option<L>) -> Lenient<L> {
    let leading = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = bytes.get(leading..).unwrap_or_default();
    let Some(length) = end(&[], rest).map(|end| end.saturating_add(leading)) else { return Lenient::Partial };
    let mut start_line = Some(start_line);
    let mut found = None;
    let mut ranges: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let mut start = leading;
    while start < length {
        let rest = bytes.get(start..length).unwrap_or_default();
        let line_bytes = memchr(b'\n', rest).map_or(rest.len(), |at| at.saturating_add(1));
        let line = rest.get(..line_bytes).unwrap_or_default().trim_ascii_end();
        if let Some(start_line) = start_line.take() {
            match start_line(line, start) {
                Some(line) => found = Some(line),
                None => return Lenient::Invalid,
            }
        } else if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let Some((_, value)) = ranges.last_mut() {
                value.end = start.saturating_add(line.len());
            }
        } else if let Some(colon) = memchr(b':', line) {
            let name = line.get(..colon).unwrap_or_default().trim_ascii_end().len();
            let after = line.get(colon.saturating_add(1)..).unwrap_or_default();
            let value_end = start.saturating_add(line.len());
            let value_start = value_end.saturating_sub(after.trim_ascii_start().len());
            ranges.push((start..start.saturating_add(name), value_start..value_end));
        }
        start = start.saturating_add(line_bytes);
    }
    let fields = ranges.into_iter().map(|(name, value)| FieldPlace::new(name, value));
    match found {
        Some(line) => Lenient::Whole(line, length, fields.collect()),
        None => Lenient::Invalid,
    }
}

#[cfg(test)]
mod tests;
