//! Which part of the exchanges is wanted.
//!
//! Never asks for a random number: a key is in the sample on every host and in every run, or on none.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{Exchange, Timestamp, fnv1a, is_token};

use super::SelectConfigError;

/// The part of the exchanges that is wanted, and what is kept together.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// From 0 (none) to 1 (all). Default: 1.
    pub fraction: f64,
    /// What is taken or left as a whole. Default: flows.
    pub by: SampleBy,
    /// How the part grows to `fraction` from the first exchange on. Default: it does not.
    pub ramp: Option<Ramp>,
}

/// A part that grows evenly with the time of the exchanges. What is in stays in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// What it begins with, from 0 to 1; at most the sample's `fraction`.
    pub from: f64,
    /// How long it takes to reach the sample's `fraction`.
    pub over: Duration,
}

/// What is taken or left as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SampleBy {
    /// A connection.
    #[default]
    Flow,
    /// All requests that carry the same value in this field, such as one user; requests without it go by flow.
    Header(String),
}

/// The checked form of a [`Sample`].
#[derive(Debug)]
pub(super) struct Sampler {
    sample: Sample,
    /// Hashes below this are in, at the end of a ramp; `None` takes all.
    below: Option<u64>,
    /// Nanoseconds since 1970 of the first exchange; 0 before it. Only a ramp looks at it.
    began: AtomicU64,
}

// === impl Sample ===

impl Default for Sample {
    fn default() -> Self {
        Self { fraction: 1.0, by: SampleBy::default(), ramp: None }
    }
}

impl Sample {
    /// Parses `25%` or `0.25`.
    ///
    /// # Errors
    ///
    /// [`SelectConfigError::Sample`] when it is no number or lies outside of 0 to 1.
    pub fn parse_fraction(text: &str) -> Result<f64, SelectConfigError> {
        let error = || SelectConfigError::Sample { sample: text.to_owned() };
        let (number, scale) = match text.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 100.0),
            None => (text.trim(), 1.0),
        };
        let fraction = number.parse::<f64>().ok().map(|number| number / scale).ok_or_else(error)?;
        if (0.0..=1.0).contains(&fraction) { Ok(fraction) } else { Err(error()) }
    }
}

// === impl SampleBy ===

/// Parses `flow` or `header:NAME`.
impl FromStr for SampleBy {
    type Err = SelectConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().split_once(':') {
            None if text.trim() == "flow" => Ok(SampleBy::Flow),
            Some(("header", name)) if is_token(name.trim().as_bytes()) => {
                Ok(SampleBy::Header(name.trim().to_owned()))
            }
            Some(_) | None => Err(SelectConfigError::SampleKey { key: text.to_owned() }),
        }
    }
}

// === impl Sampler ===

impl Sampler {
    pub(super) fn new(sample: Sample) -> Self {
        let below = (sample.fraction < 1.0).then(|| threshold(sample.fraction));
        Self { sample, below, began: AtomicU64::new(0) }
    }

    /// Goes on with the ramp of `before`, if it is the same one.
    pub(super) fn take_over(&mut self, before: &Sampler) {
        if self.sample == before.sample {
            self.began = AtomicU64::new(before.began.load(Ordering::Relaxed));
        }
    }

    pub(super) fn wants(&self, exchange: &Exchange) -> bool {
        let below = match &self.sample.ramp {
            Some(ramp) => self.ramped(ramp, exchange.times.request_first),
            None => self.below,
        };
        let Some(below) = below else { return true };
        let value = match &self.sample.by {
            SampleBy::Flow => None,
            SampleBy::Header(name) => exchange.request.headers.get(name),
        };
        let hash = match value {
            Some(value) => stable_hash(value),
            None => stable_hash(&exchange.id.flow.to_le_bytes()),
        };
        hash < below
    }

    /// The limit at the time of an exchange.
    fn ramped(&self, ramp: &Ramp, at: Timestamp) -> Option<u64> {
        let Ramp { from, over } = ramp;
        let began = match self.began.load(Ordering::Relaxed) {
            0 => {
                self.began.store(at.0.max(1), Ordering::Relaxed);
                at
            }
            began => Timestamp(began),
        };
        let elapsed = at.since(began);
        if elapsed >= *over {
            return self.below;
        }
        let part = elapsed.as_secs_f64() / over.as_secs_f64();
        Some(threshold(from + (self.sample.fraction - from) * part))
    }
}

/// 2^64 as a float is exact, and the conversion of a float to an integer saturates.
fn threshold(fraction: f64) -> u64 {
    (fraction * 18_446_744_073_709_551_616.0) as u64
}

/// FNV-1a with 64 bits, then the finaliser of MurmurHash3: FNV alone leaves the upper bits of short keys alike,
/// and the upper bits are what the comparison with a limit looks at. It must never change: hosts and runs
/// of different versions have to choose the same keys.
pub(super) fn stable_hash(key: &[u8]) -> u64 {
    let fnv = fnv1a(key.iter().copied());
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}
