//! A line on the terminal that shows how a run goes on.
//!
//! Shows nothing where standard error is no terminal.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::model::Ledger;
use crate::pipeline::live::Live;
use crate::report::{Conclusion, Look, plain};

/// The line; it goes away when this is dropped.
pub(super) struct Progress {
    _ended: mpsc::SyncSender<()>,
}

/// How often the line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);

// === impl Progress ===

impl Progress {
    /// Shows these ledgers from now on. `None` where there is no terminal, or no thread to draw on.
    pub(super) fn show(ledgers: Vec<(Arc<str>, Arc<Ledger>)>, live: Arc<Live>) -> Option<Self> {
        if !stderr().is_terminal() {
            return None;
        }
        let (ended, wait_ended) = mpsc::sync_channel(0);
        let draw = move || {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}");
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = style {
                bar.set_style(style);
            }
            while wait_ended.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                bar.set_message(message(&ledgers, &live.look()));
                bar.tick();
            }
            bar.finish_and_clear();
        };
        std::thread::Builder::new().name("progress".to_owned()).spawn(draw).ok()?;
        Some(Self { _ended: ended })
    }
}

fn message(ledgers: &[(Arc<str>, Arc<Ledger>)], looks: &[Look]) -> String {
    let seen = |name: &Arc<str>| {
        ledgers.iter().find(|(have, _)| have == name).map_or(0, |(_, ledger)| ledger.snapshot().seen)
    };
    let part = |Look { experiment, compared, mismatched, verdict, lacks_a_source: _ }: &Look| {
        // The first reason: what is lacking, or what the verdict rests on.
        let reason = verdict.reasons.first().map(String::as_str).unwrap_or_default();
        let so_far = match verdict.verdict {
            Conclusion::NotEnoughData => "needs",
            Conclusion::Pass => "PASS so far",
            Conclusion::Fail => "FAIL so far",
        };
        // Short: most terminals have 80 columns.
        plain(&format!(
            "{experiment}: {} seen, {compared} compared, {mismatched} differ; {so_far}: {reason}",
            seen(experiment)
        ))
    };
    looks.iter().map(part).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fate;
    use crate::report::Verdict;

    #[test]
    fn says_how_far_it_is_and_what_is_lacking() {
        let ledger = Arc::new(Ledger::default());
        ledger.admit().settle(Fate::Matched);
        ledger.admit().settle(Fate::FilteredMethod);
        let reasons = vec!["1 of at least 20 comparisons.".to_owned(), "And more.".to_owned()];
        let verdict = Verdict { verdict: Conclusion::NotEnoughData, reasons };
        let look =
            Look { experiment: "search".into(), compared: 1, mismatched: 0, verdict, lacks_a_source: false };
        let text = message(&[("search".into(), ledger)], &[look]);
        assert_eq!(text, "search: 2 seen, 1 compared, 0 differ; needs: 1 of at least 20 comparisons.");
    }
}
