//! What a run is told, checked and typed.
//!
//! Knows no file format; `config` reads these from a file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::comparator::ExternalConfig;
use super::handover::HandoverLimits;
use super::protect::ProtectConfig;
use super::protect::governor::GovernorLimits;
use super::replay::ReplayLimits;
use super::science::NoiseSettings;
use super::upload::UploadLimits;
use crate::branch::HttpBranchConfig;
use crate::capture::{KernelConfig, PcapLimits};
use crate::compare::CompareConfig;
use crate::http::HttpLimits;
use crate::journal::JournalLimits;
use crate::packet::FragmentLimits;
use crate::queue::entry::EntryLimits;
use crate::queue::memory::MemoryQueueLimits;
use crate::queue::redis::config::{Mode, RedisConfig, Server};
use crate::queue::redis::{AppendLimits, WorkerLimits};
use crate::recording::RecordingLimits;
use crate::report::VerdictPolicy;
use crate::select::SelectConfig;
use crate::select::SessionBy;
use crate::select::redact::{RedactKey, RedactRules};
use crate::serve::AdminConfig;
use crate::spool::SpoolConfig;
use crate::stream::StreamLimits;

/// Everything that a run needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What to capture.
    pub capture: CaptureConfig,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, and to whom; none: nowhere.
    pub admin: Option<AdminConfig>,
    /// Whether exchanges may be handed in there. Default: no.
    pub observe: bool,
    /// Where results are kept.
    pub journal: JournalConfig,
    /// What to find out. May be empty for commands that replay nothing.
    pub experiments: Vec<ExperimentConfig>,
    /// How many times faster than A's own spacing requests of a capture file are replayed. Default 1.
    pub speed: f64,
    /// Where captured exchanges are recorded.
    pub record: RecordConfig,
    /// The queue between hosts; none: `capture` and `replay` have nothing to meet at.
    pub queue: Option<QueueConfig>,
    /// Where exchanges wait while the queue cannot be reached.
    pub spool: SpoolConfig,
    /// What is hidden before anything leaves the process or is kept.
    pub redact: RedactConfig,
    /// What the process may cost the host, and when it stands still.
    pub protect: ProtectConfig,
}

/// What is hidden, and with which key.
#[derive(Clone, Debug, Default)]
pub struct RedactConfig {
    /// What is hidden.
    pub rules: RedactRules,
    /// The file with the key; it is not read yet. None: `redact-key` in systemd's `$CREDENTIALS_DIRECTORY`, if it is there.
    pub key_file: Option<PathBuf>,
    /// The key that was read. None: a new one for each process.
    pub key: Option<RedactKey>,
}

/// The queue between hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// How to reach Redis.
    pub access: QueueAccess,
    /// What all keys begin with. Default: `understudy`.
    pub prefix: String,
    /// Streams of one experiment; the same number on every host. Default: 16.
    pub shards: NonZeroU32,
    /// What keeps exchanges in one stream, and so in order. Default: the client's address.
    pub session: SessionBy,
    /// Bounds of a stream.
    pub append: AppendLimits,
    /// Bounds of one entry, and when it is compressed.
    pub entry: EntryLimits,
    /// Bounds of the way there.
    pub upload: UploadLimits,
    /// Bounds of a worker; those of an entry are above.
    pub worker: WorkerLimits,
}

/// How to reach Redis. Files that are named here are not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAccess {
    /// The server, the Sentinels, or nodes of the cluster.
    pub servers: Vec<Server>,
    /// What those are.
    pub mode: Mode,
    /// Number of the database. Default: 0.
    pub database: u32,
    /// Whether to speak TLS.
    pub tls: bool,
    /// File with user and password. None: `redis` in systemd's `$CREDENTIALS_DIRECTORY`, if it is there.
    pub credentials: Option<PathBuf>,
    /// Who may have signed the server's certificate, as PEM; none: the system's list.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, as PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// How long to wait for a connection. Default: 2 s.
    pub connect_wait_max: Duration,
    /// How long to wait for an answer. Default: 5 s.
    pub answer_wait_max: Duration,
}

/// Where packets come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// The probe: what passes now.
    #[default]
    Probe,
    /// A capture file; `-` is standard input.
    Pcap(PathBuf),
    /// A recording; `-` is standard input.
    Recording(PathBuf),
}

/// What to capture.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureConfig {
    /// Where packets come from. Default: the probe.
    pub input: Input,
    /// How far we step back where CPU time is short, 0 to 19 (sched(7)): what A needs comes first, and what we
    /// cannot read in time is dropped and counted. Default 15, about a thirtieth of the share of a
    /// thread of A.
    pub nice: i32,
    /// What capture may cost.
    pub governor: GovernorLimits,
    /// The kernel side. Its ports also say what is wanted of a capture file; none there: any.
    pub kernel: KernelConfig,
    /// Bounds of reading a capture file.
    pub pcap: PcapLimits,
    /// Bounds of putting fragmented packets together.
    pub fragments: FragmentLimits,
    /// Bounds of reassembly.
    pub stream: StreamLimits,
    /// Bounds of message reading.
    pub http: HttpLimits,
}

/// Where results are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// Its bounds.
    pub limits: JournalLimits,
    /// Bounds of what is on its way there.
    pub handover: HandoverLimits,
}

/// Where captured exchanges are recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordConfig {
    /// The file, which must not exist; `-` is standard output. None: nothing is recorded.
    pub path: Option<PathBuf>,
    /// Its bounds.
    pub limits: RecordingLimits,
    /// Bounds of what is on its way there.
    pub queue: MemoryQueueLimits,
}

/// What to find out: which exchanges, which B, how to compare.
#[derive(Clone, Debug, PartialEq)]
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
    /// Where A′ is: a second instance of A's version in B's environment. None: there is none.
    pub twin: Option<HttpBranchConfig>,
    /// How to compare.
    pub compare: CompareConfig,
    /// How noise is measured.
    pub noise: NoiseSettings,
    /// The process that is asked as well; none: nobody.
    pub comparator: Option<ExternalConfig>,
    /// Labels of its results.
    pub context: BTreeMap<String, String>,
    /// What makes a verdict.
    pub verdict: VerdictPolicy,
}

/// Streams of an experiment when nothing else is said.
const SHARDS_DEFAULT: NonZeroU32 = NonZeroU32::MIN.saturating_add(15);

// === impl RedactConfig ===

/// As the file says it: what was read from the key's file is no part of that.
impl PartialEq for RedactConfig {
    fn eq(&self, other: &Self) -> bool {
        let Self { rules, key_file, key: _ } = self;
        *rules == other.rules && *key_file == other.key_file
    }
}

// === impl QueueConfig ===

impl QueueConfig {
    /// This Redis, and everything else at its default.
    pub fn new(access: QueueAccess) -> Self {
        Self {
            access,
            prefix: "understudy".to_owned(),
            shards: SHARDS_DEFAULT,
            session: SessionBy::default(),
            append: AppendLimits::default(),
            entry: EntryLimits::default(),
            upload: UploadLimits::default(),
            worker: WorkerLimits::default(),
        }
    }
}

// === impl QueueAccess ===

impl Default for QueueAccess {
    fn default() -> Self {
        let RedisConfig { servers, mode, database, connect_wait_max, answer_wait_max, .. } =
            RedisConfig::default();
        Self {
            servers,
            mode,
            database,
            tls: false,
            credentials: None,
            ca: None,
            client: None,
            connect_wait_max,
            answer_wait_max,
        }
    }
}

// === impl Input ===

impl Input {
    /// True when it is traffic that passes now.
    pub fn is_live(&self) -> bool {
        match self {
            Input::Probe => true,
            Input::Pcap(_) | Input::Recording(_) => false,
        }
    }
}

// === impl CaptureConfig ===

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            input: Input::default(),
            nice: 15,
            governor: GovernorLimits::default(),
            kernel: KernelConfig::default(),
            pcap: PcapLimits::default(),
            fragments: FragmentLimits::default(),
            stream: StreamLimits::default(),
            http: HttpLimits::default(),
        }
    }
}
