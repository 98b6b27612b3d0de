//! The eBPF probe as a source of packets: loads it, attaches it, drains its ring.
//!
//! Pins nothing and holds what it attaches by file descriptor, so that the kernel takes the probe away when this process
//! ends in whatever way. Reads no clock, and starts no thread.

mod attach;
mod maps;

use std::mem::offset_of;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use understudy_abi::{self as abi, RecordHeader};

use self::attach::Place;
use self::maps::{
    Counters, FlowKeyValue, SettingsValue, check_abi, load_maps, map_error, open_map, write_ports,
};
use super::features::missing_capabilities;
use super::{CaptureError, Detacher, FlowSample, Polled, Source, SourceCounts};
use crate::model::{FlowKey, LinkType, Packet, Timestamp};

pub use attach::{Hook, has_interface_links};

/// The ring asks for a reader when it is this part full; below that the reader's own timer drains it.
const WAKE_DIVISOR: u32 = 4;

/// What to capture, and how much memory it may take.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelConfig {
    /// Local TCP ports whose packets are copied. Default: none.
    pub ports: Vec<u16>,
    /// Whose packets are copied. Default: those of the root cgroup's sockets, so of every service of the host.
    pub hook: Hook,
    /// Size of the ring in bytes, a power of two from 4,096 to 1 GiB. Default: 16 MiB. When it is full, packets
    /// are not copied and count as `ring_full`.
    pub ring_bytes: u32,
    /// Which flows are copied at first. Default: all. Others count as `sampled_out`.
    pub flow_sample: FlowSample,
    /// Records that one [`Source::poll`] hands over before it returns to its caller. Default: 4,096.
    pub records_per_poll_max: usize,
}

/// Turns the probe's time since boot into wall-clock time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootClock {
    wall_at_boot: Timestamp,
}

/// The probe, loaded and attached. Dropping it detaches.
pub struct KernelSource {
    records: RingBuf<MapData>,
    counters: PerCpuArray<MapData, Counters>,
    unwanted_flows: HashMap<MapData, FlowKeyValue, u32>,
    settings: Array<MapData, SettingsValue>,
    /// What `settings` holds.
    written: abi::Settings,
    log: EbpfLogger<&'static dyn log::Log>,
    clock: BootClock,
    records_per_poll_max: usize,
    place: Place,
    /// Names of the programs that the kernel calls.
    programs: Vec<&'static str>,
    /// Sleeps on the ring, woken only when the probe asks for it.
    waiter: OwnedFd,
    /// The last drain stopped at its limit, so that more is ready.
    has_more: bool,
    /// Holds the programs; none once closed.
    ebpf: Option<Ebpf>,
    /// Holds their links.
    detacher: Detacher,
}

/// How often the probe ran and how long that took; all zero unless `kernel.bpf_stats_enabled` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCost {
    /// Runs of all its programs.
    pub runs: u64,
    /// Time spent in them.
    pub run_time: Duration,
}

/// What a new map holds.
const NEW_SETTINGS: abi::Settings =
    abi::Settings { abi_version: 0, flow_sample_max: 0, wake_bytes: 0, has_unwanted_flows: 0 };

/// Whether this library was built with a probe.
pub fn probe_is_embedded() -> bool {
    !maps::PROBE.is_empty()
}

// === impl KernelConfig ===

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            hook: Hook::default(),
            ring_bytes: 16 << 20,
            flow_sample: FlowSample::ALL,
            records_per_poll_max: 4096,
        }
    }
}

// === impl BootClock ===

impl BootClock {
    /// From one point in time read on both clocks: the wall clock, and `CLOCK_BOOTTIME`.
    pub fn new(wall: Timestamp, since_boot: Duration) -> Self {
        let since_boot_ns = u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX);
        Self { wall_at_boot: Timestamp(wall.0.saturating_sub(since_boot_ns)) }
    }

    /// The wall-clock time of a number of nanoseconds since boot.
    pub fn to_wall(self, boot_ns: u64) -> Timestamp {
        self.wall_at_boot.after(Duration::from_nanos(boot_ns))
    }
}

// === impl KernelSource ===

impl KernelSource {
    /// Loads the probe and attaches it.
    ///
    /// # Errors
    /// [`CaptureError`] says what is missing: the probe, a capability, cgroup v2, the cgroup, a kernel feature.
    pub fn open(config: &KernelConfig, clock: BootClock) -> Result<Self, CaptureError> {
        if !probe_is_embedded() {
            return Err(CaptureError::NoProbe);
        }
        if !config.ring_bytes.is_power_of_two() || !(1 << 12..=1 << 30).contains(&config.ring_bytes) {
            return Err(CaptureError::RingBytes { ring_bytes: config.ring_bytes });
        }
        require_capabilities()?;
        let place = Place::find(&config.hook)?;
        let mut ebpf = load_maps(config.ring_bytes, place.passed_packets())?;
        check_abi(&ebpf)?;
        let log = EbpfLogger::init(&mut ebpf)
            .map_err(|source| CaptureError::OpenLog { source: Box::new(source) })?;
        let records: RingBuf<MapData> = open_map(&mut ebpf, "RECORDS")?;
        let settings = abi::Settings {
            abi_version: abi::ABI_VERSION,
            flow_sample_max: config.flow_sample.hash_max(),
            wake_bytes: config.ring_bytes / WAKE_DIVISOR,
            has_unwanted_flows: 0,
        };
        let mut source = Self {
            waiter: waiter(&records).map_err(|errno| CaptureError::Wait { source: errno.into() })?,
            records,
            counters: open_map(&mut ebpf, "COUNTERS")?,
            unwanted_flows: open_map(&mut ebpf, "UNWANTED_FLOWS")?,
            settings: open_map(&mut ebpf, "SETTINGS")?,
            written: NEW_SETTINGS,
            log,
            clock,
            records_per_poll_max: config.records_per_poll_max,
            place,
            programs: Vec::new(),
            has_more: false,
            ebpf: Some(ebpf),
            detacher: Detacher::default(),
        };
        source.write_settings(settings)?;
        let Self { ebpf, place, programs, detacher, .. } = &mut source;
        if let Some(ebpf) = ebpf {
            *programs = place.attach(ebpf, detacher)?;
            // Last: no packet is wanted before both directions are watched, and half a second may lie between the two on a
            // busy host. Requests whose answers pass in that time would look as if they had none.
            write_ports(ebpf, &config.ports)?;
        }
        Ok(source)
    }

    /// What the probe is attached to, in words: `cgroup /sys/fs/cgroup`, `tc eth0,eth1`.
    pub fn place(&self) -> String {
        self.place.to_string()
    }

    /// True when the kernel wants `CAP_NET_ADMIN` of whoever takes the probe away in order: on interfaces, where it has no
    /// links for them.
    pub fn needs_net_admin_to_detach(&self) -> bool {
        matches!(self.place, Place::Interfaces(_)) && !has_interface_links()
    }

    /// What the probe has cost since it was loaded.
    ///
    /// # Errors
    /// [`CaptureError::IncompleteProbe`] when the kernel does not tell.
    pub fn cost(&self) -> Result<ProbeCost, CaptureError> {
        let mut cost = ProbeCost::default();
        for name in self.programs.iter().copied() {
            let program = self.ebpf.as_ref().and_then(|ebpf| ebpf.program(name));
            let counted = program.and_then(|program| program.info().ok());
            let counted = counted.ok_or(CaptureError::IncompleteProbe { part: name })?;
            cost.runs = cost.runs.saturating_add(counted.run_count());
            cost.run_time = cost.run_time.saturating_add(counted.run_time());
        }
        Ok(cost)
    }

    /// Tells the probe, unless it knows.
    fn write_settings(&mut self, settings: abi::Settings) -> Result<(), CaptureError> {
        if settings != self.written {
            let value = SettingsValue(settings);
            self.settings.set(0, value, 0).map_err(|source| map_error("write", "SETTINGS", source))?;
            self.written = settings;
        }
        Ok(())
    }

    /// Hands over what the ring holds, up to the limit.
    fn drain(&mut self, take: &mut dyn FnMut(&Packet<'_>)) -> Result<usize, CaptureError> {
        let mut handed_over = 0;
        while handed_over < self.records_per_poll_max {
            let Some(record) = self.records.next() else { break };
            let (boot_ns, bytes) = unpack(&record)?;
            take(&Packet {
                captured_at: self.clock.to_wall(boot_ns),
                link: LinkType::Probe,
                wire_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                bytes,
            });
            handed_over += 1;
        }
        Ok(handed_over)
    }

    /// Sleeps until the probe asks for a reader, a signal comes, or the time is over.
    fn wait(&self, wait: Duration) -> Result<(), CaptureError> {
        // The wait is a limit: one that the kernel's type cannot hold becomes none.
        let timeout = wait.try_into().ok();
        let mut event =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        match epoll::wait(&self.waiter, &mut event, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(CaptureError::Wait { source: errno.into() }),
        }
    }
}

impl Drop for KernelSource {
    fn drop(&mut self) {
        // Others may hold the links, too.
        self.detacher.detach();
    }
}

impl Source for KernelSource {
    fn poll(&mut self, wait: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        if !self.has_more && !wait.is_zero() {
            self.wait(wait)?;
        }
        let packets = self.drain(take)?;
        self.has_more = packets >= self.records_per_poll_max;
        self.log.flush();
        Ok(Polled::Open { packets })
    }

    fn forget_flow(&mut self, flow: &FlowKey) -> Result<(), CaptureError> {
        let FlowKey { client, server, scope } = flow;
        let key = FlowKeyValue(abi::FlowKey {
            scope: *scope,
            local_addr: server.addr,
            remote_addr: client.addr,
            local_port: server.port,
            remote_port: client.port,
            reserved: 0,
        });
        self.unwanted_flows
            .insert(key, 1, 0)
            .map_err(|source| map_error("write", "UNWANTED_FLOWS", source))?;
        self.write_settings(abi::Settings { has_unwanted_flows: 1, ..self.written })
    }

    fn keep_flows(&mut self, sample: FlowSample) -> Result<(), CaptureError> {
        self.write_settings(abi::Settings { flow_sample_max: sample.hash_max(), ..self.written })
    }

    fn flow_sample(&self) -> FlowSample {
        FlowSample::from_hash_max(self.written.flow_sample_max)
    }

    fn detacher(&self) -> Option<Detacher> {
        Some(self.detacher.clone())
    }

    fn close(&mut self) {
        self.detacher.detach();
        // The maps are held apart, so that what the ring holds can still be read.
        self.ebpf = None;
        self.programs = Vec::new();
    }

    fn counts(&mut self) -> Result<SourceCounts, CaptureError> {
        let per_cpu = self.counters.get(&0, 0).map_err(|source| map_error("read", "COUNTERS", source))?;
        let sum = |index: u32| {
            per_cpu
                .iter()
                .filter_map(|counters| counters.get(index as usize))
                .fold(0, |sum: u64, count| sum.wrapping_add(*count))
        };
        Ok(SourceCounts {
            seen: sum(abi::counter::SEEN),
            wanted: sum(abi::counter::WANTED),
            captured: sum(abi::counter::CAPTURED),
            captured_bytes: sum(abi::counter::CAPTURED_BYTES),
            drops: abi::DROP_COUNTERS.map(|(index, label)| (label, sum(index))).to_vec(),
            file: None,
        })
    }
}

/// An epoll instance that watches the ring, edge-triggered: a record in the ring alone ends no wait, or each
/// packet would; only the probe's wake-up does (`BPF_RB_FORCE_WAKEUP`, `kernel/bpf/ringbuf.c`).
fn waiter(records: &RingBuf<MapData>) -> Result<OwnedFd, Errno> {
    let waiter = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&waiter, records, epoll::EventData::new_u64(0), flags)?;
    Ok(waiter)
}

/// The capture time of a record, and its header with its payload, without the padding.
fn unpack(record: &[u8]) -> Result<(u64, &[u8]), CaptureError> {
    const PAYLOAD_BYTES_AT: usize = offset_of!(RecordHeader, payload_bytes);
    let boot_ns = record.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    let payload_bytes =
        record.get(PAYLOAD_BYTES_AT..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_ne_bytes(*bytes));
    let payload_bytes = payload_bytes.map_or(usize::MAX, |bytes| bytes as usize);
    let whole = record.get(..size_of::<RecordHeader>().saturating_add(payload_bytes));
    boot_ns.zip(whole).ok_or(CaptureError::BadRecord { record_bytes: record.len(), payload_bytes })
}

/// Fails with the names of the capabilities that are missing.
fn require_capabilities() -> Result<(), CaptureError> {
    let missing = missing_capabilities();
    if missing.is_empty() { Ok(()) } else { Err(CaptureError::MissingCapabilities { missing }) }
}
