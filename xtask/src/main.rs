//! Automation of this repository: `cargo xtask --help`.
//!
//! Holds no logic of the daemon.

fn main() {}
