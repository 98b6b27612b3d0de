//! Knows by which names the two branches call themselves in a URL.
//!
//! Does not judge URLs of others: outside of the own origin each byte counts.

use std::borrow::Cow;

use crate::model::{Endpoint, Exchange, host_of};

/// Schemes whose URLs name a host that the branch may be itself.
const SCHEMES: [(&[u8], &[u8]); 4] =
    [(b"http://", b":80"), (b"https://", b":443"), (b"ws://", b":80"), (b"wss://", b":443")];

/// What is A's or B's own origin: the host that the client asked for, whatever the port and scheme; A's address; B's
/// authority.
///
/// Ports are left out because B is sent the `Host` of A's request while it listens on another port, and schemes because
/// one of the two may stand behind a proxy that ends TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnOrigin<'a> {
    asked: Option<&'a [u8]>,
    server: &'a Endpoint,
    candidates: &'a [String],
}

// === impl OwnOrigin ===

impl<'a> OwnOrigin<'a> {
    pub(super) fn new(exchange: &'a Exchange, candidates: &'a [String]) -> Self {
        let asked = exchange.request.headers.get("host").map(host_of).filter(|host| !host.is_empty());
        Self { asked, server: &exchange.flow.key.server, candidates }
    }

    /// What follows the authority of an absolute URL at the own origin; none for any other text.
    pub(super) fn rest_of_own<'v>(&self, url: &'v [u8]) -> Option<&'v [u8]> {
        // Nearly all texts end here.
        if !matches!(url.first(), Some(b'h' | b'H' | b'w' | b'W')) {
            return None;
        }
        let begins = |scheme: &[u8]| url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
        let (scheme, default_port) = SCHEMES.into_iter().find(|(scheme, _)| begins(scheme))?;
        let after = url.get(scheme.len()..)?;
        let end = after.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(after.len());
        let (authority, rest) = after.split_at_checked(end)?;
        self.is_own(authority, default_port).then_some(rest)
    }

    fn is_own(&self, authority: &[u8], default_port: &[u8]) -> bool {
        let host = host_of(authority);
        if self.asked.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return true;
        }
        let is = |own: &[u8]| {
            own.eq_ignore_ascii_case(authority)
                || (host.len() == authority.len()
                    && own.strip_suffix(default_port).is_some_and(|own| own.eq_ignore_ascii_case(host)))
        };
        self.candidates.iter().any(|own| is(own.as_bytes())) || is(self.server.to_string().as_bytes())
    }

    /// A reference as seen from the own origin: `http://own.host:8080/path` as `/path`, others as they are.
    ///
    /// A server writes its own name and port into redirects (nginx does so with every directory), and the two branches
    /// listen on different ones.
    pub(super) fn without_own<'v>(&self, url: &'v [u8]) -> &'v [u8] {
        match self.rest_of_own(url) {
            Some(b"") => b"/",
            Some(rest) => rest,
            None => url,
        }
    }

    /// True for equal texts, and for two absolute URLs at the own origin that are equal behind it.
    pub(super) fn same(&self, a: &[u8], b: &[u8]) -> bool {
        a == b || self.rest_of_own(a).is_some_and(|rest| self.rest_of_own(b) == Some(rest))
    }

    /// True for a host name that is the own one.
    pub(super) fn is_own_host(&self, host: &[u8]) -> bool {
        let own = |name: &[u8]| name.eq_ignore_ascii_case(host);
        self.asked.is_some_and(own) || self.candidates.iter().any(|own_b| own(host_of(own_b.as_bytes())))
    }

    /// Bytes that are equal for texts that are [the same](OwnOrigin::same).
    pub(super) fn canonical<'v>(&self, text: &'v [u8]) -> Cow<'v, [u8]> {
        match self.rest_of_own(text) {
            None => Cow::Borrowed(text),
            // No text that a document can hold begins with this byte, which UTF-8 has no use for.
            Some(rest) => Cow::Owned([b"\xff", rest].concat()),
        }
    }
}
