//! Conversations and the exchanges that must be read out of them.
//!
//! Each conversation is a list of turns; `>` is the client's, `<` the server's.

use proptest::prelude::*;

use super::*;
use crate::http::{HttpLimits, sha256};
use crate::model::{Endpoint, Exchange, FlowKey};

/// One step of a conversation.
#[derive(Clone, Debug)]
enum Turn {
    Bytes(Direction, Vec<u8>),
    /// Bytes that were sent and not captured.
    Lost(Direction, Vec<u8>),
    End(Direction),
    Abort,
}

fn client(bytes: &str) -> Turn {
    Turn::Bytes(Direction::ToServer, bytes.into())
}

fn server(bytes: &str) -> Turn {
    Turn::Bytes(Direction::ToClient, bytes.into())
}

fn flow() -> Flow {
    let end = |port| Endpoint { addr: [0; 16], port };
    Flow { key: FlowKey { client: end(4000), server: end(80), scope: 0 }, opened: Timestamp(1) }
}

/// Plays a conversation; gives the exchanges, one line each, and the context.
fn play_from(turns: &[Turn], mid_stream: bool) -> (Vec<String>, HttpContext) {
    let limits = HttpLimits { body_kept_max: 64, headless_bytes_max: 100, ..HttpLimits::default() };
    let mut context = HttpContext::new(limits);
    let mut connection = Connection::from(Opened { flow: flow(), mid_stream });
    let mut sent = [0u64; 2];
    let mut wanted = true;
    for (step, turn) in turns.iter().enumerate() {
        let mut event = |direction, chunk| {
            let [mut to_server, mut to_client] = sent;
            let (offset, acknowledged) = match direction {
                Direction::ToServer => (&mut to_server, sent[1]),
                Direction::ToClient => (&mut to_client, sent[0]),
            };
            let at = Timestamp(step as u64);
            let event = StreamEvent { direction, offset: *offset, acknowledged, at, chunk };
            *offset += match chunk {
                Chunk::Bytes(bytes) => bytes.len() as u64,
                Chunk::Gap { bytes } => bytes,
                Chunk::Again(_) | Chunk::Disputed { .. } | Chunk::End | Chunk::Abort => 0,
            };
            sent = [to_server, to_client];
            if wanted {
                wanted = connection.read(event, &mut context) == Interest::Keep;
            }
        };
        match turn {
            Turn::Bytes(direction, bytes) => event(*direction, Chunk::Bytes(bytes)),
            Turn::Lost(direction, bytes) => event(*direction, Chunk::Gap { bytes: bytes.len() as u64 }),
            Turn::End(direction) => event(*direction, Chunk::End),
            Turn::Abort => {
                event(Direction::ToServer, Chunk::Abort);
                event(Direction::ToClient, Chunk::Abort);
            }
        }
    }
    (context.exchanges.iter().map(show).collect(), context)
}

fn play(turns: &[Turn]) -> (Vec<String>, HttpContext) {
    play_from(turns, false)
}

/// `GET /a 3+ > 103 200 5- [gap]`: sizes of the bodies, `+` complete or `-` not.
fn show(exchange: &Exchange) -> String {
    let body = |body: &crate::model::Body| {
        assert_eq!(body.complete, body.complete && sha256(body).is_some(), "a complete body has a hash");
        format!("{}{}", body.bytes, if body.complete { '+' } else { '-' })
    };
    let request = &exchange.request;
    let mut line = format!(
        "{} {} {} >",
        request.method_str(),
        String::from_utf8_lossy(&request.target),
        body(&request.body)
    );
    exchange.interim.iter().for_each(|status| line += &format!(" {status}"));
    if let Some(response) = &exchange.response {
        line += &format!(" {} {}", response.status, body(&response.body));
    }
    if !exchange.marks.is_empty() {
        line +=
            &format!(" {:?}", exchange.marks.iter().map(Mark::label).collect::<Vec<_>>()).replace('"', "");
    }
    line
}

#[track_caller]
fn check(turns: &[Turn], expected: &[&str]) {
    let (lines, context) = play(turns);
    assert_eq!(lines, expected);
    assert_eq!(
        context.kept_bytes() == 0,
        lines.len() as u64 == context.tally.requests,
        "kept bytes come back"
    );
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn pairs_a_request_with_its_response() {
    check(&[client("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"), server(OK)], &["GET /a 0+ > 200 2+"]);
}

#[test]
fn reads_keep_alive_and_pipelining() {
    let two = "GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    let answers =
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 201 Made\r\nContent-Length: 0\r\n\r\n";
    check(
        &[client(two), server(answers), client("GET /c HTTP/1.1\r\nHost: h\r\n\r\n"), server(OK)],
        &["GET /a 0+ > 200 1+", "POST /b 3+ > 201 0+ [pipelined]", "GET /c 0+ > 200 2+"],
    );
}

#[test]
fn reads_bodies_that_have_no_length_field() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";
    check(&[client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), server(chunked)], &["GET /a 0+ > 200 5+"]);
    let until_close =
        [client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"), server("HTTP/1.1 200 OK\r\n\r\nabc"), server("de")];
    check(
        &[&until_close[..], &[Turn::End(Direction::ToClient)]].concat(),
        &["GET /a 0+ > 200 5+ [until_close]"],
    );
    check(&[&until_close[..], &[Turn::Abort]].concat(), &["GET /a 0+ > 200 5- [truncated, until_close]"]);
}

#[test]
fn knows_responses_without_a_body() {
    let long = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n");
    check(
        &[
            client("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(&long("200 OK")),
            client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(&long("304 Not Modified")),
            client("GET /c HTTP/1.1\r\nHost: h\r\n\r\n"),
            server("HTTP/1.1 204 No Content\r\n\r\n"),
            client("GET /d HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(OK),
        ],
        &["HEAD /a 0+ > 200 0+", "GET /b 0+ > 304 0+", "GET /c 0+ > 204 0+", "GET /d 0+ > 200 2+"],
    );
}

#[test]
fn keeps_interim_responses_apart() {
    let head = "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    check(
        &[
            client(head),
            server("HTTP/1.1 100 Continue\r\n\r\n"),
            client("abc"),
            server("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
            server(OK),
        ],
        &["POST /a 3+ > 100 103 200 2+"],
    );
}

#[test]
fn a_refused_expectation_may_leave_the_body_out() {
    let head = "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let refused = "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n";
    check(
        &[client(head), server(refused), client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"), server(OK)],
        &["POST /a 0- > 417 0+ [ambiguous, early_response]", "GET /b 0+ > 200 2+ [ambiguous]"],
    );
    // In pieces, and with a body that begins like one.
    check(
        &[client(head), server(refused), client("G"), client("ET /b HTTP/1.1\r\n\r\n"), server(OK)],
        &["POST /a 0- > 417 0+ [ambiguous, early_response]", "GET /b 0+ > 200 2+ [ambiguous]"],
    );
    check(
        &[
            client(head),
            server(refused),
            client("G"),
            client("E!GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(OK),
        ],
        &["POST /a 3+ > 417 0+ [early_response]", "GET /b 0+ > 200 2+"],
    );
    check(
        &[client(head), server(refused), client("G"), Turn::End(Direction::ToServer)],
        &["POST /a 1- > 417 0+ [truncated, early_response]"],
    );
}

#[test]
fn upgrade_and_connect_end_the_reading() {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switched =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02GET / HTTP/1.1\r\n\r\n";
    check(&[client(upgrade), server(switched), client("\x01\x02")], &["GET /ws 0+ > 101 0+ [upgraded]"]);
    check(
        &[
            client("CONNECT x:443 HTTP/1.1\r\nHost: h\r\n\r\n"),
            server("HTTP/1.1 200 OK\r\n\r\n"),
            client("\x16\x03\x01"),
        ],
        &["CONNECT x:443 0+ > 200 0+ [upgraded]"],
    );
}

#[test]
fn a_refused_upgrade_goes_on_as_http() {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    check(
        &[client(upgrade), server(OK), client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"), server(OK)],
        &["GET /ws 0+ > 200 2+", "GET /b 0+ > 200 2+"],
    );
}

#[test]
fn other_protocols_are_recognised_and_left() {
    for first in ["\x16\x03\x01\x02\x00\x01\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n"] {
        let (lines, context) =
            play(&[client(first), client("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), server(OK)]);
        assert_eq!((lines.len(), context.tally.flows_not_http), (0, 1), "{first:?}");
    }
}

#[test]
fn text_is_another_protocol_when_the_server_speaks_one() {
    let ping = "*1\r\n$4\r\nPING\r\n";
    let (lines, context) =
        play(&[client(ping), server("+PONG\r\n"), client("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), server(OK)]);
    assert_eq!((lines.len(), context.tally.flows_not_http), (0, 1));
    // What is read then is a case of its own: `http-first-request-unreadable`.
    let (_, context) = play(&[client(ping), server("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")]);
    assert_eq!((context.tally.flows_not_http, context.tally.responses), (0, 1));
}

#[test]
fn a_body_beyond_the_cap_is_cut_not_lost() {
    let body = "x".repeat(1000);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}");
    check(
        &[
            client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(&response),
            client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
            server(OK),
        ],
        &["GET /a 0+ > 200 1000+ [cut]", "GET /b 0+ > 200 2+"],
    );
}

#[test]
fn ambiguous_framing_is_kept_and_marked() {
    let both = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    check(&[client(both), server(OK)], &["POST /a 1+ > 200 2+ [ambiguous]"]);
    for head in [
        "GET /a HTTP/1.1\nHost: x\n\n",
        "GET /a HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
    ] {
        check(&[client(head), server(OK)], &["GET /a 0+ > 200 2+ [ambiguous]"]);
    }
    let differing = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy";
    check(&[client(differing), server(OK)], &["POST /a 0- > 200 2+ [ambiguous]"]);
}

#[test]
fn a_hole_in_a_body_leaves_the_next_exchange_whole() {
    let turns = [
        client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"),
        Turn::Lost(Direction::ToClient, b"cdef".into()),
        server("ghijHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    check(&turns, &["GET /a 0+ > 200 6- [gap]"]);
}

#[test]
fn a_lost_request_does_not_shift_the_pairs() {
    let turns = [
        client("GET /a HTTP/1.0\r\n\r\n"),
        server(OK),
        Turn::Lost(Direction::ToServer, b"GET /b HTTP/1.0\r\n\r\n".into()),
        server("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        client("GET /c HTTP/1.0\r\n\r\n"),
        server(OK),
    ];
    let (lines, context) = play(&turns);
    assert_eq!(lines, ["GET /a 0+ > 200 2+", "GET /c 0+ > 200 2+"]);
    assert_eq!(context.tally.orphans, 1);
}

#[test]
fn a_lost_response_does_not_shift_the_pairs() {
    let turns = [
        client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        Turn::Lost(Direction::ToClient, OK.into()),
        client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
        server("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        client("GET /c HTTP/1.1\r\nHost: h\r\n\r\n"),
        server(OK),
    ];
    check(&turns, &["GET /a 0+ > [gap, no_response]", "GET /b 0+ > 404 0+", "GET /c 0+ > 200 2+"]);
}

#[test]
fn one_lost_response_among_pipelined_ones_leaves_them_unpaired() {
    // What was lost may have been a 103, so that even the last response may be that to /b.
    let turns = [
        client("GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n"),
        Turn::Lost(Direction::ToClient, OK.into()),
        server("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        client("GET /c HTTP/1.0\r\n\r\n"),
        server(OK),
        Turn::Abort,
    ];
    check(
        &turns,
        &[
            "GET /a 0+ > [gap, no_response]",
            "GET /b 0+ > [gap, no_response, pipelined]",
            "GET /c 0+ > [gap, no_response]",
        ],
    );
}

#[test]
fn two_requests_lost_out_of_a_pipeline_do_not_shift_the_pairs() {
    let lost = || Turn::Lost(Direction::ToServer, "GET /b HTTP/1.0\r\n\r\nGET /c HTTP/1.0\r\n\r\n".into());
    let answer = |status| server(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    let get = |path| client(&format!("GET /{path} HTTP/1.0\r\n\r\n"));
    // The answers to /b and /c come before and after /d is sent.
    let turns = [get("a"), answer(201), lost(), answer(202), get("d"), answer(203), answer(204), Turn::Abort];
    let (lines, _) = play(&turns);
    assert_eq!(lines, ["GET /a 0+ > 201 0+", "GET /d 0+ > [gap, no_response]"], "an answer too many");
    // The server answers /c before it has /d: the client was not waiting.
    let turns = |acknowledged: u64| {
        let mut context = HttpContext::new(HttpLimits::default());
        let mut connection = Connection::from(Opened { flow: flow(), mid_stream: false });
        let head = |status| format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        let steps = [
            (Direction::ToServer, 0, 0, Some("GET /a HTTP/1.0\r\n\r\n".to_owned())),
            (Direction::ToClient, 0, 19, Some(head(201))),
            (Direction::ToServer, 19, 0, None),
            (Direction::ToClient, 37, 57, Some(head(202))),
            (Direction::ToServer, 57, 74, Some("GET /d HTTP/1.0\r\n\r\n".to_owned())),
            (Direction::ToClient, 74, acknowledged, Some(head(203))),
            (Direction::ToClient, 111, 76, Some(head(204))),
            (Direction::ToServer, 76, 148, Some("GET /e HTTP/1.0\r\n\r\n".to_owned())),
            (Direction::ToClient, 148, 95, Some(head(205))),
        ];
        for (direction, offset, acknowledged, bytes) in &steps {
            let chunk = match bytes {
                Some(bytes) => Chunk::Bytes(bytes.as_bytes()),
                None => Chunk::Gap { bytes: 38 },
            };
            let (direction, offset, acknowledged) = (*direction, *offset, *acknowledged);
            let event = StreamEvent { direction, offset, acknowledged, at: Timestamp(0), chunk };
            connection.read(event, &mut context);
        }
        context.exchanges.iter().map(show).collect::<Vec<_>>()
    };
    // No more than two requests have room in what is missing, and three answers have passed before /e.
    assert_eq!(turns(57), ["GET /a 0+ > 201 0+", "GET /d 0+ > [gap, no_response]", "GET /e 0+ > 205 0+"]);
}

/// Plays a conversation of a flow that was joined; says whether it was forgotten as one without heads, and what came of
/// it.
#[track_caller]
fn check_joined(turns: &[Turn], forgotten: u64, expected: &[&str]) {
    let (lines, context) = play_from(turns, true);
    assert_eq!(lines, expected);
    let tally = context.tally;
    assert_eq!(
        (tally.flows_not_http, tally.flows_not_http_by_kind[Foreign::Joined as usize]),
        (forgotten, forgotten)
    );
}

#[test]
fn a_flow_that_was_joined_and_shows_no_head_is_forgotten() {
    let (frame, text) = ("\u{81}\u{5}hello".repeat(4), "x".repeat(40));
    let (to_server, to_client) = (client(&frame), server(&frame));
    let lost = |direction| Turn::Lost(direction, frame.clone().into());
    let exchange = [
        client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
        server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let both = ["GET /a 0+ > 200 0+ [mid_stream, ambiguous]", "GET /b 0+ > 200 0+ [mid_stream]"];
    let times = |turn: &Turn, count: usize| vec![turn.clone(); count];
    // Each frame is 32 bytes, and the bound 100.
    let frames = |up: usize, down: usize| [times(&to_server, up), times(&to_client, down)].concat();
    check_joined(&[frames(4, 4), exchange.to_vec()].concat(), 1, &[]);
    check_joined(&[frames(3, 9), exchange.to_vec()].concat(), 0, &both);
    // Text that may begin like a request, too.
    let words = [times(&client(&text), 4), times(&server(&text), 4)].concat();
    check_joined(&[words, exchange.to_vec()].concat(), 1, &[]);
    // A long download, and a long upload: one direction says nothing, and goes on with a head.
    check_joined(&[frames(0, 90), exchange.to_vec()].concat(), 0, &both);
    let upload = [times(&client(&text), 90), vec![exchange[1].clone()], exchange.to_vec()].concat();
    check_joined(&upload, 0, &both);
    // Behind a head anything may follow.
    check_joined(&[exchange.to_vec(), frames(9, 9)].concat(), 0, &both);
    // Where bytes are missing, there may have been a head.
    let holes = [frames(3, 9), vec![lost(Direction::ToServer)], frames(3, 0)].concat();
    check_joined(&holes, 0, &[]);
    check_joined(&[holes, frames(1, 0)].concat(), 1, &[]);
}

#[test]
fn joining_in_the_middle_finds_the_next_message() {
    let turns = [
        Turn::Bytes(Direction::ToClient, b"tail of a body".into()),
        client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"),
        server(OK),
        client("GET /c HTTP/1.1\r\nHost: h\r\n\r\n"),
        server(OK),
    ];
    let (lines, _) = play_from(&turns, true);
    assert_eq!(lines, ["GET /b 0+ > 200 2+ [mid_stream, ambiguous]", "GET /c 0+ > 200 2+ [mid_stream]"]);
}

#[test]
fn a_timeout_response_to_no_request_is_an_orphan() {
    let (lines, context) = play(&[
        client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        server(OK),
        server("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
        Turn::Abort,
    ]);
    assert_eq!(lines, ["GET /a 0+ > 200 2+"]);
    assert_eq!(context.tally.orphans, 1);
}

#[test]
fn unanswered_requests_come_out_at_the_end() {
    check(
        &[client("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"), Turn::Abort],
        &["POST /a 2- > [truncated, no_response]"],
    );
}

#[test]
fn an_endless_head_is_bounded() {
    let mut turns = vec![client("GET /a HTTP/1.1\r\nHost: h\r\n")];
    turns.extend((0..3000).map(|n| client(&format!("X-{n}: {}\r\n", "y".repeat(30)))));
    let (lines, context) = play(&turns);
    assert_eq!(lines.len(), 0);
    assert!(context.tally.oversize_heads + context.tally.flows_not_http >= 1);
}

/// A conversation of many kinds, whose exchanges are known.
fn conversation() -> Vec<Turn> {
    vec![
        client("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"),
        server(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;a=b\r\n, world\r\n0\r\nX: y\r\n\r\n",
        ),
        client(
            "POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        server(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nmadeHTTP/1.0 304 Not Modified\r\n\r\n",
        ),
        client("HEAD /d HTTP/1.1\r\nHost: h\r\n\r\n"),
        server("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
        client("GET /e HTTP/1.1\r\nHost: h\r\nBad : x\r\n\r\n"),
        server("HTTP/1.1 200 OK\r\n\r\nuntil the end"),
        Turn::End(Direction::ToClient),
        Turn::End(Direction::ToServer),
    ]
}

proptest! {
    /// Wherever the segments are cut, the exchanges are the same.
    #[test]
    fn cuts_anywhere_give_the_same_exchanges(cuts in prop::collection::vec(1usize..9, 1..400)) {
        let mut cuts = cuts.into_iter().cycle();
        let mut cut = Vec::new();
        for turn in conversation() {
            match turn {
                Turn::Bytes(direction, bytes) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                        cut.push(Turn::Bytes(direction, piece.to_vec()));
                        rest = after;
                    }
                }
                turn @ (Turn::Lost(..) | Turn::End(_) | Turn::Abort) => cut.push(turn),
            }
        }
        prop_assert_eq!(play(&cut).0, play(&conversation()).0);
    }

    /// Lost bytes never make a pair that is wrong: what is reported as whole was whole.
    #[test]
    fn what_is_reported_whole_was_whole(lost in prop::collection::vec(prop::bool::weighted(0.15), 20)) {
        let whole = play(&conversation()).0;
        let mut turns = Vec::new();
        let mut lost = lost.into_iter().cycle();
        for turn in conversation() {
            match turn {
                Turn::Bytes(direction, bytes) => {
                    for piece in bytes.chunks(11) {
                        turns.push(if lost.next().unwrap() {
                            Turn::Lost(direction, piece.to_vec())
                        } else {
                            Turn::Bytes(direction, piece.to_vec())
                        });
                    }
                }
                turn @ (Turn::Lost(..) | Turn::End(_) | Turn::Abort) => turns.push(turn),
            }
        }
        // Without the response before, nobody can know whether a request was pipelined.
        // Nor, without what shows it, whether a request began where it seems to.
        let plain = |line: &String| {
            let line = line.replace("ambiguous, ", "").replace(" [ambiguous]", "");
            line.replace("pipelined, ", "").replace(" [pipelined]", "")
        };
        let whole: Vec<String> = whole.iter().map(plain).collect();
        for line in play(&turns).0.iter().map(plain) {
            let marked = line.contains("gap") || line.contains("no_response") || line.contains("truncated");
            prop_assert!(marked || whole.contains(&line), "{line}");
        }
    }

    #[test]
    fn never_panics(turns in prop::collection::vec((any::<bool>(), any::<bool>(), prop::collection::vec(prop::sample::select(b"GET / HTP1.0\r\n:;23aChunked-Lgth".to_vec()), 0..60)), 0..30)) {
        let turns: Vec<Turn> = turns.into_iter().map(|(up, lost, bytes)| {
            let direction = if up { Direction::ToServer } else { Direction::ToClient };
            if lost { Turn::Lost(direction, bytes) } else { Turn::Bytes(direction, bytes) }
        }).collect();
        play_from(&turns, true);
        let (lines, context) = play(&turns);
        prop_assert!(lines.len() as u64 <= context.tally.requests);
    }
}

#[test]
fn nothing_is_held_back_after_the_server_has_closed() {
    let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    check(&[client(get), Turn::End(Direction::ToClient)], &["GET /a 0+ > [no_response]"]);
    check(
        &[
            Turn::End(Direction::ToClient),
            client(get),
            client("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"),
            client("ok"),
        ],
        &["GET /a 0+ > [no_response]", "POST /b 2+ > [no_response]"],
    );
}

#[test]
fn interim_responses_are_bounded() {
    let mut turns = vec![client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")];
    turns.extend((0..1_000).map(|_| server("HTTP/1.1 102 Processing\r\n\r\n")));
    turns.push(server(OK));
    let (_, context) = play(&turns);
    assert_eq!((context.exchanges[0].interim.len(), context.tally.interim), (64, 1_000));
}

#[test]
fn a_refused_connect_goes_on_as_http() {
    check(
        &[
            client("CONNECT x:443 HTTP/1.1\r\nHost: h\r\n\r\n"),
            server("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
            client("CONNECT x:443 HTTP/1.1\r\nHost: h\r\nProxy-Authorization: y\r\n\r\n"),
            server("HTTP/1.1 200 OK\r\n\r\n"),
        ],
        &["CONNECT x:443 0+ > 407 0+", "CONNECT x:443 0+ > 200 0+ [upgraded]"],
    );
}

#[test]
fn an_upgrade_whose_request_was_not_seen_ends_the_reading() {
    let turns =
        [server("HTTP/1.1 101 Switching Protocols\r\n\r\n"), client("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")];
    let (lines, context) = play_from(&turns, true);
    assert_eq!((lines.len(), context.tally.flows_upgraded), (0, 1));
}

#[test]
fn a_body_that_ends_in_a_hole_comes_out_at_once() {
    check(
        &[
            client("GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
            server("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"),
            Turn::Lost(Direction::ToClient, b"cd".into()),
        ],
        &["GET /a 0+ > 200 2- [gap]"],
    );
}

#[test]
fn a_long_first_head_does_not_hide_the_rest_of_the_flow() {
    let long = format!("GET /a HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    for pieces in [70_100, 1_448] {
        let mut turns: Vec<Turn> = long
            .as_bytes()
            .chunks(pieces)
            .map(|piece| Turn::Bytes(Direction::ToServer, piece.into()))
            .collect();
        turns.extend([server(OK), client("GET /b HTTP/1.1\r\nHost: h\r\n\r\n"), server(OK), Turn::Abort]);
        let (lines, context) = play(&turns);
        assert_eq!(lines, ["GET /b 0+ > 200 2+"], "in pieces of {pieces}");
        assert_eq!(
            (context.tally.oversize_heads, context.tally.flows_not_http, context.kept_bytes()),
            (1, 0, 0)
        );
    }
}

#[test]
fn a_request_lost_out_of_a_pipeline_does_not_shift_the_pairs() {
    let lost = || Turn::Lost(Direction::ToServer, b"GET /b HTTP/1.0\r\n\r\n".into());
    let answer = |status| server(&format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    let turns = [
        client("GET /a HTTP/1.0\r\n\r\n"),
        answer(201),
        lost(),
        client("GET /c HTTP/1.0\r\n\r\n"),
        answer(202),
        answer(203),
        client("GET /d HTTP/1.0\r\n\r\n"),
        answer(204),
    ];
    check(&turns, &["GET /a 0+ > 201 0+", "GET /c 0+ > [gap, no_response, ambiguous]", "GET /d 0+ > 204 0+"]);
    check(
        &[lost(), client("GET /c HTTP/1.0\r\n\r\n"), answer(202), answer(203), Turn::Abort],
        &["GET /c 0+ > [gap, no_response, ambiguous]"],
    );
}

#[test]
fn a_response_lost_out_of_a_pipeline_does_not_shift_the_pairs() {
    let turns = [
        client("GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n"),
        Turn::Lost(Direction::ToClient, OK.into()),
        client("GET /c HTTP/1.0\r\n\r\n"),
        server("HTTP/1.1 404 B\r\nContent-Length: 0\r\n\r\n"),
        server(OK),
        client("GET /d HTTP/1.0\r\n\r\n"),
        server(OK),
        Turn::Abort,
    ];
    check(
        &turns,
        &[
            "GET /a 0+ > [gap, no_response]",
            "GET /b 0+ > [gap, no_response, pipelined]",
            "GET /c 0+ > [gap, no_response]",
            "GET /d 0+ > [gap, no_response]",
        ],
    );
}

#[test]
fn what_unfinished_exchanges_keep_is_bounded() {
    let limits = HttpLimits { heads_kept_max: 20_000, ..HttpLimits::default() };
    let mut context = HttpContext::new(limits);
    let field = format!("X: {}\r\n", "y".repeat(1_000));
    let heads = [
        format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{field}"),
    ];
    for (number, head) in heads.iter().cycle().take(200).enumerate() {
        let mut connection = Connection::from(Opened { flow: flow(), mid_stream: false });
        let event = |chunk| StreamEvent {
            direction: Direction::ToServer,
            offset: 0,
            acknowledged: 0,
            at: Timestamp(0),
            chunk,
        };
        connection.read(event(Chunk::Bytes(head.as_bytes())), &mut context);
        assert!(context.kept_bytes() <= 20_000, "{number}: {}", context.kept_bytes());
    }
    assert!(context.tally.exchanges_at_bound > 80 && context.tally.oversize_heads > 80);
}

/// Time per byte does not grow with the length of a head that comes byte by byte.
#[test]
fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
    let head =
        format!("GET /{} HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(30_000), "b".repeat(30_000));
    let mut heads = 0;
    thread_local!(static BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    let mut reader = MessageReader::new(
        head::request,
        |bytes, _| {
            BYTES.with(|seen| seen.set(seen.get() + bytes.len()));
            head::looks_like_request(bytes)
        },
        true,
    );
    for (offset, byte) in head.as_bytes().iter().enumerate() {
        let mut input = std::slice::from_ref(byte);
        let chunk = ChunkContext {
            offset: offset as u64,
            bytes: 1,
            at: Timestamp(0),
            acknowledged: 0,
            shown: true,
            head_bytes_max: 64 << 10,
            room: 64 << 10,
        };
        while let Some(step) = reader.step(&mut input, &chunk) {
            assert!(matches!(step, Step::Head(..)));
            heads += 1;
        }
    }
    assert_eq!(heads, 1);
    assert!(BYTES.with(std::cell::Cell::get) < 2 * head.len(), "each byte is looked at about once");
}

#[test]
fn bodies_that_fill_their_bound_cost_no_exchange() {
    let mut context = HttpContext::new(HttpLimits { kept_bytes_max: 3, ..HttpLimits::default() });
    let mut connection = Connection::from(Opened { flow: flow(), mid_stream: false });
    let mut offset = 0;
    for piece in [
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Le",
        "ngth: 9\r\n\r\n123456789POST /b HTTP/1.1\r\nContent-Le",
        "ngth: 1\r\n\r\n1",
    ] {
        let chunk = Chunk::Bytes(piece.as_bytes());
        let event =
            StreamEvent { direction: Direction::ToServer, offset, acknowledged: 0, at: Timestamp(0), chunk };
        connection.read(event, &mut context);
        offset += piece.len() as u64;
    }
    let tally = context.tally;
    assert_eq!((tally.requests, tally.exchanges, tally.oversize_heads, tally.bodies_cut), (2, 0, 0, 2));
}

#[test]
fn a_connection_between_exchanges_keeps_no_room_for_requests() {
    let mut context = HttpContext::new(HttpLimits::default());
    let (request, response) = ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
    for _ in 0..3 {
        let mut connection = Connection::from(Opened { flow: flow(), mid_stream: false });
        for (direction, bytes, acknowledged) in
            [(Direction::ToServer, request, 0), (Direction::ToClient, response, request.len() as u64)]
        {
            let chunk = Chunk::Bytes(bytes.as_bytes());
            let event = StreamEvent { direction, offset: 0, acknowledged, at: Timestamp(0), chunk };
            connection.read(event, &mut context);
        }
        assert_eq!((connection.waiting.capacity(), context.spare_lists.len()), (0, 1));
    }
    assert_eq!(context.tally.exchanges, 3);
}
