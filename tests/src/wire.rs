//! HTTP/1.1 framing as both ends of the lab need it: heads, lengths, chunks.
//!
//! Forgives nothing: what RFC 9112 calls an error is an error here. Shares no code with the daemon, so that the
//! two check each other.

use std::io::{self, Read};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Longest head that is read, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest chunk-size line and longest trailer line, in bytes.
const LINE_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 128;
const READ_BYTES: usize = 64 << 10;

/// Names and values as sent, in order.
pub type Fields = Vec<(String, String)>;

/// Reads messages from one direction of a connection.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were handed out.
    used: usize,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method token.
    pub method: String,
    /// The target as sent.
    pub target: String,
    /// 0 or 1, of HTTP/1.x.
    pub minor: u8,
    /// Header fields.
    pub fields: Fields,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// 0 or 1, of HTTP/1.x.
    pub minor: u8,
    /// Header fields.
    pub fields: Fields,
}

/// How a body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// After the last chunk and the trailers.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Length and hash of a body after transfer decoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BodyFacts {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

/// Takes the bytes of a body, in order.
trait Sink {
    fn take(&mut self, bytes: &[u8]);
}

/// Says what the bytes were, and keeps none.
#[derive(Default)]
struct BodyHasher {
    bytes: u64,
    hash: Sha256,
}

/// The first value of the field `name`, whatever its case.
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Reader ===

impl<R: Read> Reader<R> {
    /// A reader that has read nothing yet.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), used: 0 }
    }

    /// The head of the next request; nothing when the peer closed between messages.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not a head.
    pub fn request_head(&mut self) -> anyhow::Result<Option<RequestHead>> {
        self.head(|bytes| {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = httparse::Request::new(&mut headers);
            Ok(match parsed.parse(bytes).context("failed to parse a request head")? {
                httparse::Status::Partial => None,
                httparse::Status::Complete(length) => Some((
                    RequestHead {
                        method: parsed.method.unwrap_or_default().to_owned(),
                        target: parsed.path.unwrap_or_default().to_owned(),
                        minor: parsed.version.unwrap_or_default(),
                        fields: owned(parsed.headers),
                    },
                    length,
                )),
            })
        })
    }

    /// The head of the next response, interim or final; nothing when the peer closed between messages.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is not a head.
    pub fn response_head(&mut self) -> anyhow::Result<Option<ResponseHead>> {
        self.head(|bytes| {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = httparse::Response::new(&mut headers);
            Ok(match parsed.parse(bytes).context("failed to parse a response head")? {
                httparse::Status::Partial => None,
                httparse::Status::Complete(length) => Some((
                    ResponseHead {
                        status: parsed.code.unwrap_or_default(),
                        minor: parsed.version.unwrap_or_default(),
                        fields: owned(parsed.headers),
                    },
                    length,
                )),
            })
        })
    }

    /// Reads a body to its end.
    ///
    /// # Errors
    /// When the connection ends before the body does, or a chunk is malformed.
    pub fn body(&mut self, framing: Framing) -> anyhow::Result<BodyFacts> {
        let mut hasher = BodyHasher::default();
        self.body_into(framing, &mut hasher)?;
        Ok(hasher.finish())
    }

    /// As [`Reader::body`], for a body that is small and wanted.
    ///
    /// # Errors
    /// As [`Reader::body`].
    pub fn body_bytes(&mut self, framing: Framing) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body_into(framing, &mut bytes)?;
        Ok(bytes)
    }

    fn body_into(&mut self, framing: Framing, sink: &mut impl Sink) -> anyhow::Result<()> {
        match framing {
            Framing::Length(length) => self.pass(length, sink)?,
            Framing::UntilClose => {
                while !self.ready().is_empty() || self.fill()? > 0 {
                    sink.take(self.ready());
                    self.used = self.buffer.len();
                }
            }
            Framing::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(digits, 16)
                    .with_context(|| format!("failed to read the chunk size `{line}`"))?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                self.pass(size, sink)?;
                ensure!(self.line()?.is_empty(), "no CRLF after a chunk");
            },
        }
        Ok(())
    }

    /// What was read past the last message, and the source: for a connection that left HTTP.
    pub fn into_parts(self) -> (Vec<u8>, R) {
        (self.ready().to_vec(), self.source)
    }

    fn head<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> anyhow::Result<Option<(T, usize)>>,
    ) -> anyhow::Result<Option<T>> {
        loop {
            if !self.ready().is_empty()
                && let Some((head, length)) = parse(self.ready())?
            {
                self.used += length;
                return Ok(Some(head));
            }
            ensure!(self.ready().len() < HEAD_BYTES_MAX, "a head longer than {HEAD_BYTES_MAX} bytes");
            if self.fill()? == 0 {
                ensure!(self.ready().is_empty(), "the connection ended within a head");
                return Ok(None);
            }
        }
    }

    fn pass(&mut self, length: u64, sink: &mut impl Sink) -> anyhow::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.ready().is_empty() && self.fill()? == 0 {
                bail!("the connection ended {left} bytes before the body did");
            }
            let ready = self.ready();
            let step = ready.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink.take(&ready[..step]);
            self.used += step;
            left -= step as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        loop {
            let ready = self.ready();
            if let Some(end) = ready.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&ready[..end]).into_owned();
                self.used += end + 2;
                return Ok(line);
            }
            ensure!(ready.len() < LINE_BYTES_MAX, "a line longer than {LINE_BYTES_MAX} bytes");
            ensure!(self.fill()? > 0, "the connection ended within a line");
        }
    }

    fn ready(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + READ_BYTES, 0);
        let read = self.source.read(&mut self.buffer[have..]);
        self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
        read
    }
}

// === impl RequestHead ===

impl RequestHead {
    /// How the request's body ends.
    ///
    /// # Errors
    /// When the length is no number.
    pub fn framing(&self) -> anyhow::Result<Framing> {
        Ok(declared(&self.fields)?.unwrap_or(Framing::Length(0)))
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// How the body of this answer to a request with `method` ends.
    ///
    /// # Errors
    /// When the length is no number.
    pub fn framing(&self, method: &str) -> anyhow::Result<Framing> {
        let bodiless = self.status < 200 || self.status == 204 || self.status == 304 || method == "HEAD";
        if bodiless || (method == "CONNECT" && (200..300).contains(&self.status)) {
            return Ok(Framing::Length(0));
        }
        Ok(declared(&self.fields)?.unwrap_or(Framing::UntilClose))
    }
}

// === impl BodyHasher ===

impl BodyHasher {
    fn finish(self) -> BodyFacts {
        BodyFacts { bytes: self.bytes, sha256: hex(&self.hash.finalize()) }
    }
}

impl Sink for BodyHasher {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

impl Sink for Vec<u8> {
    fn take(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

// === impl BodyFacts ===

impl BodyFacts {
    /// Of a body that lies in memory.
    pub fn of(body: &[u8]) -> Self {
        let mut hasher = BodyHasher::default();
        hasher.take(body);
        hasher.finish()
    }
}

fn declared(fields: &Fields) -> anyhow::Result<Option<Framing>> {
    if field(fields, "transfer-encoding").is_some_and(|codings| codings.eq_ignore_ascii_case("chunked")) {
        return Ok(Some(Framing::Chunked));
    }
    let Some(length) = field(fields, "content-length") else { return Ok(None) };
    Ok(Some(Framing::Length(
        length.parse().with_context(|| format!("failed to read the length `{length}`"))?,
    )))
}

fn owned(headers: &[httparse::Header<'_>]) -> Fields {
    headers
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one byte at a time, so that every cut is tried.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[track_caller]
    fn check(framing: Framing, wire: &str, expected: Result<&str, &str>) {
        let got = Reader::new(Dribble(wire.as_bytes())).body(framing).map_err(|error| error.to_string());
        match expected {
            Ok(body) => assert_eq!(got.unwrap(), BodyFacts::of(body.as_bytes()), "{wire:?}"),
            Err(part) => assert!(got.as_ref().is_err_and(|error| error.contains(part)), "{wire:?}: {got:?}"),
        }
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        check(Framing::Length(3), "abcdef", Ok("abc"));
        check(Framing::Length(0), "abcdef", Ok(""));
        check(Framing::UntilClose, "abcdef", Ok("abcdef"));
        check(
            Framing::Chunked,
            "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\nrest",
            Ok("abc0123456789"),
        );
    }

    #[test]
    fn bodies_that_do_not_end_are_errors() {
        check(Framing::Length(7), "abcdef", Err("1 bytes before"));
        check(Framing::Chunked, "3\r\nabc\r\n", Err("within a line"));
        check(Framing::Chunked, "3\r\nabcd\r\n0\r\n\r\n", Err("no CRLF"));
        check(Framing::Chunked, "x\r\n", Err("chunk size"));
    }

    #[test]
    fn a_head_is_read_from_single_bytes() {
        let wire = b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\nGET /next HTTP/1.1\r\n\r\n";
        let mut reader = Reader::new(Dribble(wire));
        let head = reader.request_head().unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str(), head.minor), ("GET", "/a?b=c", 1));
        assert_eq!(field(&head.fields, "x"), Some("1"));
        assert_eq!(reader.request_head().unwrap().unwrap().target, "/next");
        assert!(reader.request_head().unwrap().is_none());
    }
}
