//! The hosts of an experiment in lines.
//!
//! Repeats nothing that the fates say.

use std::fmt::{self, Write as _};

use super::balance::{ENDED, LIVE, SILENT};
use super::facts::{BookReport, FleetReport, MemberReport};
use crate::report::words::{counted, duration, plain, plural};

/// Processes of one kind that are named.
const NAMED_MAX: usize = 8;

// === impl FleetReport ===

impl FleetReport {
    /// `2 captures (2 live), 3 workers (2 live, 1 silent, 1 paused)`: who is paused is live as well.
    pub(super) fn summary(&self) -> String {
        format!("{}, {}", group(&self.captures, "capture"), group(&self.workers, "worker"))
    }

    /// Lines without a mark-up, each a sentence.
    pub(in crate::report) fn lines(&self) -> Vec<String> {
        let Self { shards, captures, workers, book, unheard, ahead, packets_dropped, latency_omitted } = self;
        let BookReport {
            accepted,
            accepted_bytes: _,
            waiting,
            delivered,
            waiting_bytes: _,
            fates,
            trimmed,
            set_aside,
            forgotten,
            duplicates,
            foreign,
        } = book;
        let done = fates.iter().map(|fate| fate.count).fold(0, u64::saturating_add);
        let mut lines = vec![
            format!("{}; {}.", self.summary(), plural(*shards as u64, "shard")),
            format!(
                "Redis took {}: {} done, {} waiting ({} of them with workers), {} trimmed, {} set aside.",
                counted(*accepted),
                counted(done),
                counted(*waiting),
                counted(*delivered),
                counted(*trimmed),
                counted(*set_aside)
            ),
        ];
        let mut add = |count: u64, sentence: String| {
            if count > 0 {
                lines.push(sentence);
            }
        };
        add(*trimmed, format!("{} went unread: workers are slower than captures.", counted(*trimmed)));
        add(*set_aside, "What was set aside is shown by `understudy report --set-aside`.".to_owned());
        add(
            *forgotten,
            format!("Redis lost {} that it had confirmed: it restarted or failed over.", counted(*forgotten)),
        );
        add(*duplicates, format!("{} were sent twice and taken once.", counted(*duplicates)));
        add(*foreign, format!("{} came from no capture of this fleet.", counted(*foreign)));
        add(
            *ahead,
            format!(
                "Captures have not yet reported {} that Redis has; they do each second.",
                counted(*ahead)
            ),
        );
        add(
            *unheard,
            format!(
                "{} were with captures that are not heard of: lost where a process died, in its spool where it is cut off.",
                counted(*unheard)
            ),
        );
        let dropped = packets_dropped.iter().map(|count| count.count).fold(0, u64::saturating_add);
        add(
            *latency_omitted,
            format!(
                "A worker cannot tell the times of {}: they take too much room, and are not in this report.",
                plural(*latency_omitted, "route")
            ),
        );
        add(dropped, format!("Probes dropped {}.", plural(dropped, "packet")));
        lines.extend(pauses(captures, "captured"));
        lines.extend(pauses(workers, "sent"));
        let silent = captures.iter().chain(workers).filter(|member| member.state == SILENT);
        lines.extend(silent.take(NAMED_MAX).map(|MemberReport { id, host, heard_of_seconds, .. }| {
            let heard =
                heard_of_seconds.map_or_else(String::new, |seconds| format!(" for {} s", counted(seconds)));
            format!("Not heard of{heard}: {} on {}.", plain(id), plain(host))
        }));
        lines
    }

    pub(in crate::report) fn write_text(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n  Fleet")?;
        self.lines().iter().try_for_each(|line| writeln!(out, "    {line}"))
    }
}

/// Who stands still, and for how long others did.
fn pauses(members: &[MemberReport], what: &str) -> Vec<String> {
    let (now, before): (Vec<_>, Vec<_>) = members
        .iter()
        .filter(|member| member.paused || member.paused_seconds > 0)
        .partition(|member| member.paused);
    let name = |member: &MemberReport| {
        let MemberReport { id, host, paused_seconds, .. } = member;
        (format!("{} on {}", plain(id), plain(host)), duration(*paused_seconds))
    };
    let now = now.into_iter().map(name).map(|(name, total)| {
        format!("Paused now: {name}; nothing is {what} there until `understudy resume` or the end of its time ({total} so far).")
    });
    let before = before.into_iter().map(name);
    let before =
        before.map(|(name, total)| format!("Paused for {total}: {name}; nothing was {what} there then."));
    // Each kind by itself, so that many old pauses do not hide one that goes on.
    now.take(NAMED_MAX).chain(before.take(NAMED_MAX)).collect()
}

fn group(members: &[MemberReport], noun: &str) -> String {
    let states =
        [LIVE, ENDED, SILENT].map(|state| (state, members.iter().filter(|m| m.state == state).count()));
    let paused = ("paused", members.iter().filter(|member| member.paused).count());
    let states: Vec<String> = states
        .into_iter()
        .chain([paused])
        .filter(|(_, count)| *count > 0)
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let all = plural(members.len() as u64, noun);
    if states.is_empty() { all } else { format!("{all} ({})", states.join(", ")) }
}
