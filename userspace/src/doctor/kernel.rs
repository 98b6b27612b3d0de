//! The kernel: its features, what this process may do there, and whether the probe works.
//!
//! Tries rather than guesses, where the kernel lets it.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::capture::cgroup::CgroupSelector;
use crate::capture::features::{Feature, missing_capabilities, needed_features};
use crate::capture::kernel::has_interface_links;
use crate::capture::{Hook, KernelConfig, KernelSource, probe_is_embedded};
use crate::pipeline::clock;
use crate::pipeline::settings::Config;

/// From this version on the memory of maps counts for the cgroup and not for `RLIMIT_MEMLOCK` (commit series in 5.11).
const MEMLOCK_UNTIL: (u32, u32) = (5, 11);
/// The first version with the ring buffer, without which nothing works.
const VERSION_MIN: (u32, u32) = (5, 8);

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (release, ring_bytes) = (release.trim(), config.capture.kernel.ring_bytes);
    let mut findings = vec![probe(), version(release), features(&needed_features()), capabilities()];
    findings.push(match &config.capture.kernel.hook {
        Hook::Cgroup(selector) => cgroup(selector),
        Hook::Interfaces(_) => interfaces(),
    });
    findings.push(btf());
    findings.push(memlock(parse_version(release), ring_bytes));
    findings.extend(jit());
    findings.push(attach(&config.capture.kernel));
    findings
}

fn probe() -> Finding {
    if probe_is_embedded() {
        return Finding::ok("probe", "this binary holds the kernel probe");
    }
    Finding::failure(
        "probe",
        "this binary holds no kernel probe: it was built without one",
        "run `cargo xtask probe`, then build again",
    )
}

fn version(release: &str) -> Finding {
    if parse_version(release) < VERSION_MIN {
        let detail = format!("kernel {release} has no BPF ring buffer");
        return Finding::failure("kernel", detail, "use kernel 5.8 or later");
    }
    Finding::ok("kernel", format!("kernel {release}"))
}

/// The first two numbers; zeros where there are none.
fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

fn features(features: &[Feature]) -> Finding {
    let named = |wanted: Option<bool>| {
        let features = features.iter().filter(|feature| feature.found == wanted);
        features
            .map(|feature| format!("{} (Linux {})", feature.name, feature.since))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (missing, unknown) = (named(Some(false)), named(None));
    if !missing.is_empty() {
        let remedy =
            "use a kernel that has them: 5.8 or later, built with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF";
        return Finding::failure("bpf-features", format!("this kernel lacks: {missing}"), remedy);
    }
    if !unknown.is_empty() {
        let remedy = "ask again as root";
        return Finding::warning("bpf-features", "the kernel does not let this process ask for them", remedy);
    }
    let all: Vec<_> = features.iter().map(|feature| feature.name).collect();
    Finding::ok("bpf-features", all.join(", "))
}

/// What maps the users of the first user namespace to themselves (user_namespaces(7)).
const ALL_USERS: [&str; 3] = ["0", "0", "4294967295"];

/// True in a user namespace below the first one, whose capabilities the kernel does not take for loading a probe.
fn is_nested(uid_map: &str) -> bool {
    !uid_map.is_empty() && !uid_map.split_ascii_whitespace().eq(ALL_USERS)
}

fn capabilities() -> Finding {
    let missing = missing_capabilities();
    if is_nested(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default()) {
        return Finding::failure(
            "capabilities",
            "this process is in a user namespace, and what it may do there it may not do to the host's kernel",
            "run it on the host, or in a container whose root is the host's (not a rootless one)",
        );
    }
    if missing.is_empty() {
        return Finding::ok("capabilities", "this process may load and attach a probe");
    }
    Finding::failure(
        "capabilities",
        format!("this process lacks {}", missing.join(", ")),
        format!(
            "run it as root, or give them to it: systemd's AmbientCapabilities={}, or setcap {}=ep on the binary",
            missing.join(" "),
            missing.join(",").to_lowercase()
        ),
    )
}

fn cgroup(selector: &CgroupSelector) -> Finding {
    let root = match CgroupSelector::Root.resolve() {
        Ok(root) => root,
        Err(error) => {
            let remedy = "mount -t cgroup2 none /sys/fs/cgroup (or boot with systemd.unified_cgroup_hierarchy=1); beside \
                          version 1, any other folder does";
            return Finding::failure("cgroup", super::chain(&error), remedy);
        }
    };
    if !root.is_dir() {
        let detail = format!(
            "cgroup v2 is mounted at {}, and cannot be seen: something else is mounted above it",
            root.display()
        );
        return Finding::failure(
            "cgroup",
            detail,
            "let this process, or its container, see the host's /sys/fs/cgroup",
        );
    }
    match selector.resolve() {
        Ok(folder) if folder == root => Finding::ok(
            "cgroup",
            format!("cgroup v2 is mounted at {}: every service of the host", root.display()),
        ),
        Ok(folder) => Finding::ok("cgroup", format!("{}: the services in it", folder.display())),
        Err(error) => Finding::failure("cgroup", super::chain(&error), "mend `cgroup` under [capture]"),
    }
}

/// How the kernel attaches programs to interfaces.
fn interfaces() -> Finding {
    if has_interface_links() {
        return Finding::ok("interfaces", "the kernel detaches the probe by itself when understudy ends");
    }
    Finding::warning(
        "interfaces",
        "a kill of understudy leaves filters on the interfaces that do nothing; its next start removes them",
        "use kernel 6.6 or later, to have none left",
    )
}

fn btf() -> Finding {
    if fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
        return Finding::ok(
            "btf",
            "the kernel describes its types (not needed: the probe reads none of them)",
        );
    }
    Finding::ok("btf", "the kernel does not describe its types; the probe needs none of them")
}

fn memlock(version: (u32, u32), ring_bytes: u32) -> Finding {
    if version >= MEMLOCK_UNTIL {
        return Finding::ok("memlock", "the ring counts for the memory of the cgroup, no limit to raise");
    }
    // None is no limit.
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < u64::from(ring_bytes) * 2 => Finding::failure(
            "memlock",
            format!("{limit} bytes may be locked, and the ring takes {ring_bytes}"),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        ),
        Some(_) | None => Finding::ok("memlock", "the ring fits into what may be locked"),
    }
}

fn jit() -> Option<Finding> {
    let enabled = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok()?;
    if enabled.trim() != "0" {
        return Some(Finding::ok("jit", "the kernel compiles the probe"));
    }
    let remedy = "sysctl net.core.bpf_jit_enable=1";
    Some(Finding::warning(
        "jit",
        "the kernel interprets the probe, which costs A several times as much",
        remedy,
    ))
}

/// Loads and attaches the probe with no wanted port, and takes it away again.
fn attach(kernel: &KernelConfig) -> Finding {
    let config = KernelConfig { ring_bytes: 4096, hook: kernel.hook.clone(), ..KernelConfig::default() };
    match KernelSource::open(&config, clock::boot()) {
        Ok(source) => {
            let place = source.place();
            drop(source);
            Finding::ok("capture", format!("the probe loads and attaches to {place}"))
        }
        Err(error) => Finding::failure(
            "capture",
            super::chain(&error),
            "mend what is named here and above, then ask again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_user_namespace_is_known_by_its_map() {
        assert!(!is_nested("         0          0 4294967295\n") && !is_nested(""));
        assert!(is_nested("0 1000 1\n") && is_nested("0 0 4294967295\n1 5 1\n"));
    }

    #[test]
    fn a_version_is_read_from_any_release() {
        for (release, expected) in [
            ("6.1.0-47-cloud-amd64", (6, 1)),
            ("5.10.0", (5, 10)),
            ("6.18.44-fc-v657", (6, 18)),
            ("6.12-rc1", (6, 12)),
            ("", (0, 0)),
            ("nonsense", (0, 0)),
        ] {
            assert_eq!(parse_version(release), expected, "{release}");
        }
        assert_eq!(version("5.7.19").state, State::Failure);
        assert_eq!(version("5.8.0").state, State::Ok);
    }

    #[test]
    fn what_is_missing_is_named_and_what_cannot_be_asked_is_no_failure() {
        let feature = |name, found| Feature { name, since: "5.8", found };
        let check = |found: [Option<bool>; 2], state: State| {
            let finding = features(&[feature("ring buffer", found[0]), feature("LRU hash", found[1])]);
            assert_eq!(finding.state, state, "{finding:?}");
            finding.detail
        };
        check([Some(true), Some(true)], State::Ok);
        check([Some(true), None], State::Warning);
        let detail = check([None, Some(false)], State::Failure);
        assert!(detail.contains("LRU hash (Linux 5.8)") && !detail.contains("ring buffer"), "{detail}");
    }
}
