//! The server's half of a connection: which request a response belongs to, and when it is over.
//!
//! Reads no request.

use crate::model::{Interest, Mark, Response, StreamEvent, Timestamp};

use super::super::body::BodyBuilder;
use super::super::framing::{self, Framing};
use super::super::head::ResponseHead;
use super::super::protocol::Upgraded;
use super::super::reader::{Loss, MessageLoss, Start, Step};
use super::super::waiting::{Answer, Missing};
use super::super::{HttpContext, count};
use super::doubt::RequestsLost;
use super::{Answering, Connection, chunk_context, no_head};

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
                    // Not the chunk's place: it may be a gap that the response ends in.
                    let end = self.responses_read.saturating_sub(input.len() as u64);
                    if self.answering != Answering::Interim {
                        self.final_until = end;
                    }
                    if self.answering == Answering::First
                        && let Some(waiting) = self.waiting.front_mut()
                    {
                        waiting.keep(trailers.memory_bytes(), context);
                        if ambiguous {
                            waiting.marks.set(Mark::Ambiguous);
                        }
                        self.responses_ambiguous |= ambiguous;
                        if let Some(answer) = &mut waiting.response {
                            answer.response.trailers = trailers;
                            answer.last = answer.last.max(event.at);
                        }
                        self.answered_until = end;
                    }
                    if self.response_ended(true, context) == Interest::Forget {
                        return Interest::Forget;
                    }
                }
                Step::Broken => {
                    self.responses_ambiguous = true;
                    if self.answering == Answering::First
                        && let Some(waiting) = self.waiting.front_mut()
                    {
                        waiting.marks.set(Mark::Ambiguous);
                    }
                    self.response_ended(false, context);
                    self.lose_responses(context);
                }
                Step::NoHead { why, guessed } => {
                    self.mark_unread_answer(why);
                    if no_head(why, !self.requests.has_read_none(), context) == Interest::Forget {
                        return Interest::Forget;
                    }
                    if !guessed {
                        self.lose_responses(context);
                    }
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
        if self.responses_ambiguous || self.responses.led_by().any {
            marks.set(Mark::Ambiguous);
        }
        self.responses_ambiguous |= marks.has(Mark::Ambiguous);
        if self.responses_disputed {
            marks.set(Mark::Conflict);
        }
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
        self.answered_with = start.acknowledged;
        let Some(waiting) = self.waiting.front_mut().filter(|_| belongs) else {
            count(&mut context.tally.orphans);
            self.answering = Answering::Nobody { bodiless: true };
            if !self.is_sure() {
                self.answers_to_nobody = self.answers_to_nobody.saturating_add(1);
                self.give_up_answered(context);
            }
            match framing {
                Framing::Invalid => self.lose_responses(context),
                Framing::Tunnel => {
                    context.tally.count_upgraded(Upgraded::of(status, &headers));
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
            body_is_plain: framing != Framing::Chunked,
            offset: start.offset,
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
        self.refute_answer(response, context);
        if self.waiting.is_empty() {
            return false;
        }
        if !self.is_sure() {
            let Some((index, tentative)) = self.shown_request(response) else { return false };
            self.give_up_waiting(index, context);
            self.responses_unsure = false;
            self.answers_to_nobody = 0;
            if let Some(found) = self.waiting.front_mut() {
                found.missing = Missing::default();
                found.tentative = tentative;
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

    pub(super) fn response_ended(&mut self, complete: bool, context: &mut HttpContext) -> Interest {
        let mut interest = Interest::Keep;
        if let Some(answer) = self.answer()
            && let Some(body) = answer.body.take()
        {
            answer.response.body = body.finish(complete);
            if answer.tunnel {
                interest = Interest::Forget;
            } else if !self.requests_closed
                && let Some(connect) =
                    self.waiting.front().filter(|waiting| waiting.request.method == "CONNECT")
            {
                // Refused: the connection goes on as HTTP/1.x. What was sent without waiting for that was not read.
                let since = connect.head_end;
                if !self.requests.resume() {
                    self.lose_requests(RequestsLost { since, besides: 0, between: false }, context);
                }
            }
        }
        self.answering = Answering::Nothing;
        if interest == Interest::Forget {
            if let Some(waiting) = self.waiting.front_mut() {
                waiting.marks.set(Mark::Upgraded);
            }
            if let Some(answer) = self.waiting.front().and_then(|waiting| waiting.response.as_ref()) {
                let kind = Upgraded::of(answer.response.status, &answer.response.headers);
                context.tally.count_upgraded(kind);
            }
        }
        if let Some(next) = self.waiting.get(1).map(|next| next.start) {
            self.confirm_answer(&next, context);
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
        self.lossy = true;
        self.answering = Answering::Nothing;
        self.responses_lost_until = self.responses_lost_until.max(self.responses_read);
        self.lose_answers();
    }
}
