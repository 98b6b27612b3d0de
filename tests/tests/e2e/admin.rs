//! The admin listener and those who may not ask it: strangers, web pages, slow ones, very many.
//!
//! The daemon reads a capture from a pipe that stays open, so that nothing here needs root.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use understudy_tests::certificates::Authority;
use understudy_tests::clock::{now, wait_until};
use understudy_tests::daemon::{Finished, finish};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::{Place, Process};
use understudy_tests::scrape::Scrape;
use understudy_tests::server::free_address;

use crate::Case;

const CURL: &[Prerequisite] = &[Prerequisite::Tool("setpriv"), Prerequisite::Tool("curl")];
const CURL_AND_OPENSSL: &[Prerequisite] =
    &[Prerequisite::Tool("setpriv"), Prerequisite::Tool("curl"), Prerequisite::Tool("openssl")];

const LIVE: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("openssl")];

pub(crate) const CASES: &[Case] = &[
    Case { name: "others_need_the_token_and_healthz_is_open", needs: CURL, run: token },
    Case { name: "others_need_a_certificate_of_the_authority", needs: CURL_AND_OPENSSL, run: certificates },
    Case { name: "pause_and_resume_find_their_way_over_tls", needs: LIVE, run: orders },
    Case {
        name: "what_would_be_open_to_all_is_refused_at_the_start",
        needs: CURL,
        run: refused_at_the_start,
    },
    Case { name: "a_page_that_was_bound_to_our_address_sees_nothing", needs: CURL, run: rebinding },
    Case { name: "slow_and_oversized_heads_take_nothing_from_others", needs: CURL, run: slow },
    Case { name: "requests_beyond_the_rate_are_refused", needs: CURL, run: rate },
    Case { name: "ten_thousand_connections_leave_room_for_a_scrape", needs: CURL, run: ten_thousand },
];

const TOKEN: &str = "5f1d3c0a9b7e4468a1f2d3c4b5a69788";
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Answers beyond this would be no bound at all.
const MEMORY_GROWTH_KIB_MAX: u64 = 32 << 10;

/// A daemon with these lines under `[admin]`, and files for it.
struct Stage {
    process: Process,
    /// While this is open, the capture file has not ended.
    _pipe: File,
    admin: SocketAddr,
    folder: TempDir,
}

/// What curl got.
struct Got {
    status: u16,
    text: String,
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}

/// A configuration with these lines under `[admin]`, in this folder.
fn configuration(folder: &Path, lines: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("understudy.toml");
    let journal = folder.join("journal.db");
    let text = format!(
        "[admin]\n{lines}\n[journal]\npath = {journal:?}\n[[experiment]]\nname = \"x\"\n\
         candidate = {{ url = \"http://127.0.0.1:9\" }}\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

// === impl Stage ===

impl Stage {
    /// Starts the daemon, listening here; `{token}` in the lines is a file with the token.
    fn start(listen: SocketAddr, lines: &str) -> anyhow::Result<Self> {
        Self::start_as(listen, lines, None)
    }

    /// The same, with traffic to this port in the place of a file.
    fn start_as(listen: SocketAddr, lines: &str, port: Option<u16>) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let token = folder.path().join("token");
        write_private(&token, &format!("{TOKEN}\n"))?;
        let lines = lines.replace("{token}", &token.display().to_string());
        let config = configuration(folder.path(), &format!("listen = \"{listen}\"\n{lines}"))?;
        // A header and nothing behind it: a capture that goes on.
        let capture = folder.path().join("capture");
        let made = Command::new("mkfifo").arg(&capture).status().context("failed to run mkfifo")?;
        ensure!(made.success(), "mkfifo failed");
        // For both, since to open one side alone waits for the other (fifo(7)).
        let mut pipe = File::options().read(true).write(true).open(&capture)?;
        pipe.write_all(&PCAP_HEADER)?;
        let mut command = Place::Here.command(daemon_program());
        command.arg("run").arg("--config").arg(config);
        match port {
            Some(port) => command.arg("--port").arg(port.to_string()),
            None => command.arg("--pcap").arg(capture),
        };
        let mut process = Process::start("understudy", &mut command)?;
        let admin = SocketAddr::from(([127, 0, 0, 1], listen.port()));
        wait_until("an admin listener", WAIT_MAX, || {
            process.must_run()?;
            Ok(TcpStream::connect(admin).is_ok().then_some(()))
        })
        .with_context(|| process.stderr())?;
        Ok(Self { process, _pipe: pipe, admin, folder })
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.admin)
    }

    /// Sends these bytes on a connection of its own, and gives what comes back until it is closed.
    fn raw(&self, bytes: &[u8]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        stream.write_all(bytes)?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// `/metrics`, by the address.
    fn scrape(&self) -> anyhow::Result<Scrape> {
        let got = curl(&[], &self.url("http", "/metrics"))?;
        ensure!(got.status == 200, "/metrics answered {}", got.status);
        Scrape::parse(&got.text)
    }

    fn refused(&self, scrape: &Scrape, reason: &str) -> anyhow::Result<u64> {
        scrape.sum("understudy_admin_refused_total", &[("reason", reason)])
    }
}

const PCAP_HEADER: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];

/// One request; status 0 where there is no answer.
fn curl(arguments: &[&str], url: &str) -> anyhow::Result<Got> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "15", "-w", "\n%{http_code}"]).args(arguments);
    let output = command.arg(url).output().context("failed to run curl")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (text, status) = said.rsplit_once('\n').context("curl says no status")?;
    Ok(Got { status: status.parse()?, text: text.to_owned() })
}

#[track_caller]
fn expect(what: &str, got: &Got, status: u16) -> anyhow::Result<()> {
    ensure!(got.status == status, "{what} is answered with {} and not {status}: {}", got.status, got.text);
    Ok(())
}

fn observe(stage: &Stage, more: &[&str]) -> anyhow::Result<Finished> {
    let file = stage.folder.path().join("exchanges.jsonl");
    let line = r#"{"request": {"method": "GET", "target": "/"}, "response": {"status": 200}}"#;
    // Much longer than what the sockets hold: it is refused while it is still sent.
    fs::write(&file, format!("{line}\n").repeat(900) + &" ".repeat(3 << 20))?;
    let mut command = Place::Here.command(daemon_program());
    finish(command.arg("observe").arg(file).args(more), WAIT_MAX)
}

fn token() -> anyhow::Result<()> {
    let listen = SocketAddr::from(([0, 0, 0, 0], free_address()?.port()));
    let stage = Stage::start(listen, "token = \"{token}\"")?;
    let right = format!("Authorization: Bearer {TOKEN}");
    let (metrics, health) = (stage.url("http", "/metrics"), stage.url("http", "/healthz"));
    expect("no token", &curl(&[], &metrics)?, 401)?;
    expect("another token", &curl(&["-H", "Authorization: Bearer 5f1d3c0a9b7e4468"], &metrics)?, 401)?;
    expect("no token at /nowhere", &curl(&[], &stage.url("http", "/nowhere"))?, 401)?;
    expect("no token at /healthz", &curl(&[], &health)?, 200)?;
    let asked = curl(&["-i"], &metrics)?;
    ensure!(asked.text.to_lowercase().contains("www-authenticate: bearer realm="), "{}", asked.text);
    expect("the token at /nowhere", &curl(&["-H", &right], &stage.url("http", "/nowhere"))?, 404)?;
    let got = curl(&["-H", &right], &metrics)?;
    expect("the token", &got, 200)?;
    let refused =
        Scrape::parse(&got.text)?.sum("understudy_admin_refused_total", &[("reason", "identity")])?;
    ensure!(refused == 4, "{refused} requests are counted as refused");
    // Nowhere but in its file.
    let said = format!("{}{}", stage.process.stdout(), stage.process.stderr());
    ensure!(!said.contains(TOKEN) && said.contains("plain HTTP"), "{said}");
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", stage.process.id()))?;
        ensure!(!String::from_utf8_lossy(&bytes).contains(TOKEN), "the token is in {file}");
    }
    Ok(())
}

fn certificates() -> anyhow::Result<()> {
    let (ours, theirs) = (Authority::new()?, Authority::new()?);
    let shown = |authority: &Authority, name| authority.file(name).display().to_string();
    let lines = format!(
        "observe = true\ntoken = \"{{token}}\"\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}",
        shown(&ours, "server.pem"),
        shown(&ours, "server.key"),
        shown(&ours, "ca.pem")
    );
    let stage = Stage::start(free_address()?, &lines)?;
    let (metrics, health) = (stage.url("https", "/metrics"), stage.url("https", "/healthz"));
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let ca = shown(&ours, "ca.pem");
    let (cert, key) = (shown(&ours, "client.pem"), shown(&ours, "client.key"));
    let own = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    expect("no certificate at /healthz", &curl(&["--cacert", &ca], &health)?, 200)?;
    expect("no certificate", &curl(&["--cacert", &ca, "-H", &bearer], &metrics)?, 401)?;
    expect("no token", &curl(&own, &metrics)?, 401)?;
    let all = [&own[..], &["-H", &bearer]].concat();
    expect("both", &curl(&all, &metrics)?, 200)?;
    let (cert, key) = (shown(&theirs, "client.pem"), shown(&theirs, "client.key"));
    expect(
        "a certificate of somebody else",
        &curl(&["--cacert", &ca, "--cert", &cert, "--key", &key], &health)?,
        0,
    )?;
    expect("no TLS", &curl(&[], &stage.url("http", "/healthz"))?, 0)?;
    expect("TLS 1.1", &curl(&["--cacert", &ca, "--tls-max", "1.1"], &health)?, 0)?;
    let scrape = Scrape::parse(&curl(&all, &metrics)?.text)?;
    ensure!(stage.refused(&scrape, "handshake")? >= 2, "handshakes that failed are not counted");
    // The command that hands exchanges in finds its way, too.
    let token = stage.folder.path().join("token").display().to_string();
    let (cert, key) = (shown(&ours, "client.pem"), shown(&ours, "client.key"));
    let url = stage.url("https", "");
    let at = ["--url", &url, "--ca", &ca, "--cert", &cert, "--key", &key];
    let taken = observe(&stage, &[&at[..], &["--token", &token]].concat())?;
    ensure!(taken.code == 0 && taken.stdout.contains("900 exchanges"), "{}{}", taken.stdout, taken.stderr);
    let refused = observe(&stage, &at)?;
    ensure!(refused.code == 2 && refused.stderr.contains("another token"), "{}", refused.stderr);
    let unknown = observe(&stage, &["--url", &url, "--token", &token])?;
    ensure!(unknown.code == 2 && unknown.stderr.contains("--ca"), "{}", unknown.stderr);
    renewed(&stage, &ours, &theirs)
}

fn orders() -> anyhow::Result<()> {
    let ours = Authority::new()?;
    let shown = |name| ours.file(name).display().to_string();
    let lines = format!(
        "token = \"{{token}}\"\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}",
        shown("server.pem"),
        shown("server.key"),
        shown("ca.pem")
    );
    let stage = Stage::start_as(free_address()?, &lines, Some(free_address()?.port()))?;
    let url = stage.url("https", "");
    let (ca, cert, key) = (shown("ca.pem"), shown("client.pem"), shown("client.key"));
    let token = stage.folder.path().join("token").display().to_string();
    pause_and_resume(&stage, &["--url", &url, "--ca", &ca, "--cert", &cert, "--key", &key], &token)
}

/// `understudy pause` and `resume` find their way as well, by flags and by the configuration.
fn pause_and_resume(stage: &Stage, at: &[&str], token: &str) -> anyhow::Result<()> {
    let order = |what: &str, more: &[&str]| {
        let mut command = Place::Here.command(daemon_program());
        finish(command.arg(what).args(more), WAIT_MAX)
    };
    let with_token = [at, &["--token", token]].concat();
    let paused = order("pause", &[&with_token[..], &["--for", "1h"]].concat())?;
    ensure!(
        paused.code == 0 && paused.stdout.contains("Paused until 2"),
        "{}{}",
        paused.stdout,
        paused.stderr
    );
    for (without, expected) in
        [(at, "401"), (&["--url", at[1], "--ca", at[3], "--token", token], "client certificate")]
    {
        let refused = order("resume", without)?;
        ensure!(
            refused.code == 2 && refused.stderr.contains(expected),
            "{}{}",
            refused.stdout,
            refused.stderr
        );
        ensure!(!refused.stderr.contains(TOKEN), "{}", refused.stderr);
    }
    let config = stage.folder.path().join("understudy.toml").display().to_string();
    // Where the listener is and which token it wants stands there; who we are does not.
    let resumed = order("resume", &[&["--config", &config], &at[2..]].concat())?;
    ensure!(resumed.code == 0 && resumed.stdout.contains("go on"), "{}{}", resumed.stdout, resumed.stderr);
    Ok(())
}

/// Another token and other certificates count without a restart.
fn renewed(stage: &Stage, ours: &Authority, theirs: &Authority) -> anyhow::Result<()> {
    let token = "another-token-4b1f7d9c2e60";
    let replace = |path: &Path, bytes: &[u8]| -> anyhow::Result<()> {
        // In one step: half a certificate is none.
        let new = path.with_extension("new");
        fs::write(&new, bytes)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        Ok(fs::rename(new, path)?)
    };
    replace(&stage.folder.path().join("token"), token.as_bytes())?;
    for name in ["server.pem", "server.key", "ca.pem"] {
        replace(&ours.file(name), &fs::read(theirs.file(name))?)?;
    }
    let shown = |name| theirs.file(name).display().to_string();
    let (ca, cert, key) = (shown("ca.pem"), shown("client.pem"), shown("client.key"));
    let bearer = format!("Authorization: Bearer {token}");
    let own = ["--cacert", &ca, "--cert", &cert, "--key", &key, "-H", &bearer];
    let metrics = stage.url("https", "/metrics");
    wait_until("new certificates", WAIT_MAX, || Ok((curl(&own, &metrics)?.status == 200).then_some(())))?;
    let old = format!("Authorization: Bearer {TOKEN}");
    expect("the token before", &curl(&[&own[..6], &["-H", &old]].concat(), &metrics)?, 401)?;
    let said = stage.process.stderr();
    ensure!(!said.contains(token), "the token is in the log: {said}");
    Ok(())
}

fn refused_at_the_start() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (exposed, short) = (folder.path().join("exposed"), folder.path().join("short"));
    fs::write(&exposed, TOKEN)?;
    write_private(&short, "hunter2")?;
    let listen = SocketAddr::from(([0, 0, 0, 0], free_address()?.port()));
    let cases = [
        (String::new(), "line 2, key `admin.listen`"),
        (format!("token = {exposed:?}"), "chmod 600"),
        (format!("token = {short:?}"), "openssl rand"),
        ("token = \"/nowhere/token\"".to_owned(), "/nowhere/token"),
        (format!("token = {short:?}\ncert = \"/nowhere/cert\""), "key `admin.cert`: needs its `key`"),
        ("cert = \"/nowhere/c\"\nkey = \"/nowhere/k\"\nclient_ca = \"/nowhere/a\"".to_owned(), "/nowhere/a"),
    ];
    for (lines, expected) in cases {
        let config = configuration(folder.path(), &format!("listen = \"{listen}\"\n{lines}"))?;
        let mut command = Place::Here.command(daemon_program());
        command.args(["run", "--pcap", "/dev/null", "--config"]).arg(config);
        let end = finish(&mut command, WAIT_MAX)?;
        ensure!(end.code == 2 && end.stderr.contains(expected), "{lines}: {} {}", end.code, end.stderr);
        ensure!(!end.stderr.contains("hunter2") && !end.stderr.contains(TOKEN), "{}", end.stderr);
    }
    Ok(())
}

fn rebinding() -> anyhow::Result<()> {
    let stage = Stage::start(free_address()?, "hosts = [\"tee.internal\"]")?;
    let metrics = stage.url("http", "/metrics");
    let port = stage.admin.port();
    for (host, status) in [("evil.example", 421), ("tee.internal", 200), ("localhost", 200), ("[::1]", 200)] {
        let field = format!("Host: {host}:{port}");
        expect(host, &curl(&["-H", &field], &metrics)?, status)?;
    }
    let page = curl(&["-X", "POST", "-H", "Origin: https://evil.example"], &stage.url("http", "/observe"))?;
    expect("a page", &page, 403)?;
    let scrape = stage.scrape()?;
    let refused = (stage.refused(&scrape, "host")?, stage.refused(&scrape, "origin")?);
    ensure!(refused == (1, 1), "(host, origin) = {refused:?}");
    Ok(())
}

fn slow() -> anyhow::Result<()> {
    let stage = Stage::start(free_address()?, "head_wait_max = \"5s\"\nconnections_max = 32")?;
    // Each sends a little, and then nothing.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(stage.admin)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: local")?;
        slow.push(stream);
    }
    let scrape = stage.scrape()?;
    ensure!(stage.refused(&scrape, "connections")? >= 100 - 32, "those who wait did not give way");
    let begun = now();
    for stream in &mut slow {
        stream.set_read_timeout(Some(WAIT_MAX))?;
        // Closed or reset, but not kept.
        let read = stream.read(&mut [0; 16]);
        ensure!(!matches!(read, Ok(1..)), "half a request was answered");
    }
    ensure!(now().duration_since(begun) < Duration::from_secs(15), "slow connections were kept");
    let head = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let answer = stage.raw(head.as_bytes())?;
    ensure!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer =
        stage.raw(b"POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")?;
    ensure!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let scrape = stage.scrape()?;
    for (reason, least) in [("head_time", 20), ("head_size", 1), ("body_size", 1)] {
        ensure!(stage.refused(&scrape, reason)? >= least, "{reason} is not counted");
    }
    Ok(())
}

fn rate() -> anyhow::Result<()> {
    let stage = Stage::start(free_address()?, "requests_per_second_max = 5")?;
    let status = |path: &str| {
        let answer = stage.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        answer.split(' ').nth(1).context("no status")?.parse::<u16>().context("no status")
    };
    let statuses = (0..200).map(|_| status("/readyz")).collect::<anyhow::Result<Vec<_>>>()?;
    let refused = statuses.iter().filter(|status| **status == 429).count();
    ensure!(refused > 10 && statuses.iter().any(|status| *status != 429), "{statuses:?}");
    // Whoever restarts what does not answer here is not misled by a flood, whatever it asks for.
    let alive = (0..40).map(|_| status("/healthz")).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(alive.iter().all(|status| *status == 200), "{alive:?}");
    wait_until("the next second", WAIT_MAX, || Ok(stage.scrape().ok())).map(drop)
}

fn ten_thousand() -> anyhow::Result<()> {
    let stage = Stage::start(free_address()?, "")?;
    let memory = || -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", stage.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
        line.context("no VmHWM in /proc")?.parse().context("VmHWM is no number")
    };
    let descriptors =
        || -> anyhow::Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", stage.process.id()))?.count()) };
    stage.scrape()?;
    let (memory_before, descriptors_before) = (memory()?, descriptors()?);
    let mut open = Vec::new();
    for number in 0..10_000 {
        // As many as a test may have open at a time; those before are kept as long as possible.
        if open.len() == 500 {
            open.clear();
        }
        open.push(TcpStream::connect(stage.admin)?);
        if number % 1_000 == 999 {
            let begun = now();
            stage.scrape().context("while the others connect")?;
            let took = now().duration_since(begun);
            ensure!(took < Duration::from_secs(5), "a scrape took {took:?}");
            ensure!(descriptors()? <= descriptors_before + 64 + 8, "{} descriptors are open", descriptors()?);
        }
    }
    let scrape = stage.scrape()?;
    ensure!(stage.refused(&scrape, "connections")? > 5_000, "those who wait did not give way");
    let growth = memory()?.saturating_sub(memory_before);
    ensure!(growth < MEMORY_GROWTH_KIB_MAX, "memory grew by {growth} KiB");
    Ok(())
}
