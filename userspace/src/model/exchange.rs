//! A request, A's response, and the times.
//!
//! What could not be known is a mark on the exchange, never a guess in its fields.

use std::fmt;
use std::time::Duration;

use super::{Flow, Request, Response, Timestamp};

/// The field that every replayed request carries, in lower case; a captured request that has it is one of our own.
pub const REPLAY_HEADER: &str = "understudy-replay";

/// Names one exchange on every host and in every run over the same packets: a hash of the flow (its ends and
/// its opening time) and the offset of the request in its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId {
    /// Hash of the flow.
    pub flow: u64,
    /// Bytes from the first byte seen in the request direction to the request's first byte.
    pub offset: u64,
}

/// One request with A's response to it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its name.
    pub id: ExchangeId,
    /// The connection it was on.
    pub flow: Flow,
    /// What the client sent.
    pub request: Request,
    /// What A answered; absent when no response to this request was seen.
    pub response: Option<Response>,
    /// Statuses of the 1xx responses before the final one.
    pub interim: Vec<u16>,
    /// When its bytes passed.
    pub times: Times,
    /// What is unusual or unknown about it.
    pub marks: Marks,
}

/// When the bytes of an exchange passed the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// First byte of the request.
    pub request_first: Timestamp,
    /// Last byte of the request.
    pub request_last: Timestamp,
    /// First and last byte of the final response.
    pub response: Option<(Timestamp, Timestamp)>,
}

/// One unusual or unknown thing about an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mark {
    /// Bytes of this exchange existed and were not seen; or bytes near it, so that its response could not be told.
    Gap,
    /// A body was longer than the cap: its length and hash are known, not all of its bytes.
    Cut,
    /// The connection, or the observation of it, ended before the exchange did.
    Truncated,
    /// The flow was joined after its handshake.
    MidStream,
    /// No response to this request was seen.
    NoResponse,
    /// Framing that readers may understand in different ways (RFC 9112 sections 2.2, 5, 6.3): both lengths,
    /// lengths that differ, bare LF, obs-fold, white space before a colon. So are all messages behind such a one on
    /// its connection, since other readers may see other messages there; and a request that seems to begin behind lost
    /// bytes, or where a connection was joined, and nothing shows that it does. A request that a server must refuse
    /// for its Host, or whose target has bytes that no target may have (section 3.2), is ambiguous alone; and one whose
    /// response came and cannot be read. Never replayed.
    Ambiguous,
    /// The response ended with the connection (RFC 9112 section 6.3, rule 8).
    UntilClose,
    /// The connection left HTTP/1.x after this exchange (101, or 2xx to CONNECT).
    Upgraded,
    /// The response began before the request had ended.
    EarlyResponse,
    /// The request was sent before the response to the one before it had ended.
    Pipelined,
    /// Bytes of this exchange came twice with other contents, and nothing says which of them the receiver took; or it
    /// stands behind such bytes on its connection, and they may have held a message's end. Never replayed.
    Conflict,
}

/// A set of [`Mark`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Marks(u16);

// === impl ExchangeId ===

impl ExchangeId {
    /// Reads what its `Display` shows: 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (flow, offset) = text.split_at_checked(16)?;
        let number = |digits: &str| {
            // `from_str_radix` alone would take a sign.
            let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        Some(Self { flow: number(flow)?, offset: number(offset)? })
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.flow, self.offset)
    }
}

// === impl Exchange ===

impl Exchange {
    /// Bytes of memory that this holds, roughly; what queues count against their bounds.
    pub fn memory_bytes(&self) -> usize {
        let response = self.response.as_ref().map_or(0, Response::memory_bytes);
        size_of::<Self>().saturating_add(self.request.memory_bytes()).saturating_add(response)
    }
}

// === impl Times ===

impl Times {
    /// Last request byte to first response byte: the time A took to begin its answer. Zero for an early one.
    pub fn ttfb(&self) -> Option<Duration> {
        self.response.map(|(first, _)| first.since(self.request_last))
    }

    /// First request byte to last response byte.
    pub fn total(&self) -> Option<Duration> {
        self.response.map(|(_, last)| last.since(self.request_first))
    }

    /// Last request byte to last response byte: the time A took to give its answer.
    pub fn served(&self) -> Option<Duration> {
        self.response.map(|(_, last)| last.since(self.request_last))
    }
}

// === impl Mark ===

impl Mark {
    /// All marks, in the order in which they are shown.
    pub const ALL: [Mark; 11] = [
        Mark::Gap,
        Mark::Cut,
        Mark::Truncated,
        Mark::MidStream,
        Mark::NoResponse,
        Mark::Ambiguous,
        Mark::UntilClose,
        Mark::Upgraded,
        Mark::EarlyResponse,
        Mark::Pipelined,
        Mark::Conflict,
    ];

    /// The mark's name in output; stable.
    pub fn label(self) -> &'static str {
        match self {
            Mark::Gap => "gap",
            Mark::Cut => "cut",
            Mark::Truncated => "truncated",
            Mark::MidStream => "mid_stream",
            Mark::NoResponse => "no_response",
            Mark::Ambiguous => "ambiguous",
            Mark::UntilClose => "until_close",
            Mark::Upgraded => "upgraded",
            Mark::EarlyResponse => "early_response",
            Mark::Pipelined => "pipelined",
            Mark::Conflict => "conflict",
        }
    }

    fn bit(self) -> u16 {
        1u16 << (self as u8)
    }
}

// === impl Marks ===

impl Marks {
    /// Adds a mark.
    pub fn set(&mut self, mark: Mark) {
        self.0 |= mark.bit();
    }

    /// Adds all marks of `other`.
    pub fn merge(&mut self, other: Marks) {
        self.0 |= other.0;
    }

    /// True when `mark` is in the set.
    pub fn has(self, mark: Mark) -> bool {
        self.0 & mark.bit() != 0
    }

    /// True when no mark is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The marks in the set, in the order of [`Mark::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Mark> {
        Mark::ALL.into_iter().filter(move |mark| self.has(*mark))
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Mark::label)).finish()
    }
}

/// That mark alone.
impl From<Mark> for Marks {
    fn from(mark: Mark) -> Self {
        Self(mark.bit())
    }
}

impl FromIterator<Mark> for Marks {
    fn from_iter<I: IntoIterator<Item = Mark>>(marks: I) -> Self {
        let mut set = Marks::default();
        marks.into_iter().for_each(|mark| set.set(mark));
        set
    }
}
