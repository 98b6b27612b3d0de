//! The commands of the runbooks, typed as they stand there, on a host that is set up as the manual says.
//!
//! Asks whether they run and do what is said of them; what they print is the concern of others. Sees a file system of its
//! own: nothing of this host's is changed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use understudy_tests::app::Faults;
use understudy_tests::client::get;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Finished, finish};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::redis::Server;
use understudy_tests::server::{App, free_address};

use crate::{Case, repository};

pub(crate) const CASES: &[Case] =
    &[Case { name: "the_commands_of_the_runbooks_run_as_written", needs: NEEDS, run: as_written }];

const NEEDS: &[Prerequisite] = &[
    KERNEL[0],
    KERNEL[1],
    KERNEL[2],
    Prerequisite::Tool("unshare"),
    Prerequisite::Tool("nsenter"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
];

/// Longest time of a command.
const COMMAND_MAX: Duration = Duration::from_secs(20);
/// How long until something was compared.
const COMPARED_MAX: Duration = Duration::from_secs(20);
/// What a host has after `apt-get install` and the first commands of the manual, made of temporary folders; then the service.
const HOST: &str = "set -e; mount -t tmpfs tmpfs /etc; mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/understudy/8080 /var/lib/understudy/capture /var/lib/understudy/replay; cp -r \"$FILES\" /etc/understudy
cd /var/lib/understudy/8080; exec \"$PROGRAM\" run --config /etc/understudy/understudy.toml --instance 8080";

/// The examples of the package as an operator fills them in.
fn configure(folder: &Path, a: &App, b: &App, admin: &str, redis: &Server) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder.join("conf.d"))?;
    let example = |name: &str| std::fs::read_to_string(repository("deploy/config").join(name));
    let candidate = format!("http://{}", b.address);
    let fill = |text: String| {
        let text = text.replace("http://search-next.internal:8080", &candidate);
        let text = text.replace("http://search-twin.internal:8080", &candidate);
        let text = text.replace("cgroup = \"shop.service\"", "");
        let text = text.replace("ports = [8080]", &format!("ports = [{}]", a.address.port()));
        text.replace("rediss://redis.internal:6379/0", &redis.url())
    };
    let capture = format!("ports = [{}]\n", a.address.port());
    let instance = fill(example("instance.toml")?).replace("127.0.0.1:9469", admin);
    let instance =
        instance.replace("sample = \"25%\"", "").replace("[capture]\n", &format!("[capture]\n{capture}"));
    std::fs::write(folder.join("understudy.toml"), example("understudy.toml")?)?;
    std::fs::write(folder.join("conf.d/8080.toml"), instance)?;
    let mut key =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("redact.key"))?;
    key.write_all(b"a key of tests, which keeps no secret of anybody")?;
    for name in ["capture.toml", "replay.toml"] {
        let text = fill(example(name)?) + "\n[redact]\nkey = \"/etc/understudy/redact.key\"\n";
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// What stands between backticks in the runbooks and is a whole command of ours, once each. What has no argument names a
/// command, and is none that is to be typed.
fn commands() -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(repository("docs/runbooks.md"))?.replace('\n', " ");
    let codes = text.split('`').skip(1).step_by(2);
    let is_whole = |code: &&str| code.starts_with("understudy ") && code.contains(" -");
    let mut found: Vec<String> = codes.filter(is_whole).map(str::to_owned).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn as_written() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::Planted)?;
    let (admin, redis, folder) = (free_address()?, Server::start()?, TempDir::new()?);
    let files = folder.path().join("understudy");
    configure(&files, &a, &b, &admin.to_string(), &redis)?;
    let mut host = Place::Here.command("unshare");
    host.args(["--mount", "sh", "-c", HOST]).env("FILES", &files).env("PROGRAM", daemon_program());
    let daemon = Daemon::start(&Place::Here, &mut host, admin)?;
    wait_until("comparison", COMPARED_MAX, || {
        get(a.address, "/search?q=zebra")?;
        Ok((daemon.scrape()?.sum("understudy_comparisons_total", &[])? > 0).then_some(()))
    })?;
    // A fleet of which there is something to report.
    let worker = typed(&daemon, "understudy replay -c /etc/understudy/replay.toml --admin off --for 1s")?;
    ensure!(worker.code == 3, "{worker:?}");
    let commands = commands()?;
    ensure!(commands.len() > 5, "only {commands:?}");
    for command in &commands {
        let words = command.replace("PORT", &a.address.port().to_string());
        let finished = typed(&daemon, &words).with_context(|| format!("`{command}`"))?;
        check(&words, &finished).with_context(|| format!("`{command}`: {finished:?}"))?;
    }
    let Finished { code, stderr, .. } = daemon.interrupt()?;
    ensure!(code == 1 && !stderr.contains("panicked"), "it ended with {code}: {stderr}");
    Ok(())
}

/// Types it where the daemon is, as root does.
fn typed(daemon: &Daemon, words: &str) -> anyhow::Result<Finished> {
    let mut words = words.split_whitespace();
    ensure!(words.next() == Some("understudy"), "no command of ours");
    let target = daemon.id().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &target, "--", "setpriv", "--pdeathsig", "TERM"]);
    let words: Vec<&str> = words.collect();
    if words.first() == Some(&"inspect") {
        // It goes on until it is stopped.
        command.args(["timeout", "--signal", "INT", "3"]);
    }
    command.arg(daemon_program()).args(words);
    finish(&mut command, COMMAND_MAX)
}

/// That it did what it is for, or said what is wrong with this host; never that it was typed wrongly.
fn check(words: &str, finished: &Finished) -> anyhow::Result<()> {
    let Finished { code, stdout, stderr } = finished;
    ensure!(!stderr.contains("Usage:") && !stderr.contains("panicked"), "typed wrongly");
    let what = words.split_whitespace().nth(1).unwrap_or_default();
    let (codes, says): (&[i32], &str) = match what {
        "pause" => (&[0], "Paused until"),
        "resume" => (&[0], "go on"),
        "config" => (&[0], "is good"),
        "doctor" => (&[0, 1], "probe"),
        // Of a fleet without a worker, or of an instance with a wrong B.
        "report" => (&[1, 3], "search-rewrite"),
        "inspect" => (&[0, 124], ""),
        _ => (&[], ""),
    };
    ensure!(codes.contains(code), "it ended with {code}");
    ensure!(stdout.contains(says), "it does not say `{says}`");
    Ok(())
}
