//! Finds the earlier answer of A to a request that A was sent before.
//!
//! Sends nothing, and pairs safe requests only (RFC 9110 section 9.2.1). Time comes with the exchanges.
//!
//! Two requests are the same when method, target, host, the configured fields, body and subject are. The subject is
//! what the fields say that carry secrets (`Authorization`, `Cookie` and others): one user's page is no repeat of
//! another's. Only hashes of all this are kept, with the earlier answer.
//!
//! An unsafe request changes what its sender sees: it ends pairing across it for its own subject, and for nobody else.
//! So a change by one subject that another one sees still looks like noise of A, which it is.
//!
//! What is kept is bounded by number and by bytes; what came first goes first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use sha2::{Digest as _, Sha256};

use crate::model::{Exchange, Mark, Request, Timestamp, host_of, is_secret};

/// Which requests are the same, and for how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatConfig {
    /// Answers further apart are not paired. Default 10 minutes.
    pub window: Duration,
    /// Answers nearer together are not paired, and the earlier one is kept: two answers must be at least as far apart
    /// as B's is from A's. Default 2 seconds.
    pub apart_min: Duration,
    /// Memory of the answers that are kept, in bytes; above, the oldest go. Default 16 MiB.
    pub bytes_max: usize,
    /// Answers kept whatever their size; above, the oldest go. Default 65,536.
    pub answers_max: usize,
    /// Request fields, in lower case, that make two requests different ones besides method, target, host, body and
    /// subject. Default: `accept`, `accept-encoding`, `accept-language`, `content-type`, `range`, `if-range`,
    /// `if-match`, `if-none-match`, `if-modified-since`, `if-unmodified-since`, `cache-control`, `origin`, `prefer`.
    pub headers: Vec<String>,
    /// Whether an unsafe request ends pairing across it for its subject. Default true.
    pub unsafe_ends: bool,
}

/// Recent safe requests, with A's answers.
#[derive(Debug)]
pub struct RepeatIndex {
    config: RepeatConfig,
    by_request: HashMap<Digest, Kept, RandomState>,
    /// In the order in which they were kept; an entry whose number is no longer that of its request is void.
    by_age: VecDeque<(Digest, u64)>,
    /// When each subject last sent an unsafe request, as far as anything older may still be kept.
    unsafe_at: HashMap<Digest, Timestamp, RandomState>,
    next_number: u64,
    totals: RepeatTotals,
}

/// An earlier answer of A to the same request.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// The earlier exchange.
    pub earlier: Arc<Exchange>,
    /// Time from A's earlier answer to the later one.
    pub apart: Duration,
}

/// What became of the requests that an index was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepeatTotals {
    /// Safe requests with a whole answer.
    pub seen: u64,
    /// Of these, paired with an earlier one.
    pub paired: u64,
    /// Answers dropped for a bound.
    pub evicted: u64,
    /// Answers not paired because the subject sent an unsafe request in between.
    pub ended: u64,
    /// Answers kept now.
    pub answers: usize,
    /// Bytes kept now.
    pub bytes: usize,
}

type Digest = [u8; 16];

#[derive(Debug)]
struct Kept {
    number: u64,
    exchange: Arc<Exchange>,
    answered: Timestamp,
    bytes: usize,
}

/// Bytes of the index itself for each answer, roughly.
const ENTRY_BYTES: usize = 160;

/// Fields that the default configuration looks at.
const HEADERS: [&str; 13] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "prefer",
    "range",
];

// === impl RepeatConfig ===

impl Default for RepeatConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            apart_min: Duration::from_secs(2),
            bytes_max: 16 << 20,
            answers_max: 65_536,
            headers: HEADERS.map(str::to_owned).to_vec(),
            unsafe_ends: true,
        }
    }
}

// === impl RepeatIndex ===

impl RepeatIndex {
    /// An empty index.
    pub fn new(config: RepeatConfig) -> Self {
        Self {
            config,
            by_request: HashMap::default(),
            by_age: VecDeque::new(),
            unsafe_at: HashMap::default(),
            next_number: 0,
            totals: RepeatTotals::default(),
        }
    }

    /// Takes the next exchange in and gives the earlier answer to the same request, if there is one within the window.
    ///
    /// Show it every exchange, in the order in which they ended, also unsafe ones and those that are not replayed.
    pub fn observe(&mut self, exchange: &Arc<Exchange>) -> Option<Repeat> {
        let times = &exchange.times;
        let now = times.response.map_or(times.request_last, |(_, last)| last);
        let subject = subject(&exchange.request);
        if !exchange.request.is_safe() {
            if self.config.unsafe_ends {
                self.end(subject, now);
            }
            return None;
        }
        if !is_whole(exchange) {
            return None;
        }
        self.totals.seen = self.totals.seen.saturating_add(1);
        self.forget(now);
        let request = self.request(&exchange.request, &subject);
        let earlier = self.by_request.get(&request).map(|kept| (Arc::clone(&kept.exchange), kept.answered));
        let Some((earlier, answered)) = earlier else {
            self.keep(request, exchange, now);
            return None;
        };
        let apart = now.since(answered);
        // An unsafe request that overlaps either answer may have changed it.
        let ended = self.unsafe_at.get(&subject).is_some_and(|at| *at >= earlier.times.request_first);
        if !ended && apart < self.config.apart_min {
            return None;
        }
        self.keep(request, exchange, now);
        if ended {
            self.totals.ended = self.totals.ended.saturating_add(1);
            return None;
        }
        self.totals.paired = self.totals.paired.saturating_add(1);
        Some(Repeat { earlier, apart })
    }

    /// What became of the requests so far.
    pub fn totals(&self) -> RepeatTotals {
        self.totals
    }

    fn end(&mut self, subject: Digest, now: Timestamp) {
        if self.unsafe_at.len() >= self.config.answers_max {
            // What is too old to matter first; were all of them recent, nothing may be paired across now.
            let window = self.config.window;
            self.unsafe_at.retain(|_, at| now.since(*at) <= window);
            if self.unsafe_at.len() >= self.config.answers_max {
                self.unsafe_at.clear();
                self.totals.evicted = self.totals.evicted.saturating_add(self.by_request.len() as u64);
                self.by_request.clear();
                self.by_age.clear();
                (self.totals.answers, self.totals.bytes) = (0, 0);
            }
        }
        self.unsafe_at.insert(subject, now);
    }

    fn keep(&mut self, request: Digest, exchange: &Arc<Exchange>, answered: Timestamp) {
        let bytes = exchange.memory_bytes().saturating_add(ENTRY_BYTES);
        self.remove(&request);
        if bytes > self.config.bytes_max {
            self.totals.evicted = self.totals.evicted.saturating_add(1);
            return;
        }
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        self.by_request.insert(request, Kept { number, exchange: Arc::clone(exchange), answered, bytes });
        self.by_age.push_back((request, number));
        if self.by_age.len() > self.by_request.len().saturating_mul(2).saturating_add(64) {
            let by_request = &self.by_request;
            let is_current = |(request, number): &(Digest, u64)| {
                by_request.get(request).is_some_and(|kept| kept.number == *number)
            };
            self.by_age.retain(is_current);
        }
        self.totals.bytes = self.totals.bytes.saturating_add(bytes);
        self.totals.answers = self.by_request.len();
        while self.totals.bytes > self.config.bytes_max || self.totals.answers > self.config.answers_max {
            let Some((oldest, number)) = self.by_age.pop_front() else { return };
            if self.is_current(&oldest, number) {
                self.remove(&oldest);
                self.totals.evicted = self.totals.evicted.saturating_add(1);
            }
        }
    }

    /// Drops what is older than the window. Void entries leave by the same end, so that none stays longer than it.
    fn forget(&mut self, now: Timestamp) {
        while let Some((oldest, number)) = self.by_age.front().copied() {
            if self.is_current(&oldest, number) {
                let is_old = |kept: &Kept| now.since(kept.answered) > self.config.window;
                if !self.by_request.get(&oldest).is_some_and(is_old) {
                    return;
                }
                self.remove(&oldest);
            }
            self.by_age.pop_front();
        }
    }

    fn is_current(&self, request: &Digest, number: u64) -> bool {
        self.by_request.get(request).is_some_and(|kept| kept.number == number)
    }

    fn remove(&mut self, request: &Digest) {
        if let Some(kept) = self.by_request.remove(request) {
            self.totals.bytes = self.totals.bytes.saturating_sub(kept.bytes);
            self.totals.answers = self.by_request.len();
        }
    }

    fn request(&self, request: &Request, subject: &Digest) -> Digest {
        let mut hash = Sha256::new();
        put(&mut hash, &request.method);
        put(&mut hash, &request.target);
        put(&mut hash, &host_of(request.headers.get("host").unwrap_or_default()).to_ascii_lowercase());
        for name in &self.config.headers {
            for value in request.headers.get_all(name) {
                put(&mut hash, name.as_bytes());
                put(&mut hash, value);
            }
        }
        put(&mut hash, subject);
        put(&mut hash, request.body.digest.as_ref().map_or(&request.body.kept[..], |digest| digest));
        finish(hash)
    }
}

// === impl Repeat ===

impl Repeat {
    /// True when the two answers of A are at least as far apart as B's answer is from A's later one: else a change of
    /// the data would be laid to B more often than to A.
    pub fn is_fair(&self, candidate_lag: Duration) -> bool {
        self.apart >= candidate_lag
    }
}

/// True when A's answer is there, whole, and can be compared.
fn is_whole(exchange: &Exchange) -> bool {
    let marks = [Mark::Gap, Mark::Truncated, Mark::Ambiguous, Mark::NoResponse, Mark::Upgraded];
    let marked = marks.into_iter().any(|mark| exchange.marks.has(mark));
    !marked && exchange.response.as_ref().is_some_and(|response| response.body.complete)
}

/// Who asks, as far as the fields say that carry secrets.
fn subject(request: &Request) -> Digest {
    let mut hash = Sha256::new();
    for (name, value) in request.headers.iter() {
        if let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_secret(name)) {
            put(&mut hash, name.to_ascii_lowercase().as_bytes());
            put(&mut hash, value);
        }
    }
    finish(hash)
}

/// With its length, so that parts do not run into each other.
fn put(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

fn finish(hash: Sha256) -> Digest {
    let mut digest = [0; 16];
    for (to, from) in digest.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ExchangeId, samples};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_secs(seconds))
    }

    fn sent(second: u64, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Arc<Exchange> {
        let id = ExchangeId { flow: second, offset: 0 };
        let request = samples::request(method, target, headers);
        Arc::new(samples::exchange(id, at(second), request, samples::response(200, &[], body)))
    }

    fn index(config: RepeatConfig) -> RepeatIndex {
        RepeatIndex::new(config)
    }

    /// Whether the second of two requests, five seconds apart, is a repeat of the first.
    #[track_caller]
    fn check(expected: bool, first: (&str, &str, &[(&str, &str)]), second: (&str, &str, &[(&str, &str)])) {
        let mut index = index(RepeatConfig::default());
        assert!(index.observe(&sent(1, first.0, first.1, first.2, "")).is_none());
        let repeat = index.observe(&sent(6, second.0, second.1, second.2, ""));
        assert_eq!(repeat.is_some(), expected, "{first:?} {second:?}");
        if let Some(repeat) = repeat {
            assert_eq!((repeat.apart, repeat.earlier.id.flow), (Duration::from_secs(5), 1));
        }
    }

    #[test]
    fn the_same_request_of_the_same_subject_is_a_repeat() {
        let host = ("Host", "shop.example");
        check(true, ("GET", "/a", &[host]), ("GET", "/a", &[host]));
        check(true, ("GET", "/a", &[host]), ("GET", "/a", &[("host", "SHOP.example:80"), ("X-Trace", "1")]));
        check(false, ("GET", "/a", &[host]), ("GET", "/b", &[host]));
        check(false, ("GET", "/a", &[host]), ("HEAD", "/a", &[host]));
        check(false, ("GET", "/a", &[host]), ("GET", "/a", &[("Host", "other.example")]));
        check(false, ("GET", "/a", &[host]), ("GET", "/a", &[host, ("Accept", "text/html")]));
        check(false, ("GET", "/a", &[("Cookie", "s=1")]), ("GET", "/a", &[("Cookie", "s=2")]));
        check(false, ("POST", "/a", &[]), ("POST", "/a", &[]));
    }

    #[test]
    fn answers_pair_within_the_window_and_not_too_near() {
        let mut index = index(RepeatConfig::default());
        let mut apart =
            |second| index.observe(&sent(second, "GET", "/a", &[], "")).map(|repeat| repeat.apart.as_secs());
        let paired: Vec<_> = [10, 11, 13, 14, 700, 1_400].into_iter().map(&mut apart).collect();
        assert_eq!(paired, [None, None, Some(3), None, None, None]);
        assert_eq!(index.totals().answers, 1);
    }

    #[test]
    fn an_unsafe_request_ends_pairing_for_its_subject_alone() {
        let (anna, bob): (&[_], &[_]) = (&[("Cookie", "anna")], &[("Cookie", "bob")]);
        for (unsafe_ends, expected) in [(true, [false, true]), (false, [true, true])] {
            let mut index = index(RepeatConfig { unsafe_ends, ..RepeatConfig::default() });
            assert!(index.observe(&sent(1, "GET", "/cart", anna, "")).is_none());
            assert!(index.observe(&sent(1, "GET", "/cart", bob, "")).is_none());
            assert!(index.observe(&sent(3, "POST", "/cart", anna, "")).is_none());
            let paired = [anna, bob].map(|who| index.observe(&sent(6, "GET", "/cart", who, "")).is_some());
            assert_eq!(paired, expected);
            assert!(index.observe(&sent(9, "GET", "/cart", anna, "")).is_some(), "from then on");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let config = RepeatConfig { bytes_max: 100_000, answers_max: 50, ..RepeatConfig::default() };
        let mut index = index(config);
        let body = "x".repeat(10_000);
        for number in 0..1_000 {
            let body = if number < 500 { body.as_str() } else { "" };
            index.observe(&sent(number, "GET", &format!("/{number}"), &[], body));
            assert!(index.totals().bytes <= 100_000 && index.totals().answers <= 50);
        }
        assert_eq!(index.totals().answers, 50);
        assert_eq!(index.totals().evicted, 950);
        for number in 0..1_000 {
            index.observe(&sent(1_000 + number * 3, "GET", "/hot", &[], ""));
        }
        assert!(index.by_age.len() <= 2 * index.by_request.len() + 64, "{}", index.by_age.len());
        let huge = "x".repeat(200_000);
        index.observe(&sent(5_000, "GET", "/huge", &[], &huge));
        assert!(index.totals().bytes <= 100_000);
    }

    #[test]
    fn too_many_subjects_pair_nothing_across_their_changes() {
        let mut index = index(RepeatConfig { answers_max: 4, ..RepeatConfig::default() });
        let who: Vec<String> = (0..6).map(|number| format!("user{number}")).collect();
        index.observe(&sent(1, "GET", "/a", &[("Cookie", "user0")], ""));
        for who in &who {
            index.observe(&sent(2, "POST", "/a", &[("Cookie", who)], ""));
        }
        assert!(index.observe(&sent(6, "GET", "/a", &[("Cookie", "user0")], "")).is_none());
        assert!(index.unsafe_at.len() <= 4);
    }

    #[test]
    fn an_answer_that_was_not_seen_whole_is_no_evidence() {
        let mut index = index(RepeatConfig::default());
        let mut cut = Arc::unwrap_or_clone(sent(1, "GET", "/a", &[], ""));
        cut.marks.set(Mark::Gap);
        index.observe(&Arc::new(cut));
        assert!(index.observe(&sent(6, "GET", "/a", &[], "")).is_none());
        assert_eq!(index.totals().seen, 1);
    }
}
