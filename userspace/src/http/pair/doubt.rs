//! What cannot be known of a connection's requests and responses, and which pairs are shown all the same.
//!
//! Makes no pair that could be another one's as far as the bytes seen say.

use super::super::HttpContext;
use super::super::count;
use super::super::reader::{NoHead, Start};
use super::super::waiting::{Missing, Waiting};
use super::{Answering, Connection};
use crate::model::{Direction, Mark};

/// Where requests may be missing before the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestsLost {
    /// Since where their direction is not known.
    pub(super) since: u64,
    /// Requests besides those that had room there, at most.
    pub(super) besides: u64,
    /// The bytes were lost between messages, so that they hold a message, and not inside of a body.
    pub(super) between: bool,
}

/// No request is shorter: `A / HTTP/1.1`, an end of line and an empty line.
const REQUEST_BYTES_MIN: u64 = 14;

// === impl Connection ===

impl Connection {
    /// True when the next response answers the first waiting request, or the next one to come.
    pub(super) fn is_sure(&self) -> bool {
        let next = self.waiting.front().map(|first| first.missing.most > 0);
        !self.responses_unsure && !next.unwrap_or(self.requests_lost.is_some())
    }

    /// True when a request is shown to begin here, sent when this much of the responses had been received: the server
    /// had received exactly what comes before when it began its last response, and the client exactly that response.
    pub(super) fn is_shown(&self, offset: u64, acknowledged: u64) -> bool {
        offset == self.answered_with && acknowledged == self.final_until
    }

    /// True before the first request of a flow that was joined after its handshake, as its mark says.
    pub(super) fn has_just_begun(&self) -> bool {
        self.requests_lost.is_some_and(|lost| lost.besides == u64::MAX)
    }

    /// The next bytes of a direction are not sure. Inside of a body whose end does not depend on them they concern one
    /// message; anywhere else all that follow.
    #[cold]
    pub(super) fn dispute(&mut self, direction: Direction, bytes: u64) {
        let waiting = match direction {
            Direction::ToServer => {
                let may_begin_here = self.may_leave_out_body(self.requests_read);
                self.requests_disputed |= may_begin_here || !self.requests.is_inside_body(bytes);
                self.waiting.back_mut().filter(|last| last.body.is_some())
            }
            Direction::ToClient => {
                self.responses_disputed |= !self.responses.is_inside_body(bytes);
                self.waiting.front_mut().filter(|_| self.answering == Answering::First)
            }
        };
        if let Some(waiting) = waiting {
            waiting.marks.set(Mark::Conflict);
        }
    }

    /// A response came that cannot be read. Those requests say so that it may answer.
    pub(super) fn mark_unread_answer(&mut self, why: NoHead) {
        let mark = match why {
            NoHead::Oversize => Mark::Truncated,
            NoHead::Malformed | NoHead::Foreign { kind: _, is_text: _ } => Mark::Ambiguous,
        };
        let requests = if self.is_sure() { 1 } else { usize::MAX };
        let open = self.waiting.iter_mut().filter(|waiting| waiting.response.is_none());
        open.take(requests).for_each(|waiting| waiting.marks.set(mark));
    }

    pub(super) fn lose_requests(&mut self, lost: RequestsLost, context: &mut HttpContext) {
        count(&mut context.tally.boundaries_lost);
        self.miss_requests(lost);
    }

    fn miss_requests(&mut self, RequestsLost { since, besides, between }: RequestsLost) {
        let lost = self.requests_lost.get_or_insert(RequestsLost { since, besides: 0, between: false });
        lost.since = lost.since.min(since);
        lost.besides = lost.besides.saturating_add(besides);
        lost.between |= between;
    }

    /// What may be missing before the request that starts here. `request_before`: what the client had received when it
    /// sent the one before, if that still waits.
    pub(super) fn missing_before(&mut self, start: &Start, request_before: Option<u64>) -> Missing {
        let missing = self.requests_lost.take().map_or_else(Missing::default, |lost| {
            let room = start.offset.saturating_sub(lost.since) / REQUEST_BYTES_MIN;
            Missing { most: lost.besides.saturating_add(room), some: lost.between }
        });
        // The client had received nothing since it sent the request before this one, or since the last answer
        // although a request that is missing came between.
        let since_last = missing.some.then_some(self.answered_until);
        self.pipelines |= request_before.or(since_last) == Some(start.acknowledged);
        missing
    }

    /// True when the client has sent the request that starts here before it had an answer to the one before: no response
    /// is missing since, and the server had not received that request when it began its last one.
    pub(super) fn shows_no_wait(&self, next: &Start) -> bool {
        self.waiting.back().is_some_and(|last| {
            last.response.is_none()
                && last.start.acknowledged >= self.responses_lost_until
                && next.acknowledged <= self.responses_read
                && self.answered_with < last.head_end
        })
    }

    /// Hands on the first `requests` requests, although their answers may come.
    pub(super) fn drop_waiting(&mut self, requests: usize, context: &mut HttpContext) {
        let dropped = requests.min(self.waiting.len()) as u64;
        self.give_up_waiting(requests, context);
        match self.waiting.front_mut() {
            Some(first) => {
                first.missing.most = first.missing.most.saturating_add(dropped);
            }
            None => self.miss_requests(RequestsLost { since: u64::MAX, besides: dropped, between: false }),
        }
        self.lose_answers();
    }

    pub(super) fn lose_answers(&mut self) {
        self.responses_unsure = true;
    }

    /// The waiting request that `response` is shown to answer although messages are missing. When that is only so
    /// because the client waits for its answers, also how many requests before it may be open if it does not.
    ///
    /// The client had exactly the bytes before this response when it sent the request, so that no earlier response
    /// can be its answer. Nor can this response be the answer to an earlier request: either the client waits for each
    /// answer before it sends the next request, as far as anyone has seen, or as many answers have passed as there
    /// can have been requests before.
    pub(super) fn shown_request(&mut self, response: &Start) -> Option<(usize, Option<u64>)> {
        let received = |waiting: &Waiting| waiting.start.acknowledged;
        let index = self.waiting.iter().position(|waiting| received(waiting) == response.offset)?;
        let found = self.waiting.get(index).filter(|found| found.response.is_none())?;
        // The server answers something else, which was open when the client sent this request.
        let too_early = response.acknowledged < found.head_end;
        // Every answer was seen, and none of them can be that to a request that is missing: the server had not received
        // it when it began the last one.
        let some_missing =
            self.waiting.iter().take(index.saturating_add(1)).any(|waiting| waiting.missing.some);
        let still_open = some_missing && !self.responses_unsure && self.answered_with < found.start.offset;
        if too_early || still_open {
            self.pipelines = true;
            return None;
        }
        let requests_before = (self.waiting.iter().take(index.saturating_add(1)))
            .fold(index as u64, |sum, waiting| sum.saturating_add(waiting.missing.most));
        let all_answered = self.answers_to_nobody >= requests_before;
        let tentative = (!all_answered).then(|| requests_before.saturating_sub(self.answers_to_nobody));
        (!self.pipelines || all_answered).then_some((index, tentative))
    }

    /// A client that sends its next request after the whole of a response has had the answer that it waited for.
    pub(super) fn confirm_answer(&mut self, next: &Start, context: &mut HttpContext) {
        let answered_until = self.answered_until;
        if let Some(first) =
            self.waiting.front_mut().filter(|first| first.tentative.is_some() && first.is_answered())
            && next.acknowledged >= answered_until
        {
            first.tentative = None;
            self.emit_finished(context);
        }
    }

    /// One more response although no request was seen since the last one, which was taken for the answer to the only
    /// open request: there was another one, before it or, if the server has received more than was seen, after it.
    pub(super) fn refute_answer(&mut self, next: &Start, context: &mut HttpContext) {
        let Some(first) = self.waiting.front_mut() else { return };
        if let Some(open_before) = first.tentative.filter(|_| first.is_answered()) {
            first.lose_response(context);
            first.missing.most = open_before;
            self.answers_to_nobody = self.answers_to_nobody.saturating_add(1);
            let unseen_after = self.requests_lost.is_some() || next.acknowledged > self.requests_read;
            self.pipelines |= !unseen_after;
            self.lose_answers();
        }
    }

    /// Hands on requests that must have had their answers, since that many have passed.
    pub(super) fn give_up_answered(&mut self, context: &mut HttpContext) {
        while let Some(first) = self.waiting.front().filter(|first| first.body.is_none()) {
            let up_to_it = first.missing.most.saturating_add(1);
            let Some(left) = self.answers_to_nobody.checked_sub(up_to_it) else { return };
            self.answers_to_nobody = left;
            self.responses_unsure = true;
            self.give_up_waiting(1, context);
        }
    }
}
