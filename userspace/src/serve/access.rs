//! What the admin listener knows its visitors by, and shows them: its token and its certificates. Read again when their files
//! change, since both run out before a capture does.
//!
//! Gives up nothing that works: what cannot be read leaves what was read before.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;

use super::auth::Gate;
use super::config::{AdminConfig, AdminTls};
use super::error::AdminError;
use super::tls;

/// Who may ask, as it holds now.
pub(super) struct Access {
    config: AdminConfig,
    held: ArcSwap<Held>,
    stamps: Mutex<Vec<Option<Stamp>>>,
}

/// What was read from the files.
pub(super) struct Held {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) gate: Gate,
}

/// What changes with a file's contents: its number, its size, and when it was written (seconds, nanoseconds).
type Stamp = (u64, u64, i64, i64);

// === impl Access ===

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub(super) fn new(config: AdminConfig) -> Result<Self, AdminError> {
        // Before they are read: what changes meanwhile is read again.
        let stamps = Mutex::new(stamps(&config));
        let held = ArcSwap::from_pointee(Held::read(&config)?);
        Ok(Self { config, held, stamps })
    }

    /// What holds now.
    pub(super) fn held(&self) -> Arc<Held> {
        self.held.load_full()
    }

    /// True when it speaks plain HTTP with other hosts.
    pub(super) fn is_exposed(&self) -> bool {
        self.config.tls.is_none() && !self.config.is_local()
    }

    /// Reads the files again, if one of them is another one now. Asks for a few inodes, and waits for nobody else.
    pub(super) fn look_again(&self) {
        let now = stamps(&self.config);
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *stamps == now {
            return;
        }
        *stamps = now;
        match Held::read(&self.config) {
            Ok(held) => {
                self.held.store(Arc::new(held));
                tracing::info!("The admin listener has read its token and certificates again.");
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "The admin listener cannot use its new token or certificates; those before hold."
            ),
        }
    }
}

// === impl Held ===

impl Held {
    fn read(config: &AdminConfig) -> Result<Self, AdminError> {
        let gate = Gate::new(config)?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        Ok(Self { tls, gate })
    }
}

fn stamps(config: &AdminConfig) -> Vec<Option<Stamp>> {
    let AdminConfig { listen: _, token, tls, hosts: _, limits: _ } = config;
    let of_tls = tls.iter().flat_map(|AdminTls { cert, key, client_ca }| {
        [Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten()
    });
    token.iter().chain(of_tls).map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = fs::metadata(path).ok()?;
    Some((facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use axum::http::Request;

    use super::*;
    use crate::serve::AdminLimits;

    #[test]
    fn another_token_counts_and_a_bad_one_leaves_what_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str| {
            // Another file in its place, as whoever renews one should do it.
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(new, &path).unwrap();
        };
        write("0123456789abcdef-first");
        let config = AdminConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            token: Some(path.clone()),
            tls: None,
            hosts: Vec::new(),
            limits: AdminLimits::default(),
        };
        let access = Access::new(config).unwrap();
        let check = |token: &str, expected: bool| {
            let request = Request::builder().uri("/metrics").header("host", "localhost");
            let request = request.header("authorization", format!("Bearer {token}")).body(()).unwrap();
            let passes = access.held().gate.refuse(&request, false, 0).is_none();
            assert_eq!(passes, expected, "{token}");
        };
        check("0123456789abcdef-first", true);
        write("0123456789abcdef-second");
        check("0123456789abcdef-first", true);
        access.look_again();
        check("0123456789abcdef-first", false);
        check("0123456789abcdef-second", true);
        write("short");
        access.look_again();
        check("0123456789abcdef-second", true);
    }
}
