//! `understudy report`: what a run found, or a fleet, and its verdict.
//!
//! Reads a journal, or what the hosts of a fleet wrote into Redis; changes nothing in either.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, fleet, output};
use crate::config;
use crate::pipeline::open_journal;
use crate::report::{Conclusion, Report, SideBySide, SideLimits};

/// Which report.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 PASS, and with --cause; 1 FAIL; 2 there is no such report; 3 NOT ENOUGH DATA."
)]
pub(super) struct Arguments {
    /// The journal. Default: the configuration's, or `understudy.db` in this folder.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The configuration that names the journal.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Number of the run, in a journal. Default: the newest.
    #[arg(long, value_name = "N")]
    run: Option<i64>,
    /// Show one cause: both answers of its example beside each other, with what differs marked. N is its number in the
    /// report, or its id.
    #[arg(long, value_name = "N", conflicts_with_all = ["markdown", "junit"])]
    cause: Option<String>,
    /// The experiment that N counts the causes of, where there are several; or, of a fleet, the only one to report.
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    #[command(flatten)]
    fleet: fleet::Source,
    #[command(flatten)]
    format: Format,
}

/// How a report is written; text by default.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Format {
    /// JSON, for programs.
    #[arg(long)]
    pub(super) json: bool,
    /// Markdown, for people.
    #[arg(long)]
    markdown: bool,
    /// JUnit XML, for build servers.
    #[arg(long)]
    junit: bool,
}

/// Prints a report.
pub(super) fn show(report: &Report, format: &Format) -> anyhow::Result<()> {
    let mut text = match format {
        Format { json: true, .. } => report.to_json()?,
        Format { markdown: true, .. } => report.to_markdown(),
        Format { junit: true, .. } => report.to_junit(),
        Format { json: false, markdown: false, junit: false } => report.to_text(output::wants_colours()),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    output::print(&text)
}

/// The exit code that a verdict has.
pub(super) fn exit_of(report: &Report) -> Exit {
    match report.verdict.verdict {
        Conclusion::Pass => Exit::Success,
        Conclusion::Fail => Exit::Failure,
        Conclusion::NotEnoughData => Exit::NotEnoughData,
    }
}

pub(super) fn side_limits() -> SideLimits {
    SideLimits { columns: output::columns(), ..SideLimits::default() }
}

/// Prints one cause.
pub(super) fn show_side(side: &SideBySide, format: &Format, limits: &SideLimits) -> anyhow::Result<Exit> {
    let text =
        if format.json { side.to_json()? + "\n" } else { side.to_text(output::wants_colours(), limits) };
    output::print(&text)?;
    // Whoever looks at one cause asks for no verdict.
    Ok(Exit::Success)
}

/// Prints the report of a run and exits with its verdict.
pub(super) fn report(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Arguments { journal, config, run, cause, experiment, fleet, format } = arguments;
    if let Some(access) = fleet.access(journal.as_deref(), config.as_deref(), *run)? {
        return fleet::report(&access, experiment.as_deref(), cause.as_deref(), fleet.set_aside, format);
    }
    anyhow::ensure!(
        experiment.is_none() || cause.is_some(),
        "--experiment is for --cause, or for the report of a fleet (--redis)"
    );
    let path = match (journal, config) {
        (Some(path), _) => path.clone(),
        (None, Some(file)) => config::load(Some(file), config::Flags::default())?.journal.path,
        (None, None) => Path::new(config::JOURNAL_DEFAULT).to_owned(),
    };
    let journal = open_journal(&path)?;
    let report = Report::load(&journal, *run)?;
    match cause {
        Some(cause) => {
            let limits = side_limits();
            let side = SideBySide::load(&journal, &report, experiment.as_deref(), cause, &limits)?;
            show_side(&side, format, &limits)
        }
        None => {
            show(&report, format)?;
            Ok(exit_of(&report))
        }
    }
}
