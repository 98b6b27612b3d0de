//! Tests of the HTTP branch against small servers on loopback sockets.
//!
//! Each server reads what it gets and writes what the test says; nothing leaves the host.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::rewrite::Rewrite;
use super::*;
use crate::model::{Body, BranchFailure, Headers, Response, Version, samples};

const ID: ExchangeId = ExchangeId { flow: 1, offset: 2 };
const LONG: Duration = Duration::from_secs(20);

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Request {
    Request { body: Body::whole(body.to_owned()), ..samples::request(method, target, headers) }
}

/// What the server does once it has read a request.
#[derive(Clone, Debug)]
enum Reply {
    /// Writes and goes on with the connection.
    Bytes(Vec<u8>),
    /// Writes and closes.
    Last(Vec<u8>),
    /// Writes nothing and keeps the connection.
    Hang,
    /// Writes the first part once, then the second one until the client closes.
    Flood(&'static str, &'static str),
}

struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    /// Completes when a client has closed a connection that was hung or flooded.
    closed: Arc<tokio::sync::Notify>,
}

impl Server {
    async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let server = Self {
            port: listener.local_addr().expect("it is bound").port(),
            connections: Arc::default(),
            requests: Arc::default(),
            closed: Arc::default(),
        };
        let (connections, requests, closed) =
            (Arc::clone(&server.connections), Arc::clone(&server.requests), Arc::clone(&server.closed));
        let mut serving = tokio::task::JoinSet::new();
        let accept = async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the listener lives");
                connections.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve(stream, reply.clone(), Arc::clone(&requests), Arc::clone(&closed)));
            }
        };
        spawn(accept);
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no test panics here").clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's server has to run beside the test")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

/// Reads requests by their framing, the obvious way, and answers each.
async fn serve(
    mut stream: TcpStream,
    reply: Reply,
    requests: Arc<Mutex<Vec<String>>>,
    closed: Arc<tokio::sync::Notify>,
) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some(end) = request_end(&text) {
                break end;
            }
            match stream.read_buf(&mut read).await {
                Ok(0) | Err(_) => return closed.notify_one(),
                Ok(_) => {}
            }
        };
        let text = String::from_utf8_lossy(&read.drain(..end).collect::<Vec<_>>()).into_owned();
        requests.lock().expect("no test panics here").push(text);
        match &reply {
            Reply::Bytes(bytes) => stream.write_all(bytes).await.expect("the client reads"),
            Reply::Last(bytes) => {
                stream.write_all(bytes).await.expect("the client reads");
                return;
            }
            Reply::Hang => {
                let mut rest = [0; 1];
                assert!(matches!(stream.read(&mut rest).await, Ok(0) | Err(_)));
                closed.notify_one();
                return;
            }
            Reply::Flood(first, again) => {
                let mut written = stream.write_all(first.as_bytes()).await;
                while written.is_ok() {
                    written = stream.write_all(again.as_bytes()).await;
                }
                closed.notify_one();
                return;
            }
        }
    }
}

fn request_end(text: &str) -> Option<usize> {
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return text[head..].find("0\r\n\r\n").map(|end| head + end + 5);
    }
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
    let end = head + length.map_or(0, |length| length.parse().expect("a number"));
    (text.len() >= end).then_some(end)
}

fn branch(config: HttpBranchConfig) -> HttpBranch {
    HttpBranch::new(config, CapturedPorts::default()).expect("the configuration is good")
}

fn ok(body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// The raw request that a candidate gets.
async fn sent_as(request: &Request, change: impl FnOnce(&mut HttpBranchConfig)) -> String {
    let server = Server::start(ok("")).await;
    let mut config = HttpBranchConfig::new(server.url());
    change(&mut config);
    let sent = branch(config).send(ID, request, &OwnFields::default(), LONG).await;
    assert!(matches!(sent, Sent::Observed(Observation::Answered { .. })), "{sent:?}");
    server.requests().concat().replace(&server.port.to_string(), "PORT")
}

async fn observe(reply: Reply, deadline: Duration) -> (Observation, Server) {
    let server = Server::start(reply).await;
    let sent = branch(HttpBranchConfig::new(server.url()))
        .send(ID, &request("GET", "/", &[], ""), &OwnFields::default(), deadline)
        .await;
    match sent {
        Sent::Observed(observation) => (observation, server),
        Sent::NotSent(part) => panic!("not sent: {part:?}"),
    }
}

async fn check_failure(reply: Reply, expected: BranchFailure) {
    let shown = format!("{reply:?}");
    match observe(reply, LONG).await.0 {
        Observation::Failed(failure) => assert_eq!(failure, expected, "{shown}"),
        answered @ Observation::Answered { .. } => panic!("{shown}: {answered:?}"),
    }
}

async fn answer(reply: Reply) -> Response {
    match observe(reply, LONG).await.0 {
        Observation::Answered { response, ttfb, served } => {
            assert!(ttfb <= served && served < LONG, "{ttfb:?} {served:?}");
            *response
        }
        Observation::Failed(failure) => panic!("{failure:?}"),
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_but_for_its_connection() {
    let captured = request(
        "POST",
        "/a/../b%2F%zz?x=[1]&y=a|b",
        &[
            ("Host", "shop.example.org:8080"),
            ("X-One", "1"),
            ("Connection", "keep-alive, X-Hop, host"),
            ("x-hop", "gone"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
            ("Proxy-Authorization", "secret"),
            ("Cookie", "a=1"),
            ("Cookie", "b=\u{fc}"),
            ("Content-Length", "5"),
        ],
        "hello",
    );
    assert_eq!(
        sent_as(&captured, |_| ()).await,
        "POST /a/../b%2F%zz?x=[1]&y=a|b HTTP/1.1\r\nHost: shop.example.org:8080\r\nX-One: 1\r\n\
         Cookie: a=1\r\nCookie: b=\u{fc}\r\nContent-Length: 5\r\n\
         Understudy-Replay: 00000000000000010000000000000002\r\n\r\nhello"
    );
}

#[tokio::test]
async fn framing_stays_as_it_was() {
    let chunked = [("Host", "a"), ("Transfer-Encoding", "chunked"), ("Trailer", "x")];
    let raw = sent_as(&request("POST", "/", &chunked, "hello"), |_| ()).await;
    assert!(
        raw.contains("Transfer-Encoding: chunked\r\n") && raw.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{raw}"
    );
    let raw = sent_as(&request("POST", "/", &chunked, ""), |_| ()).await;
    assert!(raw.contains("Transfer-Encoding: chunked\r\n") && raw.ends_with("\r\n\r\n0\r\n\r\n"), "{raw}");
    let raw = sent_as(&request("POST", "/", &[("Content-Length", "0")], ""), |_| ()).await;
    assert!(raw.contains("Content-Length: 0\r\n") && raw.ends_with("\r\n\r\n"), "{raw}");
    let raw = sent_as(&request("GET", "/", &[], ""), |_| ()).await;
    assert_eq!(raw, "GET / HTTP/1.1\r\nUnderstudy-Replay: 00000000000000010000000000000002\r\n\r\n");
    let mut old = request("GET", "/", &[("Host", "a")], "");
    old.version = Version::Http10;
    assert!(sent_as(&old, |_| ()).await.starts_with("GET / HTTP/1.0\r\nHost: a\r\n"));
}

#[tokio::test]
async fn targets_are_sent_byte_for_byte() {
    for (target, expected) in [
        ("/go?to=http://x/", "GET /go?to=http://x/ HTTP"),
        ("//double", "GET //double HTTP"),
        ("/?", "GET /? HTTP"),
    ] {
        let raw = sent_as(&request("GET", target, &[("Host", "shop.test")], ""), |_| ()).await;
        assert!(raw.starts_with(expected) && raw.contains("Host: shop.test\r\n"), "{target}: {raw}");
    }
    assert!(sent_as(&request("OPTIONS", "*", &[], ""), |_| ()).await.starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[tokio::test]
async fn the_configuration_can_set_host_and_fields() {
    let captured = request("GET", "/", &[("Host", "a"), ("Authorization", "theirs")], "");
    let raw = sent_as(&captured, |config| {
        config.host = HostPolicy::Target;
        config.headers = vec![("Authorization".into(), "ours".into())];
    });
    assert!(raw.await.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nAuthorization: ours\r\n"));
    let raw = sent_as(&captured, |config| config.host = HostPolicy::Name("b.test".into()));
    assert!(raw.await.contains("Host: b.test\r\n"));
}

#[tokio::test]
async fn what_http_cannot_say_is_not_sent() {
    let mut cut = request("POST", "/", &[], "abc");
    cut.body.bytes = 9;
    for (captured, expected) in [
        (request("GE T", "/", &[], ""), Inexpressible::Method),
        (request("CONNECT", "a:1", &[], ""), Inexpressible::Method),
        (request("GET", "a:1", &[], ""), Inexpressible::Target),
        // B would see another target than A did.
        (request("GET", "http://shop.test/x?y", &[], ""), Inexpressible::Target),
        (request("GET", "http://shop.test", &[], ""), Inexpressible::Target),
        (request("GET", "", &[], ""), Inexpressible::Target),
        (request("GET", "/a#b", &[], ""), Inexpressible::Target),
        (request("GET", "/a b", &[], ""), Inexpressible::Target),
        (request("GET", "/", &[("a b", "")], ""), Inexpressible::Header),
        (request("GET", "/", &[("a", "\u{1}")], ""), Inexpressible::Header),
        (request("POST", "/", &[("Content-Length", "2")], "abc"), Inexpressible::Body),
        (cut, Inexpressible::Body),
    ] {
        let sent = branch(HttpBranchConfig::new("http://127.0.0.1:1"))
            .send(ID, &captured, &OwnFields::default(), LONG)
            .await;
        assert!(matches!(sent, Sent::NotSent(part) if part == expected), "{captured:?}: {sent:?}");
    }
}

#[tokio::test]
async fn answers_are_read_by_their_framing() {
    let response = answer(ok("hello")).await;
    assert_eq!(
        (response.status, &response.body.kept[..], response.body.complete),
        (200, &b"hello"[..], true)
    );
    let until_close = Reply::Last(b"HTTP/1.0 404 Not Found\r\nA: 1\r\na: 2\r\n\r\nall".to_vec());
    let response = answer(until_close).await;
    assert_eq!(
        (response.status, response.version, &response.body.kept[..]),
        (404, Version::Http10, &b"all"[..])
    );
    assert_eq!(response.headers, Headers::from_pairs([("a", "1"), ("a", "2")]));
    let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                   HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n";
    let response = answer(Reply::Bytes(chunked.into())).await;
    assert_eq!((response.status, &response.body.kept[..]), (200, &b"abcde"[..]));
    assert_eq!(response.trailers, Headers::from_pairs([("t", "1")]));
}

#[tokio::test]
async fn redirects_are_answers() {
    let reply = Reply::Bytes(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n".to_vec());
    let (observation, server) = observe(reply, LONG).await;
    assert!(matches!(observation, Observation::Answered { response, .. } if response.status == 302));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_body_past_the_cap_is_counted_and_hashed() {
    let body = "x".repeat(3 << 20);
    let response = answer(ok(&body)).await;
    let digest: [u8; 32] = Sha256::digest(&body).into();
    assert_eq!((response.body.kept.len(), response.body.bytes), (1 << 20, 3 << 20));
    assert_eq!((response.body.digest, response.body.complete), (Some(digest), true));
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(ok("x")).await;
    let branch = branch(HttpBranchConfig::new(server.url()));
    for _ in 0..5 {
        let sent = branch.send(ID, &request("GET", "/", &[], ""), &OwnFields::default(), LONG).await;
        assert!(matches!(sent, Sent::Observed(Observation::Answered { .. })), "{sent:?}");
    }
    assert_eq!((server.requests().len(), server.connections.load(Ordering::SeqCst)), (5, 1));
}

#[tokio::test]
async fn a_candidate_that_closes_early_is_closed_and_asked_once() {
    for early in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
    ] {
        check_failure(Reply::Last(early.into()), BranchFailure::Closed).await;
    }
    let (_, server) = observe(Reply::Last(Vec::new()), LONG).await;
    assert_eq!((server.requests().len(), server.connections.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_candidate_that_does_not_speak_http_is_garbage() {
    let many_fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    for garbage in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "\u{0}\u{1}\u{2}\u{3}\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        &many_fields,
    ] {
        check_failure(Reply::Bytes(garbage.into()), BranchFailure::Garbage).await;
    }
}

#[tokio::test]
async fn endless_heads_are_garbage() {
    check_failure(Reply::Flood("HTTP/1.1 200 OK\r\na: ", "aaaaaaaaaaaaaaaa"), BranchFailure::Garbage).await;
}

#[tokio::test]
async fn what_never_ends_is_cut_off_at_the_deadline_with_its_connection() {
    for reply in [
        Reply::Hang,
        Reply::Flood("", "HTTP/1.1 100 Continue\r\n\r\n"),
        Reply::Flood("HTTP/1.1 200 OK\r\n\r\n", "endless "),
        Reply::Flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nabcd\r\n"),
    ] {
        let shown = format!("{reply:?}");
        let (observation, server) = observe(reply, Duration::from_millis(100)).await;
        assert!(
            matches!(observation, Observation::Failed(BranchFailure::TimedOut)),
            "{shown}: {observation:?}"
        );
        let closed = tokio::time::timeout(LONG, server.closed.notified()).await;
        assert!(closed.is_ok(), "{shown}: the connection is still open");
    }
}

#[tokio::test]
async fn a_candidate_that_is_not_there_is_unreachable() {
    // Bound and not listening: nobody else can take the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a loopback port");
    let url = format!("http://{}", socket.local_addr().expect("it is bound"));
    let sent = branch(HttpBranchConfig::new(url))
        .send(ID, &request("GET", "/", &[], ""), &OwnFields::default(), LONG)
        .await;
    assert!(matches!(sent, Sent::Observed(Observation::Failed(BranchFailure::Unreachable))), "{sent:?}");
}

#[tokio::test]
async fn nothing_is_sent_to_the_captured_listener() {
    let server = Server::start(ok("")).await;
    let guard = CapturedPorts::new([server.port]);
    let branch = HttpBranch::new(HttpBranchConfig::new(format!("http://localhost:{}", server.port)), guard)
        .expect("names are resolved later");
    let error = branch.resolve().await.expect_err("it is the captured listener");
    assert!(error.to_string().contains(&format!("port {} of this host is captured", server.port)), "{error}");
    let sent = branch.send(ID, &request("GET", "/", &[], ""), &OwnFields::default(), LONG).await;
    assert!(matches!(sent, Sent::Observed(Observation::Failed(BranchFailure::Unreachable))), "{sent:?}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn bad_configurations_are_named() {
    let error = |change: fn(&mut HttpBranchConfig)| {
        let mut config = HttpBranchConfig::new("http://b.test");
        change(&mut config);
        HttpBranch::new(config, CapturedPorts::default()).err().map(|error| error.to_string())
    };
    let form = |url: &str| {
        Some(format!(
            "candidate `{url}` must read `http://host` or `http://host:port`, without user, path and query"
        ))
    };
    assert_eq!(error(|_| ()), None);
    assert_eq!(
        error(|config| config.url = "https://b.test".into()).as_deref(),
        Some(
            "candidate `https://b.test`: https is not supported yet; terminate TLS in front of the candidate"
        )
    );
    assert_eq!(error(|config| config.url = "b.test:80".into()), form("b.test:80"));
    assert_eq!(error(|config| config.url = "http://b.test/path".into()), form("http://b.test/path"));
    assert_eq!(error(|config| config.url = "http://u:p@b.test".into()), form("http://u:p@b.test"));
    assert_eq!(
        error(|config| config.url = "http://b test".into()).as_deref(),
        Some("candidate `http://b test` is not a URL")
    );
    assert_eq!(
        error(|config| config.headers = vec![("a b".into(), String::new())]).as_deref(),
        Some("header `a b` for candidate `http://b.test` has a name or a value that HTTP does not allow")
    );
    assert_eq!(
        error(|config| config.headers = vec![("Content-Length".into(), "1".into())]).as_deref(),
        Some(
            "header `content-length` for candidate `http://b.test` belongs to the message's framing and cannot be set"
        )
    );
}

proptest! {
    /// Whatever was captured: it is refused, or its target is on the wire byte for byte.
    #[test]
    fn no_captured_bytes_make_it_panic_or_change_a_target(
        method in "[A-Z]{1,5}|[\\x00-\\xff]{0,4}",
        rest in proptest::collection::vec(any::<u8>(), 0..12),
        fields in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..6), proptest::collection::vec(any::<u8>(), 0..6)), 0..4),
    ) {
        let target = [b"/".to_vec(), rest].concat();
        let captured = Request {
            method: method.into(),
            target: target.clone().into(),
            headers: Headers::from_pairs(fields),
            ..request("GET", "/", &[], "")
        };
        let rewrite = Rewrite {
            authority: ::http::uri::Authority::from_static("b.test"),
            host: None,
            headers: Vec::new(),
        };
        if let Ok(rewritten) = rewrite.apply(ID, &captured, &OwnFields::default()) {
            let path_and_query = rewritten.uri().path_and_query().map(|path| Bytes::copy_from_slice(path.as_str().as_bytes()));
            prop_assert_eq!(path_and_query, Some(Bytes::from(target)));
        }
    }
}
