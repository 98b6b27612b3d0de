//! The configuration file: what it says and what that means.
//!
//! Starts nothing.
