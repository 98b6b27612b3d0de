//! The configuration file that `understudy config template` prints.
//!
//! Says every key with its default; a test reads it back and compares.

/// A configuration with every key; defaults are commented out.
pub const TEMPLATE: &str = include_str!("template.toml");
