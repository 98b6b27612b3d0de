//! Hands exchanges to an understudy that runs: JSON lines to `/observe` of its admin listener.
//!
//! Reads no exchange itself: what is wrong with one is said by whoever takes it.

use std::io::{self, BufRead, Read as _};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::recording::handed::HandedLimits;

/// Why exchanges are not handed in.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The address cannot be one.
    #[error("`{url}` must be the address of an admin listener, such as http://127.0.0.1:9469")]
    Url {
        /// What was given.
        url: String,
    },
    /// The lines cannot be read.
    #[error("failed to read exchanges")]
    Read(#[source] io::Error),
    /// Nobody answers.
    #[error("failed to hand exchanges to understudy at {address}; does it run there with an admin listener?")]
    Connection {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It takes none.
    #[error(
        "understudy at {address} takes no exchanges: set `observe = true` under [admin] in its configuration"
    )]
    Off {
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

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How often a busy listener is asked again, and after which time.
const ATTEMPTS_MAX: usize = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

fn shown(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("`{field}` ") }
}

/// Hands in all lines, and says how many exchanges were taken. `url`: the admin listener, such as
/// `http://127.0.0.1:9469`.
///
/// # Errors
/// The first that is met. What was handed in before stays so.
pub async fn hand_in(url: &str, lines: &mut impl BufRead) -> Result<u64, ObserveError> {
    let address = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let Some(address) = address.filter(|address| address.contains(':') && !address.contains('/')) else {
        return Err(ObserveError::Url { url: url.to_owned() });
    };
    let (mut taken, mut before) = (0_u64, 0_u64);
    loop {
        let part = Part::read(lines).map_err(ObserveError::Read)?;
        if part.lines == 0 {
            return Ok(taken);
        }
        if part.exchanges > 0 {
            taken = taken.saturating_add(send(address, &part, before, taken).await?);
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
async fn send(address: &str, part: &Part, before: u64, taken: u64) -> Result<u64, ObserveError> {
    let mut attempts = 0;
    loop {
        let answer = post(address, &part.text).await;
        let (status, said) =
            answer.map_err(|source| ObserveError::Connection { address: address.to_owned(), source })?;
        attempts += 1;
        return match (status, said) {
            (202, Said { exchanges, .. }) => Ok(exchanges),
            (429, _) if attempts < ATTEMPTS_MAX => {
                tokio::time::sleep(BUSY_PAUSE).await;
                continue;
            }
            (404, _) => Err(ObserveError::Off { address: address.to_owned() }),
            (_, Said { exchanges: _, error: problem, line: Some(line), field }) => {
                Err(ObserveError::Wrong { line: before.saturating_add(line), field, problem, taken })
            }
            (status, Said { exchanges: _, error: said, line: None, field: _ }) => {
                Err(ObserveError::Refused { address: address.to_owned(), status, said })
            }
        };
    }
}

/// One request on a connection of its own (RFC 9112).
async fn post(address: &str, body: &[u8]) -> io::Result<(u16, Said)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /observe HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    // Who refuses a body need not read all of it; what it says counts then.
    let written = stream.write_all(body).await;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let Some(status) = status else {
        written.and(read)?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP"));
    };
    let said = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(said).unwrap_or_default()))
}
