//! The configuration file: what it says, and what that means.
//!
//! Starts nothing and resolves no name. [`RawConfig`] is the file word by word; what comes out is checked and typed.

mod error;
mod raw;
mod template;

use std::path::Path;

use crate::pipeline::settings::Config;

pub use error::ConfigError;
pub use raw::{
    RawAdmin, RawCandidate, RawCapture, RawCompare, RawConfig, RawExperiment, RawJournal, RawQueue, RawReplay,
};
pub use template::TEMPLATE;

/// Where the admin listener listens when nothing else is said.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:9469";

/// The journal's file when nothing else is said.
pub const JOURNAL_DEFAULT: &str = "understudy.db";

/// Reads a file, lets `adjust` put other values in place of the file's (the command line's), and checks the whole.
/// Without a file, everything is at its default.
///
/// # Errors
/// Names the file, the line, the key and what is wrong.
pub fn load(path: Option<&Path>, adjust: impl FnOnce(&mut RawConfig)) -> Result<Config, ConfigError> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        None => String::new(),
    };
    parse(&text, path, adjust)
}

/// Checks the text of a file; `path` is for errors.
///
/// # Errors
/// As for [`load`].
pub fn parse(
    text: &str,
    path: Option<&Path>,
    adjust: impl FnOnce(&mut RawConfig),
) -> Result<Config, ConfigError> {
    let shown = path.unwrap_or(Path::new("-"));
    let mut raw: RawConfig = toml::from_str(text)
        .map_err(|source| ConfigError::Parse { path: shown.to_owned(), source: Box::new(source) })?;
    adjust(&mut raw);
    raw.finish().map_err(|fault| fault.into_error(path, text))
}

#[cfg(test)]
mod tests;
