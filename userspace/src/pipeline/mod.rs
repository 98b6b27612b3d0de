//! Wires the parts: the only place that spawns tasks, makes channels and reads the clock.
//!
//! Contains no rule of HTTP or of comparing.
//!
//! [`tee`] is the pure core; [`capture`] runs it on a thread of its own. [`run`] adds selection, replay, comparison
//! and the journal; [`inspect`] only shows.

pub mod breaker;
pub mod capture;
pub mod clock;
pub mod inspect;
mod lane;
pub mod pace;
mod record;
pub mod replay;
pub mod run;
pub mod settings;
mod tasks;
pub mod tee;
mod thread;
