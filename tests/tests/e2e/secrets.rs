//! Secrets stay home: what is planted in requests and answers is searched for in everything that leaves the daemon or that
//! it keeps.
//!
//! Believes no silence: each search must find a marker that is no secret, and with redaction off it must find the secrets.

#[path = "secrets/inspect.rs"]
mod inspect;
#[path = "secrets/search.rs"]
mod search;
#[path = "secrets/vault.rs"]
mod vault;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use understudy_tests::client::get_patiently;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Finished, Settings, Workspace, finish};
use understudy_tests::prereq::{FLEET, KERNEL, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::redis;
use understudy_tests::server::free_address;

use crate::Case;
use search::{
    Haystack, check_modes, contains, found, of_end, of_folder, of_redis, of_text, search, spellings,
};
use vault::{Habits, MESSAGE_MARKER, OF_SERVERS, SECRETS, TRAILER, Vault, send, send_for_garbage};

pub(crate) const CASES: &[Case] = &[
    Case { name: "no_secret_leaves_a_fleet", needs: FLEET, run: fleet },
    Case { name: "without_redaction_the_search_finds_them", needs: FLEET, run: control },
    Case { name: "no_secret_is_kept_by_a_run_whose_candidate_gets_them", needs: KERNEL, run: beside },
    Case { name: "a_candidate_elsewhere_gets_tokens", needs: KERNEL, run: elsewhere },
    Case { name: "strict_keeps_what_has_no_name", needs: KERNEL, run: strict },
    Case {
        name: "no_secret_of_a_broken_answer_or_an_error_message_leaves_a_fleet",
        needs: FLEET,
        run: garbage,
    },
    Case {
        name: "inspect_with_redact_shows_tokens_and_all_else_as_it_was",
        needs: KERNEL,
        run: inspect::redacted,
    },
    Case { name: "a_dry_run_says_what_it_would_hide", needs: KERNEL, run: dry_run },
    Case { name: "a_fleet_without_a_common_key_is_refused", needs: FLEET, run: refused },
];

/// How long entries may take from the capture to the journal.
const DONE_WAIT_MAX: Duration = Duration::from_secs(60);
const END_WAIT_MAX: Duration = Duration::from_secs(15);

fn settings(a: &Vault, b: &Vault, admin: SocketAddr, more: String) -> Settings {
    Settings { port: a.address.port(), admin, candidate: b.address, isolated: true, routes: Vec::new(), more }
}

/// A workspace with a queue whose entries can be read, and these lines of `[redact]` in the place of none.
fn workspace(
    a: &Vault,
    b: &Vault,
    admin: SocketAddr,
    redis: &redis::Server,
    redact: &str,
) -> anyhow::Result<Workspace> {
    let queue = format!(
        "noise.again = \"off\"\n[queue]\nredis = \"{}\"\nshards = 2\ncompress_bytes_min = 100000000\n\
         [spool]\npath = \"journal.db.spool\"",
        redis.url()
    );
    Workspace::new(&settings(a, b, admin, queue).text().replace("[redact]\n", &format!("[redact]\n{redact}")))
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.journal().parent().unwrap_or(Path::new(".")).to_path_buf()
}

fn command(workspace: &Workspace, what: &str) -> Command {
    let mut command = Place::Here.command(daemon_program());
    // Everything that a log can say, that of all libraries included.
    command.arg("-vv").arg(what).arg("--config").arg(workspace.config()).env("UNDERSTUDY_LOG", "trace");
    command
}

/// The same, with a recording in the folder of the workspace.
fn recording(workspace: &Workspace, what: &str) -> Command {
    let mut command = command(workspace, what);
    command.arg("--record").arg(folder(workspace).join("x.understudy"));
    command
}

/// The planted difference was found, and none of those that redaction alone could make. `repeated`: texts in which the
/// answers repeat what they were sent; it may differ there.
fn only_the_price(report: &Finished, repeated: &[&str]) -> anyhow::Result<()> {
    let findings: serde_json::Value = serde_json::from_str(&report.stdout)
        .with_context(|| format!("no report: {}{}", report.stdout, report.stderr))?;
    let text = findings.to_string();
    ensure!(text.contains("$.price"), "the planted difference was not found: {text}");
    for other in [
        "$.session",
        "$.authorization",
        "$.api_key",
        "$.mail",
        "$.note",
        "$.said",
        "$.target",
        "set-cookie",
        "$.next",
    ] {
        let path = format!("json:{other}");
        ensure!(
            repeated.contains(&other) || !text.contains(&path),
            "{path} differs only by redaction: {text}"
        );
    }
    Ok(())
}

fn fleet() -> anyhow::Result<()> {
    let (a, b) = (Vault::start(100)?, Vault::start(101)?);
    let mut redis = redis::Server::start()?;
    let admin = free_address()?;
    let workspace = workspace(&a, &b, admin, &redis, "")?;
    let folder = folder(&workspace);
    let capture = Daemon::start(&Place::Here, &mut recording(&workspace, "capture"), admin)?;
    let mut sent = send(&a, 3)?;
    capture.settle(2 * sent)?;
    search(&of_redis(&redis)?, &["redis {understudy:lab:"])?;

    // Without Redis, what is captured lies on the disk.
    redis.kill()?;
    sent += send(&a, 1)?;
    wait_until("entries in the spool", DONE_WAIT_MAX, || {
        Ok((capture.scrape()?.sum("understudy_spool_entries", &[])? > 0).then_some(()))
    })?;
    search(&of_folder(&folder)?, &["file journal.db.spool"])?;
    redis.restart()?;
    sent += send(&a, 1)?;
    wait_until("an empty spool", DONE_WAIT_MAX, || {
        Ok((capture.scrape()?.sum("understudy_spool_entries", &[])? == 0).then_some(()))
    })?;
    capture.settle(2 * sent)?;

    let worker_admin = free_address()?;
    let mut start = command(&workspace, "replay");
    start.args(["--admin", &worker_admin.to_string()]);
    let worker = Daemon::start(&Place::Here, &mut start, worker_admin)?;
    wait_until("comparisons", DONE_WAIT_MAX, || {
        Ok((worker.scrape()?.sum("understudy_comparisons_total", &[])? >= 20).then_some(()))
    })?;
    wait_until("an idle worker", DONE_WAIT_MAX, || {
        Ok((worker.scrape()?.sum("understudy_exchanges_in_flight", &[])? == 0).then_some(()))
    })?;
    let mut haystacks = of_redis(&redis)?;
    for (name, admin) in [("metrics of capture", admin), ("metrics of replay", worker_admin)] {
        haystacks.push(of_text(name, get_patiently(admin, "/metrics", &[])?.1));
    }
    let hidden = capture.scrape()?.sum("understudy_redacted_total", &[("rule", "email")])?;
    ensure!(hidden > 0, "no address was counted");
    worker.signal(Signal::INT)?;
    let worker = worker.join(END_WAIT_MAX)?;
    capture.signal(Signal::INT)?;
    let capture = capture.join(END_WAIT_MAX)?;
    ensure!(capture.code == 0, "capture ended with {}", capture.code);
    for (name, end) in [("capture", &capture), ("replay", &worker)] {
        // As only the most talkative log does, a line says which part wrote it.
        ensure!(
            end.stderr.contains(" understudy::"),
            "the log of {name} does not say everything: {}",
            end.stderr
        );
    }
    haystacks.extend(of_end("replay", &worker));
    haystacks.extend(of_end("capture", &capture));
    let report = workspace.report(&["--json"])?;
    let of_all =
        finish(command(&workspace, "report").args(["--redis", &redis.url(), "--json"]), END_WAIT_MAX)?;
    haystacks.extend(of_end("report", &report));
    haystacks.extend(of_end("report of the fleet", &of_all));
    haystacks.extend(of_reports(&workspace)?);
    haystacks.extend(of_recording(&folder)?);
    haystacks.extend(of_folder(&folder)?);
    haystacks.push(of_text("what B received", b.received()));
    haystacks.retain(|(name, _)| name != "file understudy.toml" && name != "file journal.db.key");
    let with_marker =
        ["file journal.db", "file x.understudy", "what B received", "stdout of inspect", "file x.har"];
    search(&haystacks, &with_marker)?;
    only_the_price(&report, &[])?;
    check_modes(&folder, &["journal.db", "journal.db.spool", "x.understudy", "journal.db.key"])
}

/// Answers that are none, that end too early, and that quote what they were asked, of B and of A.
fn garbage() -> anyhow::Result<()> {
    let a = Vault::with(Habits { price: 100, garbles: false })?;
    let b = Vault::with(Habits { price: 101, garbles: true })?;
    let redis = redis::Server::start()?;
    let admin = free_address()?;
    let workspace = workspace(&a, &b, admin, &redis, "")?;
    let folder = folder(&workspace);
    let capture = Daemon::start(&Place::Here, &mut recording(&workspace, "capture"), admin)?;
    let worker_admin = free_address()?;
    let mut start = command(&workspace, "replay");
    start.args(["--admin", &worker_admin.to_string()]);
    let worker = Daemon::start(&Place::Here, &mut start, worker_admin)?;
    // What B answers in order comes last: garbage must not end what it quotes unseen.
    let sent = send_for_garbage(&a)? + send(&a, 1)?;
    // Once for the experiment and once for the recording.
    capture.settle(2 * sent)?;
    let failed = |reason: &'static str| {
        worker.scrape()?.sum("understudy_replay_failures_total", &[("reason", reason)])
    };
    wait_until("garbage", DONE_WAIT_MAX, || {
        Ok((failed("garbage")? >= 4 && failed("closed")? >= 1).then_some(()))
    })?;
    wait_until("an idle worker", DONE_WAIT_MAX, || {
        let scrape = worker.scrape()?;
        let compared = scrape.sum("understudy_comparisons_total", &[("outcome", "mismatch")])?;
        let waits = redis.command(&["EVAL", WAITING, "2", STREAMS[0], STREAMS[1]])?;
        let in_flight = scrape.sum("understudy_exchanges_in_flight", &[])?;
        Ok((compared >= 2 && waits.trim() == "0" && in_flight == 0).then_some(()))
    })?;
    let mut haystacks = of_redis(&redis)?;
    for (name, admin) in [("metrics of capture", admin), ("metrics of replay", worker_admin)] {
        haystacks.push(of_text(name, get_patiently(admin, "/metrics", &[])?.1));
    }
    worker.signal(Signal::INT)?;
    let worker = worker.join(END_WAIT_MAX)?;
    capture.signal(Signal::INT)?;
    let capture = capture.join(END_WAIT_MAX)?;
    let of_all =
        finish(command(&workspace, "report").args(["--redis", &redis.url(), "--json"]), END_WAIT_MAX)?;
    for (name, end) in [("replay", &worker), ("capture", &capture), ("report of the fleet", &of_all)] {
        haystacks.extend(of_end(name, end));
    }
    haystacks.extend(of_end("report", &workspace.report(&["--json"])?));
    haystacks.extend(of_reports(&workspace)?);
    haystacks.extend(of_recording(&folder)?);
    haystacks.extend(of_folder(&folder)?);
    haystacks.push(of_text("what B received", b.received()));
    haystacks.retain(|(name, _)| name != "file understudy.toml" && name != "file journal.db.key");
    // What it quotes was there to be found: the message itself was kept, in each place that keeps examples.
    for place in ["file journal.db", "redis {understudy:lab:", "stdout of inspect"] {
        let has =
            |(name, bytes): &Haystack| name.starts_with(place) && contains(bytes, MESSAGE_MARKER.as_bytes());
        let in_base64 = |(name, bytes): &Haystack| {
            name.starts_with(place)
                && spellings(MESSAGE_MARKER).iter().any(|spelling| contains(bytes, spelling.as_bytes()))
        };
        ensure!(
            haystacks.iter().any(|one| has(one) || in_base64(one)),
            "no error message is kept in {place}"
        );
    }
    search(&haystacks, &["file journal.db", "file x.understudy", "what B received", "stdout of inspect"])
}

/// Entries of both shards that are without a fate.
const WAITING: &str = "return redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2])";
const STREAMS: [&str; 2] = ["{understudy:lab:0}:stream", "{understudy:lab:1}:stream"];

/// With redaction off, nearly every secret is in Redis: the search of the other tests can find them.
fn control() -> anyhow::Result<()> {
    let (a, b) = (Vault::start(100)?, Vault::start(100)?);
    let redis = redis::Server::start()?;
    let admin = free_address()?;
    let workspace = workspace(&a, &b, admin, &redis, "mode = \"off\"\n")?;
    let capture = Daemon::start(&Place::Here, &mut command(&workspace, "capture"), admin)?;
    capture.settle(send(&a, 1)?)?;
    let (haystacks, mut missing) = (of_redis(&redis)?, Vec::new());
    for secret in SECRETS.iter().chain(&OF_SERVERS) {
        let spellings = spellings(secret);
        let is_there =
            |(_, bytes): &Haystack| spellings.iter().any(|spelling| contains(bytes, spelling.as_bytes()));
        if !haystacks.iter().any(is_there) {
            missing.push(*secret);
        }
    }
    ensure!(missing.is_empty(), "the search does not find {missing:?} where nothing is hidden");
    capture.interrupt().map(drop)
}

/// What a report says in all its forms.
fn of_reports(workspace: &Workspace) -> anyhow::Result<Vec<Haystack>> {
    let mut haystacks = Vec::new();
    for form in [&[][..], &["--markdown"], &["--junit"], &["--cause", "1"]] {
        let name = format!("report {}", form.join(" "));
        let report = workspace.report(form)?;
        ensure!(report.stdout.contains("price"), "{name} says nothing: {}", report.stderr);
        haystacks.extend(of_end(&name, &report));
    }
    Ok(haystacks)
}

/// What is in a recording, as others show it: a search in the file alone would miss what it has compressed.
fn of_recording(folder: &Path) -> anyhow::Result<Vec<Haystack>> {
    let recording = folder.join("x.understudy");
    let shown = |arguments: &[&str], more: &[&Path]| {
        let mut command = Place::Here.command(daemon_program());
        finish(command.args(arguments).args(more), END_WAIT_MAX)
    };
    let inspected = shown(&["inspect", "--json", "--body", "--recording"], &[&recording])?;
    let har = folder.join("x.har");
    let converted = shown(&["convert"], &[&recording, &har])?;
    ensure!(inspected.code == 0 && converted.code == 0, "{}{}", inspected.stderr, converted.stderr);
    let text = of_text("file x.har", std::fs::read(&har)?);
    std::fs::remove_file(har)?;
    let mut haystacks = Vec::from(of_end("inspect", &inspected));
    haystacks.push(text);
    Ok(haystacks)
}

/// A run with these lines and this of the candidate more, after everything was sent: where to look, the report, what B received.
fn run(
    redact: &str,
    candidate: &str,
) -> anyhow::Result<(Vec<Haystack>, Finished, String, PathBuf, Workspace)> {
    let (a, b) = (Vault::start(100)?, Vault::start(101)?);
    let admin = free_address()?;
    let text = settings(&a, &b, admin, "noise.again = \"off\"".to_owned()).text();
    let text = text.replace("[redact]\nkey", &format!("[redact]\n{redact}\nkey"));
    let text = text.replace("isolated = true }", &format!("isolated = true{candidate} }}"));
    let workspace = Workspace::new(&text)?;
    let folder = folder(&workspace);
    let daemon = Daemon::start(&Place::Here, &mut recording(&workspace, "run"), admin)?;
    let sent = send(&a, 3)?;
    daemon.settle(2 * sent)?;
    let mut haystacks = vec![of_text("metrics", get_patiently(admin, "/metrics", &[])?.1)];
    haystacks.extend(of_folder(&folder)?);
    let finished = daemon.interrupt()?;
    haystacks.extend(of_end("run", &finished));
    haystacks.extend(of_folder(&folder)?);
    let report = workspace.report(&["--json"])?;
    haystacks.extend(of_end("report", &report));
    haystacks.extend(of_reports(&workspace)?);
    haystacks.extend(of_recording(&folder)?);
    haystacks.retain(|(name, _)| name != "file understudy.toml" && name != "file journal.db.key");
    Ok((haystacks, report, b.received(), folder, workspace))
}

/// B is on this host: it gets what A got, and nothing else does.
fn beside() -> anyhow::Result<()> {
    let (haystacks, report, received, folder, _workspace) = run("", "")?;
    search(&haystacks, &["file journal.db", "file x.understudy"])?;
    only_the_price(&report, &[])?;
    let missing: Vec<_> = SECRETS
        .iter()
        .filter(|secret| {
            **secret != TRAILER && !spellings(secret).iter().any(|spelling| received.contains(spelling))
        })
        .collect();
    ensure!(missing.is_empty(), "B did not get {missing:?}");
    check_modes(&folder, &["journal.db", "x.understudy"])
}

fn elsewhere() -> anyhow::Result<()> {
    let (mut haystacks, report, received, _folder, _workspace) = run("", ", secrets = \"redacted\"")?;
    haystacks.push(of_text("what B received", received));
    search(&haystacks, &["what B received"])?;
    only_the_price(&report, &[])
}

fn strict() -> anyhow::Result<()> {
    let allow = "mode = \"strict\"\nallow = [\"header:x-marker\", \"json:$.marker\", \"json:$.price\", \"path:/price\", \
                 \"path:/json\", \"path:/page\"]";
    let (mut haystacks, report, received, _folder, _workspace) = run(allow, ", secrets = \"redacted\"")?;
    haystacks.push(of_text("what B received", received));
    search(&haystacks, &["what B received"])?;
    // Names of people have neither a name nor a look that says so.
    let alice =
        haystacks.iter().find(|(_, bytes)| contains(bytes, b"alice") || contains(bytes, b"theme=dark"));
    ensure!(alice.is_none(), "a value that nobody allowed is in {:?}", alice.map(|(name, _)| name));
    // What says nothing of itself is a token as a whole, and a short value in it is not known as one.
    only_the_price(&report, &["$.said", "$.target"])
}

fn dry_run() -> anyhow::Result<()> {
    let (haystacks, report, _received, _folder, _workspace) = run("mode = \"dry-run\"", "")?;
    ensure!(!found(&haystacks).is_empty(), "a dry run hides nothing");
    let said = haystacks.iter().find(|(name, _)| name == "stderr of run").context("no output")?;
    let said = String::from_utf8_lossy(&said.1);
    for part in [
        "dry run",
        "cookie, in a field",
        "email, in a body",
        "email, in a target",
        "card, in a",
        "json, in a body",
    ] {
        ensure!(said.contains(part), "it does not say `{part}`: {said}");
    }
    only_the_price(&report, &[])
}

/// Runs a command to its end, which must be a refusal.
fn refusal(command: &mut Command, parts: &[&str]) -> anyhow::Result<()> {
    let Finished { code, stdout, stderr } = finish(command, END_WAIT_MAX)?;
    ensure!(code == 2, "ended with {code}: {stdout}{stderr}");
    for part in parts {
        ensure!(stderr.contains(part), "it does not say `{part}`: {stderr}");
    }
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    let (a, b) = (Vault::start(100)?, Vault::start(100)?);
    let redis = redis::Server::start()?;
    let admin = free_address()?;
    let with_key = workspace(&a, &b, admin, &redis, "")?;
    let key = with_key.key();
    let text = std::fs::read_to_string(with_key.config())?;
    let without: String =
        text.lines().filter(|line| !line.starts_with("key = ")).map(|line| format!("{line}\n")).collect();
    std::fs::write(with_key.config(), &without)?;
    for what in ["capture", "replay"] {
        refusal(&mut command(&with_key, what), &["understudy config key", "[redact]", "redact-key"])?;
    }
    std::fs::write(with_key.config(), &text)?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640))?;
    refusal(&mut command(&with_key, "capture"), &["chmod 600"])?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;

    let capture = Daemon::start(&Place::Here, &mut command(&with_key, "capture"), admin)?;
    let printed = finish(Place::Here.command(daemon_program()).args(["config", "key"]), END_WAIT_MAX)?;
    ensure!(printed.code == 0 && printed.stdout.trim().len() == 64, "{printed:?}");
    std::fs::write(&key, &printed.stdout)?;
    refusal(command(&with_key, "replay").args(["--admin", "off"]), &["the key", "under [redact]", "prefix"])?;
    let settings =
        redis.command(&["HGETALL", "understudy:lab:settings"]).or_else(|_| redis.command(&["KEYS", "*"]))?;
    ensure!(!settings.contains(printed.stdout.trim()), "the key itself is in Redis");
    capture.interrupt().map(drop)
}
