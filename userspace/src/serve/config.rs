//! What the admin listener is told: where, for whom, within which bounds.
//!
//! Opens no file; that is done when the listener is bound.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens. On another address than loopback it needs `token`, or a `client_ca`.
    pub listen: SocketAddr,
    /// File with the token that requests must bring (`Authorization: Bearer …`, RFC 6750). None: no token is asked for.
    pub token: Option<PathBuf>,
    /// TLS; none: plain HTTP.
    pub tls: Option<AdminTls>,
    /// Names besides `localhost` that requests may call a listener by that asks for neither token nor certificate.
    pub hosts: Vec<String>,
    /// Bounds.
    pub limits: AdminLimits,
}

/// Files for TLS, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminTls {
    /// Our certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs certificates of those who may ask; none: no certificate is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Bounds of the admin listener. What is beyond one is refused and counted (`understudy_admin_refused_total`).
///
/// A connection is one request: it is closed behind the answer, so that nobody keeps a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminLimits {
    /// Connections at a time. One more takes the place of that which has waited longest without a whole head; when all
    /// have sent theirs, it is closed itself. Default: 64.
    pub connections_max: usize,
    /// Bytes of a request's head, at least 8,192. Default: 16 KiB.
    pub head_bytes_max: usize,
    /// Time for the TLS handshake, and again for the head. Default: 5 s.
    pub head_wait_max: Duration,
    /// Bytes of a request's body; `/observe` has a bound of its own. Default: 64 KiB.
    pub body_bytes_max: usize,
    /// Time from there until the answer has been taken. Default: 30 s.
    pub request_wait_max: Duration,
    /// Requests in a second from those who may ask, and as many from others; `/healthz` is not counted. Default: 100.
    pub requests_per_second_max: NonZeroU32,
}

/// Requests in a second when nothing else is said.
const REQUESTS_PER_SECOND_DEFAULT: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

// === impl AdminConfig ===

impl AdminConfig {
    /// A listener here, for everybody who reaches it, with defaults.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, token: None, tls: None, hosts: Vec::new(), limits: AdminLimits::default() }
    }

    /// Whether only this host reaches it.
    pub fn is_local(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether requests must show who they come from.
    pub fn asks_who(&self) -> bool {
        self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }
}

// === impl AdminLimits ===

impl Default for AdminLimits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            head_bytes_max: 16 << 10,
            head_wait_max: Duration::from_secs(5),
            body_bytes_max: 64 << 10,
            request_wait_max: Duration::from_secs(30),
            requests_per_second_max: REQUESTS_PER_SECOND_DEFAULT,
        }
    }
}
