//! Where the results of a fleet lie: an address on the command line, or `[queue]` of a configuration.
//!
//! Takes no password from an address: whoever lists processes would read it.

use super::secrets::{SecretError, credentials_directory, read_access};
use crate::pipeline::settings::{QueueAccess, QueueConfig};
use crate::queue::redis::RedisConfig;
use crate::queue::redis::config::{Location, LocationError};

/// What keys begin with where nothing else is said.
const PREFIX_DEFAULT: &str = "understudy";

/// How to reach a fleet's Redis.
#[derive(Clone, Debug)]
pub struct FleetAccess {
    /// The connection.
    pub redis: RedisConfig,
    /// What all keys begin with.
    pub prefix: String,
}

/// An address on the command line that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FleetAccessError {
    /// It is none.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The credentials that go with it cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

// === impl FleetAccess ===

impl FleetAccess {
    /// From `[queue]` of a configuration; reads the files that it names.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn of_queue(queue: &QueueConfig) -> Result<Self, SecretError> {
        let redis = read_access(&queue.access, credentials_directory().as_deref())?;
        Ok(Self { redis, prefix: queue.prefix.clone() })
    }

    /// From an address of one server: `redis://host:port/database`. User and password are in systemd's
    /// `$CREDENTIALS_DIRECTORY/redis`, if they are anywhere.
    ///
    /// # Errors
    /// When it is none, or holds a user or password; or when the credentials cannot be used.
    pub fn of_address(address: &str, prefix: Option<&str>) -> Result<Self, FleetAccessError> {
        let Location { server, tls, database } = Location::parse(address)?;
        let access = QueueAccess {
            servers: vec![server],
            database: database.unwrap_or_default(),
            tls,
            ..QueueAccess::default()
        };
        let redis = read_access(&access, credentials_directory().as_deref())?;
        Ok(Self { redis, prefix: prefix.unwrap_or(PREFIX_DEFAULT).to_owned() })
    }
}
