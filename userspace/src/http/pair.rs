//! Pairs requests with responses on one connection.
//!
//! By order while nothing is missing. Where messages may be missing, a response belongs to a request only when the
//! client had received everything before that response, and nothing after, when it sent the request; what cannot be
//! shown so stays alone.

use std::collections::VecDeque;

use crate::model::{Chunk, Direction, Flow, Interest, Mark, Marks, Opened, Response, StreamEvent, Timestamp};

use super::body::BodyBuilder;
use super::framing::{self, Framing};
use super::head::{self, RequestHead, ResponseHead};
use super::reader::{ChunkContext, Loss, MessageLoss, MessageReader, Start, Step};
use super::waiting::{Answer, Waiting, flow_hash};
use super::{HttpContext, count};

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
    requests_unsure: bool,
    requests_closed: bool,
    responses_closed: bool,
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
            requests: MessageReader::new(head::request, head::looks_like_request, mid_stream),
            responses: MessageReader::new(head::response, head::looks_like_response, mid_stream),
            waiting: VecDeque::new(),
            answering: Answering::Nothing,
            responses_unsure: mid_stream,
            requests_unsure: false,
            requests_closed: false,
            responses_closed: false,
        }
    }
}

impl Connection {
    /// Reads on. Finished exchanges go to `context`.
    pub fn read(&mut self, event: StreamEvent<'_>, context: &mut HttpContext) -> Interest {
        let interest = match (event.direction, event.chunk) {
            (Direction::ToServer, Chunk::Bytes(bytes)) => self.request_bytes(bytes, &event, context),
            (Direction::ToClient, Chunk::Bytes(bytes)) => self.response_bytes(bytes, &event, context),
            (Direction::ToServer, Chunk::Gap { bytes }) => {
                let loss = self.requests.skip(bytes);
                self.request_loss(loss, event.at, context)
            }
            (Direction::ToClient, Chunk::Gap { bytes }) => {
                let loss = self.responses.skip(bytes);
                self.response_loss(loss, event.at, context)
            }
            (Direction::ToServer, Chunk::End | Chunk::Abort) => {
                self.requests_closed = true;
                let loss = self.requests.close(event.chunk == Chunk::End);
                self.request_loss(loss, event.at, context)
            }
            (Direction::ToClient, Chunk::End | Chunk::Abort) => {
                self.responses_closed = true;
                let loss = self.responses.close(event.chunk == Chunk::End);
                self.response_loss(loss, event.at, context)
            }
        };
        if interest == Interest::Forget || (self.requests_closed && self.responses_closed) {
            self.give_up_waiting(usize::MAX, context);
        }
        interest
    }

    fn request_bytes(
        &mut self,
        mut input: &[u8],
        event: &StreamEvent<'_>,
        context: &mut HttpContext,
    ) -> Interest {
        let chunk = chunk_context(input, event, context);
        if self.skips_unsent_body(input) {
            self.requests.abandon_body();
            self.request_ended(false, event.at, context);
        }
        while let Some(step) = self.requests.step(&mut input, &chunk) {
            match step {
                Step::Head(head, start) => self.request_head(head, start, event.at, context),
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
                        waiting.request.trailers = trailers;
                        waiting.last = event.at;
                        if ambiguous {
                            waiting.marks.set(Mark::Ambiguous);
                        }
                    }
                    self.request_ended(true, event.at, context);
                }
                Step::Broken => {
                    if let Some(waiting) = self.waiting.back_mut() {
                        waiting.marks.set(Mark::Ambiguous);
                    }
                    self.request_ended(false, event.at, context);
                    self.lose_requests(context);
                }
                Step::Malformed => {
                    count(&mut context.tally.malformed_heads);
                    self.lose_requests(context);
                }
                Step::Oversize => {
                    count(&mut context.tally.oversize_heads);
                    self.lose_requests(context);
                }
                Step::NotHttp => {
                    count(&mut context.tally.flows_not_http);
                    return Interest::Forget;
                }
            }
        }
        Interest::Keep
    }

    fn request_head(&mut self, head: RequestHead, start: Start, at: Timestamp, context: &mut HttpContext) {
        count(&mut context.tally.requests);
        let (framing, mut marks) = framing::of_request(&head.method, head.version, &head.headers);
        marks.merge(self.flow_marks);
        if !self.responses_unsure && self.waiting.iter().any(|earlier| !earlier.is_answered()) {
            marks.set(Mark::Pipelined);
        }
        if self.waiting.len() >= context.limits.pipelined_max {
            self.give_up_waiting(1, context);
            self.responses_unsure = true;
        }
        self.requests.set_framing(framing);
        if framing == Framing::Tunnel {
            // Whether what follows a CONNECT is HTTP depends on the answer; clients wait for it.
            self.requests.stop();
        }
        let after_loss = std::mem::take(&mut self.requests_unsure);
        self.waiting.push_back(Waiting::new(head, marks, start, at, after_loss));
        match framing {
            Framing::Tunnel => self.request_ended(true, at, context),
            Framing::Invalid => {
                self.request_ended(false, at, context);
                self.lose_requests(context);
            }
            Framing::Empty | Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {}
        }
    }

    /// A client whose `Expect: 100-continue` was answered with a final status may leave its body out (RFC 9110
    /// section 10.1.1); then a request stands where the body should.
    fn skips_unsent_body(&self, input: &[u8]) -> bool {
        self.waiting.back().is_some_and(|waiting| {
            waiting.expects_continue
                && waiting.is_answered()
                && waiting.body.as_ref().is_some_and(BodyBuilder::is_untouched)
        }) && self.requests.sees_message(input)
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

    fn request_loss(&mut self, loss: Loss, at: Timestamp, context: &mut HttpContext) -> Interest {
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
                self.request_ended(false, at, context);
            }
        }
        if loss.boundary {
            self.lose_requests(context);
        }
        Interest::Keep
    }

    fn lose_requests(&mut self, context: &mut HttpContext) {
        count(&mut context.tally.boundaries_lost);
        self.requests_unsure = true;
    }

    fn response_bytes(
        &mut self,
        mut input: &[u8],
        event: &StreamEvent<'_>,
        context: &mut HttpContext,
    ) -> Interest {
        let chunk = chunk_context(input, event, context);
        if self.answering == (Answering::Nobody { bodiless: true }) && self.responses.sees_message(input) {
            self.responses.abandon_body();
            self.answering = Answering::Nothing;
        }
        while let Some(step) = self.responses.step(&mut input, &chunk) {
            match step {
                Step::Head(head, start) => self.response_head(head, start, context),
                Step::Body(piece) => match self.answering {
                    Answering::First => {
                        if let Some(answer) = self.answer() {
                            answer.last = event.at;
                            if let Some(body) = &mut answer.body {
                                body.push(piece, context);
                            }
                        }
                    }
                    Answering::Nobody { bodiless: _ } => {
                        self.answering = Answering::Nobody { bodiless: false };
                    }
                    Answering::Nothing | Answering::Interim => {}
                },
                Step::End { trailers, ambiguous } => {
                    if let Some(answer) = self.answer() {
                        answer.response.trailers = trailers;
                        answer.last = answer.last.max(event.at);
                    }
                    if ambiguous && let Some(waiting) = self.waiting.front_mut() {
                        waiting.marks.set(Mark::Ambiguous);
                    }
                    if self.response_ended(true, context) == Interest::Forget {
                        return Interest::Forget;
                    }
                }
                Step::Broken => {
                    self.response_ended(false, context);
                    self.lose_responses(context);
                }
                Step::Malformed => {
                    count(&mut context.tally.malformed_heads);
                    self.lose_responses(context);
                }
                Step::Oversize => {
                    count(&mut context.tally.oversize_heads);
                    self.lose_responses(context);
                }
                Step::NotHttp => {
                    count(&mut context.tally.flows_not_http);
                    return Interest::Forget;
                }
            }
        }
        Interest::Keep
    }

    fn response_head(&mut self, head: ResponseHead, start: Start, context: &mut HttpContext) {
        let ResponseHead { status, version, headers, mut marks } = head;
        let belongs = self.find_request(&start, context);
        let interim = (100..200).contains(&status) && status != 101;
        let method = self.waiting.front().filter(|_| belongs).map(|waiting| &waiting.request.method[..]);
        let (framing, framing_marks) = framing::of_response(method, status, version, &headers);
        marks.merge(framing_marks);
        self.responses.set_framing(framing);
        if interim {
            count(&mut context.tally.interim);
            self.answering = Answering::Interim;
            if let Some(waiting) = self.waiting.front_mut().filter(|_| belongs) {
                waiting.interim.push(status);
            }
            return;
        }
        count(&mut context.tally.responses);
        let Some(waiting) = self.waiting.front_mut().filter(|_| belongs) else {
            count(&mut context.tally.orphans);
            self.answering = Answering::Nobody { bodiless: true };
            if framing == Framing::Invalid {
                self.lose_responses(context);
            }
            return;
        };
        if framing == Framing::UntilClose {
            marks.set(Mark::UntilClose);
        }
        waiting.marks.merge(marks);
        if waiting.body.is_some() {
            waiting.marks.set(Mark::EarlyResponse);
        }
        waiting.response = Some(Answer {
            response: Response {
                status,
                version,
                headers,
                trailers: Default::default(),
                body: Default::default(),
            },
            body: Some(BodyBuilder::default()),
            first: start.at,
            last: start.at,
            tunnel: framing == Framing::Tunnel,
        });
        self.answering = Answering::First;
        if framing == Framing::Invalid {
            self.response_ended(false, context);
            self.lose_responses(context);
        }
    }

    /// True when the response that starts here answers the first waiting request. Requests that lost responses
    /// answered are given up.
    fn find_request(&mut self, response: &Start, context: &mut HttpContext) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        let sure = !self.responses_unsure && !first.after_loss;
        if !sure {
            // The client had exactly the bytes before this response when it sent the request.
            let fits = |waiting: &Waiting| {
                waiting.start.acknowledged == response.offset && waiting.response.is_none()
            };
            let Some(index) = self.waiting.iter().position(fits) else { return false };
            self.give_up_waiting(index, context);
            self.responses_unsure = false;
            if let Some(found) = self.waiting.front_mut() {
                found.after_loss = false;
            }
        }
        // A server cannot answer what it has not received; such a response is about the connection (a 408).
        self.waiting
            .front()
            .is_some_and(|waiting| response.acknowledged > waiting.start.offset && waiting.response.is_none())
    }

    fn answer(&mut self) -> Option<&mut Answer> {
        match self.answering {
            Answering::First => self.waiting.front_mut()?.response.as_mut(),
            Answering::Nothing | Answering::Interim | Answering::Nobody { bodiless: _ } => None,
        }
    }

    fn response_ended(&mut self, complete: bool, context: &mut HttpContext) -> Interest {
        let mut interest = Interest::Keep;
        if let Some(answer) = self.answer()
            && let Some(body) = answer.body.take()
        {
            answer.response.body = body.finish(complete);
            if answer.tunnel {
                interest = Interest::Forget;
            }
        }
        self.answering = Answering::Nothing;
        if interest == Interest::Forget {
            count(&mut context.tally.flows_upgraded);
            if let Some(waiting) = self.waiting.front_mut() {
                waiting.marks.set(Mark::Upgraded);
            }
        }
        self.emit_finished(context);
        interest
    }

    fn response_loss(&mut self, loss: Loss, at: Timestamp, context: &mut HttpContext) -> Interest {
        let mark = if loss.boundary { Mark::Gap } else { Mark::Truncated };
        match loss.message {
            MessageLoss::None => {}
            MessageLoss::Head => {
                if let Some(waiting) = self.waiting.front_mut() {
                    waiting.marks.set(mark);
                }
            }
            MessageLoss::Hole => {
                if let Some(body) = self.answer().and_then(|answer| answer.body.as_mut()) {
                    body.hole();
                    if let Some(waiting) = self.waiting.front_mut() {
                        waiting.marks.set(Mark::Gap);
                    }
                }
            }
            MessageLoss::Cut => {
                if self.answering == Answering::First
                    && let Some(waiting) = self.waiting.front_mut()
                {
                    waiting.marks.set(mark);
                }
                self.response_ended(false, context);
            }
            MessageLoss::Complete => {
                if let Some(answer) = self.answer() {
                    answer.last = answer.last.max(at);
                }
                self.response_ended(true, context);
            }
        }
        if loss.boundary {
            self.lose_responses(context);
        }
        Interest::Keep
    }

    fn lose_responses(&mut self, context: &mut HttpContext) {
        count(&mut context.tally.boundaries_lost);
        self.answering = Answering::Nothing;
        self.responses_unsure = true;
    }

    /// Hands on the first request while it and its response are over.
    fn emit_finished(&mut self, context: &mut HttpContext) {
        while self.waiting.front().is_some_and(|waiting| waiting.body.is_none() && waiting.is_answered()) {
            if let Some(waiting) = self.waiting.pop_front() {
                waiting.emit(self.flow, self.flow_hash, context);
            }
        }
    }

    /// Hands on the first `requests` requests as they are.
    fn give_up_waiting(&mut self, requests: usize, context: &mut HttpContext) {
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
            waiting.emit(self.flow, self.flow_hash, context);
        }
    }
}

fn chunk_context(input: &[u8], event: &StreamEvent<'_>, context: &HttpContext) -> ChunkContext {
    ChunkContext {
        offset: event.offset,
        bytes: input.len(),
        at: event.at,
        acknowledged: event.acknowledged,
        head_bytes_max: context.limits.head_bytes_max,
    }
}

#[cfg(test)]
mod tests;
