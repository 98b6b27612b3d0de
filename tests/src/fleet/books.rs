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
