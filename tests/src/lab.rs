//! Three hosts in network namespaces, client, A and B, each joined by a veth pair to a bridge in a fourth.
//!
//! Touches nothing of the machine's own network, so labs side by side cannot meet, and undoes itself on drop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::Place;

/// A network of three hosts.
#[derive(Debug)]
pub struct Lab {
    /// Sends requests.
    pub client: Host,
    /// Runs A and the daemon.
    pub a: Host,
    /// Runs B.
    pub b: Host,
    _switch: Namespace,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    /// Its end of the cable at the switch: the namespace and the interface there.
    port: (String, String),
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

/// The two address families, for tests that run in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A named network namespace that goes away on drop, with every interface in it.
#[derive(Debug)]
pub(crate) struct Namespace(pub(crate) String);

// === impl Lab ===

impl Lab {
    /// Builds the network.
    ///
    /// # Errors
    /// When `ip` fails; its message is the error's.
    pub fn new() -> anyhow::Result<Self> {
        let prefix = Namespace::prefix();
        let switch = Namespace::new(format!("{prefix}-sw"))?;
        ip(&["-n", &switch.0, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch.0, "link", "set", "br0", "up"])?;
        Ok(Self {
            client: Host::new(format!("{prefix}-client"), 1, &switch)?,
            a: Host::new(format!("{prefix}-a"), 2, &switch)?,
            b: Host::new(format!("{prefix}-b"), 3, &switch)?,
            _switch: switch,
        })
    }
}

// === impl Host ===

impl Host {
    fn new(name: String, number: u8, switch: &Namespace) -> anyhow::Result<Self> {
        let namespace = Namespace::new(name)?;
        let (v4, v6) =
            (Ipv4Addr::new(10, 77, 0, number), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()));
        let (own, sw) = (namespace.0.as_str(), switch.0.as_str());
        let port = format!("port{number}");
        ip(&["-n", sw, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", own])?;
        ip(&["-n", sw, "link", "set", &port, "master", "br0", "up"])?;
        // Without `nodad` an IPv6 address cannot be used for a second or two.
        ip(&["-n", own, "addr", "add", &format!("{v4}/24"), "dev", "eth0"])?;
        ip(&["-n", own, "addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
        ip(&["-n", own, "link", "set", "lo", "up"])?;
        ip(&["-n", own, "link", "set", "eth0", "up"])?;
        let port = (switch.0.clone(), port);
        Ok(Self { namespace, port, v4, v6 })
    }

    /// The host's address and this port.
    pub fn at(&self, family: Family, port: u16) -> SocketAddr {
        let ip = match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        };
        SocketAddr::new(ip, port)
    }

    /// Pulls its cable: packets from and to other hosts vanish without a word. What talks to its own address goes on.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn unplug(&self) -> anyhow::Result<()> {
        let (switch, port) = &self.port;
        ip(&["-n", switch, "link", "set", port, "down"])
    }

    /// Puts the cable back after [`Host::unplug`].
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug_in(&self) -> anyhow::Result<()> {
        let (switch, port) = &self.port;
        ip(&["-n", switch, "link", "set", port, "up"])
    }

    /// Where its processes run.
    pub fn place(&self) -> Place {
        self.namespace.place()
    }

    /// Runs `work` on this host; see [`within`].
    ///
    /// # Errors
    /// Those of `work`, and when the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        within(&self.place(), work)
    }
}

/// Runs `work` on a thread that has entered the place. Sockets that it opens, and threads that it starts, stay
/// there.
///
/// # Errors
/// Those of `work`, and when the namespace cannot be entered.
pub fn within<T: Send>(place: &Place, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let Place::Namespace(name) = place else { return work() };
    let path = Path::new("/run/netns").join(name);
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let file = std::fs::File::open(&path)
                .with_context(|| format!("failed to open the namespace {}", path.display()))?;
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("failed to enter the namespace {}", path.display()))?;
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

// === impl Namespace ===

impl Namespace {
    /// What names of namespaces begin with, other for each network.
    pub(crate) fn prefix() -> String {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        format!("us{}-{}", std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn new(name: String) -> anyhow::Result<Self> {
        ip(&["netns", "add", &name])?;
        Ok(Self(name))
    }

    /// As the place of a process.
    pub(crate) fn place(&self) -> Place {
        Place::Namespace(self.0.clone())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // There is nobody to tell; the next `Lab` uses another name anyway.
        drop(ip(&["netns", "del", &self.0]));
    }
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let tool = crate::prereq::find_tool("ip").context("`ip` is not on the PATH")?;
    let output = Command::new(tool).args(arguments).output().context("failed to run `ip`")?;
    ensure!(
        output.status.success(),
        "`ip {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
