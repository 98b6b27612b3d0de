//! The machine's only file system: the tests, the programs that they run, and a first process that runs them one by one.
//!
//! Decides nothing about the tests: whether one passed stands on the console.

use std::path::PathBuf;

use xshell::Shell;

use super::{GROUPS, Programs};
use crate::machine::{Kernel, Tree};

/// Programs of this host that the tests run.
const TOOLS: [&str; 4] = ["ip", "tc", "setpriv", "nsenter"];

/// Modules of the kernel that networks of the tests are made of, and what holds programs on interfaces before kernel 6.6.
const MODULES: [&str; 6] = ["veth", "bridge", "8021q", "ipip", "sch_ingress", "cls_bpf"];

/// What an init does besides, before the tests.
const BEFORE: &str = "mount -t tmpfs tmpfs /run\n\
    mount -t tmpfs tmpfs /tmp\n\
    mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
    ip link set lo up\n\
    export UNDERSTUDY_REQUIRE_BPF=1 UNDERSTUDY_BIN=/bin/understudy UNDERSTUDY_LAB_APP=/bin/understudy-lab-app\n\
    echo \"up after $(cut -d' ' -f1 /proc/uptime) s\"\n\
    understudy doctor\n";

/// Builds the file system for this kernel and gives its file.
pub(super) fn build(sh: &Shell, kernel: &Kernel, programs: &Programs) -> anyhow::Result<PathBuf> {
    let tree = Tree::new(sh, &kernel.release)?;
    for tool in TOOLS {
        tree.add_tool(tool)?;
    }
    let Programs { daemon, app, tests } = programs;
    tree.add_program(daemon, "understudy")?;
    tree.add_program(app, "understudy-lab-app")?;
    tree.add_program(tests, "e2e")?;
    let modules = tree.add_modules(kernel, &MODULES)?;

    let mut script = BEFORE.to_owned();
    for test in GROUPS.iter().flat_map(|group| group.tests) {
        script.push_str(&format!("e2e --color never --test-threads 1 --exact {test}\n"));
    }
    script.push_str("poweroff -f\n");
    tree.finish(&modules, &script)
}
