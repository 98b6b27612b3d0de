//! What became of every exchange between the hosts of an experiment, and what nobody can say.
//!
//! Forgives nothing: what is not accounted for is counted as such.
//!
//! Captures count what they saw and what they handed to Redis; Redis counts what it took and what came of it. In sum
//! `seen + foreign = fates of captures + in flight there + accepted + forgotten`, where a capture that is not heard of
//! has nothing in flight: what it had is `unheard`, unless a later process took it over from its spool.

use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::{BookReport, MemberReport};
use super::member::Member;
use crate::model::{Fate, ShardCopy, Timestamp};
use crate::report::facts::Count;
use crate::report::words::{gloss, time};

/// A process that was heard of lately.
pub(super) const LIVE: &str = "live";
/// One that said that it ended.
pub(super) const ENDED: &str = "ended";
/// One that did not, and is not heard of.
pub(super) const SILENT: &str = "silent";

/// Time after which a process that publishes each second is not heard of.
const SILENT_AFTER: Duration = Duration::from_secs(15);

/// Counters of Redis that are no fate of their own.
const FATE_PREFIX: &str = "fate:";

/// The sums.
#[derive(Debug)]
pub(super) struct Balance {
    pub(super) book: BookReport,
    pub(super) causes_omitted: u64,
    pub(super) seen: u64,
    pub(super) in_flight: u64,
    /// By label, in the order of `Fate::ALL`, with `trimmed`, `forgotten` and `unheard` behind them.
    pub(super) fates: Vec<(String, u64)>,
    pub(super) unheard: u64,
    pub(super) ahead: u64,
}

/// What a process is doing.
pub(super) fn state(member: &Member, now: Timestamp) -> &'static str {
    let heard_lately = member.heard_of.is_some_and(|at| now.since(at) < SILENT_AFTER);
    match (member.ended, heard_lately) {
        (true, _) => ENDED,
        (false, true) => LIVE,
        (false, false) => SILENT,
    }
}

fn counts(fates: &BTreeMap<String, u64>) -> Vec<Count> {
    let known = Fate::ALL.into_iter().map(Fate::label).filter_map(|label| Some((label, *fates.get(label)?)));
    let count = |(label, count): (&str, u64)| Count { name: label.to_owned(), count, meaning: gloss(label) };
    known.filter(|(_, count)| *count > 0).map(count).collect()
}

// === impl Balance ===

impl Balance {
    pub(super) fn new(captures: &[Member], shards: &[ShardCopy], now: Timestamp) -> Self {
        let (book, fates_of_book, causes_omitted) = book(shards);
        let sum = |of: fn(&Member) -> u64| captures.iter().map(of).fold(0, u64::saturating_add);
        let reported = sum(|capture| capture.ledger.seen).saturating_add(book.foreign);

        let mut fates = fates_of_book;
        // What a process gave up of an earlier one's spool was seen there, and is not left in it any more.
        let of_captures =
            captures.iter().flat_map(|capture| capture.ledger.fates.iter().chain(&capture.given_up));
        for (label, count) in of_captures {
            if ![Fate::Queued.label(), Fate::Spooled.label()].contains(&label.as_str()) {
                let sum = fates.entry(label.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        let set_aside = fates.entry(Fate::SetAside.label().to_owned()).or_default();
        *set_aside = set_aside.saturating_add(book.set_aside);
        let of_state = |wanted: &'static str, of: fn(&Member) -> u64| {
            let members = captures.iter().filter(|capture| state(capture, now) == wanted);
            members.map(of).fold(0, u64::saturating_add)
        };
        let on_captures = [LIVE, ENDED]
            .map(|wanted| of_state(wanted, |capture| capture.ledger.in_flight))
            .into_iter()
            .chain([of_state(LIVE, |capture| capture.recovered_left)])
            .fold(0, u64::saturating_add);
        let in_flight = on_captures.saturating_add(book.waiting);
        let accounted = fates
            .values()
            .copied()
            .chain([in_flight, book.trimmed, book.forgotten])
            .fold(0, u64::saturating_add);

        // What one process left in its spool another one may have taken over.
        let ahead = accounted.saturating_sub(reported);
        let mut left = reported.saturating_sub(accounted);
        // What an ended one could not send of earlier ones lies where it lay.
        let left_there = of_state(ENDED, |capture| capture.recovered_left);
        let spooled = sum(|capture| capture.ledger.count(Fate::Spooled.label())).saturating_add(left_there);
        let spooled = spooled.min(left);
        left = left.saturating_sub(spooled);
        fates.insert(Fate::Spooled.label().to_owned(), spooled);
        let ordered = Fate::ALL.into_iter().map(Fate::label).filter(|label| *label != Fate::Queued.label());
        let mut ordered: Vec<(String, u64)> =
            ordered.map(|label| (label.to_owned(), fates.get(label).copied().unwrap_or_default())).collect();
        ordered.extend([
            ("trimmed".to_owned(), book.trimmed),
            ("forgotten".to_owned(), book.forgotten),
            ("unheard".to_owned(), left),
        ]);
        Self {
            book,
            causes_omitted,
            seen: reported.saturating_add(ahead),
            in_flight,
            fates: ordered,
            unheard: left,
            ahead,
        }
    }
}

/// The counts of all shards, with the fates among them, and the mismatches without a cause.
fn book(shards: &[ShardCopy]) -> (BookReport, BTreeMap<String, u64>, u64) {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in shards.iter().flat_map(|shard| &shard.book) {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(*count);
    }
    let fates: BTreeMap<String, u64> = sums
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix(FATE_PREFIX)?.to_owned(), *count)))
        .collect();
    let sum = |name: &str| sums.get(name).copied().unwrap_or_default();
    let total = |of: fn(&ShardCopy) -> u64| shards.iter().map(of).fold(0, u64::saturating_add);
    let book = BookReport {
        accepted: sum("accepted"),
        accepted_bytes: sum("accepted_bytes"),
        waiting: total(|shard| shard.waiting),
        delivered: total(|shard| shard.delivered),
        waiting_bytes: sum("bytes"),
        fates: counts(&fates),
        trimmed: sum("trimmed"),
        set_aside: sum("set_aside"),
        forgotten: sum("forgotten"),
        duplicates: sum("duplicates"),
        foreign: sum("foreign"),
    };
    (book, fates, sum("causes_omitted"))
}

// === impl MemberReport ===

impl MemberReport {
    pub(super) fn new(member: &Member, now: Timestamp) -> Self {
        Self {
            id: member.id.clone(),
            host: member.host.clone(),
            version: member.version.clone(),
            started_at: member.started_at.map(time),
            state: state(member, now),
            heard_of_seconds: member.heard_of.map(|at| now.since(at).as_secs()),
            seen: member.ledger.seen,
            in_flight: member.ledger.in_flight,
            fates: counts(&member.ledger.fates),
            recovered: member.recovered,
            given_up: counts(&member.given_up),
            // Who has ended, or is not heard of, stands still for another reason.
            paused: member.is_paused && state(member, now) == LIVE,
            paused_seconds: member.paused_seconds,
        }
    }
}
