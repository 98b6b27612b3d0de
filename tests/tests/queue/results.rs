//! What hosts tell each other through Redis, and the one report that comes of it.
//!
//! Settles nothing: what the queue's own scripts count is written here by hand, as they write it.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy::model::{Fate, Ledger, Timestamp};
use understudy::pipeline::fleet::{CaptureTeller, PublishLimits, Publisher};
use understudy::queue::redis::results::{ResultsLimits, listed};
use understudy::queue::redis::{Redis, RedisErrorKind, Results, Role};
use understudy::report::{CaptureShare, MemberName, PauseShare};
use understudy_tests::prereq::daemon_program;
use understudy_tests::redis::{Options, Server};

use super::connect::config;
use crate::{Case, REDIS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "one_report_for_all_hosts", needs: REDIS, run: one_report },
    Case { name: "what_redis_forgot_is_told_again", needs: REDIS, run: told_again },
    Case { name: "a_path_has_one_place_in_the_order", needs: REDIS, run: ranks },
    Case { name: "what_cannot_be_read_is_named", needs: REDIS, run: refusals },
    Case { name: "what_stands_aside_is_shown", needs: REDIS, run: aside },
];

const KEYS: &str = "{understudy:shop";

fn understudy(arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(daemon_program()).args(arguments).output().context("failed to run understudy")
}

async fn results(server: &Server, experiment: &str) -> anyhow::Result<Results> {
    let redis = Redis::connect(&config(&server.url())?).await?;
    Ok(Results::new(redis, "understudy", experiment, ResultsLimits::default()))
}

/// Tells soon and often.
fn limits() -> PublishLimits {
    let (every, again) = (Duration::from_millis(20), Duration::from_millis(60));
    PublishLimits { every, again, ..PublishLimits::default() }
}

/// A capture that has handed over `queued` exchanges, and dropped `shed` others.
fn capture(queued: u64, shed: u64) -> CaptureTeller<impl FnMut(bool) -> CaptureShare + Send> {
    let ledger = Arc::new(Ledger::default());
    (0..queued).for_each(|_| ledger.admit().settle(Fate::Queued));
    (0..shed).for_each(|_| ledger.admit().settle(Fate::SpoolFull));
    let name = MemberName { host: "web-1".into(), started_at: Timestamp(1), version: "0.1.0".into() };
    let share = move |ended| CaptureShare {
        ledger: ledger.snapshot(),
        recovered: 0,
        recovered_left: 0,
        given_up: Vec::new(),
        drops: BTreeMap::new(),
        stopped: None,
        pause: PauseShare::default(),
        ended,
    };
    CaptureTeller { name, share }
}

/// What the queue's scripts count: 20 matches in one shard, 3 mismatches in the other.
fn settle(server: &Server) -> anyhow::Result<()> {
    let cause = r#"{"signature":"status value","changes":[["status","value",null]],"count":3,"first_seen_ns":5,"last_seen_ns":9}"#;
    let example = r#"{"exchange":"00000000000000010000000000000000","bytes":9,"method":"GET","target":"/items/7","headers":[],
                     "control_status":200,"candidate_status":500,"differences":[]}"#;
    let key = |shard: u8, name: &str| format!("{KEYS}:{shard}}}:{name}");
    let hashes: &[(String, &[&str])] = &[
        (format!("{KEYS}}}:settings"), &["shards", "2", "candidate", "http://b:9090"]),
        (key(0, "book"), &["accepted", "20", "fate:matched", "20"]),
        (key(1, "book"), &["accepted", "4", "fate:mismatched", "3", "trimmed", "1"]),
        (key(0, "outcomes"), &["/items\u{1f}match\u{1f}", "20"]),
        (key(1, "outcomes"), &["/items\u{1f}mismatch\u{1f}", "3"]),
        (key(1, "causes"), &["/items\u{1f}abcd", cause]),
        (key(1, "examples"), &["/items\u{1f}abcd", example]),
    ];
    for (key, fields) in hashes {
        let mut command = vec!["HSET", key];
        command.extend(*fields);
        server.command(&command)?;
    }
    Ok(())
}

fn one_report() -> anyhow::Result<()> {
    let server = Server::start()?;
    settle(&server)?;
    block_on(async {
        for (id, queued, shed) in [("one", 20, 0), ("two", 4, 2)] {
            let results = results(&server, "shop").await?;
            let publisher =
                Publisher::new(results, Role::Capture, id.to_owned(), capture(queued, shed), limits());
            publisher.run(async {}).await;
        }
        Ok(())
    })?;
    let json = understudy(&["report", "--redis", &server.url(), "--json"])?;
    let report: serde_json::Value = serde_json::from_slice(&json.stdout)
        .with_context(|| String::from_utf8_lossy(&json.stderr).into_owned())?;
    ensure!(json.status.code() == Some(1), "a mismatch is a FAIL: {report}");
    let experiment = &report["experiments"][0];
    let count = |name: &str| experiment[name].as_u64().unwrap_or_default();
    let fates = experiment["fates"].as_array().context("no fates")?;
    let fate = |name: &str| {
        fates
            .iter()
            .find(|fate| fate["name"] == name)
            .and_then(|fate| fate["count"].as_u64())
            .unwrap_or_default()
    };
    let all: u64 = fates.iter().filter_map(|fate| fate["count"].as_u64()).sum();
    ensure!(count("seen") == 26 && count("in_flight") == 0 && all == 26, "{experiment}");
    ensure!(
        (fate("matched"), fate("mismatched"), fate("trimmed"), fate("spool_full")) == (20, 3, 1, 2),
        "{fates:?}"
    );
    ensure!((count("matched"), count("mismatched")) == (20, 3), "{experiment}");
    ensure!(experiment["causes"][0]["examples"][0]["request"]["target"] == "/items/7", "{experiment}");
    ensure!(experiment["fleet"]["captures"].as_array().is_some_and(|all| all.len() == 2), "{experiment}");
    for (format, part) in [("--markdown", "# understudy: FAIL"), ("--junit", "understudy fleet")] {
        let text = understudy(&["report", "--redis", &server.url(), "--experiment", "shop", format])?;
        ensure!(String::from_utf8_lossy(&text.stdout).contains(part), "{text:?}");
    }
    let side = understudy(&["report", "--redis", &server.url(), "--cause", "1"])?;
    ensure!(side.status.success() && String::from_utf8_lossy(&side.stdout).contains("/items/7"), "{side:?}");
    let text = understudy(&["report", "--redis", &server.url()])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in ["Fleet, ", "2 captures (2 ended)", "Redis took 24: 23 done, 0 waiting", "VERDICT: FAIL"] {
        ensure!(text.contains(part), "{part:?} is not in\n{text}");
    }
    Ok(())
}

fn told_again() -> anyhow::Result<()> {
    let server = Server::start()?;
    block_on(async {
        let results = results(&server, "shop").await?;
        let reader = results.clone();
        let publisher = Publisher::new(results, Role::Capture, "one".to_owned(), capture(5, 0), limits());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let told = publisher.run(async { drop(stopped.await) });
        let emptied = async {
            let told_again = until_told_again(&server, &reader).await;
            drop(stop);
            told_again
        };
        let ((), emptied) = tokio::join!(told, emptied);
        emptied?;
        let copy = reader.read().await?.context("nothing is left")?;
        ensure!(copy.captures[0].fields.get("ended").is_some_and(|ended| ended == b"1"), "{copy:?}");
        ensure!(copy.captures[0].fields.get("seen").is_some_and(|seen| seen == b"5"), "{copy:?}");
        // Everything that a process writes goes by itself.
        for key in ["}:captures", "}:capture:one"] {
            let left = server.command(&["PTTL", &format!("{KEYS}{key}")])?;
            ensure!(left.trim().parse::<i64>()? > 0, "{key} has no end: {left}");
        }
        Ok(())
    })
}

/// Takes away from Redis what a capture has told, and waits until it has told it again.
async fn until_told_again(server: &Server, reader: &Results) -> anyhow::Result<()> {
    until_known(reader).await?;
    server.command(&["FLUSHALL"])?;
    until_known(reader).await
}

/// Waits until everything that a capture tells is there.
async fn until_known(reader: &Results) -> anyhow::Result<()> {
    for _ in 0..3_000 {
        let copy = reader.read().await?;
        if copy.is_some_and(|copy| copy.captures.iter().any(|one| one.fields.contains_key("seen"))) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the capture was not heard of for 30 s")
}

fn ranks() -> anyhow::Result<()> {
    let server = Server::start()?;
    block_on(async {
        let results = results(&server, "shop").await?;
        let paths =
            |names: &[&str]| names.iter().map(|name| format!("/items\u{1f}{name}")).collect::<Vec<_>>();
        ensure!(results.rank(&paths(&["b", "a"])).await? == 2, "two places");
        // Another worker knows one of them, and one more.
        ensure!(results.rank(&paths(&["c", "a"])).await? == 3, "three places");
        ensure!(results.rank(&[]).await? == 3, "three places");
        results.publish(Role::Worker, "w", &[]).await?;
        let copy = results.read().await?.context("nothing was kept")?;
        let places: Vec<_> =
            copy.ranks.iter().map(|(path, place)| (path.replace("/items\u{1f}", ""), *place)).collect();
        ensure!(places == [("a".to_owned(), 2), ("b".to_owned(), 1), ("c".to_owned(), 3)], "{places:?}");
        // Leases go by these times: telling results keeps no worker alive.
        let score = server.command(&["ZSCORE", &format!("{KEYS}}}:workers"), "w"])?;
        ensure!(score.trim().trim_matches('"') == "0", "{score}");
        Ok(())
    })
}

fn refusals() -> anyhow::Result<()> {
    let server = Server::start()?;
    let url = server.url();
    let check = |arguments: &[&str], part: &str| {
        let output = understudy(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(part), "{arguments:?}: {said}");
        ensure!(!said.contains("hunter2"), "a secret is shown: {said}");
        Ok(())
    };
    check(&["report", "--redis", &url], "holds no experiment under the prefix `understudy`")?;
    check(&["report", "--redis", &url, "--prefix", "other", "--experiment", "x"], "prefix `other`")?;
    check(&["report", "--redis", "redis://me:hunter2@127.0.0.1/0"], "must not hold a user or password")?;
    check(&["report", "--redis", "127.0.0.1:6379"], "redis://")?;
    check(&["report", "--redis", "redis://127.0.0.1:1"], "127.0.0.1:1")?;
    block_on(async { Ok(results(&server, "shop").await?.enrol().await?) })?;
    server.command(&["HSET", &format!("{KEYS}}}:settings"), "shards", "1"])?;
    check(&["report", "--redis", &url, "--experiment", "x"], "it holds: shop")?;
    server.command(&["SET", &format!("{KEYS}:0}}:book"), "in the way"])?;
    check(&["report", "--redis", &url], "book")?;
    let locked = Server::start_with(Options { password: Some("hunter2".into()), ..Options::default() })?;
    check(&["report", "--redis", &locked.url()], "credentials")?;
    block_on(async {
        let kind = Redis::connect(&config(&locked.url())?).await.err().map(|error| error.kind());
        ensure!(kind == Some(RedisErrorKind::Auth), "{kind:?}");
        let names = listed(&Redis::connect(&config(&url)?).await?, "understudy").await?;
        ensure!(names == ["shop"], "{names:?}");
        Ok(())
    })
}

fn aside() -> anyhow::Result<()> {
    let server = Server::start()?;
    let count = AtomicU64::new(0);
    server.command(&["HSET", &format!("{KEYS}}}:settings"), "shards", "2"])?;
    server.command(&["ZADD", "{understudy}:experiments", "1", "shop"])?;
    let shown = || understudy(&["report", "--redis", &server.url(), "--experiment", "shop", "--set-aside"]);
    let none = shown()?;
    ensure!(none.status.success() && none.stdout.starts_with(b"Nothing stands aside"), "{none:?}");
    for why in ["delivered too often", "unreadable"] {
        let shard = count.fetch_add(1, Ordering::Relaxed);
        let key = format!("{KEYS}:{shard}}}:aside");
        server.command(&["XADD", &key, "*", "route", "/items", "why", why, "exchange", "\u{1}"])?;
    }
    let output = shown()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        text.lines().count() == 4 && text.contains("why=unreadable") && text.contains("shard 1"),
        "{text}"
    );
    ensure!(text.matches("Its request cannot be shown: ").count() == 2, "{text}");
    ensure!(!text.contains("exchange="), "an exchange is long, and no text: {text}");
    Ok(())
}
