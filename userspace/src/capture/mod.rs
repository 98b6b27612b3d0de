//! Where packets come from: the kernel probe, and whatever else can hand over [`Packet`]s.
//!
//! Knows nothing of TCP streams or HTTP, and never makes the traffic wait.

pub mod cgroup;
mod detach;
pub mod features;
pub mod interface;
pub mod kernel;
pub mod listeners;
pub mod pcap;
mod ring;
pub mod sample;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{FlowKey, Packet};

pub use cgroup::CgroupSelector;
pub use detach::Detacher;
pub use kernel::{BootClock, Hook, KernelConfig, KernelSource, probe_is_embedded};
pub use pcap::{PcapLimits, PcapSource};
pub use ring::ring_bytes;
pub use sample::FlowSample;

/// Hands over packets one after the other, in the order in which they were captured.
pub trait Source {
    /// Waits until many packets are ready, `wait` is over, or the source is closed; then gives those that are
    /// ready to `take`. Few packets do not end the wait: whoever calls this drains on a timer.
    ///
    /// # Errors
    /// When the source can give no more packets because something is broken; its end is not an error.
    fn poll(&mut self, wait: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError>;

    /// Asks the source to stop copying this flow. A source that cannot does nothing.
    ///
    /// # Errors
    /// When the source refuses; the flow's packets then go on arriving.
    fn forget_flow(&mut self, flow: &FlowKey) -> Result<(), CaptureError>;

    /// Copies these flows from now on and no others. A source that cannot does nothing.
    ///
    /// # Errors
    /// When the source refuses; it then goes on as before.
    fn keep_flows(&mut self, sample: FlowSample) -> Result<(), CaptureError>;

    /// The flows that are copied now.
    fn flow_sample(&self) -> FlowSample {
        FlowSample::ALL
    }

    /// Takes no new packets; those that were taken can still be polled.
    fn close(&mut self);

    /// Counts since the start.
    ///
    /// # Errors
    /// When the counters cannot be read.
    fn counts(&mut self) -> Result<SourceCounts, CaptureError>;

    /// What lets go of the traffic from another thread, where there is something to let go of.
    fn detacher(&self) -> Option<Detacher> {
        None
    }

    /// True when packets come as they pass, so that whoever is late loses some. False when they come as fast as they
    /// are taken: then nothing needs to be lost, and time is what packets say.
    fn is_live(&self) -> bool {
        true
    }
}

/// What one [`Source::poll`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Packets were handed over, perhaps none.
    Open {
        /// How many.
        packets: usize,
    },
    /// There will be no more packets.
    Ended,
}

/// What a source counted. `wanted = captured + Σ drops` once everything is drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Packets that the source looked at.
    pub seen: u64,
    /// TCP packets of wanted ports.
    pub wanted: u64,
    /// Packets handed over whole.
    pub captured: u64,
    /// Payload bytes handed over.
    pub captured_bytes: u64,
    /// Packets not handed over, by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// What only a capture file has.
    pub file: Option<FileCounts>,
}

/// What reading a capture file came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Packets in the file, as far as it was read.
    pub frames: u64,
    /// Of these, packets that were cut when they were captured (snap length).
    pub frames_cut: u64,
    /// Of these, packets that are earlier than the one before them.
    pub frames_back: u64,
    /// Where the last block begins, in bytes, when the file ends in the middle of it.
    pub cut_at: Option<u64>,
}

/// The reason of packets for which the ring had no room.
pub const RING_FULL: &str = "ring_full";

/// All reasons for which a live source does not hand a packet over, as in [`SourceCounts::drops`].
pub fn drop_reasons() -> Vec<&'static str> {
    understudy_abi::DROP_COUNTERS.map(|(_, label)| label).to_vec()
}

// === impl SourceCounts ===

impl SourceCounts {
    /// Packets that were not handed over for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
    }

    /// About the time that copying took in the kernel, which is taken from whoever sends or receives the packet. From
    /// the times of the probe in `docs/benchmarks.md`: the kernel measures them only where `kernel.bpf_stats_enabled` is
    /// set, which costs more than the probe.
    pub fn copying_time(&self) -> Duration {
        let nanoseconds = self.captured.saturating_mul(150).saturating_add(self.captured_bytes / 7);
        Duration::from_nanos(nanoseconds)
    }
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The library was built without the eBPF object.
    #[error("this binary holds no probe: run `cargo xtask probe`, then build again")]
    NoProbe,
    /// The process may not load eBPF programs.
    #[error("capturing needs root or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; missing: {}", missing.join(", "))]
    MissingCapabilities {
        /// Those that the process does not have.
        missing: Vec<&'static str>,
    },
    /// There is nothing to attach to.
    #[error("no cgroup v2 hierarchy is mounted (`mount -t cgroup2 none /sys/fs/cgroup` mounts one)")]
    NoCgroup2,
    /// The mount table or a cgroup cannot be read.
    #[error("failed to read {}", path.display())]
    ReadCgroups {
        /// What was read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No cgroup of this path or unit name exists.
    #[error("no cgroup `{cgroup}` under {}{}", mount.display(), close_matches(close))]
    UnknownCgroup {
        /// What was asked for.
        cgroup: String,
        /// Where cgroup v2 is mounted.
        mount: PathBuf,
        /// Cgroups with similar names, as paths under the mount point.
        close: Vec<String>,
    },
    /// A unit name stands for more than one cgroup.
    #[error("`{cgroup}` names more than one cgroup, give one of these paths: {}", candidates.join(", "))]
    AmbiguousCgroup {
        /// What was asked for.
        cgroup: String,
        /// The cgroups, as paths under the mount point.
        candidates: Vec<String>,
    },
    /// A setting that the kernel would refuse.
    #[error("ring_bytes = {ring_bytes} is not a power of two between 4,096 and 1,073,741,824")]
    RingBytes {
        /// The setting.
        ring_bytes: u32,
    },
    /// The probe was built from another version of this repository.
    #[error(
        "the probe has version {probe} of the kernel border and this binary {binary}: run `cargo xtask probe`, then build again"
    )]
    AbiMismatch {
        /// The probe's version, 0 when it names none.
        probe: u32,
        /// Ours.
        binary: u32,
    },
    /// The object is not one that this library can load, or the kernel refused one of its maps.
    #[error(
        "failed to load the probe's maps into kernel {kernel} (it needs 5.8 or later and memory for the ring)"
    )]
    LoadMaps {
        /// The running kernel's release.
        kernel: String,
        /// Why not.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The kernel refused a program.
    #[error("kernel {kernel} refused the program `{program}` (it needs 5.8 or later){}", tail(verifier_log))]
    LoadProgram {
        /// The program.
        program: &'static str,
        /// The running kernel's release.
        kernel: String,
        /// The last lines of what the verifier said; empty when it said nothing.
        verifier_log: String,
        /// Why not.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The kernel refused to attach a program.
    #[error("failed to attach `{program}` to the cgroup {}", cgroup.display())]
    Attach {
        /// The program.
        program: &'static str,
        /// The cgroup's folder.
        cgroup: PathBuf,
        /// Why not.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The kernel refused to attach a program to an interface.
    #[error("failed to attach `{program}` to the interface {interface}")]
    AttachInterface {
        /// The program, or `clsact`, which holds programs before kernel 6.6.
        program: &'static str,
        /// The interface.
        interface: String,
        /// Why not.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// No interface has this name.
    #[error("no interface `{interface}` in this network namespace; there are: {}", there.join(", "))]
    NoInterface {
        /// The name.
        interface: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// An interface whose packets begin with something else than Ethernet or IP.
    #[error(
        "the interface `{interface}` has links of type {link_type}, and the probe reads Ethernet and IP only"
    )]
    LinkType {
        /// Its name.
        interface: String,
        /// `ARPHRD_*` of `include/uapi/linux/if_arp.h`.
        link_type: u16,
    },
    /// The kernel does not list interfaces.
    #[error("failed to list the network interfaces")]
    ListInterfaces {
        /// Why not.
        source: io::Error,
    },
    /// Other processes cannot be told that this one keeps programs on interfaces.
    #[error("failed to lock the network namespace /proc/self/ns/net")]
    LockNamespace {
        /// Why not.
        source: io::Error,
    },
    /// A part that the probe must have is not in the object.
    #[error("the probe has no {part}")]
    IncompleteProbe {
        /// The program or map.
        part: &'static str,
    },
    /// A map could not be read or written.
    #[error("failed to {operation} the probe's map {map}")]
    Map {
        /// What was tried: `open`, `read`, `write`.
        operation: &'static str,
        /// The map.
        map: &'static str,
        /// Why not.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// The log of the probe could not be opened.
    #[error("failed to open the probe's log")]
    OpenLog {
        /// Why not.
        #[source]
        source: Box<aya_log::Error>,
    },
    /// A capture file cannot be opened or read.
    #[error("failed to read `{file}`")]
    ReadFile {
        /// Its name.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Standard input was asked for and is a terminal.
    #[error(
        "standard input is a terminal: pipe a capture into it, such as `tcpdump -U -w - tcp port 8080 |`"
    )]
    NothingPiped,
    /// A file is none that holds packets.
    #[error("`{file}` is no pcap or pcapng file, it begins with {first}; {hint}")]
    NotACapture {
        /// Its name.
        file: String,
        /// Its first bytes in hexadecimal.
        first: String,
        /// What to do.
        hint: &'static str,
    },
    /// A capture file cannot be read to its end.
    #[error(
        "`{file}` is damaged at byte {offset}; what stands before it was read (`pcapfix` or `editcap` may save what stands behind it)"
    )]
    DamagedFile {
        /// Its name.
        file: String,
        /// Where the block begins that cannot be read.
        offset: u64,
        /// What is wrong with it.
        #[source]
        problem: pcap::Damage,
    },
    /// Waiting for packets failed.
    #[error("failed to wait for packets")]
    Wait {
        /// Why.
        source: io::Error,
    },
    /// The thread that captures is gone without a word.
    #[error("the capture thread ended unexpectedly")]
    ThreadDied,
    /// The thread that captures was asked to stop and goes on.
    #[error("the capture thread does not stop")]
    ThreadStuck,
    /// The thread that captures stood still for too long.
    #[error(
        "the capture thread made no progress for {stall_max:?} ([protect] stall_max), so the probe was detached; nothing is captured any more"
    )]
    Stalled {
        /// How long it may.
        stall_max: Duration,
    },
    /// The ring holds something that the probe does not write.
    #[error("the ring holds a record of {record_bytes} bytes that claims {payload_bytes} bytes of payload")]
    BadRecord {
        /// Its length.
        record_bytes: usize,
        /// What its header says.
        payload_bytes: usize,
    },
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn poll(&mut self, wait: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        (**self).poll(wait, take)
    }

    fn forget_flow(&mut self, flow: &FlowKey) -> Result<(), CaptureError> {
        (**self).forget_flow(flow)
    }

    fn keep_flows(&mut self, sample: FlowSample) -> Result<(), CaptureError> {
        (**self).keep_flows(sample)
    }

    fn flow_sample(&self) -> FlowSample {
        (**self).flow_sample()
    }

    fn close(&mut self) {
        (**self).close();
    }

    fn counts(&mut self) -> Result<SourceCounts, CaptureError> {
        (**self).counts()
    }

    fn detacher(&self) -> Option<Detacher> {
        (**self).detacher()
    }

    fn is_live(&self) -> bool {
        (**self).is_live()
    }
}

/// The end of the message of [`CaptureError::UnknownCgroup`].
fn close_matches(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!("; close matches: {}", close.join(", ")) }
}

/// The end of the message of [`CaptureError::LoadProgram`].
fn tail(verifier_log: &str) -> String {
    if verifier_log.is_empty() { String::new() } else { format!("; the verifier said:\n{verifier_log}") }
}
