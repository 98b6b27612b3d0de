//! `POST /pause`, `POST /resume`, `GET /state`: what an operator can ask of a process that runs.
//!
//! Pauses nothing itself: what does is given to it. Reads no body, and leaves it to the gate who may ask: nothing is taken from
//! a browser (`auth`).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::auth::say;
use crate::model::Timestamp;

/// Obeys, and says what holds from then on.
pub type Control = Arc<dyn Fn(Order) -> ControlState + Send + Sync>;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Only say what holds.
    Look,
    /// Capture and replay nothing from now on.
    Pause {
        /// For how long; none: until somebody says otherwise.
        time: Option<Duration>,
    },
    /// Capture and replay again. Ends a pause of the time table as well; the next one comes all the same.
    Resume,
}

/// What holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlState {
    /// Why nothing is captured and replayed; none when it is.
    pub paused_by: Option<PausedBy>,
    /// When that ends by itself, where that is known.
    pub until: Option<Timestamp>,
    /// What all pauses took so far.
    pub paused: Duration,
}

/// Who paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBy {
    /// An operator.
    Order,
    /// The time table in the configuration.
    TimeTable,
}

/// The name of the parameter that says for how long.
const TIME: &str = "for";

// === impl PausedBy ===

impl PausedBy {
    /// As a word that programs may rely on.
    pub fn label(self) -> &'static str {
        match self {
            PausedBy::Order => "order",
            PausedBy::TimeTable => "time_table",
        }
    }
}

/// The routes.
pub(super) fn routes(control: Control) -> Router {
    Router::new()
        .route("/state", get(show))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .with_state(control)
}

async fn show(State(control): State<Control>) -> Response {
    answer(control(Order::Look))
}

async fn pause(State(control): State<Control>, RawQuery(query): RawQuery) -> Response {
    match time(query.as_deref().unwrap_or_default()) {
        Ok(time) => answer(control(Order::Pause { time })),
        Err(problem) => say(StatusCode::BAD_REQUEST, &problem),
    }
}

async fn resume(State(control): State<Control>) -> Response {
    answer(control(Order::Resume))
}

/// The time in `for=2h`, or none where nothing is said. A parameter that nobody knows is refused: a pause that was to
/// end by itself must not become one that does not.
fn time(query: &str) -> Result<Option<Duration>, String> {
    if query.is_empty() {
        return Ok(None);
    }
    // Durations have no characters that would need encoding.
    let Some((TIME, time)) = query.split_once('=') else {
        return Err(format!("the only parameter is `{TIME}`, such as /pause?{TIME}=2h"));
    };
    match humantime::parse_duration(time) {
        Ok(time) if !time.is_zero() => Ok(Some(time)),
        Ok(_) => Err(format!("`{TIME}` must be above zero")),
        Err(error) => Err(format!("`{TIME}` must be a time such as `90s` or `2h`: {error}")),
    }
}

fn answer(state: ControlState) -> Response {
    let ControlState { paused_by, until, paused } = state;
    let until = until.map(|until| humantime::format_rfc3339_seconds(until.to_system_time()).to_string());
    let state = serde_json::json!({
        "paused": paused_by.is_some(),
        "paused_by": paused_by.map(PausedBy::label),
        "until": until,
        "paused_seconds": paused.as_secs_f64(),
    });
    ([(header::CONTENT_TYPE, "application/json")], format!("{state}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<Option<u64>, &str>) {
        match (time(query), expected) {
            (Ok(time), Ok(seconds)) => assert_eq!(time, seconds.map(Duration::from_secs), "{query}"),
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{query}: {problem}"),
            (got, expected) => panic!("{query}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_pause_has_the_time_that_was_asked_for_or_none() {
        check("", Ok(None));
        check("for=2h", Ok(Some(7_200)));
        check("for=1h30m", Ok(Some(5_400)));
        check("for=0s", Err("above zero"));
        check("for=", Err("must be a time"));
        check("for=soon", Err("must be a time"));
        check("time=2h", Err("only parameter"));
        check("for=2h&for=3h", Err("must be a time"));
    }
}
