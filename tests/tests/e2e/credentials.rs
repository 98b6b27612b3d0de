//! A candidate that wants a token of its own, which runs out.
//!
//! A takes whatever its clients show; B takes one token at a time. Both tell whoever asks who they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use understudy_tests::client::{Client, request};
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::{Daemon, Settings, Workspace, finish};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::server::free_address;

use crate::Case;

const NEEDS: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2]];

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_token_that_runs_out_is_asked_for_again", needs: NEEDS, run: runs_out },
    Case { name: "a_file_that_somebody_renews_is_read_again", needs: NEEDS, run: renewed_file },
    Case { name: "a_source_that_gives_nothing_stops_the_start", needs: NEEDS, run: nothing_to_show },
];

const FIRST: &str = "first-2f9d1c77a0";
const SECOND: &str = "second-81b3e6d54c";
/// What clients show to A.
const CAPTURED: &str = "captured-5a0c93";
/// What A refuses.
const WRONG: &str = "wrong-77e1";

/// How long a comparison may take from its outcome to the journal.
const COUNTED_WAIT_MAX: Duration = Duration::from_secs(20);
/// Time between two questions for a token: more than a few requests take on a busy machine.
const REFRESH_MIN: Duration = Duration::from_secs(5);

/// A server on a thread, until the process ends.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The one token that is taken; none: all but [`WRONG`].
    wanted: Option<String>,
    /// Fields of the requests, by target, as they came.
    seen: BTreeMap<String, Vec<String>>,
}

// === impl Server ===

impl Server {
    fn start(wanted: Option<&str>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(free_address()?)?;
        let state = State { wanted: wanted.map(str::to_owned), ..State::default() };
        let server = Self { address: listener.local_addr()?, state: Arc::new(Mutex::new(state)) };
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = accepting.clone();
                // The other side may go away at any moment, which ends only its connection.
                std::thread::spawn(move || server.serve(&stream).ok());
            }
        });
        Ok(server)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants this token from now on.
    fn want(&self, token: &str) {
        self.state().wanted = Some(token.to_owned());
    }

    /// The values of `authorization` that came with this target; empty where there was none.
    fn seen(&self, target: &str) -> Vec<String> {
        self.state().seen.get(target).cloned().unwrap_or_default()
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut target, mut shown) = (String::new(), String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if target.is_empty() {
                    target = line.split(' ').nth(1).unwrap_or_default().to_owned();
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("authorization")
                {
                    shown = value.trim().to_owned();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut state = self.state();
            state.seen.entry(target.clone()).or_default().push(shown.clone());
            let is_good = match &state.wanted {
                Some(wanted) => shown == format!("Bearer {wanted}"),
                None => !shown.contains(WRONG),
            };
            let status = if is_good || shown.is_empty() { "200 OK" } else { "401 Unauthorized" };
            drop(state);
            let body = if target == "/echo" { format!("you are {shown}") } else { "hello".to_owned() };
            let length = body.len();
            let mut stream: &TcpStream = stream;
            stream.write_all(
                format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .as_bytes(),
            )?;
        }
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// A daemon between A and B with these credentials.
fn daemon(a: &Server, b: &Server, credentials: &str) -> anyhow::Result<(Workspace, Daemon)> {
    let admin = free_address()?;
    let settings = Settings {
        port: a.address.port(),
        admin,
        candidate: b.address,
        isolated: false,
        routes: Vec::new(),
        more: "noise.again = \"off\"\n[experiment.replay]\nlag = \"10ms\"".to_owned(),
    };
    let text = settings.text().replace("isolated = false", &format!("credentials = {credentials}"));
    let workspace = Workspace::new(&text)?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    Ok((workspace, daemon))
}

/// So many requests to A, one after the other.
fn ask(a: &Server, target: &str, shown: Option<&str>, times: usize) -> anyhow::Result<()> {
    let bearer = shown.map(|token| format!("Bearer {token}"));
    let fields: Vec<_> = bearer.iter().map(|value| ("Authorization", &value[..])).collect();
    let mut client = Client::connect(a.address)?;
    for _ in 0..times {
        client.send(&request("GET", target, a.address, &fields))?;
        client.answer("GET")?;
    }
    Ok(())
}

/// (matched, mismatched, incomparable as refused) once these many exchanges came in.
fn outcomes(daemon: &Daemon, seen: u64) -> anyhow::Result<(u64, u64, u64)> {
    daemon.settle(seen)?;
    // An exchange has its fate before its comparison is kept and counted.
    let scrape = wait_until("comparisons that are counted", COUNTED_WAIT_MAX, || {
        let scrape = daemon.scrape()?;
        Ok((scrape.sum("understudy_comparisons_total", &[])? >= seen).then_some(scrape))
    })?;
    let fate = |fate| scrape.sum("understudy_exchanges_total", &[("fate", fate)]);
    let refused = scrape.sum("understudy_incomparable_total", &[("reason", "credentials_refused")])?;
    let incomparable = fate("incomparable")?;
    ensure!(refused == incomparable, "{incomparable} are incomparable, {refused} of them as refused");
    Ok((fate("matched")?, fate("mismatched")?, refused))
}

/// Ends the daemon, and looks for what nobody may see wherever it wrote.
fn nothing_was_shown(workspace: &Workspace, daemon: Daemon, report: &str) -> anyhow::Result<()> {
    let metrics = format!("{:?}", daemon.scrape()?);
    let command_line = fs::read(format!("/proc/{}/cmdline", daemon.id()))?;
    let end = daemon.interrupt()?;
    ensure!(!end.stderr.contains("panicked"), "{}", end.stderr);
    ensure!(end.stdout.contains(report), "the report does not say `{report}`: {}", end.stdout);
    let folder = workspace.journal().parent().context("the journal has a folder")?.to_owned();
    let mut places =
        vec![metrics.into_bytes(), command_line, end.stdout.into_bytes(), end.stderr.into_bytes()];
    places.push(workspace.report(&["--json"])?.stdout.into_bytes());
    for file in fs::read_dir(folder)? {
        places.push(fs::read(file?.path())?);
    }
    for place in places {
        let text = String::from_utf8_lossy(&place);
        for secret in [FIRST, SECOND] {
            ensure!(!text.contains(secret), "{secret} is in {text:.200}");
        }
    }
    Ok(())
}

fn runs_out() -> anyhow::Result<()> {
    let (a, b) = (Server::start(None)?, Server::start(Some(FIRST))?);
    let folder = TempDir::new()?;
    let (token, asked, program) =
        (folder.path().join("token"), folder.path().join("asked"), folder.path().join("program"));
    fs::write(&token, FIRST)?;
    fs::write(&program, format!("#!/bin/sh\necho once >> {}\ncat {}\n", asked.display(), token.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
    let times_asked = || fs::read_to_string(&asked).map(|text| text.lines().count());
    let seconds = REFRESH_MIN.as_secs();
    let credentials = format!("{{ command = [{program:?}, \"for\", \"b\"], refresh_min = \"{seconds}s\" }}");
    let (workspace, daemon) = daemon(&a, &b, &credentials)?;

    ask(&a, "/", Some(CAPTURED), 20)?;
    ask(&a, "/echo", Some(CAPTURED), 5)?;
    ask(&a, "/anonymous", None, 5)?;
    ask(&a, "/wrong", Some(WRONG), 5)?;
    let first = outcomes(&daemon, 35)?;
    ensure!(first == (35, 0, 0), "(matched, mismatched, refused) = {first:?}");
    ensure!(b.seen("/") == vec![format!("Bearer {FIRST}"); 20], "B saw {:?}", b.seen("/"));
    ensure!(b.seen("/anonymous") == vec![String::new(); 5], "B saw {:?}", b.seen("/anonymous"));
    ensure!(b.seen("/wrong") == vec![format!("Bearer {WRONG}"); 5], "B saw {:?}", b.seen("/wrong"));
    ensure!(times_asked()? == 1, "it was asked for without need");

    // It runs out, and there is another.
    pause(REFRESH_MIN);
    fs::write(&token, SECOND)?;
    b.want(SECOND);
    ask(&a, "/later", Some(CAPTURED), 40)?;
    let (matched, mismatched, refused) = outcomes(&daemon, 75)?;
    ensure!(matched + refused == 75 && mismatched == 0, "{mismatched} mismatches are none of B's");
    ensure!((1..=40).contains(&refused), "{refused} were refused");
    ensure!(times_asked()? == 2, "many refusals are one question, not {}", times_asked()?);
    ask(&a, "/later", Some(CAPTURED), 10)?;
    ensure!(outcomes(&daemon, 85)? == (matched + 10, 0, refused), "the new token is not used");

    // B refuses what there is: that is what B does, and counts.
    pause(REFRESH_MIN);
    b.want("something else");
    ask(&a, "/refused", Some(CAPTURED), 5)?;
    let last = outcomes(&daemon, 90)?;
    ensure!(last == (matched + 10, 5, refused), "(matched, mismatched, refused) = {last:?}");
    ensure!(times_asked()? == 3, "it was asked for {} times", times_asked()?);
    let scrape = daemon.scrape()?;
    let result = |result| scrape.sum("understudy_replay_credentials_total", &[("result", result)]);
    let results = (result("renewed")?, result("same")?, result("failed")?);
    ensure!(results == (1, 1, 0), "(renewed, same, failed) = {results:?}");
    nothing_was_shown(&workspace, daemon, "refused our credential")
}

fn renewed_file() -> anyhow::Result<()> {
    let (a, b) = (Server::start(None)?, Server::start(Some(FIRST))?);
    let folder = TempDir::new()?;
    let token = folder.path().join("token");
    write_private(&token, &format!("{FIRST}\n"))?;
    let credentials =
        format!("{{ file = {token:?}, always = true, refresh = \"1s\", refresh_min = \"1s\" }}");
    let (workspace, daemon) = daemon(&a, &b, &credentials)?;
    ask(&a, "/anonymous", None, 5)?;
    ensure!(outcomes(&daemon, 5)? == (5, 0, 0), "not all match");
    ensure!(b.seen("/anonymous") == vec![format!("Bearer {FIRST}"); 5], "B saw {:?}", b.seen("/anonymous"));
    // Both are renewed before anybody is refused.
    write_private(&token, &format!("{SECOND}\n"))?;
    let renewed = || daemon.scrape()?.sum("understudy_replay_credentials_total", &[("result", "renewed")]);
    wait_until("another token", COUNTED_WAIT_MAX, || Ok((renewed()? > 0).then_some(())))
        .context("it is not read again")?;
    b.want(SECOND);
    ask(&a, "/later", Some(CAPTURED), 10)?;
    ensure!(outcomes(&daemon, 15)? == (15, 0, 0), "a request was refused");
    nothing_was_shown(&workspace, daemon, "")
}

fn nothing_to_show() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let exposed = folder.path().join("exposed");
    fs::write(&exposed, FIRST)?;
    for (credentials, expected) in [
        (format!("{{ file = {exposed:?} }}"), "chmod 600"),
        ("{ file = \"/nowhere/token\" }".to_owned(), "/nowhere/token"),
        ("{ command = [\"/bin/false\"] }".to_owned(), "run it by hand"),
        ("{ command = [\"/bin/sleep\", \"60\"], wait_max = \"100ms\" }".to_owned(), "wait_max"),
        ("{ command = [\"false\"] }".to_owned(), "key `experiment.candidate.credentials.command`"),
    ] {
        let text = format!(
            "[admin]\nlisten = \"off\"\n[journal]\npath = \"journal.db\"\n[[experiment]]\nname = \"x\"\n\
             candidate = {{ url = \"http://127.0.0.1:9\", credentials = {credentials} }}\n"
        );
        let workspace = Workspace::new(&text)?;
        let mut command: Command = Place::Here.command(daemon_program());
        command.args(["run", "--pcap", "/dev/null", "--config"]).arg(workspace.config());
        let end = finish(&mut command, Duration::from_secs(20))?;
        ensure!(end.code == 2 && end.stderr.contains(expected), "{credentials}: {} {}", end.code, end.stderr);
        ensure!(!end.stderr.contains(FIRST), "{}", end.stderr);
    }
    Ok(())
}
