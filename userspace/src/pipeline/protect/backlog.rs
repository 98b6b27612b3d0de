//! How full the ring was when its reader came to it, and up to when it has been read.
//!
//! The kernel does not tell user space, and need not: packets say when they were copied, so that what was in the ring at
//! one moment is what comes out of it with an earlier time.

use std::time::Duration;

use crate::model::Timestamp;

/// Measures it, round by round; a round begins with a moment, and is over when a later packet comes out.
#[derive(Debug, Default)]
pub struct Backlog {
    round: Option<Round>,
    /// The most that any round since [`Backlog::take_peak`] found.
    peak_bytes: u64,
    /// When the reader came last.
    came: Timestamp,
    /// What was copied before that has come out.
    read_to: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    began: Timestamp,
    bytes: u64,
}

/// How much later than a packet's time it may come out, beside packets of other CPUs, which have times of their own.
const STRAGGLE_MAX: Duration = Duration::from_millis(10);

// === impl Backlog ===

impl Backlog {
    /// The reader comes to the ring; begins a round, unless one goes on.
    pub fn begin(&mut self, now: Timestamp) {
        self.came = now;
        if self.round.is_none() {
            self.round = Some(Round { began: now, bytes: 0 });
        }
    }

    /// A packet came out that took so many bytes of the ring.
    #[inline]
    pub fn pass(&mut self, captured_at: Timestamp, bytes: u64) {
        self.read_to = self.read_to.max(captured_at);
        let Some(round) = &mut self.round else { return };
        if captured_at > round.began {
            self.round = None;
            return;
        }
        round.bytes = round.bytes.saturating_add(bytes);
        self.peak_bytes = self.peak_bytes.max(round.bytes);
    }

    /// The ring is empty.
    pub fn end(&mut self) {
        self.round = None;
        self.read_to = self.read_to.max(self.came);
    }

    /// True when whatever was copied up to this moment has come out.
    pub fn is_read_to(&self, moment: Timestamp) -> bool {
        self.read_to > moment.after(STRAGGLE_MAX)
    }

    /// The most that was in the ring at a time since this was asked last.
    pub fn take_peak(&mut self) -> u64 {
        std::mem::take(&mut self.peak_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script: a reader that comes at a time (`@5`), packets with their times (`3`) of 10 bytes each, an empty
    /// ring (`.`), and the question for the peak (`?`).
    #[track_caller]
    fn check(script: &str, expected: &[u64]) {
        let mut backlog = Backlog::default();
        let mut peaks = Vec::new();
        for word in script.split_ascii_whitespace() {
            match (word, word.strip_prefix('@')) {
                (".", _) => backlog.end(),
                ("?", _) => peaks.push(backlog.take_peak()),
                (_, Some(time)) => backlog.begin(Timestamp(time.parse().unwrap())),
                (time, None) => backlog.pass(Timestamp(time.parse().unwrap()), 10),
            }
        }
        assert_eq!(peaks, expected, "{script}");
    }

    #[test]
    fn counts_what_was_there_when_the_reader_came() {
        check("@5 1 2 3 . ?", &[30]);
        check("@5 ?", &[0]);
        check("@5 1 6 7 8 9 ? ?", &[10, 0]);
    }

    #[test]
    fn is_read_to_a_moment_when_a_later_packet_came_out_or_none_was_left() {
        let ms = |ms: u64| Timestamp(ms * 1_000_000);
        let mut backlog = Backlog::default();
        backlog.begin(ms(1_000));
        backlog.pass(ms(900), 10);
        backlog.pass(ms(505), 10);
        assert!(backlog.is_read_to(ms(889)) && !backlog.is_read_to(ms(890)));
        backlog.begin(ms(1_100));
        assert!(!backlog.is_read_to(ms(890)), "to come is not to read");
        backlog.end();
        assert!(backlog.is_read_to(ms(1_089)) && !backlog.is_read_to(ms(1_090)));
    }

    #[test]
    fn a_round_goes_on_over_several_visits_until_it_is_over() {
        check("@5 1 2 @7 3 4 @9 5 6 ?", &[50]);
        check("@5 1 2 3 . @7 6 . ?", &[30]);
        // What comes while the reader reads is not what it found.
        check("@5 1 6 2 3 @8 4 ?", &[10]);
    }

    #[test]
    fn a_peak_is_of_the_time_since_it_was_asked_for() {
        check("@5 1 2 ? 3 ? . @9 8 . ?", &[20, 30, 10]);
    }
}
