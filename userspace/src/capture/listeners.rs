//! Which TCP ports somebody listens on, in this network namespace, and who.
//!
//! Opens no socket; reads what the kernel lists (proc_pid_net(5), proc_pid_fd(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use procfs::ProcError;
use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::process::{FDTarget, all_processes};

/// Processes that are searched for a listening socket.
const PROCESSES_MAX: usize = 10_000;

/// Ports with a listening socket, IPv4 and IPv6.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn listening_ports() -> io::Result<BTreeSet<u16>> {
    Ok(listening()?.iter().map(|entry| entry.local_address.port()).collect())
}

/// The processes that listen on each of `ports`, as `name[pid]`. Those of other users are only seen by root; a port whose
/// listeners cannot be seen has an empty list, one without a listener is absent. Looks at no more than 10,000 processes.
///
/// # Errors
/// When the kernel's list of sockets cannot be read.
pub fn listeners(ports: &[u16]) -> io::Result<BTreeMap<u16, BTreeSet<String>>> {
    let entries = listening()?;
    let wanted = entries.iter().filter(|entry| ports.contains(&entry.local_address.port()));
    let by_inode: BTreeMap<u64, u16> =
        wanted.map(|entry| (entry.inode, entry.local_address.port())).collect();
    let mut found: BTreeMap<u16, BTreeSet<String>> =
        by_inode.values().map(|port| (*port, BTreeSet::new())).collect();
    if found.is_empty() {
        return Ok(found);
    }
    let processes = all_processes().into_iter().flatten().filter_map(Result::ok).take(PROCESSES_MAX);
    for process in processes {
        // Gone meanwhile, or another user's.
        let Ok(descriptors) = process.fd() else { continue };
        let sockets = descriptors.filter_map(Result::ok).filter_map(|descriptor| {
            let FDTarget::Socket(inode) = descriptor.target else { return None };
            by_inode.get(&inode)
        });
        for port in sockets {
            let name = process.stat().map_or_else(|_| "?".to_owned(), |stat| stat.comm);
            found.entry(*port).or_default().insert(format!("{name}[{}]", process.pid));
        }
    }
    Ok(found)
}

fn listening() -> io::Result<Vec<TcpNetEntry>> {
    let mut entries = tcp().map_err(io_error)?;
    match tcp6() {
        Ok(more) => entries.extend(more),
        // A kernel without IPv6 has no such file.
        Err(ProcError::NotFound(_)) => {}
        Err(error) => return Err(io_error(error)),
    }
    entries.retain(|entry| entry.state == TcpState::Listen);
    Ok(entries)
}

fn io_error(error: ProcError) -> io::Error {
    if let ProcError::Io(error, _) = error { error } else { io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_a_listener_of_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening_ports().unwrap().contains(&port));
        let found = listeners(&[port, 1]).unwrap();
        let own = format!("[{}]", std::process::id());
        assert!(found[&port].iter().any(|name| name.ends_with(&own)), "{found:?}");
        assert!(!found.contains_key(&1));
    }

    #[test]
    fn a_connection_is_no_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!listening_ports().unwrap().contains(&client.local_addr().unwrap().port()));
    }
}
