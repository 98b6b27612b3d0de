//! The machine's only file system: the tests, the programs that they run, the libraries of these, and a first process.
//!
//! Copies files of this host and of the kernel's package; a machine made of it has nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use understudy_tests::prereq::find_tool;
use xshell::{Shell, cmd};

use super::kernel::Kernel;
use super::{GROUPS, Programs, folder};

/// Programs of this host that the tests run.
const TOOLS: [&str; 4] = ["ip", "tc", "setpriv", "nsenter"];

/// Modules of the kernel that networks of the tests are made of, and what holds programs on interfaces before kernel 6.6.
const MODULES: [&str; 6] = ["veth", "bridge", "8021q", "ipip", "sch_ingress", "cls_bpf"];

/// Builds the file system for this kernel and gives its file.
pub(super) fn build(sh: &Shell, kernel: &Kernel, programs: &Programs) -> anyhow::Result<PathBuf> {
    let tree = folder().join("tree");
    sh.remove_path(&tree)?;
    for name in ["bin", "dev", "lib/modules", "proc", "run", "sys", "tmp"] {
        sh.create_dir(tree.join(name))?;
    }
    let busybox = find_tool("busybox").context("`busybox` is not on the PATH")?;
    sh.copy_file(busybox, tree.join("bin/busybox"))?;

    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let program = find_tool(tool).with_context(|| format!("`{tool}` is not on the PATH"))?;
        libraries.extend(libraries_of(sh, &program)?);
        sh.copy_file(&program, tree.join("bin").join(tool))?;
    }
    let Programs { daemon, app, tests } = programs;
    for (program, name) in [(daemon, "understudy"), (app, "understudy-lab-app"), (tests, "e2e")] {
        libraries.extend(libraries_of(sh, program)?);
        // Nobody debugs there, and the machine holds the file system in memory.
        let stripped = tree.join("bin").join(name);
        cmd!(sh, "strip --strip-debug -o {stripped} {program}").quiet().run()?;
    }
    for library in libraries {
        let place = tree.join(library.strip_prefix("/").unwrap_or(&library));
        if let Some(folder) = place.parent() {
            sh.create_dir(folder)?;
        }
        sh.copy_file(&library, &place)?;
    }

    let mut names = Vec::new();
    for module in kernel.modules(&kernel.files(sh)?, &MODULES)? {
        names.push(copy_module(sh, &module, &tree.join("lib/modules"))?);
    }
    write_init(&tree, &names)?;
    pack(sh, &tree, &folder().join(format!("{}.cpio", kernel.release)))
}

/// A file system whose first process only says a word.
pub(super) fn that_says(sh: &Shell, word: &str) -> anyhow::Result<PathBuf> {
    let tree = folder().join("word");
    sh.remove_path(&tree)?;
    sh.create_dir(tree.join("bin"))?;
    let busybox = find_tool("busybox").context("`busybox` is not on the PATH")?;
    sh.copy_file(busybox, tree.join("bin/busybox"))?;
    write_script(&tree, &format!("/bin/busybox echo {word}\n/bin/busybox poweroff -f\n"))?;
    pack(sh, &tree, &folder().join("word.cpio"))
}

/// Copies a module, unpacked, and gives its name there.
fn copy_module(sh: &Shell, module: &Path, to: &Path) -> anyhow::Result<String> {
    let name = module.file_name().context("a module has no name")?.to_string_lossy().into_owned();
    match name.strip_suffix(".xz") {
        Some(name) => {
            let bytes = cmd!(sh, "xz --decompress --stdout {module}").quiet().output()?.stdout;
            fs::write(to.join(name), bytes).with_context(|| format!("failed to write the module {name}"))?;
            Ok(name.to_owned())
        }
        None => {
            sh.copy_file(module, to.join(&name))?;
            Ok(name)
        }
    }
}

/// The first process: what an init does, then the tests one by one, then the end.
fn write_init(tree: &Path, modules: &[String]) -> anyhow::Result<()> {
    let mut script = "export PATH=/bin\n\
        busybox mount -t proc proc /proc\n\
        busybox mount -t sysfs sysfs /sys\n\
        busybox mount -t devtmpfs devtmpfs /dev\n\
        busybox mount -t tmpfs tmpfs /run\n\
        busybox mount -t tmpfs tmpfs /tmp\n\
        busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
        busybox --install -s /bin\n"
        .to_owned();
    for module in modules {
        script.push_str(&format!("insmod /lib/modules/{module}\n"));
    }
    script.push_str(
        "ip link set lo up\n\
         export UNDERSTUDY_REQUIRE_BPF=1 UNDERSTUDY_BIN=/bin/understudy UNDERSTUDY_LAB_APP=/bin/understudy-lab-app\n\
         echo \"up after $(cut -d' ' -f1 /proc/uptime) s\"\n\
         understudy doctor\n",
    );
    for test in GROUPS.iter().flat_map(|group| group.tests) {
        script.push_str(&format!("e2e --color never --test-threads 1 --exact {test}\n"));
    }
    script.push_str("poweroff -f\n");
    write_script(tree, &script)
}

fn write_script(tree: &Path, script: &str) -> anyhow::Result<()> {
    let init = tree.join("init");
    fs::write(&init, format!("#!/bin/busybox sh\n{script}")).context("failed to write the first process")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("failed to make it a program")
}

/// The libraries that a program loads, the loader itself among them.
fn libraries_of(sh: &Shell, program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = cmd!(sh, "ldd {program}")
        .quiet()
        .read()
        .with_context(|| format!("{} is static", program.display()))?;
    ensure!(!listed.contains("not found"), "{} lacks libraries: {listed}", program.display());
    Ok(paths(&listed))
}

/// The paths in the output of ldd(1).
fn paths(listed: &str) -> Vec<PathBuf> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// Makes an archive as the kernel unpacks it (`Documentation/driver-api/early-userspace/buffer-format.rst`).
fn pack(sh: &Shell, tree: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    let _there = sh.push_dir(tree);
    let list = cmd!(sh, "find .").quiet().read()?;
    let archive =
        cmd!(sh, "cpio --create --format=newc --owner=0:0 --quiet").stdin(list).quiet().output()?.stdout;
    fs::write(to, archive).with_context(|| format!("failed to write {}", to.display()))?;
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_listed_and_the_vdso_is_not() {
        let listed = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(listed), expected);
    }
}
