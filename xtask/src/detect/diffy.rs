//! Diffy's rule over the logs of one candidate, by the program that holds it.
//!
//! Decides nothing itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use understudy_tests::daemon::finish;
use understudy_tests::detect::Kind;
use understudy_tests::process::Place;

use super::batch::tool;
use super::reading::Reported;
use super::score::Look;

/// How long a log of some thousand answers may take.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What Diffy's rule shows, and what the logs say besides.
pub(super) struct Theirs {
    /// Requests that A and B answered.
    pub(super) answers: u64,
    /// Answers of B that the planted regression changed.
    pub(super) changed: u64,
    pub(super) looks: Vec<Look>,
}

#[derive(Deserialize)]
struct RawTheirs {
    answers: u64,
    changed: u64,
    looks: Vec<RawLook>,
}

#[derive(Deserialize)]
struct RawLook {
    after: u64,
    shown: Vec<(String, String)>,
}

/// Looks after as many requests as understudy had compared at its own looks.
pub(super) fn judge(
    kind: Kind,
    primary: &Path,
    candidate: &Path,
    secondary: &Path,
    after: &[u64],
) -> anyhow::Result<Theirs> {
    let looks: Vec<String> = after.iter().map(u64::to_string).collect();
    let mut command = Place::Here.command(tool("understudy-diffy"));
    command.args(["--kind", kind.name(), "--looks", &looks.join(",")]);
    command.arg("--primary").arg(primary).arg("--candidate").arg(candidate);
    command.arg("--secondary").arg(secondary);
    let ended = finish(&mut command, WAIT_MAX)?;
    ensure!(ended.code == 0, "understudy-diffy ended with {}: {}", ended.code, ended.stderr);
    let RawTheirs { answers, changed, looks } =
        serde_json::from_str(&ended.stdout).context("failed to read what understudy-diffy wrote")?;
    let look = |RawLook { after, shown }: RawLook| Look {
        after,
        reported: shown.into_iter().map(|(route, what)| Reported { route, what }).collect(),
    };
    Ok(Theirs { answers, changed, looks: looks.into_iter().map(look).collect() })
}
