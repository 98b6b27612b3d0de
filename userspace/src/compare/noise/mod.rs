//! Says which differences are B's doing and which are noise, from how often one version differs from itself.
//!
//! Reads no clock and compares nothing: it counts comparisons and is told at which paths two answers differ.
//! `docs/statistics.md` says what is claimed, under which assumptions, and by which theorems.
//!
//! Evidence comes in triples of answers to one request, two of them from one version ([`Triple`]). At each path
//! a triple is a coin: does the pair A/B differ and the pair of one version not, or the other way round? Where
//! B does as A does, both are equally likely. [`NoiseModel`] bets on that coin, path by path.

mod again;
mod fdr;
mod model;
mod path;
mod reach;
mod repeats;
mod share;
mod summary;
mod triple;
mod wealth;

pub use again::AgainConfig;
pub use model::{NoiseConfig, NoiseConfigError, NoiseModel, PathId};
pub use reach::Reach;
pub use repeats::{Repeat, RepeatConfig, RepeatIndex, RepeatTotals};
pub use share::{NoiseShare, PathShare, RouteShare};
pub use summary::PathSketch;
pub use triple::{DifferingPaths, PathDifference, Sign, Signed, Triple};

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests fail by panicking")]
mod tests;
