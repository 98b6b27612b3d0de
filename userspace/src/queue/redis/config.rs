//! How to reach Redis: addresses, credentials, certificates, and how long to wait.
//!
//! Reads no file and no environment variable: whoever makes the settings has read them. Takes no password from an
//! address, which anybody who lists processes could read.

use std::fmt;
use std::time::Duration;

/// The port that Redis listens on when nobody says otherwise.
pub const PORT: u16 = 6379;

/// How to reach one Redis, one group of Sentinels, or one cluster.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The server; the Sentinels; or some nodes of the cluster, which name the others.
    pub servers: Vec<Server>,
    /// What those servers are.
    pub mode: Mode,
    /// Number of the database. A cluster has only 0. Default: 0.
    pub database: u32,
    /// User and password, unless Redis asks for none. Sentinels are asked with the same.
    pub credentials: Option<Credentials>,
    /// Speaks TLS, with these certificates; plain when absent.
    pub tls: Option<Tls>,
    /// How long to wait for a connection, with its handshake and login. Default: 2 s.
    pub connect_wait_max: Duration,
    /// How long to wait for an answer. The connection is given up after that. Default: 5 s.
    pub answer_wait_max: Duration,
    /// Pause before the second attempt in a row to connect; it doubles with each. Default: 50 ms.
    pub reconnect_wait_min: Duration,
    /// Longest pause between attempts to connect. Default: 1 s.
    pub reconnect_wait_max: Duration,
    /// Requests that may wait to be written to one connection; whoever comes then waits as well. Default: 64.
    pub requests_waiting_max: usize,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What the configured servers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    #[default]
    Single,
    /// Sentinels, which know the server of this name.
    Sentinel {
        /// The name under which the Sentinels watch the server.
        master: String,
    },
    /// Nodes of a cluster.
    Cluster,
}

/// Who we are to Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User of an access control list; the user `default` when absent.
    pub user: Option<String>,
    /// Its password.
    pub password: String,
}

/// Certificates for TLS.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who may have signed the server's certificate; the system's list when absent.
    pub ca: Option<Pem>,
    /// Our own certificate and its key, when the server asks for them.
    pub client: Option<(Pem, Pem)>,
}

/// The content of a PEM file (RFC 7468).
#[derive(Clone)]
pub struct Pem {
    /// Where it came from, for messages.
    pub name: String,
    /// The text.
    pub text: Vec<u8>,
}

/// What one address in the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Where.
    pub server: Server,
    /// `rediss://`.
    pub tls: bool,
    /// The number behind the address.
    pub database: Option<u32>,
}

/// An address that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Another scheme than ours.
    #[error("an address of Redis starts with `redis://`, or with `rediss://` for TLS")]
    Scheme,
    /// A user or a password.
    #[error(
        "an address of Redis must not hold a user or password, which others could read; put them into the file that `credentials` names"
    )]
    Secret,
    /// No host, or one that cannot be one.
    #[error("the address of Redis names no host, as in `redis://redis.internal:6379/0`")]
    Host,
    /// Not a port.
    #[error("`{port}` is not a port between 1 and 65535")]
    Port {
        /// What stood there.
        port: String,
    },
    /// Not a database.
    #[error("`{database}` is not the number of a database, as in `redis://redis.internal:6379/0`")]
    Database {
        /// What stood there.
        database: String,
    },
}

// === impl RedisConfig ===

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            servers: vec![Server { host: "127.0.0.1".to_owned(), port: PORT }],
            mode: Mode::Single,
            database: 0,
            credentials: None,
            tls: None,
            connect_wait_max: Duration::from_secs(2),
            answer_wait_max: Duration::from_secs(5),
            reconnect_wait_min: Duration::from_millis(50),
            reconnect_wait_max: Duration::from_secs(1),
            requests_waiting_max: 64,
        }
    }
}

// === impl Server ===

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

// === impl Credentials ===

/// Shows no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password: _ } = self;
        f.debug_struct("Credentials").field("user", user).finish_non_exhaustive()
    }
}

// === impl Pem ===

/// Shows no key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, text: _ } = self;
        f.debug_struct("Pem").field("name", name).finish_non_exhaustive()
    }
}

// === impl Location ===

impl Location {
    /// Reads `redis://host:port/database`; port and database may be left out, an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`LocationError`], which never repeats what may be a secret.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let (scheme, rest) = text.split_once("://").ok_or(LocationError::Scheme)?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(LocationError::Scheme),
        };
        if rest.contains('@') {
            return Err(LocationError::Secret);
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let bad_database = || LocationError::Database { database: database.to_owned() };
        let database = match database.trim_end_matches('/') {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok().ok_or_else(bad_database)?)
            }
            _ => return Err(bad_database()),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').ok_or(LocationError::Host)?,
            None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
        };
        let named = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte));
        if host.is_empty() || !named {
            return Err(LocationError::Host);
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => PORT,
            digits => digits
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|port| *port > 0)
                .ok_or_else(|| LocationError::Port { port: port.trim_start_matches(':').to_owned() })?,
        };
        Ok(Self { server: Server { host: host.to_owned(), port }, tls, database })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, bool, Option<u32>), &str>) {
        let got = Location::parse(text);
        match (got, expected) {
            (Ok(Location { server, tls, database }), Ok(expected)) => {
                assert_eq!((server.to_string().as_str(), tls, database), expected, "{text}");
            }
            (Err(error), Err(part)) => {
                let message = error.to_string();
                assert!(message.contains(part), "{text}: {message}");
            }
            (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn an_address_says_where_and_how() {
        check("redis://redis.internal", Ok(("redis.internal:6379", false, None)));
        check("redis://redis.internal/", Ok(("redis.internal:6379", false, None)));
        check("rediss://10.0.0.1:7000/3", Ok(("10.0.0.1:7000", true, Some(3))));
        check("redis://[::1]:7000/0", Ok(("[::1]:7000", false, Some(0))));
        check("redis://[::1]", Ok(("[::1]:6379", false, None)));
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        check("redis.internal:6379", Err("starts with"));
        check("http://redis.internal", Err("starts with"));
        check("redis://", Err("names no host"));
        check("redis://:6379", Err("names no host"));
        check("redis://[::1", Err("names no host"));
        check("redis://two words", Err("names no host"));
        check("redis://host:0", Err("`0` is not a port"));
        check("redis://host:99999", Err("`99999` is not a port"));
        check("redis://host:+1", Err("`+1` is not a port"));
        check("redis://[::1]7000", Err("`7000` is not a port"));
        check("redis://host/zero", Err("`zero` is not the number"));
        check("redis://host/99999999999", Err("is not the number"));
    }

    #[test]
    fn secrets_are_refused_and_shown_by_nothing() {
        check("redis://:hunter2@host", Err("credentials"));
        let shown = format!(
            "{} {:?} {:?}",
            Location::parse("redis://user:hunter2@host").unwrap_err(),
            Credentials { user: Some("capture".to_owned()), password: "hunter2".to_owned() },
            Pem { name: "key.pem".to_owned(), text: b"hunter2".to_vec() },
        );
        assert!(
            !shown.contains("hunter2") && shown.contains("capture") && shown.contains("key.pem"),
            "{shown}"
        );
    }
}
