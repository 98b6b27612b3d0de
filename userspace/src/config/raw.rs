//! The configuration file word by word, and its check.
//!
//! Gives no default of its own: what the file leaves out comes from the part that the key belongs to.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::JOURNAL_DEFAULT;
use super::admin::RawAdmin;
use super::error::Fault;
use super::experiment::RawExperiment;
use super::hook;
use super::protect::{RawPause, RawProtect};
use super::queue::{RawQueue, RawSpool};
use super::redact::RawRedact;
use super::secrets::credentials_directory;
use crate::capture::FlowSample;
use crate::journal::JournalLimits;
use crate::pipeline::handover::HandoverLimits;
use crate::pipeline::settings::{CaptureConfig, Config, ExperimentConfig, JournalConfig, RecordConfig};
use crate::select::Sample;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    /// What to capture.
    #[serde(default)]
    pub(super) capture: RawCapture,
    /// The admin listener.
    #[serde(default)]
    pub(super) admin: RawAdmin,
    /// Where results are kept.
    #[serde(default)]
    pub(super) journal: RawJournal,
    /// Bounds of a recording.
    #[serde(default)]
    pub(super) record: RawRecord,
    /// The queue between hosts.
    pub(super) queue: Option<RawQueue>,
    /// Where exchanges wait while it cannot be reached.
    #[serde(default)]
    pub(super) spool: RawSpool,
    /// What is hidden before anything leaves the process or is kept.
    #[serde(default)]
    pub(super) redact: RawRedact,
    /// What the process may cost the host.
    #[serde(default)]
    pub(super) protect: RawProtect,
    /// When nothing is captured and nothing replayed.
    #[serde(default, rename = "pause")]
    pub(super) pauses: Vec<RawPause>,
    /// What to find out.
    #[serde(default, rename = "experiment")]
    pub(super) experiments: Vec<RawExperiment>,
}

/// `[capture]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCapture {
    pub(super) ports: Option<Spanned<Vec<u16>>>,
    pub(super) hook: Option<Spanned<String>>,
    pub(super) cgroup: Option<Spanned<String>>,
    pub(super) interfaces: Option<Spanned<Vec<String>>>,
    pub(super) flow_sample: Option<Spanned<String>>,
    pub(super) ring_bytes: Option<Spanned<u32>>,
    pub(super) nice: Option<Spanned<i32>>,
    pub(super) cpu_max: Option<Spanned<String>>,
    pub(super) loss_max: Option<Spanned<String>>,
    pub(super) excess_min: Option<Spanned<String>>,
    pub(super) calm_min: Option<Spanned<String>>,
    pub(super) block_bytes_max: Option<usize>,
    pub(super) fragment_datagrams_max: Option<usize>,
    pub(super) fragment_bytes_max: Option<usize>,
    pub(super) fragment_pieces_max: Option<usize>,
    pub(super) fragment_wait_max: Option<Spanned<String>>,
    pub(super) flows_max: Option<usize>,
    pub(super) flow_waiting_bytes_max: Option<usize>,
    pub(super) flow_waiting_pieces_max: Option<usize>,
    pub(super) waiting_bytes_max: Option<usize>,
    pub(super) undecided_bytes_max: Option<usize>,
    pub(super) gap_wait_max: Option<Spanned<String>>,
    pub(super) idle_max: Option<Spanned<String>>,
    pub(super) linger: Option<Spanned<String>>,
    pub(super) head_bytes_max: Option<usize>,
    pub(super) body_kept_max: Option<usize>,
    pub(super) pipelined_max: Option<usize>,
    pub(super) interim_max: Option<usize>,
    pub(super) kept_bytes_max: Option<usize>,
    pub(super) heads_kept_max: Option<usize>,
}

/// `[journal]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJournal {
    pub(super) path: Option<PathBuf>,
    pub(super) comparisons_max: Option<u64>,
    pub(super) runs_max: Option<u64>,
    pub(super) causes_max: Option<usize>,
    pub(super) examples_per_cause_max: Option<usize>,
    pub(super) example_head_bytes_max: Option<usize>,
    pub(super) example_body_bytes_max: Option<usize>,
    pub(super) example_answer_bytes_max: Option<usize>,
    pub(super) answers_bytes_max: Option<u64>,
    pub(super) waiting_max: Option<usize>,
    pub(super) waiting_bytes_max: Option<usize>,
}

/// `[record]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRecord {
    pub(super) file_bytes_max: Option<u64>,
    pub(super) waiting_max: Option<usize>,
    pub(super) waiting_bytes_max: Option<usize>,
}

/// Puts a value that the file gives in the place of a default.
pub(super) fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *place = value;
    }
}

pub(super) fn set_duration(
    place: &mut Duration,
    key: &str,
    given: Option<&Spanned<String>>,
) -> Result<(), Fault> {
    if let Some(text) = given {
        *place = humantime::parse_duration(text.get_ref()).map_err(|error| Fault {
            key: key.to_owned(),
            span: text.span(),
            problem: format!("`{}` is not a duration such as `200ms` or `5s`: {error}", text.get_ref()),
        })?;
    }
    Ok(())
}

pub(super) fn fraction(key: &str, text: &Spanned<String>) -> Result<f64, Fault> {
    Sample::parse_fraction(text.get_ref()).map_err(|error| Fault {
        key: key.to_owned(),
        span: text.span(),
        problem: error.to_string(),
    })
}

// === impl RawConfig ===

impl RawConfig {
    /// Checks everything and fills in the defaults.
    pub(super) fn finish(self) -> Result<Config, Fault> {
        let Self { capture, admin, journal, record, queue, spool, redact, protect, pauses, experiments } =
            self;
        let has_queue = queue.is_some();
        let mut capture = capture.finish()?;
        let protect = protect.finish(pauses, &mut capture.governor)?;
        let (admin, observe) = admin.finish(credentials_directory().as_deref())?;
        let mut finished: Vec<ExperimentConfig> = Vec::new();
        for (index, experiment) in experiments.into_iter().enumerate() {
            let span = experiment.name.as_ref().map_or(0..0, Spanned::span);
            for experiment in experiment.finish(index)? {
                if finished.iter().any(|other| other.name == experiment.name) {
                    let problem =
                        format!("two experiments are named `{}`; names must differ", experiment.name);
                    return Err(Fault { key: "experiment.name".to_owned(), span, problem });
                }
                finished.push(experiment);
            }
        }
        Ok(Config {
            capture,
            admin,
            observe,
            journal: journal.finish(),
            experiments: finished,
            speed: 1.0,
            record: record.finish(),
            queue: queue.map(RawQueue::finish).transpose()?,
            spool: spool.finish()?,
            redact: redact.finish(has_queue)?,
            protect,
        })
    }
}

// === impl RawCapture ===

impl RawCapture {
    fn finish(self) -> Result<CaptureConfig, Fault> {
        let mut config = CaptureConfig::default();
        let CaptureConfig { input: _, nice, governor, kernel, pcap, fragments, stream, http } = &mut config;
        if let Some(ports) = self.ports {
            if ports.get_ref().is_empty() || ports.get_ref().contains(&0) {
                let problem = "must name at least one port from 1 to 65535".to_owned();
                return Err(Fault { key: "capture.ports".to_owned(), span: ports.span(), problem });
            }
            kernel.ports = ports.into_inner();
        }
        kernel.hook = hook::finish(self.hook, self.cgroup, self.interfaces)?;
        if let Some(sample) = &self.flow_sample {
            let share = fraction("capture.flow_sample", sample)?;
            kernel.flow_sample = FlowSample::from_fraction(share).unwrap_or(FlowSample::ALL);
        }
        if let Some(given) = self.nice {
            if !(0..=19).contains(given.get_ref()) {
                let problem =
                    "must be from 0 (like any other thread) to 19 (only what nobody else needs)".to_owned();
                return Err(Fault { key: "capture.nice".to_owned(), span: given.span(), problem });
            }
            *nice = given.into_inner();
        }
        if let Some(part) = &self.cpu_max {
            governor.cpu_max = fraction("capture.cpu_max", part)?;
        }
        if let Some(part) = &self.loss_max {
            governor.loss_max = fraction("capture.loss_max", part)?;
        }
        set_duration(&mut governor.excess_min, "capture.excess_min", self.excess_min.as_ref())?;
        set_duration(&mut governor.calm_min, "capture.calm_min", self.calm_min.as_ref())?;
        if let Some(ring) = self.ring_bytes {
            if !ring.get_ref().is_power_of_two() || *ring.get_ref() < 4096 || *ring.get_ref() > 1 << 30 {
                let problem = "must be a power of two from 4096 to 1073741824".to_owned();
                return Err(Fault { key: "capture.ring_bytes".to_owned(), span: ring.span(), problem });
            }
            kernel.ring_bytes = ring.into_inner();
        }
        set(&mut pcap.block_bytes_max, self.block_bytes_max);
        set(&mut fragments.datagrams_max, self.fragment_datagrams_max);
        set(&mut fragments.bytes_max, self.fragment_bytes_max);
        set(&mut fragments.pieces_max, self.fragment_pieces_max);
        let fragment_wait = self.fragment_wait_max.as_ref();
        set_duration(&mut fragments.wait_max, "capture.fragment_wait_max", fragment_wait)?;
        set(&mut stream.flows_max, self.flows_max);
        set(&mut stream.flow_waiting_bytes_max, self.flow_waiting_bytes_max);
        set(&mut stream.flow_waiting_pieces_max, self.flow_waiting_pieces_max);
        set(&mut stream.waiting_bytes_max, self.waiting_bytes_max);
        set(&mut stream.undecided_bytes_max, self.undecided_bytes_max);
        set_duration(&mut stream.gap_wait_max, "capture.gap_wait_max", self.gap_wait_max.as_ref())?;
        set_duration(&mut stream.idle_max, "capture.idle_max", self.idle_max.as_ref())?;
        set_duration(&mut stream.linger, "capture.linger", self.linger.as_ref())?;
        set(&mut http.head_bytes_max, self.head_bytes_max);
        set(&mut http.body_kept_max, self.body_kept_max);
        set(&mut http.pipelined_max, self.pipelined_max);
        set(&mut http.interim_max, self.interim_max);
        set(&mut http.kept_bytes_max, self.kept_bytes_max);
        set(&mut http.heads_kept_max, self.heads_kept_max);
        Ok(config)
    }
}

// === impl RawJournal ===

impl RawJournal {
    fn finish(self) -> JournalConfig {
        let path = self.path.unwrap_or_else(|| PathBuf::from(JOURNAL_DEFAULT));
        let mut limits = JournalLimits::default();
        set(&mut limits.comparisons_max, self.comparisons_max);
        set(&mut limits.runs_max, self.runs_max);
        set(&mut limits.causes_max, self.causes_max);
        set(&mut limits.examples_per_cause_max, self.examples_per_cause_max);
        set(&mut limits.example_head_bytes_max, self.example_head_bytes_max);
        set(&mut limits.example_body_bytes_max, self.example_body_bytes_max);
        set(&mut limits.example_answer_bytes_max, self.example_answer_bytes_max);
        set(&mut limits.answers_bytes_max, self.answers_bytes_max);
        let mut handover = HandoverLimits::default();
        set(&mut handover.waiting_max, self.waiting_max);
        set(&mut handover.waiting_bytes_max, self.waiting_bytes_max);
        JournalConfig { path, limits, handover }
    }
}

// === impl RawRecord ===

impl RawRecord {
    fn finish(self) -> RecordConfig {
        let Self { file_bytes_max, waiting_max, waiting_bytes_max } = self;
        let mut config = RecordConfig::default();
        set(&mut config.limits.file_bytes_max, file_bytes_max);
        set(&mut config.queue.exchanges_max, waiting_max);
        set(&mut config.queue.bytes_max, waiting_bytes_max);
        config
    }
}
