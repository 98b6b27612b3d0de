//! The reasons of a verdict in sentences.
//!
//! Judges nothing.

use super::verdict::{RouteEvidence, Tally};
use super::words::{counted, differ, percent, plural};

/// Sentences about routes in the verdict on an experiment.
const ROUTES_NAMED_MAX: usize = 3;

/// How far both branches agree, in words.
pub(super) fn agreement(tally: &Tally) -> String {
    let compared = tally.compared();
    let mut text = format!("{} compared, ", plural(compared, "exchange"));
    text += &match tally.mismatched {
        0 => "none differs".to_owned(),
        some => format!("{} ({}) {}, as allowed", counted(some), percent(some, compared), differ(some)),
    };
    // What was known to be noise when it was seen stands with what rules hide.
    let hidden = tally.ignored.saturating_add(tally.noise);
    if hidden > 0 {
        text += &format!(" but for what rules or noise hide in {}", counted(hidden));
    }
    text
}

/// That some mismatches may be noise.
pub(super) fn undecided(tally: &Tally) -> Option<String> {
    (tally.undecided > 0).then(|| {
        let compared = tally.compared();
        format!(
            "{} of {} {} where it is undecided whether that is noise.",
            counted(tally.undecided),
            plural(compared, "comparison"),
            differ(tally.undecided)
        )
    })
}

/// That some differ where nothing can tell whether that is noise.
pub(super) fn withheld(tally: &Tally) -> Option<String> {
    (tally.withheld > 0).then(|| {
        format!(
            "{} of {} {} in values that always differ, such as ids, of requests in which nothing can measure noise.",
            counted(tally.withheld),
            plural(tally.compared(), "comparison"),
            differ(tally.withheld)
        )
    })
}

/// A sentence about a route that names it. The one about latency does so already.
pub(super) fn on_route(evidence: &RouteEvidence, why: &str) -> String {
    match &evidence.slower {
        Some(slower) if slower == why => slower.clone(),
        Some(_) | None => format!("{}: {why}", evidence.route),
    }
}

pub(super) fn first_few(mut sentences: Vec<String>) -> Vec<String> {
    let more = sentences.len().saturating_sub(ROUTES_NAMED_MAX);
    sentences.truncate(ROUTES_NAMED_MAX);
    if more > 0 {
        sentences.push(format!("So it is on {} more.", plural(more as u64, "route")));
    }
    sentences
}
