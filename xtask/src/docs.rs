//! `cargo xtask docs`: writes the pages that come from the program itself.
//!
//! Writes nothing else, and nothing at all with `--check`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::root;

/// What to do.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only say which pages are out of date
    #[arg(long)]
    check: bool,
}

/// A page, and what makes it.
type Page = (&'static str, fn() -> String);

/// All of them.
const PAGES: [Page; 1] = [("docs/metrics.md", understudy::metrics::document)];

/// Writes the pages, or compares them.
///
/// # Errors
/// When one cannot be written, or is out of date and must not be.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut outdated = Vec::new();
    for (name, make) in PAGES {
        let (path, text) = (root().join(name), make());
        if is_current(&path, &text) {
            continue;
        }
        outdated.push(name);
        if !options.check {
            fs::write(&path, text).with_context(|| format!("failed to write {name}"))?;
            eprintln!("docs: wrote {name}");
        }
    }
    ensure!(
        !options.check || outdated.is_empty(),
        "out of date: {}; `cargo xtask docs` writes what the program says",
        outdated.join(", ")
    );
    Ok(())
}

fn is_current(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|have| have == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_what_the_program_says() {
        run(&Options { check: true }).unwrap();
    }
}
