//! Writes the manual pages and the completions of shells into a folder: `cargo run --example manual -- FOLDER`.
//!
//! Holds no text of its own: all of it comes from the definition of the command line. The daemon itself carries none of it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap_complete::Shell;

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("name a folder")?);
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    clap_mangen::generate_to(understudy::cli::command(), &folder).context("failed to write manual pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut understudy::cli::command(), "understudy", &folder)
            .with_context(|| format!("failed to write completions of {shell}"))?;
    }
    Ok(())
}
