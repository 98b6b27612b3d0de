//! The admin listener: `/metrics`, `/healthz`, `/readyz`; `/state`, `/pause`, `/resume` where something can pause, and
//! `/observe` where it is configured.
//!
//! Serves nothing of the captured traffic, and listens on loopback unless told otherwise; anywhere else it wants to know who
//! asks. What a request may cost is bounded before a route sees it (`listen`, `auth`).

mod access;
mod auth;
mod client;
mod config;
mod control;
mod error;
mod listen;
mod observe;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::metrics::{AdminStats, Format, Metrics};

use access::Access;
use listen::Desk;
use observe::Observe;

pub use client::{Answer, Client, ClientConfig, ClientError};
pub use config::{AdminConfig, AdminLimits, AdminTls};
pub use control::{Control, ControlState, Order, PausedBy};
pub use error::AdminError;
pub use observe::{Intake, ObserveLimits, Refusal, Taking};

/// The admin listener, bound.
pub struct Admin {
    listener: TcpListener,
    access: Access,
    limits: AdminLimits,
}

/// What the routes show, and whom they tell.
pub struct Routes {
    /// `/metrics`.
    pub metrics: Metrics,
    /// `/readyz`: whether the process does its work.
    pub ready: watch::Receiver<bool>,
    /// `/observe`: what takes exchanges that are handed in; none: nobody, and there is no such route.
    pub intake: Option<Intake>,
    /// `/state`, `/pause`, `/resume`: what pauses and resumes; none: nothing can, and there are no such routes.
    pub control: Option<Control>,
}

struct Shared {
    metrics: Metrics,
    ready: watch::Receiver<bool>,
}

/// Connections that the kernel holds until they are accepted. The usual 128 is full after a burst, and then a scrape waits
/// for the next attempt of its own kernel, a second later.
const BACKLOG: u32 = 1024;

// === impl Admin ===

impl Admin {
    /// Binds the address, if there is one.
    ///
    /// # Errors
    /// As for [`Admin::bind`].
    pub async fn bind_if(config: Option<AdminConfig>) -> Result<Option<Self>, AdminError> {
        match config {
            Some(config) => Self::bind(config).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads token and certificates, and binds the address.
    ///
    /// # Errors
    /// When the address is taken or not one of this host, or one of the files cannot be used.
    pub async fn bind(config: AdminConfig) -> Result<Self, AdminError> {
        let (address, limits) = (config.listen, config.limits);
        let access = Access::new(config)?;
        let listener = listen(address).map_err(|source| AdminError::Listen { address, source })?;
        if access.is_exposed() {
            tracing::warn!(%address, "The admin listener speaks plain HTTP here, and its token can be read on the way; set `cert` and `key` under [admin].");
        }
        Ok(Self { listener, access, limits })
    }

    /// Where it listens; with port 0 configured, the port that the kernel chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers until `stop` ends.
    pub async fn run(self, mut routes: Routes, stop: impl Future<Output = ()>) {
        let Self { listener, access, limits } = self;
        let stats = Arc::new(AdminStats::default());
        routes.metrics.add_admin(Arc::clone(&stats));
        let router = router(routes, &limits);
        listen::serve(listener, &Desk { access, router, body_bytes_max, limits, stats }, stop).await;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A listener that ended a moment ago must not keep the next one from its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Every route. Whoever adds one needs to think of no bound and of nobody who may not ask: whatever comes here has passed
/// [`Gate::refuse`], and only `/healthz` answers everybody.
fn router(routes: Routes, limits: &AdminLimits) -> Router {
    let Routes { metrics, ready, intake, control } = routes;
    let mut router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(show_ready))
        .with_state(Arc::new(Shared { metrics, ready }));
    if let Some(intake) = intake {
        let observe = Observe::new(intake, ObserveLimits::default());
        router = router.merge(Router::new().route(observe::PATH, post(observe::take)).with_state(observe));
    }
    if let Some(control) = control {
        router = router.merge(control::routes(control));
    }
    router.layer(DefaultBodyLimit::max(limits.body_bytes_max))
}

/// Bytes of a body that a path takes.
fn body_bytes_max(limits: &AdminLimits, path: &str) -> usize {
    match path {
        observe::PATH => ObserveLimits::default().body_bytes_max,
        _ => limits.body_bytes_max,
    }
}

async fn show_metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|field| field.to_str().ok()).collect();
    let format = Format::wanted(&accept.join(","));
    let content = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    match shared.metrics.encode(format) {
        Ok(text) => (content, text).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be formatted\n").into_response(),
    }
}

async fn show_ready(State(shared): State<Arc<Shared>>) -> Response {
    if *shared.ready.borrow() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response()
    }
}
