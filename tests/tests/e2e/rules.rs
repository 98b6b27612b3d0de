//! Rules and experiments at work: a reload while exchanges flow, a ramp, several candidates, a comparator that hangs, ids
//! that only a server can make.
//!
//! What a rule hides is the unit tests' to say; here the real program does it with real traffic.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, request};
use understudy_tests::clock::{pause, wait_until};
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Settings, Workspace};
use understudy_tests::mix::{Pace, Planned, drive, every_route};
use understudy_tests::prereq::KERNEL;
use understudy_tests::process::Place;
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, free_address};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "rules_that_change_while_exchanges_flow_lose_none", needs: KERNEL, run: reload },
    Case { name: "a_ramp_takes_more_and_more_and_then_all", needs: KERNEL, run: ramp },
    Case { name: "several_candidates_have_a_verdict_each", needs: KERNEL, run: several_candidates },
    Case { name: "a_comparator_that_hangs_is_started_again_and_the_run_goes_on", needs: KERNEL, run: hang },
    Case { name: "ids_that_a_server_makes_fail_no_run_without_a_twin", needs: KERNEL, run: server_made_ids },
];

/// These tests ask whether answers agree; how long they take on a busy machine is not theirs to judge.
const NO_LATENCY: &str = "\n[experiment.verdict]\nlatency_judged = false\n";

/// A configuration for these two, with more keys.
fn settings(a: SocketAddr, b: SocketAddr, admin: SocketAddr, more: &str) -> Settings {
    Settings {
        port: a.port(),
        admin,
        candidate: b,
        isolated: true,
        routes: Vec::new(),
        more: more.to_owned(),
    }
}

fn apps(faults: Faults) -> anyhow::Result<(App, App)> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, faults)?;
    Ok((a, b))
}

/// How many exchanges have this fate.
fn fate(scrape: &Scrape, fate: &str) -> anyhow::Result<u64> {
    scrape.sum("understudy_exchanges_total", &[("fate", fate)])
}

fn report(workspace: &Workspace) -> anyhow::Result<Value> {
    let report = workspace.report(&["--json"])?;
    serde_json::from_str(&report.stdout).with_context(|| format!("no report: {}", report.stdout))
}

/// The file is written anew and read again, well and badly, while requests are on their way.
fn reload() -> anyhow::Result<()> {
    const REQUESTS: usize = 600;
    let (a, b) = apps(Faults::Planted)?;
    let admin = free_address()?;
    let text = |rules: &str| settings(a.address, b.address, admin, rules).text();
    let hiding = "[experiment.compare]\nignore = [\"json:$.price\"]";
    let workspace = Workspace::new(&text(""))?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let reloads = |result: &'static str| -> anyhow::Result<u64> {
        daemon.scrape()?.sum("understudy_config_reloads_total", &[("result", result)])
    };
    let change = |rules: &str, result: &'static str| -> anyhow::Result<()> {
        let before = reloads(result)?;
        workspace.configure(&text(rules))?;
        daemon.signal(Signal::HUP)?;
        wait_until("reload", DRAIN_WAIT_MAX, || Ok((reloads(result)? > before).then_some(())))
    };
    let sent = std::thread::scope(|scope| -> anyhow::Result<usize> {
        let load = scope.spawn(|| {
            drive(a.address, &every_route(REQUESTS), Pace { per_second: Some(200), connections: 6 })
        });
        for round in 0..4 {
            change(if round % 2 == 0 { hiding } else { "" }, "ok")?;
            change("[experiment.compare]\nignore = [{ at = \"json:$.a\", class = \"colour\" }]", "failed")?;
        }
        change(hiding, "ok")?;
        let sent = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(sent.len())
    })?;
    let scrape = daemon.settle(sent as u64)?;
    let compared = fate(&scrape, "matched")? + fate(&scrape, "mismatched")? + fate(&scrape, "ignored")?;
    ensure!(compared == sent as u64, "{compared} of {sent} were compared");
    // Now that the rule stands, the price is hidden for certain.
    drive(a.address, &every_route(80), Pace { per_second: None, connections: 2 })?;
    let after = daemon.settle((sent + 80) as u64)?;
    ensure!(fate(&after, "ignored")? > fate(&scrape, "ignored")?, "the rule hides nothing");
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    ensure!(finished.stderr.contains("colour"), "the refusal does not say why: {}", finished.stderr);
    let report = report(&workspace)?;
    let rules = report["experiments"][0]["rules"].as_array().cloned().unwrap_or_default();
    let hid =
        rules.iter().any(|rule| rule["rule"] == "json:$.price" && rule["differences"].as_u64() > Some(0));
    ensure!(hid, "the report knows nothing of the rule: {rules:?}");
    Ok(())
}

/// Connections are decided on one by one: each request has its own.
fn ramp() -> anyhow::Result<()> {
    const OVER: Duration = Duration::from_secs(12);
    let (a, b) = apps(Faults::None)?;
    let admin = free_address()?;
    let ramp = "ramp = { from = \"0%\", to = \"100%\", over = \"12s\" }";
    let workspace = Workspace::new(&settings(a.address, b.address, admin, ramp).text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let send = |count: u32, every: Duration| -> anyhow::Result<()> {
        for _ in 0..count {
            let mut client = Client::connect(a.address)?;
            client.send(&request("GET", "/items/1", a.address, &[("Connection", "close")]))?;
            ensure!(client.answer("GET")?.status == 200, "A did not answer");
            pause(every);
        }
        Ok(())
    };
    let part = OVER / 3 / 100;
    let mut left_out = Vec::new();
    for round in 1..=4 {
        send(100, part)?;
        let scrape = daemon.settle(round * 100)?;
        left_out.push(fate(&scrape, "sampled_out")?);
    }
    // What waits for `settle` makes the ramp further than the rounds are: the last one is behind its end.
    send(50, Duration::ZERO)?;
    let last = fate(&daemon.settle(450)?, "sampled_out")?;
    let first = left_out.first().copied().unwrap_or_default();
    ensure!(first > 40, "{first} of the first 100 were left out");
    ensure!(
        left_out.last() == Some(&last),
        "some were left out at the end of the ramp: {left_out:?}, {last}"
    );
    ensure!(last < 300, "{last} of 450 were left out");
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    Ok(())
}

/// One is right and one is not.
fn several_candidates() -> anyhow::Result<()> {
    const REQUESTS: usize = 800;
    let (a, good) = apps(Faults::None)?;
    let bad = App::start(&Place::Here, free_address()?, Faults::Planted)?;
    let admin = free_address()?;
    // Second answers come seconds later, and how many do before the end is up to the machine; no answer here is noise.
    let text = settings(a.address, good.address, admin, "noise.again = \"off\"").text();
    let one = text.lines().filter(|line| !line.starts_with("candidate")).collect::<Vec<_>>().join("\n");
    let candidate = |name: &str, app: &App| {
        format!(
            "\n[[experiment.candidates]]\nname = \"{name}\"\nurl = \"http://{}\"\nisolated = true\n",
            app.address
        )
    };
    // On a busy machine all of them have their turn, however late.
    let patient = "\n[experiment.replay]\nslot_wait_max = \"60s\"\nresponse_wait_max = \"60s\"\n";
    let text = one + &candidate("good", &good) + &candidate("bad", &bad) + patient + NO_LATENCY;
    let workspace = Workspace::new(&text)?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let sent = drive(a.address, &every_route(REQUESTS), Pace { per_second: Some(160), connections: 6 })?;
    // Each of them sees each exchange.
    let scrape = daemon.settle(2 * sent.len() as u64)?;
    let matched = |experiment| {
        let labels = [("experiment", experiment), ("fate", "matched")];
        scrape.sum("understudy_exchanges_total", &labels)
    };
    let fates = |experiment| -> anyhow::Result<Vec<String>> {
        let name = "understudy_exchanges_total";
        let count = |fate: &String| scrape.sum(name, &[("experiment", experiment), ("fate", fate)]);
        let fates = scrape.label_values(name, "fate").into_iter();
        fates.map(|fate| Ok(format!("{fate} {}", count(&fate)?))).collect()
    };
    ensure!(matched("lab/good")? == REQUESTS as u64, "not all match: {:?}", fates("lab/good")?);
    ensure!(matched("lab/bad")? < REQUESTS as u64, "all match");
    let finished = daemon.interrupt()?;
    ensure!(finished.code == 1, "exit code {}: {}", finished.code, finished.stderr);
    let report = report(&workspace)?;
    let verdict = |at: usize| {
        let experiment = &report["experiments"][at];
        let causes = experiment["causes"].as_array().map_or(0, Vec::len);
        format!("{} {} {causes}", experiment["name"], experiment["verdict"]["verdict"])
    };
    ensure!(verdict(0) == "\"lab/good\" \"pass\" 0", "{}", verdict(0));
    ensure!(verdict(1) == "\"lab/bad\" \"fail\" 2", "{}", verdict(1));
    Ok(())
}

/// Answers twenty questions and then none, each time that it is started.
const HANGS: &str = r#"n=0
while read -r line; do
  n=$((n + 1))
  id=${line#*\"id\":}
  id=${id%%,*}
  if [ "$n" -gt 20 ]; then sleep 60; fi
  printf '{"id": %s}\n' "$id"
done
"#;

fn hang() -> anyhow::Result<()> {
    const REQUESTS: usize = 300;
    let (a, b) = apps(Faults::None)?;
    let admin = free_address()?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("hangs.sh");
    std::fs::write(&script, HANGS)?;
    let more = format!(
        "[experiment.compare.comparator]\ncommand = [\"/bin/sh\", \"{}\"]\ndeadline = \"100ms\"\npause_max = \"200ms\"",
        script.display()
    );
    let workspace = Workspace::new(&settings(a.address, b.address, admin, &more).text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let gets: Vec<Planned> =
        every_route(4 * REQUESTS).into_iter().filter(|planned| planned.method == "GET").collect();
    let sent = drive(
        a.address,
        &gets.into_iter().take(REQUESTS).collect::<Vec<_>>(),
        Pace { per_second: Some(100), connections: 2 },
    )?;
    let scrape = daemon.settle(sent.len() as u64)?;
    let (matched, incomparable) = (fate(&scrape, "matched")?, fate(&scrape, "incomparable")?);
    ensure!(matched + incomparable == sent.len() as u64, "{matched} and {incomparable} of {}", sent.len());
    ensure!(matched >= 40, "{matched} match: it was not started again");
    let restarts = scrape.sum("understudy_comparator_restarts_total", &[])?;
    let failures = scrape.sum("understudy_comparator_failures_total", &[])?;
    ensure!(restarts >= 2 && failures >= 2, "{restarts} restarts, {failures} failures");
    ensure!(incomparable > 0, "nothing was left without an answer");
    let finished = daemon.interrupt()?;
    ensure!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    let report = report(&workspace)?;
    let reasons = report["experiments"][0]["incomparable_reasons"].clone();
    ensure!(reasons[0]["name"] == "rule_error" && reasons[0]["count"] == incomparable, "{reasons}");
    Ok(())
}

/// A server that gives each request an id, counted on from a number of its own.
struct Counting {
    address: SocketAddr,
}

impl Counting {
    fn start(from: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(free_address()?)?;
        let address = listener.local_addr()?;
        let next = Arc::new(AtomicU64::new(from));
        // Ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let next = Arc::clone(&next);
                std::thread::spawn(move || serve(stream, &next));
            }
        });
        Ok(Self { address })
    }
}

/// Answers each request head, until the client has gone.
fn serve(mut stream: TcpStream, next: &AtomicU64) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte)? == 1 {
        head.extend(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let id = next.fetch_add(1, Ordering::Relaxed);
        let body = format!("{{\"id\":{id},\"state\":\"new\"}}");
        let length = body.len();
        stream.write_all(
            format!(
                "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nLocation: /orders/{id}\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )?;
    }
    Ok(())
}

fn server_made_ids() -> anyhow::Result<()> {
    const REQUESTS: u64 = 450;
    let (a, b) = (Counting::start(1_000)?, Counting::start(70_000)?);
    let admin = free_address()?;
    let more = "routes = [\"/orders\"]";
    let text = settings(a.address, b.address, admin, &format!("{more}{NO_LATENCY}")).text();
    let workspace = Workspace::new(&text)?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    let mut client = Client::connect(a.address)?;
    for _ in 0..REQUESTS {
        client.send(&request("POST", "/orders", a.address, &[("Content-Length", "0")]))?;
        ensure!(client.answer("POST")?.status == 201, "A did not answer");
        pause(Duration::from_millis(4));
    }
    daemon.settle(REQUESTS)?;
    let finished = daemon.interrupt()?;
    ensure!(finished.code == 3, "exit code {}: {}", finished.code, finished.stdout);
    let rule = "ignore = [{ at = \"json:$.id\", class = \"counter\" }]";
    let clean = "clean = [{ at = \"header:location\", replace = \"[0-9]+\", with = \"0\" }]";
    for wanted in ["nothing can measure noise", "Name a twin", rule, clean] {
        ensure!(finished.stdout.contains(wanted), "no `{wanted}` in {}", finished.stdout);
    }
    ensure!(report(&workspace)?["experiments"][0]["withheld"] == REQUESTS, "{}", finished.stdout);

    // With the rules that the report has ready, it passes.
    let rules = format!("{more}\n[experiment.compare]\n{rule}\n{clean}\n{NO_LATENCY}");
    let workspace = Workspace::new(&settings(a.address, b.address, admin, &rules).text())?;
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    for _ in 0..REQUESTS {
        client.send(&request("POST", "/orders", a.address, &[("Content-Length", "0")]))?;
        ensure!(client.answer("POST")?.status == 201, "A did not answer");
        pause(Duration::from_millis(4));
    }
    daemon.settle(REQUESTS)?;
    let finished = daemon.interrupt()?;
    ensure!(finished.code == 0, "exit code {}: {}", finished.code, finished.stdout);
    Ok(())
}
