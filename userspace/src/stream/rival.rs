//! A SYN with another number on a flow that is open: the same ports used again, or a SYN from elsewhere.
//!
//! Ends nothing: a flow goes on until the other side, or data, shows that the SYN was obeyed (RFC 5961 section 4).

use crate::model::{Checksum, Direction, Segment, Seq, StreamReader, TcpFlags, Timestamp};

use super::entry::{Entry, State};

/// A SYN that may have begun another connection between the two ends of a flow.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) direction: Direction,
    seq: Seq,
    ack: Option<Seq>,
    at: Timestamp,
    /// The other side went on with the old connection after it.
    denied: bool,
}

/// Which connection a segment belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Contest {
    /// The one that is known.
    Known,
    /// Perhaps another one: a SYN that nobody has confirmed, or what follows it. `again`: the SYN is known already.
    Contested { again: bool },
    /// A new one, which this segment begins.
    New,
    /// A new one, which an earlier SYN began.
    Begun { direction: Direction, seq: Seq, ack: Option<Seq>, at: Timestamp },
}

// === impl Entry ===

impl<R: StreamReader> Entry<R> {
    /// Which connection `segment` belongs to. Needs to be asked of a SYN, and of everything while a rival waits.
    pub(super) fn contest(&mut self, direction: Direction, segment: &Segment<'_>) -> Contest {
        if let Some(rival) = &mut self.rival {
            let first = rival.seq.plus(1);
            let half = match rival.direction {
                Direction::ToServer => &self.to_server,
                Direction::ToClient => &self.to_client,
            };
            // A number that the open connection has reached says nothing about another one.
            let reached = half.assembler.as_ref().is_some_and(|assembler| {
                assembler.offset_of(first).is_some_and(|offset| offset <= assembler.next())
            });
            let shown = if direction == rival.direction {
                let follows = segment.seq == first && !segment.flags.syn && !reached;
                if follows && rival.denied {
                    return Contest::Contested { again: true };
                }
                follows && !segment.payload.is_empty()
            } else {
                let confirms = segment.ack == Some(first) && (segment.flags.syn || !reached);
                rival.denied |= !confirms;
                confirms
            };
            if shown && !segment.flags.rst {
                let Rival { direction, seq, ack, at, denied: _ } = **rival;
                return Contest::Begun { direction, seq, ack, at };
            }
        }
        if !segment.flags.syn || !self.is_other_syn(direction, segment) {
            return Contest::Known;
        }
        if self.state != State::Open {
            return Contest::New;
        }
        let again =
            self.rival.as_ref().is_some_and(|rival| rival.direction == direction && rival.seq == segment.seq);
        if !again {
            let (seq, ack, at) = (segment.seq, segment.ack, segment.captured_at);
            self.rival = Some(Box::new(Rival { direction, seq, ack, at, denied: false }));
        }
        Contest::Contested { again }
    }

    /// True when a SYN is none of those that opened this flow.
    fn is_other_syn(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let half = self.half(direction);
        match (half.initial, &half.assembler) {
            (Some(initial), _) => initial != segment.seq,
            // Joined mid-stream. A SYN that fits what came first was only late.
            (None, Some(assembler)) => {
                !assembler.is_untouched() && assembler.offset_of(segment.seq.plus(1)) != Some(0)
            }
            (None, None) => self.state != State::Open,
        }
    }
}

/// The SYN that began a connection, once more.
pub(super) fn syn<'a>(
    like: &Segment<'a>,
    forwards: bool,
    seq: Seq,
    ack: Option<Seq>,
    at: Timestamp,
) -> Segment<'a> {
    let (source, destination) = match forwards {
        true => (like.source, like.destination),
        false => (like.destination, like.source),
    };
    Segment {
        captured_at: at,
        source,
        destination,
        scope: like.scope,
        network: like.network,
        direction: like.direction.map(|direction| if forwards { direction } else { direction.reversed() }),
        seq,
        ack,
        flags: TcpFlags { syn: true, fin: false, rst: false },
        window: 0,
        window_scale: None,
        payload: &[],
        wire_payload_bytes: 0,
        checksum: Checksum::Unjudged,
        ends_packet: false,
    }
}
