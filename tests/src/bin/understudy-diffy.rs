//! Diffy's rule over what three instances of the bench of detection wrote down.
//!
//! A program of its own so that it is optimised: it parses every answer of a run.
#![expect(clippy::print_stdout, reason = "the result is for whoever runs it")]

use std::path::PathBuf;

use clap::Parser;
use serde_json::json;
use understudy_tests::detect::diffy::{Diffy, join};
use understudy_tests::detect::{Kind, read_observed};

/// Shows what Diffy's rule would show after so many requests
#[derive(Parser)]
struct Arguments {
    /// The application
    #[arg(long, value_enum)]
    kind: Kind,
    /// What A answered
    #[arg(long)]
    primary: PathBuf,
    /// What B answered
    #[arg(long)]
    candidate: PathBuf,
    /// What A′ answered
    #[arg(long)]
    secondary: PathBuf,
    /// After how many requests to look, in rising order
    #[arg(long, value_delimiter = ',')]
    looks: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { kind, primary, candidate, secondary, looks } = Arguments::parse();
    let primary = read_observed(&primary)?;
    let candidate = read_observed(&candidate)?;
    let secondary = read_observed(&secondary)?;
    let joined = join(kind, &primary, &candidate, &secondary);
    let mut diffy = Diffy::default();
    let mut left = joined.triples.iter().peekable();
    let mut shown = Vec::new();
    for look in looks {
        while let Some(triple) = left.next_if(|triple| triple.before < look) {
            diffy.count(triple);
        }
        shown.push(json!({"after": look, "shown": diffy.shown()}));
    }
    println!("{}", json!({"answers": joined.answered, "changed": joined.changed, "looks": shown}));
    Ok(())
}
