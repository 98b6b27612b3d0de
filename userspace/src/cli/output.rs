//! Standard output and standard error.
//!
//! The only place that writes to either.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::report::plain;

/// Log lines for systemd's journal: each with its importance before it, so that `journalctl -p warning` finds it, and without
/// the time, which the journal has itself.
struct ForJournal(Format<Full, ()>);

// === impl ForJournal ===

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // The numbers of syslog(3), as sd-daemon(3) wants them.
        let importance = match *event.metadata().level() {
            Level::ERROR => ERROR_PREFIX,
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        };
        writer.write_str(importance)?;
        self.0.format_event(context, writer, event)
    }
}

/// Before a line of the journal that says what failed.
const ERROR_PREFIX: &str = "<3>";

/// Prints text on standard output.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a line on standard error. A closed one is no reason to stop.
pub(super) fn complain(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// Prints why a command failed.
pub(super) fn complain_of(error: &anyhow::Error) {
    let prefix = if is_journal() { ERROR_PREFIX } else { "" };
    complain(&format!("{prefix}error: {error:#}"));
}

/// True when standard error is the journal's: the variable names its device and inode (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let stream = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let facts = stream.and_then(|stream| stream.metadata());
    facts.is_ok_and(|facts| named == format!("{}:{}", facts.dev(), facts.ino()))
}

/// True when standard output is a terminal, and `NO_COLOR` (no-color.org) is not set.
pub(super) fn wants_colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Columns of the terminal; what fits most of them where there is none.
pub(super) fn columns() -> usize {
    terminal_size::terminal_size_of(io::stdout())
        .map_or(120, |(terminal_size::Width(columns), _)| usize::from(columns))
}

/// True when the error is that nobody reads our output any more.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Sends log lines to standard error: warnings and state changes, more when asked.
pub(super) fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("UNDERSTUDY_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,understudy={default}")));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    if is_journal() {
        let format = Format::default().with_target(verbose > 0).without_time();
        lines.event_format(ForJournal(format)).init();
    } else {
        lines.with_target(verbose > 0).init();
    }
}

/// Text that was captured, safe to show on a terminal.
pub(super) fn shown(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes))
}
