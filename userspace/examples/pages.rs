//! Writes the pages of the documentation that come from the program itself: `cargo run --example pages -- FOLDER`.
//!
//! Holds no text of its own. Tests of the library compare the pages with what it says.

use std::path::PathBuf;

use anyhow::Context as _;

/// A page, and what makes it.
type Page = (&'static str, fn() -> String);

const PAGES: [Page; 2] =
    [("metrics.md", understudy::metrics::document), ("configuration.md", understudy::config::document)];

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("name the folder of the documentation")?);
    for (name, make) in PAGES {
        let path = folder.join(name);
        std::fs::write(&path, make()).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}
