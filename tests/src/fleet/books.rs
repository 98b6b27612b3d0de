//! The books that Redis keeps of an experiment, as whoever asks `redis-cli` sees them.
//!
//! Adds up, and judges nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};

use crate::process::Place;

/// Splits the answers of one `redis-cli` to several commands.
const SPLIT: &str = "----";
/// What became of entries that were compared.
const COMPARED: [&str; 4] = ["matched", "mismatched", "ignored", "incomparable"];

/// Reads the books of the experiment `lab`.
#[derive(Clone, Debug)]
pub struct Books {
    /// From where servers are asked, on loopback.
    pub place: Place,
    /// Ports of all servers; whichever answers is asked.
    pub ports: Vec<u16>,
    /// They form a cluster.
    pub is_cluster: bool,
    /// Shards of the experiment.
    pub shards: u32,
}

/// One reading of the books, over all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Counters by name, without the fates.
    pub counters: BTreeMap<String, u64>,
    /// Entries by fate.
    pub fates: BTreeMap<String, u64>,
    /// Entries in the streams.
    pub waiting: u64,
    /// Entries that came into each shard.
    pub accepted: Vec<u64>,
}

/// What one producer has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Entries.
    pub entries: u64,
    /// Shards that know of it.
    pub shards: u32,
}

// === impl Books ===

impl Books {
    /// Reads them all.
    ///
    /// # Errors
    /// When no server answers.
    pub fn read(&self) -> anyhow::Result<Book> {
        let mut asked = String::new();
        for shard in 0..self.shards {
            let keys = format!("{{understudy:lab:{shard}}}");
            asked.push_str(&format!("ECHO {SPLIT}\nXLEN {keys}:stream\nHGETALL {keys}:book\n"));
        }
        let mut said = self.ports.iter().filter_map(|port| self.ask(*port, &asked).ok());
        let Some(answer) = said.next() else { bail!("no Redis answers at {:?}", self.ports) };
        let mut book = Book::default();
        for shard in answer.split(&format!("{SPLIT}\n")).skip(1) {
            book.add(shard).with_context(|| format!("Redis said: {shard}"))?;
        }
        ensure!(book.accepted.len() == self.shards as usize, "Redis said: {answer}");
        Ok(book)
    }

    /// How many entries each producer has given, over all shards: those that Redis accepted from it, and those that Redis
    /// had confirmed to it and forgot. With the number of shards that know of the producer.
    ///
    /// # Errors
    /// When no server answers.
    pub fn producers(&self) -> anyhow::Result<BTreeMap<String, Given>> {
        let mut asked = format!("ECHO {SPLIT}\n");
        for shard in 0..self.shards {
            asked.push_str(&format!("HGETALL {{understudy:lab:{shard}}}:producers\n"));
        }
        let mut said = self.ports.iter().filter_map(|port| self.ask(*port, &asked).ok());
        let Some(answer) = said.next() else { bail!("no Redis answers at {:?}", self.ports) };
        given(&answer).with_context(|| format!("Redis said: {answer}"))
    }

    /// Sends commands, one a line.
    fn ask(&self, port: u16, commands: &str) -> anyhow::Result<String> {
        let mut client = self.place.command("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        if self.is_cluster {
            client.arg("-c");
        }
        let mut client = client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to run redis-cli")?;
        client.stdin.take().context("no input")?.write_all(commands.as_bytes())?;
        let output = client.wait_with_output().context("failed to run redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && said.contains(SPLIT), "redis-cli: {said}");
        Ok(said)
    }
}

/// Reads names of producers and, in turn, `last number:accepted:forgotten`.
fn given(answer: &str) -> anyhow::Result<BTreeMap<String, Given>> {
    let mut producers = BTreeMap::<String, Given>::new();
    let is_own = |line: &&str| !line.is_empty() && !line.starts_with("->") && *line != SPLIT;
    let mut lines = answer.lines().map(str::trim).filter(is_own);
    while let Some(name) = lines.next() {
        let counts = lines.next().context("too short")?.splitn(3, ':').skip(1);
        let entries: u64 = counts.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        let given = producers.entry(name.to_owned()).or_default();
        (given.entries, given.shards) = (given.entries + entries, given.shards + 1);
    }
    Ok(producers)
}

// === impl Book ===

impl Book {
    /// One counter.
    pub fn of(&self, counter: &str) -> u64 {
        self.counters.get(counter).copied().unwrap_or_default()
    }

    /// Entries that have a fate.
    pub fn settled(&self) -> u64 {
        self.fates.values().sum()
    }

    /// Entries that were compared.
    pub fn compared(&self) -> u64 {
        COMPARED.into_iter().filter_map(|fate| self.fates.get(fate)).sum()
    }

    /// Whether all that came in waits or has a fate.
    pub fn is_balanced(&self) -> bool {
        let out = self.settled() + self.of("trimmed") + self.of("set_aside") + self.waiting;
        self.of("accepted") == out
    }

    /// Adds another reading, of other entries.
    pub fn add_all(&mut self, other: &Self) {
        let Self { counters, fates, waiting, accepted: _ } = other;
        for (own, others) in [(&mut self.counters, counters), (&mut self.fates, fates)] {
            for (name, count) in others {
                *own.entry(name.clone()).or_default() += count;
            }
        }
        self.waiting += waiting;
    }

    /// Adds the answers of one shard: the length of its stream, then names and values of its book in turn.
    fn add(&mut self, answers: &str) -> anyhow::Result<()> {
        // In a cluster it is said where an answer comes from.
        let is_number_or_name = |line: &&str| !line.is_empty() && !line.starts_with("->");
        let mut lines = answers.lines().map(str::trim).filter(is_number_or_name);
        let number = |text: Option<&str>| anyhow::Ok(text.context("too short")?.parse::<i64>()?);
        self.waiting += u64::try_from(number(lines.next())?)?;
        let mut accepted = 0;
        while let Some(name) = lines.next() {
            // Between two scripts `trimmed` may stand one low; it is never below zero when nothing waits.
            let value = u64::try_from(number(lines.next())?)?;
            let sum = match name.strip_prefix("fate:") {
                Some(fate) => self.fates.entry(fate.to_owned()),
                None => self.counters.entry(name.to_owned()),
            };
            *sum.or_default() += value;
            if name == "accepted" {
                accepted = value;
            }
        }
        self.accepted.push(accepted);
        Ok(())
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counters, fates, waiting, accepted: _ } = self;
        write!(f, "{counters:?}, fates {fates:?}, {waiting} waiting")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_summed_over_shards() {
        let producers = given("----\nab\n9:5:1\ncd\n3:3:0\nab\n4:2:0\n").unwrap();
        let expected = [("ab", 8, 2), ("cd", 3, 1)];
        let expected = expected.map(|(name, entries, shards)| (name.to_owned(), Given { entries, shards }));
        assert_eq!(producers, expected.into());
        given("ab\n").unwrap_err();
    }

    #[test]
    fn a_book_adds_up_or_not() {
        let mut book = Book::default();
        book.add("2\naccepted\n10\ntrimmed\n1\nfate:matched\n6\nbytes\n77\n").unwrap();
        assert!(!book.is_balanced());
        book.add("0\naccepted\n5\nfate:matched\n5\nset_aside\n1\n").unwrap();
        assert!(book.is_balanced(), "{book}");
        assert_eq!((book.settled(), book.compared(), book.waiting), (11, 11, 2));
        assert_eq!(book.accepted, [10, 5]);
        book.add("what").unwrap_err();
    }
}
