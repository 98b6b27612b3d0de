//! Kernels of the distribution: which there are, and their packages unpacked.
//!
//! Installs none; what a package would run when it is installed does not run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use xshell::{Shell, cmd};

use super::folder;
use crate::setup;

/// A kernel of the distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its package.
    pub(crate) package: String,
    /// What `uname -r` says.
    pub(crate) release: String,
}

/// Packages with kernels for virtual machines, which have few drivers and are small.
const PACKAGES: &str = "^linux-image-[0-9].*-cloud-amd64$";

// === impl Kernel ===

impl Kernel {
    fn of_package(package: &str) -> Option<Self> {
        let release = package.strip_prefix("linux-image-")?;
        // Packages without a patch level only name another package.
        (version(release).len() > 3)
            .then(|| Self { package: package.to_owned(), release: release.to_owned() })
    }

    /// The kernels that were asked for: the newest whose version begins so; without any, the newest of each line, the oldest
    /// line first.
    ///
    /// # Errors
    /// When the distribution has none of them.
    pub(crate) fn choose(sh: &Shell, asked: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut there = all(sh)?;
        if there.is_empty() {
            setup::update_package_lists(sh);
            there = all(sh)?;
        }
        ensure!(
            !there.is_empty(),
            "apt-cache knows no kernel of the form {PACKAGES}; this needs Debian on x86-64"
        );
        if asked.is_empty() {
            return Ok(newest_of_each_line(&there));
        }
        let newest = |beginning: &String| {
            let fits = |kernel: &&Self| begins_with(&kernel.release, beginning);
            let newest = there.iter().filter(fits).max_by_key(|kernel| version(&kernel.release)).cloned();
            newest.with_context(|| {
                let releases: Vec<&str> = there.iter().map(|kernel| kernel.release.as_str()).collect();
                format!("no kernel `{beginning}`; there are: {}", releases.join(", "))
            })
        };
        asked.iter().map(newest).collect()
    }

    /// Fetches and unpacks the package, unless it is there.
    ///
    /// # Errors
    /// When the distribution does not give it.
    pub(crate) fn fetch(&self, sh: &Shell) -> anyhow::Result<()> {
        if self.image().is_file() {
            return Ok(());
        }
        let packages = folder().join("packages");
        sh.create_dir(&packages)?;
        eprintln!("vm: fetching {}", self.package);
        let package = &self.package;
        let before = debs(&packages, package)?;
        if before.is_empty() {
            let _there = sh.push_dir(&packages);
            cmd!(sh, "apt-get download --quiet --quiet {package}").quiet().ignore_stderr().run()?;
        }
        let [deb] = &debs(&packages, package)?[..] else {
            bail!("{} does not hold one package {package}", packages.display());
        };
        let files = self.files();
        sh.create_dir(&files)?;
        cmd!(sh, "dpkg-deb --extract {deb} {files}").quiet().run()?;
        let release = &self.release;
        cmd!(sh, "depmod --basedir {files} {release}").quiet().run()?;
        Ok(())
    }

    /// Where the package is unpacked.
    fn files(&self) -> PathBuf {
        folder().join(&self.package)
    }

    /// The bootable image in the package's files.
    pub(super) fn image(&self) -> PathBuf {
        self.files().join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The files of these modules and of all that they need, each before those that need it.
    pub(super) fn modules(&self, wanted: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.files().join("lib/modules").join(&self.release);
        let list = folder.join("modules.dep");
        let list = fs::read_to_string(&list).with_context(|| format!("failed to read {}", list.display()))?;
        Ok(in_order(&list, wanted).into_iter().map(|module| folder.join(module)).collect())
    }
}

fn all(sh: &Shell) -> anyhow::Result<Vec<Kernel>> {
    let lines = cmd!(sh, "apt-cache search --names-only {PACKAGES}").quiet().read()?;
    Ok(lines.lines().filter_map(|line| Kernel::of_package(line.split_whitespace().next()?)).collect())
}

fn newest_of_each_line(there: &[Kernel]) -> Vec<Kernel> {
    let mut lines: BTreeMap<Vec<u64>, &Kernel> = BTreeMap::new();
    for kernel in there {
        let line = version(&kernel.release).into_iter().take(2).collect();
        let newest = lines.entry(line).or_insert(kernel);
        if version(&kernel.release) > version(&newest.release) {
            *newest = kernel;
        }
    }
    lines.into_values().cloned().collect()
}

/// Whether a release begins with these numbers: 6.1.0-47 with 6.1, and 6.12.0 not.
fn begins_with(release: &str, beginning: &str) -> bool {
    release.strip_prefix(beginning).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// All numbers of a release, in order.
fn version(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Modules by the lines of `modules.dep` (modules.dep(5)): what one needs stands behind it, what is needed first comes
/// last. A name that has no line is built into the kernel, or the tests that need it say so.
fn in_order<'a>(list: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    let mut modules = Vec::new();
    for name in wanted {
        let is_it = |line: &&str| {
            let file = line.split(':').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            file.split('.').next() == Some(name)
        };
        let Some((module, needs)) = list.lines().find(is_it).and_then(|line| line.split_once(':')) else {
            continue;
        };
        for module in needs.split_whitespace().rev().chain([module]) {
            if !modules.contains(&module) {
                modules.push(module);
            }
        }
    }
    modules
}

fn debs(folder: &Path, package: &str) -> anyhow::Result<Vec<PathBuf>> {
    let beginning = format!("{package}_");
    let files = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    let names = files.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(names
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels(packages: &[&str]) -> Vec<Kernel> {
        packages.iter().filter_map(|package| Kernel::of_package(package)).collect()
    }

    #[test]
    fn the_newest_of_each_line_is_taken() {
        let there = kernels(&[
            "linux-image-6.12.101+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
        ]);
        let newest = newest_of_each_line(&there);
        let releases: Vec<&str> = newest.iter().map(|kernel| kernel.release.as_str()).collect();
        assert_eq!(releases, ["6.1.0-56-cloud-amd64", "6.12.101+deb12-cloud-amd64"]);
    }

    #[test]
    fn a_version_is_not_the_beginning_of_a_longer_number() {
        assert!(begins_with("6.1.0-56-cloud-amd64", "6.1"));
        assert!(!begins_with("6.12.101+deb12-cloud-amd64", "6.1"));
    }

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let list = "kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko\n\
                    kernel/net/802/stp.ko: kernel/net/llc/llc.ko\nkernel/net/llc/llc.ko:\n\
                    kernel/drivers/net/veth.ko.xz:\n";
        let found = in_order(list, &["veth", "bridge", "stp", "absent"]);
        let expected = ["drivers/net/veth.ko.xz", "net/llc/llc.ko", "net/802/stp.ko", "net/bridge/bridge.ko"];
        assert_eq!(found, expected.map(|file| format!("kernel/{file}")));
    }
}
