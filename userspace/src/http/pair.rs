//! Pairs requests with responses on one connection.
//!
//! By order while nothing is missing. Where messages may be missing, a response belongs to a request only when the
//! client had received everything before that response, and nothing after, when it sent the request, and no other
//! request can have been open then; what cannot be shown so stays alone.

mod again;
mod doubt;
mod responses;
mod unsent;

use std::collections::VecDeque;

use crate::model::{
    Chunk, Direction, Flow, Interest, Mark, Marks, Opened, Sender, StreamEvent, StreamReader, Timestamp,
};

use super::framing::{self, Framing, OfRequest};
use super::head::{self, RequestHead, ResponseHead};
use super::reader::{ChunkContext, Loss, MessageLoss, MessageReader, NoHead, Start, Step};
use super::refused;
use super::waiting::{Waiting, flow_hash};
use super::{Foreign, HttpContext, count};

use doubt::RequestsLost;
use unsent::Unsent;

/// Both directions of one connection.
#[derive(Debug)]
pub struct Connection {
    flow: Flow,
    flow_hash: u64,
    flow_marks: Marks,
    requests: MessageReader<RequestHead>,
    responses: MessageReader<ResponseHead>,
    /// Requests in order. Only the last one may still be read; only the first one may have a response.
    waiting: VecDeque<Waiting>,
    /// What the response that is being read belongs to.
    answering: Answering,
    /// Responses may be missing: the next one belongs to the first request only if it can be shown.
    responses_unsure: bool,
    /// Requests may be missing before the next one.
    requests_lost: Option<RequestsLost>,
    /// The client has sent a request before it had the answer to the one before, so that nothing says that it waits
    /// (RFC 9112 section 9.3.2).
    pipelines: bool,
    /// Where the last request began was only guessed, after a loss.
    requests_guessed: bool,
    /// Messages were lost between others, or their ends were.
    lossy: bool,
    /// Bytes that are the body that a client may have left out, or the next request.
    unsent: Option<Box<Unsent>>,
    /// A request was ambiguous: another reader may see other requests behind it.
    requests_ambiguous: bool,
    /// The same of responses.
    responses_ambiguous: bool,
    /// Bytes of requests that may have held the end of one also came with other contents.
    requests_disputed: bool,
    /// The same of responses.
    responses_disputed: bool,
    requests_closed: bool,
    responses_closed: bool,
    /// Where the last response ended that was read whole and belongs to a request.
    answered_until: u64,
    /// Bytes of requests that were seen, or are known to be missing.
    requests_read: u64,
    /// The same of responses.
    responses_read: u64,
    /// Where bytes of responses were missing last, or could not be read, ends.
    responses_lost_until: u64,
    /// Where the last final response ended that was read whole.
    final_until: u64,
    /// Bytes of requests that the server had received when it began its last final response.
    answered_with: u64,
    /// Final responses that belong to nobody, since messages may be missing. Each answers another request.
    answers_to_nobody: u64,
    /// What both readers take up of `head_bytes`.
    held_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answering {
    /// Between responses.
    Nothing,
    /// The first waiting request.
    First,
    /// An interim response.
    Interim,
    /// No request that is known. `bodiless`: its body may be absent because the request may have been HEAD.
    Nobody { bodiless: bool },
}

// === impl Connection ===

impl From<Opened> for Connection {
    fn from(Opened { flow, mid_stream }: Opened) -> Self {
        let flow_marks = mid_stream.then_some(Mark::MidStream).into_iter().collect();
        Self {
            flow,
            flow_hash: flow_hash(&flow),
            flow_marks,
            requests: MessageReader::new(
                head::request,
                |bytes, unshown| {
                    if unshown {
                        head::looks_like_registered_request(bytes)
                    } else {
                        head::looks_like_request(bytes)
                    }
                },
                mid_stream,
            ),
            responses: MessageReader::new(
                head::response,
                |bytes, _| head::looks_like_response(bytes),
                mid_stream,
            ),
            waiting: VecDeque::new(),
            answering: Answering::Nothing,
            responses_unsure: mid_stream,
            // Requests may wait for their answers that were sent before the flow was joined.
            requests_lost: mid_stream.then_some(RequestsLost { since: 0, besides: u64::MAX, between: false }),
            pipelines: false,
            requests_guessed: false,
            lossy: false,
            unsent: None,
            requests_ambiguous: false,
            responses_ambiguous: false,
            requests_disputed: false,
            responses_disputed: false,
            requests_closed: false,
            responses_closed: false,
            answered_until: 0,
            requests_read: 0,
            responses_read: 0,
            responses_lost_until: 0,
            final_until: 0,
            answered_with: 0,
            answers_to_nobody: 0,
            held_bytes: 0,
        }
    }
}

impl StreamReader for Connection {
    fn sender(first: &[u8]) -> Sender {
        head::sender(first)
    }
}

impl Connection {
    /// Reads on. Finished exchanges go to `context`.
    pub fn read(&mut self, event: StreamEvent<'_>, context: &mut HttpContext) -> Interest {
        let mut interest = match (event.direction, event.chunk) {
            (Direction::ToServer, Chunk::Bytes(bytes)) => {
                self.requests_read = event.offset.saturating_add(bytes.len() as u64);
                self.requests.note_bytes(bytes.len());
                self.request_bytes(bytes, &event, context)
            }
            (Direction::ToClient, Chunk::Bytes(bytes)) => {
                self.responses_read = event.offset.saturating_add(bytes.len() as u64);
                self.responses.note_bytes(bytes.len());
                self.response_bytes(bytes, &event, context)
            }
            (Direction::ToServer, Chunk::Gap { bytes }) => {
                self.requests_read = event.offset.saturating_add(bytes);
                self.settle_unsent(context);
                let loss = self.requests.skip(bytes);
                self.request_loss(loss, &event, context);
                // The missing bytes may be the last ones of the body.
                self.request_bytes(&[], &event, context)
            }
            (Direction::ToClient, Chunk::Gap { bytes }) => {
                self.responses_read = event.offset.saturating_add(bytes);
                self.responses_lost_until = self.responses_read;
                let loss = self.responses.skip(bytes);
                self.response_loss(loss, event.at, context);
                self.response_bytes(&[], &event, context)
            }
            (direction, Chunk::Again(bytes)) => {
                self.compare_again(direction, bytes, event.offset);
                Interest::Keep
            }
            (direction, Chunk::Disputed { bytes }) => {
                self.dispute(direction, bytes);
                Interest::Keep
            }
            (Direction::ToServer, Chunk::End | Chunk::Abort) => {
                self.settle_unsent(context);
                self.requests_closed = true;
                let loss = self.requests.close(event.chunk == Chunk::End);
                self.request_loss(loss, &event, context);
                Interest::Keep
            }
            (Direction::ToClient, Chunk::End | Chunk::Abort) => {
                self.responses_closed = true;
                let loss = self.responses.close(event.chunk == Chunk::End);
                self.response_loss(loss, event.at, context);
                Interest::Keep
            }
        };
        let bytes_max = context.limits.headless_bytes_max;
        if self.requests.is_headless(bytes_max) && self.responses.is_headless(bytes_max) {
            context.tally.count_foreign(Foreign::Joined);
            interest = Interest::Forget;
        }
        if interest == Interest::Forget || (self.requests_closed && self.responses_closed) {
            self.give_up_waiting(usize::MAX, context);
            self.unsent = None;
            self.requests.stop();
            self.responses.stop();
        } else if self.responses_closed {
            // No answer can come any more; only a request that is still being sent is waited for.
            let sent = self.waiting.iter().take_while(|waiting| waiting.body.is_none()).count();
            self.give_up_waiting(sent, context);
        }
        context.take_back_list(&mut self.waiting);
        let unsent = self.unsent.as_ref().map_or(0, |unsent| unsent.held_bytes());
        let held =
            (self.requests.held_bytes()).saturating_add(self.responses.held_bytes()).saturating_add(unsent);
        if held != self.held_bytes {
            context.head_bytes = context.head_bytes.saturating_sub(self.held_bytes).saturating_add(held);
            self.held_bytes = held;
        }
        interest
    }

    fn request_bytes(
        &mut self,
        input: &[u8],
        event: &StreamEvent<'_>,
        context: &mut HttpContext,
    ) -> Interest {
        if self.may_leave_out_body(event.offset) && !input.is_empty() {
            return self.body_or_request(input, event, context);
        }
        self.read_requests(input, event, context)
    }

    fn read_requests(
        &mut self,
        mut input: &[u8],
        event: &StreamEvent<'_>,
        context: &mut HttpContext,
    ) -> Interest {
        let mut chunk = chunk_context(input, event, context);
        if self.requests.is_lost() {
            chunk.shown = self.has_just_begun() || self.is_shown(event.offset, event.acknowledged);
        }
        while let Some(step) = self.requests.step(&mut input, &chunk) {
            match step {
                Step::Head(head, start) => {
                    let head_end = chunk.offset_before(input);
                    self.request_head(head, start, head_end, event.at, context);
                }
                Step::Body(piece) => {
                    if let Some(waiting) = self.waiting.back_mut() {
                        waiting.last = event.at;
                        if let Some(body) = &mut waiting.body {
                            body.push(piece, context);
                        }
                    }
                }
                Step::End { trailers, ambiguous } => {
                    if let Some(waiting) = self.waiting.back_mut() {
                        waiting.keep(trailers.memory_bytes(), context);
                        waiting.request.trailers = trailers;
                        waiting.last = event.at;
                        if ambiguous {
                            waiting.marks.set(Mark::Ambiguous);
                        }
                    }
                    self.requests_ambiguous |= ambiguous;
                    self.request_ended(true, event.at, context);
                    self.keep_within_bound(context);
                }
                Step::Broken => {
                    if let Some(waiting) = self.waiting.back_mut() {
                        waiting.marks.set(Mark::Ambiguous);
                    }
                    self.requests_ambiguous = true;
                    self.request_ended(false, event.at, context);
                    self.lose_requests(
                        RequestsLost { since: event.offset, besides: 0, between: false },
                        context,
                    );
                }
                Step::NoHead { why, guessed } => {
                    // Text is no sign of another protocol as long as the server may speak HTTP: it answers 400 to what it
                    // cannot read, and may go on.
                    if no_head(why, true, context) == Interest::Forget {
                        return Interest::Forget;
                    }
                    if !guessed {
                        self.lose_requests(
                            RequestsLost { since: event.offset, besides: 1, between: true },
                            context,
                        );
                    }
                }
            }
        }
        Interest::Keep
    }

    fn request_head(
        &mut self,
        head: RequestHead,
        start: Start,
        head_end: u64,
        at: Timestamp,
        context: &mut HttpContext,
    ) {
        count(&mut context.tally.requests);
        let OfRequest { framing, mut marks, host_is_wrong } =
            framing::of_request(&head.method, head.version, &head.headers);
        marks.merge(self.flow_marks);
        marks.merge(head.marks);
        if self.requests_ambiguous || self.requests.led_by().bare {
            marks.set(Mark::Ambiguous);
        }
        self.requests_ambiguous |= marks.has(Mark::Ambiguous);
        // Nobody sees other messages behind it for that.
        if host_is_wrong || !refused::is_target(&head.method, &head.target) {
            marks.set(Mark::Ambiguous);
        }
        if self.requests_disputed {
            marks.set(Mark::Conflict);
        }
        // A flow may have been joined inside a body that only looks like a request.
        self.requests_guessed = self.requests.is_unshown()
            || self.has_just_begun()
            || (self.requests_guessed && !self.is_shown(start.offset, start.acknowledged));
        if self.requests_guessed {
            marks.set(Mark::Ambiguous);
        }
        self.confirm_answer(&start, context);
        let request_before = self.waiting.back().map(|before| before.start.acknowledged);
        // A client that has received more than was seen may have had the answers.
        let all_seen = self.is_sure() && start.acknowledged <= self.responses_read;
        if all_seen && self.waiting.iter().any(|earlier| !earlier.is_answered()) {
            marks.set(Mark::Pipelined);
            self.pipelines = true;
        }
        self.pipelines |= self.shows_no_wait(&start);
        if self.waiting.len() >= context.limits.pipelined_max {
            count(&mut context.tally.exchanges_at_bound);
            self.drop_waiting(1, context);
        }
        let missing = self.missing_before(&start, request_before);
        self.requests.set_framing(framing);
        if framing == Framing::Tunnel {
            // Whether what follows a CONNECT is HTTP depends on the answer; clients wait for it.
            self.requests.stop();
        }
        let memory = size_of::<Waiting>().saturating_add(head.headers.memory_bytes());
        let mut waiting = Waiting::new(head, marks, start, head_end, at, missing);
        waiting.body_is_plain = framing != Framing::Chunked;
        waiting.keep(memory, context);
        if self.waiting.capacity() == 0 {
            self.waiting = context.lend_list();
        }
        self.waiting.push_back(waiting);
        self.keep_within_bound(context);
        match framing {
            Framing::Tunnel => self.request_ended(true, at, context),
            Framing::Invalid => {
                self.request_ended(false, at, context);
                self.lose_requests(RequestsLost { since: head_end, besides: 0, between: false }, context);
            }
            Framing::Empty | Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {}
        }
    }

    fn request_ended(&mut self, complete: bool, at: Timestamp, context: &mut HttpContext) {
        if let Some(waiting) = self.waiting.back_mut()
            && let Some(body) = waiting.body.take()
        {
            waiting.last = waiting.last.max(at);
            waiting.request.body = body.finish(complete);
        }
        self.emit_finished(context);
    }

    fn request_loss(&mut self, loss: Loss, event: &StreamEvent<'_>, context: &mut HttpContext) {
        match loss.message {
            MessageLoss::None | MessageLoss::Head => {}
            MessageLoss::Hole => {
                if let Some(waiting) = self.waiting.back_mut() {
                    waiting.marks.set(Mark::Gap);
                    if let Some(body) = &mut waiting.body {
                        body.hole();
                    }
                }
            }
            MessageLoss::Cut | MessageLoss::Complete => {
                if let Some(waiting) = self.waiting.back_mut() {
                    waiting.marks.set(if loss.boundary { Mark::Gap } else { Mark::Truncated });
                }
                self.request_ended(false, event.at, context);
            }
        }
        if loss.boundary {
            self.lossy = true;
            let besides = u64::from(loss.message == MessageLoss::Head);
            let between = loss.message != MessageLoss::Cut;
            self.lose_requests(RequestsLost { since: event.offset, besides, between }, context);
        }
    }

    /// Hands on what this connection keeps when the heads of all connections together take up too much.
    fn keep_within_bound(&mut self, context: &mut HttpContext) {
        if context.head_bytes > context.limits.heads_kept_max && !self.waiting.is_empty() {
            let requests = self.waiting.len() as u64;
            context.tally.exchanges_at_bound = context.tally.exchanges_at_bound.saturating_add(requests);
            self.waiting.iter_mut().for_each(|waiting| waiting.marks.set(Mark::Truncated));
            self.drop_waiting(usize::MAX, context);
        }
    }

    /// Hands on the first request while it and its response are over.
    fn emit_finished(&mut self, context: &mut HttpContext) {
        while self.waiting.front().is_some_and(Waiting::is_finished) {
            if let Some(waiting) = self.waiting.pop_front() {
                waiting.emit(self.flow, self.flow_hash, context);
            }
        }
    }

    /// Hands on the first `requests` requests as they are.
    fn give_up_waiting(&mut self, requests: usize, context: &mut HttpContext) {
        let lost = self.lossy && !self.is_sure();
        for _ in 0..requests.min(self.waiting.len()) {
            let Some(mut waiting) = self.waiting.pop_front() else { return };
            if let Some(body) = waiting.body.take() {
                waiting.request.body = body.finish(false);
                waiting.marks.set(Mark::Truncated);
            }
            if let Some(answer) = &mut waiting.response
                && let Some(body) = answer.body.take()
            {
                answer.response.body = body.finish(false);
                waiting.marks.set(Mark::Truncated);
                self.answering = Answering::Nothing;
            }
            if lost && waiting.response.is_none() {
                // Its response may have been seen, and could not be shown to be its own.
                waiting.marks.set(Mark::Gap);
            }
            waiting.emit(self.flow, self.flow_hash, context);
        }
    }
}

/// Counts why there is no head where one should be. A flow that never had one is forgotten; where the other side may
/// still show that it is HTTP, only when it shows another protocol.
fn no_head(why: NoHead, may_be_http: bool, context: &mut HttpContext) -> Interest {
    match why {
        NoHead::Foreign { kind: _, is_text: true } if may_be_http => {
            count(&mut context.tally.malformed_heads)
        }
        NoHead::Malformed => count(&mut context.tally.malformed_heads),
        NoHead::Oversize => count(&mut context.tally.oversize_heads),
        NoHead::Foreign { kind, is_text: _ } => {
            context.tally.count_foreign(kind);
            return Interest::Forget;
        }
    }
    Interest::Keep
}

fn chunk_context(input: &[u8], event: &StreamEvent<'_>, context: &HttpContext) -> ChunkContext {
    ChunkContext {
        offset: event.offset,
        bytes: input.len(),
        at: event.at,
        acknowledged: event.acknowledged,
        shown: true,
        head_bytes_max: context.limits.head_bytes_max,
        room: context.limits.heads_kept_max.saturating_sub(context.head_bytes),
    }
}

#[cfg(test)]
mod tests;
