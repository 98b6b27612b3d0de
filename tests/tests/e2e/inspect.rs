//! `understudy inspect --json` against what the client sent and received, field by field.
//!
//! Takes nothing that the daemon says for truth.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use understudy_tests::app::Faults;
use understudy_tests::client::{Answer, Client, request};
use understudy_tests::daemon::Daemon;
use understudy_tests::lab::{Family, Lab};
use understudy_tests::mix::{Pace, Sent, Shape, drive, every_shape};
use understudy_tests::prereq::{KERNEL, NETWORK};
use understudy_tests::process::Place;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address, unique_port};
use understudy_tests::wire::{BodyFacts, Fields};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "tells_the_truth_between_hosts_over_ipv4",
        needs: NETWORK,
        run: || between_hosts(Family::V4),
    },
    Case {
        name: "tells_the_truth_between_hosts_over_ipv6",
        needs: NETWORK,
        run: || between_hosts(Family::V6),
    },
    Case { name: "tells_the_truth_about_every_kind_of_answer", needs: KERNEL, run: every_answer },
    Case { name: "tells_the_truth_about_nginx", needs: KERNEL, run: nginx },
    Case { name: "body_adds_bodies_in_base64", needs: KERNEL, run: bodies },
    Case { name: "every_series_exists_at_zero_once_it_is_ready", needs: KERNEL, run: series },
    Case { name: "quiet_prints_only_the_ledger", needs: KERNEL, run: quiet },
];

const KEYS: [&str; 9] =
    ["captured_at", "flow", "id", "interim", "marks", "request", "response", "total_us", "ttfb_us"];

/// Method, target and header fields.
type Ask = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What must be said about one exchange.
pub(crate) struct Truth {
    client: SocketAddr,
    method: String,
    target: String,
    fields: Fields,
    body: BodyFacts,
    answer: Answer,
    pipelined: bool,
}

fn between_hosts(family: Family) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let place = lab.a.place();
    let address = lab.a.at(family, unique_port());
    let app = App::start(&place, address, Faults::None)?;
    let admin = SocketAddr::from(([127, 0, 0, 1], unique_port()));
    let daemon = Daemon::inspect(&place, address.port(), admin, &["--json"])?;
    let pace = Pace { per_second: None, connections: 4 };
    let sent = lab.client.within(|| drive(address, &every_shape(200), pace))?;
    daemon.settle(sent.len() as u64)?;
    ensure!(app.received()?.len() == sent.len(), "the application missed requests");
    check(daemon, address, sent.into_iter().map(Truth::from).collect())
}

fn every_answer() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let daemon = Daemon::inspect(&Place::Here, app.address.port(), free_address()?, &["--json"])?;
    let asks: [Ask; 17] = [
        ("GET", "/items/1", &[]),
        ("HEAD", "/items/1", &[]),
        ("HEAD", "/stream/5", &[]),
        ("GET", "/stream/50", &[]),
        ("GET", "/blob/0", &[]),
        ("GET", "/blob/3000000", &[]),
        ("GET", "/report", &[("Accept-Encoding", "gzip")]),
        ("GET", "/empty", &[]),
        ("DELETE", "/items/2", &[]),
        ("GET", "/cached/1", &[]),
        ("GET", "/cached/1", &[("If-None-Match", "\"v1-1\"")]),
        ("GET", "/redirect/1", &[]),
        ("GET", "/interim/1", &[]),
        ("OPTIONS", "/sink/o", &[("X-Empty", ""), ("X-Twice", "1"), ("x-twice", "2")]),
        ("GET", "/missing", &[]),
        ("GET", "/slow/30", &[]),
        // Last, because it ends the connection.
        ("GET", "/until-close/100000", &[]),
    ];
    let mut client = Client::connect(app.address)?;
    let mut truths = Vec::new();
    for (method, target, fields) in asks {
        client.send(&request(method, target, app.address, fields))?;
        let answer = client.answer(method).with_context(|| format!("{method} {target}"))?;
        let mut sent = vec![("Host".to_owned(), app.address.to_string())];
        sent.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        truths.push(Truth {
            client: client.local(),
            method: method.to_owned(),
            target: target.to_owned(),
            fields: sent,
            body: BodyFacts::of(b""),
            answer,
            pipelined: false,
        });
    }
    drop(client);
    daemon.settle(truths.len() as u64)?;
    check(daemon, app.address, truths)
}

fn nginx() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let files = StaticFiles::write()?;
    let nginx = Nginx::start(&Place::Here, free_address()?, &files, app.address)?;
    let daemon = Daemon::inspect(&Place::Here, nginx.address.port(), free_address()?, &["--json"])?;
    let planned = understudy_tests::mix::every_route(320);
    let sent = drive(nginx.address, &planned, Pace { per_second: None, connections: 4 })?;
    daemon.settle(sent.len() as u64)?;
    check(daemon, nginx.address, sent.into_iter().map(Truth::from).collect())
}

fn bodies() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let daemon = Daemon::inspect(&Place::Here, app.address.port(), free_address()?, &["--json", "--body"])?;
    let mut client = Client::connect(app.address)?;
    let mut bytes = request("POST", "/orders", app.address, &[("Content-Length", "5")]);
    bytes.extend_from_slice(b"hello");
    client.send(&bytes)?;
    client.answer("POST")?;
    daemon.settle(1)?;
    let lines = objects(&daemon.interrupt()?.stdout)?;
    let [line] = &lines[..] else { anyhow::bail!("{} lines", lines.len()) };
    ensure!(line["request"]["body"] == "aGVsbG8=", "request body {}", line["request"]["body"]);
    ensure!(line["response"]["body"].as_str().is_some_and(|body| body.starts_with("ey")), "{line}");
    Ok(())
}

/// What alerts watch must exist before it first happens, or its first increase goes unseen.
fn series() -> anyhow::Result<()> {
    let daemon = Daemon::inspect(&Place::Here, free_address()?.port(), free_address()?, &["--json"])?;
    let scrape = daemon.scrape()?;
    for reason in ["ring_full", "malformed", "copy_failed", "oversize", "sampled_out", "flow_unwanted"] {
        let drops = scrape.sum("understudy_capture_drops_total", &[("reason", reason)])?;
        ensure!(drops == 0, "{drops} drops for {reason} without traffic");
    }
    for fate in ["shown", "shed", "matched", "lost"] {
        let exchanges = scrape.sum("understudy_exchanges_total", &[("fate", fate)])?;
        ensure!(exchanges == 0, "{exchanges} exchanges with the fate {fate} without traffic");
    }
    Ok(())
}

fn quiet() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let daemon = Daemon::inspect(&Place::Here, app.address.port(), free_address()?, &["--quiet"])?;
    let sent = drive(app.address, &every_shape(40), Pace { per_second: None, connections: 2 })?;
    daemon.settle(sent.len() as u64)?;
    let finished = daemon.interrupt()?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    ensure!(finished.code == 0, "exit code {}: {said}", finished.code);
    ensure!(said.contains("40"), "no ledger of 40 exchanges: {said}");
    ensure!(!said.contains("/sink/"), "an exchange was shown: {said}");
    Ok(())
}

/// Compares what the daemon printed with the truth: each exchange once, nothing besides, all fields right.
pub(crate) fn check(daemon: Daemon, server: SocketAddr, truths: Vec<Truth>) -> anyhow::Result<()> {
    let finished = daemon.interrupt()?;
    ensure!(finished.code == 0, "exit code {}: {}", finished.code, finished.stderr);
    let lines = objects(&finished.stdout)?;
    ensure!(lines.len() == truths.len(), "{} exchanges happened, {} were shown", truths.len(), lines.len());
    let ids: BTreeSet<_> = lines.iter().map(|line| line["id"].to_string()).collect();
    ensure!(ids.len() == lines.len(), "an id stands for two exchanges");

    // Exchanges of one connection are shown in the order of their responses, so in the order of asking.
    let mut shown: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for line in &lines {
        let client = line["flow"]["client"].as_str().context("no client")?;
        shown.entry(client.to_owned()).or_default().push(line);
    }
    let mut asked: BTreeMap<String, Vec<&Truth>> = BTreeMap::new();
    for truth in &truths {
        asked.entry(truth.client.to_string()).or_default().push(truth);
    }
    for (client, truths) in asked {
        let lines = shown.remove(&client).with_context(|| format!("nothing was shown of {client}"))?;
        ensure!(lines.len() == truths.len(), "{client}: {} asked, {} shown", truths.len(), lines.len());
        for (truth, line) in truths.iter().zip(lines) {
            check_one(truth, server, line).with_context(|| format!("it showed {line}"))?;
        }
    }
    Ok(())
}

fn check_one(truth: &Truth, server: SocketAddr, line: &Value) -> anyhow::Result<()> {
    let keys: BTreeSet<&str> = line.as_object().context("no object")?.keys().map(String::as_str).collect();
    ensure!(keys == BTreeSet::from(KEYS), "keys are {keys:?}");
    ensure!(line["flow"]["client"] == truth.client.to_string(), "client is not {}", truth.client);
    ensure!(line["flow"]["server"] == server.to_string(), "server is not {server}");
    ensure!(!line["flow"]["opened"].is_null() && !line["captured_at"].is_null(), "a time is missing");
    let Truth { client: _, method, target, fields, body, answer, pipelined } = truth;
    let request = json!({
        "method": method, "target": target, "version": "HTTP/1.1", "headers": fields,
        "body_bytes": body.bytes, "body_sha256": body.sha256, "complete": true,
    });
    ensure!(line["request"] == request, "the request was {request}");
    let Answer { status, minor, fields, body, interim, framing } = answer;
    let response = json!({
        "status": status, "version": format!("HTTP/1.{minor}"), "headers": fields,
        "body_bytes": body.bytes, "body_sha256": body.sha256, "complete": true,
    });
    ensure!(line["response"] == response, "the response was {response}");
    ensure!(line["interim"] == json!(interim), "interim answers were {interim:?}");

    let micros = |key: &str| line[key].as_u64().with_context(|| format!("`{key}` is no number"));
    let (ttfb, total) = (micros("ttfb_us")?, micros("total_us")?);
    ensure!(ttfb <= total, "{ttfb} µs to the first byte of {total} µs");
    if let Some(ms) = target.strip_prefix("/slow/") {
        let least = ms.parse::<u64>()? * 1_000;
        ensure!((least..least + 10_000_000).contains(&ttfb), "{ttfb} µs for an answer that took {ms} ms");
    }

    let marks: Vec<&str> =
        line["marks"].as_array().context("no marks")?.iter().filter_map(Value::as_str).collect();
    for wrong in ["gap", "truncated", "mid_stream", "no_response", "ambiguous", "upgraded"] {
        ensure!(!marks.contains(&wrong), "the mark `{wrong}` is wrong");
    }
    let until_close = *framing == understudy_tests::wire::Framing::UntilClose;
    ensure!(marks.contains(&"until_close") == until_close, "until close: {until_close}");
    // The first request of a pipeline has nothing before it, so only the others carry the mark.
    ensure!(*pipelined || !marks.contains(&"pipelined"), "it was not pipelined");
    Ok(())
}

fn objects(stdout: &str) -> anyhow::Result<Vec<Value>> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

// === impl Truth ===

impl From<Sent> for Truth {
    fn from(sent: Sent) -> Self {
        let Sent { planned, body, fields, client, answer } = sent;
        Self {
            client,
            pipelined: planned.shape == Shape::Pipelined,
            method: planned.method.to_owned(),
            target: planned.target,
            fields,
            body,
            answer,
        }
    }
}
