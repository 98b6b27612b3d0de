//! A plain HTTP/1.1 client: it sends exactly the bytes it is told, and knows exactly what came back.
//!
//! Adds no header, follows no redirect, retries nothing.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::pause;
use crate::wire::{BodyFacts, Fields, Framing, Reader};

/// Longest wait for a connection, and for the next bytes of an answer.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct Client {
    reader: Reader<TcpStream>,
    writer: TcpStream,
    local: SocketAddr,
}

/// What came back for one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The final status.
    pub status: u16,
    /// 0 or 1, of HTTP/1.x.
    pub minor: u8,
    /// Header fields as they arrived.
    pub fields: Fields,
    /// The body after transfer decoding and before content decoding.
    pub body: BodyFacts,
    /// Statuses of the 1xx answers before.
    pub interim: Vec<u16>,
    /// How the body ended.
    pub framing: Framing,
}

/// A request without a body, with a `Host` field and these others.
pub fn request(method: &str, target: &str, host: SocketAddr, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// One GET on a connection of its own.
///
/// # Errors
/// When there is no connection or no whole answer.
pub fn get(address: SocketAddr, target: &str) -> anyhow::Result<Answer> {
    let mut client = Client::connect(address)?;
    client.send(&request("GET", target, address, &[("Connection", "close")]))?;
    client.answer("GET")
}

/// As [`get`], with the body's text.
///
/// # Errors
/// As [`get`].
pub fn get_text(address: SocketAddr, target: &str) -> anyhow::Result<(u16, String)> {
    get_text_with(address, target, &[])
}

/// As [`get_text_with`], and again while the answer is that too many ask (RFC 6585 section 4): an admin listener takes so
/// many requests a second, and tests that wait for something ask more often.
///
/// # Errors
/// As for a request.
pub fn get_patiently(
    address: SocketAddr,
    target: &str,
    fields: &[(&str, &str)],
) -> anyhow::Result<(u16, String)> {
    const TOO_MANY: u16 = 429;
    const TOO_MANY_MAX: usize = 30;
    for _ in 0..TOO_MANY_MAX {
        let answer = get_text_with(address, target, fields)?;
        if answer.0 != TOO_MANY {
            return Ok(answer);
        }
        pause(Duration::from_millis(100));
    }
    get_text_with(address, target, fields)
}

/// As [`get_text`], with more header fields.
///
/// # Errors
/// As [`get`].
pub fn get_text_with(
    address: SocketAddr,
    target: &str,
    fields: &[(&str, &str)],
) -> anyhow::Result<(u16, String)> {
    let mut client = Client::connect(address)?;
    client.send(&request("GET", target, address, &[&[("Connection", "close")], fields].concat()))?;
    let head = client.reader.response_head()?.context("the connection ended before the answer")?;
    let body = client.reader.body_bytes(head.framing("GET")?)?;
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

// === impl Client ===

impl Client {
    /// Connects; each write becomes packets at once.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, WAIT_MAX)
            .with_context(|| format!("failed to connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        let local = stream.local_addr()?;
        Ok(Self { writer: stream.try_clone()?, reader: Reader::new(stream), local })
    }

    /// This end of the connection.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends bytes in one write.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.writer.write_all(bytes).context("failed to send")
    }

    /// Sends bytes in writes, so segments, of at most `segment_bytes`.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send_in_segments(&mut self, bytes: &[u8], segment_bytes: usize) -> anyhow::Result<()> {
        bytes.chunks(segment_bytes).try_for_each(|segment| self.send(segment))
    }

    /// Reads one interim answer and gives its status: 100 before a body that waits for it.
    ///
    /// # Errors
    /// When none comes.
    pub fn interim(&mut self) -> anyhow::Result<u16> {
        Ok(self.reader.response_head()?.context("the connection ended before an interim answer")?.status)
    }

    /// Reads the whole answer to a request with `method`.
    ///
    /// # Errors
    /// When the connection ends, or is silent for too long, before the answer is whole.
    pub fn answer(&mut self, method: &str) -> anyhow::Result<Answer> {
        let mut interim = Vec::new();
        loop {
            let head = self.reader.response_head()?.context("the connection ended before the answer")?;
            if head.status < 200 && head.status != 101 {
                interim.push(head.status);
                continue;
            }
            let framing = head.framing(method)?;
            let body = self.reader.body(framing)?;
            return Ok(Answer {
                status: head.status,
                minor: head.minor,
                fields: head.fields,
                body,
                interim,
                framing,
            });
        }
    }

    /// Reads so many bytes of a connection that left HTTP.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn raw(&mut self, bytes: u64) -> anyhow::Result<BodyFacts> {
        self.reader.body(Framing::Length(bytes))
    }
}
