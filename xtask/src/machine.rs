//! Virtual machines with kernels of the distribution: one machine, from its first line to its end, in bounded time.
//!
//! Trusts no acceleration that does not show itself: a device that hangs must not hang us. A machine has no network.

mod disk;
mod kernel;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::clock::now;
use understudy_tests::process::{Place, Process};
use xshell::Shell;

use crate::root;

pub(crate) use disk::Disk;
pub(crate) use kernel::Kernel;
pub(crate) use tree::Tree;

/// A machine to be run.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Kernel,
    /// The file system that the kernel begins with; its `/init` is the first process.
    pub(crate) initramfs: &'a Path,
    /// `/dev/vda`, where it has one; what is written to it may be lost when the machine breaks off.
    pub(crate) disk: Option<&'a Disk>,
    /// The file that gets what is written to `/dev/ttyS1`, where somebody wants it.
    pub(crate) second_console: Option<&'a Path>,
    /// More for the kernel's command line.
    pub(crate) arguments: &'a str,
    pub(crate) accelerator: Accelerator,
}

/// What came of a machine that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What its first console showed.
    pub(crate) console: String,
    pub(crate) taken: Duration,
}

/// How the machine's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
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

/// Where everything is kept that makes machines.
pub(crate) fn folder() -> PathBuf {
    root().join("target/vm")
}

// === impl Machine ===

impl<'a> Machine<'a> {
    /// One that has nothing but its memory and a console.
    pub(crate) fn in_memory(kernel: &'a Kernel, initramfs: &'a Path, accelerator: Accelerator) -> Self {
        Self { kernel, initramfs, disk: None, second_console: None, arguments: "", accelerator }
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When QEMU does not start it, or it does not end within `limit`; it is killed then, and what its console showed stands in
    /// the message.
    pub(crate) fn run(&self, limit: Duration) -> anyhow::Result<Ended> {
        let Self { kernel, initramfs, disk, second_console, arguments, accelerator } = self;
        let mut command: Command = Place::Here.command("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .args(["-m", MEMORY, "-smp", PROCESSORS])
            .args(["-accel", if *accelerator == Accelerator::Kvm { "kvm" } else { "tcg,thread=multi" }])
            .arg("-kernel")
            .arg(kernel.image())
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", &format!("console=ttyS0 panic=-1 quiet {arguments}")]);
        if let Some(file) = second_console {
            command.arg("-serial").arg(format!("file:{}", escaped(file)));
        }
        if let Some(disk) = disk {
            // Nobody reads it after the machine's end.
            let file = escaped(disk.file());
            command.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={file}"));
        }
        let start = now();
        let mut machine = Process::start("the machine", &mut command)?;
        let code =
            machine.wait(limit).with_context(|| format!("its console showed: {}", machine.stdout()))?;
        ensure!(code == 0, "QEMU ended with {code}: {}", machine.stderr());
        Ok(Ended { console: machine.stdout(), taken: start.elapsed() })
    }
}

/// A path in an option of QEMU, where a comma begins the next value and two are one.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

// === impl Accelerator ===

impl Accelerator {
    /// KVM where a machine comes up with it, else none.
    pub(crate) fn choose(sh: &Shell, kernel: &Kernel) -> anyhow::Result<Self> {
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Emulation);
        }
        let tree = Tree::new(sh, "word")?;
        let initramfs = tree.finish(&[], &format!("echo {WORD}\npoweroff -f\n"))?;
        kernel.fetch(sh)?;
        // Its failure is an answer.
        if Machine::in_memory(kernel, &initramfs, Self::Kvm)
            .run(KVM_WAIT_MAX)
            .is_ok_and(|ended| ended.console.contains(WORD))
        {
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
