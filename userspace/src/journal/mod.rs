//! Keeps results.
//!
//! Decides nothing about them.
