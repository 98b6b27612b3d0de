//! Why a command of the pipeline cannot start or go on.
//!
//! Decides nothing: each part says what is wrong with it, and this says of which experiment.

use std::io;
use std::sync::Arc;

use super::credentials::CredentialError;
use super::feed::FeedError;
use super::protect::ceilings::CeilingError;
use super::secrets::RANDOM_BYTES;
use super::tape;
use crate::branch::BranchConfigError;
use crate::compare::CompareConfigError;
use crate::compare::noise::NoiseConfigError;
use crate::journal::JournalError;
use crate::queue::entry::EntryError;
use crate::queue::redis::RedisError;
use crate::recording::RecordingError;
use crate::report::PolicyError;
use crate::select::SelectConfigError;
use crate::select::redact::{RedactKeyError, RedactRulesError};
use crate::serve::AdminError;
use crate::spool::SpoolError;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No experiment is configured.
    #[error(
        "nothing to do: name a candidate with --candidate URL, or an [[experiment]] in the configuration"
    )]
    NoExperiment,
    /// No port is configured.
    #[error(
        "nothing to capture: name a port with --port, or `ports` under [capture] in the configuration, a capture file with --pcap, or a recording with --recording"
    )]
    NoPort,
    /// The ceiling of memory cannot be kept.
    #[error(transparent)]
    Ceiling(#[from] CeilingError),
    /// An experiment makes no sense.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The admin listener cannot be had.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An experiment has the name under which the recording is counted.
    #[error(
        "an experiment is named `{}`, which is what the counts of --record stand under: name it otherwise",
        tape::NAME
    )]
    RecordingName,
    /// Neither a recording is to be made, nor a queue named.
    #[error(
        "the configuration names no queue: `capture` and `replay` work across hosts, and meet at Redis: name it with `redis` under [queue]; `understudy run` does both halves in one process, and `understudy capture --record FILE` captures into a recording"
    )]
    NoQueue,
    /// The queue cannot be used.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Entries cannot be written or read.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The kernel gives no random number.
    #[error("failed to read a random number from `{RANDOM_BYTES}`")]
    Random(#[source] io::Error),
    /// The recording cannot be made or written.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The capture broke, or the recording that is read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A part of the pipeline panicked; its message is in the log.
    #[error("a part of the pipeline failed")]
    Task(#[source] tokio::task::JoinError),
    /// A worker's part of a queue panicked; its message is in the log.
    #[error(
        "the worker's part of the queue of experiment `{experiment}` failed: please report it, with the log"
    )]
    QueueTask {
        /// Its experiment.
        experiment: Arc<str>,
        /// How it failed.
        #[source]
        source: tokio::task::JoinError,
    },
    /// What other hosts get would have other tokens on each.
    #[error(
        "secrets are hidden from Redis with a key that all hosts of an experiment share, and none is given: make one with `understudy config key`, put it where only the service can read it on each host, and name it with `key` under [redact] (or as systemd's credential `redact-key`); `mode = \"off\"` there sends secrets as they are"
    )]
    NoRedactKey,
    /// The kernel gives no random bytes.
    #[error("failed to read random bytes from `{RANDOM_BYTES}`")]
    RandomKey(#[source] io::Error),
    /// A key is of no use.
    #[error("the key under [redact] cannot be used")]
    RedactKey(#[source] RedactKeyError),
    /// A rule of redaction makes no sense.
    #[error("the rules under [redact] cannot be used")]
    Redact(#[from] RedactRulesError),
    /// The kernel gives no thread.
    #[error("failed to start the capture thread")]
    Thread(#[source] io::Error),
}

/// What is wrong with one experiment.
#[derive(Debug, thiserror::Error)]
#[error("experiment `{experiment}`")]
pub struct ExperimentError {
    /// Its name.
    pub experiment: String,
    /// The part of it that makes no sense.
    #[source]
    pub part: PartError,
}

/// A part of an experiment that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// Its rules of selection.
    #[error(transparent)]
    Select(#[from] SelectConfigError),
    /// Its rules of comparing.
    #[error(transparent)]
    Compare(#[from] CompareConfigError),
    /// Its candidate.
    #[error(transparent)]
    Candidate(BranchConfigError),
    /// Its twin.
    #[error("twin")]
    Twin(#[source] BranchConfigError),
    /// What its candidate, or its twin, is shown.
    #[error("cannot get the credentials for its {branch}")]
    Credentials {
        /// Which of them.
        branch: &'static str,
        /// Why not.
        #[source]
        source: CredentialError,
    },
    /// How its noise is to be measured.
    #[error(transparent)]
    Noise(#[from] NoiseConfigError),
    /// Its verdict policy.
    #[error("its verdict policy cannot be written down")]
    Policy(#[from] PolicyError),
}

// === impl PartError ===

impl PartError {
    /// Says of which experiment.
    pub(super) fn of(self, experiment: &str) -> ExperimentError {
        ExperimentError { experiment: experiment.to_owned(), part: self }
    }
}
