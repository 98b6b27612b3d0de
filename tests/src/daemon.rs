//! The daemon under test, as its user meets it: arguments, a configuration file, output, the admin listener.
//!
//! Links nothing of it. Names of flags and keys that several tests use are written here and nowhere else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{get_patiently, get_text};
use crate::clock::wait_until;
use crate::lab::within;
use crate::oracle;
use crate::prereq::daemon_program;
use crate::process::{Place, Process};
use crate::scrape::Scrape;

/// How long the daemon may take until it captures. Loading the probe takes well under a second, and twenty where twenty
/// others want the processor.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end after a signal: the drain uses up the promised five seconds where it has to, and the
/// machine may be busy. Who asks whether the promise is kept has a limit of its own.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long exchanges may stay in flight after the last answer.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(60);

/// What daemons of tests make tokens with.
const REDACT_KEY: &str = "a key of tests, which keeps no secret of anybody";

/// A configuration file under construction.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The captured port.
    pub port: u16,
    /// Where the admin listener is to be.
    pub admin: SocketAddr,
    /// The candidate's address.
    pub candidate: SocketAddr,
    /// Whether methods with effects are replayed too.
    pub isolated: bool,
    /// Route patterns; empty for all.
    pub routes: Vec<&'static str>,
    /// Lines put behind the rest: more keys of the experiment.
    pub more: String,
}

/// A folder with a configuration file and the journal, and the program that uses them.
#[derive(Debug)]
pub struct Workspace {
    folder: TempDir,
    program: PathBuf,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    place: Place,
    admin: SocketAddr,
    /// Its own, where nobody else holds one.
    _workspace: Option<Workspace>,
}

/// A daemon, or another subcommand, that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a subcommand to its end.
///
/// # Errors
/// When it has not ended within ten seconds.
pub fn run_to_end(place: &Place, arguments: &[&str]) -> anyhow::Result<Finished> {
    finish(place.command(daemon_program()).args(arguments), Duration::from_secs(10))
}

/// Runs a command to its end.
///
/// # Errors
/// When it has not ended within `limit`.
pub fn finish(command: &mut Command, limit: Duration) -> anyhow::Result<Finished> {
    let mut process = Process::start("understudy", command)?;
    let code = process.wait(limit)?;
    Ok(Finished { code, stdout: process.stdout(), stderr: process.stderr() })
}

/// That a machine is busy with other tests, or has an emulated processor, is no reason to step back here.
const UNHURRIED: &str = "[capture]\nnice = 0\ncpu_max = \"100%\"\n";

// === impl Settings ===

impl Settings {
    /// The file's text. The daemon gets its share of the CPU like everybody else, and as much as it needs: these tests
    /// ask whether it is right, unoptimised and on two cores with A, B and the load, not whether it steps back.
    pub fn text(&self) -> String {
        let Self { port, admin, candidate, isolated, routes, more } = self;
        let methods = if *isolated {
            r#"["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]"#
        } else {
            r#"["GET", "HEAD"]"#
        };
        let routes = if routes.is_empty() { String::new() } else { format!("routes = {routes:?}\n") };
        format!(
            "[capture]\nports = [{port}]\nnice = 0\ncpu_max = \"100%\"\n\n[admin]\nlisten = \"{admin}\"\n\n[journal]\npath = \"journal.db\"\n\n\
             [redact]\nkey = \"journal.db.key\"\n\n\
             [[experiment]]\nname = \"lab\"\nmethods = {methods}\n{routes}\
             candidate = {{ url = \"http://{candidate}\", isolated = {isolated} }}\n{more}\n"
        )
    }
}

// === impl Workspace ===

impl Workspace {
    /// A folder with this configuration, for the daemon of this build.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(configuration: &str) -> anyhow::Result<Self> {
        Self::with_program(configuration, daemon_program())
    }

    /// A folder with this configuration, for this daemon. The journal's place is filled in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with_program(configuration: &str, program: PathBuf) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for the daemon")?;
        let workspace = Self { folder, program };
        workspace.configure(configuration)?;
        let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(workspace.key())?;
        key.write_all(REDACT_KEY.as_bytes()).context("failed to write the key")?;
        Ok(workspace)
    }

    /// Writes the configuration. The journal's place is filled in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, configuration: &str) -> anyhow::Result<()> {
        let text = configuration.replace("journal.db", &self.journal().display().to_string());
        // As with `cpu_max`: that the machine is busy with other tests is no reason to step back here.
        let calm =
            "\n[protect]\nring_max = \"100%\"\ncpu_pressure_max = \"100%\"\nmemory_pressure_max = \"100%\"\n";
        let calm = if text.contains("[protect]") { "" } else { calm };
        std::fs::write(self.config(), text + calm).context("failed to write the configuration")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("understudy.toml")
    }

    /// The key for tokens that [`Settings`] name.
    pub fn key(&self) -> PathBuf {
        self.journal().with_extension("db.key")
    }

    /// The journal that the configuration names.
    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("journal.db")
    }

    /// What `understudy report` says, with these further arguments.
    ///
    /// # Errors
    /// When it does not end.
    pub fn report(&self, more: &[&str]) -> anyhow::Result<Finished> {
        let mut command = Place::Here.command(&self.program);
        command.arg("report").arg("--config").arg(self.config()).args(more);
        finish(&mut command, Duration::from_secs(10))
    }
}

// === impl Daemon ===

impl Daemon {
    /// `understudy run --config …`, capturing when this returns.
    ///
    /// # Errors
    /// When it does not come to capture; its output stands in the message.
    pub fn run(
        place: &Place,
        workspace: &Workspace,
        admin: SocketAddr,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = place.command(&workspace.program);
        command.arg("run").arg("--config").arg(workspace.config()).args(more);
        Self::start(place, &mut command, admin)
    }

    /// `understudy inspect …` that takes all the CPU time it needs, capturing when this returns.
    ///
    /// # Errors
    /// As [`Daemon::run`].
    pub fn inspect(place: &Place, port: u16, admin: SocketAddr, more: &[&str]) -> anyhow::Result<Self> {
        let workspace = Workspace::new(UNHURRIED)?;
        let daemon = Self::inspect_in(place, &workspace, port, admin, more)?;
        Ok(Self { _workspace: Some(workspace), ..daemon })
    }

    /// `understudy inspect …` with this configuration, capturing when this returns.
    ///
    /// # Errors
    /// As [`Daemon::run`].
    pub fn inspect_in(
        place: &Place,
        workspace: &Workspace,
        port: u16,
        admin: SocketAddr,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = place.command(&workspace.program);
        command.args(["inspect", "--port", &port.to_string(), "--admin", &admin.to_string(), "--config"]);
        command.arg(workspace.config()).args(more);
        Self::start(place, &mut command, admin)
    }

    /// Any command with an admin listener, capturing when this returns.
    ///
    /// # Errors
    /// As [`Daemon::run`].
    pub fn start(place: &Place, command: &mut Command, admin: SocketAddr) -> anyhow::Result<Self> {
        let process = Process::start("understudy", command)?;
        let mut daemon = Self { process, place: place.clone(), admin, _workspace: None };
        daemon.wait_ready()?;
        Ok(daemon)
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let Self { process, place, admin, _workspace: _ } = self;
        within(place, || {
            wait_until("readiness of understudy", READY_WAIT_MAX, || {
                process.must_run()?;
                Ok(get_text(*admin, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(()))
            })
        })
        .with_context(|| format!("understudy wrote: {}", self.process.stderr()))
    }

    /// Its admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that it has held so far, in KiB (`VmHWM` of `/proc/<pid>/status`).
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn memory_kib_max(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
            .context("no VmHWM in /proc")
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// `/metrics` now.
    ///
    /// # Errors
    /// When the admin listener does not give them.
    pub fn scrape(&self) -> anyhow::Result<Scrape> {
        let (status, text) = within(&self.place, || get_patiently(self.admin, "/metrics", &[]))?;
        ensure!(status == 200, "/metrics answered {status}");
        Scrape::parse(&text)
    }

    /// Waits until at least `exchanges` have come in and none is in flight, then asks the oracle.
    ///
    /// # Errors
    /// When that does not come about, or a sum is off.
    pub fn settle(&self, exchanges: u64) -> anyhow::Result<Scrape> {
        let mut last = None;
        wait_until("settled ledger", SETTLE_WAIT_MAX, || {
            let scrape = self.scrape()?;
            let seen = scrape.sum("understudy_exchanges_seen_total", &[])?;
            let in_flight = scrape.sum("understudy_exchanges_in_flight", &[])?;
            last = Some((seen, in_flight, scrape.counted()));
            Ok((seen >= exchanges && in_flight == 0).then_some(()))
        })
        .with_context(|| {
            let (seen, in_flight, counted) = last.unwrap_or_default();
            let said = self.stderr();
            format!(
                "wanted {exchanges} exchanges; {seen} seen, {in_flight} in flight; it counted:\n{counted}it said: {said}"
            )
        })?;
        // Packets may lie in the ring while exchanges are settled; the sums hold once those are drained.
        let balanced = wait_until("balanced ledger", DRAIN_WAIT_MAX, || {
            let scrape = self.scrape()?;
            Ok(oracle::check(&scrape).is_ok().then_some(scrape))
        });
        match balanced {
            Ok(scrape) => Ok(scrape),
            // Says which sum does not hold.
            Err(error) => oracle::check(&self.scrape()?).and(Err(error)),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// SIGINT, then waits for the drain.
    ///
    /// # Errors
    /// When it takes longer than [`DRAIN_WAIT_MAX`].
    pub fn interrupt(self) -> anyhow::Result<Finished> {
        self.signal(Signal::INT)?;
        self.join(DRAIN_WAIT_MAX)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it has not come within `limit`.
    pub fn join(mut self, limit: Duration) -> anyhow::Result<Finished> {
        let code = self.process.wait(limit)?;
        Ok(Finished { code, stdout: self.process.stdout(), stderr: self.process.stderr() })
    }
}
