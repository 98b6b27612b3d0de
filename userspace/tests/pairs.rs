//! Pairs made from captures that lost packets, against the conversation that took place.
//!
//! The client and the server here are simulated with what each had received when it sent something, because that is all
//! that pairing can go by.

use std::collections::VecDeque;

use proptest::prelude::*;
use understudy::http::{Connection, HttpContext, HttpLimits};
use understudy::model::{
    Checksum, Direction, Endpoint, Mark, Segment, Seq, StreamEvent, TcpFlags, Timestamp,
};
use understudy::stream::{FlowTable, StreamLimits};

/// A conversation while it takes place. Numbers count bytes of a direction.
struct Conversation {
    /// Requests that the client has open at most.
    depth: usize,
    /// Requests that the client has sent, and answers that it has received whole.
    sent: usize,
    answered: usize,
    to_server: u32,
    to_client: u32,
    client_received: u32,
    server_received: u32,
    /// Segments on their way to the server: what the client had received, and the bytes.
    up: VecDeque<(u32, Vec<u8>)>,
    /// Segments on their way to the client: number of the byte after them, and whether they end an answer.
    down: VecDeque<(u32, bool)>,
    /// Requests that the server has received and not answered.
    open: VecDeque<usize>,
    arrived: usize,
}

/// A segment as it passes the probe, which sits at the server.
struct Passing {
    up: bool,
    number: u32,
    acknowledged: u32,
    bytes: Vec<u8>,
}

const CLIENT: Endpoint = Endpoint { addr: [1; 16], port: 40_000 };
const SERVER: Endpoint = Endpoint { addr: [2; 16], port: 80 };

// === impl Conversation ===

impl Conversation {
    fn new(depth: usize) -> Self {
        Self {
            depth,
            sent: 0,
            answered: 0,
            to_server: 0,
            to_client: 0,
            client_received: 0,
            server_received: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            open: VecDeque::new(),
            arrived: 0,
        }
    }

    /// Somebody does something, if it can be done now.
    fn step(&mut self, choice: u8) -> Option<Passing> {
        match choice % 4 {
            0 if self.sent - self.answered < self.depth => {
                let request = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", self.sent);
                self.sent += 1;
                self.up.push_back((self.client_received, request.into_bytes()));
                None
            }
            1 => {
                let (acknowledged, bytes) = self.up.pop_front()?;
                let number = self.to_server;
                self.to_server += bytes.len() as u32;
                self.server_received = self.to_server;
                self.open.push_back(self.arrived);
                self.arrived += 1;
                Some(Passing { up: true, number, acknowledged, bytes })
            }
            2 => {
                let request = *self.open.front()?;
                // Now and then something comes before the answer.
                let (bytes, ends) = match choice / 4 % 8 {
                    0 => ("HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(), false),
                    1 => (
                        format!(
                            "HTTP/1.1 200 OK\r\nN: {request}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
                        ),
                        true,
                    ),
                    2 => (format!("HTTP/1.1 304 Not Modified\r\nN: {request}\r\n\r\n"), true),
                    _ => (format!("HTTP/1.1 200 OK\r\nN: {request}\r\nContent-Length: 2\r\n\r\nab"), true),
                };
                if ends {
                    self.open.pop_front();
                }
                let number = self.to_client;
                self.to_client += bytes.len() as u32;
                self.down.push_back((self.to_client, ends));
                Some(Passing { up: false, number, acknowledged: self.server_received, bytes: bytes.into() })
            }
            3 => {
                let (received, ends) = self.down.pop_front()?;
                self.client_received = received;
                self.answered += usize::from(ends);
                None
            }
            _ => None,
        }
    }
}

/// Plays a conversation with losses. Gives how many requests were paired right, and what was paired wrong.
fn play(depth: usize, steps: &[(u8, bool)]) -> (usize, Vec<String>) {
    let mut conversation = Conversation::new(depth);
    let mut flows: FlowTable<Connection> = FlowTable::new(StreamLimits::default());
    let mut http = HttpContext::new(HttpLimits::default());
    let mut accept = |passing: &Passing, syn: bool| {
        let Passing { up, number, acknowledged, bytes } = passing;
        let (source, destination) = if *up { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let direction = if *up { Direction::ToServer } else { Direction::ToClient };
        let segment = Segment {
            captured_at: Timestamp(1),
            source,
            destination,
            scope: 0,
            network: 0,
            window: 0,
            window_scale: None,
            direction: Some(direction),
            seq: Seq(u32::MAX - 200).plus(*number),
            ack: (!syn || !up).then_some(Seq(u32::MAX - 200).plus(*acknowledged)),
            flags: TcpFlags { syn, fin: false, rst: false },
            payload: bytes,
            wire_payload_bytes: bytes.len() as u32,
            checksum: Checksum::Unjudged,
            ends_packet: true,
        };
        let mut read =
            |connection: &mut Connection, event: StreamEvent<'_>| connection.read(event, &mut http);
        assert_eq!(flows.accept(&segment, &mut read), Ok(()));
    };
    // The handshake; a SYN has the number before the first byte.
    let syn = |up| Passing { up, number: u32::MAX, acknowledged: 0, bytes: Vec::new() };
    accept(&syn(true), true);
    accept(&syn(false), true);
    for (choice, lost) in steps {
        if let Some(passing) = conversation.step(*choice)
            && !lost
        {
            accept(&passing, false);
        }
    }
    flows.finish(&mut |connection, event| connection.read(event, &mut http));
    let mut right = 0;
    let mut wrong = Vec::new();
    for exchange in &http.exchanges {
        let Some(response) = &exchange.response else { continue };
        let answers = response.headers.get("n").unwrap_or_default();
        let asked = exchange.request.target.get(1..).unwrap_or_default();
        if answers == asked {
            right += 1;
        } else {
            wrong.push(format!("{} got {}", exchange.request.target.escape_ascii(), answers.escape_ascii()));
        }
        // A 304 has no body, and every other answer has the same.
        let body = if response.status == 304 { &b""[..] } else { b"ab" };
        assert!(!response.body.complete || response.body.kept == body, "a body that is complete is whole");
        assert!(
            response.body.complete || exchange.marks.has(Mark::Gap) || exchange.marks.has(Mark::Truncated)
        );
    }
    (right, wrong)
}

fn steps(loss: f64) -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((any::<u8>(), prop::bool::weighted(loss)), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Of a client that waits for its answers, no pair is ever wrong, whatever was lost.
    #[test]
    fn no_pair_of_a_client_that_waits_is_wrong(steps in steps(0.2)) {
        let (_, wrong) = play(1, &steps);
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Nor of one that was seen not to wait: it sends two requests before anything is lost.
    #[test]
    fn no_pair_of_a_client_that_pipelines_is_wrong(depth in 2usize..5, steps in steps(0.2)) {
        let seen = [0, 0, 1, 1].map(|choice| (choice, false));
        let (_, wrong) = play(depth, &[&seen[..], &steps].concat());
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Without loss every request that was answered has its answer.
    #[test]
    fn nothing_is_unpaired_without_loss(depth in 1usize..5, steps in steps(0.0)) {
        let (right, wrong) = play(depth, &steps);
        let mut conversation = Conversation::new(depth);
        let answers = steps.iter().filter_map(|(choice, _)| conversation.step(*choice));
        let answers = answers.filter(|passing| !passing.up && !passing.bytes.starts_with(b"HTTP/1.1 1")).count();
        prop_assert!(wrong.is_empty() && right == answers, "{right} of {answers}, {wrong:?}");
    }
}
