//! A request on its way to its response.
//!
//! Decides nothing about which response is its own; that is `pair`'s.

use crate::model::{
    Body, Exchange, ExchangeId, Flow, FlowKey, Headers, Mark, Marks, Request, Response, Times, Timestamp,
    fnv1a,
};

use super::body::BodyBuilder;
use super::head::RequestHead;
use super::reader::Start;
use super::{HttpContext, count};

/// A request that is not answered in full.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    /// The request's body while it is read.
    pub(super) body: Option<BodyBuilder>,
    /// It stands behind the head as it is kept, without a coding.
    pub(super) body_is_plain: bool,
    pub(super) start: Start,
    /// Offset after the head: a server that has not received this much has not read the request.
    pub(super) head_end: u64,
    pub(super) last: Timestamp,
    pub(super) missing: Missing,
    pub(super) interim: Vec<u16>,
    pub(super) response: Option<Answer>,
    /// Its response is its own only if the client waited for each answer: the next message will tell. How many
    /// requests before it are open at most if not.
    pub(super) tentative: Option<u64>,
    pub(super) marks: Marks,
    /// What its heads take up of `head_bytes`.
    pub(super) head_memory: usize,
}

/// Requests before another one that were sent and not seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missing {
    /// How many at most.
    pub(super) most: u64,
    /// There is one at least, since what was lost lay between messages.
    pub(super) some: bool,
}

/// The final response to a waiting request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// The body while it is read.
    pub(super) body: Option<BodyBuilder>,
    /// It stands behind the head as it is kept, without a coding.
    pub(super) body_is_plain: bool,
    /// Where the response begins.
    pub(super) offset: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) tunnel: bool,
}

// === impl Waiting ===

impl Waiting {
    /// A request of which the head was read; `marks` has those of the head, too.
    pub(super) fn new(
        head: RequestHead,
        marks: Marks,
        start: Start,
        head_end: u64,
        at: Timestamp,
        missing: Missing,
    ) -> Self {
        let RequestHead { method, target, version, headers, marks: _ } = head;
        let (trailers, body) = (Headers::default(), Body::default());
        Self {
            request: Request { method, target, version, headers, trailers, body },
            body: Some(BodyBuilder::default()),
            body_is_plain: true,
            start,
            head_end,
            last: at,
            missing,
            interim: Vec::new(),
            response: None,
            tentative: None,
            marks,
            head_memory: 0,
        }
    }

    /// True when the client may wait for a 100 before it sends the body (RFC 9110 section 10.1.1).
    pub(super) fn expects_continue(&self) -> bool {
        self.request.headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// True when the whole response was read, or all of it that will come.
    pub(super) fn is_answered(&self) -> bool {
        self.response.as_ref().is_some_and(|answer| answer.body.is_none())
    }

    /// True when the whole response was read, and nothing can take it back.
    pub(super) fn is_finished(&self) -> bool {
        self.body.is_none() && self.is_answered() && self.tentative.is_none()
    }

    /// Lets go of a response that turned out to be another request's.
    pub(super) fn lose_response(&mut self, context: &mut HttpContext) {
        if let Some(answer) = self.response.take() {
            context.kept_bytes = context.kept_bytes.saturating_sub(answer.response.body.kept.len());
            count(&mut context.tally.orphans);
        }
        self.tentative = None;
    }

    /// Counts memory of heads against the bound of what unfinished exchanges keep.
    pub(super) fn keep(&mut self, memory: usize, context: &mut HttpContext) {
        self.head_memory = self.head_memory.saturating_add(memory);
        context.head_bytes = context.head_bytes.saturating_add(memory);
    }

    /// Hands the exchange on as it is.
    pub(super) fn emit(self, flow: Flow, flow_hash: u64, context: &mut HttpContext) {
        let Self {
            request,
            body: _,
            body_is_plain: _,
            start,
            head_end: _,
            last,
            missing: _,
            interim,
            response,
            tentative: _,
            mut marks,
            head_memory,
        } = self;
        let mut kept = request.body.kept.len();
        let (response, response_times) = match response {
            Some(Answer { response, first, last, body: _, body_is_plain: _, offset: _, tunnel: _ }) => {
                kept = kept.saturating_add(response.body.kept.len());
                (Some(response), Some((first, last)))
            }
            None => {
                marks.set(Mark::NoResponse);
                (None, None)
            }
        };
        context.kept_bytes = context.kept_bytes.saturating_sub(kept);
        context.head_bytes = context.head_bytes.saturating_sub(head_memory);
        // A body with a hole also has fewer bytes kept than seen; only one that passed the cap has a digest.
        let passed_cap = |body: &Body| body.digest.is_some();
        if passed_cap(&request.body) || response.as_ref().is_some_and(|response| passed_cap(&response.body)) {
            marks.set(Mark::Cut);
        }
        count(&mut context.tally.exchanges);
        context.exchanges.push(Exchange {
            id: ExchangeId { flow: flow_hash, offset: start.offset },
            flow,
            request,
            response,
            interim,
            times: Times { request_first: start.at, request_last: last, response: response_times },
            marks,
        });
    }
}

/// A hash of the ends and the opening time: the same on every host and in every version.
pub(super) fn flow_hash(flow: &Flow) -> u64 {
    let Flow { key, opened } = flow;
    // A cgroup has another number on every host.
    let FlowKey { client, server, scope: _ } = key;
    let bytes = (client.addr.into_iter())
        .chain(client.port.to_be_bytes())
        .chain(server.addr)
        .chain(server.port.to_be_bytes())
        .chain(opened.0.to_be_bytes());
    fnv1a(bytes)
}
