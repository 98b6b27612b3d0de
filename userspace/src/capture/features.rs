//! What this kernel can do, and what this process may do there, as far as the probe needs it.
//!
//! Asks the kernel itself, by tries that leave nothing behind; a version number says little on a distribution's kernel.

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};
use rustix::thread::CapabilitySet;

/// One thing that a kernel has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is called in bpf(2) and bpf-helpers(7).
    pub name: &'static str,
    /// The version that has it first.
    pub since: &'static str,
    /// Whether it is there; none where the kernel does not let this process ask.
    pub found: Option<bool>,
}

/// What the probe cannot do without.
pub fn needed_features() -> Vec<Feature> {
    let program =
        |name, since| Feature { name, since, found: is_program_supported(ProgramType::CgroupSkb).ok() };
    let map = |name, since, kind| Feature { name, since, found: is_map_supported(kind).ok() };
    let helper = |name, since, helper| Feature {
        name,
        since,
        found: is_helper_supported(ProgramType::CgroupSkb, helper).ok(),
    };
    vec![
        program("cgroup_skb programs", "4.10"),
        map("ring buffer", "5.8", MapType::RingBuf),
        map("per-CPU array", "4.6", MapType::PerCpuArray),
        map("LRU hash", "4.10", MapType::LruHash),
        helper("bpf_skb_load_bytes", "4.10", BpfHelper::BPF_FUNC_skb_load_bytes),
        helper("bpf_skb_cgroup_id", "4.18", BpfHelper::BPF_FUNC_skb_cgroup_id),
        helper("bpf_ktime_get_boot_ns", "5.8", BpfHelper::BPF_FUNC_ktime_get_boot_ns),
        helper("bpf_ringbuf_query", "5.8", BpfHelper::BPF_FUNC_ringbuf_query),
    ]
}

/// The capabilities (capabilities(7)) that this process needs for a probe and does not have; none also where the kernel
/// does not tell, since then it refuses by itself.
pub fn missing_capabilities() -> Vec<&'static str> {
    let Ok(sets) = rustix::thread::capabilities(None) else { return Vec::new() };
    // CAP_SYS_ADMIN stands for all of the others (`bpf_capable` and its kin, `include/linux/capability.h`).
    if sets.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::PERFMON, "CAP_PERFMON"),
    ];
    needed.iter().filter(|(bit, _)| !sets.effective.contains(*bit)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_feature_once() {
        let features = needed_features();
        let names: std::collections::BTreeSet<_> = features.iter().map(|feature| feature.name).collect();
        assert_eq!(names.len(), features.len());
    }
}
