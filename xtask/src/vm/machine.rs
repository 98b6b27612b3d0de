//! QEMU: one machine, from its first line to its end, in bounded time.
//!
//! Trusts no acceleration that does not show itself: a device that hangs must not hang us.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use understudy_tests::clock::now;
use understudy_tests::process::{Place, Process};
use xshell::Shell;

use super::image;
use super::kernel::Kernel;

/// How the machine's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// By this one.
    Kvm,
    /// In software.
    Emulation,
}

/// How long the smallest machine may take with KVM. In software it takes about two seconds.
const KVM_WAIT_MAX: Duration = Duration::from_secs(10);
const MEMORY: &str = "2048";
const PROCESSORS: &str = "2";
/// What the smallest machine says.
const WORD: &str = "up-and-running";

// === impl Accelerator ===

impl Accelerator {
    /// KVM where a machine comes up with it, else none.
    pub(super) fn choose(sh: &Shell, kernels: &[Kernel]) -> anyhow::Result<Self> {
        let Some(kernel) = kernels.first().filter(|_| Path::new("/dev/kvm").exists()) else {
            return Ok(Self::Emulation);
        };
        let initramfs = image::that_says(sh, WORD)?;
        kernel.files(sh)?;
        // Its failure is an answer.
        let said = boot(kernel, &initramfs, Self::Kvm, KVM_WAIT_MAX);
        if said.is_ok_and(|(console, _)| console.contains(WORD)) {
            return Ok(Self::Kvm);
        }
        eprintln!("vm: KVM does not run a machine within {} s; emulating", KVM_WAIT_MAX.as_secs());
        Ok(Self::Emulation)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Emulation => "emulated",
        })
    }
}

/// Runs a machine to its end, and gives what its console showed and how long it took.
///
/// # Errors
/// When it does not end within `limit`; it is killed then.
pub(super) fn boot(
    kernel: &Kernel,
    initramfs: &Path,
    accelerator: Accelerator,
    limit: Duration,
) -> anyhow::Result<(String, Duration)> {
    let files = super::folder().join(&kernel.package);
    let mut command: Command = Place::Here.command("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .args(["-m", MEMORY, "-smp", PROCESSORS])
        .args(["-accel", if accelerator == Accelerator::Kvm { "kvm" } else { "tcg,thread=multi" }])
        .arg("-kernel")
        .arg(kernel.image(&files))
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let start = now();
    let mut machine = Process::start("the machine", &mut command)?;
    machine.wait(limit).with_context(|| format!("its console showed: {}", machine.stdout()))?;
    Ok((machine.stdout(), start.elapsed()))
}
