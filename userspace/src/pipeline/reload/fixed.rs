//! What of a configuration cannot change while a process runs.
//!
//! Changes nothing, and leaves out what a reload takes: selection and comparison of experiments.

use std::fmt;

use super::super::settings::{Config, ExperimentConfig};

/// A key, or its table, that takes a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedKey {
    /// The key.
    pub key: &'static str,
    /// The experiment, where it is a key of one.
    pub experiment: Option<String>,
}

// === impl FixedKey ===

impl fmt::Display for FixedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, experiment } = self;
        write!(f, "`{key}`")?;
        match experiment {
            Some(name) => write!(f, " of experiment `{name}`"),
            None => Ok(()),
        }
    }
}

/// All of them in words: "`capture`, `experiment.replay` of experiment `shop`".
pub fn listed(keys: &[FixedKey]) -> String {
    keys.iter().map(FixedKey::to_string).collect::<Vec<_>>().join(", ")
}

/// Names everything that differs and takes a restart; nothing where what runs can take the new configuration.
pub fn restart_keys(running: &Config, new: &Config) -> Vec<FixedKey> {
    let Config {
        capture,
        admin,
        observe,
        journal,
        experiments,
        speed,
        record,
        queue,
        spool,
        redact,
        protect,
    } = running;
    let parts = [
        ("capture", *capture == new.capture),
        ("admin", *admin == new.admin),
        ("admin.observe", *observe == new.observe),
        ("journal", *journal == new.journal),
        ("--speed", *speed == new.speed),
        ("record", *record == new.record),
        ("queue", *queue == new.queue),
        ("spool", *spool == new.spool),
        ("redact", *redact == new.redact),
        ("protect (and pause)", *protect == new.protect),
    ];
    let differing = |parts: &[(&'static str, bool)], experiment: Option<&String>| {
        let keys = parts.iter().filter(|(_, same)| !same);
        keys.map(|(key, _)| FixedKey { key, experiment: experiment.cloned() }).collect::<Vec<_>>()
    };
    let mut keys = differing(&parts, None);
    let names = |config: &Config| config.experiments.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    if names(running) != names(new) {
        // Which belong together is not known then.
        let key = "experiment.name (the list of experiments and of their candidates)";
        keys.push(FixedKey { key, experiment: None });
        return keys;
    }
    for (old, new) in experiments.iter().zip(&new.experiments) {
        let ExperimentConfig {
            name,
            select,
            candidate,
            twin,
            lag,
            replay,
            queue,
            compare: _,
            comparator: _,
            noise,
            context,
            verdict,
        } = old;
        let parts = [
            ("experiment.candidate", *candidate == new.candidate && select.isolated == new.select.isolated),
            ("experiment.twin", *twin == new.twin),
            ("experiment.noise", *noise == new.noise),
            ("experiment.replay", *lag == new.lag && *replay == new.replay),
            ("experiment.queue", *queue == new.queue),
            ("experiment.context", *context == new.context),
            ("experiment.verdict", *verdict == new.verdict),
        ];
        keys.extend(differing(&parts, Some(name)));
    }
    keys
}
