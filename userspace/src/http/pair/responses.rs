//! The server's half of a connection: which request a response belongs to, and when it is over.
//!
//! Reads no request.

use crate::model::{Interest, Mark, Response, StreamEvent, Timestamp};

use super::super::body::BodyBuilder;
use super::super::framing::{self, Framing};
use super::super::head::ResponseHead;
use super::super::protocol::Upgraded;
use super::super::reader::{Loss, MessageLoss, Start, Step};
use super::super::waiting::{Answer, Waiting};
use super::super::{HttpContext, count};
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
                        self.answered_until = chunk.offset_before(input);
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
                Step::NoHead(why) => {
                    if no_head(why, context) == Interest::Forget {
                        return Interest::Forget;
                    }
                    self.lose_responses(context);
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
        if self.responses_ambiguous {
            marks.set(Mark::Ambiguous);
        }
        self.responses_ambiguous |= marks.has(Mark::Ambiguous);
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
        self.refute_answer(context);
        if self.waiting.is_empty() {
            return false;
        }
        if !self.is_sure() {
            let Some((index, tentative)) = self.shown_request(response) else { return false };
            self.give_up_waiting(index, context);
            self.responses_unsure = false;
            self.answers_to_nobody = 0;
            if let Some(found) = self.waiting.front_mut() {
                found.missing_max = 0;
                found.missing_some = false;
                found.tentative = tentative;
            }
        }
        // A server cannot answer what it has not received; such a response is about the connection (a 408).
        self.waiting
            .front()
            .is_some_and(|waiting| response.acknowledged > waiting.start.offset && waiting.response.is_none())
    }

    /// One more response although the client has sent nothing since the last one, which was taken for the answer to
    /// the only open request: there was another one.
    fn refute_answer(&mut self, context: &mut HttpContext) {
        let Some(first) = self.waiting.front_mut() else { return };
        if first.tentative && first.is_answered() {
            first.lose_response(context);
            first.missing_max = u64::MAX;
            self.pipelines = true;
            self.lose_answers();
        }
    }

    /// The waiting request that `response` is shown to answer although messages are missing, and whether that is only
    /// so because the client waits for its answers.
    ///
    /// The client had exactly the bytes before this response when it sent the request, so that no earlier response
    /// can be its answer. Nor can this response be the answer to an earlier request: either the client waits for each
    /// answer before it sends the next request, as far as anyone has seen, or as many answers have passed as there
    /// can have been requests before.
    fn shown_request(&mut self, response: &Start) -> Option<(usize, bool)> {
        let received = |waiting: &Waiting| waiting.start.acknowledged;
        let index = self.waiting.iter().position(|waiting| received(waiting) == response.offset)?;
        let found = self.waiting.get(index).filter(|found| found.response.is_none())?;
        // The server answers something else, which was open when the client sent this request.
        let too_early = response.acknowledged < found.head_end;
        // Every answer was seen, and none of them can be that to a request that is missing: the server had not received
        // it when it began the last one.
        let some_missing =
            self.waiting.iter().take(index.saturating_add(1)).any(|waiting| waiting.missing_some);
        let still_open = some_missing && !self.responses_unsure && self.answered_with < found.start.offset;
        if too_early || still_open {
            self.pipelines = true;
            return None;
        }
        let requests_before = (self.waiting.iter().take(index.saturating_add(1)))
            .fold(index as u64, |sum, waiting| sum.saturating_add(waiting.missing_max));
        let all_answered = self.answers_to_nobody >= requests_before;
        // Of a flow that was joined, the mark says that what came before is not known.
        let tentative = !all_answered && requests_before != u64::MAX;
        (!self.pipelines || all_answered).then_some((index, tentative))
    }

    /// Hands on requests that must have had their answers, since that many have passed.
    fn give_up_answered(&mut self, context: &mut HttpContext) {
        while let Some(first) = self.waiting.front().filter(|first| first.body.is_none()) {
            let up_to_it = first.missing_max.saturating_add(1);
            let Some(left) = self.answers_to_nobody.checked_sub(up_to_it) else { return };
            self.answers_to_nobody = left;
            self.responses_unsure = true;
            self.give_up_waiting(1, context);
        }
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
            if let Some(waiting) = self.waiting.front_mut() {
                waiting.marks.set(Mark::Upgraded);
            }
            if let Some(answer) = self.waiting.front().and_then(|waiting| waiting.response.as_ref()) {
                let kind = Upgraded::of(answer.response.status, &answer.response.headers);
                context.tally.count_upgraded(kind);
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
    }
}
