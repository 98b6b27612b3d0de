//! Asks an understudy that runs to pause, or to go on: by its admin listener.
//!
//! Pauses nothing here.

use std::io;
use std::time::Duration;

use serde::Deserialize;

use crate::serve::{Answer, Client};

pub use crate::serve::{AdminConfig, ClientConfig, ClientError};

/// What holds there from then on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RemoteState {
    /// Whether it stands still.
    pub paused: bool,
    /// When that ends by itself, as RFC 3339.
    pub until: Option<String>,
    /// What all pauses took so far, in seconds.
    pub paused_seconds: f64,
}

/// Why it cannot be asked, or does not obey.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It can pause nothing.
    #[error(
        "what runs at {address} cannot pause: it reads a file, only shows exchanges, or is no understudy"
    )]
    Unable {
        /// Where.
        address: String,
    },
    /// It refuses for another reason.
    #[error("understudy at {address} answered {status}: {said}")]
    Refused {
        /// Where.
        address: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
}

#[derive(Deserialize)]
struct Said {
    error: String,
}

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Asks it to stand still, for some time or until somebody says otherwise.
///
/// # Errors
/// See [`ControlError`].
pub async fn pause(listener: &ClientConfig, time: Option<Duration>) -> Result<RemoteState, ControlError> {
    let target = match time {
        None => "/pause".to_owned(),
        Some(time) => format!("/pause?for={}ms", time.as_millis()),
    };
    order(listener, &target).await
}

/// Asks it to go on.
///
/// # Errors
/// See [`ControlError`].
pub async fn resume(listener: &ClientConfig) -> Result<RemoteState, ControlError> {
    order(listener, "/resume").await
}

async fn order(listener: &ClientConfig, target: &str) -> Result<RemoteState, ControlError> {
    let client = Client::new(listener)?;
    let address = client.address().to_owned();
    let Ok(asked) = tokio::time::timeout(ANSWER_MAX, client.post(target, "application/json", &[])).await
    else {
        return Err(ClientError::Connection { address, source: io::ErrorKind::TimedOut.into() }.into());
    };
    let Answer { status, body } = asked?;
    match (status, serde_json::from_str(&body)) {
        (200, Ok(state)) => Ok(state),
        (404 | 405, _) => Err(ControlError::Unable { address }),
        (status, _) => {
            let said = serde_json::from_str(&body).map_or_else(|_| body, |Said { error }| error);
            Err(ControlError::Refused { address, status, said: said.trim().to_owned() })
        }
    }
}
