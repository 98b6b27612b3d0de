//! Which TCP ports somebody listens on, in this network namespace.
//!
//! Opens no socket; reads what the kernel lists (proc_pid_net(5)).

use std::collections::BTreeSet;
use std::fs;
use std::io;

/// Ports with a listening socket, IPv4 and IPv6.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn listening_ports() -> io::Result<BTreeSet<u16>> {
    let mut ports = parse(&fs::read_to_string("/proc/self/net/tcp")?);
    match fs::read_to_string("/proc/self/net/tcp6") {
        Ok(table) => ports.append(&mut parse(&table)),
        // A kernel without IPv6 has no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(ports)
}

/// The local ports of the table's lines in state LISTEN.
fn parse(table: &str) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next()?;
        let state = fields.nth(1)?;
        let port = local.rsplit_once(':')?.1;
        (state == LISTEN).then(|| u16::from_str_radix(port, 16).ok()).flatten()
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_ports_of_listening_sockets() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1\n\
            1: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000 0 0 1 1\n\
            2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1\n";
        assert_eq!(parse(table), BTreeSet::from([8080, 80]));
    }

    #[test]
    fn sees_a_listener_of_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening_ports().unwrap().contains(&port));
    }
}
