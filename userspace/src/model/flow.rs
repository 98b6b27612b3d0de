//! TCP connections and their two ends.
//!
//! Holds no state of a connection; that is `stream`'s.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::Timestamp;

/// One end of a TCP connection. IPv4 addresses are kept IPv4-mapped (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address in network byte order.
    pub addr: [u8; 16],
    /// The TCP port.
    pub port: u16,
}

/// What tells one connection from all others that exist at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The end that opened the connection.
    pub client: Endpoint,
    /// The end that listens: the one with the wanted port.
    pub server: Endpoint,
    /// Cgroup of the server's socket, 0 where the source does not know it. Tells apart equal addresses in
    /// different network namespaces. Of a capture file: the virtual network ([`super::Segment::network`]) of a
    /// connection whose ends are those of another one there, and else 0.
    pub scope: u64,
}

/// One TCP connection as an exchange names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Both ends.
    pub key: FlowKey,
    /// When its first packet was seen: the SYN's time, or the time of joining.
    pub opened: Timestamp,
}

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From client to server: requests.
    ToServer,
    /// From server to client: responses.
    ToClient,
}

// === impl Endpoint ===

impl Endpoint {
    /// The address as the standard library's type, IPv4 where it is mapped.
    pub fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.addr)).to_canonical()
    }

    /// Address and port as the standard library's type.
    pub fn to_socket_addr(self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let addr = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { addr, port: address.port() }
    }
}

/// Three words instead of eighteen bytes: this is hashed for each packet.
impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.addr));
        state.write_u16(self.port);
    }
}

/// `address:port`, IPv6 in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_socket_addr().fmt(f)
    }
}

// === impl FlowKey ===

impl FlowKey {
    /// The same two ends with their parts changed.
    #[must_use]
    pub fn reversed(self) -> FlowKey {
        let Self { client, server, scope } = self;
        Self { client: server, server: client, scope }
    }
}

// === impl Direction ===

impl Direction {
    /// The other way.
    #[must_use]
    pub fn reversed(self) -> Direction {
        match self {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        }
    }
}
