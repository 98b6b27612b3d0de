//! Keeps this process from hurting the host: what it may cost, when it stands still, and when it lets go.
//!
//! Captures nothing and sends nothing. Each mechanism works without the others; each that acts is counted and said.

pub mod backlog;
pub mod ceilings;
pub mod governor;
pub mod memory;
pub mod pause;
pub mod pressure;
pub mod privileges;
pub mod remote;
pub mod throttle;
pub mod timetable;
pub mod watchdog;

use std::time::Duration;

use timetable::PauseWindow;

/// What the process may cost the host, and when it stands still.
#[derive(Clone, Debug, PartialEq)]
pub struct ProtectConfig {
    /// Memory in bytes. Default: what the configured bounds add up to, if host and cgroup have that. What they add up to
    /// must fit in it, or nothing starts; when it is nearly reached all the same, nothing is copied until memory has
    /// fallen.
    pub memory_max: Option<u64>,
    /// How long the capture thread may stand still before the probe is detached. Default: 10 s.
    pub stall_max: Duration,
    /// When nothing is captured and nothing replayed. Default: never.
    pub pauses: Vec<PauseWindow>,
}

// === impl ProtectConfig ===

impl Default for ProtectConfig {
    fn default() -> Self {
        Self { memory_max: None, stall_max: Duration::from_secs(10), pauses: Vec::new() }
    }
}
