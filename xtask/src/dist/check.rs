//! The package at work: installed, upgraded, removed and purged in a Debian 12 of its own, with nothing else in it.
//!
//! Touches no file of the host outside `target`, and leaves no process behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use understudy_tests::prereq::{self, KERNEL, Prerequisite};
use xshell::{Shell, cmd};

use super::debian::{self, Package};
use super::{Made, VERSION, boot, source_time, units};
use crate::root;

/// A Debian in a folder, for one check.
pub(super) struct System<'a> {
    pub(super) sh: &'a Shell,
    pub(super) folder: PathBuf,
}

/// Debian's release, and what it has besides the essential packages: something to boot, what a fleet shares, and what
/// the guide takes.
const RELEASE: &str = "bookworm";
const INCLUDED: &str = "systemd,systemd-sysv,dbus,redis-server,nginx-light,curl";

const CONFIG: &str = "etc/understudy/understudy.toml";
const CHANGED: &str = "# The administrator was here.\n";
const INSTANCE: &str = "etc/understudy/conf.d/8080.toml";
const STATE: &str = "var/lib/private/understudy/8080/understudy.db";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/understudy@8080.service";
const SECRET: &str = "etc/credstore/understudy.redis";

/// What lintian may find: an address that is none, because there is none; scripts that ask systemctl, since no helper of
/// Debian's knows which instances of a unit run.
const LINTIAN_MAY_FIND: &str =
    "bogus-mail-host,bogus-mail-host-in-debian-changelog,maintainer-script-calls-systemctl";

/// What is missing for these checks, if something is.
pub(super) fn missing() -> Option<String> {
    let tools = ["debootstrap", "systemd-nspawn", "dpkg-deb", "strip"].map(Prerequisite::Tool);
    prereq::missing(&[KERNEL, &tools].concat())
}

/// Checks the package.
///
/// # Errors
/// When something is missing, or a claim does not hold.
pub(super) fn run(made: &Made) -> anyhow::Result<()> {
    if let Some(reason) = missing() {
        bail!(
            "the package cannot be checked here: {reason}; `cargo xtask setup` installs what can be installed"
        );
    }
    let sh = Shell::new()?;
    lintian(&sh, &made.deb)?;
    let next = upgrade(&sh, made, "1", None)?;
    let other = format!("{CHANGED}# Of the package.\n");
    let after = upgrade(&sh, made, "2", Some(other.as_bytes()))?;
    let system = System::new(&sh, &base(&sh)?)?;
    eprintln!("dist: installing, upgrading, removing, purging");
    system.install(made)?;
    units::check(&system)?;
    system.upgrade(&next, &after)?;
    system.remove()?;
    system.purge()?;
    drop(system);
    boot::check(&sh, &base(&sh)?, &made.deb, &next)
}

/// The same package as a later version.
fn upgrade(sh: &Shell, made: &Made, number: &str, config: Option<&[u8]>) -> anyhow::Result<PathBuf> {
    let Made { files, depends, architecture, deb: _ } = made;
    let files = files.clone();
    let files = if let Some(config) = config { files.with(CONFIG, config)? } else { files };
    let folder = root().join("target/dist-check");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("upgrade{number}.deb"));
    let version = format!("{}+{number}", debian::version(VERSION));
    // Read once, here.
    Package { version, architecture, depends: depends.clone(), files: &files, compression: "none" }.write(
        sh,
        &path,
        source_time(sh)?,
    )?;
    Ok(path)
}

/// What Debian's own checker says, where it is installed.
fn lintian(sh: &Shell, deb: &Path) -> anyhow::Result<()> {
    if cmd!(sh, "lintian --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        eprintln!("dist: lintian is not there, and the package not checked by it");
        return Ok(());
    }
    cmd!(sh, "lintian --allow-root --fail-on error,warning --suppress-tags {LINTIAN_MAY_FIND} {deb}")
        .quiet()
        .run()
        .context("lintian found errors in the package")
}

/// A Debian as debootstrap makes it; kept for the next time.
fn base(sh: &Shell) -> anyhow::Result<PathBuf> {
    // One that was made with other packages is another one.
    let name = format!("{RELEASE}-{}", INCLUDED.replace(',', "-"));
    let base = root().join("target/dist-check").join(name);
    if base.is_dir() {
        return Ok(base);
    }
    let partial = base.with_extension("partial");
    sh.remove_path(&partial)?;
    eprintln!("dist: making a Debian {RELEASE} in {} (a minute or two)", base.display());
    let include = format!("--include={INCLUDED}");
    cmd!(sh, "debootstrap --variant=minbase {include} {RELEASE} {partial}")
        .quiet()
        .ignore_stdout()
        .run()
        .context("failed to make a Debian; debootstrap needs the network")?;
    fs::rename(&partial, &base)?;
    Ok(base)
}

// === impl System ===

impl<'a> System<'a> {
    /// A copy of `base`, removed on drop.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn new(sh: &'a Shell, base: &Path) -> anyhow::Result<Self> {
        let folder = base.with_extension("system");
        remove(&folder)?;
        cmd!(sh, "cp --archive --reflink=auto {base} {folder}").quiet().run().context("failed to copy")?;
        Ok(Self { sh, folder })
    }

    /// Runs a program in it, without systemd, and gives what it wrote.
    ///
    /// # Errors
    /// When it fails; the message holds what it wrote.
    pub(super) fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        let Self { sh, folder } = self;
        let output = cmd!(
            sh,
            "systemd-nspawn --quiet --directory={folder} --as-pid2 --pipe --keep-unit --register=no --private-network {command...}"
        )
        .env("DEBIAN_FRONTEND", "noninteractive")
        .quiet()
        .ignore_status()
        .output()?;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.concat();
        // What the container's launcher itself has to say about a host that systemd did not start.
        let own = |line: &&str| !line.contains("/run/systemd/nspawn/");
        let text: String = text.lines().filter(own).map(|line| format!("{line}\n")).collect();
        ensure!(output.status.success(), "`{}` failed: {text}", command.join(" "));
        Ok(text)
    }

    /// Puts a file into it.
    pub(super) fn copy_in(&self, from: &Path, to: &str) -> anyhow::Result<()> {
        fs::copy(from, self.folder.join(to)).with_context(|| format!("failed to copy {}", from.display()))?;
        Ok(())
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.folder.join(path.trim_start_matches('/'))).is_ok()
    }

    fn read(&self, path: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.folder.join(path)).with_context(|| format!("failed to read {path}"))
    }

    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    fn install(&self, made: &Made) -> anyhow::Result<()> {
        self.copy_in(&made.deb, "srv/understudy.deb")?;
        self.run(&["dpkg", "--install", "/srv/understudy.deb"])?;
        for path in made.files.package_paths() {
            // Images for containers leave documents out (dpkg.cfg, path-exclude); this one does not.
            ensure!(self.has(&path), "{path} is not there after the installation");
        }
        let version = self.run(&["understudy", "--version"])?;
        ensure!(version.trim() == format!("understudy {VERSION}"), "it says it is {version}");
        for (example, instance) in
            [("capture.toml", None), ("replay.toml", None), ("understudy.toml", Some("8080"))]
        {
            let path = format!("/usr/share/doc/understudy/examples/{example}");
            match instance {
                Some(name) => {
                    let own = "/usr/share/doc/understudy/examples/instance.toml";
                    self.run(&["cp", own, &format!("/etc/understudy/conf.d/{name}.toml")])?;
                    let host = format!("/{CONFIG}");
                    self.run(&["understudy", "config", "check", "--config", &host, "--instance", name])?;
                }
                None => drop(self.run(&["understudy", "config", "check", &path])?),
            }
        }
        self.run(&["bash", "-n", "/usr/share/bash-completion/completions/understudy"])?;
        ensure!(!self.has(WANTED), "the installation enables something");
        let verified = self.run(&["dpkg", "--verify", "understudy"])?;
        ensure!(verified.is_empty(), "installed files differ from those of the package: {verified}");
        // What an administrator does next.
        self.write(CONFIG, CHANGED)?;
        self.write(STATE, "results")?;
        self.write(SECRET, "password = \"x\"")?;
        self.run(&["systemctl", "enable", "--quiet", "understudy@8080.service"])?;
        ensure!(self.has(WANTED), "an instance cannot be enabled");
        Ok(())
    }

    fn upgrade(&self, next: &Path, after: &Path) -> anyhow::Result<()> {
        let kept = |which: &str| -> anyhow::Result<()> {
            ensure!(self.read(CONFIG)? == CHANGED, "{which} changes what the administrator wrote");
            for path in [INSTANCE, STATE, WANTED, SECRET] {
                ensure!(self.has(path), "{which} takes {path} away");
            }
            Ok(())
        };
        self.copy_in(next, "srv/next.deb")?;
        self.run(&["dpkg", "--install", "/srv/next.deb"])?;
        kept("an upgrade")?;
        ensure!(
            !self.has(&format!("{CONFIG}.dpkg-dist")),
            "an upgrade asks though the package's file is the same"
        );
        // With another default of the package, dpkg asks; the answer of who is not there is to keep the old one.
        self.copy_in(after, "srv/after.deb")?;
        self.run(&["dpkg", "--force-confdef", "--force-confold", "--install", "/srv/after.deb"])?;
        kept("an upgrade with another default")?;
        ensure!(self.has(&format!("{CONFIG}.dpkg-dist")), "the new default is not beside the old one");
        Ok(())
    }

    fn remove(&self) -> anyhow::Result<()> {
        self.run(&["dpkg", "--remove", "understudy"])?;
        ensure!(!self.has("usr/bin/understudy"), "the program is there after the removal");
        ensure!(self.read(CONFIG)? == CHANGED, "the removal takes the configuration away");
        for path in [INSTANCE, STATE] {
            ensure!(self.has(path), "the removal takes {path} away");
        }
        Ok(())
    }

    fn purge(&self) -> anyhow::Result<()> {
        self.run(&["dpkg", "--purge", "understudy"])?;
        let find = ["find", "/etc", "/usr", "/var", "/run", "-name", "*understudy*"];
        let left = self.run(&find)?;
        ensure!(left.is_empty(), "purged, and still there: {left}");
        Ok(())
    }
}

impl Drop for System<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.folder) {
            eprintln!("dist: {error:#}");
        }
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    Ok(())
}
