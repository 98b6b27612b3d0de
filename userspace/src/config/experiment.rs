//! `[[experiment]]` word by word, and its check.
//!
//! Whatever a part refuses is shown with the line of the value that it refuses.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::compare::{RawCompare, authorities};
use super::credentials::RawCredentials;
use super::error::Fault;
use super::noise::RawNoise;
use super::raw::{fraction, set, set_duration};
use super::redact::sent_secrets;
use super::verdict::verdict;
use crate::branch::{BranchConfigError, CapturedPorts, HostPolicy, HttpBranch, HttpBranchConfig};
use crate::compare::CompareConfig;
use crate::pipeline::replay::ReplayLimits;
use crate::pipeline::settings::ExperimentConfig;
use crate::queue::memory::MemoryQueueLimits;
use crate::report::VerdictPolicy;
use crate::select::{Ramp, Sample, SelectConfig, SelectConfigError, Selector};

/// `[[experiment]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExperiment {
    pub(super) name: Option<Spanned<String>>,
    pub(super) methods: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) routes: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) headers: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) run_if: Vec<Spanned<String>>,
    pub(super) sample: Option<Spanned<String>>,
    pub(super) sample_by: Option<Spanned<String>>,
    pub(super) ramp: Option<Spanned<RawRamp>>,
    #[serde(default)]
    pub(super) context: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(super) candidate: Option<Spanned<RawCandidate>>,
    pub(super) twin: Option<Spanned<RawCandidate>>,
    #[serde(default)]
    pub(super) candidates: Vec<Spanned<RawCandidate>>,
    #[serde(default)]
    pub(super) replay: RawReplay,
    #[serde(default)]
    pub(super) queue: RawQueue,
    #[serde(default)]
    pub(super) compare: RawCompare,
    #[serde(default)]
    pub(super) noise: RawNoise,
    pub(super) verdict: Option<Spanned<VerdictPolicy>>,
}

/// `ramp = { from = "1%", to = "25%", over = "10m" }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRamp {
    from: Spanned<String>,
    to: Spanned<String>,
    over: Spanned<String>,
}

/// `[experiment.candidate]`, or one of `[[experiment.candidates]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCandidate {
    /// Only where there are several.
    pub(super) name: Option<Spanned<String>>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) isolated: bool,
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) credentials: RawCredentials,
    pub(super) secrets: Option<Spanned<String>>,
    pub(super) idle_connections_max: Option<usize>,
    pub(super) idle_max: Option<Spanned<String>>,
    pub(super) body_kept_max: Option<usize>,
    pub(super) head_bytes_max: Option<usize>,
    pub(super) head_fields_max: Option<usize>,
}

/// `[experiment.replay]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReplay {
    pub(super) lag: Option<Spanned<String>>,
    pub(super) in_flight_max: Option<Spanned<usize>>,
    pub(super) response_wait_max: Option<Spanned<String>>,
    pub(super) slot_wait_max: Option<Spanned<String>>,
    pub(super) requests_per_second_max: Option<Spanned<u32>>,
    pub(super) waiting_max: Option<Spanned<usize>>,
    pub(super) drain_max: Option<Spanned<String>>,
    pub(super) breaker_failures_max: Option<u32>,
    pub(super) breaker_pause_min: Option<Spanned<String>>,
    pub(super) breaker_pause_max: Option<Spanned<String>>,
}

/// `[experiment.queue]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueue {
    pub(super) exchanges_max: Option<usize>,
    pub(super) bytes_max: Option<usize>,
}

/// Candidates that one experiment may name: each has a queue, a replay and a journal's share of its own.
const CANDIDATES_MAX: usize = 8;

/// Labels that one experiment may have, and bytes of a key and of a value.
const CONTEXT_LABELS_MAX: usize = 16;
const CONTEXT_KEY_BYTES_MAX: usize = 64;
const CONTEXT_VALUE_BYTES_MAX: usize = 256;

/// How far B runs behind A when nothing else is said.
const LAG_DEFAULT: Duration = Duration::from_millis(200);

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

pub(super) fn plain(list: &[Spanned<String>]) -> Vec<String> {
    list.iter().map(|item| item.get_ref().clone()).collect()
}

/// Where `text` stands in one of the lists.
pub(super) fn span_of(text: &str, lists: &[&[Spanned<String>]]) -> Range<usize> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    items.find(|item| item.get_ref() == text).map_or(0..0, Spanned::span)
}

/// An error's message with those of its sources.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}

// === impl RawExperiment ===

impl RawExperiment {
    /// One configuration for each candidate. With several, each is an experiment of its own, named
    /// `experiment/candidate`.
    pub(super) fn finish(self, index: usize) -> Result<Vec<ExperimentConfig>, Fault> {
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
        let name_span = self.name.as_ref().map_or(0..0, Spanned::span);
        let candidates = candidates(&name, name_span, self.candidate, self.candidates)?;
        let isolated = candidates.iter().any(|(_, _, isolated)| *isolated);
        let twin = self.twin.map(|twin| twin_of(twin, isolated)).transpose()?;

        let select = SelectConfig {
            methods: self.methods.as_deref().map(plain),
            routes: plain(&self.routes),
            hosts: plain(&self.hosts),
            headers: plain(&self.headers),
            run_if: plain(&self.run_if),
            sample: sample(self.sample.as_ref(), self.sample_by.as_ref(), self.ramp)?,
            isolated: false,
        };
        let methods = self.methods.as_deref().unwrap_or_default();
        Selector::new(select.clone()).map_err(|error| {
            select_fault(&error, methods, &self.routes, &self.hosts, &self.headers, &self.run_if)
        })?;

        let context = context(self.context)?;
        let (compare, comparator) = self.compare.finish()?;
        let (lag, mut replay) = self.replay.finish()?;
        let mut queue = MemoryQueueLimits::default();
        set(&mut queue.exchanges_max, self.queue.exchanges_max);
        set(&mut queue.bytes_max, self.queue.bytes_max);
        // The bound is the experiment's, however many candidates share it.
        queue.exchanges_max = queue.exchanges_max.div_ceil(candidates.len());
        queue.bytes_max = queue.bytes_max.div_ceil(candidates.len());
        let verdict = self.verdict.map(verdict).transpose()?.unwrap_or_default();
        let (noise, again) = self.noise.finish()?;
        replay.again = again;
        let one = |(name, candidate, isolated): (String, HttpBranchConfig, bool)| ExperimentConfig {
            name,
            select: SelectConfig { isolated, ..select.clone() },
            compare: CompareConfig {
                candidate_authorities: authorities(&candidate, twin.as_ref()),
                ..compare.clone()
            },
            candidate,
            twin: twin.clone(),
            lag,
            replay,
            queue,
            comparator: comparator.clone(),
            noise: noise.clone(),
            context: context.clone(),
            verdict: verdict.clone(),
        };
        Ok(candidates.into_iter().map(one).collect())
    }
}

/// Name of the experiment, candidate, and whether that is isolated, for each candidate.
fn candidates(
    experiment: &str,
    span: Range<usize>,
    one: Option<Spanned<RawCandidate>>,
    several: Vec<Spanned<RawCandidate>>,
) -> Result<Vec<(String, HttpBranchConfig, bool)>, Fault> {
    let fault = |key: &str, span: Range<usize>, problem: String| {
        Err(Fault { key: format!("experiment.{key}"), span, problem })
    };
    let candidate = match (one, several.first()) {
        (Some(candidate), None) => candidate,
        (None, Some(_)) => return named_candidates(experiment, several),
        (Some(_), Some(second)) => {
            let problem = "give `candidate` or `candidates`, not both".to_owned();
            return fault("candidates", second.span(), problem);
        }
        (None, None) => {
            let problem = format!(
                "experiment `{experiment}` names no candidate: add candidate = {{ url = \"http://…\" }}"
            );
            return fault("candidate", span, problem);
        }
    };
    let span = candidate.span();
    if let Some(name) = &candidate.get_ref().name {
        let problem = "a name is for one of several: use [[experiment.candidates]]".to_owned();
        return fault("candidate.name", name.span(), problem);
    }
    let (config, isolated) = candidate.into_inner().finish("candidate", span)?;
    Ok(vec![(experiment.to_owned(), config, isolated)])
}

fn named_candidates(
    experiment: &str,
    several: Vec<Spanned<RawCandidate>>,
) -> Result<Vec<(String, HttpBranchConfig, bool)>, Fault> {
    let mut named: Vec<(String, HttpBranchConfig, bool)> = Vec::new();
    let count = several.len();
    for candidate in several {
        let span = candidate.span();
        let fault = |key: &str, span: Range<usize>, problem: String| {
            Err(Fault { key: format!("experiment.{key}"), span, problem })
        };
        if count > CANDIDATES_MAX {
            return fault(
                "candidates",
                span,
                format!("at most {CANDIDATES_MAX} candidates may be named, not {count}"),
            );
        }
        let Some(name) = candidate.get_ref().name.clone() else {
            return fault("candidates.name", span, "each of several candidates needs a name".to_owned());
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.get_ref().is_empty() || !name.get_ref().chars().all(is_plain) {
            let problem = "must be letters, digits, `-`, `_` and `.`".to_owned();
            return fault("candidates.name", name.span(), problem);
        }
        let full = format!("{experiment}/{}", name.get_ref());
        if named.iter().any(|(known, _, _)| *known == full) {
            let problem = format!("two candidates are named `{}`", name.get_ref());
            return fault("candidates.name", name.span(), problem);
        }
        let (config, isolated) = candidate.into_inner().finish("candidates", span)?;
        named.push((full, config, isolated));
    }
    Ok(named)
}

/// Labels within their bounds.
fn context(given: BTreeMap<Spanned<String>, Spanned<String>>) -> Result<BTreeMap<String, String>, Fault> {
    let count = given.len();
    let mut context = BTreeMap::new();
    for (key, value) in given {
        let problem = if count > CONTEXT_LABELS_MAX {
            format!("at most {CONTEXT_LABELS_MAX} labels may be given, not {count}")
        } else if key.get_ref().is_empty() || key.get_ref().len() > CONTEXT_KEY_BYTES_MAX {
            format!("a label's name must have 1 to {CONTEXT_KEY_BYTES_MAX} bytes")
        } else if value.get_ref().len() > CONTEXT_VALUE_BYTES_MAX {
            format!("a label must have at most {CONTEXT_VALUE_BYTES_MAX} bytes")
        } else {
            context.insert(key.into_inner(), value.into_inner());
            continue;
        };
        return Err(Fault { key: "experiment.context".to_owned(), span: key.span(), problem });
    }
    Ok(context)
}

/// A twin gets what the candidate gets, so it must be as safe to send to.
fn twin_of(twin: Spanned<RawCandidate>, isolated: bool) -> Result<HttpBranchConfig, Fault> {
    let span = twin.span();
    let (config, twin_isolated) = twin.into_inner().finish("twin", span.clone())?;
    if isolated && !twin_isolated {
        return Err(Fault {
            key: "experiment.twin".to_owned(),
            span,
            problem:
                "the candidate is declared isolated, so the twin gets methods with effects too: declare it \
                      isolated = true as well, once it has an environment of its own"
                    .to_owned(),
        });
    }
    Ok(config)
}

fn sample(
    share: Option<&Spanned<String>>,
    by: Option<&Spanned<String>>,
    ramp: Option<Spanned<RawRamp>>,
) -> Result<Sample, Fault> {
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
    let Some(ramp) = ramp else { return Ok(sample) };
    let key = |key: &str| format!("experiment.{key}");
    if share.is_some() {
        let problem = "give `sample` or `ramp`, not both".to_owned();
        return Err(Fault { key: key("ramp"), span: ramp.span(), problem });
    }
    let RawRamp { from, to, over } = ramp.into_inner();
    let begin = fraction(&key("ramp.from"), &from)?;
    sample.fraction = fraction(&key("ramp.to"), &to)?;
    if begin > sample.fraction {
        let problem = "must not be above `to`: a ramp only grows".to_owned();
        return Err(Fault { key: key("ramp.from"), span: from.span(), problem });
    }
    let mut time = Duration::ZERO;
    set_duration(&mut time, &key("ramp.over"), Some(&over))?;
    sample.ramp = Some(Ramp { from: begin, over: time });
    Ok(sample)
}

fn select_fault(
    error: &SelectConfigError,
    methods: &[Spanned<String>],
    routes: &[Spanned<String>],
    hosts: &[Spanned<String>],
    headers: &[Spanned<String>],
    run_if: &[Spanned<String>],
) -> Fault {
    let (key, span) = match error {
        SelectConfigError::Method { method } => ("methods", span_of(method, &[methods])),
        SelectConfigError::RouteStart { pattern } | SelectConfigError::RoutePath { pattern, source: _ } => {
            ("routes", span_of(pattern, &[routes]))
        }
        SelectConfigError::Regex { pattern, source: _ } => {
            let in_routes = routes.iter().any(|route| route.get_ref() == pattern);
            let in_headers = headers.iter().any(|condition| condition.get_ref() == pattern);
            let key = match (in_routes, in_headers) {
                (true, _) => "routes",
                (false, true) => "headers",
                (false, false) => "run_if",
            };
            (key, span_of(pattern, &[routes, headers, run_if]))
        }
        SelectConfigError::Host { host } => ("hosts", span_of(host, &[hosts])),
        SelectConfigError::Header { condition } => ("headers", span_of(condition, &[headers])),
        SelectConfigError::RunIf { condition } => ("run_if", span_of(condition, &[run_if])),
        SelectConfigError::Sample { sample: _ } => ("sample", 0..0),
        SelectConfigError::SampleKey { key: _ } => ("sample_by", 0..0),
    };
    Fault { key: format!("experiment.{key}"), span, problem: with_sources(error) }
}

// === impl RawCandidate ===

impl RawCandidate {
    /// The candidate or the twin, and whether it is isolated.
    fn finish(self, part: &str, span: Range<usize>) -> Result<(HttpBranchConfig, bool), Fault> {
        let mut config = HttpBranchConfig::new(self.url);
        config.host = match self.host.as_deref() {
            None | Some("keep") => HostPolicy::Keep,
            Some("target") => HostPolicy::Target,
            Some(name) => HostPolicy::Name(name.to_owned()),
        };
        config.headers = self.headers.into_iter().collect();
        config.credentials = self.credentials.finish(part, &span)?;
        config.secrets = sent_secrets(part, self.secrets.as_ref())?;
        let limits = &mut config.limits;
        set(&mut limits.idle_connections_max, self.idle_connections_max);
        set_duration(&mut limits.idle_max, &format!("experiment.{part}.idle_max"), self.idle_max.as_ref())?;
        set(&mut limits.body_kept_max, self.body_kept_max);
        set(&mut limits.head_bytes_max, self.head_bytes_max);
        set(&mut limits.head_fields_max, self.head_fields_max);
        // The captured ports are guarded when the branch is made; here only its own words are checked.
        HttpBranch::new(config.clone(), CapturedPorts::default()).map_err(|error: BranchConfigError| {
            Fault { key: format!("experiment.{part}"), span, problem: with_sources(&error) }
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
