//! The command line.
//!
//! Contains no logic of its own.
