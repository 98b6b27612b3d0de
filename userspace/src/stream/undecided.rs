//! What is heard of a flow while nobody can say which of its ends is the server.
//!
//! Reads no protocol: whoever will read the flow says what its first bytes are. Keeps a bounded part of them.

use bytes::Bytes;

use crate::model::{
    Chunk, Direction, FlowKey, Interest, Opened, Segment, Sender, StreamEvent, StreamReader, Timestamp,
};

use super::assembler::PIECE_MEMORY;
use super::entry::{Entry, Hearing, Shared};

/// A flow whose ends were named at random: `ToServer` is the direction of its first packet.
#[derive(Debug)]
pub(super) struct Undecided {
    /// False when both ends sent SYN (RFC 9293 section 3.5): the flow is known from its first byte.
    mid_stream: bool,
    to_server: Beginning,
    to_client: Beginning,
    held: Vec<Held>,
    held_memory: usize,
    verdict: Verdict,
    /// What of `held_memory` is counted in the memory of all flows.
    pub(super) counted: usize,
}

/// Which end is the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has to be waited for.
    Open,
    /// The ends are named right.
    AsNamed,
    /// The ends are named the wrong way round.
    Reversed,
    /// Neither direction begins in a way that says so.
    Unknown,
}

/// The first bytes of a direction.
#[derive(Debug)]
struct Beginning {
    bytes: Vec<u8>,
    /// They do not say which end sent them, and more will not help.
    mute: bool,
}

/// A [`StreamEvent`] that waits for its reader.
#[derive(Debug)]
pub(super) struct Held {
    direction: Direction,
    offset: u64,
    acknowledged: u64,
    at: Timestamp,
    chunk: HeldChunk,
}

#[derive(Debug)]
enum HeldChunk {
    Bytes(Bytes),
    Gap(u64),
    Disputed(u64),
    Again(Bytes),
    End,
    Abort,
}

/// Bytes after which only a line's end can tell more about how a direction begins.
const LOOK_BYTES: usize = 64;

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// Looks again at which end is the server when both sent SYN in the same way before anything was said
    /// (simultaneous open, RFC 9293 section 3.5): only what they say can tell.
    pub(super) fn doubt(&mut self, direction: Direction, segment: &Segment<'_>) {
        let other = self.half(direction.reversed());
        let alike = other.initial.is_some() && other.answered_syn == segment.ack.is_some();
        let silent = [&self.to_server, &self.to_client]
            .iter()
            .all(|half| half.assembler.as_ref().is_none_or(|assembler| assembler.next() == 0));
        if alike && silent && self.half(direction).initial.is_none() {
            self.hearing = Hearing::Undecided(Box::new(Undecided::new(false)));
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.hearing, Hearing::Undecided(_))
    }

    /// Gives a flow whose ends can be told by now to a reader, or forgets one whose ends will never be. Returns the
    /// key that the flow had when it has another now.
    pub(super) fn decide(
        &mut self,
        shared: &mut Shared<'_>,
        forgotten: &mut Vec<FlowKey>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Option<FlowKey> {
        let Hearing::Undecided(undecided) = &mut self.hearing else { return None };
        let others = shared.waiting_bytes.saturating_sub(undecided.counted);
        if others.saturating_add(undecided.memory()) > shared.limits.waiting_bytes_max {
            undecided.give_up();
        }
        undecided.counted = if undecided.verdict() == Verdict::Open { undecided.memory() } else { 0 };
        *shared.waiting_bytes = others.saturating_add(undecided.counted);
        let (known, reversed) = match undecided.verdict() {
            Verdict::Open => return None,
            Verdict::AsNamed => (true, false),
            Verdict::Reversed => (true, true),
            Verdict::Unknown => (false, false),
        };
        let old_key = self.flow.key;
        if reversed {
            self.flow.key = old_key.reversed();
            std::mem::swap(&mut self.to_server, &mut self.to_client);
            if let Some(rival) = &mut self.rival {
                rival.direction = rival.direction.reversed();
            }
        }
        let mid_stream = known && undecided.mid_stream;
        let reader = R::from(Opened { flow: self.flow, mid_stream });
        let Hearing::Undecided(undecided) = std::mem::replace(&mut self.hearing, Hearing::Reader(reader))
        else {
            return None;
        };
        if known {
            for held in undecided.into_held() {
                if self.hearing.tell(held.event(reversed), shared.limits, read) == Interest::Forget {
                    self.forget(shared, forgotten);
                    break;
                }
            }
        } else {
            self.dismiss(undecided.first_bytes(), shared, read);
            self.forget(shared, forgotten);
        }
        reversed.then_some(old_key)
    }

    /// Lets the reader see what kind of flow it is that is not its own.
    fn dismiss(
        &mut self,
        first: &[u8],
        shared: &mut Shared<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) {
        shared.tally.flows_undecided = shared.tally.flows_undecided.saturating_add(1);
        let at = self.last_seen;
        let ends = [Direction::ToServer, Direction::ToClient].map(|direction| (direction, Chunk::Abort));
        for (direction, chunk) in [(Direction::ToServer, Chunk::Bytes(first))].into_iter().chain(ends) {
            let event = StreamEvent { direction, offset: 0, acknowledged: 0, at, chunk };
            if self.hearing.tell(event, shared.limits, read) == Interest::Forget {
                return;
            }
        }
    }
}

// === impl Undecided ===

impl Undecided {
    /// Nothing heard yet.
    pub(super) fn new(mid_stream: bool) -> Self {
        let beginning = || Beginning { bytes: Vec::new(), mute: false };
        Self {
            mid_stream,
            to_server: beginning(),
            to_client: beginning(),
            held: Vec::new(),
            held_memory: 0,
            verdict: Verdict::Open,
            counted: 0,
        }
    }

    /// What is known by now.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Memory in bytes that is held.
    pub(super) fn memory(&self) -> usize {
        self.held_memory
    }

    /// The first bytes of whichever direction has some.
    pub(super) fn first_bytes(&self) -> &[u8] {
        if self.to_server.bytes.is_empty() { &self.to_client.bytes } else { &self.to_server.bytes }
    }

    /// Takes note of an event. At `memory_max` the flow is given up.
    #[cold]
    pub(super) fn hear(
        &mut self,
        event: StreamEvent<'_>,
        sender: impl Fn(&[u8]) -> Sender,
        memory_max: usize,
    ) {
        let StreamEvent { direction, offset, acknowledged, at, chunk } = event;
        let beginning = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        // Joined inside of a message, its rest says nothing, now or later.
        let passed_over = beginning.mute && self.mid_stream && !matches!(chunk, Chunk::End | Chunk::Abort);
        if self.verdict == Verdict::Unknown || passed_over {
            return;
        }
        if self.verdict == Verdict::Open && !beginning.mute {
            self.verdict = match (beginning.hear(chunk, sender), direction) {
                (Sender::Client, Direction::ToServer) | (Sender::Server, Direction::ToClient) => {
                    Verdict::AsNamed
                }
                (Sender::Client, Direction::ToClient) | (Sender::Server, Direction::ToServer) => {
                    Verdict::Reversed
                }
                (Sender::Unsure, _) => Verdict::Open,
                (Sender::Neither, _) if self.to_server.mute && self.to_client.mute => Verdict::Unknown,
                (Sender::Neither, _) => Verdict::Open,
            };
        }
        let (chunk, bytes) = match chunk {
            Chunk::Bytes(bytes) => (HeldChunk::Bytes(Bytes::copy_from_slice(bytes)), bytes.len()),
            Chunk::Gap { bytes } => (HeldChunk::Gap(bytes), 0),
            Chunk::Disputed { bytes } => (HeldChunk::Disputed(bytes), 0),
            Chunk::Again(bytes) => (HeldChunk::Again(Bytes::copy_from_slice(bytes)), bytes.len()),
            Chunk::End => (HeldChunk::End, 0),
            Chunk::Abort => (HeldChunk::Abort, 0),
        };
        // The first bytes are there twice.
        let memory = bytes.saturating_mul(2).saturating_add(PIECE_MEMORY);
        self.held_memory = self.held_memory.saturating_add(memory);
        if self.verdict == Verdict::Open && self.held_memory > memory_max {
            self.give_up();
            return;
        }
        self.held.push(Held { direction, offset, acknowledged, at, chunk });
    }

    /// Waits no longer.
    pub(super) fn give_up(&mut self) {
        if self.verdict == Verdict::Open {
            self.verdict = Verdict::Unknown;
            self.held = Vec::new();
        }
    }

    /// Everything that was heard, in its order.
    pub(super) fn into_held(self) -> Vec<Held> {
        self.held
    }
}

// === impl Beginning ===

impl Beginning {
    fn hear(&mut self, chunk: Chunk<'_>, sender: impl Fn(&[u8]) -> Sender) -> Sender {
        let said = match chunk {
            Chunk::Bytes(bytes) => {
                self.bytes.extend_from_slice(bytes);
                let tells = self.bytes.len() <= LOOK_BYTES.max(bytes.len()) || bytes.contains(&b'\n');
                if tells { sender(&self.bytes) } else { Sender::Unsure }
            }
            // Says nothing of the bytes themselves.
            Chunk::Disputed { bytes: _ } | Chunk::Again(_) => return Sender::Unsure,
            Chunk::Gap { bytes: _ } | Chunk::End | Chunk::Abort => Sender::Neither,
        };
        self.mute = said == Sender::Neither;
        said
    }
}

// === impl Held ===

impl Held {
    /// The event, with its direction turned round when the ends were named the wrong way.
    pub(super) fn event(&self, reversed: bool) -> StreamEvent<'_> {
        let Self { direction, offset, acknowledged, at, chunk } = self;
        let chunk = match chunk {
            HeldChunk::Bytes(bytes) => Chunk::Bytes(bytes),
            HeldChunk::Gap(bytes) => Chunk::Gap { bytes: *bytes },
            HeldChunk::Disputed(bytes) => Chunk::Disputed { bytes: *bytes },
            HeldChunk::Again(bytes) => Chunk::Again(bytes),
            HeldChunk::End => Chunk::End,
            HeldChunk::Abort => Chunk::Abort,
        };
        let direction = if reversed { direction.reversed() } else { *direction };
        StreamEvent { direction, offset: *offset, acknowledged: *acknowledged, at: *at, chunk }
    }
}
