//! `cargo xtask setup`: finds the tools that the probe, the demo and the tests need, and installs what is missing.
//!
//! Installs nothing without saying so first, prefers what the user already has, and changes no state of rustup.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use crate::root;

const BPF_LINKER_VERSION: &str = "0.13.0";
/// The oldest compiler that builds the probe: `rust-version` of the workspace.
const RUSTC_MINOR_MIN: u32 = 95;
/// Where distributions install their compiler. A rustup proxy of the same name may come first on the PATH.
const DISTRO_RUSTC: &str = "/usr/bin/rustc";
const DISTRO_CARGO: &str = "/usr/bin/cargo";

/// Compiler, cargo and library source as Debian and Ubuntu package them, the newer line first.
const COMPILER_PACKAGES: [[&str; 3]; 2] =
    [["rustc-web", "cargo-web", "rust-web-src"], ["rustc", "cargo", "rust-src"]];

/// Programs that the demo and the tests run, with the package that holds each.
const PROGRAMS: [(&str, &str); 16] = [
    // libFuzzer is C++.
    ("c++", "g++"),
    ("nginx", "nginx-light"),
    ("ip", "iproute2"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("curl", "curl"),
    ("redis-server", "redis-server"),
    ("redis-sentinel", "redis-sentinel"),
    ("openssl", "openssl"),
    ("faketime", "faketime"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    // A package is checked in a Debian of its own, which is booted in a container.
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("lintian", "lintian"),
];

/// Programs that boot kernels in virtual machines, with the package that holds each.
const MACHINE_PROGRAMS: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mke2fs", "e2fsprogs"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
    ("ip", "iproute2"),
];

/// What builds the probe.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The cargo that belongs to `rustc`.
    pub(crate) cargo: PathBuf,
    /// A compiler with the source of its own standard library.
    pub(crate) rustc: PathBuf,
    /// The folder of a `bpf-linker` that understands this compiler's bitcode.
    pub(crate) linker_folder: PathBuf,
    /// Major version of the compiler's LLVM.
    pub(crate) llvm_major: u32,
}

/// Something is missing that this process may not install; says how to get it.
#[derive(Debug)]
pub(crate) struct Missing(String);

/// Keeps Debian from starting a service when its package is installed (invoke-rc.d(8)), until it is dropped.
struct NoServiceStart<'a> {
    sh: &'a Shell,
    created: bool,
}

/// What `rustc -vV` says.
#[derive(Debug, PartialEq, Eq)]
struct CompilerVersion {
    minor: u32,
    llvm_major: u32,
}

/// Finds or installs everything: the probe's toolchain, then the programs of the demo and the tests.
pub(crate) fn run() -> anyhow::Result<()> {
    let sh = Shell::new()?;
    let toolchain = toolchain(&sh)?;
    eprintln!(
        "setup: the probe is built by {} (LLVM {}) and {}",
        toolchain.rustc.display(),
        toolchain.llvm_major,
        toolchain.linker_folder.join("bpf-linker").display()
    );
    programs(&sh, &PROGRAMS, "the programs that the demo and the tests run")?;
    if !accounts_for_services() {
        eprintln!(
            "setup: without the controllers of cgroup v2, the package is checked in a virtual machine as well"
        );
        machines(&sh)?;
    }
    eprintln!("setup: everything is there");
    Ok(())
}

/// Finds or installs what builds the probe.
///
/// # Errors
/// [`Missing`] when that takes rights or a network that this process does not have.
pub(crate) fn toolchain(sh: &Shell) -> anyhow::Result<Toolchain> {
    if let Some(toolchain) = nightly(sh) {
        return Ok(toolchain);
    }
    let version = distro_compiler(sh)?;
    let linker_folder = bpf_linker(sh, version.llvm_major)?;
    Ok(Toolchain {
        cargo: DISTRO_CARGO.into(),
        rustc: DISTRO_RUSTC.into(),
        linker_folder,
        llvm_major: version.llvm_major,
    })
}

/// Finds or installs what boots kernels in virtual machines.
///
/// # Errors
/// As [`toolchain`].
pub(crate) fn machines(sh: &Shell) -> anyhow::Result<()> {
    programs(sh, &MACHINE_PROGRAMS, "the programs that boot kernels in virtual machines")
}

/// Whether the memory and the CPU time of services are accounted for by cgroup v2 here, so that a container shows what the
/// ceilings of a unit do.
fn accounts_for_services() -> bool {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

/// Finds or installs programs.
fn programs(sh: &Shell, wanted: &[(&str, &'static str)], purpose: &str) -> anyhow::Result<()> {
    let mut missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| find(sh, program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    install(sh, &missing, purpose)
}

/// The user's own nightly with the component `rust-src`, where a `bpf-linker` is on the PATH as well that can read what
/// this nightly's LLVM writes.
fn nightly(sh: &Shell) -> Option<Toolchain> {
    let linker = find(sh, "bpf-linker")?;
    let linker_folder = linker.parent()?.to_owned();
    let linker_llvm =
        linked_llvm(&cmd!(sh, "ldd {linker}").quiet().ignore_stderr().read().unwrap_or_default());
    let toolchains = cmd!(sh, "rustup toolchain list").quiet().ignore_stderr().read().ok()?;
    toolchains.lines().filter_map(|line| line.split_whitespace().next()).find_map(|name| {
        let is_nightly = name.starts_with("nightly");
        let rustc = is_nightly.then(|| {
            cmd!(sh, "rustup which --toolchain {name} rustc").quiet().ignore_stderr().read().ok()
        })??;
        let rustc = PathBuf::from(rustc);
        let version = compiler_version(sh, &rustc)?;
        if linker_llvm.is_some_and(|linker| linker < version.llvm_major) {
            return None;
        }
        Some(Toolchain {
            cargo: rustc.with_file_name("cargo"),
            linker_folder: linker_folder.clone(),
            llvm_major: version.llvm_major,
            rustc,
        })
    })
}

/// The major version of the LLVM library among those that `ldd` lists; none for a linker that holds its own LLVM, as those
/// of `cargo binstall` do.
fn linked_llvm(libraries: &str) -> Option<u32> {
    let (_, version) = libraries.split_once("libLLVM.so.").or_else(|| libraries.split_once("libLLVM-"))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The distribution's compiler with its source, installed when it is not there.
fn distro_compiler(sh: &Shell) -> anyhow::Result<CompilerVersion> {
    let installed = || -> Option<CompilerVersion> {
        Path::new(DISTRO_CARGO).exists().then(|| compiler_version(sh, Path::new(DISTRO_RUSTC)))?
    };
    if let Some(version) = installed() {
        return Ok(version);
    }
    let packages = compiler_packages(sh).or_else(|| {
        // A fresh image has no package lists, an old one has stale ones.
        update_package_lists(sh).then(|| compiler_packages(sh))?
    });
    let packages = packages.ok_or_else(|| {
        Missing(format!(
            "The probe needs a compiler for eBPF: a Rust of 1.{RUSTC_MINOR_MIN} or later with the source of its \
             own standard library, and bpf-linker. With rustup: `rustup toolchain install nightly --component \
             rust-src`, then `cargo binstall bpf-linker`. This system's package manager offers neither (looked \
             for rustc-web and rustc with apt-cache). Everything but the probe builds without."
        ))
    })?;
    install(sh, &packages, "the compiler of the probe")?;
    installed().with_context(|| {
        format!("{DISTRO_RUSTC} is not a Rust of 1.{RUSTC_MINOR_MIN} or later with its library source")
    })
}

/// The first package line whose compiler is new enough.
fn compiler_packages(sh: &Shell) -> Option<[&'static str; 3]> {
    let new_enough = |packages: &&[&'static str; 3]| {
        let [rustc, ..] = packages;
        cmd!(sh, "apt-cache policy {rustc}")
            .quiet()
            .ignore_stderr()
            .read()
            .ok()
            .and_then(|policy| candidate_minor(&policy))
            .is_some_and(|minor| minor >= RUSTC_MINOR_MIN)
    };
    COMPILER_PACKAGES.iter().find(new_enough).copied()
}

/// A `bpf-linker` that links this compiler's bitcode: one on the PATH, or our own, built when it is not there.
fn bpf_linker(sh: &Shell, llvm_major: u32) -> anyhow::Result<PathBuf> {
    let tools = root().join("target/tools");
    let own = tools.join("bin/bpf-linker");
    let usable = |linker: &Path| {
        let libraries = cmd!(sh, "ldd {linker}").quiet().ignore_stderr().read().unwrap_or_default();
        libraries.contains(&format!("libLLVM.so.{llvm_major}"))
            && cmd!(sh, "{linker} --version").quiet().ignore_stdout().ignore_stderr().run().is_ok()
    };
    if let Some(linker) = find(sh, "bpf-linker").into_iter().chain([own]).find(|linker| usable(linker)) {
        return Ok(linker.parent().unwrap_or(&tools).to_owned());
    }

    let llvm = format!("llvm-{llvm_major}-dev");
    let needed = [llvm.as_str(), "libzstd-dev", "zlib1g-dev"];
    let missing: Vec<&str> =
        needed.into_iter().filter(|package| !package_is_installed(sh, package)).collect();
    install(sh, &missing, "the libraries of bpf-linker")?;

    let config = format!("llvm-config-{llvm_major}");
    let prefix = cmd!(sh, "{config} --prefix").quiet().read()?;
    let libraries = cmd!(sh, "{config} --libdir").quiet().read()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let feature = format!("llvm-{llvm_major}");
    eprintln!(
        "setup: building bpf-linker {BPF_LINKER_VERSION} against LLVM {llvm_major} into {} (about a minute)",
        tools.display()
    );
    // The plain name of the feature would find another LLVM first, and `-lLLVM` another library at run time.
    cmd!(
        sh,
        "{cargo} install bpf-linker --version {BPF_LINKER_VERSION} --locked --force --no-default-features"
    )
    .args(["--features", &feature, "--root"])
    .arg(&tools)
    .env("LLVM_PREFIX", prefix)
    .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{libraries}"))
    // The work is LLVM's: a slower build of the linker itself links no slower.
    .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
    .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
    .env_remove("CARGO_TARGET_DIR")
    .quiet()
    .run()
    .context("failed to build bpf-linker")?;
    Ok(tools.join("bin"))
}

/// Installs Debian packages as root, after saying so.
fn install(sh: &Shell, packages: &[&str], purpose: &str) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if find(sh, "apt-get").is_none() {
        bail!(Missing(format!("Missing are {purpose}; Debian's packages of them are: {list}.")));
    }
    if !is_root(sh) {
        bail!(Missing(format!(
            "Missing are {purpose}. This needs root: `apt-get install --no-install-recommends {list}`, then run \
             `cargo xtask setup` again."
        )));
    }
    eprintln!("setup: installing {purpose}: {list}");
    let _no_start = NoServiceStart::new(sh)?;
    let apt = || {
        cmd!(sh, "apt-get install --yes --quiet --quiet --no-install-recommends {packages...}")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .quiet()
            .ignore_stdout()
            .run()
    };
    if apt().is_err() {
        update_package_lists(sh);
        apt().with_context(|| format!("failed to install {list}"))?;
    }
    Ok(())
}

/// Fetches Debian's package lists; false where this process may not, or could not.
pub(crate) fn update_package_lists(sh: &Shell) -> bool {
    if find(sh, "apt-get").is_none() || !is_root(sh) {
        return false;
    }
    eprintln!("setup: updating the package lists");
    cmd!(sh, "apt-get update --quiet --quiet").quiet().run().is_ok()
}

fn is_root(sh: &Shell) -> bool {
    cmd!(sh, "id -u").quiet().read().is_ok_and(|id| id == "0")
}

/// What a compiler says of itself; `None` unless it is new enough and has the source of its library.
fn compiler_version(sh: &Shell, rustc: &Path) -> Option<CompilerVersion> {
    if !rustc.exists() {
        return None;
    }
    let sysroot = cmd!(sh, "{rustc} --print sysroot").quiet().ignore_stderr().read().ok()?;
    if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
        return None;
    }
    let version = parse_version(&cmd!(sh, "{rustc} -vV").quiet().ignore_stderr().read().ok()?)?;
    (version.minor >= RUSTC_MINOR_MIN).then_some(version)
}

/// Reads `release:` and `LLVM version:` from the output of `rustc -vV`.
fn parse_version(verbose: &str) -> Option<CompilerVersion> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(CompilerVersion {
        minor: minor(field("release:")?)?,
        llvm_major: field("LLVM version:")?.split('.').next()?.parse().ok()?,
    })
}

/// The minor version of the candidate in the output of `apt-cache policy`.
fn candidate_minor(policy: &str) -> Option<u32> {
    minor(policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim())
}

/// `95` of `1.95.0-nightly` and of `1.95.0+dfsg1-1`; `None` when the major version is not 1.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

fn package_is_installed(sh: &Shell, package: &str) -> bool {
    cmd!(sh, "dpkg-query --show --showformat")
        .args(["${db:Status-Status}", package])
        .quiet()
        .ignore_stderr()
        .read()
        .is_ok_and(|status| status == "installed")
}

/// Where a program is. Debian keeps some outside the PATH of an ordinary user.
fn find(sh: &Shell, program: &str) -> Option<PathBuf> {
    let path = sh.var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

// === impl Missing ===

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(paragraph) = self;
        f.write_str(paragraph)
    }
}

impl std::error::Error for Missing {}

// === impl NoServiceStart ===

impl<'a> NoServiceStart<'a> {
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn new(sh: &'a Shell) -> anyhow::Result<Self> {
        let created = !sh.path_exists(Self::POLICY);
        if created {
            sh.write_file(Self::POLICY, "#!/bin/sh\nexit 101\n")?;
            cmd!(sh, "chmod 755").arg(Self::POLICY).quiet().run()?;
        }
        Ok(Self { sh, created })
    }
}

impl Drop for NoServiceStart<'_> {
    fn drop(&mut self) {
        if self.created && self.sh.remove_path(Self::POLICY).is_err() {
            eprintln!("setup: failed to remove {}", Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_version(verbose: &str, expected: Option<(u32, u32)>) {
        let expected = expected.map(|(minor, llvm_major)| CompilerVersion { minor, llvm_major });
        assert_eq!(parse_version(verbose), expected);
    }

    #[test]
    fn reads_what_a_compiler_says_of_itself() {
        check_version("rustc 1.96.0 (ac68faa20)\nrelease: 1.96.0\nLLVM version: 22.1.8", Some((96, 22)));
        check_version("release: 1.98.0-nightly\nLLVM version: 23.0", Some((98, 23)));
        check_version("release: 1.96.0", None);
        check_version("release: 2.0.0\nLLVM version: 30.1", None);
    }

    #[track_caller]
    fn check_candidate(policy: &str, expected: Option<u32>) {
        assert_eq!(candidate_minor(policy), expected);
    }

    #[test]
    fn reads_the_candidate_of_a_package() {
        check_candidate("rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n", Some(96));
        check_candidate("rustc:\n  Candidate: 1.63.0+dfsg1-2\n", Some(63));
        check_candidate("rustc:\n  Candidate: (none)\n", None);
        check_candidate("", None);
    }

    #[test]
    fn a_linker_names_its_llvm() {
        let check = |libraries, expected| assert_eq!(linked_llvm(libraries), expected, "{libraries}");
        check("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x00007f8d5f800000)\n", Some(22));
        check("\tlibLLVM-19.so.1 => /usr/lib/libLLVM-19.so.1 (0x0)\n", Some(19));
        check("\tlibc.so.6 => /lib/libc.so.6 (0x0)\n", None);
        check("\tstatically linked\n", None);
    }
}
