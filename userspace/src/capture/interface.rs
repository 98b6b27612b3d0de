//! Finds network interfaces by name, in the network namespace of this process.
//!
//! Reads only. Does not use `/sys/class/net`, which shows the interfaces of whoever mounted it.

use std::fmt;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::CaptureError;

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What stands before the IP header of its packets.
    pub link_header: LinkHeader,
}

/// What stands before the IP header of an interface's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkHeader {
    /// An Ethernet header, perhaps with VLAN tags.
    Ethernet,
    /// Nothing: a tunnel.
    None,
}

/// Longest name of an interface (`IFNAMSIZ` of `include/uapi/linux/if.h`, which counts a zero byte).
pub const NAME_BYTES_MAX: usize = 15;
/// Interfaces that may be named at a time.
pub const INTERFACES_MAX: usize = 64;

// Link types that the probe reads (`ARPHRD_*`, `include/uapi/linux/if_arp.h`).
const ETHER: u16 = 1;
const PPP: u16 = 512;
const RAW_IP: u16 = 519;
const TUNNEL: u16 = 768;
const TUNNEL6: u16 = 769;
const LOOPBACK: u16 = 772;
const SIT: u16 = 776;
/// TUN devices and WireGuard.
const NONE: u16 = 0xfffe;

// === impl Interface ===

impl Interface {
    /// The interfaces with these names.
    ///
    /// # Errors
    /// [`CaptureError::NoInterface`] for a name that is none, [`CaptureError::LinkType`] for an interface whose packets the
    /// probe cannot read, [`CaptureError::ListInterfaces`] when the kernel does not list them.
    pub fn find(names: &[String]) -> Result<Vec<Self>, CaptureError> {
        let there = list()?;
        let find = |name: &String| {
            let Some((_, link_type)) = there.iter().find(|(other, _)| other == name) else {
                return Err(CaptureError::NoInterface {
                    interface: name.clone(),
                    there: there.iter().map(|(name, _)| name.clone()).collect(),
                });
            };
            let link_header = LinkHeader::of_type(*link_type)
                .ok_or_else(|| CaptureError::LinkType { interface: name.clone(), link_type: *link_type })?;
            Ok(Self { name: name.clone(), link_header })
        };
        names.iter().map(find).collect()
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

// === impl LinkHeader ===

impl LinkHeader {
    /// That of a link type of the kernel's; `None` for one that the probe cannot read.
    fn of_type(link_type: u16) -> Option<Self> {
        match link_type {
            ETHER | LOOPBACK => Some(Self::Ethernet),
            NONE | PPP | RAW_IP | SIT | TUNNEL | TUNNEL6 => Some(Self::None),
            _ => None,
        }
    }
}

/// Whether this could be the name of an interface (`dev_valid_name`, `net/core/dev.c`).
pub fn is_name(text: &str) -> bool {
    let is_forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text != "." && text != ".." && !text.contains(is_forbidden)
}

/// Names and link types of all interfaces.
fn list() -> Result<Vec<(String, u16)>, CaptureError> {
    let entries = getifaddrs().map_err(|errno| CaptureError::ListInterfaces { source: errno.into() })?;
    // Each interface has one entry for its link, whatever addresses it has. It is empty for one whose link has no
    // addresses, such as a TUN device, and then there is no header that could hold them.
    let link_type = |address: Option<SockaddrStorage>| match address {
        None => Some(NONE),
        Some(address) => address.as_link_addr().map(|link| link.hatype()),
    };
    Ok(entries
        .filter_map(|entry| link_type(entry.address).map(|link_type| (entry.interface_name, link_type)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Result<LinkHeader, &str>) {
        let found = Interface::find(&[name.to_owned()]).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(found), Ok(link_header)) => {
                assert_eq!(found, [Interface { name: name.to_owned(), link_header }])
            }
            (Err(found), Err(part)) => assert!(found.contains(part), "{found:?} does not contain {part:?}"),
            (found, expected) => panic!("{name} gives {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn finds_the_loopback_interface_and_no_other_by_guessing() {
        check("lo", Ok(LinkHeader::Ethernet));
        check("lo0", Err("no interface `lo0`"));
        check("", Err("there are: "));
    }

    #[test]
    fn tunnels_have_no_link_header_and_odd_links_are_unknown() {
        for (link_type, expected) in
            [(1, Some(LinkHeader::Ethernet)), (65_534, Some(LinkHeader::None)), (778, None), (32, None)]
        {
            assert_eq!(LinkHeader::of_type(link_type), expected, "{link_type}");
        }
    }

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for (name, expected) in [
            ("eth0.100", true),
            ("enp0s31f6", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("sixteen-letters-", false),
        ] {
            assert_eq!(is_name(name), expected, "{name:?}");
        }
    }
}
