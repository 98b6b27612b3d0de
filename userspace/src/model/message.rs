//! HTTP messages as they were on the wire, after transfer decoding and before content decoding.
//!
//! Names, order, case and repetition of header fields are kept; nothing is merged or normalised here.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

/// Version of a message (RFC 9112 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

/// Header fields in the order they were sent.
///
/// One shared block of bytes and one list of ranges, so that a head costs two allocations whatever its size.
#[derive(Clone, Default)]
pub struct Headers {
    raw: Bytes,
    fields: Vec<FieldPlace>,
}

/// Where a field lies in the bytes of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPlace {
    /// Where its name begins.
    pub name_start: u32,
    /// Where its name has ended.
    pub name_end: u32,
    /// Where its value begins.
    pub value_start: u32,
    /// Where its value has ended.
    pub value_end: u32,
}

/// A message body after transfer decoding.
#[derive(Clone, Default)]
pub struct Body {
    /// The bytes that were kept: all of them, or the first ones when [`Body::is_cut`].
    pub kept: Bytes,
    /// Bytes that were seen; more than `kept.len()` when the body passed the cap.
    pub bytes: u64,
    /// SHA-256 of all bytes that were seen, present only when `kept` is not all of them.
    pub digest: Option<[u8; 32]>,
    /// True when the body was seen to its end as its framing defines it.
    pub complete: bool,
}

/// A request (RFC 9112 section 3).
#[derive(Clone, Debug)]
pub struct Request {
    /// The method token.
    pub method: Bytes,
    /// The request target as it was sent.
    pub target: Bytes,
    /// The version of the request line.
    pub version: Version,
    /// Header fields.
    pub headers: Headers,
    /// Trailer fields of a chunked body.
    pub trailers: Headers,
    /// The body.
    pub body: Body,
}

/// A final response (RFC 9112 section 4).
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The version of the status line.
    pub version: Version,
    /// Header fields.
    pub headers: Headers,
    /// Trailer fields of a chunked body.
    pub trailers: Headers,
    /// The body.
    pub body: Body,
}

// === impl Version ===

impl Version {
    /// As it stands in a start line.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

// === impl Headers ===

impl Headers {
    /// Fields that lie in `raw` at these places. What does not fit there reads as empty.
    pub fn from_places(raw: Bytes, fields: Vec<FieldPlace>) -> Self {
        Self { raw, fields }
    }

    /// Fields from names and values.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut raw = Vec::new();
        let mut fields = Vec::new();
        for (name, value) in pairs {
            let start = raw.len();
            raw.extend_from_slice(name.as_ref());
            let middle = raw.len();
            raw.extend_from_slice(value.as_ref());
            fields.push(FieldPlace::new(start..middle, middle..raw.len()));
        }
        Self::from_places(raw.into(), fields)
    }

    /// The whole head that these fields were read from, start line included; of fields from elsewhere nothing of use.
    pub fn head(&self) -> &[u8] {
        &self.raw
    }

    /// Number of fields; a repeated one counts each time.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True when there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Name and value of each field, as sent, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| {
            (self.slice(field.name_start, field.name_end), self.slice(field.value_start, field.value_end))
        })
    }

    /// Values of all fields of this name, whatever its case, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(have, _)| have.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Value of the first field of this name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(have, _)| have.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The same for fields whose names have as many bytes as `is_wanted` wants. To look at few of many fields, their
    /// lengths are enough to pass over the others.
    pub fn iter_by_name_bytes(
        &self,
        is_wanted: impl Fn(usize) -> bool,
    ) -> impl Iterator<Item = (&[u8], &[u8])> {
        let name_bytes = |field: &FieldPlace| field.name_end.saturating_sub(field.name_start) as usize;
        self.fields.iter().filter(move |field| is_wanted(name_bytes(field))).map(|field| {
            (self.slice(field.name_start, field.name_end), self.slice(field.value_start, field.value_end))
        })
    }

    /// Bytes of memory that this holds, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.raw.len().saturating_add(self.fields.capacity().saturating_mul(size_of::<FieldPlace>()))
    }

    fn slice(&self, start: u32, end: u32) -> &[u8] {
        self.raw.get(start as usize..end as usize).unwrap_or_default()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value))),
            )
            .finish()
    }
}

// === impl FieldPlace ===

impl FieldPlace {
    /// From ranges of name and value. What lies beyond 4 GiB reads as empty.
    pub fn new(name: Range<usize>, value: Range<usize>) -> Self {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            name_start: small(name.start),
            name_end: small(name.end),
            value_start: small(value.start),
            value_end: small(value.end),
        }
    }
}

// === impl Body ===

impl Body {
    /// A whole body that is all kept.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let kept = bytes.into();
        Self { bytes: kept.len() as u64, kept, digest: None, complete: true }
    }

    /// True when not all seen bytes were kept.
    pub fn is_cut(&self) -> bool {
        (self.kept.len() as u64) < self.bytes
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("bytes", &self.bytes)
            .field("kept", &self.kept.len())
            .field("complete", &self.complete)
            .finish()
    }
}

// === impl Request ===

impl Request {
    /// Bytes of memory that head, trailers and body hold, roughly.
    pub fn memory_bytes(&self) -> usize {
        memory_bytes(&self.headers, &self.trailers, &self.body)
    }

    /// The method as text; methods are tokens (RFC 9110 section 9.1), so anything else shows as `?`.
    pub fn method_str(&self) -> &str {
        std::str::from_utf8(&self.method).unwrap_or("?")
    }

    /// True for the methods that RFC 9110 section 9.2.1 defines as safe: GET, HEAD, OPTIONS, TRACE.
    pub fn is_safe(&self) -> bool {
        matches!(&self.method[..], b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    }

    /// The path of the target: without scheme and authority of the absolute form, without the query.
    pub fn path(&self) -> &[u8] {
        let path = self.path_and_query().split(|b| *b == b'?').next().unwrap_or_default();
        // An absolute form without a path means the root (RFC 9112 section 3.2.1).
        if path.is_empty() && !self.target.is_empty() { b"/" } else { path }
    }

    /// The target without scheme and authority of the absolute form (RFC 9112 section 3.2.2). The path is empty
    /// where the absolute form has none (`http://host`, `http://host?query`).
    pub fn path_and_query(&self) -> &[u8] {
        match self.absolute_form() {
            Some((_, rest)) => rest,
            None => &self.target,
        }
    }

    /// The authority of an absolute form, which readers have to prefer to the Host field.
    pub fn authority(&self) -> Option<&[u8]> {
        self.absolute_form().map(|(authority, _)| authority)
    }

    /// Authority and rest of `scheme://authority/path?query`. A target that begins with `/` is in origin form,
    /// whatever follows: `/login?next=http://other/`.
    fn absolute_form(&self) -> Option<(&[u8], &[u8])> {
        let target = &self.target[..];
        let colon = target.iter().position(|b| matches!(b, b':' | b'/' | b'?'))?;
        let (scheme, rest) = target.split_at_checked(colon)?;
        let rest = rest.strip_prefix(b"://").filter(|_| !scheme.is_empty())?;
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        rest.split_at_checked(end)
    }
}

// === impl Response ===

impl Response {
    /// Bytes of memory that head, trailers and body hold, roughly.
    pub fn memory_bytes(&self) -> usize {
        memory_bytes(&self.headers, &self.trailers, &self.body)
    }
}

fn memory_bytes(headers: &Headers, trailers: &Headers, body: &Body) -> usize {
    headers.memory_bytes().saturating_add(trailers.memory_bytes()).saturating_add(body.kept.len())
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(target: &str, authority: Option<&str>, path_and_query: &str, path: &str) {
        let request = crate::model::samples::request("GET", target, &[]);
        assert_eq!(request.authority(), authority.map(str::as_bytes), "authority of {target}");
        assert_eq!(request.path_and_query(), path_and_query.as_bytes(), "path and query of {target}");
        assert_eq!(request.path(), path.as_bytes(), "path of {target}");
    }

    #[test]
    fn a_target_is_taken_apart_by_its_form() {
        check("/a/b?c=d?e", None, "/a/b?c=d?e", "/a/b");
        check("http://h:80/a?b", Some("h:80"), "/a?b", "/a");
        check("http://h", Some("h"), "", "/");
        check("http://h?b=/c", Some("h"), "?b=/c", "/");
        check("*", None, "*", "*");
        check("h:443", None, "h:443", "h:443");
        check("", None, "", "");
        check("://h/a", None, "://h/a", "://h/a");
    }

    #[test]
    fn an_address_in_path_or_query_is_no_absolute_form() {
        check("/login?next=http://other/x", None, "/login?next=http://other/x", "/login");
        check("/go/http://other/x", None, "/go/http://other/x", "/go/http://other/x");
    }
}
