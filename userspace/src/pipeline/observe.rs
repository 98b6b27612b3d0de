//! Hands exchanges to an understudy that runs: JSON lines to `/observe` of its admin listener.
//!
//! Reads no exchange itself: what is wrong with one is said by whoever takes it.

use std::io::{self, BufRead, Read as _};
use std::time::Duration;

use serde::Deserialize;

use crate::recording::handed::HandedLimits;
use crate::serve::{Answer, Client};

pub use crate::serve::{ClientConfig, ClientError};

/// Why exchanges are not handed in.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The listener cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The lines cannot be read.
    #[error("failed to read exchanges")]
    Read(#[source] io::Error),
    /// It takes none.
    #[error(
        "understudy at {address} takes no exchanges: set `observe = true` under [admin] in its configuration"
    )]
    Off {
        /// Where.
        address: String,
    },
    /// It wants to know who asks.
    #[error(
        "understudy at {address} wants another token, or a client certificate: name them with --token, --cert and --key"
    )]
    Identity {
        /// Where.
        address: String,
    },
    /// One line is no exchange, and nothing of its part was taken.
    #[error("line {line}: {}{problem}; {taken} exchanges before it were taken", shown(field))]
    Wrong {
        /// The line, from 1.
        line: u64,
        /// The field with those that hold it; empty for the line as a whole.
        field: String,
        /// What cannot be.
        problem: String,
        /// Exchanges that were handed in before.
        taken: u64,
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

/// What the listener says.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    exchanges: u64,
    #[serde(default)]
    error: String,
    #[serde(default)]
    line: Option<u64>,
    #[serde(default)]
    field: String,
}

/// A part that is sent at once.
#[derive(Default)]
struct Part {
    text: Vec<u8>,
    lines: u64,
    exchanges: usize,
}

/// Bytes of a part; a longer line is one of its own.
const PART_BYTES: usize = 4 << 20;

/// How often a busy listener is asked again, and after which time.
const ATTEMPTS_MAX: usize = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

fn shown(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("`{field}` ") }
}

/// Hands in all lines, and says how many exchanges were taken.
///
/// # Errors
/// The first that is met. What was handed in before stays so.
pub async fn hand_in(listener: &ClientConfig, lines: &mut impl BufRead) -> Result<u64, ObserveError> {
    let client = Client::new(listener)?;
    let (mut taken, mut before) = (0_u64, 0_u64);
    loop {
        let part = Part::read(lines).map_err(ObserveError::Read)?;
        if part.lines == 0 {
            return Ok(taken);
        }
        if part.exchanges > 0 {
            taken = taken.saturating_add(send(&client, &part, before, taken).await?);
        }
        before = before.saturating_add(part.lines);
    }
}

// === impl Part ===

impl Part {
    /// The next lines, as many as go together.
    fn read(lines: &mut impl BufRead) -> io::Result<Self> {
        let HandedLimits { exchanges_max, line_bytes_max } = HandedLimits::default();
        let line_max = u64::try_from(line_bytes_max).unwrap_or(u64::MAX).saturating_add(2);
        let mut part = Self::default();
        while part.exchanges < exchanges_max && part.text.len() < PART_BYTES {
            let start = part.text.len();
            let read = lines.by_ref().take(line_max).read_until(b'\n', &mut part.text)?;
            if read == 0 {
                break;
            }
            part.lines = part.lines.saturating_add(1);
            let is_empty = part.text.get(start..).is_none_or(|line| line.trim_ascii().is_empty());
            part.exchanges = part.exchanges.saturating_add(usize::from(!is_empty));
        }
        Ok(part)
    }
}

/// Sends one part, behind `before` lines, until it is taken or refused.
async fn send(client: &Client, part: &Part, before: u64, taken: u64) -> Result<u64, ObserveError> {
    let mut attempts = 0;
    loop {
        let Answer { status, body } = client.post("/observe", "application/x-ndjson", &part.text).await?;
        let said: Said = serde_json::from_str(&body).unwrap_or_default();
        let address = client.address().to_owned();
        attempts += 1;
        return match (status, said) {
            (202, Said { exchanges, .. }) => Ok(exchanges),
            (429, _) if attempts < ATTEMPTS_MAX => {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            (404, _) => Err(ObserveError::Off { address }),
            (401, _) => Err(ObserveError::Identity { address }),
            (_, Said { exchanges: _, error: problem, line: Some(line), field }) => {
                Err(ObserveError::Wrong { line: before.saturating_add(line), field, problem, taken })
            }
            (status, Said { exchanges: _, error: said, line: None, field: _ }) => {
                Err(ObserveError::Refused { address, status, said })
            }
        };
    }
}
