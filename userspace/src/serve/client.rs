//! Asks the admin listener of an understudy that runs.
//!
//! Takes no token from a command line, where whoever lists processes reads it, and sends one to nobody who has not shown
//! the right certificate, but on loopback.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::auth::read_token;
use super::error::AdminError;
use super::tls;
use crate::secret::Secret;

/// Which listener, and who asks. Files are not read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// File with the token; none: it asks for none.
    pub token: Option<PathBuf>,
    /// Who signed its certificate, as PEM; needed for `https`.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, as PEM, where it asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Asks one listener; each request has a connection of its own, as the listener wants it.
pub struct Client {
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    token: Option<Secret>,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body's beginning, up to 64 KiB.
    pub body: String,
}

/// Why a listener cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be one.
    #[error(
        "`{url}` must be the address of an admin listener, such as http://127.0.0.1:9469 or https://host:9469"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// It is not said whose certificates count.
    #[error("`{url}` speaks TLS: name with --ca who signed its certificate")]
    Ca {
        /// What was given.
        url: String,
    },
    /// The token would be readable on its way.
    #[error("a token is sent to another host than this one over https:// only, and not to `{url}`")]
    Plain {
        /// What was given.
        url: String,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] AdminError),
    /// Nobody answers.
    #[error("failed to ask understudy at {address}; does it run there with an admin listener?")]
    Connection {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

// === impl Client ===

impl Client {
    /// Reads the files.
    ///
    /// # Errors
    /// When the address is none, or a file cannot be used.
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        let ClientConfig { url, token, ca, own } = config;
        let wrong = || ClientError::Url { url: url.clone() };
        let (is_tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(wrong()),
        };
        let address = rest.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || port.parse::<u16>().is_err() || address.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if token.is_some() && !is_tls && !is_here {
            return Err(ClientError::Plain { url: url.clone() });
        }
        let tls = match (is_tls, ca) {
            (false, _) => None,
            (true, None) => return Err(ClientError::Ca { url: url.clone() }),
            (true, Some(ca)) => {
                let own = own.as_ref().map(|(cert, key)| (&**cert, &**key));
                let name = ServerName::try_from(host.to_owned()).ok().ok_or_else(wrong)?;
                Some((TlsConnector::from(Arc::new(tls::client(ca, own)?)), name))
            }
        };
        let token = token.as_ref().map(|path| read_token("--token", path)).transpose()?;
        Ok(Self { address: address.to_owned(), tls, token })
    }

    /// `host:port`, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One POST.
    ///
    /// # Errors
    /// When there is no connection, or no answer in HTTP.
    pub async fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer, ClientError> {
        let asked = self.ask(path, content_type, body).await;
        asked.map_err(|source| ClientError::Connection { address: self.address.clone(), source })
    }

    async fn ask(&self, path: &str, content_type: &str, body: &[u8]) -> io::Result<Answer> {
        let stream = TcpStream::connect(&self.address).await?;
        match &self.tls {
            None => self.talk(stream, path, content_type, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                self.talk(stream, path, content_type, body).await
            }
        }
    }

    /// One request on a connection of its own (RFC 9112).
    async fn talk(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Connection: close\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        if let Some(token) = &self.token {
            stream.write_all(b"Authorization: Bearer ").await?;
            stream.write_all(token.reveal()).await?;
            stream.write_all(b"\r\n").await?;
        }
        stream.write_all(b"\r\n").await?;
        // Who refuses a body need not read all of it; what it says counts then.
        let mut written = stream.write_all(body).await;
        if written.is_ok() {
            written = stream.flush().await;
        }
        let mut answer = Vec::new();
        let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer);
        let Some(status) = text.split(' ').nth(1).and_then(|status| status.parse().ok()) else {
            written.and(read)?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"));
        };
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Ok(Answer { status, body })
    }
}
