//! What breaks on a host is seen as an alert, and ends as its runbook says: the process, its configuration, its disk, its
//! traffic, and capture that costs or loses too much. Each on a daemon of its own, side by side under one Prometheus.
//!
//! Plants nothing inside of a daemon.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use understudy_tests::app::Faults;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Finished, Settings, Workspace, run_to_end};
use understudy_tests::disk::SmallDisk;
use understudy_tests::process::Place;
use understudy_tests::prometheus::SERVERS;
use understudy_tests::server::{App, free_address};

use crate::Case;
use crate::watch::{ALERT_WAIT_MAX, Traffic, Watch};

pub(crate) const CASES: &[Case] = &[Case {
    name: "what_breaks_on_a_host_fires_and_its_remedy_resolves",
    needs: SERVERS,
    run: what_breaks_on_a_host,
}];

/// Between two requests of one connection.
const SPACING: Duration = Duration::from_millis(20);
/// Small answers, all alike.
const SMALL: &[&str] = &["/items/7"];
/// One answer in three is larger than the ring of [`losing`].
const LARGE: &[&str] = &["/items/7", "/items/8", "/blob/65536"];
const RING_SMALL: &str = "ring_bytes = 32768\nloss_max = \"100%\"";
/// Any work at all costs more than this.
const CHEAP: &str = "cpu_max = \"0.05%\"\nexcess_min = \"1s\"";
const COSTLY: &str = "cpu_max = \"100%\"";

/// A, B, and a daemon between them.
struct Stage {
    a: App,
    _b: App,
    admin: SocketAddr,
    instance: String,
    text: String,
    workspace: Workspace,
    daemon: Daemon,
}

// === impl Stage ===

impl Stage {
    /// Starts all of it; `change` has the last word about the configuration.
    fn start(admin: SocketAddr, change: impl Fn(&str) -> String) -> anyhow::Result<Self> {
        let a = App::start(&Place::Here, free_address()?, Faults::None)?;
        let b = App::start(&Place::Here, free_address()?, Faults::None)?;
        let settings = Settings {
            port: a.address.port(),
            admin,
            candidate: b.address,
            isolated: false,
            routes: Vec::new(),
            more: "noise.again = \"off\"\n".to_owned(),
        };
        let text = change(&settings.text());
        let workspace = Workspace::new(&text)?;
        let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
        Ok(Self { a, _b: b, admin, instance: admin.to_string(), text, workspace, daemon })
    }

    fn at(&self) -> [(&str, &str); 1] {
        [("instance", &self.instance)]
    }

    fn lab_at(&self) -> [(&str, &str); 2] {
        [("instance", &self.instance), ("experiment", "lab")]
    }

    /// Reads another configuration while it runs.
    fn reload(&self, text: &str) -> anyhow::Result<()> {
        self.workspace.configure(text)?;
        self.daemon.signal(Signal::HUP)
    }

    /// Runs it again, with this configuration.
    fn restart(self, text: &str) -> anyhow::Result<Self> {
        let Self { a, _b, admin, instance, text: _, workspace, daemon } = self;
        end(daemon)?;
        workspace.configure(text)?;
        let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
        Ok(Self { a, _b, admin, instance, text: text.to_owned(), workspace, daemon })
    }

    /// `understudy pause` or `resume` as the runbook has it.
    fn order(&self, order: &str) -> anyhow::Result<()> {
        let config = self.workspace.config().display().to_string();
        let Finished { code, stderr, .. } = run_to_end(&Place::Here, &[order, "-c", &config])?;
        ensure!(code == 0, "`understudy {order}` ended with {code}: {stderr}");
        Ok(())
    }
}

/// Ends it in order.
fn end(daemon: Daemon) -> anyhow::Result<()> {
    let Finished { code, stdout: _, stderr } = daemon.interrupt()?;
    ensure!([0, 1, 3].contains(&code) && !stderr.contains("panicked"), "it ended with {code}: {stderr}");
    Ok(())
}

/// One thing that breaks on a host.
type Story = fn(&Watch, SocketAddr) -> anyhow::Result<()>;

fn what_breaks_on_a_host() -> anyhow::Result<()> {
    let stories: [Story; 4] = [ordinary_day, losing, throttled, full_disk];
    let admins = stories.iter().map(|_| free_address()).collect::<anyhow::Result<Vec<_>>>()?;
    let watch = Watch::start(&admins)?;
    std::thread::scope(|scope| {
        let watch = &watch;
        let told: Vec<_> = stories
            .iter()
            .zip(admins)
            .map(|(story, admin)| scope.spawn(move || story(watch, admin)))
            .collect();
        let ends = told.into_iter().map(|story| story.join());
        let ends = ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let wrong: Vec<String> = ends.filter_map(|end| Some(format!("{:#}", end.err()?))).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        Ok(())
    })
}

/// A wrong configuration, a pause that nobody ends, traffic that stays away, a process that is killed.
fn ordinary_day(watch: &Watch, admin: SocketAddr) -> anyhow::Result<()> {
    let stage = Stage::start(admin, str::to_owned)?;
    let traffic = Traffic::start(stage.a.address, SMALL, 1, SPACING);

    // What happened before the first look is no change.
    watch.sees(&stage.instance)?;
    stage.reload(&stage.text.replace("methods =", "methodes ="))?;
    watch.fires("UnderstudyConfigurationRefused", &stage.at(), &["is wrong"])?;
    stage.reload(&stage.text.replace("[capture]", "[capture]\nbody_kept_max = 65536"))?;
    watch.fires("UnderstudyConfigurationRefused", &stage.at(), &["takes a restart"])?;
    stage.reload(&stage.text)?;
    watch.resolves("UnderstudyConfigurationRefused", &stage.at())?;

    stage.order("pause")?;
    watch.fires("UnderstudyPausedTooLong", &stage.at(), &[])?;
    stage.order("resume")?;
    watch.resolves("UnderstudyPausedTooLong", &stage.at())?;
    watch.resolves("UnderstudyNoTraffic", &stage.lab_at())?;

    traffic.end()?;
    watch.fires("UnderstudyNoTraffic", &stage.lab_at(), &[])?;
    let traffic = Traffic::start(stage.a.address, SMALL, 1, SPACING);
    watch.resolves("UnderstudyNoTraffic", &stage.lab_at())?;

    stage.daemon.signal(Signal::KILL)?;
    watch.fires("UnderstudyDown", &stage.at(), &[])?;
    let Stage { a: _a, _b, admin, instance, text: _, workspace, daemon } = stage;
    daemon.join(DRAIN_WAIT_MAX)?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    watch.resolves("UnderstudyDown", &[("instance", &instance)])?;
    traffic.end()?;
    end(daemon)
}

/// A ring that large answers do not fit into, until it is larger.
fn losing(watch: &Watch, admin: SocketAddr) -> anyhow::Result<()> {
    let stage = Stage::start(admin, |text| text.replace("[capture]", &format!("[capture]\n{RING_SMALL}")))?;
    let traffic = Traffic::start(stage.a.address, LARGE, 2, SPACING);
    watch.fires("UnderstudyCaptureDroppingPackets", &stage.at(), &["mostly ring_full"])?;
    watch.fires("UnderstudyIncompleteExchanges", &stage.lab_at(), &["%"])?;
    let text = stage.text.replace(RING_SMALL, "");
    let stage = stage.restart(&text)?;
    watch.resolves("UnderstudyCaptureDroppingPackets", &stage.at())?;
    watch.resolves("UnderstudyIncompleteExchanges", &stage.lab_at())?;
    traffic.end()?;
    end(stage.daemon)
}

/// Capture costs more than it may, until it may cost more.
fn throttled(watch: &Watch, admin: SocketAddr) -> anyhow::Result<()> {
    let stage = Stage::start(admin, |text| text.replace(COSTLY, CHEAP))?;
    let traffic = Traffic::start(stage.a.address, SMALL, 4, SPACING);
    watch.fires("UnderstudySelfThrottled", &stage.at(), &["% of all connections", "(too much: cpu)"])?;
    let text = stage.text.replace(CHEAP, COSTLY);
    let stage = stage.restart(&text)?;
    watch.resolves("UnderstudySelfThrottled", &stage.at())?;
    traffic.end()?;
    end(stage.daemon)
}

/// The disk of the journal is full, until there is room again. Nobody restarts anything.
fn full_disk(watch: &Watch, admin: SocketAddr) -> anyhow::Result<()> {
    let disk = SmallDisk::mount("4m")?;
    let journal = disk.folder().join("results.db").display().to_string();
    let stage = Stage::start(admin, |text| text.replace("\"journal.db\"", &format!("\"{journal}\"")))?;
    let traffic = Traffic::start(stage.a.address, SMALL, 1, SPACING);
    wait_until("comparisons", ALERT_WAIT_MAX, || {
        let compared = stage.daemon.scrape()?.sum("understudy_comparisons_total", &[])?;
        Ok((compared > 0).then_some(()))
    })?;
    let filler = disk.fill()?;
    watch.fires("UnderstudyJournalLosing", &stage.at(), &["comparisons in five minutes"])?;
    std::fs::remove_file(filler)?;
    watch.resolves("UnderstudyJournalLosing", &stage.at())?;
    traffic.end()?;
    let Finished { code, stderr, .. } = stage.daemon.interrupt()?;
    // What was lost meanwhile is not forgotten.
    ensure!(
        code == 2 && stderr.contains("the report above is not complete"),
        "it ended with {code}: {stderr}"
    );
    ensure!(stderr.contains("The journal takes comparisons again"), "{stderr}");
    Ok(())
}
