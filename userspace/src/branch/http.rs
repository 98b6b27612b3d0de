//! A candidate that is reached by HTTP/1.x.
//!
//! Speaks no TLS, uses no proxy, follows no redirect, keeps no cookies.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::body::{self, RequestBody};
use super::connect::{ByteTimes, Connector, Destination, now};
use super::guard::{CapturedPorts, GuardError};
use super::rewrite::Rewrite;
use super::{Branch, CredentialConfig, Credentials, OwnFields, Sent};
use crate::model::{BranchFailure, ExchangeId, Headers, Observation, Request, Response, Version};

/// A candidate as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpBranchConfig {
    /// Where it is: `http://host[:port]`, without path and query.
    pub url: String,
    /// What the `Host` field says. Default: what the client sent.
    pub host: HostPolicy,
    /// Fields that each request gets, in place of captured ones of the same name. Default: none.
    pub headers: Vec<(String, String)>,
    /// Fields that show who asks, in place of captured ones. Default: none.
    pub credentials: Vec<CredentialConfig>,
    /// Which secrets it is sent. Default: those that were captured where it is on this host, else tokens.
    pub secrets: SentSecrets,
    /// Bounds.
    pub limits: BranchLimits,
}

/// Which secrets a candidate is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SentSecrets {
    /// Those that were captured where all of its addresses are loopback, so that nothing leaves the host; else tokens.
    #[default]
    ByAddress,
    /// Those that were captured.
    Captured,
    /// Tokens in their place.
    Redacted,
}

/// What the `Host` field of a replayed request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// What the client sent.
    #[default]
    Keep,
    /// The candidate's own name.
    Target,
    /// This name.
    Name(String),
}

/// Bounds of one candidate's connections and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchLimits {
    /// Connections that are kept for the next request. Default: 64, the default of the in-flight limit.
    pub idle_connections_max: usize,
    /// How long a connection is kept without a request. Shorter than what servers allow, so that a request
    /// rarely meets a connection that the server is closing; there are no retries. Default: 1 s.
    pub idle_max: Duration,
    /// Bytes of an answer's body that are kept; the rest is counted and hashed. Default: 1 MiB.
    pub body_kept_max: usize,
    /// Bytes of an answer's head; a longer one is [`BranchFailure::Garbage`]. Default: 64 KiB.
    pub head_bytes_max: usize,
    /// Fields of an answer's head; more are [`BranchFailure::Garbage`]. Default: 256.
    pub head_fields_max: usize,
}

/// Why a [`HttpBranchConfig`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BranchConfigError {
    /// It is no URL.
    #[error("candidate `{url}` is not a URL")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        #[source]
        source: http::uri::InvalidUri,
    },
    /// It asks for TLS.
    #[error("candidate `{url}`: https is not supported yet; terminate TLS in front of the candidate")]
    Tls {
        /// As configured.
        url: String,
    },
    /// It is a URL of another form.
    #[error("candidate `{url}` must read `http://host` or `http://host:port`, without user, path and query")]
    Form {
        /// As configured.
        url: String,
    },
    /// A field that no request can carry.
    #[error("header `{name}` for candidate `{url}` has a name or a value that HTTP does not allow")]
    Header {
        /// The candidate.
        url: String,
        /// The field's name.
        name: String,
    },
    /// A field that says how long the body is.
    #[error("header `{name}` for candidate `{url}` belongs to the message's framing and cannot be set")]
    Framing {
        /// The candidate.
        url: String,
        /// The field's name.
        name: String,
    },
    /// The name cannot be resolved now.
    #[error("failed to resolve candidate `{candidate}` (mend its `url`, or the name service of this host)")]
    Resolve {
        /// `host:port`.
        candidate: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// It is the captured service.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// A candidate that is reached by HTTP/1.x.
pub struct HttpBranch {
    client: Client<Connector, RequestBody>,
    destination: Arc<Destination>,
    rewrite: Rewrite,
    credentials: Credentials,
    body_kept_max: usize,
}

// === impl HttpBranchConfig ===

impl HttpBranchConfig {
    /// `host[:port]` of the URL.
    pub fn authority(&self) -> Option<&str> {
        self.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'))
    }

    /// The host and the port that connections go to.
    ///
    /// # Errors
    /// When the URL is none that a candidate can have.
    pub fn endpoint(&self) -> Result<(String, u16), BranchConfigError> {
        let authority = parse_authority(&self.url)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok((host, authority.port_u16().unwrap_or(80)))
    }

    /// A candidate at `url`, and defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            host: HostPolicy::default(),
            headers: Vec::new(),
            credentials: Vec::new(),
            secrets: SentSecrets::default(),
            limits: BranchLimits::default(),
        }
    }
}

// === impl SentSecrets ===

impl SentSecrets {
    /// True when a candidate at these addresses is sent tokens.
    pub fn are_redacted(self, addresses: &[SocketAddr]) -> bool {
        match self {
            SentSecrets::ByAddress => {
                !addresses.iter().all(|address| address.ip().to_canonical().is_loopback())
            }
            SentSecrets::Captured => false,
            SentSecrets::Redacted => true,
        }
    }
}

// === impl BranchLimits ===

impl Default for BranchLimits {
    fn default() -> Self {
        Self {
            idle_connections_max: 64,
            idle_max: Duration::from_secs(1),
            body_kept_max: 1 << 20,
            head_bytes_max: 64 << 10,
            head_fields_max: 256,
        }
    }
}

// === impl HttpBranch ===

impl HttpBranch {
    /// Checks the configuration. Connects to nothing; see [`HttpBranch::resolve`].
    ///
    /// # Errors
    ///
    /// Names the part of the configuration that cannot be used.
    pub fn new(config: HttpBranchConfig, guard: CapturedPorts) -> Result<Self, BranchConfigError> {
        let HttpBranchConfig { url, host, headers, credentials: _, secrets: _, limits } = config;
        let BranchLimits { idle_connections_max, idle_max, body_kept_max, head_bytes_max, head_fields_max } =
            limits;
        let authority = parse_authority(&url)?;
        let host = match host {
            HostPolicy::Keep => None,
            HostPolicy::Target => Some(authority.to_string()),
            HostPolicy::Name(name) => Some(name),
        };
        let host = host.map(|host| header_pair(&url, "host", &host)).transpose()?.map(|(_, host)| host);
        let headers = headers
            .iter()
            .map(|(name, value)| header_pair(&url, name, value))
            .collect::<Result<Vec<_>, _>>()?;
        let framing = [http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING];
        if let Some((name, _)) = headers.iter().find(|(name, _)| framing.contains(name)) {
            return Err(BranchConfigError::Framing { url, name: name.to_string() });
        }
        let destination = Arc::new(Destination {
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(80),
            name: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            guard,
        });
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle_max)
            .pool_max_idle_per_host(idle_connections_max)
            .retry_canceled_requests(false)
            .set_host(false)
            // What was captured had some case; hyper keeps none. Most clients and all of HTTP/1's examples write
            // `Content-Type`.
            .http1_title_case_headers(true)
            .http1_max_buf_size(head_bytes_max.max(8192))
            .http1_max_headers(head_fields_max)
            .build(Connector { shared: Arc::clone(&destination) });
        let rewrite = Rewrite { authority, host, headers };
        Ok(Self { client, destination, rewrite, credentials: Credentials::NONE, body_kept_max })
    }

    /// With these fields, which are those that the configuration names.
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// Resolves the candidate now, to refuse a target that is the captured listener before anything runs.
    ///
    /// # Errors
    ///
    /// The name has no address, or one of its addresses is a captured port of this host.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, BranchConfigError> {
        self.destination.addresses().await
    }

    async fn exchange(&self, request: http::Request<RequestBody>) -> Result<Observation, BranchFailure> {
        let started = now();
        let answer = self.client.request(request).await.map_err(|error| client_failure(&error))?;
        let head_read = now();
        let (head, incoming) = answer.into_parts();
        let times = head.extensions.get::<ByteTimes>().cloned();
        let (request_end, response_start) = times
            .as_ref()
            .and_then(ByteTimes::request_end_and_response_start)
            .unwrap_or((started, head_read));
        let (body, trailers) =
            body::read(incoming, self.body_kept_max).await.map_err(|error| message_failure(&error))?;
        let response_end = times.as_ref().and_then(ByteTimes::newest_read).unwrap_or_else(now);
        let response = Response {
            status: head.status.as_u16(),
            version: if head.version == http::Version::HTTP_10 { Version::Http10 } else { Version::Http11 },
            headers: Headers::from_pairs(head.headers.iter().map(|(name, value)| (name, value.as_bytes()))),
            trailers,
            body,
        };
        Ok(Observation::Answered {
            response: Box::new(response),
            ttfb: response_start.saturating_duration_since(request_end),
            served: response_end.saturating_duration_since(request_end),
        })
    }
}

impl Branch for HttpBranch {
    fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    async fn send(&self, id: ExchangeId, request: &Request, own: &OwnFields, deadline: Duration) -> Sent {
        let request = match self.rewrite.apply(id, request, own) {
            Ok(request) => request,
            Err(part) => return Sent::NotSent(part),
        };
        // Dropping the exchange at the deadline closes its connection: hyper cannot use one again that has an
        // answer outstanding.
        let outcome = tokio::time::timeout(deadline, self.exchange(request)).await;
        Sent::Observed(match outcome {
            Ok(Ok(observation)) => observation,
            Ok(Err(failure)) => Observation::Failed(failure),
            Err(_elapsed) => Observation::Failed(BranchFailure::TimedOut),
        })
    }
}

fn parse_authority(url: &str) -> Result<Authority, BranchConfigError> {
    let uri: Uri = url.parse().map_err(|source| BranchConfigError::Url { url: url.to_owned(), source })?;
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return Err(BranchConfigError::Tls { url: url.to_owned() });
    }
    let plain =
        uri.scheme() == Some(&Scheme::HTTP) && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let authority = uri.into_parts().authority.filter(|authority| !authority.as_str().contains('@'));
    let named = authority.filter(|authority| plain && !authority.host().is_empty());
    named.ok_or_else(|| BranchConfigError::Form { url: url.to_owned() })
}

fn header_pair(url: &str, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), BranchConfigError> {
    let pair = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
    pair.ok_or_else(|| BranchConfigError::Header { url: url.to_owned(), name: name.to_owned() })
}

/// What a failed request says about the candidate.
fn client_failure(error: &legacy::Error) -> BranchFailure {
    if error.is_connect() {
        return BranchFailure::Unreachable;
    }
    match error.source().and_then(|source| source.downcast_ref::<hyper::Error>()) {
        Some(error) => message_failure(error),
        None => BranchFailure::Closed,
    }
}

/// What an error on an open connection says about the candidate.
fn message_failure(error: &hyper::Error) -> BranchFailure {
    let invalid = error.source().and_then(|source| source.downcast_ref::<io::Error>()).is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    });
    // Bytes of a broken chunk arrive as an I/O error of the decoder, bytes of a broken head as a parse error.
    if error.is_parse() || invalid { BranchFailure::Garbage } else { BranchFailure::Closed }
}
