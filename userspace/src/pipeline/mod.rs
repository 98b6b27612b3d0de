//! Wires the parts: the only place that spawns tasks, makes channels and reads the clock.
//!
//! Contains no rule of HTTP or of comparing.

pub mod breaker;
pub mod pace;
pub mod replay;
