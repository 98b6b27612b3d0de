//! What a run is told, checked and typed.
//!
//! Knows no file format; `config` reads these from a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::governor::GovernorLimits;
use super::handover::HandoverLimits;
use super::replay::ReplayLimits;
use crate::branch::HttpBranchConfig;
use crate::capture::KernelConfig;
use crate::compare::CompareConfig;
use crate::http::HttpLimits;
use crate::journal::JournalLimits;
use crate::queue::memory::MemoryQueueLimits;
use crate::report::VerdictPolicy;
use crate::select::SelectConfig;
use crate::stream::StreamLimits;

/// Everything that a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to capture.
    pub capture: CaptureConfig,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; none: nowhere.
    pub admin: Option<SocketAddr>,
    /// Where results are kept.
    pub journal: JournalConfig,
    /// What to find out. May be empty for commands that replay nothing.
    pub experiments: Vec<ExperimentConfig>,
}

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// How far we step back where CPU time is short, 0 to 19 (sched(7)): what A needs comes first, and what we
    /// cannot read in time is dropped and counted. Default 15, about a thirtieth of the share of a
    /// thread of A.
    pub nice: i32,
    /// What capture may cost.
    pub governor: GovernorLimits,
    /// The kernel side.
    pub kernel: KernelConfig,
    /// Bounds of reassembly.
    pub stream: StreamLimits,
    /// Bounds of message reading.
    pub http: HttpLimits,
}

/// Where results are kept.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// Its bounds.
    pub limits: JournalLimits,
    /// Bounds of what is on its way there.
    pub handover: HandoverLimits,
}

/// What to find out: which exchanges, which B, how to compare.
#[derive(Clone, Debug)]
pub struct ExperimentConfig {
    /// Its name, unique in the configuration.
    pub name: String,
    /// Which exchanges.
    pub select: SelectConfig,
    /// Where B is.
    pub candidate: HttpBranchConfig,
    /// How long B runs behind A.
    pub lag: Duration,
    /// Bounds of the replay.
    pub replay: ReplayLimits,
    /// Bounds of the queue between capture and replay.
    pub queue: MemoryQueueLimits,
    /// How to compare.
    pub compare: CompareConfig,
    /// What makes a verdict.
    pub verdict: VerdictPolicy,
}

// === impl CaptureConfig ===

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            nice: 15,
            governor: GovernorLimits::default(),
            kernel: KernelConfig::default(),
            stream: StreamLimits::default(),
            http: HttpLimits::default(),
        }
    }
}
