//! A child process that cannot outlive its owner.
//!
//! Never leaves anything running: the whole process group ends on drop, and the kernel ends the child when the
//! thread that started it dies without a drop.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::clock::wait_until;

/// How long a child may take to end after SIGTERM before it gets SIGKILL.
const END_WAIT_MAX: Duration = Duration::from_secs(2);

/// Where a child runs: here, or in a network namespace.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// In the network namespace of this process.
    #[default]
    Here,
    /// In the network namespace with this name (`ip netns`).
    Namespace(String),
    /// In the cgroup with this folder, as a service or a container has one of its own.
    Cgroup(PathBuf),
}

/// A cgroup (v2) that goes away on drop, for processes that end before.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

/// A running child with its output in files.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    output: TempDir,
    ended: Option<ExitStatus>,
}

// === impl Place ===

impl Place {
    /// A command that runs `program` here, and gets SIGTERM when the calling thread dies.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        // Not `ip netns exec`: that mounts a fresh sysfs, which hides the cgroup hierarchy from the daemon.
        let mut command = match self {
            Place::Here => Command::new("setpriv"),
            Place::Namespace(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg("setpriv");
                command
            }
            Place::Cgroup(folder) => {
                let mut command = Command::new("sh");
                command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec setpriv \"$@\""]).arg(folder);
                command
            }
        };
        command.args(["--pdeathsig", "TERM"]).arg(program);
        command
    }
}

// === impl Cgroup ===

impl Cgroup {
    /// Makes one below the root of the hierarchy.
    ///
    /// # Errors
    /// When no cgroup v2 is mounted, or it cannot be written.
    pub fn make() -> anyhow::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read the mounts")?;
        // Field 5 is the mount point; the type stands behind the dash (proc(5)).
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = mount.and_then(|line| line.split(' ').nth(4)).context("no cgroup v2 is mounted")?;
        let name = format!("understudy-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(mount).join(name);
        fs::create_dir(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Where its processes run.
    pub fn place(&self) -> Place {
        Place::Cgroup(self.0.clone())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel may take a moment to notice the end of the last process.
        let gone = wait_until("empty cgroup", END_WAIT_MAX, || Ok(fs::remove_dir(&self.0).ok()));
        gone.unwrap_or_default();
    }
}

// === impl Process ===

impl Process {
    /// Starts the command in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        Self::start_with(name, command, Stdio::null())
    }

    /// As [`Process::start`], with this standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(name: &str, command: &mut Command, input: impl Into<Stdio>) -> anyhow::Result<Self> {
        let output = TempDir::new().context("failed to make a folder for a child's output")?;
        let file = |name| File::create(output.path().join(name)).context("failed to make an output file");
        let child = command
            .stdin(input)
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let group = Pid::from_child(&child);
        Ok(Self { name: name.to_owned(), child, group, output, ended: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that its standard output goes to.
    pub fn stdout_path(&self) -> PathBuf {
        self.output.path().join("stdout")
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.output.path().join("stdout"))
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.output.path().join("stderr"))
    }

    /// Sends a signal to the whole group.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process_group(self.group, signal).with_context(|| format!("failed to signal {}", self.name))
    }

    /// Its exit status, when it has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended =
                self.child.try_wait().with_context(|| format!("failed to wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Waits for its end and gives the exit code; 128 and the number for a signal, as shells do.
    ///
    /// # Errors
    /// When it has not ended within `limit`; its output stands in the message.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<i32> {
        let what = format!("end of {}", self.name);
        let status = wait_until(&what, limit, || self.ended())
            .with_context(|| format!("it wrote: {}", self.stderr()))?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
    }

    /// Fails when the process has ended; its output stands in the message.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            anyhow::bail!("{} ended with {status}: {}{}", self.name, self.stdout(), self.stderr());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors here mean that the group is gone already, which is what is wanted.
        if matches!(self.ended(), Ok(None)) {
            drop(self.signal(Signal::TERM));
            if self.wait(END_WAIT_MAX).is_err() {
                drop(self.signal(Signal::KILL));
                drop(self.child.wait());
            }
        }
        // Grandchildren of a leader that died by itself.
        kill_process_group(self.group, Signal::KILL).unwrap_or_default();
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_process_takes_its_children_along() {
        let mut command = Place::Here.command("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let process = Process::start("sh", &mut command).unwrap();
        let child: i32 =
            wait_until("process id", Duration::from_secs(5), || Ok(process.stdout().trim().parse().ok()))
                .unwrap();
        drop(process);
        let pid = Pid::from_raw(child).unwrap();
        wait_until("end of the grandchild", Duration::from_secs(5), || {
            // A zombie that nobody has reaped yet still answers to signals; its state tells.
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            Ok(stat.map_or(true, |stat| stat.contains(") Z ")).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let code = |script: &str| {
            let mut process = Process::start("sh", Place::Here.command("sh").args(["-c", script])).unwrap();
            process.wait(Duration::from_secs(5)).unwrap()
        };
        assert_eq!(code("exit 3"), 3);
        assert_eq!(code("kill -9 $$"), 137);
    }
}
