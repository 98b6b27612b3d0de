//! `[admin]` word by word, and its check.
//!
//! Reads no file. Refuses a listener that others reach and that does not ask who they are.

use std::net::{AddrParseError, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::ADMIN_DEFAULT;
use super::error::Fault;
use super::raw::{set, set_duration};
use super::secrets::credential;
use crate::serve::{AdminConfig, AdminLimits, AdminTls};

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) observe: Option<Spanned<bool>>,
    token: Option<PathBuf>,
    cert: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    client_ca: Option<Spanned<PathBuf>>,
    #[serde(default)]
    hosts: Vec<String>,
    connections_max: Option<Spanned<usize>>,
    head_bytes_max: Option<Spanned<usize>>,
    head_wait_max: Option<Spanned<String>>,
    body_bytes_max: Option<usize>,
    request_wait_max: Option<Spanned<String>>,
    requests_per_second_max: Option<Spanned<u32>>,
}

/// What systemd calls the token (`LoadCredential=admin-token:/etc/…`).
const SYSTEMD_NAME: &str = "admin-token";

/// Least head that the listener can be told (hyper's least buffer).
const HEAD_BYTES_MIN: usize = 8192;

fn fault<T>(key: &str, at: &Spanned<T>, problem: impl Into<String>) -> Fault {
    Fault { key: format!("admin.{key}"), span: at.span(), problem: problem.into() }
}

// === impl RawAdmin ===

impl RawAdmin {
    /// The listener, and whether exchanges may be handed in there. `directory` is systemd's `$CREDENTIALS_DIRECTORY`; where
    /// there is none, the token is looked for where systemd would find it.
    pub(super) fn finish(self, directory: Option<&Path>) -> Result<(Option<AdminConfig>, bool), Fault> {
        let listen = self.listen.clone().unwrap_or_else(|| Spanned::new(0..0, ADMIN_DEFAULT.to_owned()));
        let address = match listen.get_ref().as_str() {
            "off" => None,
            text => Some(text.parse().map_err(|error: AddrParseError| {
                let problem = format!(
                    "`{text}` must be an address and a port such as `{ADMIN_DEFAULT}`, or `off`: {error}"
                );
                fault("listen", &listen, problem)
            })?),
        };
        let observe = self.observe.clone();
        let config = address.map(|address| self.listener(address, directory)).transpose()?;
        if let Some(config) = &config
            && !config.is_local()
            && !config.asks_who()
        {
            let problem = format!(
                "`{}` can be reached from other hosts: add `token` (a file with a token), or `cert`, `key` and \
                 `client_ca` (client certificates); or listen on loopback, such as `{ADMIN_DEFAULT}`",
                listen.get_ref()
            );
            return Err(fault("listen", &listen, problem));
        }
        let observe = check_observe(observe, config.as_ref())?;
        Ok((config, observe))
    }

    fn listener(self, listen: SocketAddr, directory: Option<&Path>) -> Result<AdminConfig, Fault> {
        let mut config = AdminConfig::new(listen);
        config.token = self.token.or_else(|| credential(directory, SYSTEMD_NAME));
        config.tls = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some(AdminTls {
                cert: cert.into_inner(),
                key: key.into_inner(),
                client_ca: self.client_ca.map(Spanned::into_inner),
            }),
            (Some(cert), None) => return Err(fault("cert", &cert, "needs its `key`")),
            (None, Some(key)) => return Err(fault("key", &key, "needs its `cert`")),
            (None, None) => match self.client_ca {
                Some(ca) => {
                    let problem = "is for TLS: add `cert` and `key`, the listener's own certificate";
                    return Err(fault("client_ca", &ca, problem));
                }
                None => None,
            },
        };
        config.hosts = self.hosts;
        let limits = &mut config.limits;
        let AdminLimits {
            connections_max,
            head_bytes_max,
            head_wait_max,
            body_bytes_max,
            request_wait_max,
            requests_per_second_max,
        } = limits;
        if let Some(given) = self.connections_max {
            if *given.get_ref() == 0 {
                return Err(fault("connections_max", &given, "must be at least 1"));
            }
            *connections_max = given.into_inner();
        }
        if let Some(given) = self.head_bytes_max {
            if *given.get_ref() < HEAD_BYTES_MIN {
                return Err(fault("head_bytes_max", &given, format!("must be at least {HEAD_BYTES_MIN}")));
            }
            *head_bytes_max = given.into_inner();
        }
        set_duration(head_wait_max, "admin.head_wait_max", self.head_wait_max.as_ref())?;
        set(body_bytes_max, self.body_bytes_max);
        set_duration(request_wait_max, "admin.request_wait_max", self.request_wait_max.as_ref())?;
        if let Some(given) = self.requests_per_second_max {
            let wrong = || fault("requests_per_second_max", &given, "must be at least 1");
            *requests_per_second_max = NonZeroU32::new(*given.get_ref()).ok_or_else(wrong)?;
        }
        Ok(config)
    }
}

/// Whether exchanges are handed in: only from this host, since whoever hands one in says what is sent to the candidate.
fn check_observe(observe: Option<Spanned<bool>>, listener: Option<&AdminConfig>) -> Result<bool, Fault> {
    let Some(observe) = observe.filter(|observe| *observe.get_ref()) else { return Ok(false) };
    let problem = match listener {
        Some(listener) if listener.is_local() => return Ok(true),
        Some(listener) => format!(
            "needs the admin listener on loopback, such as `{ADMIN_DEFAULT}`, and not on {}: whoever reaches it could \
             have requests sent to the candidate",
            listener.listen
        ),
        None => "needs the admin listener, which is off".to_owned(),
    };
    Err(fault("observe", &observe, problem))
}

#[cfg(test)]
mod tests;
