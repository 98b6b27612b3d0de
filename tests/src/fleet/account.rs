//! What a fleet that has come to rest has counted, and what must be true of it.
//!
//! Takes no count for the truth because a daemon says it: B's log and the books in Redis are asked too.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use super::books::Book;
use crate::app::LogLine;
use crate::scrape::Scrape;

/// What a fleet that has come to rest has counted.
#[derive(Clone, Debug)]
pub struct Account {
    /// Requests that A was sent.
    pub sent: usize,
    /// `/metrics` of the capture that runs.
    pub capture: Scrape,
    /// What it and those that ended in order before say.
    pub captured: Captured,
    /// The books.
    pub book: Book,
    /// How often B received each request, by its number.
    pub arrivals: BTreeMap<usize, u64>,
}

/// What captures say of the exchanges that they saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// All.
    pub seen: u64,
    /// By fate, without those at zero.
    pub fates: BTreeMap<String, u64>,
}

// === impl Account ===

impl Account {
    /// Fails unless captures saw everything that was sent, and gave it no fate besides `queued` and `others`.
    ///
    /// # Errors
    /// When that is not so.
    pub fn captured_all(&self, others: &[&str]) -> anyhow::Result<()> {
        let Captured { seen, fates } = &self.captured;
        ensure!(*seen == self.sent as u64, "{seen} of {} exchanges were seen", self.sent);
        let known: u64 = others.iter().chain(&["queued"]).filter_map(|fate| fates.get(*fate)).sum();
        ensure!(known == *seen, "{known} of {seen} are queued, or are {others:?}: {fates:?}");
        self.redis_has(self.captured.of("queued"))
    }

    /// Fails unless Redis has counted in this many entries, and lost ones.
    ///
    /// # Errors
    /// When that is not so.
    pub fn redis_has(&self, queued: u64) -> anyhow::Result<()> {
        let (accepted, forgotten) = (self.book.of("accepted"), self.book.of("forgotten"));
        ensure!(
            accepted + forgotten == queued,
            "{accepted} accepted and {forgotten} forgotten are not {queued} queued"
        );
        Ok(())
    }

    /// Fails unless B received each of these requests once, and none of all requests twice.
    ///
    /// # Errors
    /// When that is not so; some numbers stand in the message.
    pub fn arrived_once(&self, numbers: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
        let twice: Vec<_> = self.arrivals.iter().filter(|(_, times)| **times > 1).take(10).collect();
        ensure!(twice.is_empty(), "B received some more than once: {twice:?}");
        let missing = numbers.into_iter().filter(|number| !self.arrivals.contains_key(number));
        let missing: Vec<usize> = missing.collect();
        ensure!(
            missing.is_empty(),
            "B has not received {} requests, such as {:?}",
            missing.len(),
            missing.first()
        );
        Ok(())
    }
}

/// How often each request stands in a log, by the number in its marker.
pub(super) fn arrivals(log: &[LogLine]) -> anyhow::Result<BTreeMap<usize, u64>> {
    let mut arrivals = BTreeMap::new();
    for line in log {
        let marker = line.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-marker"));
        let (_, marker) = marker.context("B received a request without a marker")?;
        let number = marker.trim_start_matches('m').parse().context("a marker has no number")?;
        *arrivals.entry(number).or_default() += 1;
    }
    Ok(arrivals)
}

// === impl Captured ===

impl Captured {
    /// Exchanges with this fate.
    pub fn of(&self, fate: &str) -> u64 {
        self.fates.get(fate).copied().unwrap_or_default()
    }

    /// Exchanges that were handed to Redis, or left in the spool for the next capture to hand over.
    pub fn given(&self) -> u64 {
        self.of("queued") + self.of("spooled")
    }

    /// Fails unless each exchange has a fate, and none is lost.
    ///
    /// # Errors
    /// When that is not so.
    pub fn is_balanced(&self) -> anyhow::Result<()> {
        let Self { seen, fates } = self;
        let settled: u64 = fates.values().sum();
        ensure!(*seen == settled, "{seen} exchanges were seen, {settled} have a fate: {fates:?}");
        ensure!(self.of("lost") == 0, "captures have lost exchanges: {fates:?}");
        Ok(())
    }

    /// Adds what another capture says.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { seen, fates } = other;
        self.seen += seen;
        for (fate, count) in fates {
            *self.fates.entry(fate.clone()).or_default() += count;
        }
    }

    /// Reads `/metrics` of a capture.
    pub(super) fn of_scrape(scrape: &Scrape) -> anyhow::Result<Self> {
        let name = "understudy_exchanges_total";
        let mut fates = BTreeMap::new();
        for fate in scrape.label_values(name, "fate") {
            let count = scrape.sum(name, &[("fate", &fate)])?;
            if count > 0 {
                fates.insert(fate, count);
            }
        }
        Ok(Self { seen: scrape.sum("understudy_exchanges_seen_total", &[])?, fates })
    }

    /// Reads the ledger that a capture prints at its end.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with("lab: exchanges"));
        let number = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
        let seen = number(lines.next()?)?;
        let fates = lines.map_while(|line| {
            let (label, count) = line.strip_prefix("    ")?.trim_end().rsplit_once(' ')?;
            Some((label.trim().to_owned(), count.parse().ok()?))
        });
        Some(Self { seen, fates: fates.filter(|(_, count)| *count > 0).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_read_from_text() {
        let text = "Ledger\n  packets wanted  10\n  lab: exchanges                        12\n    queued                              9\n\
                    \u{20}   shed                                0\n    not sampled                         3\n  other  7\n";
        let captured = Captured::of_text(text).unwrap();
        let fates = [("not sampled", 3), ("queued", 9)];
        let fates = fates.map(|(fate, count)| (fate.to_owned(), count)).into();
        assert_eq!(captured, Captured { seen: 12, fates });
        assert_eq!(Captured::of_text("nothing"), None);
    }

    #[test]
    fn a_ledger_is_read_from_metrics() {
        let text = "understudy_exchanges_seen_total{experiment=\"lab\"} 5\n\
            understudy_exchanges_total{experiment=\"lab\",fate=\"queued\"} 4\n\
            understudy_exchanges_total{experiment=\"lab\",fate=\"spooled\"} 1\n\
            understudy_exchanges_total{experiment=\"lab\",fate=\"lost\"} 0\n";
        let mut captured = Captured::of_scrape(&Scrape::parse(text).unwrap()).unwrap();
        assert_eq!((captured.seen, captured.given(), captured.fates.len()), (5, 5, 2));
        captured.is_balanced().unwrap();
        captured.add(&Captured { seen: 2, fates: [("shed".to_owned(), 1)].into() });
        captured.is_balanced().unwrap_err();
    }
}
