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
mod instance;
mod layers;
mod noise;
mod protect;
mod queue;
mod raw;
mod redact;
mod secrets;
mod template;
mod verdict;

use std::path::Path;

use toml::Spanned;

use crate::pipeline::settings::Config;

use layers::Layers;

pub use document::document;
pub use error::ConfigError;
pub use flags::{FlagExperiment, Flags};
pub use fleet::{FleetAccess, FleetAccessError};
pub use instance::instance_file;
pub use redact::{KeyFileError, new_key, read_redact_key};
pub use secrets::{MissingProgram, SecretError, credentials_directory, missing_programs, read_access};
pub use template::TEMPLATE;

/// Where the admin listener listens when nothing else is said.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:9469";

/// The journal's file when nothing else is said.
pub const JOURNAL_DEFAULT: &str = "understudy.db";

/// Reads a file, and above it that of an instance where one is asked for, puts the command line's values in the place of the
/// files', and checks the whole. Without a file, everything is at its default.
///
/// # Errors
/// Names the file, the line, the key and what is wrong.
pub fn load(path: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    if let Some(path) = path {
        layers.read(path)?;
    }
    let instance = flags.instance.clone();
    let port = instance.map(|name| instance::add(&mut layers, path, &name)).transpose()?.flatten();
    finish(&layers, port, flags)
}

/// Checks the text of a file; `path` is for errors.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str, path: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    layers.push(path, text.to_owned());
    finish(&layers, None, flags)
}

/// `port` is that of the instance; what the instance's own file says, and the command line, wins over it.
fn finish(layers: &Layers, port: Option<u16>, flags: Flags) -> Result<Config, ConfigError> {
    let mut raw = layers.merge()?;
    if let Some(port) = port
        && !raw.capture.ports.as_ref().is_some_and(|ports| layers.is_above(&ports.span()))
    {
        raw.capture.ports = Some(Spanned::new(0..0, vec![port]));
    }
    flags.clone().adjust(&mut raw);
    let mut config = raw.finish().map_err(|fault| layers.error(fault))?;
    flags.complete(&mut config);
    Ok(config)
}

#[cfg(test)]
mod tests;
