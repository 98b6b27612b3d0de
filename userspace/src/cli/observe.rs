//! `understudy observe`: hands exchanges from a file to an understudy that runs.
//!
//! Needs no privileges, and keeps nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Exit, output};
use crate::pipeline::observe::hand_in;

/// What to hand in, and to whom.
#[derive(Debug, Args)]
#[command(after_help = "Example: understudy observe exchanges.jsonl --url http://127.0.0.1:9469\n\
                        One line of JSON is one exchange, as `understudy inspect --json --body` prints it; see docs/adapters.md.")]
pub(super) struct Arguments {
    /// The exchanges; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Admin listener of an `understudy run` or `capture` that has `observe = true` under [admin].
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9469")]
    url: String,
}

/// Hands all of it in and says how many.
pub(super) fn observe(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Arguments { file, url } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let mut lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        let file = File::open(file).with_context(|| format!("failed to open `{}`", file.display()))?;
        Box::new(BufReader::new(file))
    };
    let taken = runtime.block_on(hand_in(url, &mut lines))?;
    output::print(&format!("{taken} exchanges were taken.\n"))?;
    Ok(Exit::Success)
}
