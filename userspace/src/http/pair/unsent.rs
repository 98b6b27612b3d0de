//! The place where a body should be that its client may have left out.
//!
//! Reads no message: it only tells which of both stands there.

use crate::model::{Chunk, Direction, Interest, Mark, StreamEvent, Timestamp};

use super::super::HttpContext;
use super::super::body::BodyBuilder;
use super::super::head::{self, Look};
use super::Connection;

/// Bytes of which it cannot be told yet whether they begin a body or a request.
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    offset: u64,
    at: Timestamp,
    acknowledged: u64,
}

/// Bytes that a start line may have here; longer ones are taken for a body.
const START_LINE_BYTES_MAX: usize = 8 << 10;

/// Bytes up to which each piece is looked at; beyond them only a line's end tells more.
const LOOK_BYTES: usize = 64;

// === impl Unsent ===

impl Unsent {
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn event(&self) -> StreamEvent<'_> {
        let Self { bytes, offset, at, acknowledged } = self;
        StreamEvent {
            direction: Direction::ToServer,
            offset: *offset,
            acknowledged: *acknowledged,
            at: *at,
            chunk: Chunk::Bytes(bytes),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// A client whose `Expect: 100-continue` was answered with a final status may leave its body out (RFC 9110
    /// section 10.1.1); then a request stands where the body should begin. Behind that place it is decided.
    pub(super) fn may_leave_out_body(&self, offset: u64) -> bool {
        self.waiting.back().is_some_and(|waiting| {
            (self.unsent.is_some() || offset == waiting.head_end)
                && waiting.is_answered()
                && waiting.body.as_ref().is_some_and(BodyBuilder::is_untouched)
                && waiting.expects_continue()
        })
    }

    /// Reads on at such a place, once it can be told what stands there.
    pub(super) fn body_or_request(
        &mut self,
        input: &[u8],
        event: &StreamEvent<'_>,
        context: &mut HttpContext,
    ) -> Interest {
        let room = context.limits.heads_kept_max.saturating_sub(context.head_bytes);
        let mut unsent = self.unsent.take().unwrap_or_else(|| {
            let StreamEvent { direction: _, offset, acknowledged, at, chunk: _ } = *event;
            Box::new(Unsent { bytes: Vec::new(), offset, at, acknowledged })
        });
        unsent.bytes.extend_from_slice(input);
        let line = unsent.bytes.get(..START_LINE_BYTES_MAX).unwrap_or(&unsent.bytes);
        let tells_more = line.len() <= LOOK_BYTES
            || line.len() < unsent.bytes.len()
            || memchr::memchr(b'\n', input).is_some();
        let look = if tells_more { head::looks_like_registered_request(line) } else { Look::Unsure };
        let may_wait = unsent.bytes.len() < START_LINE_BYTES_MAX && input.len() <= room;
        match look {
            Look::Unsure if may_wait => {
                self.unsent = Some(unsent);
                return Interest::Keep;
            }
            Look::Yes => {
                // A server that goes on reading the body sees no request here.
                self.requests_ambiguous = true;
                self.waiting.iter_mut().for_each(|waiting| waiting.marks.set(Mark::Ambiguous));
                self.requests.abandon_body();
                self.request_ended(false, event.at, context);
            }
            Look::No | Look::Unsure => {}
        }
        self.read_requests(&unsent.bytes, &unsent.event(), context)
    }

    /// Takes what was held back for a body, since no more is to be seen.
    pub(super) fn settle_unsent(&mut self, context: &mut HttpContext) {
        if let Some(unsent) = self.unsent.take() {
            self.read_requests(&unsent.bytes, &unsent.event(), context);
        }
    }
}
