//! `understudy inspect --redact` beside one that hides nothing, on the same traffic: what the two show differs in secrets alone.
//!
//! Believes neither: the one that hides nothing must show every secret, or the search would prove nothing.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use understudy_tests::daemon::{Daemon, Workspace};
use understudy_tests::process::Place;
use understudy_tests::server::free_address;
use understudy_tests::wire::BodyFacts;

use super::search::{contains, found, of_end, search, spellings};
use super::settings;
use super::vault::{MARKER, OF_SERVERS, SECRETS, TRAILER, Vault, send};

pub(super) fn redacted() -> anyhow::Result<()> {
    let vault = Vault::start(100)?;
    let workspace = Workspace::new(&settings(&vault, &vault, free_address()?, String::new()).text())?;
    let inspect = |more: &[&str]| {
        Daemon::inspect_in(&Place::Here, &workspace, vault.address.port(), free_address()?, more)
    };
    let plain = inspect(&["--json", "--body"])?;
    let json = inspect(&["--json", "--body", "--redact"])?;
    let text = inspect(&["--redact"])?;
    let sent = send(&vault, 2)?;
    for daemon in [&plain, &json, &text] {
        daemon.settle(sent)?;
    }
    let (plain, json, text) = (plain.interrupt()?, json.interrupt()?, text.interrupt()?);

    let all = of_end("inspect", &plain);
    let missing: Vec<_> = SECRETS
        .iter()
        .chain(&OF_SERVERS)
        // What stands behind a body is not shown by either.
        .filter(|secret| {
            **secret != TRAILER
                && !spellings(secret).iter().any(|spelling| contains(&all[0].1, spelling.as_bytes()))
        })
        .collect();
    ensure!(missing.is_empty() && !found(&all).is_empty(), "the search does not find {missing:?}");
    search(&of_end("inspect --json --redact", &json), &["stdout of inspect --json --redact"])?;
    search(&of_end("inspect --redact", &text), &[])?;

    let (before, after) = (lines(&plain.stdout)?, lines(&json.stdout)?);
    ensure!(before.len() as u64 == sent && after.len() == before.len(), "{} lines of {sent}", after.len());
    for (before, after) in before.iter().zip(&after) {
        same_but_for_secrets(before, after).with_context(|| format!("{before}\nbecame\n{after}"))?;
    }
    let cookies: BTreeSet<&str> = after.iter().filter_map(|line| field(line, "cookie")).collect();
    let sid = |cookie: &&str| cookie.split("sid=").nth(1).map(str::to_owned);
    let tokens: BTreeSet<String> = cookies.iter().filter_map(sid).collect();
    ensure!(tokens.len() == 1, "equal secrets became {tokens:?}");

    // As a line of text: the same methods and paths, one exchange each.
    let shown =
        text.stdout.lines().filter(|line| line.contains("/json") || line.contains("/page")).count() as u64;
    let expected = before.iter().filter(|line| {
        line["request"]["target"]
            .as_str()
            .is_some_and(|target| target.contains("/json") || target.contains("/page"))
    });
    ensure!(shown == expected.count() as u64, "{shown} lines of text: {}", text.stdout);
    ensure!(text.stdout.contains("/users/") && text.stdout.contains("page=2"), "{}", text.stdout);
    Ok(())
}

fn lines(stdout: &str) -> anyhow::Result<Vec<Value>> {
    stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn field<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    let fields = line["request"]["headers"].as_array()?;
    fields.iter().find(|pair| pair[0].as_str().is_some_and(|have| have.eq_ignore_ascii_case(name)))?[1]
        .as_str()
}

/// Keys, names and everything that is no secret are as they were, but for ids and times, which each process has its own of; lengths and hashes are those of what is shown.
fn same_but_for_secrets(before: &Value, after: &Value) -> anyhow::Result<()> {
    ensure!(shape(before) == shape(after), "keys, or kinds of values, differ");
    for path in ["/flow/client", "/flow/server", "/interim", "/marks", "/request/method", "/response/status"]
    {
        ensure!(before.pointer(path) == after.pointer(path), "{path} differs");
    }
    for side in ["request", "response"] {
        let (before, after) = (&before[side], &after[side]);
        let names = |side: &Value| -> Vec<Value> {
            side["headers"].as_array().into_iter().flatten().map(|pair| pair[0].clone()).collect()
        };
        ensure!(names(before) == names(after), "the names of fields differ");
        let (body, shown) = (decoded(before)?, decoded(after)?);
        let facts = BodyFacts::of(&shown);
        let said = (after["body_bytes"].as_u64(), after["body_sha256"].as_str());
        ensure!(
            said == (Some(facts.bytes), Some(&facts.sha256)),
            "length and hash are of another body: {said:?}"
        );
        ensure!(
            contains(&body, MARKER.as_bytes()) == contains(&shown, MARKER.as_bytes()),
            "what is no secret went"
        );
        if let Ok(value) = serde_json::from_slice::<Value>(&body) {
            let shown = serde_json::from_slice::<Value>(&shown).context("JSON is none any more")?;
            ensure!(shape(&value) == shape(&shown), "a body has other keys: {shown}");
        }
    }
    Ok(())
}

/// The value with nothing but its keys and the kinds of what they hold.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(values) => values.iter().map(shape).collect(),
        Value::String(_) => Value::from("text"),
        Value::Number(_) => Value::from("number"),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

/// The bytes of `body`, which is base64 with padding (RFC 4648 section 4).
fn decoded(side: &Value) -> anyhow::Result<Vec<u8>> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = side["body"].as_str().context("no body")?;
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits = group.iter().take_while(|letter| **letter != b'=').count();
        let number = group.iter().try_fold(0_u32, |number, letter| {
            let digit = if *letter == b'=' { Some(0) } else { LETTERS.find(char::from(*letter)) };
            Some((number << 6) | u32::try_from(digit?).ok()?)
        });
        let number = number.with_context(|| format!("no base64: {text}"))?;
        bytes.extend(number.to_be_bytes().into_iter().skip(1).take(digits.saturating_sub(1)));
    }
    Ok(bytes)
}
