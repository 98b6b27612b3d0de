//! Certificates of an authority that nobody else knows, made by openssl.
//!
//! Lives in a folder of its own, which is gone with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// An authority, and certificates of a server and of a client that it has signed.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

// === impl Authority ===

impl Authority {
    /// Makes all of them; the server's is for 127.0.0.1 and localhost.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn new() -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for certificates")?;
        let run = |arguments: &str| openssl(folder.path(), arguments);
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        run(&format!("req -x509 {curve} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"))?;
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
        fs::write(folder.path().join("names"), names)
            .context("failed to write the names of a certificate")?;
        for name in ["server", "client"] {
            run(&format!("req {curve} -subj /CN={name} -keyout {name}.key -out {name}.csr"))?;
            run(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
            ))?;
        }
        Ok(Self { folder })
    }

    /// One of `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.context("failed to run openssl")?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
