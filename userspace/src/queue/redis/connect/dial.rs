//! Makes connections, and finds out why one cannot be made.
//!
//! Holds no connection itself, and tries once: its pauses only keep attempts apart.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, RedisConnectionInfo, TlsCertificates, TlsMode, Value,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};

use crate::queue::redis::config::{Mode, Pem, RedisConfig, Server, Tls};
use crate::queue::redis::error::{RedisError, RedisErrorKind};

use super::Link;

/// How often a command is sent again inside a cluster, whose slots may have moved.
const CLUSTER_RETRIES_MAX: u32 = 3;
/// Pause before that, and its bound, in milliseconds.
const CLUSTER_RETRY_WAIT_MS: (u64, u64) = (20, 500);
/// How long a stranger may take to answer when we ask what it is.
const PROBE_WAIT_MAX: Duration = Duration::from_millis(500);

/// Makes connections, one at a time.
pub(super) struct Dialer {
    address: String,
    target: Target,
    /// Asked what it is, when it gives no sense as Redis.
    first: Server,
    tls: bool,
    connect_wait_max: Duration,
    pause_min: Duration,
    pause_max: Duration,
    connection: AsyncConnectionConfig,
    failures: u32,
    /// Runs from the last failure on.
    pause: Option<Pin<Box<Sleep>>>,
    last_error: Option<RedisError>,
}

enum Target {
    Server(Box<Client>),
    Sentinel(Box<SentinelClient>, String),
    Cluster(Box<ClusterClient>),
}

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Redis,
    Tls,
    SomethingElse,
    Nothing,
}

// === impl Dialer ===

impl Dialer {
    /// Checks the settings; sends nothing.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        let RedisConfig {
            servers,
            mode: _,
            database: _,
            credentials: _,
            tls,
            connect_wait_max,
            answer_wait_max,
            reconnect_wait_min,
            reconnect_wait_max,
            requests_waiting_max,
        } = config;
        let names: Vec<String> = servers.iter().map(Server::to_string).collect();
        let address = names.join(", ");
        let Some(first) = servers.first().cloned() else {
            return Err(settings(
                "(nowhere)",
                "it needs an address, as in `redis = \"redis://redis.internal:6379\"`",
            ));
        };
        Ok(Self {
            target: Target::new(config, &address)?,
            address,
            first,
            tls: tls.is_some(),
            connect_wait_max: *connect_wait_max,
            pause_min: *reconnect_wait_min,
            pause_max: *reconnect_wait_max,
            connection: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(*connect_wait_max))
                .set_response_timeout(Some(*answer_wait_max))
                .set_pipeline_buffer_size((*requests_waiting_max).max(1)),
            failures: 0,
            pause: None,
            last_error: None,
        })
    }

    /// Where it leads, as configured.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// What came of the last attempt, if it failed.
    pub(super) fn last_error(&self) -> Option<&RedisError> {
        self.last_error.as_ref()
    }

    /// Connects once, after a pause when the last attempt failed. Safe to cancel.
    pub(super) async fn dial(&mut self) -> Result<(Arc<str>, Link), RedisError> {
        if let Some(pause) = &mut self.pause {
            pause.as_mut().await;
        }
        self.pause = None;
        let result = match timeout(self.connect_wait_max, self.attempt()).await {
            Ok(result) => result,
            Err(_elapsed) => Err(RedisError::Timeout {
                address: self.address.clone(),
                said: format!("connecting took longer than {:?}", self.connect_wait_max),
            }),
        };
        match result {
            Ok(connected) => {
                self.failures = 0;
                self.last_error = None;
                Ok(connected)
            }
            Err(error) => {
                let error = self.explained(error).await;
                let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
                self.failures = self.failures.saturating_add(1);
                let pause = self.pause_min.saturating_mul(doubled).min(self.pause_max);
                self.pause = Some(Box::pin(sleep(pause)));
                self.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn attempt(&mut self) -> Result<(Arc<str>, Link), RedisError> {
        let mut address = self.address.clone();
        let connected = match &mut self.target {
            Target::Server(client) => {
                let connected = client.get_multiplexed_async_connection_with_config(&self.connection).await;
                connected.map(Link::Server)
            }
            Target::Sentinel(sentinel, master) => {
                let client =
                    sentinel.async_get_client().await.map_err(|error| named(&address, master, &error))?;
                address = client.get_connection_info().addr().to_string();
                let connected = client.get_multiplexed_async_connection_with_config(&self.connection).await;
                connected.map(Link::Server)
            }
            Target::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
        };
        let mut link = connected.map_err(|error| RedisError::from_driver(&address, "connect", &error))?;
        // A server without a password for us says so only when it is asked something.
        let answer = link.command(&redis::cmd("PING")).await.and_then(Value::extract_error);
        match answer.map_err(|error| RedisError::from_driver(&address, "ping", &error)) {
            // Whoever may not ping may do all else.
            Ok(_) | Err(RedisError::Permission { .. }) => Ok((address.into(), link)),
            Err(error) => Err(error),
        }
    }

    /// Says what is wrong where the error alone does not: TLS on one side only, or no Redis at all.
    async fn explained(&self, error: RedisError) -> RedisError {
        let unclear = match error.kind() {
            RedisErrorKind::Unreachable
            | RedisErrorKind::Timeout
            | RedisErrorKind::Tls
            | RedisErrorKind::Cluster
            | RedisErrorKind::Protocol => true,
            RedisErrorKind::Auth
            | RedisErrorKind::Permission
            | RedisErrorKind::OutOfMemory
            | RedisErrorKind::WrongType
            | RedisErrorKind::NoGroup
            | RedisErrorKind::ReadOnly
            | RedisErrorKind::NotReady
            | RedisErrorKind::Sentinel
            | RedisErrorKind::Settings => false,
        };
        if !unclear {
            return error;
        }
        let address = self.first.to_string();
        let said = if let RedisError::Unreachable { said, .. } = &error { said.as_str() } else { "" };
        match (self.tls, probe(&self.first, self.tls).await) {
            (true, Speaks::Redis) => RedisError::Tls {
                address,
                said: "it speaks no TLS there; write `redis://`, or name the port of its TLS".to_owned(),
            },
            (false, Speaks::Tls) => {
                RedisError::Tls { address, said: "it speaks TLS there; write `rediss://`".to_owned() }
            }
            (_, Speaks::SomethingElse) => RedisError::Protocol {
                address,
                operation: "our greeting",
                said: "something else than Redis listens there; check the port".to_owned(),
            },
            // What the system itself reports has a number or is about the name; the rest comes from the handshake.
            (true, Speaks::Tls | Speaks::Nothing)
                if error.kind() == RedisErrorKind::Unreachable
                    && !said.contains("os error")
                    && !said.contains("lookup") =>
            {
                let said = format!(
                    "{said}; check `ca`, `client_cert` and `client_key`, and the name in the address"
                );
                RedisError::Tls { address, said }
            }
            (true, Speaks::Tls | Speaks::Nothing) | (false, Speaks::Redis | Speaks::Nothing) => error,
        }
    }
}

// === impl Target ===

impl Target {
    fn new(config: &RedisConfig, address: &str) -> Result<Self, RedisError> {
        let RedisConfig {
            servers, mode, database, credentials, tls, connect_wait_max, answer_wait_max, ..
        } = config;
        let certificates = tls.as_ref().map(|tls| certificates(tls, address)).transpose()?;
        let mut user = RedisConnectionInfo::default()
            .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .set_db(i64::from(*database));
        if let Some(credentials) = credentials {
            user = user.set_password(&credentials.password);
            if let Some(name) = &credentials.user {
                user = user.set_username(name);
            }
        }
        let infos = servers
            .iter()
            .map(|server| connection_info(server, certificates.as_ref(), &user))
            .collect::<redis::RedisResult<Vec<_>>>();
        let checked = |error: redis::RedisError| settings(address, &error.to_string());
        let infos = infos.map_err(checked)?;
        match mode {
            Mode::Single => match <[ConnectionInfo; 1]>::try_from(infos) {
                Ok([info]) => Ok(Target::Server(Box::new(Client::open(info).map_err(checked)?))),
                Err(_several) => Err(settings(
                    address,
                    "several addresses need `mode = \"cluster\"` or `mode = \"sentinel\"`",
                )),
            },
            Mode::Cluster if *database != 0 => {
                Err(settings(address, "a cluster has only database 0; take the number off the address"))
            }
            Mode::Cluster => {
                let mut builder = ClusterClient::builder(infos)
                    .retries(CLUSTER_RETRIES_MAX)
                    .min_retry_wait(CLUSTER_RETRY_WAIT_MS.0)
                    .max_retry_wait(CLUSTER_RETRY_WAIT_MS.1)
                    .connection_timeout(*connect_wait_max)
                    .response_timeout(*answer_wait_max)
                    .overall_response_timeout(Some(*answer_wait_max))
                    .tcp_settings(tcp_settings());
                if let Some(certificates) = certificates {
                    builder = builder.tls(TlsMode::Secure).certs(certificates);
                }
                Ok(Target::Cluster(Box::new(builder.build().map_err(checked)?)))
            }
            Mode::Sentinel { master } => {
                let addresses = infos.iter().map(|info| info.addr().clone());
                let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)
                    .map_err(checked)?
                    .set_client_to_redis_db(i64::from(*database))
                    .set_client_to_redis_tcp_settings(tcp_settings())
                    .set_client_to_sentinel_tcp_settings(tcp_settings());
                if let Some(credentials) = credentials {
                    builder = builder
                        .set_client_to_redis_password(&credentials.password)
                        .set_client_to_sentinel_password(&credentials.password);
                    if let Some(name) = &credentials.user {
                        builder =
                            builder.set_client_to_redis_username(name).set_client_to_sentinel_username(name);
                    }
                }
                if let Some(certificates) = certificates {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                let client = builder.build().map_err(checked)?;
                Ok(Target::Sentinel(Box::new(client), master.clone()))
            }
        }
    }
}

fn connection_info(
    server: &Server,
    certificates: Option<&TlsCertificates>,
    user: &RedisConnectionInfo,
) -> redis::RedisResult<ConnectionInfo> {
    let Server { host, port } = server.clone();
    let info = match certificates {
        None => ConnectionAddr::Tcp(host, port).into_connection_info()?,
        Some(certificates) => {
            let plain = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            let client = Client::build_with_tls(plain, certificates.clone())?;
            client.get_connection_info().clone()
        }
    };
    Ok(info.set_redis_settings(user.clone()).set_tcp_settings(tcp_settings()))
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Checks certificates and key, so that a message can name the file.
fn certificates(tls: &Tls, address: &str) -> Result<TlsCertificates, RedisError> {
    // A second provider is refused, which is fine: there is one then.
    drop(rustls::crypto::ring::default_provider().install_default());
    let Tls { ca, client } = tls;
    let bad = |name: &str, what: &str| RedisError::Tls {
        address: address.to_owned(),
        said: format!("`{name}` holds no {what} in PEM form; name another file"),
    };
    let has_certificates = |pem: &Pem| {
        let mut certificates = CertificateDer::pem_slice_iter(&pem.text).peekable();
        certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
    };
    for pem in ca.iter().chain(client.iter().map(|(certificate, _)| certificate)) {
        if !has_certificates(pem) {
            return Err(bad(&pem.name, "certificate"));
        }
    }
    if let Some((_, key)) = client
        && PrivateKeyDer::from_pem_slice(&key.text).is_err()
    {
        return Err(bad(&key.name, "private key"));
    }
    Ok(TlsCertificates {
        client_tls: client.as_ref().map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.text.clone(),
            client_key: key.text.clone(),
        }),
        root_cert: ca.as_ref().map(|ca| ca.text.clone()),
    })
}

fn settings(address: &str, said: &str) -> RedisError {
    RedisError::Settings { address: address.to_owned(), said: said.to_owned() }
}

/// What a question to the Sentinels failed with; the driver calls an address without a Sentinel a bad setting.
fn named(address: &str, master: &str, error: &redis::RedisError) -> RedisError {
    let unnamed = matches!(
        error.kind(),
        ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel
            | ErrorKind::InvalidClientConfig
    );
    if !unnamed {
        return RedisError::from_driver(address, "ask a Sentinel", error);
    }
    RedisError::Sentinel { address: address.to_owned(), master: master.to_owned(), said: error.to_string() }
}

/// Asks whoever listens at an address what it is, in the language that we did not try: the plain protocol for one that
/// should speak TLS, and the first message of TLS for one that should not.
async fn probe(server: &Server, tls: bool) -> Speaks {
    let greeting = if tls { Some(b"PING\r\n".to_vec()) } else { client_hello() };
    let Some(greeting) = greeting else { return Speaks::Nothing };
    let asked = async {
        let mut stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        stream.write_all(&greeting).await?;
        let mut answer = [0; 16];
        let length = stream.read(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.get(..length).unwrap_or_default().to_vec())
    };
    match timeout(PROBE_WAIT_MAX, asked).await {
        Ok(Ok(answer)) => match answer.as_slice() {
            [] => Speaks::Nothing,
            // A record of TLS (RFC 8446, section 5.1).
            [0x14..=0x17, 3, ..] => Speaks::Tls,
            [b'+' | b'-', ..] => Speaks::Redis,
            _ => Speaks::SomethingElse,
        },
        Ok(Err(_)) | Err(_) => Speaks::Nothing,
    }
}

/// The first message of a TLS connection.
fn client_hello() -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").ok()?;
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).ok()?;
    let mut message = Vec::new();
    connection.write_tls(&mut message).ok()?;
    Some(message)
}
