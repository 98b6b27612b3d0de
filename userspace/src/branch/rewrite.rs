//! Turns a captured request into one for a candidate.
//!
//! Changes only what belongs to the captured connection, and what the configuration asks for.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::OwnFields;
use super::body::RequestBody;
use crate::model::{ExchangeId, Headers, REPLAY_HEADER, Request, Version, is_per_connection};

/// What the `http` crate cannot say of a captured request, so that it is not sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inexpressible {
    /// The method is no token, or is CONNECT.
    Method,
    /// The target has bytes that no URI has, or neither begins with `/` nor is `*`.
    Target,
    /// A field's name is no token, or its value has control characters.
    Header,
    /// The body is not all there, or its length is not the announced one.
    Body,
}

/// What a request gets on its way to a candidate.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    pub(super) authority: Authority,
    /// `None` keeps the captured one.
    pub(super) host: Option<HeaderValue>,
    /// Fields that replace those of the same name.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

// === impl Inexpressible ===

impl Inexpressible {
    /// The part as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Inexpressible::Method => "method",
            Inexpressible::Target => "target",
            Inexpressible::Header => "header",
            Inexpressible::Body => "body",
        }
    }
}

// === impl Rewrite ===

impl Rewrite {
    /// The request as a candidate gets it: same method, target, version, fields and body.
    ///
    /// `Transfer-Encoding` and `Content-Length` stay as they were, so that a chunked body stays chunked. Trailer
    /// fields are not sent, as `Trailer` belongs to the connection.
    pub(super) fn apply(
        &self,
        id: ExchangeId,
        request: &Request,
        own: &OwnFields,
    ) -> Result<http::Request<RequestBody>, Inexpressible> {
        let Request { method, target: _, version, headers, trailers: _, body } = request;
        let method = Method::from_bytes(method).map_err(|_source| Inexpressible::Method)?;
        if method == Method::CONNECT {
            return Err(Inexpressible::Method);
        }
        if body.is_cut() || !body.complete {
            return Err(Inexpressible::Body);
        }
        let mut fields = self.fields(headers)?;
        for (name, value) in own.iter() {
            fields.insert(name, value.clone());
        }
        let length_fits = fields
            .get_all(CONTENT_LENGTH)
            .iter()
            .all(|length| length.to_str().is_ok_and(|length| length.trim().parse() == Ok(body.bytes)));
        if !length_fits {
            return Err(Inexpressible::Body);
        }
        let framed = fields.contains_key(TRANSFER_ENCODING) || fields.contains_key(CONTENT_LENGTH);
        let id = HeaderValue::from_maybe_shared(Bytes::from(id.to_string()))
            .map_err(|_source| Inexpressible::Header)?;
        fields.insert(HeaderName::from_static(REPLAY_HEADER), id);

        let mut rewritten = http::Request::new(RequestBody::new(body.kept.clone(), framed));
        *rewritten.method_mut() = method;
        *rewritten.uri_mut() = self.uri(request)?;
        *rewritten.version_mut() = match version {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        };
        *rewritten.headers_mut() = fields;
        Ok(rewritten)
    }

    fn fields(&self, captured: &Headers) -> Result<HeaderMap, Inexpressible> {
        // Found first and never taken out again: removing from a `HeaderMap` changes the order of what remains.
        let named_by_connection: Vec<HeaderName> = captured
            .get_all("connection")
            .flat_map(|options| options.split(|b| *b == b','))
            .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
            // A client that names a field of framing or routing there would change the message's meaning.
            .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name))
            .collect();
        let mut fields = HeaderMap::with_capacity(captured.len().saturating_add(2));
        for (name, value) in captured.iter() {
            let name = HeaderName::from_bytes(name).map_err(|_source| Inexpressible::Header)?;
            // A captured replay header is never ours to repeat: its value names one exchange.
            let is_ours = name == REPLAY_HEADER;
            if is_ours || is_per_connection(name.as_str()) || named_by_connection.contains(&name) {
                continue;
            }
            let value = HeaderValue::from_bytes(value).map_err(|_source| Inexpressible::Header)?;
            fields.try_append(name, value).map_err(|_source| Inexpressible::Header)?;
        }
        if let Some(host) = &self.host {
            fields.insert(HOST, host.clone());
        }
        for (name, value) in &self.headers {
            fields.insert(name, value.clone());
        }
        Ok(fields)
    }

    /// The candidate's address with the captured target, byte for byte.
    fn uri(&self, request: &Request) -> Result<Uri, Inexpressible> {
        let wanted = request.target.clone();
        // The client writes the origin form. In its place of an absolute form (RFC 9112 section 3.2.2), a candidate
        // that looks at its target would differ for a reason of ours.
        if wanted.first() != Some(&b'/') && wanted != b"*"[..] {
            return Err(Inexpressible::Target);
        }
        let path_and_query =
            PathAndQuery::from_maybe_shared(wanted.clone()).map_err(|_source| Inexpressible::Target)?;
        // The parser drops a fragment in silence; a target must not lose one byte.
        if path_and_query.as_str().as_bytes() != &wanted[..] {
            return Err(Inexpressible::Target);
        }
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).map_err(|_source| Inexpressible::Target)
    }
}
