//! Which hosts are wanted.
//!
//! Resolves no name: it compares what the client wrote.

use crate::model::{Request, host_of};

use super::SelectConfigError;

/// The configured hosts, in lower case.
#[derive(Debug)]
pub(super) struct Hosts(Vec<Host>);

#[derive(Debug)]
enum Host {
    Exact(Box<[u8]>),
    /// Holds `.example.org` for `*.example.org`.
    Below(Box<[u8]>),
}

// === impl Hosts ===

impl Hosts {
    pub(super) fn new(hosts: &[String]) -> Result<Self, SelectConfigError> {
        hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>().map(Hosts)
    }

    /// True when no host is configured, or the request names one of them.
    pub(super) fn wants(&self, request: &Request) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let authority = match request.authority() {
            Some(authority) => Some(authority),
            None => request.headers.get("host"),
        };
        authority.is_some_and(|authority| {
            let name = host_of(authority);
            // The dot of the root means nothing to a service.
            let name = name.strip_suffix(b".").unwrap_or(name);
            self.0.iter().any(|host| host.matches(name))
        })
    }
}

// === impl Host ===

impl Host {
    fn parse(host: &str) -> Result<Self, SelectConfigError> {
        let lower = host.trim_end_matches('.').to_ascii_lowercase();
        let (name, below) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (&lower[..], false),
        };
        let bracketed = name.starts_with('[') && name.ends_with(']');
        let named =
            |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b) || (bracketed && b"[]:".contains(&b));
        if name.is_empty() || !name.bytes().all(named) {
            return Err(SelectConfigError::Host { host: host.to_owned() });
        }
        Ok(if below {
            Host::Below(format!(".{name}").into_bytes().into())
        } else {
            Host::Exact(name.as_bytes().into())
        })
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Host::Exact(exact) => name.eq_ignore_ascii_case(exact),
            Host::Below(suffix) => {
                let start = name.len().checked_sub(suffix.len());
                start
                    .filter(|start| *start > 0)
                    .and_then(|start| name.get(start..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}
