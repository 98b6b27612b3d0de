//! The report of a fleet, and what its workers could not do.
//!
//! Reads Redis; changes nothing there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;

use super::report::{Format, exit_of, show, show_side, side_limits};
use super::{Exit, output};
use crate::config::{self, FleetAccess};
use crate::model::AsideEntry;
use crate::pipeline::fleet::{Aside, read_aside, read_fleet};
use crate::report::{RepeatedRequest, Report, SideBySide, plain};

/// Where a fleet's results are.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Report a fleet: the Redis between its hosts, as redis://host:port/database, or rediss:// for TLS. Holds no
    /// password: name a configuration with [queue] (-c FILE) for that.
    #[arg(long, value_name = "URL", conflicts_with_all = ["journal", "config", "run"])]
    redis: Option<String>,
    /// What the fleet's keys in Redis begin with. Default: understudy.
    #[arg(long, value_name = "TEXT", requires = "redis")]
    prefix: Option<String>,
    /// Show the entries that workers have set aside, since they never got done, instead of a report.
    #[arg(long, conflicts_with_all = ["cause", "markdown", "junit"])]
    pub(super) set_aside: bool,
}

/// Entries that stand aside and are shown, of each shard.
const ASIDE_SHOWN_MAX: u32 = 20;

// === impl Source ===

impl Source {
    /// The fleet to report; none where a journal is asked for. `run` is the number of one in a journal.
    pub(super) fn access(
        &self,
        journal: Option<&Path>,
        file: Option<&Path>,
        run: Option<i64>,
    ) -> anyhow::Result<Option<FleetAccess>> {
        let Self { redis, prefix, set_aside } = self;
        if let Some(address) = redis {
            let access = FleetAccess::of_address(address, prefix.as_deref())
                // The address is not repeated: it may hold a password.
                .context("--redis names no Redis that can be used")?;
            return Ok(Some(access));
        }
        if let (None, Some(file)) = (journal, file)
            && let Some(queue) = config::load(Some(file), config::Flags::default())?.queue
        {
            anyhow::ensure!(
                run.is_none(),
                "--run is the number of a run in a journal, and `{}` has [queue]: its report is that of a fleet, whose runs have no \
                 numbers. Name the journal with --journal FILE, or leave --run out",
                file.display()
            );
            return Ok(Some(FleetAccess::of_queue(&queue)?));
        }
        anyhow::ensure!(
            !set_aside,
            "--set-aside is about a fleet: name its Redis with --redis URL, or with -c FILE that has [queue]"
        );
        Ok(None)
    }
}

/// Prints the report of a fleet, or what was asked for instead.
pub(super) fn report(
    access: &FleetAccess,
    experiment: Option<&str>,
    cause: Option<&str>,
    set_aside: bool,
    format: &Format,
) -> anyhow::Result<Exit> {
    let FleetAccess { redis, prefix } = access;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    if set_aside {
        let entries = runtime.block_on(read_aside(redis, prefix, experiment, ASIDE_SHOWN_MAX))?;
        return show_aside(&entries, format);
    }
    let copies = runtime.block_on(read_fleet(redis, prefix, experiment))?;
    let (report, answers) = Report::of_fleet(copies)?;
    let Some(cause) = cause else {
        show(&report, format)?;
        return Ok(exit_of(&report));
    };
    let limits = side_limits();
    let side = SideBySide::of_fleet(&answers, &report, experiment, cause, &limits)?;
    show_side(&side, format, &limits)
}

fn show_aside(entries: &[Aside], format: &Format) -> anyhow::Result<Exit> {
    let mut text = String::new();
    for Aside { experiment, entry: AsideEntry { shard, at, fields }, request } in entries {
        let at = humantime::format_rfc3339_seconds(at.to_system_time()).to_string();
        let shown = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        // The exchange itself is long, and not text.
        let is_shown = |name: &str| !name.starts_with("exchange");
        let fields: BTreeMap<&str, String> = fields
            .iter()
            .filter(|(name, _)| is_shown(name))
            .map(|(name, value)| (name.as_str(), shown(value)))
            .collect();
        if format.json {
            let (request, problem) = (request.as_ref().ok(), request.as_ref().err());
            let entry = serde_json::json!({
                "experiment": experiment, "shard": shard, "set_aside_at": at, "fields": fields,
                "request": request, "request_problem": problem,
            });
            text += &format!("{entry}\n");
        } else {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}={}", plain(name), plain(value))).collect();
            text += &format!("{at}  {}  shard {shard}  {}\n", plain(experiment), fields.join("  "));
            text += &shown_request(request);
        }
    }
    if entries.is_empty() && !format.json {
        text = "Nothing stands aside.\n".to_owned();
    }
    output::print(&text)?;
    Ok(Exit::Success)
}

fn shown_request(request: &Result<RepeatedRequest, String>) -> String {
    match request {
        Ok(RepeatedRequest { method, target, curl, curl_notes }) => {
            let notes = curl_notes.iter().map(|note| format!("    {}\n", plain(note)));
            let notes: String = notes.collect();
            format!("  {} {}\n  Repeat against B: {curl}\n{notes}", plain(method), plain(target))
        }
        Err(problem) => format!("  Its request cannot be shown: {}\n", plain(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_run_is_none_of_a_fleet() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[queue]\nredis = \"redis://127.0.0.1\"\n").unwrap();
        let source = Source { redis: None, prefix: None, set_aside: false };
        let message = source.access(None, Some(file.path()), Some(3)).unwrap_err().to_string();
        assert!(message.contains("--run") && message.contains("--journal FILE"), "{message}");
        assert!(source.access(None, Some(file.path()), None).unwrap().is_some());
        // A journal that is named is read, whatever the file has.
        let journal = Path::new("understudy.db");
        assert!(source.access(Some(journal), Some(file.path()), Some(3)).unwrap().is_none());
    }
}
