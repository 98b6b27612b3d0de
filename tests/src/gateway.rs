//! A host that forwards between a client and a server, each in a network of its own behind it.
//!
//! Ends no connection on the forwarding host: its sockets see nothing of what passes.

use std::net::SocketAddr;

use crate::lab::{Family, Namespace, ip, within};
use crate::process::Place;

/// Client, forwarding host and server, in network namespaces that go away on drop.
#[derive(Debug)]
pub struct Gateway {
    client: Namespace,
    host: Namespace,
    server: Namespace,
    _switch: Option<Namespace>,
}

/// How the two networks reach the forwarding host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// By a cable each: interfaces `left` and `right`.
    Cables,
    /// As by cables, and the client's network is VLAN 100 on its cable: `left.100`.
    Tagged,
    /// As by cables, and the client's network is VLAN 200 inside the provider's VLAN 100: `left.100.200`.
    TaggedTwice,
    /// Both by one cable, as VLAN 100 and VLAN 200: `trunk.100` and `trunk.200` on `trunk`.
    Trunk,
    /// As by cables, and the client's network comes through a tunnel without a link header, `tunnel`. IPv4 only.
    Tunnel,
}

/// Largest packets of a network with two tags, so that packets with tags are no longer than others.
const TAGGED_MTU: &str = "1492";

// === impl Gateway ===

impl Gateway {
    /// Builds the networks.
    ///
    /// # Errors
    /// When `ip` fails; its message is the error's.
    pub fn new(wiring: Wiring) -> anyhow::Result<Self> {
        let prefix = Namespace::prefix();
        let [client, host, server] =
            ["client", "gw", "server"].map(|name| Namespace::new(format!("{prefix}-{name}")));
        let (client, host, server) = (client?, host?, server?);
        let mut switch = None;
        match wiring {
            Wiring::Cables => {
                cable(&client, "eth0", &host, "left")?;
                cable(&server, "eth0", &host, "right")?;
                networks(&client, "eth0", &host, ["left", "right"], &server)?;
            }
            Wiring::Tagged => {
                cable(&client, "eth0", &host, "left")?;
                cable(&server, "eth0", &host, "right")?;
                for (end, trunk) in [(&client, "eth0"), (&host, "left")] {
                    tag(end, trunk, "802.1Q", 100)?;
                }
                networks(&client, "eth0.100", &host, ["left.100", "right"], &server)?;
            }
            Wiring::TaggedTwice => {
                cable(&client, "eth0", &host, "left")?;
                cable(&server, "eth0", &host, "right")?;
                for (end, trunk) in [(&client, "eth0"), (&host, "left")] {
                    tag(end, trunk, "802.1ad", 100)?;
                    let outer = format!("{trunk}.100");
                    tag(end, &outer, "802.1Q", 200)?;
                    ip(&["-n", &end.0, "link", "set", &format!("{outer}.200"), "mtu", TAGGED_MTU])?;
                }
                networks(&client, "eth0.100.200", &host, ["left.100.200", "right"], &server)?;
            }
            Wiring::Tunnel => {
                cable(&client, "eth0", &host, "left")?;
                cable(&server, "eth0", &host, "right")?;
                for (end, cable, own, other) in
                    [(&client, "eth0", "10.78.0.2", "10.78.0.1"), (&host, "left", "10.78.0.1", "10.78.0.2")]
                {
                    ip(&["-n", &end.0, "addr", "add", &format!("{own}/24"), "dev", cable])?;
                    let kind = ["type", "ipip", "local", own, "remote", other];
                    ip(&[&["-n", &end.0, "link", "add", "tunnel", "up"][..], &kind].concat())?;
                }
                networks(&client, "tunnel", &host, ["tunnel", "right"], &server)?;
            }
            Wiring::Trunk => {
                let middle = Namespace::new(format!("{prefix}-sw"))?;
                cable(&client, "eth0", &middle, "client")?;
                cable(&server, "eth0", &middle, "server")?;
                cable(&host, "trunk", &middle, "trunk")?;
                for (vlan, end) in [(100, "client"), (200, "server")] {
                    tag(&host, "trunk", "802.1Q", vlan)?;
                    tag(&middle, "trunk", "802.1Q", vlan)?;
                    let bridge = format!("br{vlan}");
                    ip(&["-n", &middle.0, "link", "add", &bridge, "up", "type", "bridge"])?;
                    for port in [end, &format!("trunk.{vlan}")] {
                        ip(&["-n", &middle.0, "link", "set", port, "master", &bridge])?;
                    }
                }
                networks(&client, "eth0", &host, ["trunk.100", "trunk.200"], &server)?;
                switch = Some(middle);
            }
        }
        within(&host.place(), || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
            Ok(())
        })?;
        Ok(Self { client, host, server, _switch: switch })
    }

    /// Where the client runs.
    pub fn client(&self) -> Place {
        self.client.place()
    }

    /// The forwarding host.
    pub fn host(&self) -> Place {
        self.host.place()
    }

    /// Where the server runs.
    pub fn server(&self) -> Place {
        self.server.place()
    }

    /// The server's address and this port.
    pub fn at(&self, family: Family, port: u16) -> SocketAddr {
        match family {
            Family::V4 => SocketAddr::from(([10, 78, 2, 2], port)),
            Family::V6 => SocketAddr::from(([0xfd78, 2, 0, 0, 0, 0, 0, 2], port)),
        }
    }
}

/// Whether this kernel has VLANs and tunnels as interfaces; some that are built for virtual machines have none.
pub fn has_vlans_and_tunnels() -> bool {
    let Ok(somewhere) = Namespace::new(format!("{}-has", Namespace::prefix())) else { return false };
    let tunnel = ["link", "add", "tunnel", "type", "ipip", "local", "10.0.0.1", "remote", "10.0.0.2"];
    cable(&somewhere, "one", &somewhere, "other").is_ok()
        && tag(&somewhere, "one", "802.1Q", 1).is_ok()
        && ip(&[&["-n", &somewhere.0][..], &tunnel].concat()).is_ok()
}

/// Adds a TUN device to a host: an interface without a link header, whose packets a process reads and writes.
///
/// # Errors
/// When `ip` fails.
pub fn add_tun(place: &Place, name: &str) -> anyhow::Result<()> {
    within(place, || {
        ip(&["tuntap", "add", name, "mode", "tun"])?;
        ip(&["link", "set", name, "up"])
    })
}

/// Joins two hosts, and switches everything on.
fn cable(one: &Namespace, interface: &str, other: &Namespace, peer: &str) -> anyhow::Result<()> {
    ip(&["-n", &one.0, "link", "add", interface, "type", "veth", "peer", "name", peer, "netns", &other.0])?;
    for (end, name) in [(one, interface), (one, "lo"), (other, peer), (other, "lo")] {
        ip(&["-n", &end.0, "link", "set", name, "up"])?;
    }
    Ok(())
}

/// Puts a VLAN on an interface.
fn tag(host: &Namespace, interface: &str, protocol: &str, vlan: u16) -> anyhow::Result<()> {
    let (name, vlan) = (format!("{interface}.{vlan}"), vlan.to_string());
    let kind = ["type", "vlan", "proto", protocol, "id", &vlan];
    ip(&[&["-n", &host.0, "link", "add", "link", interface, "name", &name, "up"][..], &kind].concat())
}

/// Gives everybody addresses, and the ends a way to each other.
fn networks(
    client: &Namespace,
    client_interface: &str,
    host: &Namespace,
    host_interfaces: [&str; 2],
    server: &Namespace,
) -> anyhow::Result<()> {
    let [left, right] = host_interfaces;
    let ends =
        [(client, client_interface, 1, 2), (host, left, 1, 1), (host, right, 2, 1), (server, "eth0", 2, 2)];
    for (end, interface, network, number) in ends {
        let (v4, v6) = (format!("10.78.{network}.{number}/24"), format!("fd78:{network}::{number}/64"));
        ip(&["-n", &end.0, "addr", "add", &v4, "dev", interface])?;
        if interface == "tunnel" {
            continue;
        }
        // Without `nodad` an IPv6 address cannot be used for a second or two.
        ip(&["-n", &end.0, "addr", "add", &v6, "dev", interface, "nodad"])?;
    }
    for (end, network) in [(client, 1), (server, 2)] {
        ip(&["-n", &end.0, "route", "add", "default", "via", &format!("10.78.{network}.1")])?;
        if client_interface == "tunnel" {
            continue;
        }
        ip(&["-n", &end.0, "-6", "route", "add", "default", "via", &format!("fd78:{network}::1")])?;
    }
    Ok(())
}
