//! Cuts one direction of a connection into messages.
//!
//! Pairs nothing. After lost bytes it goes on at the next chunk that begins like a message.

use memchr::memchr;

use crate::model::{Headers, Timestamp};

use super::chunked::{Chunked, ChunkedStep};
use super::framing::Framing;
use super::head::{self, Look, Parsed};
use super::headless::Headless;
use super::lead::Lead;
use super::protocol::Foreign;

/// Reads messages whose heads are `H`.
#[derive(Debug)]
pub(super) struct MessageReader<H> {
    parse: fn(&[u8]) -> Parsed<H>,
    /// Whether bytes begin a message, and whether nothing but that says so.
    look: fn(&[u8], bool) -> Look,
    state: State,
    /// A head that has come in part.
    partial: Vec<u8>,
    /// Where the message began.
    start: Start,
    /// No message was read yet, so that bytes that are no head say that the flow is not HTTP.
    first: bool,
    headless: Headless,
    /// The head that is being read was only guessed to begin here.
    tentative: bool,
    /// Nothing but its looks says so.
    unshown: bool,
    /// The start line of the head that is being read was looked at in full.
    decided: bool,
    /// A body was left inside: what its sender had received when the message began. Until it has received more, what
    /// looks like a message may be a part of that body.
    inside_since: Option<u64>,
    /// What has come before the start line that is waited for.
    lead: Lead,
    /// What came before the start line that was read last.
    led_by: Lead,
}

/// Bytes of a head that has come in part after which only a line's end can tell more about its start line.
const LOOK_BYTES: usize = 64;

/// Where and when a message began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    pub(super) offset: u64,
    pub(super) at: Timestamp,
    /// Bytes of the other direction that the sender had received.
    pub(super) acknowledged: u64,
}

/// What one chunk brings along.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkContext {
    pub(super) offset: u64,
    pub(super) bytes: usize,
    pub(super) at: Timestamp,
    pub(super) acknowledged: u64,
    /// When the boundary is lost: something shows that a message begins with this chunk.
    pub(super) shown: bool,
    pub(super) head_bytes_max: usize,
    /// Bytes of heads that have come in part for which there is room.
    pub(super) room: usize,
}

#[derive(Debug)]
enum State {
    /// At a message boundary, or in a head.
    Head,
    /// A head was read; its framing is not set yet.
    Framing,
    /// The message is over.
    End,
    Length {
        left: u64,
    },
    Chunked(Box<Chunked>),
    UntilClose,
    /// The next message boundary is not known.
    Lost,
    /// Nothing more is read. `passed`: bytes went by since.
    Stopped {
        passed: bool,
    },
}

/// The next thing in this direction.
#[derive(Debug)]
pub(super) enum Step<'a, H> {
    /// A head and where its message began. [`MessageReader::set_framing`] must follow.
    Head(H, Start),
    /// Bytes of the body.
    Body(&'a [u8]),
    /// The message is over, and whether something in its body coding was ambiguous.
    End { trailers: Headers, ambiguous: bool },
    /// The body's coding is broken: the message is over, incomplete, and the next boundary is not known.
    Broken,
    /// There is no head where one should be, and the next boundary is not known. `guessed`: nor was this one, but the
    /// bytes began like a head.
    NoHead { why: NoHead, guessed: bool },
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// It cannot be read.
    Malformed,
    /// It is longer than the limit.
    Oversize,
    /// The first bytes of the flow are no HTTP/1.x.
    Foreign {
        /// What they are, as far as they say.
        kind: Foreign,
        /// They begin as text of no known protocol does.
        is_text: bool,
    },
}

/// What missing bytes, or the end of the stream, did to the message that was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) message: MessageLoss,
    /// The next message boundary is no longer known, and messages may be missing.
    pub(super) boundary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageLoss {
    /// No message was being read.
    None,
    /// A head was cut off.
    Head,
    /// Its body has a hole and goes on.
    Hole,
    /// It is over and incomplete.
    Cut,
    /// It is over and complete: its framing is the end of the stream.
    Complete,
}

// === impl ChunkContext ===

impl ChunkContext {
    /// Offset of what is left of the chunk.
    pub(super) fn offset_before(&self, rest: &[u8]) -> u64 {
        self.offset.saturating_add(self.bytes.saturating_sub(rest.len()) as u64)
    }
}

// === impl MessageReader ===

impl<H> MessageReader<H> {
    /// A reader at a message boundary, or, with `mid_stream`, somewhere.
    pub(super) fn new(
        parse: fn(&[u8]) -> Parsed<H>,
        look: fn(&[u8], bool) -> Look,
        mid_stream: bool,
    ) -> Self {
        Self {
            parse,
            look,
            state: if mid_stream { State::Lost } else { State::Head },
            partial: Vec::new(),
            start: Start::default(),
            first: !mid_stream,
            headless: Headless::of(mid_stream),
            tentative: false,
            unshown: false,
            decided: false,
            inside_since: None,
            lead: Lead::default(),
            led_by: Lead::default(),
        }
    }

    /// What came before the start line that was read last. A server passes over CRLF there, and a client has nothing
    /// to pass over (RFC 9112 section 2.2).
    pub(super) fn led_by(&self) -> Lead {
        self.led_by
    }

    /// True as long as no head of this direction was read; of a flow that was joined it is not known.
    pub(super) fn has_read_none(&self) -> bool {
        self.first
    }

    /// So many bytes go by.
    pub(super) fn note_bytes(&mut self, bytes: usize) {
        self.headless.pass(bytes);
    }

    /// True when a flow that was joined has shown no head in more than so many bytes without a hole, and is not about to.
    pub(super) fn is_headless(&self, bytes_max: u32) -> bool {
        self.is_lost() && self.headless.is_beyond(bytes_max)
    }

    /// A head that has come in part, and where it begins.
    pub(super) fn partial(&self) -> Option<(u64, &[u8])> {
        (!self.partial.is_empty()).then_some((self.start.offset, &self.partial[..]))
    }

    /// Bytes of a head or a trailer section that has come in part.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Chunked(chunked) => chunked.held_bytes(),
            State::Head
            | State::Framing
            | State::End
            | State::Length { left: _ }
            | State::UntilClose
            | State::Lost
            | State::Stopped { passed: _ } => self.partial.len(),
        }
    }

    /// Says how the body of the head just read ends.
    pub(super) fn set_framing(&mut self, framing: Framing) {
        self.unshown = false;
        self.state = match framing {
            Framing::Empty => State::End,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Chunked(Box::new(Chunked::new())),
            Framing::UntilClose => State::UntilClose,
            Framing::Tunnel => State::End,
            Framing::Invalid => {
                self.inside_since = Some(self.start.acknowledged);
                State::Lost
            }
        };
    }

    /// Reads nothing more.
    pub(super) fn stop(&mut self) {
        self.state = State::Stopped { passed: false };
        self.headless.end();
        self.partial = Vec::new();
    }

    /// Reads on after [`MessageReader::stop`]: where it stopped when nothing went by since, and else at the next chunk
    /// that begins like a message. False when the boundary is lost so.
    pub(super) fn resume(&mut self) -> bool {
        let State::Stopped { passed } = self.state else { return true };
        self.state = if passed { State::Lost } else { State::Head };
        !passed
    }

    /// Gives up the body that is being read: what follows is the next message.
    pub(super) fn abandon_body(&mut self) {
        self.state = State::Head;
    }

    /// True when `input` begins like a message.
    pub(super) fn sees_message(&self, input: &[u8]) -> bool {
        (self.look)(input, false) == Look::Yes
    }

    /// True when the next boundary is not known.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// True when this many bytes from here on lie in a body whose end does not depend on them.
    pub(super) fn is_inside_body(&self, bytes: u64) -> bool {
        matches!(self.state, State::UntilClose)
            || matches!(self.state, State::Length { left } if left >= bytes)
    }

    /// True when nothing but its looks says that the head just read begins where it does.
    pub(super) fn is_unshown(&self) -> bool {
        self.unshown
    }

    fn look(&self, bytes: &[u8]) -> Look {
        (self.look)(bytes, self.unshown)
    }

    /// Takes what it can off the front of `input`. `None` when it needs more.
    pub(super) fn step<'a>(&mut self, input: &mut &'a [u8], chunk: &ChunkContext) -> Option<Step<'a, H>> {
        loop {
            match &mut self.state {
                State::Stopped { passed } => {
                    *passed |= !std::mem::take(input).is_empty();
                    return None;
                }
                State::Framing => {
                    *input = &[];
                    return None;
                }
                State::End => return Some(self.end(Headers::default(), false)),
                State::Length { left: 0 } => return Some(self.end(Headers::default(), false)),
                State::Length { left } => {
                    if input.is_empty() {
                        return None;
                    }
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (body, rest) = input.split_at_checked(take)?;
                    *input = rest;
                    *left = left.saturating_sub(take as u64);
                    return Some(Step::Body(body));
                }
                State::UntilClose => {
                    let body = std::mem::take(input);
                    return (!body.is_empty()).then_some(Step::Body(body));
                }
                State::Chunked(chunked) => {
                    let step = chunked.step(input, chunk.head_bytes_max, chunk.room)?;
                    let ambiguous = chunked.is_ambiguous();
                    return Some(match step {
                        ChunkedStep::Data(body) => Step::Body(body),
                        ChunkedStep::End(trailers) => self.end(trailers, ambiguous),
                        ChunkedStep::Invalid => {
                            self.state = State::Lost;
                            self.inside_since = Some(self.start.acknowledged);
                            *input = &[];
                            Step::Broken
                        }
                    });
                }
                State::Lost => {
                    if input.is_empty() {
                        return None;
                    }
                    // A message begins where a segment begins, as far as anyone can tell; to look for one inside
                    // would find the quoted messages of other protocols.
                    let outside = self.inside_since.is_none_or(|since| chunk.acknowledged > since);
                    self.unshown = !chunk.shown;
                    if outside && input.len() == chunk.bytes && self.look(input) != Look::No {
                        self.state = State::Head;
                        self.tentative = true;
                        continue;
                    }
                    *input = &[];
                    return None;
                }
                State::Head => return self.head(input, chunk),
            }
        }
    }

    /// Bytes are missing here.
    pub(super) fn skip(&mut self, bytes: u64) -> Loss {
        self.headless.miss();
        let lost = |message| Loss { message, boundary: true };
        let hole = Loss { message: MessageLoss::Hole, boundary: false };
        let loss = match &mut self.state {
            State::Length { left } if *left >= bytes => {
                *left = left.saturating_sub(bytes);
                return hole;
            }
            State::Chunked(chunked) => {
                if chunked.skip(bytes) {
                    return hole;
                }
                lost(MessageLoss::Cut)
            }
            State::UntilClose => return hole,
            State::Stopped { passed } => {
                *passed = true;
                return Loss { message: MessageLoss::None, boundary: false };
            }
            State::Length { left: _ } => lost(MessageLoss::Cut),
            // Nothing more is lost of what was not known: what is missing may all belong to one message.
            State::Lost => return Loss { message: MessageLoss::None, boundary: false },
            State::Head if self.tentative => Loss { message: MessageLoss::None, boundary: false },
            State::Head if !self.partial.is_empty() => lost(MessageLoss::Head),
            State::Head | State::Framing | State::End => lost(MessageLoss::None),
        };
        if loss.message == MessageLoss::Cut {
            self.inside_since = Some(self.start.acknowledged);
        }
        self.lose();
        loss
    }

    /// The stream is over. `finished`: by FIN, with everything before it seen.
    pub(super) fn close(&mut self, finished: bool) -> Loss {
        let message = match &self.state {
            State::UntilClose if finished => MessageLoss::Complete,
            State::UntilClose | State::Length { left: _ } | State::Chunked(_) => MessageLoss::Cut,
            State::Head if !self.partial.is_empty() && !self.tentative => MessageLoss::Head,
            State::Head | State::Framing | State::End | State::Lost | State::Stopped { passed: _ } => {
                MessageLoss::None
            }
        };
        self.stop();
        Loss { message, boundary: false }
    }

    fn end<'a>(&mut self, trailers: Headers, ambiguous: bool) -> Step<'a, H> {
        self.state = State::Head;
        Step::End { trailers, ambiguous }
    }

    fn lose(&mut self) {
        self.state = State::Lost;
        self.tentative = false;
        self.unshown = false;
        self.decided = false;
        self.lead = Lead::default();
        self.partial = Vec::new();
    }

    fn head<'a>(&mut self, input: &mut &'a [u8], chunk: &ChunkContext) -> Option<Step<'a, H>> {
        if self.partial.is_empty() {
            // RFC 9112 section 2.2: a reader passes over empty lines before a start line.
            while let [byte @ (b'\r' | b'\n'), rest @ ..] = input {
                self.lead.pass(*byte);
                *input = rest;
            }
            if input.is_empty() {
                return None;
            }
            self.lead.end();
            self.start =
                Start { offset: chunk.offset_before(input), at: chunk.at, acknowledged: chunk.acknowledged };
            let limited = input.get(..chunk.head_bytes_max).unwrap_or(input);
            return match (self.parse)(limited) {
                Parsed::Whole(head, bytes) => {
                    *input = input.get(bytes..).unwrap_or_default();
                    Some(self.found(head))
                }
                Parsed::Partial => {
                    let look = self.look(limited);
                    self.decided = look == Look::Yes;
                    if look == Look::No {
                        self.failed(input, NoHead::Malformed)
                    } else if limited.len() < input.len() || input.len() > chunk.room {
                        self.failed(input, NoHead::Oversize)
                    } else {
                        self.partial.extend_from_slice(input);
                        *input = &[];
                        None
                    }
                }
                Parsed::Invalid => {
                    self.decided = self.look(limited) == Look::Yes;
                    self.failed(input, NoHead::Malformed)
                }
            };
        }
        let end = head::end(&self.partial, input);
        let (piece, rest) = input.split_at_checked(end.unwrap_or(input.len()))?;
        let too_long = self.partial.len().saturating_add(piece.len()) > chunk.head_bytes_max;
        if too_long || (end.is_none() && piece.len() > chunk.room) {
            return self.failed(input, NoHead::Oversize);
        }
        self.partial.extend_from_slice(piece);
        *input = rest;
        // Each look begins at the start line, so there is one per segment only while that is short.
        if !self.decided && (self.partial.len() <= LOOK_BYTES || memchr(b'\n', piece).is_some()) {
            match self.look(&self.partial) {
                Look::Yes => self.decided = true,
                Look::Unsure => {}
                Look::No => return self.failed(input, NoHead::Malformed),
            }
        }
        // Without its end the head goes on.
        end?;
        let partial = std::mem::take(&mut self.partial);
        match (self.parse)(&partial) {
            Parsed::Whole(head, _) => Some(self.found(head)),
            Parsed::Partial | Parsed::Invalid => self.failed(input, NoHead::Malformed),
        }
    }

    fn found<'a>(&mut self, head: H) -> Step<'a, H> {
        self.state = State::Framing;
        self.first = false;
        self.headless.end();
        self.tentative = false;
        self.decided = false;
        self.inside_since = None;
        self.led_by = std::mem::take(&mut self.lead);
        Step::Head(head, self.start)
    }

    /// No head here. Says so, unless it was only a guess that there is one, and nothing of a start line was seen.
    fn failed<'a>(&mut self, input: &mut &'a [u8], why: NoHead) -> Option<Step<'a, H>> {
        let first: &[u8] = if self.partial.is_empty() { input } else { &self.partial };
        let (kind, is_text) = (Foreign::of(first), Foreign::begins_as_text(first));
        *input = &[];
        let (decided, tentative) = (self.decided, self.tentative);
        self.lose();
        match (tentative, decided) {
            (true, false) => None,
            (true, true) => Some(Step::NoHead { why, guessed: true }),
            (false, false) if self.first => {
                Some(Step::NoHead { why: NoHead::Foreign { kind, is_text }, guessed: false })
            }
            (false, _) => Some(Step::NoHead { why, guessed: false }),
        }
    }
}
