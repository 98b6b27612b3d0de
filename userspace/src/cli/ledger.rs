//! The counts at the end of a run, as text.
//!
//! Counts nothing itself.

use std::sync::Arc;
use std::time::Duration;

use super::output::shown;
use crate::capture::{FileCounts, RING_FULL, SourceCounts};
use crate::model::{Fate, LedgerSnapshot, Unsupported, Unused};
use crate::packet::{FragmentTally, PacketTally};
use crate::pipeline::capture::{
    CaptureCounts, Foreign, HttpTally, PlaybackCounts, StreamTally, TeeCounts, ThrottleCounts, Upgraded,
};
use crate::pipeline::secrets::RedactStats;
use crate::recording::Ending;

/// What to look at where no packet was wanted.
const NOTHING_WANTED: &str = "nobody asked, or the service has another port, cgroup or host";

/// What was seen, and what became of it. Lines at zero are left out, but for those that say that nothing was lost.
pub(super) fn text(capture: &CaptureCounts, ledgers: &[(Arc<str>, LedgerSnapshot)]) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: u64, note: &str| {
        let note = if note.is_empty() { String::new() } else { format!("  {note}") };
        text.push_str(&format!("  {label:<28}{value:>12}{note}\n"));
    };
    let CaptureCounts { source, tee, throttle, playback } = capture;
    match playback {
        Some(playback) => of_recording(playback, &mut line),
        None => of_packets(source, tee, throttle, &mut line),
    }
    experiments(ledgers, &mut line);
    format!("Ledger\n{}", text.trim_end())
}

/// As [`text`], of a process that captures nothing.
pub(super) fn of_experiments(ledgers: &[(Arc<str>, LedgerSnapshot)]) -> String {
    let mut text = String::new();
    experiments(ledgers, &mut |label: &str, value: u64, _: &str| {
        text.push_str(&format!("  {label:<28}{value:>12}\n"));
    });
    format!("Ledger\n{}", text.trim_end())
}

/// What `mode = "standard"` would have hidden.
pub(super) fn of_dry_run(stats: &RedactStats) -> String {
    let found: Vec<_> = stats.counts().filter(|(_, _, count)| *count > 0).collect();
    let mut text =
        "Redaction, dry run: nothing was hidden; mode = \"standard\" would have hidden, by rule and place"
            .to_owned();
    for (rule, part, count) in &found {
        let place = format!("{rule}, in a {part}");
        text.push_str(&format!("\n  {place:<28}{count:>12}"));
    }
    if found.is_empty() {
        text.push_str("\n  nothing");
    }
    text
}

fn experiments(ledgers: &[(Arc<str>, LedgerSnapshot)], line: &mut Line<'_>) {
    for (experiment, ledger) in ledgers {
        let LedgerSnapshot { seen, in_flight, fates } = ledger;
        line(&format!("{experiment}: exchanges"), *seen, "");
        for (fate, count) in fates.iter().filter(|(fate, count)| *count > 0 || *fate == Fate::Shed) {
            line(&format!("  {}", fate.label()), *count, "");
        }
        if *in_flight > 0 {
            line("  in flight", *in_flight, "");
        }
    }
}

/// Writes one line: what is counted, the count, and a note.
type Line<'a> = dyn FnMut(&str, u64, &str) + 'a;

fn of_recording(playback: &PlaybackCounts, line: &mut Line<'_>) {
    let PlaybackCounts { exchanges, ending } = playback;
    line("exchanges read", *exchanges, "");
    match ending {
        Some(Ending::Whole(summary)) => {
            for (reason, count) in &summary.missing {
                line("  not in the recording", *count, &shown(reason.as_bytes()));
            }
        }
        Some(Ending::Cut { offset, rest: _ }) => {
            line("no end; cut at byte", *offset, "what stands before it was read");
        }
        None => {}
    }
}

fn of_packets(source: &SourceCounts, tee: &TeeCounts, throttle: &ThrottleCounts, line: &mut Line<'_>) {
    match source.file {
        Some(FileCounts { frames, frames_cut, frames_back, cut_at }) => {
            line("packets read", frames, "");
            if frames_cut > 0 {
                line("  of them cut", frames_cut, "when they were captured (snap length)");
            }
            if frames_back > 0 {
                line(
                    "  earlier than the one before",
                    frames_back,
                    "`reordercap FILE SORTED` puts them in order",
                );
            }
            if let Some(offset) = cut_at {
                line("the file is cut at byte", offset, "what stands before it was read");
            }
        }
        None => {
            let hint = if source.wanted == 0 { NOTHING_WANTED } else { "" };
            line("packets wanted", source.wanted, hint);
            line("packets captured", source.captured, "");
        }
    }
    for (reason, count) in source.drops.iter().filter(|(reason, count)| *count > 0 || *reason == RING_FULL) {
        line(&format!("  dropped: {reason}"), *count, "");
    }
    of_throttle(throttle, line);
    line("packets used", tee.used, "");
    for (reason, count) in Unused::ALL.into_iter().zip(tee.unused).filter(|(_, count)| *count > 0) {
        line(&format!("  unused: {}", reason.label()), count, "");
    }
    let PacketTally { unsupported, unknown_link_type, fragments } = tee.packet;
    for (what, count) in Unsupported::ALL.into_iter().zip(unsupported).filter(|(_, count)| *count > 0) {
        let number = unknown_link_type.filter(|_| what == Unsupported::LinkType);
        let number = number.map_or_else(String::new, |number| format!(" {number}"));
        line(&format!("    not read: {}{number}", what.label()), count, "packets");
    }
    if fragments.begun > 0 {
        let FragmentTally { fragments, begun, whole, late, at_bound, overlaps, conflicts, impossible } =
            fragments;
        line("fragmented packets", begun, &format!("{fragments} fragments"));
        let missing = begun.saturating_sub(whole);
        some(
            &[
                ("  put together", whole),
                ("  given up or not whole", missing),
                ("    of them late", late),
                ("    of them at a bound", at_bound),
                ("  overlapping fragments", overlaps),
                ("    with other bytes", conflicts),
                ("  impossible fragments", impossible),
            ],
            line,
        );
    }
    of_streams(&tee.stream, line);
    of_http(&tee.http, line);
}

fn of_throttle(throttle: &ThrottleCounts, line: &mut Line<'_>) {
    let ThrottleCounts {
        flow_sample,
        flow_sample_max: _,
        for_cpu,
        for_loss,
        for_ring,
        for_pressure,
        for_memory,
        pauses,
        paused,
    } = throttle;
    let reasons = [
        ("CPU time", for_cpu),
        ("loss", for_loss),
        ("a full ring", for_ring),
        ("a busy host", for_pressure),
        ("memory", for_memory),
    ];
    let throttled = reasons.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(**count));
    if throttled > 0 {
        let reasons: Vec<String> = reasons
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("for {reason} {count}"))
            .collect();
        let share = flow_sample.fraction() * 100.0;
        let note = format!("{}; at the end {share:.3} % of connections", reasons.join(", "));
        line("  times fewer connections", throttled, &note);
    }
    if *pauses > 0 {
        let seconds = Duration::from_secs(paused.as_secs());
        let note = format!("nothing was copied for {}", humantime::format_duration(seconds));
        line("  pauses", *pauses, &note);
    }
}

fn of_streams(tally: &StreamTally, line: &mut Line<'_>) {
    line("connections", tally.flows, "");
    some(
        &[
            ("  joined after their start", tally.flows_mid_stream),
            ("  dropped: table full", tally.flows_evicted),
            ("  forgotten: silent", tally.flows_idle),
            ("  given up: fewer copied", tally.flows_left_out),
            ("  forgotten: no server", tally.flows_undecided),
            ("  in another network", tally.flows_divided),
            ("  SYNs that nobody obeyed", tally.syns_contested),
        ],
        line,
    );
    line("bytes put in order", tally.bytes, "");
    some(
        &[
            ("  that came again", tally.repeated_bytes),
            ("  overlaps with other bytes", tally.conflicts),
            ("  with a wrong checksum", tally.bad_checksums),
            ("  segments out of window", tally.out_of_window),
        ],
        line,
    );
    line("gaps", tally.gaps, &format!("{} bytes not seen", tally.gap_bytes));
    some(
        &[
            ("  at a bound", tally.gaps_at_bound),
            ("  after a time", tally.gaps_at_timeout),
            ("  at the end", tally.gaps_at_end),
        ],
        line,
    );
}

fn of_http(tally: &HttpTally, line: &mut Line<'_>) {
    line("requests", tally.requests, "");
    line("responses", tally.responses, "");
    some(
        &[
            ("  of unseen requests", tally.orphans),
            ("  heads not readable", tally.malformed_heads),
            ("  heads too large", tally.oversize_heads),
            ("  boundaries lost", tally.boundaries_lost),
            ("  bodies not kept whole", tally.bodies_cut),
            ("connections not HTTP/1.x", tally.flows_not_http),
        ],
        line,
    );
    for (kind, count) in Foreign::ALL.into_iter().zip(tally.flows_not_http_by_kind) {
        some(&[(&format!("  {}", kind.label()), count)], line);
    }
    some(&[("connections upgraded", tally.flows_upgraded)], line);
    for (kind, count) in Upgraded::ALL.into_iter().zip(tally.flows_upgraded_by_kind) {
        some(&[(&format!("  {}", kind.label()), count)], line);
    }
    line("exchanges", tally.exchanges, "");
    some(&[("  cut short at a bound", tally.exchanges_at_bound)], line);
}

/// Writes those lines that are not at zero.
fn some(counts: &[(&str, u64)], line: &mut Line<'_>) {
    counts.iter().filter(|(_, count)| *count > 0).for_each(|(label, count)| line(label, *count, ""));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ledger;

    #[test]
    fn shows_what_was_lost_and_what_was_not() {
        let mut capture = CaptureCounts::default();
        capture.source.wanted = 10;
        capture.source.drops = vec![("ring_full", 0), ("oversize", 2)];
        capture.throttle.for_ring = 2;
        capture.throttle.pauses = 1;
        capture.throttle.paused = Duration::from_millis(61_700);
        let ledger = Arc::new(Ledger::default());
        ledger.admit().settle(Fate::Matched);
        let text = text(&capture, &[("x".into(), ledger.snapshot())]);
        let has = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(
                text.lines().any(|have| have.split_whitespace().eq(words.iter().copied())),
                "{line}: {text}"
            );
        };
        has("packets wanted 10");
        has("dropped: ring_full 0");
        has("dropped: oversize 2");
        has("times fewer connections 2 for a full ring 2; at the end 100.000 % of connections");
        has("pauses 1 nothing was copied for 1m 1s");
        has("matched 1");
        has("shed 0");
    }
}
