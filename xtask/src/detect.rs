//! `cargo xtask detect`: planted regressions in small applications, which of them are found, after how many
//! exchanges, and what is reported that is none; the same for Diffy's rule on the same answers.
//!
//! Judges with the truth that the applications know, never with what the daemon says about itself. Leaves nothing
//! running.
#![expect(clippy::print_stdout, reason = "the numbers are for the person at the terminal")]

mod batch;
mod diffy;
mod reading;
mod score;
mod table;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use understudy_tests::detect::{Kind, Mutant};
use understudy_tests::prereq::{KERNEL, missing};
use xshell::{Shell, cmd};

use crate::{probe, root, setup};
use batch::{Batch, Twin};
use score::Result as Scored;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this application
    #[arg(long, value_enum)]
    app: Option<Kind>,
    /// Only this planted regression
    #[arg(long)]
    mutant: Option<String>,
    /// Requests to A in each run
    #[arg(long, default_value_t = 5_000)]
    exchanges: usize,
    /// Unmutated runs over all applications together
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Candidates that share one A and its traffic
    #[arg(long, default_value_t = 5)]
    side_by_side: usize,
    /// Requests to A in a second
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Decides traffic and noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Give the daemon no twin; the twin's answers are then collected beside it, for Diffy's rule only
    #[arg(long)]
    without_twin: bool,
    /// Keep what every instance answered, the journals and the configurations in this folder
    #[arg(long)]
    keep: Option<PathBuf>,
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
}

/// Runs all batches and prints the table.
///
/// # Errors
/// When something is missing or fails, and when the aim is missed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let batches = plan(options)?;
    setup::run()?;
    if let Some(reason) = missing(KERNEL) {
        bail!("the bench of detection cannot run here: {reason}");
    }
    probe::run()?;
    let sh = Shell::new()?;
    let _in_root = sh.push_dir(root());
    if std::env::var_os("UNDERSTUDY_BIN").is_none() {
        cmd!(sh, "cargo build --release --package understudy").quiet().run()?;
    }
    cmd!(
        sh,
        "cargo build --release --package understudy-tests --bin understudy-detect-app --bin understudy-diffy"
    )
    .quiet()
    .run()?;

    let twin = if options.without_twin { Twin::Beside } else { Twin::Called };
    let mut results: Vec<Scored> = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        if !options.json {
            println!("{:>3} of {}: {}", number + 1, batches.len(), batch.title());
        }
        let seed = options.seed.wrapping_mul(1_000).wrapping_add(number as u64);
        let keep =
            options.keep.as_ref().map(|folder| folder.join(format!("{}-{}", number + 1, batch.kind.name())));
        results.extend(batch.run(options, twin, seed, keep.as_deref())?);
    }
    let summary = score::Summary::of(&results);
    if options.json {
        println!("{}", table::json(&results, &summary, twin)?);
    } else {
        print!("\n{}", table::text(&results, &summary, twin));
    }
    ensure!(summary.aim_is_met(), "the aim is missed: {}", summary.shortfall());
    Ok(())
}

/// All candidates, a few to a batch; the unmutated ones are spread over the applications and their batches.
fn plan(options: &Options) -> anyhow::Result<Vec<Batch>> {
    ensure!(options.side_by_side > 0 && options.rate > 0.0, "--side-by-side and --rate must be above 0");
    let wanted = |mutant: &&Mutant| options.mutant.as_ref().is_none_or(|name| name == mutant.name);
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| options.app.is_none_or(|app| app == *kind))
        .filter(|kind| options.mutant.is_none() || kind.mutants().iter().any(|mutant| wanted(&mutant)))
        .collect();
    ensure!(!kinds.is_empty(), "no application has this planted regression; see docs/detection.md");
    let mut batches = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let clean = options.runs / kinds.len() + usize::from(index < options.runs % kinds.len());
        let mutants: Vec<Mutant> = kind.mutants().iter().filter(wanted).copied().collect();
        let count = (mutants.len() + clean).div_ceil(options.side_by_side);
        // Dealt out like cards, so that every batch has its share of unmutated candidates.
        let candidates = std::iter::repeat_n(None, clean).chain(mutants.into_iter().map(Some));
        let mut dealt = vec![Vec::new(); count];
        for (position, candidate) in candidates.enumerate() {
            if let Some(hand) = dealt.get_mut(position % count) {
                hand.push(candidate);
            }
        }
        batches.extend(dealt.into_iter().map(|candidates| Batch { kind: *kind, candidates }));
    }
    ensure!(!batches.is_empty(), "nothing to do: --runs is 0 and no regression is planted");
    Ok(batches)
}
