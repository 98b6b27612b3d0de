//! What the journal knows of the noise at the paths of one experiment, and what it is told next.
//!
//! Decides nothing about noise. What it writes each second has a bound: it does not grow with the number of paths, nor with
//! how long a run lasts.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::quality::FixedState;

use crate::compare::noise::PathId;
use crate::journal::{Journal, JournalError, PathRecord, RunId};
use crate::model::PathState;
use crate::pipeline::science::Science;

/// The science of one experiment, and how much of it the journal knows.
pub(in crate::pipeline) struct Noted {
    experiment: Arc<str>,
    science: Arc<Science>,
    /// What the journal has of each path, by its number.
    written: Vec<Written>,
    /// Paths with news that the journal has not been told.
    news: Vec<PathId>,
    /// Changes of the science when the last round over all paths began.
    changes: u64,
    /// The path whose turn it is.
    turn: usize,
    /// Paths whose turn comes before the round is over.
    left: usize,
}

/// What the journal has of one path.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    state: Option<PathState>,
    /// Of the record.
    hash: Option<u64>,
}

/// Paths whose records are made anew each second while comparisons are made; those of which the state has changed come on
/// top. So all of 4,096 paths have their turn within 32 s, and up to this many each second.
const TURN_MAX: usize = 128;

/// Records that are made and written at once.
const CHUNK: usize = 1_024;

// === impl Noted ===

impl Noted {
    /// Of which the journal knows nothing.
    pub(in crate::pipeline) fn new(experiment: Arc<str>, science: Arc<Science>) -> Self {
        let (written, news) = (Vec::new(), Vec::new());
        Self { experiment, science, written, news, changes: 0, turn: 0, left: 0 }
    }

    /// The experiment's name.
    pub(super) fn experiment(&self) -> &Arc<str> {
        &self.experiment
    }

    /// Its science.
    pub(super) fn science(&self) -> &Science {
        &self.science
    }

    /// Keeps paths of which the journal knows nothing, or not that they are measured.
    pub(super) fn keep_news(&mut self, journal: &mut impl Journal, run: RunId) -> Result<(), JournalError> {
        self.news.extend(self.science.take_news());
        if self.news.is_empty() {
            return Ok(());
        }
        self.news.sort_unstable();
        self.news.dedup();
        let news = std::mem::take(&mut self.news);
        let kept = self.keep(journal, run, &news);
        if kept.is_err() {
            self.news = news;
        }
        kept
    }

    /// Keeps news, states that have changed, and the next few of all paths. Nothing where nothing was compared.
    pub(super) fn keep_turn(&mut self, journal: &mut impl Journal, run: RunId) -> Result<(), JournalError> {
        self.keep_news(journal, run)?;
        let changes = self.science.changes();
        if self.left == 0 && changes == self.changes {
            return Ok(());
        }
        let states = self.science.states();
        if self.left == 0 {
            (self.changes, self.left) = (changes, states.len());
        }
        let count = self.left.min(TURN_MAX).min(states.len());
        let turn = (self.turn..states.len()).chain(0..self.turn).take(count);
        let changed = |(number, state): (usize, &PathState)| {
            let known = self.written.get(number).and_then(|written| written.state);
            (known != Some(*state)).then_some(number)
        };
        let mut numbers: Vec<usize> = states.iter().enumerate().filter_map(changed).chain(turn).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let paths: Vec<PathId> = numbers.into_iter().map(PathId::new).collect();
        self.keep(journal, run, &paths)?;
        self.left = self.left.saturating_sub(count);
        self.turn = self.turn.saturating_add(count).checked_rem(states.len()).unwrap_or(0);
        Ok(())
    }

    /// Keeps all that is known: then the journal says what the run would.
    pub(super) fn keep_all(&mut self, journal: &mut impl Journal, run: RunId) -> Result<(), JournalError> {
        self.keep_news(journal, run)?;
        let paths: Vec<PathId> = (0..self.science.states().len()).map(PathId::new).collect();
        self.keep(journal, run, &paths)
    }

    /// Keeps what is known of these paths, as far as the journal has it otherwise.
    fn keep(&mut self, journal: &mut impl Journal, run: RunId, paths: &[PathId]) -> Result<(), JournalError> {
        for paths in paths.chunks(CHUNK) {
            let (mut records, mut noted) = (Vec::new(), Vec::new());
            for (id, sketch) in self.science.sketches(paths) {
                let summary = sketch.finish();
                let record = PathRecord::new(&summary)?;
                let hash = Some(FixedState::default().hash_one((&record.state, &record.detail)));
                if self.written.get(id.number()).is_none_or(|written| written.hash != hash) {
                    records.push(record);
                    noted.push((id, Written { state: Some(summary.state), hash }));
                }
            }
            if records.is_empty() {
                continue;
            }
            journal.record_paths(run, &self.experiment, &records)?;
            for (id, written) in noted {
                if self.written.len() <= id.number() {
                    self.written.resize(id.number().saturating_add(1), Written::default());
                }
                if let Some(place) = self.written.get_mut(id.number()) {
                    *place = written;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
