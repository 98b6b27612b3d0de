//! What one connection may cost, and who gives way to whom.
//!
//! Connections are pipes in memory, and time is the runtime's own.

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::io::duplex;

use super::*;
use crate::serve::config::AdminConfig;

fn desk() -> Desk {
    let config = AdminConfig::new("127.0.0.1:0".parse().unwrap());
    let limits = AdminLimits { body_bytes_max: 10, ..config.limits };
    let router = Router::new()
        .route("/ok", get(|| async { "ok\n" }))
        .route("/never", get(std::future::pending::<()>))
        .route("/take", post(|body: Bytes| async move { body }))
        .layer(DefaultBodyLimit::max(limits.body_bytes_max));
    let body_bytes_max = |limits: &AdminLimits, _: &str| limits.body_bytes_max;
    Desk { access: Access::new(config).unwrap(), router, body_bytes_max, limits, stats: Arc::default() }
}

/// Sends this, and perhaps nothing more for ever; checks the beginning of the answer and what was counted.
#[track_caller]
fn check(sent: &str, answer: &str, counted: Option<AdminRefusal>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let desk = desk();
        let (mut ours, theirs) = duplex(1 << 20);
        ours.write_all(sent.as_bytes()).await.unwrap();
        let has_request = AtomicBool::new(false);
        let ((), got) = tokio::join!(desk.talk(theirs, false, &has_request), async {
            let mut got = String::new();
            ours.read_to_string(&mut got).await.map(|_| got)
        });
        let got = got.unwrap();
        assert!(
            got.starts_with(answer) && got.is_empty() == answer.is_empty(),
            "{sent:.60} is answered with {got}"
        );
        let refused: Vec<_> =
            AdminRefusal::ALL.into_iter().filter(|why| desk.stats.count(*why) > 0).collect();
        assert_eq!(refused, Vec::from_iter(counted), "{sent:.60}");
        assert!(!has_request.load(Ordering::Relaxed), "the place is still said to be busy");
    });
}

const HOST: &str = "Host: localhost\r\n";

#[test]
fn a_request_is_answered_and_its_connection_closed() {
    check(&format!("GET /ok HTTP/1.1\r\n{HOST}\r\n"), "HTTP/1.1 200 OK\r\n", None);
    check(
        &format!("GET /ok HTTP/1.1\r\n{HOST}\r\nGET /ok HTTP/1.1\r\n{HOST}\r\n"),
        "HTTP/1.1 200 OK\r\n",
        None,
    );
}

#[test]
fn a_head_that_does_not_come_is_given_up() {
    for begun in ["", "GET", "GET /ok HTTP/1.1\r\nHost: local"] {
        check(begun, "", Some(AdminRefusal::HeadTime));
    }
}

#[test]
fn a_head_beyond_its_bound_is_refused() {
    let long = "x".repeat(AdminLimits::default().head_bytes_max);
    check(
        &format!("GET /ok HTTP/1.1\r\n{HOST}X-Long: {long}\r\n\r\n"),
        "HTTP/1.1 431",
        Some(AdminRefusal::HeadSize),
    );
    let many = "X-A: b\r\n".repeat(200);
    check(&format!("GET /ok HTTP/1.1\r\n{HOST}{many}\r\n"), "HTTP/1.1 431", Some(AdminRefusal::HeadSize));
    check("no HTTP at all\r\n\r\n", "HTTP/1.1 400", Some(AdminRefusal::Malformed));
}

#[test]
fn a_body_beyond_its_bound_is_refused_announced_or_not() {
    let post = format!("POST /take HTTP/1.1\r\n{HOST}");
    check(&format!("{post}Content-Length: 10\r\n\r\n0123456789"), "HTTP/1.1 200", None);
    check(&format!("{post}Content-Length: 11\r\n\r\n"), "HTTP/1.1 413", Some(AdminRefusal::BodySize));
    let chunked = "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    check(&format!("{post}{chunked}"), "HTTP/1.1 413", Some(AdminRefusal::BodySize));
    check(&format!("{post}Content-Length: 10\r\n\r\n0123"), "", Some(AdminRefusal::RequestTime));
}

#[test]
fn an_answer_that_does_not_come_is_given_up() {
    check(&format!("GET /never HTTP/1.1\r\n{HOST}\r\n"), "", Some(AdminRefusal::RequestTime));
}

#[test]
fn who_waits_longest_without_a_request_gives_way() {
    let (mut places, stats) = (Places::default(), AdminStats::default());
    let take = |places: &mut Places| places.take(3, &stats);
    let [first, second, third] = [(); 3].map(|()| take(&mut places).unwrap());
    first.has_request.store(true, Ordering::Relaxed);
    let fourth = take(&mut places).expect("the second gives way");
    let open = |places: &Places, place: &Arc<Place>| places.open.iter().any(|open| Arc::ptr_eq(open, place));
    assert!(open(&places, &first) && !open(&places, &second) && open(&places, &third));
    for busy in [&third, &fourth] {
        busy.has_request.store(true, Ordering::Relaxed);
    }
    assert!(take(&mut places).is_none(), "everybody has a request");
    places.leave(&third);
    assert!(take(&mut places).is_some(), "one has left");
    assert_eq!(stats.count(AdminRefusal::Connections), 2);
}
