//! The daemon as a service: what it says to the manager that started it, and instances of one configuration.
//!
//! The manager is a socket; units and packages are tested by `cargo xtask dist --check`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use understudy_tests::app::Faults;
use understudy_tests::client::get;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Finished, Workspace, finish};
use understudy_tests::fleet::{Fleet, Setup};
use understudy_tests::manager::{HungThread, Manager};
use understudy_tests::mix::{Pace, drive, every_route};
use understudy_tests::prereq::{FLEET, KERNEL, daemon_program};
use understudy_tests::process::{Place, Process};
use understudy_tests::redis::Server;
use understudy_tests::server::{App, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "ready_comes_when_the_next_request_is_captured", needs: KERNEL, run: ready },
    Case { name: "a_reload_is_told_and_loses_no_exchange", needs: KERNEL, run: reload },
    Case {
        name: "a_reload_that_takes_a_restart_fails_and_names_the_keys",
        needs: KERNEL,
        run: restart_needed,
    },
    Case { name: "a_capture_thread_that_hangs_gives_no_sign_of_life", needs: KERNEL, run: hung },
    Case { name: "a_service_that_cannot_start_is_never_ready", needs: KERNEL, run: never_ready },
    Case { name: "captures_and_workers_tell_the_same", needs: FLEET, run: fleet },
    Case { name: "an_instance_is_a_port_and_a_file_of_its_own", needs: KERNEL, run: instances },
];

/// How long the manager waits for a sign of life.
const WATCHDOG: Duration = Duration::from_millis(1500);
/// How long the service may take to be ready, and to do what it is asked to.
const WAIT_MAX: Duration = Duration::from_secs(15);

fn run(workspace: &Workspace) -> Command {
    let mut command = Place::Here.command(daemon_program());
    command.arg("run").arg("--config").arg(workspace.config());
    command
}

/// A configuration without an experiment's more.
fn text(a: &App, b: &App, admin: std::net::SocketAddr) -> String {
    format!(
        "[capture]\nports = [{}]\nnice = 0\ncpu_max = \"100%\"\n[admin]\nlisten = \"{admin}\"\n[journal]\npath = \"journal.db\"\n\
         [[experiment]]\nname = \"lab\"\ncandidate = {{ url = \"http://{}\", isolated = true }}\nnoise.again = \"off\"\n",
        a.address.port(),
        b.address
    )
}

fn apps() -> anyhow::Result<(App, App)> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    Ok((a, b))
}

fn ready() -> anyhow::Result<()> {
    let (a, b) = apps()?;
    let admin = free_address()?;
    let workspace = Workspace::new(&text(&a, &b, admin))?;
    let mut manager = Manager::listen()?;
    let mut command = run(&workspace);
    manager.manage(&mut command, WAIT_MAX);
    let mut process = Process::start("understudy", &mut command)?;
    manager.wait_for("READY=1", WAIT_MAX)?;
    // No later than this: the probe is attached.
    get(a.address, "/items/1")?;
    // Nor may a signal that comes now end it without a report.
    process.signal(Signal::INT)?;
    manager.wait_for("STOPPING=1", DRAIN_WAIT_MAX)?;
    process.wait(DRAIN_WAIT_MAX)?;
    let ledger = process.stderr().split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(ledger.contains("lab: exchanges 1 "), "{ledger}");
    ensure!(!ledger.contains("no sign of life"), "{ledger}");
    Ok(())
}

fn reload() -> anyhow::Result<()> {
    const REQUESTS: usize = 200;
    let (a, b) = apps()?;
    let admin = free_address()?;
    let workspace = Workspace::new(&text(&a, &b, admin))?;
    let mut manager = Manager::listen()?;
    let mut command = run(&workspace);
    manager.manage(&mut command, WATCHDOG);
    let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
    manager.wait_for("READY=1", WAIT_MAX)?;
    let good = text(&a, &b, admin);
    let sent = std::thread::scope(|scope| -> anyhow::Result<usize> {
        let load = scope.spawn(|| {
            drive(a.address, &every_route(REQUESTS), Pace { per_second: Some(200), connections: 4 })
        });
        // A configuration that is refused leaves the service as ready as one that is taken.
        for text in
            [format!("{good}compare.ignore = [\"header:date\"]\n"), "[capture\n".to_owned(), good.clone()]
        {
            workspace.configure(&text)?;
            daemon.signal(Signal::HUP)?;
            manager.wait_for("RELOADING=1", WAIT_MAX)?;
            manager.wait_for("MONOTONIC_USEC=", WAIT_MAX)?;
            manager.wait_for("READY=1", WAIT_MAX)?;
        }
        Ok(load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?.len())
    })?;
    let scrape = daemon.settle(sent as u64)?;
    let matched = scrape.sum("understudy_exchanges_total", &[("fate", "matched")])?;
    let ignored = scrape.sum("understudy_exchanges_total", &[("fate", "ignored")])?;
    ensure!(matched + ignored == sent as u64, "{matched} and {ignored} of {sent}");
    manager.wait_for("STATUS=lab: ", WAIT_MAX)?;
    daemon.signal(Signal::INT)?;
    manager.wait_for("STOPPING=1", DRAIN_WAIT_MAX)?;
    daemon.join(DRAIN_WAIT_MAX)?;
    Ok(())
}

/// What the unit does at `systemctl reload`: a signal, then `config check` in the place of the service.
fn restart_needed() -> anyhow::Result<()> {
    let (a, b) = apps()?;
    let admin = free_address()?;
    let good = text(&a, &b, admin);
    let workspace = Workspace::new(&good)?;
    let state = tempfile::tempdir()?;
    let mut manager = Manager::listen()?;
    let mut command = run(&workspace);
    manager.manage(&mut command, WATCHDOG);
    command.env("STATE_DIRECTORY", state.path());
    let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
    manager.wait_for("READY=1", WAIT_MAX)?;
    let main = daemon.id().to_string();
    let check = |is_reload: bool| {
        let mut command = Place::Here.command(daemon_program());
        command.args(["config", "check", "--config"]).arg(workspace.config());
        command.env("STATE_DIRECTORY", state.path());
        if is_reload {
            command.env("MAINPID", &main);
        }
        finish(&mut command, WAIT_MAX)
    };
    let mut reload = |text: &str, result: &'static str| -> anyhow::Result<Finished> {
        workspace.configure(text)?;
        let reloads = || -> anyhow::Result<u64> {
            daemon.scrape()?.sum("understudy_config_reloads_total", &[("result", result)])
        };
        let before = reloads()?;
        daemon.signal(Signal::HUP)?;
        manager.wait_for("READY=1", WAIT_MAX)?;
        ensure!(reloads()? == before + 1, "it does not count as {result}");
        check(true)
    };
    let rules = format!("{good}compare.ignore = [\"header:date\"]\n");
    let taken = reload(&rules, "ok")?;
    ensure!(taken.code == 0, "what can change is refused: {}", taken.stderr);
    let journal = rules.replace("\"journal.db\"", "\"other.db\"").replace("nice = 0", "nice = 1");
    let more = format!("{journal}replay.in_flight_max = 3\n");
    let refused = reload(&more, "restart_needed")?;
    ensure!(refused.code == 2, "exit code {}: {}", refused.code, refused.stdout);
    let log = daemon.stderr();
    for key in ["`capture`", "`journal`", "`experiment.replay` of experiment `lab`"] {
        ensure!(refused.stderr.contains(key), "`config check` does not name {key}: {}", refused.stderr);
        ensure!(log.contains(key), "the log does not name {key}: {log}");
    }
    ensure!(refused.stderr.contains("restart it"), "{}", refused.stderr);
    // By hand, and before a start, nothing runs that it could not hold for.
    ensure!(check(false)?.code == 0, "a good file is refused though nobody reloads");
    let wrong = reload("[capture\n", "failed")?;
    ensure!(wrong.code == 2 && !wrong.stderr.contains("restart it"), "{}", wrong.stderr);
    let taken = reload(&good, "ok")?;
    ensure!(taken.code == 0, "what runs is refused: {}", taken.stderr);
    // Its own files are as private as the others among its state.
    let kept = state.path().join("started");
    let modes =
        [(kept.clone(), 0o700), (kept.join(workspace.config().file_name().unwrap_or_default()), 0o600)];
    for (path, expected) in modes {
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        ensure!(mode == expected, "{} has mode {mode:o}", path.display());
    }
    daemon.interrupt().map(drop)
}

fn hung() -> anyhow::Result<()> {
    let (a, b) = apps()?;
    let admin = free_address()?;
    let workspace = Workspace::new(&text(&a, &b, admin))?;
    let mut manager = Manager::listen()?;
    let mut command = run(&workspace);
    manager.manage(&mut command, WATCHDOG);
    let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
    let beats = |said: &[String]| said.iter().filter(|line| *line == "WATCHDOG=1").count();
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1", WAIT_MAX)?;
    }
    let hung = HungThread::stop(daemon.id(), "capture")?;
    // What it published before may make for one more.
    manager.wait_for("STATUS=The capture thread hangs.", WAIT_MAX)?;
    let said = manager.listen_for(2 * WATCHDOG)?;
    ensure!(beats(said) == 0, "a thread that hangs gives signs of life: {said:?}");
    // The rest of the process does: the manager would have to be the one that ends it.
    ensure!(daemon.scrape().is_ok(), "the admin listener does not answer");
    drop(hung);
    manager.wait_for("WATCHDOG=1", WAIT_MAX)?;
    get(a.address, "/items/1")?;
    daemon.settle(1)?;
    let end = daemon.interrupt()?;
    ensure!(end.stderr.contains("no sign of life"), "{}", end.stderr);
    Ok(())
}

fn never_ready() -> anyhow::Result<()> {
    let (a, b) = apps()?;
    let admin = free_address()?;
    let text = text(&a, &b, admin).replace("[capture]", "[capture]\ncgroup = \"nowhere.service\"");
    let workspace = Workspace::new(&text)?;
    let mut manager = Manager::listen()?;
    let mut command = run(&workspace);
    manager.manage(&mut command, WATCHDOG);
    let end = finish(&mut command, WAIT_MAX)?;
    ensure!(end.code == 2, "exit code {}: {}", end.code, end.stderr);
    let said = manager.listen_for(Duration::from_millis(50))?;
    ensure!(said.is_empty(), "it said {said:?}");
    Ok(())
}

fn fleet() -> anyhow::Result<()> {
    let redis = Server::start()?;
    let mut fleet = Fleet::start(Setup { workers: 0, ..Setup::new(&redis) })?;
    fleet.end_capture()?;
    for what in ["capture", "replay"] {
        let mut manager = Manager::listen()?;
        let admin = free_address()?;
        let mut command = Place::Here.command(daemon_program());
        command.arg(what).arg("--config").arg(fleet.workspace.config());
        command.args(["--admin", &admin.to_string()]);
        manager.manage(&mut command, WATCHDOG);
        let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
        manager.wait_for("READY=1", WAIT_MAX)?;
        manager.wait_for("STATUS=lab: 0 exchanges, 0 in flight", WAIT_MAX)?;
        manager.wait_for("WATCHDOG=1", WAIT_MAX)?;
        daemon.signal(Signal::HUP)?;
        manager.wait_for("RELOADING=1", WAIT_MAX)?;
        manager.wait_for("READY=1", WAIT_MAX)?;
        daemon.signal(Signal::TERM)?;
        manager.wait_for("STOPPING=1", DRAIN_WAIT_MAX)?;
        daemon.join(WAIT_MAX)?;
    }
    Ok(())
}

fn instances() -> anyhow::Result<()> {
    let (a, b) = apps()?;
    let (second, admin) = (free_address()?, free_address()?);
    // The host's file names no port and no experiment: it is what the instances have in common.
    let workspace =
        Workspace::new("[capture]\nnice = 0\ncpu_max = \"100%\"\n[journal]\npath = \"journal.db\"\n")?;
    let folder = workspace.config().with_file_name("conf.d");
    std::fs::create_dir(&folder)?;
    let port = a.address.port().to_string();
    let own = |admin: std::net::SocketAddr| {
        format!(
            "[admin]\nlisten = \"{admin}\"\n[[experiment]]\nname = \"own\"\ncandidate.url = \"http://{}\"\n",
            b.address
        )
    };
    std::fs::write(folder.join(format!("{port}.toml")), own(admin))?;
    let check = |instance: &str| {
        let mut command = Place::Here.command(daemon_program());
        command.args(["config", "check", "--instance", instance, "--config"]).arg(workspace.config());
        finish(&mut command, WAIT_MAX)
    };
    let good = check(&port)?;
    ensure!(good.code == 0 && good.stdout.contains("conf.d"), "{}{}", good.stdout, good.stderr);
    ensure!(check("nobody")?.code == 2, "an instance that is nowhere is good");
    // Their folders of state are those of other units, also where a file of that name is there.
    for taken in ["capture", "replay"] {
        std::fs::write(folder.join(format!("{taken}.toml")), own(admin))?;
        let mut started = run(&workspace);
        started.args(["--instance", taken]);
        for refused in [check(taken)?, finish(&mut started, WAIT_MAX)?] {
            ensure!(refused.code == 2, "{taken}: exit code {}: {}", refused.code, refused.stderr);
            let unit = format!("understudy-{taken}.service");
            ensure!(
                refused.stderr.contains(&unit) && refused.stderr.contains("another name"),
                "{}",
                refused.stderr
            );
        }
    }

    let mut command = run(&workspace);
    command.args(["--instance", &port]);
    let daemon = Daemon::start(&Place::Here, &mut command, admin)?;
    get(a.address, "/items/1")?;
    daemon.settle(1)?;
    // The instance's own file is read again, too: what cannot change says whose it is.
    std::fs::write(folder.join(format!("{port}.toml")), own(second))?;
    daemon.signal(Signal::HUP)?;
    understudy_tests::clock::wait_until("refusal", WAIT_MAX, || {
        Ok(daemon.stderr().contains("`admin` cannot change").then_some(()))
    })?;
    daemon.interrupt()?;
    Ok(())
}
