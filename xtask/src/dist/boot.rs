//! The package under systemd: a Debian with the package in it is booted, and `booted.sh` tells what holds there. It types what the
//! guide says as well, word by word.
//!
//! Takes no claim for one that holds because nothing was there to refute it: what the container cannot show, a machine must.

mod container;
mod machine;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use xshell::{Shell, cmd};

use super::check::System;
use crate::root;

/// What the script said in one boot.
struct Boot {
    /// Where that was.
    place: String,
    /// A line for each claim: `ok CLAIM`, `FAILED CLAIM`, `unseen CLAIM`; then `end`.
    said: String,
    /// What the script and the service wrote besides.
    log: String,
}

const SCRIPT: &str = include_str!("booted.sh");

/// The page whose commands are typed.
const GUIDE: &str = "docs/guide.md";

/// Runs the script when everything else has started.
const UNIT: &str = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\n";

/// Installs the package in a copy of `base`, boots that, and reads what came of it; once more in a machine, where the container cannot
/// show everything. `next` is the version that it is upgraded to there.
///
/// # Errors
/// When it does not boot, a claim does not hold, or nobody saw whether it does; what the service wrote stands in the message.
pub(super) fn check(sh: &Shell, base: &Path, deb: &Path, next: &Path) -> anyhow::Result<()> {
    {
        let _in_root = sh.push_dir(root());
        cmd!(sh, "cargo build --quiet --package understudy-tests --bin understudy-lab-app").quiet().run()?;
    }
    let mut boots = vec![container::boot(&with_package(sh, base, deb, next)?)?];
    if boots.iter().any(|boot| boot.claims("unseen ").next().is_some()) {
        eprintln!("dist: this host's controllers are not those of cgroup v2");
        boots.push(machine::boot(&with_package(sh, base, deb, next)?)?);
    }
    for boot in &boots {
        eprintln!("dist: {} claims hold under systemd in {}", boot.claims("ok ").count(), boot.place);
    }
    for (claim, place) in seen_later(&boots) {
        eprintln!("dist: \"{claim}\" was seen in {place}");
    }
    judge(&boots)
}

/// A Debian with the package installed, and what the script takes.
fn with_package<'a>(sh: &'a Shell, base: &Path, deb: &Path, next: &Path) -> anyhow::Result<System<'a>> {
    let system = System::new(sh, base)?;
    system.copy_in(&root().join("target/debug/understudy-lab-app"), "usr/bin/understudy-lab-app")?;
    system.copy_in(deb, "srv/understudy.deb")?;
    system.copy_in(next, "srv/upgrade.deb")?;
    system.run(&["dpkg", "--install", "/srv/understudy.deb"])?;
    let script = system.folder.join("srv/booted.sh");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let guide = fs::read_to_string(root().join(GUIDE)).with_context(|| format!("failed to read {GUIDE}"))?;
    fs::create_dir(system.folder.join("srv/guide"))?;
    for (number, commands) in commands(&guide).enumerate() {
        fs::write(system.folder.join(format!("srv/guide/{number:02}.sh")), commands)?;
    }
    Ok(system)
}

/// Makes the system run the script when it is up. `lines` say which parts of it, and where its words go.
fn start_script(system: &System<'_>, lines: &str) -> anyhow::Result<()> {
    let units = system.folder.join("etc/systemd/system");
    fs::write(units.join("booted.service"), format!("{UNIT}{lines}"))?;
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    Ok(std::os::unix::fs::symlink("/etc/systemd/system/booted.service", wanted.join("booted.service"))?)
}

/// The blocks of a page that a shell is to run.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    page.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0))
}

/// The claims that one boot could not show and another did, with where that was.
fn seen_later(boots: &[Boot]) -> impl Iterator<Item = (&str, &str)> {
    boots.iter().flat_map(|boot| boot.claims("unseen ")).filter_map(|claim| {
        let boot = boots.iter().find(|boot| boot.claims("ok ").any(|seen| seen == claim))?;
        Some((claim, boot.place.as_str()))
    })
}

/// Each script came to its end, no claim failed, and each was seen to hold.
fn judge(boots: &[Boot]) -> anyhow::Result<()> {
    for boot in boots {
        let Boot { place, said, log } = boot;
        let failed: Vec<&str> = boot.claims("FAILED ").collect();
        ensure!(
            failed.is_empty(),
            "under systemd in {place} it is not so that: {}\n{said}{log}",
            failed.join("; ")
        );
        ensure!(
            said.lines().last() == Some("end"),
            "the script did not come to its end under systemd in {place}\n{said}{log}"
        );
        ensure!(boot.claims("ok ").next().is_some(), "the script claims nothing in {place}\n{said}{log}");
    }
    let later: BTreeSet<&str> = seen_later(boots).map(|(claim, _)| claim).collect();
    let all = boots.iter().flat_map(|boot| boot.claims("unseen "));
    let unseen: BTreeSet<&str> = all.filter(|claim| !later.contains(claim)).collect();
    ensure!(
        unseen.is_empty(),
        "nobody saw whether it is so that: {}. It takes a host whose controllers are those of cgroup v2 (boot it with \
         `systemd.unified_cgroup_hierarchy=1`), or a virtual machine (`cargo xtask setup` installs QEMU)",
        unseen.into_iter().collect::<Vec<_>>().join("; ")
    );
    Ok(())
}

// === impl Boot ===

impl Boot {
    /// The claims of which the script said this word.
    fn claims(&self, word: &str) -> impl Iterator<Item = &str> {
        self.said.lines().filter_map(move |line| line.strip_prefix(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_blocks_for_a_shell() {
        let page = "a\n```sh\nls\ncd\n```\nb\n```\noutput\n```\n```toml\nx = 1\n```\n```sh\npwd\n```\n";
        assert_eq!(commands(page).collect::<Vec<_>>(), ["ls\ncd\n", "pwd\n"]);
    }

    /// `expected` is a part of the error, where the package is not as it should be.
    #[track_caller]
    fn check(said: &[&str], expected: Result<(), &str>) {
        let boot = |said: &&str| Boot { place: "x".to_owned(), said: (*said).to_owned(), log: String::new() };
        let boots: Vec<Boot> = said.iter().map(boot).collect();
        match (judge(&boots), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{said:?}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_script_that_breaks_off_or_fails_proves_nothing() {
        check(&["ok a\nok b\nend\n"], Ok(()));
        check(&["ok a\nFAILED b\nend\n"], Err("it is not so that: b"));
        check(&["ok a\n"], Err("its end"));
        check(&["end\n"], Err("claims nothing"));
        check(&[""], Err("its end"));
        // A console ends lines with two characters.
        check(&["ok a\r\nend\r\n"], Ok(()));
    }

    #[test]
    fn a_claim_that_nobody_saw_is_a_failure() {
        check(&["ok a\nunseen b\nend\n"], Err("nobody saw whether it is so that: b."));
        check(&["ok a\nunseen b\nend\n", "ok a\nok b\nend\n"], Ok(()));
        check(&["ok a\nunseen b\nend\n", "ok a\nend\n"], Err("whether it is so that: b."));
        check(&["ok a\nunseen b\nend\n", "ok a\nunseen b\nend\n"], Err("cargo xtask setup"));
        check(&["ok a\nunseen b\nend\n", "ok a\nFAILED b\nend\n"], Err("it is not so that: b"));
        check(&["ok a\nunseen b\nend\n", "ok a\nok b\n"], Err("its end"));
    }
}
