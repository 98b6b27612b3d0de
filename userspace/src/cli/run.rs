//! `understudy run`: capture, replay and compare in one process, then report.
//!
//! Wires the pipeline to signals and output.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::capture::{CaptureFlags, open_feed, start_runtime, stopped_or};
use super::progress::Progress;
use super::record::{RecordFlags, complain_of};
use super::report::{Format, show};
use super::{Exit, ledger, output, reload};
use crate::config::{self, FlagExperiment, Flags};
use crate::pipeline::live::Live;
use crate::pipeline::run::{LOOPED, Run, RunEnd};
use crate::report::Report;

/// What to run.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: understudy run --port 8080 --candidate http://127.0.0.1:8081 --until-verdict --for 10m\n\
                        Exit codes: 0 PASS; 1 FAIL; 2 it could not be done; 3 NOT ENOUGH DATA; 4 the candidate \
                  leads back to the captured service."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    capture: CaptureFlags,
    #[command(flatten)]
    experiment: ExperimentFlags,
    /// With --pcap or --recording: replay this many times faster than the requests follow each other in the file. Default: 1.
    #[arg(long, value_name = "FACTOR", requires = "offline", value_parser = speed)]
    speed: Option<f64>,
    /// Stop as soon as the verdict is PASS or FAIL; with --for, after that time at the latest. At the defaults, PASS takes
    /// 387 comparisons or more.
    #[arg(long)]
    until_verdict: bool,
    #[command(flatten)]
    record: RecordFlags,
    /// SQLite file for the results. Default: `understudy.db` in this folder.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Address for /metrics, /healthz and /readyz, or `off`. Default: 127.0.0.1:9469.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    #[command(flatten)]
    format: Format,
}

/// One experiment without a file.
#[derive(Debug, Args)]
#[group(id = "experiment", multiple = true, conflicts_with = "config")]
struct ExperimentFlags {
    /// B: where requests are sent, `http://host:port`. Nothing is sent anywhere else, but for the twin.
    #[arg(long, value_name = "URL")]
    candidate: Option<String>,
    /// A second instance of A's own version, in an environment like the candidate's: what differs between A and it is
    /// noise. Gets every request that the candidate gets, before or after it by chance. The surest way to tell noise, and
    /// the only one where the environments differ.
    #[arg(long, value_name = "URL", requires = "candidate")]
    twin: Option<String>,
    /// The candidate has an environment of its own, and so has the twin: send them methods with effects too (POST, PUT,
    /// DELETE, …).
    #[arg(long, requires = "candidate")]
    isolated: bool,
    /// Send the candidate every request once. Without this flag and without a twin, a safe request at which the candidate
    /// differs from A is sent to it again some seconds later, and so is a small share of the others, to see whether it
    /// differs from itself. Requests with effects are never sent twice.
    #[arg(long, requires = "candidate")]
    ask_once: bool,
    /// Only this route: `/items/{id}`, `/static/{*rest}` or `~regex`. May be given several times.
    #[arg(long = "route", value_name = "PATTERN", requires = "candidate")]
    routes: Vec<String>,
    /// Only this method. May be given several times.
    #[arg(long = "method", value_name = "METHOD", requires = "candidate")]
    methods: Vec<String>,
    /// Only this share of connections, such as `25%`.
    #[arg(long, value_name = "SHARE", requires = "candidate")]
    sample: Option<String>,
    /// Hide differences here: `header:NAME`, `json:$.path`, `status`. May be given several times. What differs between any
    /// two answers of one version is found out without it.
    #[arg(long = "ignore", value_name = "RULE", requires = "candidate")]
    ignore: Vec<String>,
}

// === impl ExperimentFlags ===

impl ExperimentFlags {
    fn into_experiment(self) -> Option<FlagExperiment> {
        let Self { candidate, twin, isolated, ask_once, routes, methods, sample, ignore } = self;
        Some(FlagExperiment { url: candidate?, isolated, twin, ask_once, routes, methods, sample, ignore })
    }
}

/// How often it is asked whether there is a verdict.
const VERDICT_EVERY: Duration = Duration::from_millis(500);

/// Ends when there is a verdict.
pub(super) async fn decided(live: Arc<Live>) {
    while !live.is_decided() {
        tokio::time::sleep(VERDICT_EVERY).await;
    }
    tracing::info!("There is a verdict; stopping.");
}

/// A factor that makes sense.
fn speed(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    factor.ok_or_else(|| "must be a number above 0, such as 10 or 0.5".to_owned())
}

/// Runs until it is stopped, the file ends, or there is the verdict that was asked for, prints the report, and exits with its verdict.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { capture, experiment, speed, until_verdict, record, journal, admin, format } = arguments;
    if record.record.as_deref() == Some(Path::new("-")) {
        bail!(
            "--record - would mix the recording with the report: name a file, or use `understudy capture --record -`"
        );
    }
    let experiment = experiment.into_experiment();
    let flags = Flags { journal, admin, experiment, speed, record: record.record, ..capture.flags() };
    let again = flags.clone();
    let mut config = config::load(capture.config.as_deref(), flags)?;
    if let Some(path) = &capture.config {
        reload::keep_started(path, &again, &config);
    }
    config.redact.key = config::read_redact_key(&config.redact, config::credentials_directory().as_deref())?;
    let (input, path) = (config.capture.clone(), config.journal.path.clone());
    let end = start_runtime(&input)?.block_on(async {
        let mut run = Run::prepare(config).await?;
        if let Some(path) = capture.config.clone() {
            // Without a file there is nothing to read again, and a hangup ends the program as it does others.
            run.reload(reload::at_hangup(path, again)?);
        }
        let admin = run.admin_address();
        let feed = open_feed(&input, run.pause())?;
        let live = run.live();
        let _progress = Progress::show(run.ledgers(), Arc::clone(&live));
        if let Some(address) = admin {
            tracing::info!(%address, "Serving /metrics, /healthz and /readyz.");
        }
        let verdict = async {
            match until_verdict {
                true => decided(live).await,
                false => std::future::pending().await,
            }
        };
        let stop = stopped_or(capture.duration, verdict);
        anyhow::Ok(run.run(feed, stop).await?)
    })?;
    let RunEnd { journal, recorded, id, capture, ledgers, looped, broken, redact } = end;
    output::complain(&ledger::text(&capture, &ledgers));
    complain_of(redact.as_deref());
    let report = Report::load(&journal, Some(id.0))?;
    show(&report, &format)?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    recorded.with_context(|| {
        format!("the report above is not complete: results could not be kept in `{}`", path.display())
    })?;
    if !looped.is_empty() {
        let experiments = looped.join(", ");
        output::complain(&format!("error: experiment {experiments}: {LOOPED} Nothing more was sent."));
        return Ok(Exit::Looped);
    }
    Ok(super::report::exit_of(&report))
}
