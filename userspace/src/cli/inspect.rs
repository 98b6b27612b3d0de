//! `understudy inspect`: exchanges as they happen, or as they stand in a capture file.
//!
//! Sends nothing anywhere, and keeps nothing.

use std::io::{self, BufWriter, Write as _};

use anyhow::Context as _;
use clap::Args;

use super::capture::{CaptureFlags, open_feed, start_runtime, stopped};
use super::{Exit, exchange_line, ledger, output};
use crate::config::{self, Flags};
use crate::model::Exchange;
use crate::pipeline::inspect::{Admin, InspectEnd, Show, inspect as run_inspect};
use crate::pipeline::protect::pause::PauseFlag;
use crate::pipeline::run::RunError;
use crate::pipeline::secrets::{RedactMode, Secrets};
use crate::pipeline::settings::RedactConfig;

/// What to look at.
#[derive(Debug, Args)]
#[command(
    after_help = "Secrets: what is shown is what passed, with passwords and cookies in targets and fields, and with --body in \
                  bodies; hashes and lengths are those of the wire. It goes to your terminal or pipe and nowhere else. Before \
                  you keep or pass it on, use --redact. What `capture`, `run` and --record write is redacted anyhow, unless \
                  [redact] says otherwise."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    capture: CaptureFlags,
    /// One JSON object per exchange and line.
    #[arg(long)]
    json: bool,
    /// With --json: add the bodies in base64, as far as they are kept.
    #[arg(long, requires = "json")]
    body: bool,
    /// Show tokens in place of secrets, as [redact] of the configuration says, or in standard mode where it hides nothing;
    /// hashes and lengths are then those of what is shown.
    #[arg(long)]
    redact: bool,
    /// Show no exchange, only the counts at the end.
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// Address for /metrics, /healthz and /readyz. Default: none.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
}

/// Shows exchanges until it is stopped or the file ends, then the counts.
pub(super) fn inspect(arguments: Arguments) -> anyhow::Result<Exit> {
    let Arguments { capture, json, body, redact, quiet, admin } = arguments;
    let admin = Some(admin.unwrap_or_else(|| "off".to_owned()));
    // What is replayed or handed in is of no interest here, and must not stand in the way.
    let flags = Flags { admin, no_experiments: true, no_observe: true, ..capture.flags() };
    let config = config::load(capture.config.as_deref(), flags)?;
    if config.capture.input.is_live() && config.capture.kernel.ports.is_empty() {
        return Err(RunError::NoPort.into());
    }
    let secrets = if redact { Some(secrets(config.redact)?) } else { None };
    let end = start_runtime(&config.capture)?.block_on(async {
        let admin = Admin::bind_if(config.admin).await?;
        // Whoever looks wants to see: nothing pauses that.
        let feed = open_feed(&config.capture, &PauseFlag::never())?;
        let stop = stopped(capture.duration);
        let show: Option<Show> = if quiet { None } else { Some(Box::new(printer(json, body, secrets))) };
        anyhow::Ok(run_inspect(feed, &config.capture, &config.protect, admin, show, stop).await?)
    })?;
    let InspectEnd { capture, ledger, broken, unshown } = end;
    let counts = ledger::text(&capture, &[("inspect".into(), ledger)]);
    if json {
        output::complain(&counts);
    } else {
        output::print(&(counts + "\n"))?;
    }
    if let Some(error) = broken {
        return Err(error.into());
    }
    match unshown {
        // Whoever read has seen enough, as `head` does.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write exchanges to standard output")
        }
        Some(_) | None => Ok(Exit::Success),
    }
}

/// What hides secrets where somebody asked for it, whatever the configuration says of the daemon.
fn secrets(mut config: RedactConfig) -> anyhow::Result<Secrets> {
    config.key = config::read_redact_key(&config, config::credentials_directory().as_deref())?;
    if !config.rules.mode.hides() {
        config.rules.mode = RedactMode::Standard;
    }
    Ok(Secrets::of_terminal(&config)?)
}

/// Prints exchanges; see [`Show`].
fn printer(
    json: bool,
    body: bool,
    secrets: Option<Secrets>,
) -> impl FnMut(Option<&Exchange>) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout());
    move |exchange| {
        let Some(exchange) = exchange else { return out.flush() };
        let redacted = secrets.as_ref().and_then(|secrets| secrets.shown(exchange));
        let exchange = redacted.as_ref().unwrap_or(exchange);
        let line =
            if json { exchange_line::json(exchange, body)? } else { exchange_line::text_line(exchange) };
        out.write_all(line.as_bytes())
    }
}
