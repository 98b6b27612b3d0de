//! The configuration file word by word, and its check.
//!
//! Gives no default of its own: what the file leaves out comes from the part that the key belongs to.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::branch::{BranchConfigError, CapturedPorts, HostPolicy, HttpBranch, HttpBranchConfig};
use crate::capture::FlowSample;
use crate::compare::{Comparator, CompareConfig, CompareConfigError};
use crate::pipeline::replay::ReplayLimits;
use crate::report::VerdictPolicy;
use crate::select::{Sample, SelectConfig, SelectConfigError, Selector};

use super::error::Fault;
use super::{ADMIN_DEFAULT, JOURNAL_DEFAULT};
use crate::journal::JournalLimits;
use crate::pipeline::settings::{CaptureConfig, Config, ExperimentConfig, JournalConfig};
use crate::queue::memory::MemoryQueueLimits;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    /// What to capture.
    #[serde(default)]
    pub capture: RawCapture,
    /// The admin listener.
    #[serde(default)]
    pub admin: RawAdmin,
    /// Where results are kept.
    #[serde(default)]
    pub journal: RawJournal,
    /// What to find out.
    #[serde(default, rename = "experiment")]
    pub experiments: Vec<RawExperiment>,
}

/// `[capture]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawCapture {
    pub ports: Option<Spanned<Vec<u16>>>,
    pub cgroup: Option<String>,
    pub flow_sample: Option<Spanned<String>>,
    pub ring_bytes: Option<Spanned<u32>>,
    pub flows_max: Option<usize>,
    pub flow_waiting_bytes_max: Option<usize>,
    pub flow_waiting_pieces_max: Option<usize>,
    pub waiting_bytes_max: Option<usize>,
    pub gap_wait_max: Option<Spanned<String>>,
    pub idle_max: Option<Spanned<String>>,
    pub linger: Option<Spanned<String>>,
    pub head_bytes_max: Option<usize>,
    pub body_kept_max: Option<usize>,
    pub pipelined_max: Option<usize>,
    pub interim_max: Option<usize>,
    pub kept_bytes_max: Option<usize>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawAdmin {
    pub listen: Option<Spanned<String>>,
}

/// `[journal]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawJournal {
    pub path: Option<PathBuf>,
    pub comparisons_max: Option<u64>,
    pub runs_max: Option<u64>,
    pub causes_max: Option<usize>,
    pub examples_per_cause_max: Option<usize>,
    pub example_head_bytes_max: Option<usize>,
    pub example_body_bytes_max: Option<usize>,
}

/// `[[experiment]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawExperiment {
    pub name: Option<Spanned<String>>,
    pub methods: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub routes: Vec<Spanned<String>>,
    #[serde(default)]
    pub hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub headers: Vec<Spanned<String>>,
    pub sample: Option<Spanned<String>>,
    pub sample_by: Option<Spanned<String>>,
    pub candidate: Option<Spanned<RawCandidate>>,
    #[serde(default)]
    pub replay: RawReplay,
    #[serde(default)]
    pub queue: RawQueue,
    #[serde(default)]
    pub compare: RawCompare,
    pub verdict: Option<Spanned<VerdictPolicy>>,
}

/// `[experiment.candidate]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawCandidate {
    pub url: String,
    #[serde(default)]
    pub isolated: bool,
    pub host: Option<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub idle_connections_max: Option<usize>,
    pub idle_max: Option<Spanned<String>>,
    pub body_kept_max: Option<usize>,
    pub head_bytes_max: Option<usize>,
    pub head_fields_max: Option<usize>,
}

/// `[experiment.replay]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawReplay {
    pub lag: Option<Spanned<String>>,
    pub in_flight_max: Option<Spanned<usize>>,
    pub response_wait_max: Option<Spanned<String>>,
    pub slot_wait_max: Option<Spanned<String>>,
    pub requests_per_second_max: Option<Spanned<u32>>,
    pub waiting_max: Option<Spanned<usize>>,
    pub drain_max: Option<Spanned<String>>,
    pub breaker_failures_max: Option<u32>,
    pub breaker_pause_min: Option<Spanned<String>>,
    pub breaker_pause_max: Option<Spanned<String>>,
}

/// `[experiment.queue]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawQueue {
    pub exchanges_max: Option<usize>,
    pub bytes_max: Option<usize>,
}

/// `[experiment.compare]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the keys are described in the template")]
pub struct RawCompare {
    #[serde(default)]
    pub ignore: Vec<Spanned<String>>,
    #[serde(default)]
    pub unordered: Vec<Spanned<String>>,
    #[serde(default)]
    pub headers_plus: Vec<Spanned<String>>,
    #[serde(default)]
    pub headers_minus: Vec<Spanned<String>>,
    pub decoded_bytes_max: Option<usize>,
    pub codings_max: Option<usize>,
    pub depth_max: Option<usize>,
    pub values_max: Option<usize>,
    pub align_steps_max: Option<usize>,
    pub differences_max: Option<usize>,
    pub differences_per_path_max: Option<usize>,
    pub value_bytes_max: Option<usize>,
    pub path_bytes_max: Option<usize>,
}

/// How far B runs behind A when nothing else is said.
const LAG_DEFAULT: Duration = Duration::from_millis(200);

/// Puts a value that the file gives in the place of a default.
fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *place = value;
    }
}

fn set_duration(place: &mut Duration, key: &str, given: Option<&Spanned<String>>) -> Result<(), Fault> {
    if let Some(text) = given {
        *place = humantime::parse_duration(text.get_ref()).map_err(|error| Fault {
            key: key.to_owned(),
            span: text.span(),
            problem: format!("`{}` is not a duration such as `200ms` or `5s`: {error}", text.get_ref()),
        })?;
    }
    Ok(())
}

fn set_positive(place: &mut usize, key: &str, given: Option<&Spanned<usize>>) -> Result<(), Fault> {
    if let Some(value) = given {
        if *value.get_ref() == 0 {
            let problem = "must be at least 1".to_owned();
            return Err(Fault { key: key.to_owned(), span: value.span(), problem });
        }
        *place = *value.get_ref();
    }
    Ok(())
}

fn fraction(key: &str, text: &Spanned<String>) -> Result<f64, Fault> {
    Sample::parse_fraction(text.get_ref()).map_err(|error| Fault {
        key: key.to_owned(),
        span: text.span(),
        problem: error.to_string(),
    })
}

fn plain(list: &[Spanned<String>]) -> Vec<String> {
    list.iter().map(|item| item.get_ref().clone()).collect()
}

/// Where `text` stands in one of the lists.
fn span_of(text: &str, lists: &[&[Spanned<String>]]) -> Range<usize> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    items.find(|item| item.get_ref() == text).map_or(0..0, Spanned::span)
}

/// An error's message with those of its sources.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

// === impl RawConfig ===

impl RawConfig {
    /// Checks everything and fills in the defaults.
    pub(super) fn finish(self) -> Result<Config, Fault> {
        let Self { capture, admin, journal, experiments } = self;
        let capture = capture.finish()?;
        let mut finished: Vec<ExperimentConfig> = Vec::new();
        for (index, experiment) in experiments.into_iter().enumerate() {
            let span = experiment.name.as_ref().map_or(0..0, Spanned::span);
            let experiment = experiment.finish(index)?;
            if finished.iter().any(|other| other.name == experiment.name) {
                let problem = format!("two experiments are named `{}`; names must differ", experiment.name);
                return Err(Fault { key: "experiment.name".to_owned(), span, problem });
            }
            finished.push(experiment);
        }
        Ok(Config { capture, admin: admin.finish()?, journal: journal.finish(), experiments: finished })
    }
}

// === impl RawCapture ===

impl RawCapture {
    fn finish(self) -> Result<CaptureConfig, Fault> {
        let mut config = CaptureConfig::default();
        let CaptureConfig { kernel, stream, http } = &mut config;
        if let Some(ports) = self.ports {
            if ports.get_ref().is_empty() || ports.get_ref().contains(&0) {
                let problem = "must name at least one port from 1 to 65535".to_owned();
                return Err(Fault { key: "capture.ports".to_owned(), span: ports.span(), problem });
            }
            kernel.ports = ports.into_inner();
        }
        if let Some(cgroup) = self.cgroup {
            let Ok(cgroup) = cgroup.parse();
            kernel.cgroup = cgroup;
        }
        if let Some(sample) = &self.flow_sample {
            let share = fraction("capture.flow_sample", sample)?;
            kernel.flow_sample = FlowSample::from_fraction(share).unwrap_or(FlowSample::ALL);
        }
        if let Some(ring) = self.ring_bytes {
            if !ring.get_ref().is_power_of_two() || *ring.get_ref() < 4096 || *ring.get_ref() > 1 << 30 {
                let problem = "must be a power of two from 4096 to 1073741824".to_owned();
                return Err(Fault { key: "capture.ring_bytes".to_owned(), span: ring.span(), problem });
            }
            kernel.ring_bytes = ring.into_inner();
        }
        set(&mut stream.flows_max, self.flows_max);
        set(&mut stream.flow_waiting_bytes_max, self.flow_waiting_bytes_max);
        set(&mut stream.flow_waiting_pieces_max, self.flow_waiting_pieces_max);
        set(&mut stream.waiting_bytes_max, self.waiting_bytes_max);
        set_duration(&mut stream.gap_wait_max, "capture.gap_wait_max", self.gap_wait_max.as_ref())?;
        set_duration(&mut stream.idle_max, "capture.idle_max", self.idle_max.as_ref())?;
        set_duration(&mut stream.linger, "capture.linger", self.linger.as_ref())?;
        set(&mut http.head_bytes_max, self.head_bytes_max);
        set(&mut http.body_kept_max, self.body_kept_max);
        set(&mut http.pipelined_max, self.pipelined_max);
        set(&mut http.interim_max, self.interim_max);
        set(&mut http.kept_bytes_max, self.kept_bytes_max);
        Ok(config)
    }
}

// === impl RawAdmin ===

impl RawAdmin {
    fn finish(self) -> Result<Option<SocketAddr>, Fault> {
        let listen = self.listen.unwrap_or_else(|| Spanned::new(0..0, ADMIN_DEFAULT.to_owned()));
        match listen.get_ref().as_str() {
            "off" => Ok(None),
            text => text.parse().map(Some).map_err(|error: std::net::AddrParseError| Fault {
                key: "admin.listen".to_owned(),
                span: listen.span(),
                problem: format!(
                    "`{text}` must be an address and a port such as `{ADMIN_DEFAULT}`, or `off`: {error}"
                ),
            }),
        }
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
        JournalConfig { path, limits }
    }
}

// === impl RawExperiment ===

impl RawExperiment {
    fn finish(self, index: usize) -> Result<ExperimentConfig, Fault> {
        let key = |key: &str| format!("experiment.{key}");
        let name = match &self.name {
            Some(name) if name.get_ref().trim().is_empty() => {
                let problem = "must not be empty".to_owned();
                return Err(Fault { key: key("name"), span: name.span(), problem });
            }
            Some(name) => name.get_ref().clone(),
            None if index == 0 => "default".to_owned(),
            None => format!("experiment-{}", index.saturating_add(1)),
        };
        let Some(candidate) = self.candidate else {
            let span = self.name.as_ref().map_or(0..0, Spanned::span);
            let problem =
                format!("experiment `{name}` names no candidate: add candidate = {{ url = \"http://…\" }}");
            return Err(Fault { key: key("candidate"), span, problem });
        };
        let candidate_span = candidate.span();
        let (candidate, isolated) = candidate.into_inner().finish(candidate_span)?;

        let select = SelectConfig {
            methods: self.methods.as_deref().map(plain),
            routes: plain(&self.routes),
            hosts: plain(&self.hosts),
            headers: plain(&self.headers),
            sample: sample(self.sample.as_ref(), self.sample_by.as_ref())?,
            isolated,
        };
        let methods = self.methods.as_deref().unwrap_or_default();
        Selector::new(select.clone())
            .map_err(|error| select_fault(&error, methods, &self.routes, &self.hosts, &self.headers))?;

        let compare = self.compare.finish(&candidate)?;
        let (lag, replay) = self.replay.finish()?;
        let mut queue = MemoryQueueLimits::default();
        set(&mut queue.exchanges_max, self.queue.exchanges_max);
        set(&mut queue.bytes_max, self.queue.bytes_max);
        let verdict = self.verdict.map(Spanned::into_inner).unwrap_or_default();
        Ok(ExperimentConfig { name, select, candidate, lag, replay, queue, compare, verdict })
    }
}

fn sample(share: Option<&Spanned<String>>, by: Option<&Spanned<String>>) -> Result<Sample, Fault> {
    let mut sample = Sample::default();
    if let Some(share) = share {
        sample.fraction = fraction("experiment.sample", share)?;
    }
    if let Some(by) = by {
        sample.by = by.get_ref().parse().map_err(|error: SelectConfigError| Fault {
            key: "experiment.sample_by".to_owned(),
            span: by.span(),
            problem: error.to_string(),
        })?;
    }
    Ok(sample)
}

fn select_fault(
    error: &SelectConfigError,
    methods: &[Spanned<String>],
    routes: &[Spanned<String>],
    hosts: &[Spanned<String>],
    headers: &[Spanned<String>],
) -> Fault {
    let (key, span) = match error {
        SelectConfigError::Method { method } => ("methods", span_of(method, &[methods])),
        SelectConfigError::RouteStart { pattern } | SelectConfigError::RoutePath { pattern, source: _ } => {
            ("routes", span_of(pattern, &[routes]))
        }
        SelectConfigError::Regex { pattern, source: _ } => {
            let in_routes = routes.iter().any(|route| route.get_ref() == pattern);
            (if in_routes { "routes" } else { "headers" }, span_of(pattern, &[routes, headers]))
        }
        SelectConfigError::Host { host } => ("hosts", span_of(host, &[hosts])),
        SelectConfigError::Header { condition } => ("headers", span_of(condition, &[headers])),
        SelectConfigError::Sample { sample: _ } => ("sample", 0..0),
        SelectConfigError::SampleKey { key: _ } => ("sample_by", 0..0),
    };
    Fault { key: format!("experiment.{key}"), span, problem: with_sources(error) }
}

// === impl RawCandidate ===

impl RawCandidate {
    /// The candidate, and whether it is isolated.
    fn finish(self, span: Range<usize>) -> Result<(HttpBranchConfig, bool), Fault> {
        let mut config = HttpBranchConfig::new(self.url);
        config.host = match self.host.as_deref() {
            None | Some("keep") => HostPolicy::Keep,
            Some("target") => HostPolicy::Target,
            Some(name) => HostPolicy::Name(name.to_owned()),
        };
        config.headers = self.headers.into_iter().collect();
        let limits = &mut config.limits;
        set(&mut limits.idle_connections_max, self.idle_connections_max);
        set_duration(&mut limits.idle_max, "experiment.candidate.idle_max", self.idle_max.as_ref())?;
        set(&mut limits.body_kept_max, self.body_kept_max);
        set(&mut limits.head_bytes_max, self.head_bytes_max);
        set(&mut limits.head_fields_max, self.head_fields_max);
        // The captured ports are guarded when the branch is made; here only its own words are checked.
        HttpBranch::new(config.clone(), CapturedPorts::default()).map_err(|error: BranchConfigError| {
            Fault { key: "experiment.candidate".to_owned(), span, problem: with_sources(&error) }
        })?;
        Ok((config, self.isolated))
    }
}

// === impl RawReplay ===

impl RawReplay {
    fn finish(self) -> Result<(Duration, ReplayLimits), Fault> {
        let mut lag = LAG_DEFAULT;
        let mut limits = ReplayLimits::default();
        let key = |key: &str| format!("experiment.replay.{key}");
        set_duration(&mut lag, &key("lag"), self.lag.as_ref())?;
        set_positive(&mut limits.in_flight_max, &key("in_flight_max"), self.in_flight_max.as_ref())?;
        set_positive(&mut limits.waiting_max, &key("waiting_max"), self.waiting_max.as_ref())?;
        let wait = &mut limits.response_wait_max;
        set_duration(wait, &key("response_wait_max"), self.response_wait_max.as_ref())?;
        set_duration(&mut limits.slot_wait_max, &key("slot_wait_max"), self.slot_wait_max.as_ref())?;
        set_duration(&mut limits.drain_max, &key("drain_max"), self.drain_max.as_ref())?;
        if let Some(rate) = self.requests_per_second_max {
            let Some(per_second) = NonZeroU32::new(*rate.get_ref()) else {
                let problem = "must be at least 1; leave it out for no limit".to_owned();
                return Err(Fault { key: key("requests_per_second_max"), span: rate.span(), problem });
            };
            limits.requests_per_second_max = Some(per_second);
        }
        let breaker = &mut limits.breaker;
        set(&mut breaker.failures_max, self.breaker_failures_max);
        set_duration(&mut breaker.pause_min, &key("breaker_pause_min"), self.breaker_pause_min.as_ref())?;
        set_duration(&mut breaker.pause_max, &key("breaker_pause_max"), self.breaker_pause_max.as_ref())?;
        Ok((lag, limits))
    }
}

// === impl RawCompare ===

impl RawCompare {
    fn finish(self, candidate: &HttpBranchConfig) -> Result<CompareConfig, Fault> {
        let lists = [&self.ignore[..], &self.unordered, &self.headers_plus, &self.headers_minus];
        let authority =
            candidate.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').to_owned());
        let mut config = CompareConfig {
            ignore: plain(&self.ignore),
            unordered: plain(&self.unordered),
            headers_plus: plain(&self.headers_plus),
            headers_minus: plain(&self.headers_minus),
            candidate_authority: authority,
            ..CompareConfig::default()
        };
        let limits = &mut config.limits;
        set(&mut limits.decoded_bytes_max, self.decoded_bytes_max);
        set(&mut limits.codings_max, self.codings_max);
        set(&mut limits.depth_max, self.depth_max);
        set(&mut limits.values_max, self.values_max);
        set(&mut limits.align_steps_max, self.align_steps_max);
        set(&mut limits.differences_max, self.differences_max);
        set(&mut limits.differences_per_path_max, self.differences_per_path_max);
        set(&mut limits.value_bytes_max, self.value_bytes_max);
        set(&mut limits.path_bytes_max, self.path_bytes_max);
        Comparator::new(config.clone()).map_err(|error| {
            let (key, span) = match &error {
                CompareConfigError::Rule { list, rule, problem: _ } => (*list, span_of(rule, &lists)),
                CompareConfigError::HeaderName { list, name } => (*list, span_of(name, &lists)),
                CompareConfigError::Limit { key, least: _, most: _, value: _ } => (*key, 0..0),
            };
            Fault { key: format!("experiment.compare.{key}"), span, problem: error.to_string() }
        })?;
        Ok(config)
    }
}
