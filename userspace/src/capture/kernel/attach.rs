//! Puts the probe's programs where packets pass: on a cgroup, or on interfaces.
//!
//! Leaves nothing behind that does anything: links are held by descriptor, and where the kernel has none for interfaces
//! (before 6.6), a gate of three instructions is attached that opens only while this process lives.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};
use aya::programs::tc::{NlOptions, TcAttachOptions, TcError, qdisc_add_clsact, qdisc_detach_program};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, LinkOrder, Program, ProgramError, SchedClassifier,
    TcAttachType,
};
use aya::util::KernelVersion;
use rustix::io::Errno;
use understudy_abi as abi;

use super::maps::{kernel_release, map_error, open_map};
use crate::capture::cgroup::CgroupSelector;
use crate::capture::interface::{Interface, LinkHeader};
use crate::capture::{CaptureError, Detacher};

/// Lines of the verifier's log that an error shows; the reason stands in the last ones.
const VERIFIER_LINES_MAX: usize = 12;
/// The namespace whose interfaces this process sees. Processes that keep gates there hold a lock on it.
const NAMESPACE: &str = "/proc/self/ns/net";

const CGROUP_PROGRAMS: [(&str, CgroupSkbAttachType); 2] = [
    ("understudy_ingress", CgroupSkbAttachType::Ingress),
    ("understudy_egress", CgroupSkbAttachType::Egress),
];

/// Whose packets are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Those of the sockets in a cgroup: each once, whatever interface or network namespace it takes.
    Cgroup(CgroupSelector),
    /// Those that pass these interfaces of this network namespace, for gateways: traffic that no socket of this host ends.
    /// One that passes several of them is copied once.
    Interfaces(Vec<String>),
}

/// A [`Hook`] as it was found on this host.
#[derive(Debug)]
pub(super) enum Place {
    Cgroup { path: PathBuf, folder: File },
    Interfaces(Vec<Interface>),
}

/// What stands behind gates. The kernel shuts them when this is dropped, or its process is gone.
struct Gates {
    behind: ProgramArray<MapData>,
    /// Shared with other processes that keep gates.
    _lock: File,
}

/// Where a program stands among those of others.
type Order = fn() -> LinkOrder;

/// The programs at one side of an interface.
struct Side {
    way: TcAttachType,
    order: Order,
    program: &'static str,
    gate: &'static str,
    gate_index: u32,
}

// === impl Hook ===

impl Default for Hook {
    fn default() -> Self {
        Self::Cgroup(CgroupSelector::Root)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(selector) => write!(f, "cgroup {selector}"),
            Self::Interfaces(names) => write!(f, "tc {}", names.join(",")),
        }
    }
}

// === impl Place ===

impl Place {
    /// Looks for it.
    pub(super) fn find(hook: &Hook) -> Result<Self, CaptureError> {
        match hook {
            Hook::Cgroup(selector) => {
                let path = selector.resolve()?;
                let folder = File::open(&path)
                    .map_err(|source| CaptureError::ReadCgroups { path: path.clone(), source })?;
                Ok(Self::Cgroup { path, folder })
            }
            Hook::Interfaces(names) => Interface::find(names).map(Self::Interfaces),
        }
    }

    /// How many packets the probe remembers so that it copies each once.
    pub(super) fn passed_packets(&self) -> u32 {
        match self {
            // A socket sees a packet once, and an array has one entry at least.
            Self::Cgroup { path: _, folder: _ } => 1,
            Self::Interfaces(_) => abi::PASSED_PACKETS_MAX,
        }
    }

    /// Loads the programs, attaches them, and gives the detacher what holds them there. Returns the names of those that the
    /// kernel calls.
    pub(super) fn attach(
        &self,
        ebpf: &mut Ebpf,
        detacher: &Detacher,
    ) -> Result<Vec<&'static str>, CaptureError> {
        match self {
            Self::Cgroup { path, folder } => attach_to_cgroup(ebpf, path, folder, detacher),
            Self::Interfaces(interfaces) => attach_to_interfaces(ebpf, interfaces, detacher),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup { path, folder: _ } => write!(f, "cgroup {}", path.display()),
            Self::Interfaces(interfaces) => {
                let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
                write!(f, "tc {}", names.join(","))
            }
        }
    }
}

// === impl Side ===

impl Side {
    /// What comes in is seen before other programs of the host can change or redirect it, and what goes out behind
    /// them: both as they are on the wire.
    fn both(link_header: LinkHeader) -> [Self; 2] {
        let side = |way, order, program, gate, gate_index| Self { way, order, program, gate, gate_index };
        let (ingress, egress) = (TcAttachType::Ingress, TcAttachType::Egress);
        let (first, last): (Order, Order) = (LinkOrder::first, LinkOrder::last);
        match link_header {
            LinkHeader::Ethernet => [
                side(ingress, first, "understudy_in", "understudy_gate_in", abi::GATE_IN_ETHERNET),
                side(egress, last, "understudy_out", "understudy_gate_out", abi::GATE_OUT_ETHERNET),
            ],
            LinkHeader::None => [
                side(ingress, first, "understudy_plain_in", "understudy_plain_gate_in", abi::GATE_IN_PLAIN),
                side(egress, last, "understudy_plain_out", "understudy_plain_gate_out", abi::GATE_OUT_PLAIN),
            ],
        }
    }
}

/// Whether the kernel attaches programs to interfaces by links that a process holds (`BPF_LINK_TYPE_TCX`).
pub fn has_interface_links() -> bool {
    // A kernel that does not say its version is taken for an old one, which works on every kernel.
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

fn attach_to_cgroup(
    ebpf: &mut Ebpf,
    path: &Path,
    folder: &File,
    detacher: &Detacher,
) -> Result<Vec<&'static str>, CaptureError> {
    for (name, attach_type) in CGROUP_PROGRAMS {
        let program: &mut CgroupSkb = program(ebpf, name)?;
        program.load().map_err(|source| refused_program(name, source))?;
        let link = program
            .attach(folder, attach_type, CgroupAttachMode::Single)
            .and_then(|link| program.take_link(link));
        let link = link.map_err(|source| CaptureError::Attach {
            program: name,
            cgroup: path.to_owned(),
            source: Box::new(source),
        })?;
        detacher.hold(link);
    }
    Ok(CGROUP_PROGRAMS.map(|(name, _)| name).to_vec())
}

fn attach_to_interfaces(
    ebpf: &mut Ebpf,
    interfaces: &[Interface],
    detacher: &Detacher,
) -> Result<Vec<&'static str>, CaptureError> {
    let mut gates = if has_interface_links() { None } else { Some(Gates::new(ebpf, interfaces)?) };
    let mut programs = Vec::new();
    for interface in interfaces {
        for side in Side::both(interface.link_header) {
            load_classifier(ebpf, side.program)?;
            let (name, options) = match &mut gates {
                None => (side.program, TcAttachOptions::TcxOrder((side.order)())),
                Some(gates) => {
                    gates.open(ebpf, &side)?;
                    (side.gate, TcAttachOptions::Netlink(NlOptions::default()))
                }
            };
            let classifier = load_classifier(ebpf, name)?;
            let link = classifier
                .attach_with_options(&interface.name, side.way, options)
                .and_then(|link| classifier.take_link(link))
                .map_err(|source| refused_interface(name, interface, source))?;
            detacher.hold(link);
            if !programs.contains(&name) {
                programs.push(name);
            }
        }
    }
    // After the links: who may not remove a gate (without `CAP_NET_ADMIN`) still shuts it.
    if let Some(gates) = gates {
        detacher.hold(gates);
    }
    Ok(programs)
}

// === impl Gates ===

impl Gates {
    /// Takes the lock, and removes gates that were left behind where nobody else keeps any.
    fn new(ebpf: &mut Ebpf, interfaces: &[Interface]) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::LockNamespace { source };
        let lock = File::open(NAMESPACE).map_err(failed)?;
        let alone = lock.try_lock().is_ok();
        for interface in interfaces {
            let at = |source: TcError| refused_interface("clsact", interface, source.into());
            match qdisc_add_clsact(&interface.name) {
                Err(TcError::NetlinkError(error))
                    if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
                added => added.map_err(at)?,
            }
            for side in Side::both(interface.link_header).iter().filter(|_| alone) {
                match qdisc_detach_program(&interface.name, side.way, side.gate) {
                    Err(TcError::IoError(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                    removed => removed.map_err(at)?,
                }
            }
        }
        lock.lock_shared().map_err(failed)?;
        Ok(Self { behind: open_map(ebpf, "BEHIND_GATES")?, _lock: lock })
    }

    /// Opens the gate of one side.
    fn open(&mut self, ebpf: &mut Ebpf, side: &Side) -> Result<(), CaptureError> {
        let program = load_classifier(ebpf, side.program)?
            .fd()
            .map_err(|source| refused_program(side.program, source))?;
        self.behind
            .set(side.gate_index, program, 0)
            .map_err(|source| map_error("write", "BEHIND_GATES", source))
    }
}

/// A program of the probe, by its type.
fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, CaptureError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(CaptureError::IncompleteProbe { part: name })?;
    program.try_into().map_err(|source| refused_program(name, source))
}

/// A classifier, loaded once.
fn load_classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, CaptureError> {
    let classifier: &mut SchedClassifier = program(ebpf, name)?;
    match classifier.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(classifier),
        Err(source) => Err(refused_program(name, source)),
    }
}

fn refused_interface(program: &'static str, interface: &Interface, source: ProgramError) -> CaptureError {
    CaptureError::AttachInterface { program, interface: interface.name.clone(), source: Box::new(source) }
}

/// The error for a program that the kernel refused, with what the verifier said last.
fn refused_program(program: &'static str, source: ProgramError) -> CaptureError {
    let log = if let ProgramError::LoadError { verifier_log, io_error: _ } = &source {
        verifier_log.to_string()
    } else {
        String::new()
    };
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(VERIFIER_LINES_MAX)..).unwrap_or_default();
    CaptureError::LoadProgram {
        program,
        kernel: kernel_release(),
        verifier_log: tail.join("\n"),
        source: Box::new(source),
    }
}
