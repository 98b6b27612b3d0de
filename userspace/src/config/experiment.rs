//! `[[experiment]]` word by word, and its check.
//!
//! Whatever a part refuses is shown with the line of the value that it refuses.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::error::Fault;
use super::noise::RawNoise;
use super::raw::{fraction, set, set_duration};
use crate::branch::{BranchConfigError, CapturedPorts, HostPolicy, HttpBranch, HttpBranchConfig};
use crate::compare::{Comparator, CompareConfig, CompareConfigError};
use crate::pipeline::replay::ReplayLimits;
use crate::pipeline::settings::ExperimentConfig;
use crate::queue::memory::MemoryQueueLimits;
use crate::report::VerdictPolicy;
use crate::select::{Sample, SelectConfig, SelectConfigError, Selector};

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
    pub(super) sample: Option<Spanned<String>>,
    pub(super) sample_by: Option<Spanned<String>>,
    pub(super) candidate: Option<Spanned<RawCandidate>>,
    pub(super) twin: Option<Spanned<RawCandidate>>,
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

/// `[experiment.candidate]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCandidate {
    pub(super) url: String,
    #[serde(default)]
    pub(super) isolated: bool,
    pub(super) host: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
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

/// `[experiment.compare]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCompare {
    #[serde(default)]
    pub(super) ignore: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) unordered: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) headers_plus: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) headers_minus: Vec<Spanned<String>>,
    pub(super) decoded_bytes_max: Option<usize>,
    pub(super) codings_max: Option<usize>,
    pub(super) depth_max: Option<usize>,
    pub(super) values_max: Option<usize>,
    pub(super) align_steps_max: Option<usize>,
    pub(super) differences_max: Option<usize>,
    pub(super) differences_per_path_max: Option<usize>,
    pub(super) value_bytes_max: Option<usize>,
    pub(super) path_bytes_max: Option<usize>,
}

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

// === impl RawExperiment ===

impl RawExperiment {
    pub(super) fn finish(self, index: usize) -> Result<ExperimentConfig, Fault> {
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
        let (candidate, isolated) = candidate.into_inner().finish("candidate", candidate_span)?;
        let twin = self.twin.map(|twin| twin_of(twin, isolated)).transpose()?;

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
        let verdict = self.verdict.map(verdict).transpose()?.unwrap_or_default();
        let noise = self.noise.finish()?;
        Ok(ExperimentConfig { name, select, candidate, twin, lag, replay, queue, compare, noise, verdict })
    }
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

/// A policy that can be met and can be missed.
fn verdict(policy: Spanned<VerdictPolicy>) -> Result<VerdictPolicy, Fault> {
    let VerdictPolicy {
        comparisons_min: _,
        route_comparisons_min: _,
        mismatch_share_max,
        mismatch_share_unseen_max,
        confidence,
        incomparable_share_max,
        latency_judged: _,
        latency_ratio_max,
        latency_extra_ms_max,
        latency_pairs_min: _,
        latency_confidence,
    } = *policy.get_ref();
    let shares = 0.0..=1.0;
    let faults = [
        ("mismatch_share_max", shares.contains(&mismatch_share_max), "must be from 0 to 1"),
        (
            "mismatch_share_unseen_max",
            mismatch_share_unseen_max > 0.0 && mismatch_share_unseen_max <= 1.0,
            "must be above 0, and 1 at most",
        ),
        ("confidence", confidence > 0.0 && confidence < 1.0, "must lie between 0 and 1, such as 0.95"),
        ("incomparable_share_max", shares.contains(&incomparable_share_max), "must be from 0 to 1"),
        ("latency_ratio_max", latency_ratio_max.is_finite() && latency_ratio_max > 0.0, "must be above 0"),
        ("latency_extra_ms_max", latency_extra_ms_max.is_finite(), "must be a number of milliseconds"),
        (
            "latency_confidence",
            latency_confidence > 0.0 && latency_confidence < 1.0,
            "must lie between 0 and 1, such as 0.99",
        ),
    ];
    match faults.into_iter().find(|(_, is_good, _)| !is_good) {
        Some((key, _, problem)) => Err(Fault {
            key: format!("experiment.verdict.{key}"),
            span: policy.span(),
            problem: problem.to_owned(),
        }),
        None => Ok(policy.into_inner()),
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
    /// The candidate or the twin, and whether it is isolated.
    fn finish(self, part: &str, span: Range<usize>) -> Result<(HttpBranchConfig, bool), Fault> {
        let mut config = HttpBranchConfig::new(self.url);
        config.host = match self.host.as_deref() {
            None | Some("keep") => HostPolicy::Keep,
            Some("target") => HostPolicy::Target,
            Some(name) => HostPolicy::Name(name.to_owned()),
        };
        config.headers = self.headers.into_iter().collect();
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

// === impl RawCompare ===

impl RawCompare {
    fn finish(self, candidate: &HttpBranchConfig) -> Result<CompareConfig, Fault> {
        let lists = [&self.ignore[..], &self.unordered, &self.headers_plus, &self.headers_minus];
        let mut config = CompareConfig {
            ignore: plain(&self.ignore).into_iter().map(Into::into).collect(),
            unordered: plain(&self.unordered),
            headers_plus: plain(&self.headers_plus),
            headers_minus: plain(&self.headers_minus),
            candidate_authority: candidate.authority().map(str::to_owned),
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
