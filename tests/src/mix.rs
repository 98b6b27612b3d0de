//! Fixed mixes of distinct requests, each with a marker that names it, and the load that sends them.
//!
//! Draws no random numbers: two runs send the same requests in the same order.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::client::{Answer, Client};
use crate::clock;
use crate::wire::{BodyFacts, Fields};

/// Requests that are written together when they are pipelined.
const PIPELINE_DEPTH: usize = 4;
const LONG_HEAD_BYTES: usize = 8 << 10;
/// Body sizes, from 1 KiB to 1 MiB.
const BODY_BYTES: [usize; 11] =
    [1 << 10, 1_500, 4 << 10, 9_000, 16 << 10, 40_000, 64 << 10, 131_072, 300_001, 700_000, 1 << 20];

/// The route patterns that cover [`every_route`].
pub const DEMO_ROUTES: [&str; 11] = [
    "/items/{id}",
    "/search",
    "/quotes/{id}",
    "/orders",
    "/static/{page}",
    "/report",
    "/stream/{lines}",
    "/blob/{bytes}",
    "/cached/{id}",
    "/redirect/{id}",
    "/empty",
];

/// How a request's bytes are put on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Head and body in one write.
    Whole,
    /// The body in chunks, with an extension and a trailer.
    Chunked,
    /// Several requests in one write, before the first answer.
    Pipelined,
    /// The body after `100 Continue`.
    Continue,
    /// The head in segments of a few bytes.
    Segments,
}

/// A request before it is sent.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Names the request; part of the target or a header field.
    pub marker: String,
    /// How it is sent.
    pub shape: Shape,
    /// The method token.
    pub method: &'static str,
    /// The target.
    pub target: String,
    /// Header fields besides `Host` and those that frame the body.
    pub fields: Fields,
    /// Length of the body, whose bytes follow from the marker; absent where there is none.
    pub body_bytes: Option<usize>,
}

/// A request that was sent, and its answer.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What was planned.
    pub planned: Planned,
    /// The body that went out.
    pub body: BodyFacts,
    /// All header fields that went out.
    pub fields: Fields,
    /// The client's end of the connection.
    pub client: SocketAddr,
    /// What came back.
    pub answer: Answer,
}

/// How fast a load goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests per second over all connections; without it, as fast as answers come.
    pub per_second: Option<u32>,
    /// Connections side by side; each sends its requests one after the other.
    pub connections: usize,
}

/// `count` requests of every shape, from 1 KiB to 1 MiB, to `/sink/`.
pub fn every_shape(count: usize) -> Vec<Planned> {
    let mut planned = Vec::with_capacity(count);
    let mut group = 0;
    while planned.len() < count {
        group += 1;
        let next = planned.len();
        let body = Some(BODY_BYTES[group * 7 % BODY_BYTES.len()]);
        match group % 8 {
            0 => planned.extend((0..PIPELINE_DEPTH).map(|n| plan(next + n, Shape::Pipelined, "GET", None))),
            1 | 5 => planned.push(plan(next, Shape::Whole, "GET", None)),
            2 => planned.push(plan(next, Shape::Whole, "POST", body)),
            3 => planned.push(plan(next, Shape::Chunked, "POST", body)),
            4 => {
                let mut long = plan(next, Shape::Whole, "GET", None);
                long.fields.push(("X-Long".to_owned(), "l".repeat(LONG_HEAD_BYTES)));
                planned.push(long);
            }
            6 => planned.push(plan(next, Shape::Continue, "PUT", body)),
            _ => planned.push(plan(next, Shape::Segments, "GET", None)),
        }
    }
    planned.truncate(count);
    planned
}

/// `count` requests over all routes of the demo, a planted fault in some of them.
pub fn every_route(count: usize) -> Vec<Planned> {
    (0..count)
        .map(|index| {
            let turn = index / 16;
            let (method, target, body_bytes) = match index % 16 {
                0 | 8 => ("GET", format!("/items/{}", index % 97), None),
                1 => ("GET", format!("/search?q={}", ["apple", "pear", "zebra", "plum"][turn % 4]), None),
                2 | 10 => ("GET", format!("/quotes/{}", index % 89), None),
                3 => ("POST", "/orders".to_owned(), Some(200 + turn * 37 % 4_000)),
                4 => ("GET", format!("/static/{}.json", turn % 20 + 1), None),
                5 => ("GET", format!("/static/{}.html", turn % 20 + 1), None),
                6 => ("GET", "/report".to_owned(), None),
                7 => ("GET", format!("/stream/{}", turn % 40 + 1), None),
                9 => ("GET", format!("/blob/{}", 1_000 + turn * 4_321 % 200_000), None),
                11 => ("GET", format!("/cached/{}", turn % 11), None),
                12 => ("GET", format!("/redirect/{}", turn % 13), None),
                13 => ("HEAD", format!("/stream/{}", turn % 7 + 1), None),
                14 => ("GET", "/empty".to_owned(), None),
                _ => ("POST", "/orders".to_owned(), Some(20_000 + turn)),
            };
            let mut planned = plan(index, Shape::Whole, method, body_bytes);
            if index % 32 == 11 {
                planned.fields.push(("If-None-Match".to_owned(), format!("\"v1-{}\"", turn % 11)));
            }
            planned.target = target;
            planned
        })
        .collect()
}

/// `count` requests to `/sink/` that a fleet gets, with the markers from number `first` on: most small, one in eight with
/// a body of up to 20 kB.
pub fn numbered(first: usize, count: usize) -> Vec<Planned> {
    let request = |index: usize| match index % 8 {
        7 => plan(index, Shape::Whole, "POST", Some(1_000 + index * 611 % 19_000)),
        _ => plan(index, Shape::Whole, "GET", None),
    };
    (first..first + count).map(request).collect()
}

/// Sends the requests, each on the connection whose turn it is, and reads every answer.
///
/// # Errors
/// When a connection breaks or an answer is not whole.
pub fn drive(address: SocketAddr, planned: &[Planned], pace: Pace) -> anyhow::Result<Vec<Sent>> {
    ensure!(pace.connections > 0, "a load needs a connection");
    let batches: Vec<(usize, &[Planned])> = batches(planned);
    let start = clock::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..pace.connections.min(batches.len()))
            .map(|worker| {
                let own = batches.iter().skip(worker).step_by(pace.connections);
                scope.spawn(move || {
                    let mut client = Client::connect(address)?;
                    let mut sent = Vec::new();
                    for (index, batch) in own {
                        if let Some(per_second) = pace.per_second {
                            let due = Duration::from_secs_f64(*index as f64 / f64::from(per_second));
                            clock::pause(due.saturating_sub(start.elapsed()));
                        }
                        send_batch(&mut client, address, batch, &mut sent)?;
                    }
                    anyhow::Ok(sent)
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

fn plan(index: usize, shape: Shape, method: &'static str, body_bytes: Option<usize>) -> Planned {
    let marker = format!("m{index:06}");
    Planned {
        shape,
        method,
        target: format!("/sink/{marker}?round={}&say=a%20b", index % 10),
        fields: vec![("X-Marker".to_owned(), marker.clone())],
        body_bytes,
        marker,
    }
}

/// Runs of pipelined requests stay together; each of the others is a batch of its own.
fn batches(planned: &[Planned]) -> Vec<(usize, &[Planned])> {
    let mut batches = Vec::new();
    let mut start = 0;
    while let Some(first) = planned.get(start) {
        let length = match first.shape {
            Shape::Pipelined => planned[start..]
                .iter()
                .take(PIPELINE_DEPTH)
                .take_while(|planned| planned.shape == Shape::Pipelined)
                .count(),
            Shape::Whole | Shape::Chunked | Shape::Continue | Shape::Segments => 1,
        };
        batches.push((start, &planned[start..start + length]));
        start += length;
    }
    batches
}

fn send_batch(
    client: &mut Client,
    address: SocketAddr,
    batch: &[Planned],
    sent: &mut Vec<Sent>,
) -> anyhow::Result<()> {
    let mut together = Vec::new();
    let mut waiting = Vec::new();
    for planned in batch {
        let body = planned.body();
        let (head, fields) = planned.head(address);
        let mut interim = None;
        match planned.shape {
            Shape::Pipelined => together.extend_from_slice(&head),
            Shape::Whole => client.send(&[head, body.clone()].concat())?,
            Shape::Chunked => client.send(&[head, chunked(&body)].concat())?,
            Shape::Continue => {
                client.send(&head)?;
                interim = Some(client.interim()?);
                client.send(&body)?;
            }
            Shape::Segments => client.send_in_segments(&head, 7 + planned.marker.len())?,
        }
        waiting.push((planned, fields, BodyFacts::of(&body), interim));
    }
    if !together.is_empty() {
        client.send(&together)?;
    }
    for (planned, fields, body, interim) in waiting {
        let mut answer =
            client.answer(planned.method).with_context(|| format!("no answer to {}", planned.marker))?;
        answer.interim.splice(0..0, interim);
        sent.push(Sent { planned: planned.clone(), body, fields, client: client.local(), answer });
    }
    Ok(())
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / 100 + 64);
    for (number, chunk) in body.chunks(7_919).enumerate() {
        let extension = if number % 3 == 0 { ";n=1" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nX-Trailer: end\r\n\r\n");
    out
}

// === impl Planned ===

impl Planned {
    /// The bytes of the body.
    pub fn body(&self) -> Vec<u8> {
        let mut state =
            self.marker.bytes().fold(1u64, |state, byte| state.wrapping_mul(131).wrapping_add(byte.into()));
        std::iter::repeat_with(|| {
            // xorshift64: cheap, and the same everywhere.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(self.body_bytes.unwrap_or_default())
        .collect()
    }

    fn head(&self, host: SocketAddr) -> (Vec<u8>, Fields) {
        let mut fields = vec![("Host".to_owned(), host.to_string())];
        fields.extend(self.fields.iter().cloned());
        if let Some(bytes) = self.body_bytes {
            fields.push(("Content-Type".to_owned(), "application/octet-stream".to_owned()));
            fields.push(match self.shape {
                Shape::Chunked => ("Transfer-Encoding".to_owned(), "chunked".to_owned()),
                Shape::Whole | Shape::Pipelined | Shape::Continue | Shape::Segments => {
                    ("Content-Length".to_owned(), bytes.to_string())
                }
            });
        }
        if self.shape == Shape::Continue {
            fields.push(("Expect".to_owned(), "100-continue".to_owned()));
        }
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        (head.into_bytes(), fields)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_mix_has_every_shape_and_no_request_twice() {
        let planned = every_shape(1_000);
        assert_eq!(planned.len(), 1_000);
        let targets: BTreeSet<_> = planned.iter().map(|planned| &planned.target).collect();
        assert_eq!(targets.len(), 1_000);
        for shape in [Shape::Whole, Shape::Chunked, Shape::Pipelined, Shape::Continue, Shape::Segments] {
            assert!(planned.iter().filter(|planned| planned.shape == shape).count() > 50, "{shape:?}");
        }
        let sizes: BTreeSet<_> = planned.iter().filter_map(|planned| planned.body_bytes).collect();
        assert_eq!((sizes.first(), sizes.last()), (Some(&(1 << 10)), Some(&(1 << 20))));
        assert!(planned.iter().any(|planned| planned.head(SocketAddr::from(([0; 4], 1))).0.len() > 8 << 10));
    }

    #[test]
    fn batches_hold_every_request_once_and_pipelines_together() {
        let planned = every_shape(100);
        let batches = batches(&planned);
        assert_eq!(batches.iter().map(|(_, batch)| batch.len()).sum::<usize>(), 100);
        let alone = |batch: &[Planned]| batch.len() == 1 || batch.iter().all(|p| p.shape == Shape::Pipelined);
        assert!(batches.iter().all(|(_, batch)| alone(batch)));
        assert!(batches.iter().any(|(_, batch)| batch.len() == PIPELINE_DEPTH));
    }
}
