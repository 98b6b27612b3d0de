//! The configuration file: what it says, and what that means.
//!
//! Starts nothing and resolves no name. `raw` and `experiment` are the file word by word; what comes out is checked and typed.

mod admin;
mod compare;
mod credentials;
mod document;
mod error;
mod experiment;
mod flags;
mod fleet;
mod hook;
mod noise;
mod queue;
mod raw;
mod secrets;
mod template;
mod verdict;

use std::path::Path;

use crate::pipeline::settings::Config;

use raw::RawConfig;

pub use document::document;
pub use error::ConfigError;
pub use flags::{FlagExperiment, Flags};
pub use fleet::{FleetAccess, FleetAccessError};
pub use secrets::{SecretError, credentials_directory, missing_program, read_access};
pub use template::TEMPLATE;

/// Where the admin listener listens when nothing else is said.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:9469";

/// The journal's file when nothing else is said.
pub const JOURNAL_DEFAULT: &str = "understudy.db";

/// Reads a file, puts the command line's values in the place of the file's, and checks the whole. Without a file,
/// everything is at its default.
///
/// # Errors
/// Names the file, the line, the key and what is wrong.
pub fn load(path: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        None => String::new(),
    };
    parse(&text, path, flags)
}

/// Checks the text of a file; `path` is for errors.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, path: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    let shown = path.unwrap_or(Path::new("-"));
    let mut raw: RawConfig = toml::from_str(text)
        .map_err(|error| ConfigError::Parse { path: shown.to_owned(), problem: Box::new(error) })?;
    flags.clone().adjust(&mut raw);
    let mut config = raw.finish().map_err(|fault| fault.into_error(path, text))?;
    flags.complete(&mut config);
    Ok(config)
}

#[cfg(test)]
mod tests;
