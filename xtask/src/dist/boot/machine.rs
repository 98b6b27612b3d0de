//! The system booted in a virtual machine, with the distribution's own kernel: all of cgroup v2, whatever the host has.
//!
//! Knows nothing of the claims. The machine has no network, and its disk is thrown away.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

use super::Boot;
use crate::dist::check::System;
use crate::machine::{Accelerator, Disk, Ended, Kernel, Machine};
use crate::{root, setup};

/// What the guide types is left out: it looks for some seconds, in which an emulated machine does next to nothing. With KVM the
/// longer waits do no harm. Claims go to the second console, where nobody else says a word.
const UNIT: &str = "ExecStart=/srv/booted.sh units\n\
                    StandardOutput=file:/dev/ttyS1\nStandardError=file:/dev/ttyS0\n\
                    Environment=JOURNAL=/dev/ttyS0 SLOWNESS=5\n";

/// What holds programs on interfaces before kernel 6.6: nothing in the system would load it.
const MODULES: [&str; 2] = ["sch_ingress", "cls_bpf"];

/// Nobody logs in; without udev, systemd would wait for the terminal in vain.
const ARGUMENTS: &str = "systemd.getty_auto=no";

/// The longest time that all of it may take.
const TIME_MAX: Duration = Duration::from_secs(900);

/// Boots it, and gives what the script said.
///
/// # Errors
/// When there is no QEMU or no kernel for it, and they cannot be had; when the machine does not come to its end.
pub(super) fn boot(system: &System<'_>) -> anyhow::Result<Boot> {
    let System { sh, folder } = system;
    setup::machines(sh)?;
    // The first line is the one that the distribution came out with.
    let kernel = Kernel::choose(sh, &[])?.into_iter().next().context("the distribution has no kernel")?;
    let accelerator = Accelerator::choose(sh, &kernel)?;
    super::start_script(system, UNIT)?;

    let place = root().join("target/dist-check");
    let disk = Disk::of_folder(sh, folder, place.join("disk.img"))?;
    let initramfs = disk.initramfs(sh, &kernel, &MODULES)?;
    let claims = place.join("claims.txt");
    // Those of another time are no claims.
    sh.remove_path(&claims)?;
    let machine = Machine {
        disk: Some(&disk),
        second_console: Some(&claims),
        arguments: ARGUMENTS,
        ..Machine::in_memory(&kernel, &initramfs, accelerator)
    };
    let in_what = format!("a machine with Debian's kernel {} ({accelerator})", kernel.release);
    eprintln!("dist: booting it in {in_what} (some minutes)");
    let ended = machine.run(TIME_MAX);
    let said = fs::read_to_string(&claims).unwrap_or_default();
    let Ended { console, taken } = ended.with_context(|| format!("the script said: {said}"))?;
    eprintln!("dist: it took {} s", taken.as_secs());
    Ok(Boot { place: in_what, said, log: console })
}
