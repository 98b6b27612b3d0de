//! Asks the real binary what is in a capture.
//!
//! Believes nothing but its output in JSON, whose keys are stable.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use understudy_tests::prereq::daemon_program;
use understudy_tests::process::Process;

use super::expected::{Facts, address};

/// Which ports are asked for.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    AnyPort,
    Ports(&'a [u16]),
}

/// One exchange that was shown.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) facts: Facts,
    pub(crate) marks: Vec<String>,
}

/// How long reading one capture may take; the largest has 4 MB.
const READ_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct ShownLine {
    flow: ShownFlow,
    request: ShownRequest,
    response: Option<ShownResponse>,
    interim: Vec<u16>,
    marks: Vec<String>,
}

#[derive(Deserialize)]
struct ShownFlow {
    client: String,
    server: String,
}

#[derive(Deserialize)]
struct ShownRequest {
    method: String,
    target: String,
    version: String,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: ShownBody,
}

#[derive(Deserialize)]
struct ShownResponse {
    status: u16,
    version: String,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: ShownBody,
}

#[derive(Deserialize)]
struct ShownBody {
    body_bytes: u64,
    body_sha256: Option<String>,
    complete: bool,
}

/// Every exchange that `understudy inspect` shows.
pub(crate) fn inspect(capture: &Path, asked: Asked<'_>) -> anyhow::Result<Vec<Shown>> {
    let mut command = Command::new(daemon_program());
    command.args(["inspect", "--json", "--pcap"]).arg(capture);
    if let Asked::Ports(ports) = asked {
        for port in ports {
            command.arg("--port").arg(port.to_string());
        }
    }
    let mut process = Process::start("understudy inspect", &mut command)?;
    let code = process.wait(READ_MAX)?;
    ensure!(code == 0, "exit code {code}: {}", process.stderr());
    process.stdout().lines().map(|line| shown(line).with_context(|| format!("line {line}"))).collect()
}

fn shown(line: &str) -> anyhow::Result<Shown> {
    let ShownLine { flow, request, response, interim, marks } = serde_json::from_str(line)?;
    let mut facts = Facts {
        method: Some(request.method),
        target: Some(request.target),
        version: Some(request.version),
        req_headers: Some(request.headers.len() as u64),
        req_body_len: Some(request.body.body_bytes),
        req_body_sha256: request.body.body_sha256,
        req_body_complete: Some(request.body.complete),
        answered: response.is_some(),
        status: None,
        resp_version: None,
        resp_headers: None,
        resp_body_len: None,
        resp_body_sha256: None,
        resp_body_complete: None,
        interim,
    };
    if let Some(response) = response {
        facts.status = Some(response.status);
        facts.resp_version = Some(response.version);
        facts.resp_headers = Some(response.headers.len() as u64);
        facts.resp_body_len = Some(response.body.body_bytes);
        facts.resp_body_sha256 = response.body.body_sha256;
        facts.resp_body_complete = Some(response.body.complete);
    }
    Ok(Shown { client: address(&flow.client)?, server: address(&flow.server)?, facts, marks })
}
