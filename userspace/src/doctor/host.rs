//! The host: who listens on the captured ports, memory, clock, and the places where files are kept.
//!
//! Writes nothing and binds nothing for longer than the look takes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use procfs::{Current as _, Meminfo};
use rustix::fs::{Access, access, statvfs};

use super::{Duties, Finding};
use crate::capture::listeners::listeners;
use crate::pipeline::protect::ceilings::{self, Role};
use crate::pipeline::protect::pressure::{Pressure, PressureReader};
use crate::pipeline::settings::Config;

/// Part of the available memory that the ring may take before it is worth a word.
const RING_DIVISOR: u64 = 8;
/// Clocks that take the probe some tens of nanoseconds to read; others take a microsecond and more.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

/// Whether somebody listens on each of these ports, and who.
pub(super) fn captured_ports(ports: &[u16]) -> Vec<Finding> {
    match listeners(ports) {
        Ok(found) => ports.iter().map(|port| captured_port(*port, &found)).collect(),
        Err(error) => {
            let detail = format!("the kernel's list of sockets cannot be read: {error}");
            vec![Finding::warning("port", detail, "mount /proc in this namespace")]
        }
    }
}

pub(super) fn examine(config: &Config, duties: Duties) -> Vec<Finding> {
    let mut findings = Vec::new();
    if duties.capture {
        findings.extend(ring_memory(config.capture.kernel.ring_bytes));
        findings.extend(clock_source());
        findings.push(pressure(PressureReader::new(None).read()));
    }
    findings.push(ceiling(config, duties));
    findings.extend(config.admin.as_ref().map(|admin| admin_address(admin.listen)));
    if duties.replay {
        findings.push(place("journal", folder_of(&config.journal.path), None));
    }
    if duties.capture && config.queue.is_some() {
        let spool = &config.spool;
        findings.push(place("spool", spool.path.clone(), Some(spool.bytes_max)));
    }
    findings
}

fn captured_port(port: u16, found: &BTreeMap<u16, BTreeSet<String>>) -> Finding {
    match found.get(&port) {
        Some(processes) if processes.is_empty() => {
            Finding::ok("port", format!("somebody listens on port {port} (who, only root can see)"))
        }
        Some(processes) => {
            let processes: Vec<_> = processes.iter().map(String::as_str).collect();
            Finding::ok("port", format!("port {port}: {}", processes.join(", ")))
        }
        None => Finding::warning(
            "port",
            format!("nobody listens on port {port} in this network namespace"),
            "start the service, or mend `ports`; a service in a container is captured all the same",
        ),
    }
}

fn ring_memory(ring_bytes: u32) -> Option<Finding> {
    let available = Meminfo::current().ok()?.mem_available?;
    let (ring_mib, available_mib) = (u64::from(ring_bytes) >> 20, available >> 20);
    if u64::from(ring_bytes) > available / RING_DIVISOR {
        let detail = format!("the ring takes {ring_mib} MiB of {available_mib} MiB that are available");
        return Some(Finding::warning("memory", detail, "lower `ring_bytes` under [capture]"));
    }
    Some(Finding::ok("memory", format!("the ring takes {ring_mib} MiB, {available_mib} MiB are available")))
}

/// Whether what the configured bounds add up to is there. A unit may have less than the shell that asks.
fn ceiling(config: &Config, duties: Duties) -> Finding {
    let role = match duties {
        Duties { capture: true, replay: true } => Role::Run,
        Duties { capture: true, replay: false } => Role::Capture,
        Duties { capture: false, replay: _ } => Role::Worker,
    };
    let bounds = ceilings::bounds(config, role);
    let needed_mib = bounds.iter().map(|bound| bound.bytes).sum::<u64>().div_ceil(1 << 20);
    match ceilings::memory_max(&config.protect, bounds) {
        Ok(_) => Finding::ok("ceiling", format!("all bounds together are {needed_mib} MiB of memory")),
        Err(error) => Finding::failure("ceiling", error.to_string(), "as it says; nothing starts before"),
    }
}

fn clock_source() -> Option<Finding> {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(path).ok()?;
    let source = source.trim();
    if FAST_CLOCKS.contains(&source) {
        return Some(Finding::ok("clock", format!("clock source {source}")));
    }
    let detail = format!("clock source {source}: reading it for each packet may cost A a microsecond");
    Some(Finding::warning(
        "clock",
        detail,
        "see whether the kernel offers tsc: its log says why it does not use it",
    ))
}

/// Whether the kernel says who waits on this host: capture gives way by it.
fn pressure(found: Pressure) -> Finding {
    let unknown: Vec<_> = [("CPU", found.cpu), ("memory", found.memory)]
        .into_iter()
        .filter_map(|(name, pressure)| pressure.is_none().then_some(name))
        .collect();
    if unknown.is_empty() {
        return Finding::ok(
            "pressure",
            "the kernel says who waits for CPU and memory; capture gives way by it",
        );
    }
    Finding::warning(
        "pressure",
        format!(
            "the kernel does not say who waits for {}: capture gives way only by its own CPU time and losses",
            unknown.join(" and ")
        ),
        "boot with psi=1 on the kernel's command line; in a container, let it see /proc/pressure",
    )
}

fn admin_address(address: SocketAddr) -> Finding {
    of_binding(address, TcpListener::bind(address).map(drop))
}

fn of_binding(address: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::ok("admin", format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::warning(
            "admin",
            format!("{address} is taken, by an understudy that runs or by somebody else"),
            "nothing, if it is ours; else another address: `listen` under [admin]",
        ),
        Err(error) => Finding::failure(
            "admin",
            format!("{address} cannot be listened on: {error}"),
            "an address of this host: `listen` under [admin], or \"off\"",
        ),
    }
}

/// Whether files can be made in a folder, and whether it has the room that they may take.
fn place(check: &'static str, folder: PathBuf, bytes_max: Option<u64>) -> Finding {
    let shown = folder.display();
    let Some(existing) = existing(&folder) else {
        return Finding::failure(
            check,
            format!("{shown} is no folder that can be made"),
            "name another path",
        );
    };
    if let Err(error) = access(existing, Access::WRITE_OK | Access::EXEC_OK) {
        let detail = format!("{} cannot be written to: {error}", existing.display());
        return Finding::failure(check, detail, "change its owner, or name another path");
    }
    let free = statvfs(existing).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    match (free, bytes_max) {
        (Ok(free), Some(bytes_max)) if free < bytes_max => Finding::warning(
            check,
            format!("{shown} may take {} MiB, and {} MiB are free there", bytes_max >> 20, free >> 20),
            "make room, or lower `bytes_max`; what finds no room is counted (spool_full)",
        ),
        (Ok(free), _) => Finding::ok(check, format!("{shown}: {} MiB free", free >> 20)),
        (Err(error), _) => {
            Finding::warning(check, format!("the room at {shown} is not known: {error}"), "look with df")
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// The folder itself, or the nearest one above it that is there.
fn existing(folder: &Path) -> Option<&Path> {
    let mut ancestors =
        folder.ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
    ancestors.find(|path| path.exists()).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn who_listens_is_shown_where_it_can_be_seen() {
        let found = BTreeMap::from([
            (80, BTreeSet::from(["nginx[7]".to_owned(), "nginx[8]".to_owned()])),
            (81, BTreeSet::new()),
        ]);
        assert_eq!(captured_port(80, &found), Finding::ok("port", "port 80: nginx[7], nginx[8]"));
        assert_eq!(captured_port(81, &found).state, State::Ok);
        assert_eq!(captured_port(82, &found).state, State::Warning);
    }

    #[test]
    fn a_kernel_that_says_nothing_of_pressure_is_a_warning() {
        assert_eq!(pressure(Pressure { cpu: Some(0.9), memory: Some(0.0) }).state, State::Ok);
        let silent = pressure(Pressure { cpu: Some(0.9), memory: None });
        assert_eq!(silent.state, State::Warning);
        assert!(silent.detail.contains("for memory:") && silent.remedy.unwrap().contains("psi=1"));
    }

    #[test]
    fn a_folder_that_is_not_there_yet_counts_as_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("a/b");
        assert_eq!(place("spool", spool.clone(), Some(1)).state, State::Ok);
        assert_eq!(place("spool", spool, Some(u64::MAX)).state, State::Warning);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(place("spool", file.join("x"), None).state, State::Failure);
        assert_eq!(folder_of(Path::new("understudy.db")), Path::new("."));
    }

    #[test]
    fn a_taken_address_is_a_warning_and_a_foreign_one_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(admin_address(listener.local_addr().unwrap()).state, State::Warning);
        assert_eq!(admin_address("127.0.0.1:0".parse().unwrap()).state, State::Ok);
        // A host may let everybody listen on foreign addresses (ip_nonlocal_bind).
        let foreign = Err(io::ErrorKind::AddrNotAvailable.into());
        assert_eq!(of_binding("192.0.2.1:9469".parse().unwrap(), foreign).state, State::Failure);
    }
}
