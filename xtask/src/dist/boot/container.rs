//! The system booted in a container of this host, by systemd-nspawn.
//!
//! Shares the host's kernel, and with it the host's version of cgroups. It has a network of its own.

use std::fs;

use xshell::cmd;

use super::Boot;
use crate::dist::check::System;

/// All parts of the script, and files for its words.
const UNIT: &str = "ExecStart=/srv/booted.sh guide units\n\
                    StandardOutput=file:/srv/booted.txt\nStandardError=file:/srv/errors.txt\n\
                    Environment=JOURNAL=/srv/journal.txt\n";

/// The longest time that all of it may take, in seconds: the watchdog alone waits for 30.
const SECONDS_MAX: &str = "600";

/// Boots it, and gives what the script said.
pub(super) fn boot(system: &System<'_>) -> anyhow::Result<Boot> {
    super::start_script(system, UNIT)?;
    eprintln!("dist: booting systemd with the package in it, in a container (a minute or two)");
    let System { sh, folder } = system;
    // All capabilities and two more system calls, because the service is to load a probe; it drops what it does not need.
    cmd!(
        sh,
        "timeout --kill-after=5 {SECONDS_MAX} systemd-nspawn --quiet --directory={folder} --boot --keep-unit --register=no --private-network --capability=all --console=pipe"
    )
    .arg("--system-call-filter=bpf perf_event_open")
    .quiet()
    .ignore_status()
    .ignore_stdout()
    .ignore_stderr()
    .run()?;
    let read = |name: &str| fs::read_to_string(folder.join("srv").join(name)).unwrap_or_default();
    Ok(Boot {
        place: "a container of this host".to_owned(),
        said: read("booted.txt"),
        log: read("errors.txt") + &read("journal.txt"),
    })
}
