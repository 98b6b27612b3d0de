//! The ceiling of memory: what the configured bounds add up to, and whether the host has that.
//!
//! Reserves nothing. Counts bounds, not use: ordinary traffic comes nowhere near.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::system::{Sysinfo, sysinfo};

use super::super::settings::{CaptureConfig, Config, ExperimentConfig, Input};
use super::ProtectConfig;
use crate::capture::CgroupSelector;

/// Which parts of the pipeline a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Capture, replay, comparison.
    Run,
    /// Capture into the queue between hosts, or into a recording.
    Capture,
    /// Replay from the queue between hosts.
    Worker,
}

/// The most memory that one part may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What to lower.
    pub key: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// What memory cannot go beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// The configuration.
    Configured,
    /// The cgroup that this process is in, or one above it.
    Cgroup(PathBuf),
    /// The memory of the host.
    Host,
}

/// The configured bounds add up to more than there may be.
#[derive(Debug, thiserror::Error)]
#[error(
    "the configured bounds add up to {} of memory, and {ceiling} allows {}; raise that, or lower {}",
    mebibytes(*needed), mebibytes(*allowed), largest(bounds)
)]
pub struct CeilingError {
    /// What they add up to.
    pub needed: u64,
    /// What is allowed.
    pub allowed: u64,
    /// By whom.
    pub ceiling: Ceiling,
    /// The bounds.
    pub bounds: Vec<Bound>,
}

/// The program without traffic: its threads, the journal's cache, what the allocator keeps.
const PROCESS_BYTES: u64 = 32 << 20;
/// A connection that is known, with its index while the table grows.
const FLOW_BYTES: u64 = 1_300;
/// Evidence of a path.
const PATH_BYTES: u64 = 800;
/// The times of an experiment's routes, and its causes for whoever looks meanwhile.
const TIMES_BYTES: u64 = 4 << 20;
/// What a spool that drains takes besides.
const DRAIN_BYTES: u64 = 4 << 20;

/// Bounds that an error names.
const NAMED_MAX: usize = 4;

/// The bytes of memory that the process may have.
///
/// # Errors
/// When what its bounds add up to is more than the configuration, the cgroup or the host allows.
pub fn memory_max(protect: &ProtectConfig, bounds: Vec<Bound>) -> Result<u64, CeilingError> {
    let configured = protect.memory_max.map(|bytes| (Ceiling::Configured, bytes));
    let host = Some((Ceiling::Host, host_memory()));
    decide([configured, cgroup_limit(), host].into_iter().flatten().collect(), bounds)
}

fn decide(ceilings: Vec<(Ceiling, u64)>, bounds: Vec<Bound>) -> Result<u64, CeilingError> {
    let needed = bounds.iter().fold(0_u64, |sum, bound| sum.saturating_add(bound.bytes));
    let is_configured = ceilings.iter().any(|(ceiling, _)| *ceiling == Ceiling::Configured);
    match ceilings.into_iter().min_by_key(|(_, bytes)| *bytes) {
        Some((ceiling, allowed)) if needed > allowed => {
            Err(CeilingError { needed, allowed, ceiling, bounds })
        }
        // Whoever names a ceiling means it; else what was counted is one.
        Some((_, allowed)) if is_configured => Ok(allowed),
        Some(_) | None => Ok(needed),
    }
}

/// What a process with this configuration may take.
pub fn bounds(config: &Config, role: Role) -> Vec<Bound> {
    let Config { capture, experiments, journal, record, queue, .. } = config;
    let mut bounds = Vec::new();
    let mut add = |key, bytes: u64| bounds.push(Bound { key, bytes });
    match role {
        Role::Run | Role::Capture => of_capture(capture, &mut add),
        Role::Worker => add("the program itself", PROCESS_BYTES),
    }
    if record.path.is_some() {
        add("record.waiting_bytes_max", bytes(record.queue.bytes_max));
    }
    for experiment in experiments {
        match role {
            Role::Run => add("experiment.queue.bytes_max", bytes(experiment.queue.bytes_max)),
            Role::Capture if queue.is_some() => {
                add("experiment.queue.bytes_max", bytes(experiment.queue.bytes_max));
            }
            Role::Capture => {}
            Role::Worker => {
                let entries = queue.as_ref().map_or(0, |queue| queue.worker.bytes_max);
                add("queue.held_bytes_max", bytes(entries));
            }
        }
        if role != Role::Capture {
            of_replay(experiment, &mut add);
        }
    }
    match role {
        Role::Run | Role::Worker => {
            add("journal.waiting_bytes_max", bytes(journal.handover.waiting_bytes_max));
        }
        Role::Capture => {
            if let Some(queue) = queue {
                add("queue.in_flight_bytes_max", bytes(queue.upload.in_flight_bytes_max));
                add("a spool that drains", DRAIN_BYTES);
            }
        }
    }
    bounds
}

/// What a capture alone may take.
pub fn capture_bounds(capture: &CaptureConfig) -> Vec<Bound> {
    let mut bounds = Vec::new();
    of_capture(capture, &mut |key, bytes| bounds.push(Bound { key, bytes }));
    bounds
}

fn of_capture(capture: &CaptureConfig, add: &mut impl FnMut(&'static str, u64)) {
    let CaptureConfig { input, kernel, pcap, fragments, stream, http, nice: _, governor: _ } = capture;
    add("the program itself", PROCESS_BYTES);
    match input {
        Input::Probe => add("capture.ring_bytes", kernel.ring_bytes.into()),
        Input::Pcap(_) => {
            add("capture.block_bytes_max", bytes(pcap.block_bytes_max));
            add("capture.fragment_bytes_max", bytes(fragments.bytes_max));
        }
        Input::Recording(_) => return,
    }
    add("capture.flows_max", bytes(stream.flows_max).saturating_mul(FLOW_BYTES));
    add("capture.waiting_bytes_max", bytes(stream.waiting_bytes_max));
    add("capture.kept_bytes_max", bytes(http.kept_bytes_max));
    add("capture.heads_kept_max", bytes(http.heads_kept_max));
}

fn of_replay(experiment: &ExperimentConfig, add: &mut impl FnMut(&'static str, u64)) {
    let ExperimentConfig { candidate, twin, replay, compare, noise, comparator, .. } = experiment;
    let answers = |kept: usize| bytes(replay.in_flight_max).saturating_mul(bytes(kept));
    add("experiment.replay.in_flight_max × candidate.body_kept_max", answers(candidate.limits.body_kept_max));
    if let Some(twin) = twin {
        add("experiment.replay.in_flight_max × twin.body_kept_max", answers(twin.limits.body_kept_max));
    } else {
        if noise.again.is_some() {
            add("experiment.noise.again_waiting_bytes_max", bytes(replay.again.waiting_bytes_max));
        }
        if let Some(repeats) = &noise.repeats {
            add("experiment.noise.repeat_bytes_max", bytes(repeats.bytes_max));
        }
    }
    add("experiment.noise.paths_max", bytes(noise.model.paths_max).saturating_mul(PATH_BYTES));
    add("experiment.compare.decoded_bytes_max", bytes(compare.limits.decoded_bytes_max).saturating_mul(2));
    if let Some(comparator) = comparator {
        let questions = bytes(comparator.waiting_max).saturating_mul(bytes(comparator.message_bytes_max));
        add("experiment.compare.comparator.waiting_max × message_bytes_max", questions);
    }
    add("times and causes", TIMES_BYTES);
}

fn bytes(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The smallest limit of the cgroup that this process is in and of those above it (`memory.max`,
/// `Documentation/admin-guide/cgroup-v2.rst`); none where nobody limits it. That of a cgroup v1 is the kernel's alone.
fn cgroup_limit() -> Option<(Ceiling, u64)> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_below(&CgroupSelector::Root.resolve().ok()?, &own)
}

/// `own` is the text of `/proc/self/cgroup` (cgroups(7)).
fn limit_below(mount: &Path, own: &str) -> Option<(Ceiling, u64)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = mount.join(path);
    let folders = folder.ancestors().take_while(|folder| folder.starts_with(mount));
    let limit = |folder: &Path| {
        let file = folder.join("memory.max");
        let bytes: u64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        Some((Ceiling::Cgroup(file), bytes))
    };
    folders.filter_map(limit).min_by_key(|(_, bytes)| *bytes)
}

/// The memory of the host (sysinfo(2)): a unit may see nothing of /proc but processes.
fn host_memory() -> u64 {
    let Sysinfo { totalram, mem_unit, .. } = sysinfo();
    totalram.saturating_mul(mem_unit.into())
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// The largest bounds that can be lowered, with their sizes.
fn largest(bounds: &[Bound]) -> String {
    let mut sums: Vec<Bound> = Vec::new();
    for bound in bounds.iter().filter(|bound| bound.key.contains('.')) {
        match sums.iter_mut().find(|sum| sum.key == bound.key) {
            Some(sum) => sum.bytes = sum.bytes.saturating_add(bound.bytes),
            None => sums.push(*bound),
        }
    }
    sums.sort_by_key(|bound| std::cmp::Reverse(bound.bytes));
    let named = sums.iter().take(NAMED_MAX);
    let named: Vec<String> =
        named.map(|bound| format!("`{}` ({})", bound.key, mebibytes(bound.bytes))).collect();
    named.join(", ")
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("`memory_max` under [protect]"),
            Self::Cgroup(file) => write!(f, "`{}` (MemoryMax= of the unit)", file.display()),
            Self::Host => f.write_str("the memory of this host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, parse};

    fn bound(key: &'static str, bytes: u64) -> Bound {
        Bound { key, bytes }
    }

    #[track_caller]
    fn check(ceilings: &[(Ceiling, u64)], expected: Result<u64, &str>) {
        let bounds = vec![bound("a.small", 10 << 20), bound("a.large", 60 << 20), bound("a.large", 30 << 20)];
        match (decide(ceilings.to_vec(), bounds), expected) {
            (Ok(bytes), Ok(mebibytes)) => assert_eq!(bytes, mebibytes << 20, "{ceilings:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{ceilings:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_smallest_ceiling_must_hold_what_the_bounds_add_up_to() {
        let (host, cgroup) = (Ceiling::Host, Ceiling::Cgroup("/c/memory.max".into()));
        check(&[], Ok(100));
        check(&[(host.clone(), 1000 << 20)], Ok(100));
        check(&[(Ceiling::Configured, 150 << 20), (host.clone(), 1000 << 20)], Ok(150));
        check(&[(Ceiling::Configured, 150 << 20), (cgroup.clone(), 120 << 20)], Ok(120));
        check(&[(Ceiling::Configured, 99 << 20)], Err("100 MiB of memory, and `memory_max` under [protect]"));
        check(&[(cgroup, 99 << 20)], Err("`/c/memory.max` (MemoryMax= of the unit) allows 99 MiB"));
        check(&[(host, 99 << 20)], Err("lower `a.large` (90 MiB), `a.small` (10 MiB)"));
    }

    #[test]
    fn the_limits_of_all_cgroups_above_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let unit = folder.path().join("system.slice/understudy.service");
        fs::create_dir_all(&unit).expect("folders");
        let write = |folder: &Path, text: &str| fs::write(folder.join("memory.max"), text).expect("a file");
        let limit = |own: &str| limit_below(folder.path(), own).map(|(_, bytes)| bytes);
        let own = "1:cpu:/\n0::/system.slice/understudy.service\n";
        assert_eq!(limit(own), None);
        write(&unit, "max\n");
        assert_eq!(limit(own), None);
        write(&unit.join(".."), "1000\n");
        assert_eq!(limit(own), Some(1000));
        write(&unit, "500\n");
        assert_eq!(limit(own), Some(500));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:memory:/\n"), None);
    }

    /// What a configuration adds up to for a role, in MiB.
    #[track_caller]
    fn adds_up(text: &str, role: Role) -> u64 {
        let config = parse(text, None, Flags::default()).expect("it makes sense");
        bounds(&config, role).iter().map(|bound| bound.bytes).sum::<u64>() >> 20
    }

    #[test]
    fn defaults_add_up_to_what_the_documentation_says() {
        let one = "[[experiment]]\nname = \"x\"\ncandidate.url = \"http://b\"\n";
        let two = format!("{one}[[experiment]]\nname = \"y\"\ncandidate.url = \"http://b\"\n");
        let queue = "[queue]\nredis = \"redis://r\"\n";
        assert_eq!(adds_up(one, Role::Run), 376);
        assert_eq!(adds_up(&two, Role::Run), 527);
        assert_eq!(adds_up(&format!("{queue}{one}"), Role::Capture), 261);
        assert_eq!(adds_up(&format!("{queue}{one}"), Role::Worker), 199);
    }
}
