//! What the command line says, in the words of the configuration.
//!
//! Knows no flag by its name; that is `cli`'s.

use std::path::PathBuf;

use toml::Spanned;

use super::compare::RawIgnore;
use super::experiment::{RawCandidate, RawExperiment};
use super::hook;
use super::raw::RawConfig;
use crate::pipeline::settings::{Config, Input};

/// Values that take the place of the file's. What is `None` or empty leaves the file as it is.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `capture.ports`
    pub ports: Vec<u16>,
    /// `capture.cgroup`; takes the place of the file's interfaces, too.
    pub cgroup: Option<String>,
    /// `capture.interfaces`, with the hook that they need; empty for what the file says.
    pub interfaces: Vec<String>,
    /// `admin.listen`
    pub admin: Option<String>,
    /// `journal.path`
    pub journal: Option<PathBuf>,
    /// One experiment in the place of all of the file's.
    pub experiment: Option<FlagExperiment>,
    /// A capture file to read in the place of traffic that passes now; `-` is standard input.
    pub pcap: Option<PathBuf>,
    /// A recording to read in the place of a capture; `-` is standard input.
    pub recording: Option<PathBuf>,
    /// Where exchanges are recorded; `-` is standard output.
    pub record: Option<PathBuf>,
    /// How many times faster than in the file its requests are replayed.
    pub speed: Option<f64>,
    /// The instance of the file: `conf.d/NAME.toml` beside it wins over it, and a name that is a port is the port.
    pub instance: Option<String>,
    /// No experiment at all: the file's are neither wanted nor checked.
    pub no_experiments: bool,
    /// Nobody hands exchanges in, whatever `admin.observe` says: for commands that have no listener unless asked for one.
    pub no_observe: bool,
}

/// An experiment that the command line describes.
#[derive(Clone, Debug, Default)]
pub struct FlagExperiment {
    /// `candidate.url`
    pub url: String,
    /// `candidate.isolated`
    pub isolated: bool,
    /// `twin.url`
    pub twin: Option<String>,
    /// `noise.again`: never.
    pub ask_once: bool,
    /// `routes`
    pub routes: Vec<String>,
    /// `methods`; empty for the default.
    pub methods: Vec<String>,
    /// `sample`
    pub sample: Option<String>,
    /// `compare.ignore`
    pub ignore: Vec<String>,
}

/// A value without a place in a file.
fn given<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn all_given(list: Vec<String>) -> Vec<Spanned<String>> {
    list.into_iter().map(given).collect()
}

// === impl Flags ===

impl Flags {
    /// Puts the values in their places that have no key in the file.
    pub(super) fn complete(&self, config: &mut Config) {
        if let Some(pcap) = &self.pcap {
            config.capture.input = Input::Pcap(pcap.clone());
        }
        if let Some(recording) = &self.recording {
            config.capture.input = Input::Recording(recording.clone());
        }
        config.record.path = self.record.clone();
        config.speed = self.speed.unwrap_or(config.speed);
    }

    /// Puts the values in their places.
    pub(super) fn adjust(self, raw: &mut RawConfig) {
        let Self {
            ports,
            cgroup,
            interfaces,
            admin,
            journal,
            experiment,
            pcap: _,
            recording: _,
            record: _,
            speed: _,
            instance: _,
            no_experiments,
            no_observe,
        } = self;
        if !ports.is_empty() {
            raw.capture.ports = Some(given(ports));
        }
        if !interfaces.is_empty() {
            raw.capture.hook = Some(given(hook::TC.to_owned()));
            raw.capture.interfaces = Some(given(interfaces));
            raw.capture.cgroup = None;
        } else if let Some(cgroup) = cgroup {
            raw.capture.hook = None;
            raw.capture.interfaces = None;
            raw.capture.cgroup = Some(given(cgroup));
        }
        raw.admin.listen = admin.map(given).or(raw.admin.listen.take());
        raw.journal.path = journal.or(raw.journal.path.take());
        if no_observe {
            raw.admin.observe = None;
        }
        if no_experiments {
            raw.experiments.clear();
        }
        if let Some(experiment) = experiment {
            raw.experiments = vec![experiment.into_raw()];
        }
    }
}

// === impl FlagExperiment ===

impl FlagExperiment {
    fn into_raw(self) -> RawExperiment {
        let Self { url, isolated, twin, ask_once, routes, methods, sample, ignore } = self;
        let mut raw = RawExperiment {
            candidate: Some(given(RawCandidate { url, isolated, ..RawCandidate::default() })),
            twin: twin.map(|url| given(RawCandidate { url, isolated, ..RawCandidate::default() })),
            routes: all_given(routes),
            methods: (!methods.is_empty()).then(|| all_given(methods)),
            sample: sample.map(given),
            ..RawExperiment::default()
        };
        raw.noise.again = ask_once.then(|| given("off".to_owned()));
        raw.compare.ignore = ignore.into_iter().map(RawIgnore::Place).map(given).collect();
        raw
    }
}
