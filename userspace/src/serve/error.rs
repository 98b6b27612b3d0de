//! Why the admin listener cannot be had.
//!
//! Repeats nothing that a file with a secret holds.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::secret::SecretFileError;

/// Why the admin listener cannot be had, or not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be had.
    #[error(
        "failed to listen on {address} for the admin listener; choose another address with --admin or [admin] listen, or `off`"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The token, or the private key, cannot be read.
    #[error("cannot use `{key}` of the admin listener")]
    Secret {
        /// The key under [admin], or the flag.
        key: &'static str,
        /// Why.
        #[source]
        source: SecretFileError,
    },
    /// The file holds no token.
    #[error(
        "`{}` must hold one token of {min} to {max} letters, digits and `-._~+/=`; make one with: openssl rand -hex 32", path.display()
    )]
    TokenForm {
        /// The file.
        path: PathBuf,
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
    /// Certificates cannot be read.
    #[error("failed to read `{}`, which `{key}` names", path.display())]
    Read {
        /// The key under [admin], or the flag.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("`{}` must hold a {what} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is missed.
        what: &'static str,
    },
    /// Certificate and key do not go together, or one of them cannot be used.
    #[error("cannot speak TLS with `{}`; do certificate and key belong together?", path.display())]
    Tls {
        /// The certificate.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authority of clients cannot be used.
    #[error("cannot tell clients by `{}`", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
}
