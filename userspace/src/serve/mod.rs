//! The admin listener: `/metrics`, `/healthz`, `/readyz`.
//!
//! Serves nothing of the captured traffic, takes no body but that of `/observe` where it is configured, and listens on
//! loopback unless told otherwise.

mod observe;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;

use observe::Observe;
pub use observe::{Intake, ObserveLimits, Refusal, Taking};

/// The admin listener, bound.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

/// Why the admin listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to listen on {address} for the admin listener; choose another address with --admin or [admin] listen, or `off`"
)]
pub struct AdminError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

struct Shared {
    metrics: Metrics,
    ready: watch::Receiver<bool>,
}

/// The media type of OpenMetrics text (OpenMetrics 1.0, section 4.1).
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long open requests may take once the listener is told to stop.
const STOP_MAX: Duration = Duration::from_millis(200);

// === impl Admin ===

impl Admin {
    /// Binds the address, if there is one.
    ///
    /// # Errors
    /// As for [`Admin::bind`].
    pub async fn bind_if(address: Option<SocketAddr>) -> Result<Option<Self>, AdminError> {
        match address {
            Some(address) => Self::bind(address).await.map(Some),
            None => Ok(None),
        }
    }

    /// Binds the address.
    ///
    /// # Errors
    /// When it is taken, or not one of this host.
    pub async fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let listener = TcpListener::bind(address).await.map_err(|source| AdminError { address, source })?;
        Ok(Self { listener })
    }

    /// Where it listens; with port 0 configured, the port that the kernel chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers until `stop` ends. `ready`: whether the process does its work. `intake`: what takes exchanges that are
    /// handed in; none: nobody.
    pub async fn run(
        self,
        metrics: Metrics,
        ready: watch::Receiver<bool>,
        intake: Option<Intake>,
        stop: impl Future<Output = ()>,
    ) {
        let mut router = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(show_ready))
            .with_state(Arc::new(Shared { metrics, ready }));
        if let Some(intake) = intake {
            let observe = Observe::new(intake, ObserveLimits::default());
            router = router.merge(Router::new().route("/observe", post(observe::take)).with_state(observe));
        }
        let (stopped, wait_stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(async {
            // Both an answer and a dropped sender mean that it is over.
            drop(wait_stopped.await);
        });
        let stop = async {
            stop.await;
            drop(stopped);
            tokio::time::sleep(STOP_MAX).await;
        };
        tokio::select! {
            served = serve => if let Err(error) = served {
                tracing::error!(%error, "The admin listener broke.");
            },
            () = stop => {}
        }
    }
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
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
