//! Keeps replayed requests away from the service that they were captured from.
//!
//! Trusts no name: it looks at addresses, each time a connection is made.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The ports of this host that are captured, as far as a candidate must not be reached there.
#[derive(Clone, Debug, Default)]
pub struct CapturedPorts(BTreeSet<u16>);

/// Why an address cannot be a candidate's.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It is the captured service.
    #[error("candidate `{candidate}` is {address}, and port {} of this host is captured: it would get its own requests again", address.port())]
    Captured {
        /// The candidate as configured, `host:port`.
        candidate: String,
        /// The refused address.
        address: SocketAddr,
    },
    /// This host's own addresses are not known, so nothing can be ruled out.
    #[error("failed to list the addresses of this host's interfaces to check candidate `{candidate}`")]
    Interfaces {
        /// The candidate as configured, `host:port`.
        candidate: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

// === impl CapturedPorts ===

impl CapturedPorts {
    /// Guards these ports; none for captures of other hosts, files and recordings.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self(ports.into_iter().collect())
    }

    /// Refuses an address that is a captured port of this host.
    ///
    /// # Errors
    ///
    /// Names the candidate and the address. When the port is captured and the host's addresses cannot be listed,
    /// the address is refused as well.
    pub fn check(&self, candidate: &str, address: SocketAddr) -> Result<(), GuardError> {
        self.check_against(candidate, address, || {
            own_addresses().map(|own| own.contains(&address.ip().to_canonical()))
        })
    }

    fn check_against(
        &self,
        candidate: &str,
        address: SocketAddr,
        is_own: impl FnOnce() -> io::Result<bool>,
    ) -> Result<(), GuardError> {
        if !self.0.contains(&address.port()) {
            return Ok(());
        }
        let ip = address.ip().to_canonical();
        let here = ip.is_loopback()
            || ip.is_unspecified()
            || is_own()
                .map_err(|source| GuardError::Interfaces { candidate: candidate.to_owned(), source })?;
        if here { Err(GuardError::Captured { candidate: candidate.to_owned(), address }) } else { Ok(()) }
    }
}

/// The addresses of all interfaces of this network namespace; getifaddrs(3).
fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs().map_err(io::Error::from)?;
    Ok(addresses
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()).to_canonical()))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, own: bool, allowed: bool) {
        let ports = CapturedPorts::new([8080]);
        let address = address.parse().expect("an address");
        let result = ports.check_against("next:8080", address, || Ok(own));
        assert_eq!(result.is_ok(), allowed, "{address}: {result:?}");
    }

    #[test]
    fn captured_ports_of_this_host_are_refused() {
        check("127.0.0.1:8080", false, false);
        check("127.8.0.1:8080", false, false);
        check("0.0.0.0:8080", false, false);
        check("[::1]:8080", false, false);
        check("[::]:8080", false, false);
        check("[::ffff:127.0.0.1]:8080", false, false);
        check("10.0.0.7:8080", true, false);
        check("10.0.0.7:8080", false, true);
        check("127.0.0.1:8081", true, true);
    }

    #[test]
    fn without_the_list_of_addresses_nothing_is_allowed() {
        let address = "10.0.0.7:8080".parse().expect("an address");
        let unknown = || Err(io::Error::other("no netlink"));
        let result = CapturedPorts::new([8080]).check_against("next:8080", address, unknown);
        assert!(matches!(result, Err(GuardError::Interfaces { .. })));
    }

    #[test]
    fn the_error_names_candidate_and_listener() {
        let address = "127.0.0.1:8080".parse().expect("an address");
        let error = CapturedPorts::new([8080]).check("shop.test:8080", address).expect_err("it is captured");
        assert_eq!(
            error.to_string(),
            "candidate `shop.test:8080` is 127.0.0.1:8080, and port 8080 of this host is captured: \
             it would get its own requests again"
        );
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        let own = own_addresses().expect("getifaddrs works");
        assert!(own.iter().any(IpAddr::is_loopback), "{own:?}");
    }
}
