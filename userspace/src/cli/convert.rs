//! `understudy convert`: from one format of exchanges to another.
//!
//! Knows no format; says what was lost.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Exit, output};
use crate::recording::convert::{Converted, End, FileFormat, convert as run_convert};
use crate::recording::{Ending, Loss, file};

/// What to convert.
#[derive(Debug, Args)]
#[command(
    after_help = "Formats: `understudy` (a recording), `gor` (GoReplay), `har` (HTTP Archive 1.2, written only). \
                        Without --from and --to the endings of the names say which.\n\
                        What is written holds requests and responses as they were, passwords and cookies included; \
                        only its owner can read it."
)]
pub(super) struct Arguments {
    /// The file to read; `-` is standard input.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to make; `-` is standard output. One that exists is not overwritten.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The format of IN.
    #[arg(long, value_name = "FORMAT")]
    from: Option<FileFormat>,
    /// The format of OUT.
    #[arg(long, value_name = "FORMAT")]
    to: Option<FileFormat>,
}

/// Converts all of the input, then says what was lost.
pub(super) fn convert(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Arguments { input, output, from, to } = arguments;
    let from = format_of(input, *from, "--from understudy or --from gor")?;
    let to = format_of(output, *to, "--to understudy, --to gor or --to har")?;
    if !from.is_read() {
        bail!("`{from}` is only written: name a recording or a .gor file as IN");
    }
    let from = End { file: file::open(input)?, name: input.display().to_string(), format: from };
    let to = End { file: || file::make(output), name: output.display().to_string(), format: to };
    let done = run_convert(from, to)?;
    output::complain(&summary(&done));
    Ok(Exit::Success)
}

fn format_of(path: &Path, given: Option<FileFormat>, flags: &str) -> anyhow::Result<FileFormat> {
    given
        .or_else(|| FileFormat::of_name(path))
        .with_context(|| format!("the name `{}` does not say its format: add {flags}", path.display()))
}

/// What was done, and a line for each thing that was lost.
fn summary(done: &Converted) -> String {
    let Converted { read, written, unanswered, losses, ending } = done;
    let mut text =
        format!("{read} exchanges read, {written} written, {unanswered} of them without a response.");
    for (loss, count) in losses.iter() {
        text.push_str(&format!("\n{count:>10} {}", Loss::text(loss)));
    }
    if let Some(ending) = ending {
        text.push_str(&ending_lines(ending));
    }
    text
}

/// What is to be said about the end of a recording, a line each; nothing when all is well.
pub(super) fn ending_lines(ending: &Ending) -> String {
    match ending {
        Ending::Whole(summary) => {
            let lines = summary.missing.iter().map(|(reason, count)| {
                format!(
                    "\n{count:>10} exchanges were captured and are not in the recording: {}",
                    output::shown(reason.as_bytes())
                )
            });
            lines.collect()
        }
        Ending::Cut { offset, rest } => format!(
            "\nThe recording has no end: its writer was cut off, or the file was. All exchanges up to byte {offset} were \
             read; {rest} bytes behind that were not."
        ),
    }
}
