//! Hands exchanges over from capture to replay.
//!
//! Never makes the capture side wait.
