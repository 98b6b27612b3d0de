//! The daemon keeps from hurting the host: it stands still when it is told to, lets go of the traffic when it cannot read
//! it, gives up privileges, refuses what it could not keep, and costs a flooded service little.
//!
//! Asserts no fine figures of speed: the flood prints them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use understudy_tests::app::Faults;
use understudy_tests::client::{get, get_patiently};
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::{Daemon, Finished, Settings, Workspace, run_to_end};
use understudy_tests::load::{Load, LoadResult, constant};
use understudy_tests::manager::HungThread;
use understudy_tests::oracle;
use understudy_tests::prereq::{KERNEL, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::server::{App, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_pause_touches_neither_side_and_is_explained", needs: KERNEL, run: paused_by_order },
    Case { name: "the_time_table_pauses_and_resume_wins", needs: KERNEL, run: paused_by_time_table },
    Case { name: "a_pause_at_the_start_lets_nothing_through", needs: KERNEL, run: paused_from_the_start },
    Case { name: "a_pause_ends_by_itself", needs: KERNEL, run: paused_for_a_time },
    Case { name: "a_ceiling_that_cannot_be_kept_is_refused", needs: KERNEL, run: ceiling },
    Case { name: "a_capture_that_cannot_start_touches_nothing", needs: KERNEL, run: no_start },
    Case { name: "capture_that_stands_still_lets_go", needs: KERNEL, run: stalled },
    Case { name: "a_process_that_is_stopped_harms_nobody", needs: KERNEL, run: stopped },
    Case { name: "privileges_are_dropped_after_attaching", needs: KERNEL, run: privileges },
    Case { name: "a_flood_leaves_the_service_its_speed", needs: KERNEL, run: flood },
];

/// How long something may take that takes a fraction of a second.
const SOON: Duration = Duration::from_secs(10);
/// A pause at all times.
const ALWAYS: &str = "[[pause]]\nfrom = \"00:00\"\nto = \"24:00\"\n";

/// A, B and a daemon between them.
struct Stage {
    a: App,
    b: App,
    admin: std::net::SocketAddr,
    daemon: Daemon,
    /// Kept alive.
    _workspace: Workspace,
}

/// With these lines at its end, in the experiment.
fn settings(a: &App, b: &App, admin: std::net::SocketAddr, more: &str) -> Settings {
    Settings {
        port: a.address.port(),
        admin,
        candidate: b.address,
        isolated: false,
        routes: Vec::new(),
        more: format!("noise.again = \"off\"\n{more}"),
    }
}

/// Starts all of it, with these lines in front of the configuration and these at its end, in the experiment.
fn stage(before: &str, more: &str) -> anyhow::Result<Stage> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let admin = free_address()?;
    let settings = settings(&a, &b, admin, more);
    let workspace = Workspace::new(&format!("{before}\n{}", settings.text()))?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    Ok(Stage { a, b, admin, daemon, _workspace: workspace })
}

// === impl Stage ===

impl Stage {
    /// So many requests to A, each on a connection of its own, and each answered.
    fn ask(&self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            ensure!(get(self.a.address, "/items/1")?.status == 200, "A does not answer");
        }
        Ok(())
    }

    /// `understudy pause` or `resume` with these arguments; what it prints.
    fn order(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let url = format!("http://{}", self.admin);
        let mut all = arguments.to_vec();
        all.extend(["--url", &url]);
        let Finished { code, stdout, stderr } = run_to_end(&Place::Here, &all)?;
        ensure!(code == 0, "{arguments:?} ended with {code}: {stderr}");
        Ok(stdout)
    }

    fn sum(&self, name: &str) -> anyhow::Result<u64> {
        self.daemon.scrape()?.sum(name, &[])
    }

    /// Waits until nothing is copied, or all of it.
    fn wait_copying(&self, copying: bool) -> anyhow::Result<()> {
        wait_until("change of what is copied", SOON, || {
            let (_, text) = get_patiently(self.admin, "/metrics", &[])?;
            let ratio = text.lines().find_map(|line| line.strip_prefix("understudy_capture_flow_ratio "));
            let ratio: f64 = ratio.context("no flow ratio")?.parse()?;
            Ok(((ratio > 0.99) == copying && (copying || ratio < 0.001)).then_some(()))
        })
    }

    /// Waits until B has got so many requests.
    fn wait_received(&self, count: usize) -> anyhow::Result<()> {
        wait_until("request at B", SOON, || Ok((self.b.received()?.len() >= count).then_some(())))
    }

    /// How many links to the traffic the daemon holds (`link_type` of `/proc/<pid>/fdinfo`, proc(5)).
    fn links(&self) -> anyhow::Result<usize> {
        let mut links = 0;
        for file in fs::read_dir(format!("/proc/{}/fdinfo", self.daemon.id()))? {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(file?.path()).unwrap_or_default();
            links += usize::from(text.contains("link_type:"));
        }
        Ok(links)
    }
}

fn paused_by_order() -> anyhow::Result<()> {
    let stage = stage("", "")?;
    stage.ask(5)?;
    stage.wait_received(5)?;
    stage.daemon.settle(5)?;

    let said = stage.order(&["pause"])?;
    ensure!(said.contains("Paused until `understudy resume`"), "pause said: {said}");
    ensure!(stage.sum("understudy_paused")? == 1, "the metric does not say that it pauses");
    stage.wait_copying(false)?;
    let before = stage.sum("understudy_capture_packets_captured_total")?;
    stage.ask(20)?;
    let scrape = stage.daemon.settle(5)?;
    ensure!(scrape.sum("understudy_capture_packets_captured_total", &[])? == before, "packets were copied");
    ensure!(scrape.sum("understudy_exchanges_seen_total", &[])? == 5, "exchanges were seen");
    ensure!(stage.b.received()?.len() == 5, "B was asked during a pause");
    let (status, text) = get_patiently(stage.admin, "/state", &[])?;
    ensure!(status == 200 && text.contains("\"paused\":true") && text.contains("\"order\""), "{text}");
    ensure!(get_patiently(stage.admin, "/readyz", &[])?.0 == 200, "a process that pauses is ready");

    let said = stage.order(&["resume"])?;
    ensure!(said.contains("go on"), "resume said: {said}");
    stage.wait_copying(true)?;
    stage.ask(5)?;
    stage.wait_received(10)?;
    let scrape = stage.daemon.settle(10)?;
    ensure!(scrape.sum("understudy_paused", &[])? == 0 && scrape.sum("understudy_pauses_total", &[])? == 1);
    let finished = stage.daemon.interrupt()?;
    let line = finished.stderr.lines().find(|line| line.trim_start().starts_with("pauses"));
    ensure!(line.is_some_and(|line| line.contains("nothing was copied for")), "{}", finished.stderr);
    Ok(())
}

fn paused_by_time_table() -> anyhow::Result<()> {
    let stage = stage(ALWAYS, "")?;
    stage.wait_copying(false)?;
    ensure!(get_patiently(stage.admin, "/state", &[])?.1.contains("time_table"), "nobody says why it pauses");
    stage.ask(5)?;
    stage.order(&["resume"])?;
    stage.wait_copying(true)?;
    stage.ask(3)?;
    stage.wait_received(3)?;
    let scrape = stage.daemon.settle(3)?;
    ensure!(scrape.sum("understudy_exchanges_seen_total", &[])? == 3, "the pause was none");
    stage.daemon.interrupt()?;
    Ok(())
}

fn paused_from_the_start() -> anyhow::Result<()> {
    let (a, b) = (
        App::start(&Place::Here, free_address()?, Faults::None)?,
        App::start(&Place::Here, free_address()?, Faults::None)?,
    );
    for what in ["run", "capture"] {
        let admin = free_address()?;
        let settings = settings(&a, &b, admin, ALWAYS);
        let workspace = Workspace::new(&settings.text())?;
        let record = workspace.journal().with_extension("recording");
        let mut command = Place::Here.command(daemon_program());
        command.args([what, "--admin", &admin.to_string()]);
        command.arg("--config").arg(workspace.config()).arg("--record").arg(&record);
        // A is busy while it starts, on connections that begin before, within and behind that.
        let started = AtomicBool::new(false);
        let daemon = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !started.load(Ordering::Relaxed) {
                    ensure!(get(a.address, "/items/1")?.status == 200, "A does not answer");
                }
                Ok(())
            });
            let daemon = Daemon::start(&Place::Here, &mut command, admin);
            started.store(true, Ordering::Relaxed);
            let asked = asking.join().map_err(|_panic| anyhow::anyhow!("the load panicked"))?;
            asked.and(daemon)
        })?;
        for _ in 0..5 {
            ensure!(get(a.address, "/items/1")?.status == 200, "A does not answer");
        }
        let sum = |name| daemon.scrape()?.sum(name, &[]);
        let passed = || Ok((sum("understudy_capture_packets_wanted_total")? > 0).then_some(()));
        wait_until("traffic that passes", SOON, passed)?;
        daemon.settle(0)?;
        let copied = sum("understudy_capture_packets_captured_total")?;
        ensure!(copied == 0, "`{what}` copied {copied} packets of a pause");
        let (_, metrics) = get_patiently(admin, "/metrics", &[])?;
        let ratio = metrics.lines().find_map(|line| line.strip_prefix("understudy_capture_flow_ratio "));
        ensure!(ratio == Some("0.0"), "`{what}` says that it copies {ratio:?} of all connections");
        let url = format!("http://{admin}");
        ensure!(run_to_end(&Place::Here, &["resume", "--url", &url])?.code == 0, "resume failed");
        // The probe copies again, too, when the pause ends.
        wait_until("exchange", SOON, || {
            ensure!(get(a.address, "/items/1")?.status == 200, "A does not answer");
            let seen = daemon.scrape()?.sum("understudy_exchanges_seen_total", &[])?;
            Ok((seen > 0).then_some(()))
        })?;
        let finished = daemon.interrupt()?;
        ensure!(finished.code != 2, "{what} broke: {}", finished.stderr);
    }
    Ok(())
}

fn paused_for_a_time() -> anyhow::Result<()> {
    let stage = stage("", "replay.lag = \"5s\"\n")?;
    // What waits for its time when the pause begins is not sent, and has a fate that says so.
    stage.ask(5)?;
    wait_until("exchange", SOON, || Ok((stage.sum("understudy_exchanges_seen_total")? == 5).then_some(())))?;
    let said = stage.order(&["pause", "--for", "8s"])?;
    ensure!(said.contains("Paused until 20"), "pause said: {said}");
    stage.wait_copying(false)?;
    let scrape = stage.daemon.settle(5)?;
    let paused = scrape.sum("understudy_exchanges_total", &[("fate", "paused")])?;
    let sent = stage.b.received()?.len() as u64;
    ensure!(paused > 0 && paused + sent == 5, "{paused} paused and {sent} sent of 5");
    wait_until("end of the pause", SOON, || Ok((stage.sum("understudy_paused")? == 0).then_some(())))?;
    stage.wait_copying(true)?;
    let seconds = stage.sum("understudy_paused_seconds_total")?;
    ensure!((7..60).contains(&seconds), "paused for {seconds} s");
    let nobody = format!("http://{}", free_address()?);
    ensure!(run_to_end(&Place::Here, &["pause", "--url", &nobody])?.code == 2);
    stage.daemon.interrupt()?;
    Ok(())
}

fn ceiling() -> anyhow::Result<()> {
    let settings = Settings {
        port: 8080,
        admin: free_address()?,
        candidate: free_address()?,
        isolated: false,
        routes: Vec::new(),
        more: String::new(),
    };
    let workspace = Workspace::new(&format!("[protect]\nmemory_max = 134217728\n{}", settings.text()))?;
    let config = workspace.config().display().to_string();
    let Finished { code, stdout: _, stderr } = run_to_end(&Place::Here, &["run", "--config", &config])?;
    ensure!(code == 2, "it ended with {code}: {stderr}");
    for part in ["`memory_max` under [protect] allows 128 MiB", "capture.flows_max", "MiB of memory"] {
        ensure!(stderr.contains(part), "no `{part}` in: {stderr}");
    }
    Ok(())
}

fn no_start() -> anyhow::Result<()> {
    let nobody = free_address()?;
    let settings = |more: &str| Settings {
        port: 8080,
        admin: nobody,
        candidate: nobody,
        isolated: false,
        routes: Vec::new(),
        more: more.to_owned(),
    };
    // No Redis there, which alone is no reason not to start, and a spool that cannot be: its folder is a file.
    let queue = format!("[queue]\nredis = \"redis://{nobody}\"\n[spool]\npath = \"journal.db.key/spool\"\n");
    let workspace = Workspace::new(&settings(&queue).text())?;
    let (config, record) = (workspace.config(), workspace.journal().with_extension("recording"));
    let refused = |more: &[&str]| {
        let config = config.display().to_string();
        let arguments = [&["capture", "--config", &config, "--record", &record.display().to_string()], more];
        let Finished { code, stdout: _, stderr } = run_to_end(&Place::Here, &arguments.concat())?;
        ensure!(code == 2, "{more:?} ended with {code}: {stderr}");
        ensure!(!stderr.contains("Capturing"), "the probe was attached before all else was ready: {stderr}");
        ensure!(!record.exists(), "{more:?} leaves a recording behind");
        anyhow::Ok(stderr)
    };
    let said = refused(&[])?;
    ensure!(said.contains("spool"), "it does not name the spool: {said}");
    workspace.configure(&settings("").text())?;
    let said = refused(&["--cgroup", "no-such.service"])?;
    ensure!(said.contains("no-such.service"), "it does not name the cgroup: {said}");
    Ok(())
}

fn stalled() -> anyhow::Result<()> {
    let stage = stage("[protect]\nstall_max = \"2s\"\n", "")?;
    stage.ask(5)?;
    stage.wait_received(5)?;
    ensure!(stage.links()? == 2, "the probe is not attached by {} links", stage.links()?);
    let stopped = HungThread::stop(stage.daemon.id(), "capture")?;
    wait_until("end of the links", SOON, || Ok((stage.links().unwrap_or(0) == 0).then_some(())))?;
    // Nobody waits for the daemon, before and after.
    stage.ask(5)?;
    drop(stopped);
    let Stage { a: _a, b: _b, admin: _, daemon, _workspace } = stage;
    let Finished { code, stdout: _, stderr } = daemon.join(SOON)?;
    ensure!(code == 2, "it ended with {code}: {stderr}");
    ensure!(stderr.contains("made no progress for 2s"), "it does not say why: {stderr}");
    Ok(())
}

fn stopped() -> anyhow::Result<()> {
    // A ring that a few hundred requests fill, and a watchdog that must not mistake this for a stall.
    let stage = stage("[protect]\nstall_max = \"1s\"\n", "")?;
    stage.ask(5)?;
    stage.daemon.settle(5)?;
    stage.daemon.signal(Signal::STOP)?;
    let before = constant(stage.a.address, Load { time: Duration::from_secs(3), ..calm() })?;
    stage.daemon.signal(Signal::CONT)?;
    ensure!(before.answered >= 100, "A answered only {} requests", before.answered);
    let scrape = stage.daemon.settle(5)?;
    oracle::check(&scrape)?;
    ensure!(
        scrape.sum("understudy_capture_stalls_total", &[])? == 0,
        "a stopped process is none that stands still"
    );
    ensure!(stage.links()? == 2, "the probe was detached");
    stage.ask(5)?;
    stage.wait_received(10)?;
    ensure!(stage.daemon.interrupt()?.code != 2, "the daemon broke");
    Ok(())
}

/// A load that a debug build carries.
fn calm() -> Load<'static> {
    Load { target: "/items/1", per_second: 400, connections: 4, time: Duration::from_secs(1) }
}

fn privileges() -> anyhow::Result<()> {
    const DAC_OVERRIDE: u64 = 1 << 1;
    let stage = stage("", "")?;
    let tasks = fs::read_dir(format!("/proc/{}/task", stage.daemon.id()))?;
    let tasks: Vec<PathBuf> = tasks.map(|task| Ok(task?.path())).collect::<anyhow::Result<_>>()?;
    ensure!(tasks.len() >= 3, "only {} threads", tasks.len());
    for task in &tasks {
        let (name, status) =
            (fs::read_to_string(task.join("comm"))?, fs::read_to_string(task.join("status"))?);
        let number = |key: &str, radix: u32| -> anyhow::Result<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
            Ok(u64::from_str_radix(value.trim(), radix)?)
        };
        for key in ["CapEff:", "CapPrm:", "CapInh:"] {
            let capabilities = number(key, 16)?;
            ensure!(capabilities & !DAC_OVERRIDE == 0, "thread {name} has {key} {capabilities:x}");
        }
        ensure!(number("NoNewPrivs:", 10)? == 1, "thread {name} may gain privileges");
    }
    // The maps can be read and written without them: traffic is captured, a pause is obeyed, and the end is clean.
    stage.ask(5)?;
    stage.wait_received(5)?;
    stage.order(&["pause"])?;
    stage.wait_copying(false)?;
    let Stage { a: _a, b: _b, admin: _, daemon, _workspace } = stage;
    let finished = daemon.interrupt()?;
    ensure!(finished.code != 2, "it ended with {}: {}", finished.code, finished.stderr);
    Ok(())
}

/// Rounds of the flood, each without and with the daemon, so that what else the machine does falls on both.
const ROUNDS: usize = 3;

fn flood() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    // More than A can answer.
    let load =
        Load { target: "/items/1", per_second: 200_000, connections: 16, time: Duration::from_secs(2) };
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(constant(a.address, load)?);
        let admin = free_address()?;
        // As it is installed: everything that protects A at its default. B gets what it can take.
        let workspace = Workspace::new(&format!(
            "[capture]\nports = [{}]\n[admin]\nlisten = \"{admin}\"\n[journal]\npath = \"journal.db\"\n\
             [[experiment]]\nname = \"flood\"\ncandidate.url = \"http://{}\"\n\
             replay.requests_per_second_max = 50\nnoise.again = \"off\"\n",
            a.address.port(),
            b.address
        ))?;
        let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
        // The first round of a process brings its tables to their size.
        constant(a.address, Load { time: Duration::from_secs(1), ..load })?;
        let memory_before = daemon.memory_kib_max()?;
        with.push(constant(a.address, load)?);
        pause(Duration::from_millis(300));
        let memory_after = daemon.memory_kib_max()?;
        let scrape = daemon.settle(1)?;
        let copied = scrape.sum("understudy_capture_packets_captured_total", &[])?;
        let wanted = scrape.sum("understudy_capture_packets_wanted_total", &[])?;
        let throttled = scrape.sum("understudy_capture_throttled_total", &[])?;
        eprintln!(
            "flood: memory {memory_before} KiB before and {memory_after} KiB after, {copied} of {wanted} packets copied, \
             throttled {throttled} times"
        );
        ensure!(memory_after < 400 << 10, "{memory_after} KiB of memory");
        ensure!(
            memory_after < memory_before + (48 << 10),
            "memory grows: {memory_before} to {memory_after} KiB"
        );
        let finished = daemon.interrupt()?;
        ensure!(finished.code != 2, "the daemon broke: {}", finished.stderr);
    }
    let show = |name: &str, results: &[LoadResult]| {
        for LoadResult { answered, median, slow } in results {
            let per_second = answered / load.time.as_secs();
            eprintln!(
                "flood {name}: {per_second} requests a second, median {median:?}, 99th percentile {slow:?}"
            );
        }
        results.iter().map(|result| result.answered).max().unwrap_or_default()
    };
    let (without, with) = (show("without", &without), show("with", &with));
    ensure!(with * 3 > without, "A answers {with} requests with the daemon, and {without} without it");
    Ok(())
}
