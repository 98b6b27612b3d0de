//! Certificates and keys of the admin listener and of those who ask it.
//!
//! Uses nothing below TLS 1.2, and takes no private key from a file that others can read.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::config::AdminTls;
use super::error::AdminError;
use crate::secret::read_private;

/// Largest file with certificates or a key; a list of all authorities of a system takes a quarter of it.
const PEM_BYTES_MAX: usize = 1 << 20;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What speaks TLS with whoever connects. With a `client_ca`, a certificate of another authority ends the handshake;
/// having none at all does not, since `/healthz` is open, and the gate asks for it everywhere else.
pub(super) fn acceptor(tls: &AdminTls) -> Result<TlsAcceptor, AdminError> {
    let AdminTls { cert, key, client_ca } = tls;
    let wrong = |source| AdminError::Tls { path: cert.clone(), source };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match client_ca {
        Some(path) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots("client_ca", path)?), provider())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|source| AdminError::ClientCa { path: path.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(certificates("cert", cert)?, private_key("key", key)?).map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// How we speak TLS with a listener: whose certificates we believe, and our own certificate and key.
pub(super) fn client(ca: &Path, own: Option<(&Path, &Path)>) -> Result<ClientConfig, AdminError> {
    let wrong = |source| AdminError::Tls { path: own.map_or(ca, |(cert, _)| cert).to_owned(), source };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots("--ca", ca)?);
    match own {
        Some((cert, key)) => builder
            .with_client_auth_cert(certificates("--cert", cert)?, private_key("--key", key)?)
            .map_err(wrong),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn roots(key: &'static str, path: &Path) -> Result<RootCertStore, AdminError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|source| AdminError::Tls { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, AdminError> {
    let failed = |source| AdminError::Read { key, path: path.to_owned(), source };
    let missing = || AdminError::Pem { path: path.to_owned(), what: "certificate" };
    let facts = fs::metadata(path).map_err(failed)?;
    if !facts.is_file() || facts.len() > PEM_BYTES_MAX as u64 {
        return Err(missing());
    }
    let text = fs::read(path).map_err(failed)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(missing)
}

fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, AdminError> {
    let secret = read_private(path, PEM_BYTES_MAX).map_err(|source| AdminError::Secret { key, source })?;
    // What is wrong with it would be told with its contents.
    let read = PrivateKeyDer::from_pem_slice(secret.reveal()).ok();
    read.ok_or_else(|| AdminError::Pem { path: path.to_owned(), what: "private key" })
}
