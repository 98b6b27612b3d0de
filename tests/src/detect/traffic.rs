//! What the clients of an application send: the same for the same seed, at a bounded rate, with repeats.
//!
//! Judges no answer; it keeps the session's cookie and nothing else.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

use super::log::trace_parent;
use super::{Kind, Random};
use crate::client::Client;
use crate::clock;
use crate::wire::RequestHead;

/// Visitors at a time, each on a connection of its own.
pub const LANES: usize = 16;
/// The share of safe requests that repeat one of the last few, as people and programs do.
const REPEATS: f64 = 0.15;
/// How far back a repeat reaches: some seconds, since an answer repeated at once would often come from the same cache.
const REPEAT_WINDOW: usize = 1_500;

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: String,
    /// The visit that it belongs to: one cookie jar.
    visit: u64,
}

/// What came of a traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Driven {
    /// Requests answered.
    pub answered: u64,
    /// How long it took.
    pub took: Duration,
}

/// The first `count` requests of a traffic. Visits are interleaved over [`LANES`] lanes: the lane of a request is
/// its position modulo their number.
pub fn plan(kind: Kind, seed: u64, count: usize) -> Vec<Planned> {
    let mut random = Random::new(seed);
    let mut lanes: Vec<VecDeque<Planned>> = vec![VecDeque::new(); LANES];
    let mut planned: Vec<Planned> = Vec::with_capacity(count);
    let mut visits = 0;
    while planned.len() < count {
        let position = planned.len();
        let Some(lane) = lanes.get_mut(position % LANES) else { break };
        if lane.is_empty() {
            visits += 1;
            lane.extend(kind.visit(&mut random).into_iter().map(|next| Planned { visit: visits, ..next }));
        }
        let Some(mut next) = lane.pop_front() else { break };
        let alone = lane.is_empty() && kind != Kind::Sessions;
        if alone && random.chance(REPEATS) {
            let back = 1 + random.below(REPEAT_WINDOW as u64) as usize;
            if let Some(earlier) = position.checked_sub(back).and_then(|earlier| planned.get(earlier))
                && earlier.method == "GET"
            {
                next = Planned { visit: next.visit, ..earlier.clone() };
            }
        }
        planned.push(next);
    }
    planned
}

/// Sends the requests to A, `per_second` of them in a second.
///
/// # Errors
/// When a connection breaks or an answer does not come.
pub fn drive(address: SocketAddr, planned: &[Planned], seed: u64, per_second: f64) -> anyhow::Result<Driven> {
    let start = clock::now();
    let answered = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn(move || {
                    let own = planned.iter().enumerate().skip(lane).step_by(LANES);
                    let mut client = Client::connect(address)?;
                    let mut jar: HashMap<u64, String> = HashMap::new();
                    let mut answered = 0;
                    for (number, planned) in own {
                        let due = Duration::from_secs_f64(number as f64 / per_second);
                        clock::pause(due.saturating_sub(start.elapsed()));
                        let cookie = jar.get(&planned.visit).cloned();
                        client.send(&written(planned.message(
                            address,
                            &trace_parent(seed, number as u64),
                            cookie.as_deref(),
                        )))?;
                        let answer = client
                            .answer(planned.method)
                            .with_context(|| format!("no answer to {} {}", planned.method, planned.target))?;
                        let set =
                            answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
                        for (_, value) in set {
                            let pair = value.split(';').next().unwrap_or_default();
                            if pair.starts_with("sid=") {
                                jar.insert(planned.visit, pair.to_owned());
                            }
                        }
                        answered += 1;
                    }
                    anyhow::Ok(answered)
                })
            })
            .collect();
        let mut answered = 0;
        for lane in lanes {
            answered += lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        anyhow::Ok(answered)
    })?;
    Ok(Driven { answered, took: start.elapsed() })
}

// === impl Planned ===

impl Planned {
    pub(super) fn get(target: String) -> Self {
        Self { method: "GET", target, fields: Vec::new(), body: String::new(), visit: 0 }
    }

    pub(super) fn post(target: &str, content_type: &str, body: String) -> Self {
        let fields = vec![("Content-Type", content_type.to_owned())];
        Self { method: "POST", target: target.to_owned(), fields, body, visit: 0 }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// The visit that it belongs to.
    #[cfg(test)]
    pub(super) fn visit(&self) -> u64 {
        self.visit
    }

    /// The request's head, and its body.
    pub(super) fn message(
        &self,
        host: SocketAddr,
        trace: &str,
        cookie: Option<&str>,
    ) -> (RequestHead, &[u8]) {
        let Self { method, target, fields, body, visit: _ } = self;
        let mut all = vec![("Host", host.to_string()), ("Accept", "*/*".to_owned())];
        all.push(("traceparent", trace.to_owned()));
        all.extend(fields.iter().cloned());
        all.extend(cookie.map(|cookie| ("Cookie", cookie.to_owned())));
        if *method == "POST" {
            all.push(("Content-Length", body.len().to_string()));
        }
        let fields = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let head = RequestHead { method: (*method).to_owned(), target: target.clone(), minor: 1, fields };
        (head, body.as_bytes())
    }
}

/// The bytes of a request.
fn written((head, body): (RequestHead, &[u8])) -> Vec<u8> {
    let RequestHead { method, target, minor, fields } = head;
    let mut out = format!("{method} {target} HTTP/1.{minor}\r\n");
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}
