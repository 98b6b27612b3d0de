//! `capture --record`, `run --record`, `--recording` and `convert`: what was captured live is what is read later.
//!
//! Takes what `inspect --json` says live for the truth; that it is the truth is `inspect`'s to show.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use understudy_tests::app::Faults;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Finished, Settings, Workspace, finish};
use understudy_tests::mix::{DEMO_ROUTES, Pace, drive, every_route, every_shape};
use understudy_tests::pcap::PcapFile;
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::{Place, Process};
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};
use understudy_tests::verdict::Findings;

use crate::Case;

const NGINX: &[Prerequisite] = &[KERNEL[0], KERNEL[1], KERNEL[2], Prerequisite::Tool("nginx")];

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_recording_says_what_inspect_said_live", needs: KERNEL, run: same_as_live },
    Case {
        name: "a_faulty_candidate_fails_against_a_recording",
        needs: NGINX,
        run: || replayed(Faults::Planted, 1),
    },
    Case { name: "equal_servers_pass_against_a_recording", needs: NGINX, run: || replayed(Faults::None, 0) },
    Case { name: "a_run_records_what_it_does_not_replay", needs: KERNEL, run: beside_a_run },
    Case { name: "a_killed_recorder_leaves_what_it_recorded", needs: KERNEL, run: killed },
    Case { name: "at_its_bound_the_recording_ends_the_capture", needs: KERNEL, run: bound },
    Case { name: "a_recording_of_a_capture_file_says_what_the_file_says", needs: &[], run: same_as_file },
    Case { name: "a_verdict_ends_the_reading_of_a_silent_pipe", needs: KERNEL, run: silent_pipe },
    Case { name: "a_gor_file_becomes_a_recording_and_back", needs: &[], run: gor },
    Case {
        name: "hostile_files_cost_bounded_memory",
        needs: &[Prerequisite::Tool("sh"), Prerequisite::Tool("awk")],
        run: hostile,
    },
    Case { name: "damage_is_named_and_nothing_is_overwritten", needs: &[], run: refused },
];

/// How long reading or replaying one of these files may take.
const END_WAIT_MAX: Duration = Duration::from_secs(60);

/// Runs the daemon to its end.
fn understudy(arguments: &[&str]) -> anyhow::Result<Finished> {
    finish(Command::new(daemon_program()).args(arguments), END_WAIT_MAX)
}

fn path_in(folder: &TempDir, name: &str) -> anyhow::Result<String> {
    let path: PathBuf = folder.path().join(name);
    Ok(path.to_str().context("a path in UTF-8")?.to_owned())
}

/// `understudy capture --record …`, capturing when this returns.
fn recorder(port: u16, file: &str, more: &str) -> anyhow::Result<Daemon> {
    let admin = free_address()?;
    let mut command = Place::Here.command(daemon_program());
    let (port, listen) = (port.to_string(), admin.to_string());
    // Unoptimised and beside A and the load, it may cost what it costs.
    let config = format!("{file}.toml");
    // What these tests compare is every byte; `secrets` is about what a recording leaves out.
    let off = "[redact]\nmode = \"off\"\n";
    std::fs::write(&config, format!("[capture]\nnice = 0\ncpu_max = \"100%\"\n{more}\n{off}"))?;
    command.args(["capture", "--port", &port, "--admin", &listen, "--record", file, "--config", &config]);
    Daemon::start(&Place::Here, &mut command, admin)
}

/// What a recording holds, as `inspect --json --body` shows it.
fn lines(file: &str) -> anyhow::Result<Vec<Value>> {
    let finished = understudy(&["inspect", "--json", "--body", "--recording", file])?;
    ensure!(finished.code == 0, "exit code {}: {}", finished.code, finished.stderr);
    parse(&finished.stdout)
}

fn parse(stdout: &str) -> anyhow::Result<Vec<Value>> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

/// Lines without what two probes, which read the clock one after the other, cannot agree on; in a fixed order.
fn timeless(mut lines: Vec<Value>) -> anyhow::Result<Vec<String>> {
    for line in &mut lines {
        let line = line.as_object_mut().context("an object")?;
        for key in ["id", "captured_at", "ttfb_us", "total_us"] {
            ensure!(line.remove(key).is_some(), "no `{key}`");
        }
        line["flow"].as_object_mut().and_then(|flow| flow.remove("opened")).context("no `opened`")?;
    }
    let mut lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    lines.sort();
    Ok(lines)
}

fn same_as_live() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let file = path_in(&folder, "x.understudy")?;
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let port = app.address.port();
    let live = Daemon::inspect(&Place::Here, port, free_address()?, &["--json", "--body"])?;
    let recorder = recorder(port, &file, "")?;
    let sent = drive(app.address, &every_shape(200), Pace { per_second: None, connections: 4 })?;
    live.settle(sent.len() as u64)?;
    recorder.settle(sent.len() as u64)?;
    let recorded = recorder.interrupt()?;
    ensure!(recorded.code == 0 && recorded.stdout.is_empty(), "{}{}", recorded.stdout, recorded.stderr);
    let mode = std::fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the file has mode {mode:o}");
    let (live, recorded) = (timeless(parse(&live.interrupt()?.stdout)?)?, timeless(lines(&file)?)?);
    ensure!(live.len() == 200 && recorded.len() == 200, "{} live, {} recorded", live.len(), recorded.len());
    for (live, recorded) in live.iter().zip(&recorded) {
        ensure!(live == recorded, "live:     {live}\nrecorded: {recorded}");
    }
    Ok(())
}

/// One and the same capture, so that every byte of what is shown must be the same. More exchanges than all queues on
/// the way hold together: a file is waited for.
fn same_as_file() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (capture, recording) = (path_in(&folder, "x.pcap")?, path_in(&folder, "x.understudy")?);
    let server = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 8080);
    let mut file = PcapFile::default();
    for connection in 0..100u16 {
        let pairs: Vec<_> = (0..100)
            .map(|number| {
                let ask = format!("GET /{connection}/{number} HTTP/1.1\r\nHost: shop\r\n\r\n");
                (ask.into_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
            })
            .collect();
        let client = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 10_000 + connection);
        let start = Duration::from_secs(1_700_000_000 + u64::from(connection));
        file.connection(client, server, start, Duration::from_millis(1), &pairs);
    }
    std::fs::write(&capture, file.bytes())?;
    let recorded = understudy(&["capture", "--pcap", &capture, "--record", &recording])?;
    ensure!(recorded.code == 0 && ledger(&recorded, "recorded")? == 10_000, "{}", recorded.stderr);
    let shown = [["--pcap", &capture], ["--recording", &recording]]
        .map(|input| understudy(&[&["inspect", "--json", "--body"][..], &input].concat()));
    let [of_file, of_recording] = shown;
    let (of_file, of_recording) = (of_file?, of_recording?);
    ensure!(of_file.stdout.lines().count() == 10_000, "{}", of_file.stderr);
    ensure!(of_file.stdout == of_recording.stdout, "the recording says something else");
    ensure!(ledger(&of_recording, "shed")? == 0, "{}", of_recording.stderr);
    Ok(())
}

/// Records a service, and replays the recording to one with these faults.
fn replayed(faults: Faults, code: i32) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let file = path_in(&folder, "x.understudy")?;
    let files = StaticFiles::write()?;
    let app_a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let a = Nginx::start(&Place::Here, free_address()?, &files, app_a.address)?;
    let recorder = recorder(a.address.port(), &file, "")?;
    let sent = drive(a.address, &every_route(480), Pace { per_second: Some(160), connections: 6 })?;
    recorder.settle(sent.len() as u64)?;
    recorder.interrupt()?;
    // A is gone by then: a recording needs nobody.
    drop((a, app_a));

    let app_b = App::start(&Place::Here, free_address()?, faults)?;
    let b = Nginx::start(&Place::Here, free_address()?, &files, app_b.address)?;
    let workspace = Workspace::new(
        &Settings {
            port: 1,
            admin: free_address()?,
            candidate: b.address,
            isolated: true,
            routes: DEMO_ROUTES.to_vec(),
            more: String::new(),
        }
        .text(),
    )?;
    let config = workspace.config();
    let config = config.to_str().context("a path in UTF-8")?;
    let run = understudy(&["run", "--config", config, "--recording", &file])?;
    let report = workspace.report(&["--json"])?;
    ensure!(run.code == report.code, "run ended with {}, report with {}", run.code, report.code);
    let findings = Findings::parse(&report.stdout)?;
    let causes = if code == 0 { Default::default() } else { Findings::planted().causes };
    ensure!(run.code == code && findings.causes == causes, "exit code {}: {findings:#?}", run.code);
    for (label, count) in [("exchanges read", sent.len()), ("lab: exchanges", sent.len()), ("shed", 0)] {
        ensure!(ledger(&run, label)? == count as u64, "{label}: {}", run.stderr);
    }
    Ok(())
}

/// The number behind the ledger's first line with this label.
fn ledger(finished: &Finished, label: &str) -> anyhow::Result<u64> {
    let line = finished.stderr.lines().find_map(|line| line.trim_start().strip_prefix(label));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no `{label}` in {}", finished.stderr))
}

fn silent_pipe() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let file = path_in(&folder, "x.understudy")?;
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let recorder = recorder(a.address.port(), &file, "")?;
    let sent = drive(a.address, &every_route(480), Pace { per_second: Some(320), connections: 6 })?;
    recorder.settle(sent.len() as u64)?;
    recorder.interrupt()?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let (candidate, journal) = (format!("http://{}", b.address), path_in(&folder, "x.db")?);
    let mut command = Place::Here.command(daemon_program());
    command.args(["run", "--recording", "-", "--candidate", &candidate, "--isolated", "--until-verdict"]);
    command.args(["--journal", &journal, "--admin", "off"]);
    let (input, mut other_end) = std::io::pipe()?;
    let mut run = Process::start_with("understudy", &mut command, input)?;
    // All that a recorder has written so far, but for the end, which a recorder beside a service that idles does not write.
    let recording = std::fs::read(&file)?;
    let end = recording.len().checked_sub(20).context("a recording with an end")?;
    other_end.write_all(&recording[..end])?;
    let code = run.wait(END_WAIT_MAX)?;
    ensure!(code == 0, "there is no PASS, but exit code {code}: {}{}", run.stdout(), run.stderr());
    drop(other_end);
    Ok(())
}

fn beside_a_run() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let file = path_in(&folder, "x.understudy")?;
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let admin = free_address()?;
    let settings = Settings {
        port: a.address.port(),
        admin,
        candidate: b.address,
        isolated: false,
        routes: vec!["/nobody-asks-for-this"],
        more: String::new(),
    };
    let workspace = Workspace::new(&settings.text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &["--record", &file])?;
    drive(a.address, &every_shape(60), Pace { per_second: None, connections: 2 })?;
    // Each counts once for the experiment and once for the recording.
    let scrape = daemon.settle(120)?;
    let labels = [("experiment", "recording"), ("fate", "recorded")];
    let recorded = scrape.sum("understudy_exchanges_total", &labels)?;
    ensure!(recorded == 60, "{recorded} recorded");
    let run = daemon.interrupt()?;
    ensure!(run.code == 3, "nothing was compared, and the exit code is {}: {}", run.code, run.stderr);
    ensure!(lines(&file)?.len() == 60, "{} exchanges in the recording", lines(&file)?.len());
    ensure!(b.received()?.is_empty(), "the candidate got something");
    Ok(())
}

fn killed() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let file = path_in(&folder, "x.understudy")?;
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let recorder = recorder(app.address.port(), &file, "")?;
    drive(app.address, &every_shape(40), Pace { per_second: None, connections: 2 })?;
    recorder.settle(40)?;
    // What was recorded gets to the disk within a second, whether or not more comes.
    let all = wait_until("recording on the disk", Duration::from_secs(10), || {
        Ok(Some(lines(&file)?).filter(|lines| lines.len() == 40))
    })?;
    recorder.signal(Signal::KILL)?;
    recorder.join(Duration::from_secs(5))?;
    ensure!(lines(&file)? == all, "the end of the recorder changed the recording");
    let finished = understudy(&["inspect", "--recording", &file])?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(finished.code == 0 && said.contains("no end"), "{said}");
    Ok(())
}

fn bound() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let file = path_in(&folder, "x.understudy")?;
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let recorder = recorder(app.address.port(), &file, "[record]\nfile_bytes_max = 20000\n")?;
    drive(app.address, &every_shape(200), Pace { per_second: None, connections: 2 })?;
    let finished = recorder.join(Duration::from_secs(10))?;
    ensure!(finished.code == 0, "exit code {}: {}", finished.code, finished.stderr);
    ensure!(finished.stderr.contains("at its bound"), "{}", finished.stderr);
    let recorded = ledger(&finished, "recorded")?;
    ensure!(ledger(&finished, "not_recorded")? > 0, "{}", finished.stderr);
    ensure!(std::fs::metadata(&file)?.len() <= 20_000, "the file is beyond its bound");
    ensure!(recorded > 0 && lines(&file)?.len() as u64 == recorded, "{recorded} recorded");
    let shown = understudy(&["inspect", "--json", "--recording", &file])?;
    ensure!(
        shown.stderr.contains("not in the recording") && shown.stderr.contains("not_recorded"),
        "{}",
        shown.stderr
    );
    Ok(())
}

/// Two exchanges and a request alone, as the later versions of GoReplay write them.
const GOR: &str = "1 00000000000000aa0000000000000001 1700000000000000000 1000\n\
    POST /orders HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 7\r\n\r\na=1&b=2\n🐵🙈🙉\n\
    2 00000000000000aa0000000000000001 1700000000005000000 2000000\n\
    HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok\n🐵🙈🙉\n\
    1 00000000000000aa0000000000000002 1700000000100000000 0\n\
    GET /stream HTTP/1.1\r\nHost: shop.example\r\n\r\n\n🐵🙈🙉\n\
    2 00000000000000aa0000000000000002 1700000000101000000 500\n\
    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\n🐵🙈🙉\n\
    1 00000000000000aa0000000000000003 1700000000200000000 0\n\
    GET /lost HTTP/1.1\r\nHost: shop.example\r\n\r\n\n🐵🙈🙉\n";

fn gor() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let [gor, recording, back, har] =
        ["a.gor", "a.understudy", "b.gor", "a.har"].map(|name| path_in(&folder, name));
    let (gor, recording, back, har) = (gor?, recording?, back?, har?);
    std::fs::write(&gor, GOR)?;
    let converted = understudy(&["convert", &gor, &recording])?;
    ensure!(converted.code == 0, "{}", converted.stderr);
    ensure!(
        converted.stderr.contains("3 exchanges read, 3 written, 1 of them without"),
        "{}",
        converted.stderr
    );
    let lines = lines(&recording)?;
    let shown: Vec<String> = lines
        .iter()
        .map(|line| {
            let answer = &line["response"];
            format!(
                "{} {} {} {}",
                line["request"]["target"], answer["status"], answer["body"], line["ttfb_us"]
            )
        })
        .collect();
    let expected =
        [r#""/orders" 201 "b2s=" 4999"#, r#""/stream" 200 "aGVsbG8=" 1000"#, r#""/lost" null null null"#];
    ensure!(shown == expected, "{shown:#?}");
    let converted = understudy(&["convert", &recording, &back])?;
    ensure!(std::fs::read_to_string(&back)? == GOR, "{}", std::fs::read_to_string(&back)?);
    ensure!(converted.stderr.contains("3 exchanges whose addresses"), "{}", converted.stderr);
    ensure!(understudy(&["convert", &recording, &har])?.code == 0, "no HAR");
    let archive: Value = serde_json::from_str(&std::fs::read_to_string(&har)?)?;
    ensure!(archive["log"]["entries"][0]["response"]["content"]["text"] == "ok", "{archive}");
    Ok(())
}

/// A record without an end, and requests that nobody answers: 160 MB through a process that may have 300 MB of addresses
/// in all, its program included.
fn hostile() -> anyhow::Result<()> {
    let script = r#"ulimit -v 300000
        {
            head -c 60000000 /dev/zero
            printf '\n🐵🙈🙉\n'
            awk 'BEGIN { for (i = 0; i < 50000; i++)
                printf "1 %d %d\nGET /%02000d HTTP/1.1\r\n\r\n\n🐵🙈🙉\n", i, i, i }'
        } | "$0" convert - - --from gor --to understudy | wc -c"#;
    let finished = finish(Command::new("sh").args(["-c", script]).arg(daemon_program()), END_WAIT_MAX)?;
    let said = finished.stderr.contains("50000 exchanges read, 50000 written")
        && finished.stderr.contains("1 records beyond");
    ensure!(said, "{}", finished.stderr);
    let bytes: u64 = finished.stdout.trim().parse()?;
    ensure!(bytes > 100_000_000, "{bytes} bytes of a recording");
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (gor, recording) = (path_in(&folder, "a.gor")?, path_in(&folder, "a.understudy")?);
    std::fs::write(&gor, GOR)?;
    understudy(&["convert", &gor, &recording])?;
    let again = understudy(&["convert", &gor, &recording])?;
    ensure!(again.code == 2 && again.stderr.contains("exists already"), "{}", again.stderr);
    let other = understudy(&["inspect", "--recording", &gor])?;
    ensure!(other.code == 2 && other.stderr.contains("is no recording"), "{}", other.stderr);
    ensure!(!Path::new("b.understudy").exists(), "a file was made for nothing");

    let mut bytes = std::fs::read(&recording)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&recording, &bytes)?;
    let damaged = understudy(&["inspect", "--json", "--recording", &recording])?;
    ensure!(damaged.code == 2 && damaged.stdout.lines().count() == 1, "{}{}", damaged.stdout, damaged.stderr);
    let said = damaged.stderr.contains(&recording) && damaged.stderr.contains("record 2, at byte");
    ensure!(said && damaged.stderr.contains("checksum"), "{}", damaged.stderr);
    let journal = path_in(&folder, "journal.db")?;
    let nobody = format!("http://{}", free_address()?);
    let options = ["--candidate", &nobody, "--isolated", "--admin", "off", "--journal", &journal];
    let run = understudy(&[&["run", "--recording", &recording][..], &options].concat())?;
    let reported = run.stdout.contains("1 seen") && run.stderr.contains("record 2, at byte");
    ensure!(run.code == 2 && reported, "exit code {}: {}{}", run.code, run.stdout, run.stderr);
    Ok(())
}
