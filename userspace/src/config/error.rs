//! What can be wrong with a configuration.
//!
//! Every error names the file, the line and the key, so that an editor can be opened there.

use std::ops::Range;
use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key that nobody knows, or a value of another type.
    #[error("configuration `{}`: {}", path.display(), problem.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why. Not a `source`: the message holds all of it, and whoever prints the chain would repeat it.
        problem: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("configuration `{}`, line {line}, key `{key}`: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its tables.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is no such instance.
    #[error("instance `{name}` {problem}")]
    Instance {
        /// Its name.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A value given on the command line makes no sense.
    #[error("`{key}`: {problem}")]
    Flag {
        /// The key that the flag sets.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// A value that makes no sense, before the file and the line are known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) problem: String,
}
