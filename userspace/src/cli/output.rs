//! Standard output and standard error.
//!
//! The only place that writes to either.

use std::io::{self, IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;

use crate::report::plain;

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
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(verbose > 0)
        .init();
}

/// Text that was captured, safe to show on a terminal.
pub(super) fn shown(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes))
}
