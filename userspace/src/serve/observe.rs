//! `POST /observe`: exchanges that are handed in, as JSON lines.
//!
//! Knows no exchange: what reads them is given to it. Reads no more than its bounds.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use http_body_util::LengthLimitError;
use tokio::sync::Semaphore;

use super::auth::{say, too_large};

/// Reads what is handed in, and passes it on: the number of exchanges.
pub type Intake = Arc<dyn Fn(Bytes) -> Taking + Send + Sync>;

/// What comes of it.
pub type Taking = Pin<Box<dyn Future<Output = Result<usize, Refusal>> + Send>>;

/// Why nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A line is no exchange.
    Wrong {
        /// The line, from 1.
        line: usize,
        /// The field with those that hold it; empty for the line as a whole.
        field: &'static str,
        /// What cannot be.
        problem: String,
    },
    /// Nothing is captured any more.
    Over,
    /// Nothing is captured and replayed for some time.
    Paused,
}

/// Bounds of what is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObserveLimits {
    /// Bytes of one request's body. Default: 16 MiB.
    pub body_bytes_max: usize,
    /// Requests that are read side by side; more are sent away. Default: 4.
    pub requests_max: usize,
    /// Time for one body to come. Default: 10 s.
    pub body_wait_max: Duration,
}

/// What takes requests.
#[derive(Clone)]
pub(super) struct Observe {
    intake: Intake,
    limits: ObserveLimits,
    room: Arc<Semaphore>,
}

/// Where exchanges are handed in.
pub(super) const PATH: &str = "/observe";

/// Why a body was not read.
enum Unread {
    TooLarge,
    Broken,
}

// === impl ObserveLimits ===

impl Default for ObserveLimits {
    fn default() -> Self {
        Self { body_bytes_max: 16 << 20, requests_max: 4, body_wait_max: Duration::from_secs(10) }
    }
}

// === impl Observe ===

impl Observe {
    pub(super) fn new(intake: Intake, limits: ObserveLimits) -> Self {
        Self { intake, limits, room: Arc::new(Semaphore::new(limits.requests_max)) }
    }

    /// The body, within the bound.
    async fn read(&self, body: Body) -> Result<Bytes, Unread> {
        let (mut chunks, mut whole) = (body.into_data_stream(), Vec::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| match error.into_inner().is::<LengthLimitError>() {
                true => Unread::TooLarge,
                false => Unread::Broken,
            })?;
            if whole.len().saturating_add(chunk.len()) > self.limits.body_bytes_max {
                return Err(Unread::TooLarge);
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }
}

pub(super) async fn take(State(observe): State<Observe>, body: Body) -> Response {
    let Ok(_place) = observe.room.try_acquire() else {
        let refused = say(StatusCode::TOO_MANY_REQUESTS, "too many requests at once; try again");
        return ([(header::RETRY_AFTER, "1")], refused).into_response();
    };
    let ObserveLimits { body_bytes_max, requests_max: _, body_wait_max } = observe.limits;
    let lines = match tokio::time::timeout(body_wait_max, observe.read(body)).await {
        Ok(Ok(lines)) => lines,
        Ok(Err(Unread::TooLarge)) => return too_large(body_bytes_max),
        Ok(Err(Unread::Broken)) => return say(StatusCode::BAD_REQUEST, "the body did not come whole"),
        Err(_elapsed) => return say(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    match (observe.intake)(lines).await {
        Ok(exchanges) => answer(StatusCode::ACCEPTED, &serde_json::json!({ "exchanges": exchanges })),
        Err(Refusal::Wrong { line, field, problem }) => answer(
            StatusCode::BAD_REQUEST,
            &serde_json::json!({ "error": problem, "line": line, "field": field }),
        ),
        Err(Refusal::Paused) => say(StatusCode::SERVICE_UNAVAILABLE, "understudy is paused"),
        Err(Refusal::Over) => say(StatusCode::SERVICE_UNAVAILABLE, "nothing is captured any more"),
    }
}

fn answer(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
