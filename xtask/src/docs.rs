//! `cargo xtask docs`: writes the pages that come from the program itself.
//!
//! Knows none of them; an example of the library does, so that xtask need not be built again with each change of it.

use xshell::{Shell, cmd};

use crate::root;

/// Writes the pages.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn run() -> anyhow::Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    let docs = root().join("docs");
    cmd!(sh, "cargo run --quiet --package understudy --example pages -- {docs}").quiet().run()?;
    Ok(())
}
