//! Numbers, times and captured values as words.
//!
//! Lets no control character through: a captured value may try to drive the reader's terminal.

use std::fmt::Write as _;

use crate::model::{Fate, Timestamp};

/// `14203` as `14,203`.
pub(super) fn counted(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share with as many digits as it takes to tell it from zero.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    match share {
        share if share == 0.0 || share >= 10.0 => format!("{share:.0} %"),
        share if share >= 0.1 => format!("{share:.1} %"),
        share => format!("{share:.3} %"),
    }
}

/// `none`, `1 %`, `0.25 %`: a share of a policy, or a bound.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    if share == 0.0 {
        return "none".to_owned();
    }
    // Three digits, without zeros at the end.
    let text = match percent {
        percent if percent >= 10.0 => format!("{percent:.1}"),
        percent if percent >= 1.0 => format!("{percent:.2}"),
        percent if percent >= 0.1 => format!("{percent:.3}"),
        percent => format!("{percent:.4}"),
    };
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `1 cause`, `1,204 causes`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", counted(count))
}

/// What so many do.
pub(super) fn differ(count: u64) -> &'static str {
    if count == 1 { "differs" } else { "differ" }
}

/// `2026-11-22T06:17:36Z`.
pub(super) fn time(at: Timestamp) -> String {
    humantime::format_rfc3339_seconds(at.to_system_time()).to_string()
}

/// `1h 30m`.
pub(super) fn duration(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

/// The beginning of a text, at most so many characters of it.
pub(super) fn shortened(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// The text with everything escaped that a terminal would act on or that would reorder the line.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if c.is_control() || is_reordering(c) => {
                // Writing to a String does not fail.
                write!(safe, "\\u{{{:x}}}", u32::from(c)).unwrap_or_default();
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Marks that change the direction of text or take no room (Unicode Standard Annex 9, section 2).
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What a fate means to someone who does not know the program.
pub(super) fn gloss(fate: &str) -> &'static str {
    match Fate::ALL.into_iter().find(|have| have.label() == fate) {
        None => gloss_of_loss(fate),
        Some(fate) => match fate {
            Fate::Shown => "shown, nothing was sent",
            Fate::Recorded => "recorded",
            Fate::NotRecorded => "not recorded: the recording was at its bound, or failed",
            Fate::FilteredMethod => "not wanted: method",
            Fate::FilteredRoute => "not wanted: path",
            Fate::FilteredHost => "not wanted: host",
            Fate::FilteredHeader => "not wanted: header fields",
            Fate::FilteredRunIf => "not wanted: a condition of run_if does not hold",
            Fate::SampledOut => "not in the sample",
            Fate::Replay => "a replayed request: it carries the replay header",
            Fate::NoResponse => "A's answer was not seen",
            Fate::NotReplayable => "the request was not seen whole, or is ambiguous",
            Fate::UnsafeMethod => "may write, and B is not declared isolated",
            Fate::Shed => "lost: the queue to the replayer was full",
            Fate::Queued => "handed to Redis, whose own counts say what came of it",
            Fate::SpoolFull => {
                "lost, unless Redis has it unconfirmed: Redis was away, and the spool was full or could not be written"
            }
            Fate::Refused => "lost: Redis refused it (a key in its way, or the rights of the user)",
            Fate::TooLarge => "larger than an entry of the queue may be",
            Fate::Spooled => "in the spool on disk, for the next start of capture",
            Fate::Stopped => "came after the experiment was stopped",
            Fate::RateLimited => "over the rate limit",
            Fate::Overdue => "waited too long for its turn",
            Fate::BreakerOpen => "not sent: B had failed too often",
            Fate::Paused => "not sent: its turn came during a pause",
            Fate::Drained => "not sent, or not answered yet, when the run ended",
            Fate::Returned => "given back to the queue when the worker ended",
            Fate::Unreadable => "an entry of the queue that cannot be read",
            Fate::SetAside => "set aside: delivered too often without ever being done",
            Fate::Duplicate => "delivered again while its first result waited to be confirmed",
            Fate::Matched => "B answered as A did",
            Fate::Mismatched => "B answered differently",
            Fate::Ignored => "B answered differently, only where rules allow it, or in noise",
            Fate::Incomparable => "sent, but no statement can be made",
            Fate::Lost => "lost by a defect in understudy: please report it",
        },
    }
}

/// What happened to an exchange between hosts that is no fate of any of them.
fn gloss_of_loss(loss: &str) -> &'static str {
    match loss {
        "trimmed" => "lost: trimmed before a worker read it, so that Redis is not filled",
        "forgotten" => "lost: Redis had confirmed it and forgot it",
        "unheard" => "with a capture that is not heard of: lost, or in its spool",
        _ => "",
    }
}

/// What an incomparable reason means.
pub(super) fn gloss_of_reason(reason: &str) -> &'static str {
    use crate::model::IncomparableReason as Reason;
    match Reason::ALL.into_iter().find(|have| have.label() == reason) {
        None => "",
        Some(reason) => match reason {
            Reason::ControlIncomplete => "A's answer was not seen whole",
            Reason::BodyCut => "a body is larger than the cap, and the hashes differ",
            Reason::Undecodable => "a body could not be decoded within the cap",
            Reason::TooDeep => "a body is nested too deep, or has too many values",
            Reason::CandidateUnreachable => "B could not be reached",
            Reason::CandidateTimedOut => "B gave no whole answer in time",
            Reason::CandidateClosed => "B closed the connection early",
            Reason::CandidateGarbage => "B answered something that is not HTTP",
            Reason::RuleError => "a rule failed, or the external comparator gave no answer",
            Reason::CredentialsRefused => {
                "B refused our credential, which had run out, or could not be asked for again"
            }
        },
    }
}
