//! The server's half of a connection: which request a response belongs to, and when it is over.
//!
//! Reads no request.

use crate::model::{Interest, Mark, Response, StreamEvent, Timestamp};

use super::super::body::BodyBuilder;
use super::super::framing::{self, Framing};
use super::super::head::ResponseHead;
use super::super::reader::{Loss, MessageLoss, Start, Step};
use super::super::waiting::{Answer, Waiting};
use super::super::{HttpContext, count};
use super::{Answering, Connection, chunk_context};

// === impl Connection ===

impl Connection {
    pub(super) fn response_bytes(
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
                Step::Head(head, start) => {
                    if self.response_head(head, start, context) == Interest::Forget {
                        return Interest::Forget;
                    }
                }
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
                    if self.answering == Answering::First
                        && let Some(waiting) = self.waiting.front_mut()
                    {
                        waiting.keep(trailers.memory_bytes(), context);
                        if ambiguous {
                            waiting.marks.set(Mark::Ambiguous);
                        }
                        if let Some(answer) = &mut waiting.response {
                            answer.response.trailers = trailers;
                            answer.last = answer.last.max(event.at);
                        }
                        self.answered_until = chunk.offset_before(input);
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

    fn response_head(&mut self, head: ResponseHead, start: Start, context: &mut HttpContext) -> Interest {
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
            if let Some(waiting) = self.waiting.front_mut().filter(|_| belongs)
                && waiting.interim.len() < context.limits.interim_max
            {
                waiting.interim.push(status);
            }
            return Interest::Keep;
        }
        count(&mut context.tally.responses);
        let Some(waiting) = self.waiting.front_mut().filter(|_| belongs) else {
            count(&mut context.tally.orphans);
            self.answering = Answering::Nobody { bodiless: true };
            self.unknown_answers = self.unknown_answers.saturating_add(1);
            match framing {
                Framing::Invalid => self.lose_responses(context),
                Framing::Tunnel => {
                    count(&mut context.tally.flows_upgraded);
                    return Interest::Forget;
                }
                Framing::Empty | Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {}
            }
            return Interest::Keep;
        };
        waiting.keep(headers.memory_bytes(), context);
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
        self.keep_within_bound(context);
        Interest::Keep
    }

    /// True when the response that starts here answers the first waiting request. Requests that lost responses
    /// answered are given up.
    fn find_request(&mut self, response: &Start, context: &mut HttpContext) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        let sure = !self.responses_unsure && !first.after_loss;
        if !sure {
            let Some(index) = self.shown_request(response) else { return false };
            self.give_up_waiting(index, context);
            self.responses_unsure = false;
            self.unknown_answers = 0;
            if let Some(found) = self.waiting.front_mut() {
                found.after_loss = false;
            }
        }
        // A server cannot answer what it has not received; such a response is about the connection (a 408).
        self.waiting
            .front()
            .is_some_and(|waiting| response.acknowledged > waiting.start.offset && waiting.response.is_none())
    }

    /// The waiting request that `response` is shown to answer although messages are missing: the client had exactly
    /// the bytes before this response when it sent the request, and no other request can have been open then.
    fn shown_request(&self, response: &Start) -> Option<usize> {
        let received = |waiting: &Waiting| waiting.start.acknowledged;
        let index = self.waiting.iter().position(|waiting| received(waiting) == response.offset)?;
        let found = self.waiting.get(index).filter(|found| found.response.is_none())?;
        // A lost request before this one has had its answer when something came after the last known answer.
        let alone = !found.after_loss || received(found) > self.answered_until;
        // Of requests that were sent together only the first can have been answered before the next was sent.
        let earlier = self.waiting.iter().take(index);
        let together = earlier
            .zip(self.waiting.iter().skip(1))
            .filter(|(one, next)| received(one) == received(next))
            .count();
        (alone && (together == 0 || together < self.unknown_answers)).then_some(index)
    }

    fn answer(&mut self) -> Option<&mut Answer> {
        match self.answering {
            Answering::First => self.waiting.front_mut()?.response.as_mut(),
            Answering::Nothing | Answering::Interim | Answering::Nobody { bodiless: _ } => None,
        }
    }

    pub(super) fn response_ended(&mut self, complete: bool, context: &mut HttpContext) -> Interest {
        let mut interest = Interest::Keep;
        if let Some(answer) = self.answer()
            && let Some(body) = answer.body.take()
        {
            answer.response.body = body.finish(complete);
            if answer.tunnel {
                interest = Interest::Forget;
            } else if !self.requests_closed
                && self.waiting.front().is_some_and(|waiting| waiting.request.method == "CONNECT")
            {
                // Refused: the connection goes on as HTTP/1.x.
                self.requests.resume();
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

    pub(super) fn response_loss(&mut self, loss: Loss, at: Timestamp, context: &mut HttpContext) {
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
    }

    fn lose_responses(&mut self, context: &mut HttpContext) {
        count(&mut context.tally.boundaries_lost);
        self.answering = Answering::Nothing;
        self.lose_answers();
    }

    pub(super) fn lose_answers(&mut self) {
        self.responses_unsure = true;
        self.unknown_answers = self.unknown_answers.saturating_add(1);
    }
}
