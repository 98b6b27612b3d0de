//! A service manager as far as a service can tell: the socket that it says its state to, and a way to hang one of its threads.
//!
//! Starts nothing and decides nothing; what was said is for the test to judge.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::clock::{now, wait_until};

/// A manager that listens.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
    /// Everything said so far, a line each.
    heard: Vec<String>,
}

/// A thread that does not run until this is dropped. The other threads of its process do. Must be dropped by the thread that
/// made it.
#[derive(Debug)]
pub struct HungThread {
    thread: Pid,
}

/// How long a thread may take to stop where it is.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest message (systemd reads no more).
const MESSAGE_BYTES_MAX: usize = 4096;

// === impl Manager ===

impl Manager {
    /// Listens from now on.
    ///
    /// # Errors
    /// When there is no place for a socket.
    pub fn listen() -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for a socket")?;
        let socket = UnixDatagram::bind(folder.path().join("notify")).context("failed to make a socket")?;
        Ok(Self { socket, folder, heard: Vec::new() })
    }

    /// Makes this the manager of what the command starts; it waits so long for a sign of life.
    pub fn manage(&self, command: &mut Command, watchdog: Duration) {
        let socket: PathBuf = self.folder.path().join("notify");
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }

    /// Listens for so long.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn listen_for(&mut self, time: Duration) -> anyhow::Result<&[String]> {
        let start = now();
        let before = self.heard.len();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.receive(left)?;
        }
        Ok(self.heard.get(before..).unwrap_or_default())
    }

    /// Listens until this line has been said, and forgets what was said up to there.
    ///
    /// # Errors
    /// When it is not said within `limit`.
    pub fn wait_for(&mut self, line: &str, limit: Duration) -> anyhow::Result<()> {
        let start = now();
        loop {
            if let Some(at) = self.heard.iter().position(|said| said.starts_with(line)) {
                self.heard.drain(..=at);
                return Ok(());
            }
            let left = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
            let left = left.with_context(|| format!("no `{line}` within {limit:?}, but {:?}", self.heard))?;
            self.receive(left)?;
        }
    }

    /// Takes what is said next, if anything is within this time.
    fn receive(&mut self, limit: Duration) -> anyhow::Result<()> {
        let mut message = [0; MESSAGE_BYTES_MAX];
        self.socket.set_read_timeout(Some(limit))?;
        match self.socket.recv(&mut message) {
            Ok(length) => {
                let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
                self.heard.extend(text.lines().map(str::to_owned));
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("the socket failed"),
        }
    }
}

// === impl HungThread ===

impl HungThread {
    /// Stops the thread of that name in a process that this one started.
    ///
    /// # Errors
    /// When there is none, or it cannot be stopped.
    pub fn stop(process: u32, name: &str) -> anyhow::Result<Self> {
        let folder = format!("/proc/{process}/task");
        for task in fs::read_dir(&folder).with_context(|| format!("failed to list {folder}"))? {
            let path = task?.path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
                let id = path.file_name().and_then(|id| id.to_str()?.parse().ok()).context("no id")?;
                let thread = Pid::from_raw(id);
                // Signals would stop the whole process; a tracer stops one thread (ptrace(2), PTRACE_INTERRUPT).
                ptrace::seize(thread, ptrace::Options::empty()).context("failed to trace the thread")?;
                let hung = Self { thread };
                ptrace::interrupt(thread).context("failed to stop the thread")?;
                wait_until("stopped thread", STOP_WAIT_MAX, || {
                    let stat = fs::read_to_string(path.join("stat"))?;
                    Ok(stat.contains(") t ").then_some(()))
                })?;
                return Ok(hung);
            }
        }
        bail!("process {process} has no thread `{name}`")
    }
}

impl Drop for HungThread {
    fn drop(&mut self) {
        // A process that ends meanwhile takes its threads with it, and is not gone before those that are traced were waited for.
        if ptrace::detach(self.thread, None).is_err() {
            waitpid(self.thread, Some(WaitPidFlag::__WALL)).map(|_| ()).unwrap_or_default();
        }
    }
}
