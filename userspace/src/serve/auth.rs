//! Who may ask the admin listener, how often, and by which name.
//!
//! Keeps no token, only its SHA-256, and never says which part of a wrong one was wrong.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::config::AdminConfig;
use super::error::AdminError;
use crate::metrics::AdminRefusal;
use crate::secret::{Secret, read_private};

/// What every request passes before a route sees it.
pub(super) struct Gate {
    token: Option<TokenDigest>,
    wants_certificate: bool,
    /// Names besides `localhost` that we may be called by.
    hosts: Vec<String>,
    per_second_max: u32,
    left: Left,
}

/// SHA-256 of the token: what is compared has one length, and what is kept opens nothing.
struct TokenDigest([u8; 32]);

/// Requests that may still come in this second.
struct Left {
    known: AtomicU32,
    strangers: AtomicU32,
}

/// Why a request is refused, and what it is told.
pub(super) type Refused = (AdminRefusal, Response);

/// Paths for which nobody has to say who they are: whoever restarts services asks here, and there is nothing to see. No flood
/// may make such a path refuse, or strangers could have services restarted: its requests are not bounded in number, as an
/// answer costs no more than a refusal would, and they take nothing from those to other paths.
const OPEN: [&str; 1] = ["/healthz"];

/// Bytes of a token. The least is what cannot be guessed at the bound of requests (RFC 6750 section 5.2).
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 4096;

/// Largest file that is read for a token, with what may stand around it.
const TOKEN_FILE_BYTES_MAX: usize = TOKEN_BYTES_MAX + 64;

/// Reads a token from a file.
///
/// # Errors
/// When others can read the file, or it holds no token.
pub(super) fn read_token(key: &'static str, path: &Path) -> Result<Secret, AdminError> {
    let file =
        read_private(path, TOKEN_FILE_BYTES_MAX).map_err(|source| AdminError::Secret { key, source })?;
    let token = file.reveal_trimmed();
    // RFC 6750 section 2.1, b64token.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    if (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) && token.iter().all(is_plain) {
        return Ok(Secret::new(token.to_vec()));
    }
    Err(AdminError::TokenForm { path: path.to_owned(), min: TOKEN_BYTES_MIN, max: TOKEN_BYTES_MAX })
}

// === impl Gate ===

impl Gate {
    /// Reads the token, where one is asked for.
    ///
    /// # Errors
    /// As for [`read_token`].
    pub(super) fn new(config: &AdminConfig) -> Result<Self, AdminError> {
        let token = config.token.as_ref().map(|path| read_token("token", path)).transpose()?;
        let per_second_max = config.limits.requests_per_second_max.get();
        Ok(Self {
            token: token.map(|token| TokenDigest::of(token.reveal())),
            wants_certificate: config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
            hosts: config.hosts.clone(),
            per_second_max,
            left: Left { known: per_second_max.into(), strangers: per_second_max.into() },
        })
    }

    /// A second has passed.
    pub(super) fn renew(&self) {
        self.left.known.store(self.per_second_max, Ordering::Relaxed);
        self.left.strangers.store(self.per_second_max, Ordering::Relaxed);
    }

    /// Why a request must not pass; none: it may. `has_certificate`: it comes with one of the right authority.
    /// `body_bytes_max`: what the route takes.
    pub(super) fn refuse<B>(
        &self,
        request: &Request<B>,
        has_certificate: bool,
        body_bytes_max: usize,
    ) -> Option<Refused> {
        let headers = request.headers();
        let is_known = self.is_known(headers, has_certificate);
        let is_open = OPEN.contains(&request.uri().path());
        // Apart, so that those who may not ask take nothing from those who may.
        let left = if is_known { &self.left.known } else { &self.left.strangers };
        if !is_open
            && left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        {
            let refused = say(StatusCode::TOO_MANY_REQUESTS, "too many requests in this second");
            return Some((AdminRefusal::Rate, ([(RETRY_AFTER, "1")], refused).into_response()));
        }
        if !self.asks_who() && !self.is_us(request) {
            let told = "this listener has another name: ask by address or as localhost, or name it in `hosts` under [admin]";
            return Some((AdminRefusal::Host, say(StatusCode::MISDIRECTED_REQUEST, told)));
        }
        if !is_known && !is_open {
            return Some((AdminRefusal::Identity, self.ask_who(headers)));
        }
        // Browsers say with each request that changes something where it comes from (Fetch, "append a request Origin
        // header"); nobody else does.
        if headers.contains_key(ORIGIN) && ![Method::GET, Method::HEAD].contains(request.method()) {
            let told = "requests from a browser are not taken";
            return Some((AdminRefusal::Origin, say(StatusCode::FORBIDDEN, told)));
        }
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > body_bytes_max as u64) {
            return Some((AdminRefusal::BodySize, too_large(body_bytes_max)));
        }
        None
    }

    fn asks_who(&self) -> bool {
        self.token.is_some() || self.wants_certificate
    }

    /// Whether whoever asks has shown all that is asked for.
    fn is_known(&self, headers: &HeaderMap, has_certificate: bool) -> bool {
        let token_fits = self.token.as_ref().is_none_or(|token| token.is_in(headers));
        token_fits && (has_certificate || !self.wants_certificate)
    }

    /// Whether the request is for us. A page that had its own name bound to our address (DNS rebinding) sends its name;
    /// an address cannot be bound to another.
    fn is_us<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let named = match (request.uri().authority(), hosts.next(), hosts.next()) {
            // The absolute form takes precedence (RFC 9112 section 3.2.2).
            (Some(authority), _, None) => Some(authority.as_str()),
            (None, Some(host), None) => host.to_str().ok(),
            // HTTP/1.0 has no such field, and browsers do not speak it.
            (None, None, None) => return request.version() < axum::http::Version::HTTP_11,
            (_, _, Some(_)) => None,
        };
        named.is_some_and(|named| {
            let name = without_port(named);
            is_address(name)
                || name.eq_ignore_ascii_case("localhost")
                || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
        })
    }

    fn ask_who(&self, headers: &HeaderMap) -> Response {
        if self.token.is_none() {
            return say(StatusCode::FORBIDDEN, "a client certificate is asked for");
        }
        // RFC 6750 section 3: an error is named only to who has tried.
        let challenge = if headers.contains_key(AUTHORIZATION) {
            "Bearer realm=\"understudy\", error=\"invalid_token\""
        } else {
            "Bearer realm=\"understudy\""
        };
        let told = if self.wants_certificate {
            "a token and a client certificate are asked for"
        } else {
            "a token is asked for"
        };
        let refused = say(StatusCode::UNAUTHORIZED, told);
        ([(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))], refused).into_response()
    }
}

// === impl TokenDigest ===

impl TokenDigest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether the one `Authorization` field holds the token. Takes the same time wherever it differs.
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return false };
        let (scheme, token) = match field.as_bytes().split_at_checked(7) {
            Some((scheme, token)) => (scheme, token.trim_ascii()),
            None => return false,
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(Self::of(token).0.ct_eq(&self.0))
    }
}

/// `host` of `host:port`, of `[address]:port`.
fn without_port(authority: &str) -> &str {
    let port_at = authority.rfind(':').filter(|at| !authority.get(*at..).unwrap_or_default().contains(']'));
    port_at.and_then(|at| authority.get(..at)).unwrap_or(authority)
}

fn is_address(name: &str) -> bool {
    let in_brackets = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match in_brackets {
        Some(name) => name.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok(),
    }
}

pub(super) fn too_large(limit: usize) -> Response {
    say(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body has more than {limit} bytes"))
}

/// An answer that programs and people can read.
pub(super) fn say(status: StatusCode, error: &str) -> Response {
    let body = serde_json::json!({ "error": error });
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests;
