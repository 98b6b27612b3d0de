//! Connections of the admin listener, and their bounds: number, time, size.
//!
//! Knows no route. Starts no task: all connections are driven by one, so that a flood of them costs one thread at most.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tower_service::Service as _;

use super::access::Access;
use super::config::AdminLimits;
use crate::metrics::{AdminRefusal, AdminStats};

/// What every connection needs.
pub(super) struct Desk {
    pub(super) access: Access,
    pub(super) router: Router,
    /// Bytes of a body that this path takes.
    pub(super) body_bytes_max: fn(&AdminLimits, &str) -> usize,
    pub(super) limits: AdminLimits,
    pub(super) stats: Arc<AdminStats>,
}

/// Connections that are open, the oldest in front.
#[derive(Default)]
struct Places {
    open: VecDeque<Arc<Place>>,
}

/// One connection, as seen by the others.
#[derive(Default)]
struct Place {
    /// True once its request's head is whole.
    has_request: AtomicBool,
    /// Told that another needs the place.
    give_up: Notify,
}

/// How often the files with token and certificates are looked at.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How long open requests may take once the listener is told to stop.
const STOP_MAX: Duration = Duration::from_millis(200);

/// Pause after a connection could not be accepted: no descriptor may be left, and to ask at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, we listen behind our answer. To close while bytes are unread resets the connection,
/// and may take the answer away from who has not read it yet (RFC 9112 section 9.6).
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 32 << 20;

/// Takes connections until `stop` ends.
pub(super) async fn serve(listener: TcpListener, desk: &Desk, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewal = interval(RENEW_EVERY);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut places, mut connections) = (Places::default(), FuturesUnordered::new());
    loop {
        // One that gave up its place is still here until it was asked; so there is never more than one too many.
        let has_room = connections.len() <= desk.limits.connections_max;
        tokio::select! {
            () = &mut stop => break,
            _ = second.tick() => desk.access.held().gate.renew(),
            _ = renewal.tick() => desk.access.look_again(),
            Some(ended) = connections.next(), if !connections.is_empty() => places.leave(&ended),
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => match places.take(desk.limits.connections_max, &desk.stats) {
                    Some(place) => connections.push(desk.connection(stream, place)),
                    None => drop(stream),
                },
                Err(error) => {
                    tracing::debug!(%error, "A connection to the admin listener was not accepted.");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Whoever is late gets no answer, which is no loss: the process ends.
    drop(timeout(STOP_MAX, async { while connections.next().await.is_some() {} }).await);
}

// === impl Places ===

impl Places {
    /// A place for one more connection; none when all are taken by such that wait for their answer.
    fn take(&mut self, places_max: usize, stats: &AdminStats) -> Option<Arc<Place>> {
        if self.open.len() >= places_max {
            stats.refused(AdminRefusal::Connections);
            let is_idle = |place: &Arc<Place>| !place.has_request.load(Ordering::Relaxed);
            let idle = self.open.iter().position(is_idle)?;
            self.open.remove(idle)?.give_up.notify_one();
        }
        let place = Arc::<Place>::default();
        self.open.push_back(Arc::clone(&place));
        Some(place)
    }

    fn leave(&mut self, ended: &Arc<Place>) {
        self.open.retain(|place| !Arc::ptr_eq(place, ended));
    }
}

// === impl Desk ===

impl Desk {
    /// One connection from its first byte to its last.
    async fn connection(&self, stream: TcpStream, place: Arc<Place>) -> Arc<Place> {
        tokio::select! {
            () = place.give_up.notified() => {}
            () = self.greet(stream, &place.has_request) => {}
        }
        place
    }

    /// The handshake, where there is one, and the request.
    async fn greet(&self, stream: TcpStream, has_request: &AtomicBool) {
        let held = self.access.held();
        let Some(tls) = &held.tls else { return self.talk(stream, false, has_request).await };
        match timeout(self.limits.head_wait_max, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                let has_certificate = session.peer_certificates().is_some_and(|all| !all.is_empty());
                self.talk(stream, has_certificate, has_request).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "A TLS handshake with the admin listener failed.");
                self.stats.refused(AdminRefusal::Handshake);
            }
            Err(_elapsed) => self.stats.refused(AdminRefusal::HeadTime),
        }
    }

    /// One request and its answer.
    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        has_certificate: bool,
        has_request: &AtomicBool,
    ) {
        let AdminLimits { head_bytes_max, head_wait_max, request_wait_max, .. } = self.limits;
        let service = service_fn(|request: Request<Incoming>| {
            has_request.store(true, Ordering::Relaxed);
            Box::pin(async move { Ok::<_, Infallible>(self.answer(request, has_certificate).await) })
        });
        let mut connection = http1::Builder::new();
        connection
            .timer(TokioTimer::new())
            .header_read_timeout(head_wait_max)
            .max_buf_size(head_bytes_max)
            .keep_alive(false);
        let mut connection = connection.serve_connection(TokioIo::new(stream), service);
        let all_wait_max = head_wait_max.saturating_add(request_wait_max);
        let ended = timeout(all_wait_max, poll_fn(|cx| connection.poll_without_shutdown(cx))).await;
        // Whatever was to be said is said; the place is free for who needs it.
        let had_request = has_request.swap(false, Ordering::Relaxed);
        let refusal = match &ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => refusal_of(error),
            Err(_elapsed) if had_request => Some(AdminRefusal::RequestTime),
            Err(_elapsed) => Some(AdminRefusal::HeadTime),
        };
        if let Some(why) = refusal {
            self.stats.refused(why);
        }
        if ended.is_ok() {
            linger(connection.into_parts().io.into_inner()).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>, has_certificate: bool) -> Response {
        let body_bytes_max = (self.body_bytes_max)(&self.limits, request.uri().path());
        match self.access.held().gate.refuse(&request, has_certificate, body_bytes_max) {
            None => {
                // A chunked body announces no length.
                let request = request.map(|body| Limited::new(body, body_bytes_max));
                let Ok(answer) = self.router.clone().call(request).await;
                if let Some(why) = refusal_by(answer.status()) {
                    self.stats.refused(why);
                }
                answer
            }
            Some((why, answer)) => {
                self.stats.refused(why);
                answer
            }
        }
    }
}

/// Says that nothing more comes, and waits until the other side says so too.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let goodbye = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // However it ends, the connection is closed.
    drop(timeout(LINGER_MAX, goodbye).await);
}

/// What was wrong with a request that hyper has answered itself; none when the other side just went away.
fn refusal_of(error: &hyper::Error) -> Option<AdminRefusal> {
    if error.is_timeout() {
        Some(AdminRefusal::HeadTime)
    } else if error.is_parse_too_large() {
        Some(AdminRefusal::HeadSize)
    } else {
        error.is_parse().then_some(AdminRefusal::Malformed)
    }
}

/// The bound of a route that this answer speaks of.
fn refusal_by(status: StatusCode) -> Option<AdminRefusal> {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some(AdminRefusal::BodySize),
        StatusCode::REQUEST_TIMEOUT => Some(AdminRefusal::RequestTime),
        StatusCode::TOO_MANY_REQUESTS => Some(AdminRefusal::Rate),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
