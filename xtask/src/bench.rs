//! `cargo xtask bench`: what capture costs A, how fast packets become exchanges, what a replayed request costs.
//!
//! Judges nothing: it prints medians of rounds that take turns, so that all saw the same machine.
#![expect(clippy::print_stdout, reason = "the numbers are for the person at the terminal")]

mod live;
mod offline;

use anyhow::bail;
use clap::{Args, ValueEnum};
use understudy_tests::prereq::{KERNEL, Prerequisite, missing};
use xshell::{Shell, cmd};

use crate::{probe, root, setup};

/// What `cargo xtask bench` is asked for.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only these parts. Default: all of them
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
}

/// One part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What capture costs A
    Capture,
    /// From packets in memory to exchanges
    Pair,
    /// What a replayed request costs
    Replay,
    /// Comparing two answers, and keeping what came of it
    Compare,
    /// From capture files to exchanges, next to other programs
    Offline,
    /// From capture into Redis, and from Redis to compared
    Queue,
    /// Taking secrets out of an exchange
    Redact,
}

// === impl Part ===

impl Part {
    fn run(self, sh: &Shell) -> anyhow::Result<()> {
        match self {
            Part::Capture => live::run(),
            Part::Pair => bench(sh, "2. From packets in memory to exchanges, one core", "pair"),
            Part::Replay => bench(sh, "3. Replay to nginx on loopback", "replay"),
            Part::Compare => {
                bench(sh, "4. Comparing two answers, and keeping what came of it, one core", "compare")
            }
            Part::Offline => offline::run(sh),
            Part::Queue => bench(sh, "6. From capture into Redis, and from Redis to compared", "queue"),
            Part::Redact => redact(sh),
        }
    }
}

/// Runs the parts that are asked for, in their order.
///
/// # Errors
/// When something is missing or fails; never because a number is bad.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    setup::run()?;
    let tools = [Prerequisite::Tool("nginx"), Prerequisite::Tool("wrk")];
    if let Some(reason) = missing(KERNEL).or_else(|| missing(&tools)) {
        bail!("the bench cannot run here: {reason}");
    }
    probe::run()?;
    let sh = Shell::new()?;
    let _in_root = sh.push_dir(root());
    cmd!(sh, "cargo build --release --package understudy").quiet().run()?;
    cmd!(sh, "cargo build --package understudy-tests --bin understudy-lab-app").quiet().run()?;
    let wanted = |part: &Part| options.parts.is_empty() || options.parts.contains(part);
    Part::value_variants().iter().filter(|part| wanted(part)).try_for_each(|part| part.run(&sh))
}

/// Times, and instructions, which no other load on the machine changes.
fn redact(sh: &Shell) -> anyhow::Result<()> {
    bench(sh, "7. Taking secrets out of an exchange, one core", "redact")?;
    println!();
    for name in ["small", "json_2_kb", "json_1_mb", "html_50_kb"] {
        let modes = ["standard", "strict"].map(|mode| {
            let counted = offline::counted(sh, "redact", &["--once", name, mode], "*redact_once*")?;
            Ok::<_, anyhow::Error>(counted.map(|counted| format!("{counted} ({mode})")))
        });
        let counts = modes.into_iter().collect::<anyhow::Result<Option<Vec<_>>>>()?;
        let Some(counts) = counts else {
            println!("   instructions: valgrind is not installed");
            return Ok(());
        };
        println!("   {name}: instructions: {}", counts.join(", "));
    }
    Ok(())
}

fn bench(sh: &Shell, title: &str, target: &str) -> anyhow::Result<()> {
    println!("\n{title}");
    cmd!(sh, "cargo bench --quiet --package understudy --bench {target}").quiet().run()?;
    Ok(())
}
