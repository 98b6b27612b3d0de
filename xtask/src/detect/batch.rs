//! One A, its traffic, and a few candidates beside each other: real servers, the real daemon, one experiment each.
//!
//! Decides nothing: it hands what was reported and what was answered to `score`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::{Daemon, Workspace};
use understudy_tests::detect::{Kind, Mutant, drive, plan};
use understudy_tests::process::{Place, Process};
use understudy_tests::server::{free_address, wait_listening};

use super::reading::{Reading, readings};
use super::score::{Look, Result as Scored, score};
use super::{Options, diffy};
use crate::root;

/// What A's environment is called.
const PRODUCTION: &str = "production";
/// How far the first experiment runs behind A, and each next one behind it. Not a multiple of the time between two
/// requests.
const LAG_MS: u64 = 200;
const LAG_STEP_MS: u64 = 7;
/// Between two looks at the report.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How long the last exchanges may take.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Candidates that share one A and its traffic. `None` is a candidate without a planted regression.
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) candidates: Vec<Option<Mutant>>,
}

/// How the answers of A′ come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twin {
    /// The daemon calls A′, as the twin of each experiment, methods with effects included.
    Called,
    /// The daemon is told of no twin. A′ is the candidate of an experiment of its own, whose report nobody reads.
    Beside,
}

/// A candidate with its twin.
struct Pair {
    name: String,
    mutant: Option<Mutant>,
    candidate: Instance,
    twin: Instance,
}

/// A running application.
struct Instance {
    address: SocketAddr,
    log: PathBuf,
    _process: Process,
}

// === impl Twin ===

impl Twin {
    /// What the table says about it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Twin::Called => "understudy calls the twin",
            Twin::Beside => "understudy has no twin",
        }
    }

    /// What the environment of B and A′ is called. Where the daemon sees no A′, B lives in A's: nobody could tell what
    /// another environment does from what another version does.
    fn environment(self) -> &'static str {
        match self {
            Twin::Called => "staging",
            Twin::Beside => PRODUCTION,
        }
    }

    /// The experiments of one candidate. Each runs some milliseconds behind the one before: candidates that all
    /// answered at once would make each other slow.
    fn experiment(
        self,
        kind: Kind,
        name: &str,
        place: u64,
        candidate: SocketAddr,
        twin: SocketAddr,
    ) -> String {
        let routes = kind.routes();
        let mut lag_ms = LAG_MS + place * 2 * LAG_STEP_MS;
        let mut one = |name: &str, more: &str, url: SocketAddr| {
            lag_ms += LAG_STEP_MS;
            format!(
                "\n[[experiment]]\nname = \"{name}\"\nmethods = [\"GET\", \"POST\"]\nroutes = {routes:?}\n\
                 candidate = {{ url = \"http://{url}\", isolated = true }}\n{more}\
                 [experiment.replay]\nlag = \"{lag_ms}ms\"\n"
            )
        };
        match self {
            Twin::Called => {
                one(name, &format!("twin = {{ url = \"http://{twin}\", isolated = true }}\n"), candidate)
            }
            Twin::Beside => one(name, "", candidate) + &one(&format!("{name}-twin"), "", twin),
        }
    }
}

// === impl Batch ===

impl Batch {
    pub(super) fn title(&self) -> String {
        let names: Vec<&str> =
            self.candidates.iter().map(|mutant| mutant.map_or("unmutated", |m| m.name)).collect();
        format!("{}: {}", self.kind.name(), names.join(", "))
    }

    /// Starts everything, sends the traffic, looks at the report again and again, and ends everything.
    ///
    /// # Errors
    /// When something does not start, or not every exchange was compared.
    pub(super) fn run(
        &self,
        options: &Options,
        twin: Twin,
        seed: u64,
        keep: Option<&Path>,
    ) -> anyhow::Result<Vec<Scored>> {
        let folder = TempDir::new().context("failed to make a folder for the logs")?;
        let start = |name: &str, mutant: Option<&Mutant>, number: u64, environment: &str| {
            let log = folder.path().join(format!("{name}.jsonl"));
            Instance::start(self.kind, mutant, seed.wrapping_mul(100).wrapping_add(number), environment, log)
        };
        let a = start("a", None, 0, PRODUCTION)?;
        let elsewhere = twin.environment();
        let mut pairs = Vec::new();
        for (number, mutant) in (1u64..).zip(&self.candidates) {
            let name = mutant.map_or_else(|| format!("unmutated-{number}"), |mutant| mutant.name.to_owned());
            let candidate = start(&format!("{name}-b"), mutant.as_ref(), number * 2, elsewhere)?;
            let twin = start(&format!("{name}-twin"), None, number * 2 + 1, elsewhere)?;
            pairs.push(Pair { name, mutant: *mutant, candidate, twin });
        }
        let workspace = Workspace::with_program(&self.configuration(twin, &a, &pairs)?, program())?;
        let looks = self.observe(options, seed, &workspace, &a)?;
        if let Some(keep) = keep {
            let logs = pairs.iter().flat_map(|pair| [&pair.candidate.log, &pair.twin.log]).chain([&a.log]);
            let ours = [workspace.journal(), workspace.config()];
            copy_all(logs.chain(&ours), keep)?;
        }
        pairs
            .iter()
            .map(|pair| {
                let mine: Vec<Look> = looks.iter().filter_map(|look| Look::of(look, &pair.name)).collect();
                let after: Vec<u64> = mine.iter().map(|look| look.after).collect();
                let theirs = diffy::judge(self.kind, &a.log, &pair.candidate.log, &pair.twin.log, &after)?;
                let unseen = options.exchanges as u64 - theirs.answers.min(options.exchanges as u64);
                ensure!(
                    unseen * 50 <= options.exchanges as u64,
                    "{}: {unseen} requests never came to B",
                    pair.name
                );
                Ok(score(self.kind, pair.mutant, &mine, &theirs))
            })
            .collect()
    }

    fn configuration(&self, twin: Twin, a: &Instance, pairs: &[Pair]) -> anyhow::Result<String> {
        let mut text = format!(
            "[capture]\nports = [{}]\nnice = 0\ncpu_max = \"100%\"\n\n[admin]\nlisten = \"{}\"\n\n\
             [journal]\npath = \"journal.db\"\n",
            a.address.port(),
            free_address()?
        );
        for (place, pair) in (0u64..).zip(pairs) {
            text += &twin.experiment(self.kind, &pair.name, place, pair.candidate.address, pair.twin.address);
        }
        Ok(text)
    }

    /// What the report said, look by look.
    fn observe(
        &self,
        options: &Options,
        seed: u64,
        workspace: &Workspace,
        a: &Instance,
    ) -> anyhow::Result<Vec<Vec<Reading>>> {
        let text = std::fs::read_to_string(workspace.config()).context("failed to read the configuration")?;
        let admin = text.lines().find_map(|line| line.strip_prefix("listen = \"")?.strip_suffix('"'));
        let admin: SocketAddr = admin.context("the configuration has no admin listener")?.parse()?;
        let daemon = Daemon::run(&Place::Here, workspace, admin, &[])?;
        let planned = plan(self.kind, seed, options.exchanges);
        let (address, rate) = (a.address, options.rate);
        let load = std::thread::spawn(move || drive(address, &planned, seed, rate));
        let mut looks = Vec::new();
        while !load.is_finished() {
            pause(LOOK_EVERY);
            // There is nothing to read before the first comparisons are kept.
            if let Ok(look) = readings(&workspace.report(&["--json"])?.stdout) {
                looks.push(look);
            }
        }
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        wait_until("end of the replay", SETTLE_WAIT_MAX, || {
            let scrape = daemon.scrape()?;
            Ok((scrape.sum("understudy_exchanges_in_flight", &[])? == 0).then_some(()))
        })?;
        daemon.interrupt()?;
        looks.push(readings(&workspace.report(&["--json"])?.stdout)?);
        Ok(looks)
    }
}

// === impl Instance ===

impl Instance {
    fn start(
        kind: Kind,
        mutant: Option<&Mutant>,
        seed: u64,
        environment: &str,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Place::Here.command(tool("understudy-detect-app"));
        command.args(["--kind", kind.name(), "--environment", environment]);
        command.args(["--port", &address.port().to_string(), "--seed", &seed.to_string(), "--log"]).arg(&log);
        if let Some(mutant) = mutant {
            command.args(["--mutant", mutant.name]);
        }
        let mut process = Process::start("understudy-detect-app", &mut command)?;
        wait_listening(&Place::Here, address, &mut process)?;
        Ok(Self { address, log, _process: process })
    }
}

fn copy_all<'a>(files: impl Iterator<Item = &'a PathBuf>, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for file in files {
        let name = file.file_name().context("a file has no name")?;
        std::fs::copy(file, folder.join(name))
            .with_context(|| format!("failed to keep {}", file.display()))?;
    }
    Ok(())
}

/// The daemon: `UNDERSTUDY_BIN`, or the optimised one of this repository.
fn program() -> PathBuf {
    std::env::var_os("UNDERSTUDY_BIN").map_or_else(|| tool("understudy"), PathBuf::from)
}

/// A program of the optimised build.
pub(super) fn tool(name: &str) -> PathBuf {
    root().join("target/release").join(Path::new(name))
}
