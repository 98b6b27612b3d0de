//! The package under systemd: a Debian with the package in it is booted in a container, and `booted.sh` tells what holds there.
//! It types what the guide says as well, word by word.
//!
//! The container has a network of its own, and ends when the script does or its time is over.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use xshell::cmd;

use super::check::System;
use crate::root;

const SCRIPT: &str = include_str!("booted.sh");

/// The page whose commands are typed.
const GUIDE: &str = "docs/guide.md";

/// Runs the script when everything else has started.
const UNIT: &str = "[Unit]\nAfter=multi-user.target\n\
                    [Service]\nType=oneshot\nExecStart=/srv/booted.sh\n\
                    StandardOutput=file:/srv/booted.txt\nStandardError=file:/srv/errors.txt\n";

/// The longest time that all of it may take, in seconds: the watchdog alone waits for 30.
const BOOT_SECONDS_MAX: &str = "600";

/// Installs the package, boots, and reads what came of it. `next` is the version that it is upgraded to there.
///
/// # Errors
/// When it does not boot, or a claim does not hold; what the service wrote stands in the message.
pub(super) fn check(system: &System<'_>, deb: &Path, next: &Path) -> anyhow::Result<()> {
    let System { sh, folder } = system;
    {
        let _in_root = sh.push_dir(root());
        cmd!(sh, "cargo build --quiet --package understudy-tests --bin understudy-lab-app").quiet().run()?;
    }
    system.copy_in(&root().join("target/debug/understudy-lab-app"), "usr/bin/understudy-lab-app")?;
    system.copy_in(deb, "srv/understudy.deb")?;
    system.copy_in(next, "srv/upgrade.deb")?;
    system.run(&["dpkg", "--install", "/srv/understudy.deb"])?;
    let script = folder.join("srv/booted.sh");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let guide = fs::read_to_string(root().join(GUIDE)).with_context(|| format!("failed to read {GUIDE}"))?;
    fs::create_dir(folder.join("srv/guide"))?;
    for (number, commands) in commands(&guide).enumerate() {
        fs::write(folder.join(format!("srv/guide/{number:02}.sh")), commands)?;
    }
    fs::write(folder.join("etc/systemd/system/booted.service"), UNIT)?;
    let wanted = folder.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    std::os::unix::fs::symlink("/etc/systemd/system/booted.service", wanted.join("booted.service"))?;

    eprintln!("dist: booting systemd with the package in it (a minute or two)");
    // All capabilities and two more system calls, because the service is to load a probe; it drops what it does not need.
    cmd!(
        sh,
        "timeout --kill-after=5 {BOOT_SECONDS_MAX} systemd-nspawn --quiet --directory={folder} --boot --keep-unit --register=no --private-network --capability=all --console=pipe"
    )
    .arg("--system-call-filter=bpf perf_event_open")
    .quiet()
    .ignore_status()
    .ignore_stdout()
    .ignore_stderr()
    .run()?;
    let read = |name: &str| fs::read_to_string(folder.join("srv").join(name)).unwrap_or_default();
    let said = read("booted.txt");
    judge(&said).with_context(|| format!("{said}{}{}", read("errors.txt"), read("journal.txt")))?;
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    eprintln!("dist: {} claims hold under systemd", count("ok "));
    if count("unseen ") > 0 {
        let unseen: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("unseen ")).collect();
        eprintln!(
            "dist: not seen on this host, whose controllers are those of cgroup v1: {}",
            unseen.join("; ")
        );
    }
    Ok(())
}

/// The blocks of a page that a shell is to run.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    page.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0))
}

/// Every claim holds, and the script came to its end.
fn judge(said: &str) -> anyhow::Result<()> {
    let failed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("FAILED ")).collect();
    ensure!(failed.is_empty(), "under systemd it is not so that: {}", failed.join("; "));
    ensure!(said.lines().last() == Some("end"), "the script did not come to its end under systemd");
    ensure!(said.lines().any(|line| line.starts_with("ok ")), "the script claims nothing");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_blocks_for_a_shell() {
        let page = "a\n```sh\nls\ncd\n```\nb\n```\noutput\n```\n```toml\nx = 1\n```\n```sh\npwd\n```\n";
        assert_eq!(commands(page).collect::<Vec<_>>(), ["ls\ncd\n", "pwd\n"]);
    }

    #[test]
    fn a_script_that_breaks_off_or_fails_proves_nothing() {
        let check = |said: &str, holds: bool| assert_eq!(judge(said).is_ok(), holds, "{said}");
        check("ok a\nok b\nend\n", true);
        check("ok a\nFAILED b\nend\n", false);
        check("ok a\n", false);
        check("end\n", false);
        check("unseen a\nend\n", false);
        check("ok a\nunseen b\nend\n", true);
        check("", false);
    }
}
