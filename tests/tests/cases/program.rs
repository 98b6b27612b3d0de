//! The same packets through the program itself: `understudy inspect --pcap`.
//!
//! Knows no more of an exchange than what a user sees of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use understudy::model::{Exchange, Mark, Response};
use understudy_tests::daemon::run_to_end;
use understudy_tests::process::Place;

use super::play::{Ports, SERVER_PORT};

/// What the program shows of the exchanges of a capture file.
pub(crate) fn shown(file: &str, ports: Ports) -> Result<Vec<String>> {
    let port = SERVER_PORT.to_string();
    let mut arguments = vec!["inspect", "--json", "--pcap", file];
    if ports == Ports::Wanted {
        arguments.extend(["--port", &port]);
    }
    let finished = run_to_end(&Place::Here, &arguments)?;
    ensure!(finished.code == 0, "exit code {}: {}", finished.code, finished.stderr);
    finished.stdout.lines().map(|line| seen(line).with_context(|| line.to_owned())).collect()
}

/// The same words for an exchange that the library read.
pub(crate) fn read(exchange: &Exchange) -> String {
    let Exchange { id: _, flow: _, request, response, interim, times: _, marks } = exchange;
    let answer = response.as_ref().map(|Response { status, body, .. }| (*status, body.bytes, body.complete));
    words(
        &request.method.iter().map(|byte| char::from(*byte)).collect::<String>(),
        (request.body.bytes, request.body.complete),
        interim,
        answer,
        marks.iter().map(Mark::label).collect(),
    )
}

fn seen(line: &str) -> Result<String> {
    let line: Value = serde_json::from_str(line)?;
    let body = |message: &Value| {
        anyhow::Ok((
            message["body_bytes"].as_u64().context("no body_bytes")?,
            message["complete"].as_bool().context("no complete")?,
        ))
    };
    let response = &line["response"];
    let answer = if response.is_null() {
        None
    } else {
        let status = response["status"].as_u64().context("no status")?;
        let (bytes, complete) = body(response)?;
        Some((u16::try_from(status)?, bytes, complete))
    };
    let interim: Vec<u16> = serde_json::from_value(line["interim"].clone())?;
    let marks = line["marks"].as_array().context("no marks")?;
    let marks = marks.iter().filter_map(Value::as_str).collect();
    let method = line["request"]["method"].as_str().context("no method")?;
    Ok(words(method, body(&line["request"])?, &interim, answer, marks))
}

fn words(
    method: &str,
    request: (u64, bool),
    interim: &[u16],
    answer: Option<(u16, u64, bool)>,
    marks: BTreeSet<&str>,
) -> String {
    format!("{method} {request:?} {interim:?} {answer:?} {marks:?}")
}
