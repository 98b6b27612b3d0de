//! A line on the terminal that shows how a run goes on.
//!
//! Shows nothing where standard error is no terminal.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::model::{Fate, Ledger};

/// The line; it goes away when this is dropped.
pub(super) struct Progress {
    _ended: mpsc::SyncSender<()>,
}

/// How often the line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);

// === impl Progress ===

impl Progress {
    /// Shows these ledgers from now on. `None` where there is no terminal, or no thread to draw on.
    pub(super) fn show(ledgers: Vec<(Arc<str>, Arc<Ledger>)>) -> Option<Self> {
        if !stderr().is_terminal() {
            return None;
        }
        let (ended, wait_ended) = mpsc::sync_channel(0);
        let draw = move || {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}");
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = style {
                bar.set_style(style);
            }
            while wait_ended.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                bar.set_message(message(&ledgers));
                bar.tick();
            }
            bar.finish_and_clear();
        };
        std::thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()?;
        Some(Self { _ended: ended })
    }
}

fn message(ledgers: &[(Arc<str>, Arc<Ledger>)]) -> String {
    let parts: Vec<String> = ledgers
        .iter()
        .map(|(name, ledger)| {
            let now = ledger.snapshot();
            let compared: u64 = [Fate::Matched, Fate::Mismatched, Fate::Ignored, Fate::Incomparable]
                .into_iter()
                .map(|fate| now.count(fate))
                .sum();
            let mismatched = now.count(Fate::Mismatched);
            format!("{name}: {} exchanges, {compared} replayed, {mismatched} mismatched", now.seen)
        })
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_far_it_is() {
        let ledger = Arc::new(Ledger::default());
        ledger.admit().settle(Fate::Mismatched);
        ledger.admit().settle(Fate::FilteredMethod);
        let text = message(&[("search".into(), ledger)]);
        assert_eq!(text, "search: 2 exchanges, 1 replayed, 1 mismatched");
    }
}
