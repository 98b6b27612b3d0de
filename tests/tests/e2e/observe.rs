//! Exchanges that are handed in: by the command, by the adapters of the docs, and by whoever may not.
//!
//! B is the application on loopback; nobody talks to the port that is captured.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, get_patiently};
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Finished, Settings, Workspace, finish, run_to_end};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::{Place, Process};
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, free_address};

use crate::Case;

const NEEDS: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2]];
const NEEDS_PYTHON: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("python3")];
const NEEDS_RUBY: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("ruby")];

pub(crate) const CASES: &[Case] = &[
    Case { name: "lines_are_compared_or_refused_by_the_name_of_their_field", needs: NEEDS, run: lines },
    Case { name: "the_python_adapter_hands_in_what_passes_it", needs: NEEDS_PYTHON, run: python },
    Case { name: "the_ruby_adapter_hands_in_what_passes_it", needs: NEEDS_RUBY, run: ruby },
    Case {
        name: "the_python_adapter_shows_the_token_of_the_listener",
        needs: NEEDS_PYTHON,
        run: python_token,
    },
    Case { name: "the_ruby_adapter_shows_the_token_of_the_listener", needs: NEEDS_RUBY, run: ruby_token },
    Case { name: "nothing_is_taken_unless_configured", needs: NEEDS, run: off },
    Case { name: "commands_without_a_listener_take_the_same_file", needs: NEEDS, run: no_listener },
];

const WAIT_MAX: Duration = Duration::from_secs(20);

/// The application behind the adapter: 200 at `/empty`, which B does not answer, and 404 elsewhere, as B does.
const PYTHON: &str = r#"
import io, sys, time
sys.dont_write_bytecode = True
sys.path.insert(0, "docs/examples")
from observe import observe
def app(environ, start_response):
    found = environ["PATH_INFO"] == "/empty"
    start_response("299 Odd" if found else "404 Not Found", [("Content-Type", "text/plain")])
    return [b"x"]
app = observe(app)
for target in ["/empty", "/empty", "/nowhere"]:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": target, "QUERY_STRING": "a=1", "HTTP_X_ONE": "1",
               "wsgi.input": io.BytesIO(b"")}
    assert b"".join(app(environ, lambda status, headers: None)) == b"x"
time.sleep(60)
"#;

const RUBY: &str = r#"
require "stringio"
require "./docs/examples/observe"
app = Observe.new(lambda { |env| [env["PATH_INFO"] == "/empty" ? 299 : 404, { "content-type" => "text/plain" }, ["x"]] })
["/empty", "/empty", "/nowhere"].each do |target|
  env = { "REQUEST_METHOD" => "GET", "PATH_INFO" => target, "QUERY_STRING" => "a=1", "HTTP_X_ONE" => "1",
          "rack.input" => StringIO.new("") }
  raise unless app.call(env)[2] == ["x"]
end
sleep 60
"#;

fn settings(b: &App, admin: SocketAddr) -> anyhow::Result<Settings> {
    Ok(Settings {
        port: free_address()?.port(),
        admin,
        candidate: b.address,
        isolated: false,
        routes: vec!["/empty"],
        more: "noise.again = \"off\"".to_owned(),
    })
}

/// A daemon that takes exchanges, and the candidate behind it.
fn stage(observe: bool) -> anyhow::Result<(App, Workspace, Daemon, String)> {
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let admin = free_address()?;
    let text = settings(&b, admin)?.text().replace("[admin]\n", &format!("[admin]\nobserve = {observe}\n"));
    let workspace = Workspace::new(&text)?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    Ok((b, workspace, daemon, format!("http://{admin}")))
}

fn observe(file: &Path, url: &str) -> anyhow::Result<Finished> {
    let mut command: Command = Place::Here.command(daemon_program());
    finish(command.arg("observe").arg(file).args(["--url", url]), WAIT_MAX)
}

/// Waits until these many came in, and checks how many of them differ and how many no route wants.
fn check(daemon: Daemon, seen: u64, mismatched: u64, filtered: u64) -> anyhow::Result<()> {
    let scrape = daemon.settle(seen)?;
    let of_fate = |fate| scrape.sum("understudy_exchanges_total", &[("fate", fate)]);
    let found = (of_fate("mismatched")?, of_fate("filtered_route")?);
    ensure!(found == (mismatched, filtered), "(mismatched, filtered) = {found:?}");
    let end = daemon.interrupt()?;
    ensure!(!end.stderr.contains("panicked"), "{}", end.stderr);
    Ok(())
}

fn lines() -> anyhow::Result<()> {
    let (_b, workspace, daemon, url) = stage(true)?;
    let file = workspace.config().with_extension("jsonl");
    let good = r#"{"request": {"method": "GET", "target": "/empty"}, "response": {"status": 299}}"#;
    let other = r#"{"request": {"method": "GET", "target": "/nowhere"}, "response": {"status": 404}}"#;
    std::fs::write(&file, format!("{good}\n\n{good}\n{other}\n"))?;
    let taken = observe(&file, &url)?;
    ensure!(taken.code == 0 && taken.stdout.contains("3 exchanges"), "{}{}", taken.stdout, taken.stderr);
    // More than one request takes; the last line is wrong, and its part is not taken.
    let many = format!("{}{}\n", format!("{good}\n").repeat(1_001), good.replace("GET", "G T"));
    std::fs::write(&file, many)?;
    let wrong = observe(&file, &url)?;
    ensure!(wrong.code == 2 && wrong.stderr.contains("line 1002: `request.method`"), "{}", wrong.stderr);
    ensure!(wrong.stderr.contains("1000 exchanges before it were taken"), "{}", wrong.stderr);

    let address = url.trim_start_matches("http://");
    for (fields, body, status) in [
        ("Content-Length: 20000000\r\n", "", 413),
        ("Content-Length: 2\r\nOrigin: http://a.example\r\n", "{}", 403),
        ("Content-Length: 2\r\n", "{}", 400),
    ] {
        let mut client = Client::connect(address.parse()?)?;
        let head =
            format!("POST /observe HTTP/1.1\r\nHost: {address}\r\n{fields}Connection: close\r\n\r\n{body}");
        client.send(head.as_bytes())?;
        let answer = client.answer("POST")?;
        ensure!(answer.status == status, "{fields:?} is answered with {}", answer.status);
    }
    check(daemon, 1_003, 1_002, 1)
}

fn adapter(program: &str, script: &str) -> anyhow::Result<()> {
    let (_b, _workspace, daemon, url) = stage(true)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(program);
    let flag = if program == "ruby" { "-e" } else { "-c" };
    command.current_dir(root).env("UNDERSTUDY_URL", &url).args([flag, script]);
    let mut adapter = Process::start(program, &mut command)?;
    wait_until("exchanges of the adapter", WAIT_MAX, || {
        adapter.must_run()?;
        let seen = daemon.scrape()?.sum("understudy_exchanges_seen_total", &[])?;
        Ok((seen == 3).then_some(()))
    })?;
    check(daemon, 3, 2, 1)
}

/// The listener wants a token: without one, and with a wrong one, nothing is taken; with the right one, all is.
fn adapter_with_token(program: &str, script: &str) -> anyhow::Result<()> {
    const TOKEN: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let admin = free_address()?;
    let workspace = Workspace::new("")?;
    let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = workspace.config().with_file_name(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    };
    let token = file("token", TOKEN)?;
    let wrong = file("wrong", "ffffffffffffffffffffffffffffffff\n")?;
    let settings = settings(&b, admin)?;
    let admin_keys = format!("[admin]\nobserve = true\ntoken = {token:?}\n");
    workspace.configure(&settings.text().replace("[admin]\n", &admin_keys))?;
    let mut command: Command = Place::Here.command(daemon_program());
    command.arg("run").arg("--config").arg(workspace.config());
    let mut daemon = Process::start("understudy", &mut command)?;
    let bearer = format!("Bearer {TOKEN}");
    let ask = |target: &str| get_patiently(admin, target, &[("Authorization", &bearer)]);
    wait_until("readiness", WAIT_MAX, || {
        daemon.must_run()?;
        Ok(ask("/readyz").is_ok_and(|(status, _)| status == 200).then_some(()))
    })?;
    let metric =
        |name: &str, labels: &[(&str, &'static str)]| Scrape::parse(&ask("/metrics")?.1)?.sum(name, labels);
    let refused = || metric("understudy_admin_refused_total", &[("reason", "identity")]);
    let seen = || metric("understudy_exchanges_seen_total", &[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let start = |token: Option<&Path>| {
        let mut command = Command::new(program);
        let flag = if program == "ruby" { "-e" } else { "-c" };
        command.current_dir(&root).env("UNDERSTUDY_URL", format!("http://{admin}")).args([flag, script]);
        command.envs(token.map(|token| ("UNDERSTUDY_TOKEN_FILE", token)));
        Process::start(program, &mut command)
    };
    for token in [None, Some(wrong.as_path())] {
        let before = refused()?;
        let mut adapter = start(token)?;
        wait_until("refusals", WAIT_MAX, || {
            adapter.must_run()?;
            Ok((refused()? >= before + 3).then_some(()))
        })?;
        ensure!(seen()? == 0, "{program} with {token:?} handed something in");
    }
    let mut adapter = start(Some(&token))?;
    wait_until("exchanges of the adapter", WAIT_MAX, || {
        adapter.must_run()?;
        Ok((seen()? == 3).then_some(()))
    })?;
    ensure!(!adapter.stderr().contains(TOKEN), "{program} shows the token");
    daemon.signal(rustix::process::Signal::INT)?;
    daemon.wait(WAIT_MAX)?;
    ensure!(!daemon.stderr().contains(TOKEN), "the log shows the token");
    Ok(())
}

fn python_token() -> anyhow::Result<()> {
    adapter_with_token("python3", PYTHON)
}

fn ruby_token() -> anyhow::Result<()> {
    adapter_with_token("ruby", RUBY)
}

fn python() -> anyhow::Result<()> {
    adapter("python3", PYTHON)
}

fn ruby() -> anyhow::Result<()> {
    adapter("ruby", RUBY)
}

fn off() -> anyhow::Result<()> {
    let (_b, workspace, daemon, url) = stage(false)?;
    let file = workspace.config().with_extension("jsonl");
    std::fs::write(&file, "{}\n")?;
    let refused = observe(&file, &url)?;
    ensure!(refused.code == 2 && refused.stderr.contains("observe = true"), "{}", refused.stderr);
    drop(daemon);
    let gone = observe(&file, &url)?;
    ensure!(gone.code == 2 && gone.stderr.contains("does it run there"), "{}", gone.stderr);
    // Where others could reach it, it cannot be configured.
    let text = "[admin]\nlisten = \"0.0.0.0:9469\"\nobserve = true\n";
    std::fs::write(workspace.config(), text)?;
    let config = workspace.config().display().to_string();
    let checked = run_to_end(&Place::Here, &["config", "check", &config])?;
    ensure!(
        checked.code != 0 && checked.stderr.contains("admin.listen"),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
    Ok(())
}

/// Looking and recording open no listener unless asked for one, so that nobody could hand anything in.
fn no_listener() -> anyhow::Result<()> {
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let text = settings(&b, free_address()?)?.text().replace("[admin]\n", "[admin]\nobserve = true\n");
    ensure!(text.contains("observe"), "there is no [admin] in {text}");
    let workspace = Workspace::new(&text)?;
    let file = workspace.config().display().to_string();
    let recording = workspace.journal().with_extension("understudy").display().to_string();
    for what in [&["inspect"][..], &["capture", "--record", &recording]] {
        let arguments = [what, &["--config", &file, "--for", "1s"]].concat();
        let Finished { code, stderr, .. } = run_to_end(&Place::Here, &arguments)?;
        ensure!(code == 0, "{what:?} ended with {code}: {stderr}");
    }
    Ok(())
}
