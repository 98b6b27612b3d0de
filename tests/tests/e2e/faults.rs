//! What goes wrong around the daemon: each fault has a message that names it, and the exit code that fits.
//!
//! A candidate's faults are `candidate`'s.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aya::programs::{loaded_links, loaded_programs};
use rustix::process::Signal;
use tempfile::TempDir;
use understudy_tests::app::Faults;
use understudy_tests::client::get;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Finished, Settings, Workspace, finish, run_to_end};
use understudy_tests::disk::SmallDisk;
use understudy_tests::mix::{Pace, drive, every_shape};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::server::{App, free_address};

use crate::Case;

const TOOLS: &[Prerequisite] = &[Prerequisite::Tool("setpriv")];

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_port_nobody_listens_on_is_said_and_waited_for", needs: KERNEL, run: nobody_listens },
    Case { name: "without_privileges_it_says_which_are_missing", needs: KERNEL, run: no_privileges },
    Case { name: "without_cgroup_v2_it_says_so", needs: KERNEL, run: no_cgroup },
    Case { name: "a_taken_admin_port_is_named", needs: KERNEL, run: admin_taken },
    Case { name: "an_unknown_key_is_named_with_its_line", needs: TOOLS, run: unknown_key },
    Case { name: "a_route_that_does_not_parse_is_named", needs: TOOLS, run: bad_route },
    Case { name: "a_candidate_that_is_the_captured_listener_is_refused", needs: KERNEL, run: own_listener },
    Case { name: "a_missing_configuration_file_is_named", needs: TOOLS, run: no_file },
    Case { name: "the_template_is_a_valid_configuration", needs: TOOLS, run: template },
    Case { name: "a_journal_without_room_is_named_with_the_remedy", needs: KERNEL, run: journal_full },
    Case { name: "a_journal_that_was_removed_is_named_with_the_remedy", needs: KERNEL, run: journal_removed },
    Case { name: "an_interrupt_drains_and_prints_the_report", needs: KERNEL, run: interrupt },
    Case { name: "a_kill_leaves_no_link_behind", needs: KERNEL, run: kill },
];

/// The exit code for wrong usage, wrong configuration, or a machine that cannot do it.
const USAGE: i32 = 2;

fn settings(port: u16, candidate: SocketAddr) -> anyhow::Result<Settings> {
    let admin = free_address()?;
    Ok(Settings { port, admin, candidate, isolated: false, routes: Vec::new(), more: String::new() })
}

/// Fails unless it ended with `code` and said each of `parts` on standard error.
fn check(finished: &Finished, code: i32, parts: &[&str]) -> anyhow::Result<()> {
    let said = finished.stderr.to_lowercase();
    ensure!(finished.code == code, "exit code {}: {}", finished.code, finished.stderr);
    for part in parts {
        ensure!(said.contains(&part.to_lowercase()), "no word of `{part}`: {}", finished.stderr);
    }
    ensure!(!said.contains("panicked"), "{}", finished.stderr);
    Ok(())
}

/// A run whose journal lies in `folder`, with which something happens while requests come: it says so once, in these words and
/// with the file, counts what is lost, and goes on.
fn journal_fails(
    folder: &Path,
    happens: impl FnOnce(&Path) -> anyhow::Result<()>,
    words: &[&str],
) -> anyhow::Result<()> {
    const REQUESTS: usize = 400;
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::Planted)?;
    let settings = settings(a.address.port(), b.address)?;
    let journal = folder.join("results.db");
    let text = settings.text().replace("path = \"journal.db\"", &format!("path = {journal:?}"));
    let workspace = Workspace::new(&text)?;
    let daemon = Daemon::run(&Place::Here, &workspace, settings.admin, &[])?;
    drive(a.address, &every_shape(20), Pace { per_second: None, connections: 2 })?;
    happens(&journal)?;
    let sent = drive(a.address, &every_shape(REQUESTS), Pace { per_second: None, connections: 4 })?;
    let scrape = daemon.settle(sent.len() as u64)?;
    ensure!(scrape.sum("understudy_journal_lost_comparisons_total", &[])? > 0, "nothing is said to be lost");
    let end = daemon.interrupt()?;
    let file = format!("journal `{}`", journal.display());
    let said: Vec<&str> = end.stderr.lines().filter(|line| line.contains("results are lost")).collect();
    ensure!(said.len() == 1, "it is said {} times: {}", said.len(), end.stderr);
    for part in words.iter().copied().chain([file.as_str()]) {
        ensure!(said.iter().all(|line| line.contains(part)), "no word of `{part}`: {said:?}");
    }
    check(&end, USAGE, &["the report above is not complete", &file])
}

fn journal_full() -> anyhow::Result<()> {
    let disk = SmallDisk::mount("1m")?;
    let fill = |_: &Path| disk.fill().map(drop);
    journal_fails(disk.folder(), fill, &["its disk is full; make room", "[journal] path"])
}

fn journal_removed() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let inner = folder.path().join("results");
    std::fs::create_dir(&inner)?;
    let remove = |_: &Path| std::fs::remove_dir_all(&inner).context("failed to remove the folder");
    journal_fails(&inner, remove, &["is not at its place any more", "put its folder back and restart"])
}

/// Runs a configuration that must be refused, with both commands that read one.
fn refused(configuration: &str, parts: &[&str]) -> anyhow::Result<()> {
    let workspace = Workspace::new(configuration)?;
    let file = workspace.config().display().to_string();
    check(&run_to_end(&Place::Here, &["run", "--config", &file])?, USAGE, parts)?;
    check(&run_to_end(&Place::Here, &["config", "check", "--config", &file])?, USAGE, parts)
}

fn nobody_listens() -> anyhow::Result<()> {
    let address = free_address()?;
    let daemon = Daemon::inspect(&Place::Here, address.port(), free_address()?, &["--json"])?;
    let port = address.port().to_string();
    wait_until("message about the port", DRAIN_WAIT_MAX, || {
        let said = daemon.stderr();
        Ok((said.contains(&port) && said.contains("listen")).then_some(()))
    })
    .with_context(|| format!("it said: {}", daemon.stderr()))?;
    let app = App::start(&Place::Here, address, Faults::None)?;
    get(app.address, "/items/1")?;
    daemon.settle(1)?;
    let finished = daemon.interrupt()?;
    ensure!(finished.stdout.lines().count() == 1, "{}", finished.stdout);
    Ok(())
}

fn no_privileges() -> anyhow::Result<()> {
    // Root without capabilities may read the program but not load a probe, as any user.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(daemon_program());
    command.args(["inspect", "--port", "18"]);
    check(&finish(&mut command, Duration::from_secs(10))?, USAGE, &["CAP_BPF"])
}

fn no_cgroup() -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "umount --all --types cgroup2 && exec \"$0\" inspect --port 18"]);
    command.arg(daemon_program());
    check(&finish(&mut command, Duration::from_secs(10))?, USAGE, &["cgroup v2"])
}

fn admin_taken() -> anyhow::Result<()> {
    let taken = TcpListener::bind(free_address()?)?;
    let admin = taken.local_addr()?.to_string();
    let port = free_address()?.port().to_string();
    let arguments = ["inspect", "--port", &port, "--admin", &admin];
    check(&run_to_end(&Place::Here, &arguments)?, USAGE, &[&admin])
}

fn unknown_key() -> anyhow::Result<()> {
    let text = settings(8080, SocketAddr::from(([127, 0, 0, 1], 9)))?.text();
    let line = text.lines().position(|line| line.starts_with("methods")).context("no methods")? + 1;
    refused(&text.replace("methods =", "methodes ="), &["methodes", &format!("line {line}")])
}

fn bad_route() -> anyhow::Result<()> {
    for route in ["/items/{id", "~[unclosed", "items"] {
        let mut settings = settings(8080, SocketAddr::from(([127, 0, 0, 1], 9)))?;
        settings.routes = vec![route];
        refused(&settings.text(), &["routes", route])?;
    }
    Ok(())
}

fn own_listener() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let text = settings(app.address.port(), app.address)?.text();
    let workspace = Workspace::new(&text)?;
    let file = workspace.config().display().to_string();
    let finished = run_to_end(&Place::Here, &["run", "--config", &file])?;
    check(&finished, USAGE, &[&app.address.to_string(), "captured"])
}

fn no_file() -> anyhow::Result<()> {
    let finished = run_to_end(&Place::Here, &["run", "--config", "no-such-file.toml"])?;
    check(&finished, USAGE, &["no-such-file.toml"])
}

fn template() -> anyhow::Result<()> {
    let printed = run_to_end(&Place::Here, &["config", "template"])?;
    check(&printed, 0, &[])?;
    ensure!(printed.stdout.contains("[[experiment]]"), "{}", printed.stdout);
    let workspace = Workspace::new(&printed.stdout)?;
    let file = workspace.config().display().to_string();
    check(&run_to_end(&Place::Here, &["config", "check", "--config", &file])?, 0, &[])
}

/// How long a drain may take after Ctrl-C, which is promised, and as long again for a busy machine.
const PROMISED_END_MAX: Duration = Duration::from_secs(5 + 5);

fn interrupt() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    // How fast B is, on cores that it shares with everything else, is not asked here.
    let more = "[experiment.verdict]\nlatency_extra_ms_max = 10000.0".to_owned();
    let settings = Settings { more, ..settings(a.address.port(), b.address)? };
    let workspace = Workspace::new(&settings.text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, settings.admin, &[])?;
    let planned = every_shape(400);
    let finished = std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(a.address, &planned, Pace { per_second: Some(200), connections: 4 }));
        wait_until("exchanges", DRAIN_WAIT_MAX, || {
            let seen = daemon.scrape()?.sum("understudy_exchanges_seen_total", &[])?;
            Ok((seen >= 50).then_some(()))
        })?;
        daemon.signal(Signal::INT)?;
        let finished = daemon.join(PROMISED_END_MAX)?;
        let sent = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(sent.len() == planned.len(), "a client of A noticed");
        Ok(finished)
    })?;
    ensure!([0, 3].contains(&finished.code), "exit code {}: {}", finished.code, finished.stderr);
    ensure!(finished.stdout.contains("lab"), "no report: {}", finished.stdout);
    Ok(())
}

fn kill() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let daemon = Daemon::inspect(&Place::Here, app.address.port(), free_address()?, &["--quiet"])?;
    // Other daemons may run at the same time, so the ones of this daemon are told by their ids.
    let (links, programs) = held(daemon.id())?;
    ensure!(links.len() >= 2 && programs.len() >= 2, "it holds links {links:?} and programs {programs:?}");
    ensure!(links.is_subset(&all_links()?), "links {links:?} are not listed");
    daemon.signal(Signal::KILL)?;
    let code = daemon.join(DRAIN_WAIT_MAX)?.code;
    ensure!(code == 137, "exit code {code}");
    // The kernel frees them a moment later, after a grace period.
    wait_until("end of the links", DRAIN_WAIT_MAX, || {
        let programs_left = all_programs()?.intersection(&programs).count();
        Ok((all_links()?.is_disjoint(&links) && programs_left == 0).then_some(()))
    })?;
    ensure!(get(app.address, "/items/1")?.status == 200, "A does not answer");
    Ok(())
}

/// Ids of the BPF links and programs that a process holds by file descriptor (`/proc/<pid>/fdinfo`).
pub(crate) fn held(process: u32) -> anyhow::Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    let (mut links, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // A descriptor may be closed between the two reads.
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u32>().ok());
        links.extend(id("link_id:"));
        programs.extend(id("prog_id:"));
    }
    Ok((links, programs))
}

pub(crate) fn all_links() -> anyhow::Result<BTreeSet<u32>> {
    // One that goes away while the list is read is an error of that entry; it is gone, which is what is asked.
    Ok(loaded_links().filter_map(Result::ok).map(|link| link.id()).collect())
}

fn all_programs() -> anyhow::Result<BTreeSet<u32>> {
    Ok(loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect())
}
