//! The metrics that the admin listener exports, and the counts behind them.
//!
//! Measures nothing itself: other parts count, this names what they counted. A label value is one of a closed set or
//! stands in the configuration; never a path, a host or a message.

mod admin;
mod collect;
mod comparisons;
mod delay;
mod document;
mod exposition;
mod external;
mod pause;
mod process;
mod queue;
mod redact;
mod replay;
mod table;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::capture::{FlowSample, SourceCounts};
use crate::http::HttpTally;
use crate::model::{BranchFailure, Ledger, LedgerSnapshot, Regression, RegressionKind as Kind, Unused};
use crate::packet::PacketTally;
use crate::recording::Ending;
use crate::stream::StreamTally;

pub use admin::{AdminRefusal, AdminStats};
pub use comparisons::{ComparisonMetrics, ReloadResult};
pub use delay::DelayHistogram;
pub use document::document;
pub use exposition::Format;
pub use external::{ExternalFailure, ExternalStats};
pub use pause::PauseStats;
pub use queue::{QueueStatus, SpoolStats, UploadStats};
pub use redact::RedactStats;
pub use table::{Descriptor, Label, SECTIONS, Section, Values};

/// What the names of all metrics begin with.
const PREFIX: &str = "understudy";

/// What the capture side counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounts {
    /// What the source counted.
    pub source: SourceCounts,
    /// What was read out of its packets.
    pub tee: TeeCounts,
    /// What was done to keep the cost of capture below its limits.
    pub throttle: ThrottleCounts,
    /// What was read from a recording, where there is one in the place of packets.
    pub playback: Option<PlaybackCounts>,
}

/// What was read from a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaybackCounts {
    /// Exchanges.
    pub exchanges: u64,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
}

/// How capture kept its cost below the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleCounts {
    /// The connections that are copied now.
    pub flow_sample: FlowSample,
    /// The connections that are copied while capture costs little.
    pub flow_sample_max: FlowSample,
    /// Times that fewer connections were copied because capture took too much CPU time.
    pub for_cpu: u64,
    /// Times that fewer connections were copied because the ring lost too many packets.
    pub for_loss: u64,
    /// Times that fewer connections were copied because the ring was too full, and had lost nothing yet.
    pub for_ring: u64,
    /// Times that fewer connections were copied because the host was short of CPU time or memory.
    pub for_pressure: u64,
    /// Times that nothing was copied because this process was near its ceiling of memory.
    pub for_memory: u64,
    /// Times that nothing was copied because somebody or the time table said so.
    pub pauses: u64,
    /// How long that was.
    pub paused: Duration,
}

impl Default for ThrottleCounts {
    fn default() -> Self {
        Self {
            flow_sample: FlowSample::ALL,
            flow_sample_max: FlowSample::ALL,
            for_cpu: 0,
            for_loss: 0,
            for_ring: 0,
            for_pressure: 0,
            for_memory: 0,
            pauses: 0,
            paused: Duration::ZERO,
        }
    }
}

/// What was read out of packets. Packets handed over = `used` + Σ `unused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TeeCounts {
    /// Packets that belong to a flow that is read.
    pub used: u64,
    /// Other packets, in the order of [`Unused::ALL`].
    pub unused: [u64; Unused::ALL.len()],
    /// What packets of capture files held besides segments.
    pub packet: PacketTally,
    /// What reassembly met.
    pub stream: StreamTally,
    /// What message reading met.
    pub http: HttpTally,
    /// Flows known now.
    pub flows: usize,
    /// Bytes that wait for earlier ones now.
    pub waiting_bytes: usize,
    /// Bytes of heads and bodies that unfinished exchanges keep now.
    pub kept_bytes: usize,
}

/// What a replay did so far.
#[derive(Debug, Default)]
pub struct ReplayStats {
    /// Requests handed to the branch.
    pub sent: AtomicU64,
    /// Requests that the client could not express.
    pub not_sent: AtomicU64,
    /// Microseconds by which all sent requests were later than intended. Latencies are measured from the send, so
    /// this is what a comparison of them leaves out.
    pub late_us: AtomicU64,
    /// From A's first byte of a request to its replay.
    pub delay: DelayHistogram,
    /// Requests under way now.
    pub in_flight: AtomicU64,
    /// Exchanges that are claimed and wait now.
    pub waiting: AtomicU64,
    /// True while the breaker is open.
    pub breaker_open: AtomicBool,
    /// Requests sent to the candidate a second time, to see how it differs from itself.
    pub again_sent: AtomicU64,
    /// Requests that were to be sent a second time and were not: no room, no time, no rate.
    pub again_dropped: AtomicU64,
    /// Requests that the twin did not answer.
    pub twin_failures: AtomicU64,
    /// Requests without an answer, in the order of [`BranchFailure::ALL`].
    pub failures: [AtomicU64; BranchFailure::ALL.len()],
    /// Questions to the sources of its credentials, in the order of [`CredentialResult::ALL`].
    pub credentials: [AtomicU64; CredentialResult::ALL.len()],
    /// What its external comparator did; all zero where it has none.
    pub external: ExternalStats,
}

/// What came of asking for a credential while requests are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialResult {
    /// Another one.
    Renewed,
    /// The same as before.
    Same,
    /// None.
    Failed,
}

/// Says what the evidence says now of each route, whenever it is asked.
pub struct RegressionSource(Box<dyn Fn() -> Vec<Regression> + Send + Sync>);

/// What can be exported at any moment.
#[derive(Debug, Default)]
pub struct Status {
    /// The capture side, as it was published last; none where nothing is captured.
    pub capture: Option<watch::Receiver<CaptureCounts>>,
    /// The experiments.
    pub experiments: Vec<ExperimentStatus>,
    /// The queue between hosts; none where there is none.
    pub queue: Option<Arc<QueueStatus>>,
    /// Its pauses.
    pub pause: Arc<PauseStats>,
    /// Regressions; none where nothing is compared.
    pub regressions: Option<RegressionSource>,
    /// What was hidden; none where nothing is looked for.
    pub redact: Option<Arc<RedactStats>>,
}

/// What can be exported of one experiment.
#[derive(Debug)]
pub struct ExperimentStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its fates.
    pub ledger: Arc<Ledger>,
    /// Its replay; none where nothing is replayed.
    pub replay: Option<Arc<ReplayStats>>,
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

// === impl CredentialResult ===

impl CredentialResult {
    /// All results.
    pub const ALL: [CredentialResult; 3] =
        [CredentialResult::Renewed, CredentialResult::Same, CredentialResult::Failed];

    /// The result as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            CredentialResult::Renewed => "renewed",
            CredentialResult::Same => "same",
            CredentialResult::Failed => "failed",
        }
    }
}

// === impl RegressionSource ===

impl RegressionSource {
    /// From what is called at each scrape; it may take a millisecond for each route.
    pub fn new(look: impl Fn() -> Vec<Regression> + Send + Sync + 'static) -> Self {
        Self(Box::new(look))
    }
}

impl fmt::Debug for RegressionSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegressionSource").finish_non_exhaustive()
    }
}

// === impl Status ===

impl Status {
    /// The ledgers now, in the order of the experiments.
    pub fn ledgers(&self) -> Vec<(Arc<str>, LedgerSnapshot)> {
        let ledger = |status: &ExperimentStatus| (Arc::clone(&status.name), status.ledger.snapshot());
        self.experiments.iter().map(ledger).collect()
    }
}

// === impl Metrics ===

impl Metrics {
    /// Metrics of a process with this status, and of these comparisons.
    pub fn new(status: Arc<Status>, comparisons: &ComparisonMetrics) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(process::ProcessCollector));
        registry.register_collector(Box::new(collect::StatusCollector(status)));
        registry.register_collector(Box::new(comparisons.clone()));
        Self { registry }
    }

    /// Also shows what the admin listener refused.
    pub fn add_admin(&mut self, stats: Arc<AdminStats>) {
        self.registry.register_collector(Box::new(admin::AdminCollector(stats)));
    }

    /// The text that is scraped, with exemplars where the format has them.
    ///
    /// # Errors
    /// When a value cannot be formatted.
    pub fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Text => exposition::to_text(&text),
        })
    }
}

#[cfg(test)]
mod tests;
