//! Takes secrets out of what leaves this process or is kept by it, and counts them.
//!
//! Knows no secret by itself; that is `select::redact`'s. Looks for none where nothing is kept and nothing leaves: two
//! answers that are equal as they are cost nothing here.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use super::error::RunError;
use super::settings::RedactConfig;
use crate::model::{Exchange, Observation};
use crate::select::redact::{KEY_BYTES_MIN, Part, RedactKey, RedactTally, Redactor, Rule};

pub use crate::metrics::RedactStats;
pub use crate::select::redact::RedactMode;

/// What hides the secrets of a process.
#[derive(Debug)]
pub struct Secrets {
    redactor: Redactor,
    stats: Arc<RedactStats>,
}

/// Where secrets of a process may turn up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// In files of this host, and at a candidate.
    Process,
    /// At other processes, which have to make the same tokens.
    Fleet,
}

/// What may be kept of a comparison.
pub type Kept = (Arc<Exchange>, Observation);

/// Where the kernel gives random bytes (random(4)).
pub(super) const RANDOM_BYTES: &str = "/dev/urandom";

/// A new key.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn random_key_bytes() -> std::io::Result<[u8; KEY_BYTES_MIN]> {
    random_bytes()
}

/// Bytes that nobody can guess.
///
/// # Errors
/// When the kernel gives none.
pub(super) fn random_bytes<const COUNT: usize>() -> std::io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    File::open(RANDOM_BYTES)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

// === impl Secrets ===

impl Secrets {
    /// What the configuration says; none where nothing is hidden or counted. Without a key of its own a process makes one
    /// that ends with it, unless others have to make the same tokens.
    ///
    /// # Errors
    /// When a key is missing.
    pub(super) fn of(config: &RedactConfig, reach: Reach) -> Result<Option<Arc<Self>>, RunError> {
        let RedactConfig { rules, key_file: _, key } = config;
        if rules.mode == RedactMode::Off {
            return Ok(None);
        }
        if key.is_none() && reach == Reach::Fleet && rules.mode.hides() {
            return Err(RunError::NoRedactKey);
        }
        Self::of_terminal(config).map(Arc::new).map(Some)
    }

    /// For what is shown to whoever asked, and to nobody else: no other process has to make the same tokens.
    ///
    /// # Errors
    /// When the kernel gives no random bytes for a key, or the rules cannot be used.
    pub fn of_terminal(config: &RedactConfig) -> Result<Self, RunError> {
        let RedactConfig { rules, key_file: _, key } = config;
        let key = match key {
            Some(key) => key.clone(),
            None => {
                let bytes = random_key_bytes().map_err(RunError::RandomKey)?;
                RedactKey::new(&bytes).map_err(RunError::RedactKey)?
            }
        };
        Ok(Self::new(Redactor::new(rules, key)?))
    }

    /// With this redactor.
    pub fn new(redactor: Redactor) -> Self {
        let hides = redactor.mode().hides();
        Self {
            redactor,
            stats: Arc::new(RedactStats::new(
                hides,
                &Rule::ALL.map(Rule::label),
                &Part::ALL.map(Part::label),
            )),
        }
    }

    /// What is counted.
    pub(super) fn stats(&self) -> Arc<RedactStats> {
        Arc::clone(&self.stats)
    }

    /// True when secrets are replaced, not only counted.
    pub(super) fn hides(&self) -> bool {
        self.redactor.mode().hides()
    }

    /// What all processes of a fleet have to agree on: the key's fingerprint, or that nothing is hidden.
    pub(super) fn agreement(secrets: Option<&Arc<Self>>) -> String {
        match secrets {
            Some(secrets) if secrets.hides() => secrets.redactor.key().fingerprint(),
            Some(_) | None => "none".to_owned(),
        }
    }

    /// The exchange as it may leave, or be kept.
    pub(super) fn exchange(&self, exchange: &Arc<Exchange>) -> Arc<Exchange> {
        let mut tally = RedactTally::default();
        let redacted = self.redactor.exchange(exchange, &mut tally);
        self.count(&tally);
        redacted.map_or_else(|| Arc::clone(exchange), Arc::new)
    }

    /// The exchange as it may be shown; none when it has no secrets.
    pub fn shown(&self, exchange: &Exchange) -> Option<Exchange> {
        let mut tally = RedactTally::default();
        let redacted = self.redactor.exchange(exchange, &mut tally);
        self.count(&tally);
        redacted
    }

    /// The exchange with a request that may be sent. A's response stays as it is: it is not sent.
    pub(super) fn sent(&self, exchange: &Arc<Exchange>) -> Arc<Exchange> {
        let mut tally = RedactTally::default();
        let request = self.redactor.request(&exchange.request, &mut tally);
        self.count(&tally);
        match request {
            Some(request) => Arc::new(Exchange { request, ..Exchange::clone(exchange) }),
            None => Arc::clone(exchange),
        }
    }

    /// What may be kept of an exchange and of what the candidate did; none when both have no secrets.
    pub(super) fn kept(&self, exchange: &Exchange, candidate: &Observation) -> Option<Kept> {
        let mut tally = RedactTally::default();
        let redacted = self.redactor.exchange(exchange, &mut tally);
        let observed = self.redactor.observation(candidate, &mut tally);
        self.count(&tally);
        if redacted.is_none() && observed.is_none() {
            return None;
        }
        let exchange = redacted.unwrap_or_else(|| exchange.clone());
        Some((Arc::new(exchange), observed.unwrap_or_else(|| candidate.clone())))
    }

    fn count(&self, tally: &RedactTally) {
        if tally.total() > 0 {
            for part in Part::ALL {
                let counts = Rule::ALL.into_iter().map(|rule| (rule, tally.of(rule, part)));
                for (rule, count) in counts.filter(|(_, count)| *count > 0) {
                    self.stats.add(rule.label(), part.label(), count);
                }
            }
        }
    }
}
