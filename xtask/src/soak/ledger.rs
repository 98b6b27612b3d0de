//! What a soak adds up: what captures gave, what came of it, and what died with a capture or a Redis.
//!
//! Believes neither side alone: captures say what they gave, and Redis keeps the number of each producer.
#![expect(clippy::print_stdout, reason = "the figures are for the person at the terminal")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy_tests::clock::wait_until;
use understudy_tests::fleet::{Account, Book, Books, Fleet, Given};
use understudy_tests::redis::Server;

/// How long a capture may take to become known to Redis under load, or to hand over what it found in the spool.
const NOTICE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Entries that Redis may have taken and not confirmed when it is emptied; they come again.
const UNCONFIRMED_MAX: u64 = 100;

/// What is kept of captures and of Redis when they die.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Producers that Redis knew of, but the one of the running capture.
    former: BTreeSet<String>,
    /// Those of them that were killed.
    killed: BTreeSet<String>,
    /// What former producers had given when Redis was emptied.
    given: BTreeMap<String, u64>,
    /// The books of every Redis that was emptied, together.
    past: Book,
    emptied: u64,
    /// Exchanges that captures had seen when they were last asked before they were killed.
    seen_before_death: u64,
}

// === impl Ledger ===

impl Ledger {
    /// The running capture is about to end; the load has gone on for a while.
    pub(super) fn capture_ends(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        let producer = self.current(&fleet.books)?;
        self.former.insert(producer);
        Ok(())
    }

    /// The running capture is about to be killed; the load has gone on for a while.
    pub(super) fn capture_dies(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        let producer = self.current(&fleet.books)?;
        self.former.insert(producer.clone());
        self.killed.insert(producer);
        Ok(())
    }

    /// Kills the running capture, which has been asked before what it saw.
    pub(super) fn kill_capture(&mut self, fleet: &mut Fleet) -> anyhow::Result<()> {
        self.seen_before_death += fleet.scrape()?.sum("understudy_exchanges_seen_total", &[])?;
        fleet.kill_capture()
    }

    /// A capture has started: waits until what the one before left in the spool is in Redis. From then on nobody gives
    /// anything in its name.
    pub(super) fn capture_started(&self, fleet: &Fleet) -> anyhow::Result<()> {
        fleet.wait_for("understudy_spool_entries", NOTICE_WAIT_MAX, |count| count == 0)
    }

    /// Takes everything away from Redis, and waits until the running capture has told each shard what it had confirmed.
    pub(super) fn empty(&mut self, fleet: &mut Fleet, redis: &mut Server) -> anyhow::Result<()> {
        let current = self.current(&fleet.books)?;
        // From here to its death it only answers questions, so that what is read is what dies.
        redis.command(&["CLIENT", "PAUSE", "10000", "WRITE"])?;
        let (book, producers) = (fleet.books.read()?, fleet.books.producers()?);
        redis.empty()?;
        fleet.adds_up = false;
        self.emptied += 1;
        ensure!(book.is_balanced(), "the books were off when Redis was emptied: {book}");
        self.past.add_all(&book);
        let shards = producers.get(&current).map_or(0, |given| given.shards);
        for (producer, Given { entries, shards: _ }) in producers {
            if producer != current {
                *self.given.entry(producer).or_default() += entries;
            }
        }
        wait_until("a word of the capture in each shard", NOTICE_WAIT_MAX, || {
            let told = fleet.books.producers()?.get(&current).map_or(0, |given| given.shards);
            Ok((told >= shards).then_some(()))
        })
    }

    /// The producer of the running capture, as soon as Redis knows of it.
    fn current(&self, books: &Books) -> anyhow::Result<String> {
        wait_until("entries of the capture", NOTICE_WAIT_MAX, || {
            let mut producers = books.producers()?.into_keys();
            Ok(producers.find(|producer| !self.former.contains(producer)))
        })
    }

    /// Adds everything up, says it, and fails when a sum is off.
    pub(super) fn conclude(self, account: &Account, books: &Books) -> anyhow::Result<()> {
        let Self { former: _, killed, mut given, mut past, emptied, seen_before_death } = self;
        let lost_with_redis = past.waiting;
        for (producer, Given { entries, shards: _ }) in books.producers()? {
            *given.entry(producer).or_default() += entries;
        }
        past.add_all(&account.book);
        let all = past;
        let (killed, orderly): (Vec<_>, Vec<_>) =
            given.into_iter().partition(|(name, _)| killed.contains(name));
        let sum = |of: Vec<(String, u64)>| of.into_iter().map(|(_, entries)| entries).sum::<u64>();
        let (by_killed, by_orderly) = (sum(killed), sum(orderly));
        let captured = &account.captured;
        ensure!(
            captured.given() == by_orderly,
            "captures gave {}, Redis has or had {by_orderly} of them: {captured:?}, {all}",
            captured.given()
        );

        // What Redis had taken and not confirmed when it was emptied came again, and was taken again.
        let twice =
            all.of("accepted").checked_sub(by_orderly + by_killed).context("more was given than taken")?;
        ensure!(twice <= emptied * UNCONFIRMED_MAX, "{twice} entries came twice: {all}");
        let forgotten = lost_with_redis as i64 - twice as i64;
        let seen = captured.seen + by_killed;
        let compared = all.compared();
        let at_captures = captured.seen - captured.given();
        let by_workers = all.settled() - compared + all.of("set_aside");
        let trimmed = all.of("trimmed");
        let others = at_captures + by_workers + trimmed;
        ensure!(
            seen as i64 == (compared + others) as i64 + forgotten,
            "{seen} captured, {compared} compared, {others} with other fates, {forgotten} forgotten: {all}"
        );

        let died = seen_before_death.saturating_sub(by_killed);
        let elsewhere: BTreeMap<_, _> = captured
            .fates
            .iter()
            .filter(|(fate, _)| !["queued", "spooled"].contains(&fate.as_str()))
            .collect();
        println!("soak: fates at captures {elsewhere:?}, at workers {:?}", all.fates);
        println!("soak: {trimmed} trimmed, {} set aside", all.of("set_aside"));
        println!(
            "soak: {} went from one capture to the next on disk, {} came twice and were known",
            captured.of("spooled"),
            all.of("duplicates")
        );
        println!(
            "soak: captures that were killed gave {by_killed}; of what they are known to have seen {died} died with them"
        );
        println!(
            "soak: Redis was emptied {emptied} times with {lost_with_redis} entries in it, of which {twice} came again"
        );
        println!(
            "soak: captured {seen} = compared {compared} + other fates {others} + forgotten by Redis {forgotten}"
        );
        ensure!(seen > 0 && compared > 0, "nothing was captured or compared");
        Ok(())
    }
}
