//! One connection of the application: requests in, answers out, in order.
//!
//! Decides no answer; `routes` does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::clock;
use crate::wire::{Framing, Reader, RequestHead, field};

use super::Faults;
use super::log::{Log, LogLine};
use super::routes::{Answer, Content, answer, blob_block};

/// Stops a tunnel that nobody closes from filling memory: bytes are echoed in blocks of this size.
const ECHO_BYTES: usize = 16 << 10;

pub(super) struct Connection {
    reader: Reader<TcpStream>,
    writer: TcpStream,
    number: u64,
    client: String,
    server: String,
}

/// What a connection does after an answer.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    Close,
    Tunnel,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(stream: TcpStream, number: u64) -> anyhow::Result<Self> {
        let client = stream.peer_addr()?.to_string();
        let server = stream.local_addr()?.to_string();
        let writer = stream.try_clone()?;
        Ok(Self { reader: Reader::new(stream), writer, number, client, server })
    }

    pub(super) fn run(mut self, faults: Faults, log: &Log) -> anyhow::Result<()> {
        loop {
            let Some(head) = self.reader.request_head()? else { return Ok(()) };
            let leaves_http = head.method == "CONNECT" || field(&head.fields, "upgrade").is_some();
            let framing = if head.method == "CONNECT" { Framing::Length(0) } else { head.framing()? };
            if field(&head.fields, "expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"))
            {
                self.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let body = self.reader.body(framing)?;
            log.write(&LogLine {
                connection: self.number,
                client: self.client.clone(),
                server: self.server.clone(),
                method: head.method.clone(),
                target: head.target.clone(),
                version: format!("HTTP/1.{}", head.minor),
                headers: head.fields.clone(),
                body_bytes: body.bytes,
                body_sha256: body.sha256.clone(),
                replay: field(&head.fields, "understudy-replay").map(str::to_owned),
            })?;
            let answer = answer(&head, &body, faults == Faults::Planted);
            let next = match faults {
                Faults::None | Faults::Planted => self.send(&head, answer, leaves_http)?,
                Faults::Hang => self.hang()?,
                Faults::Close => Next::Close,
                Faults::Half => {
                    self.writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")?;
                    Next::Close
                }
                Faults::Garbage => {
                    self.writer.write_all(b"\x00\xff this is not HTTP\r\n\r\n")?;
                    Next::Close
                }
            };
            match next {
                Next::Request => {}
                Next::Close => return Ok(()),
                Next::Tunnel => return self.tunnel(),
            }
        }
    }

    fn send(&mut self, head: &RequestHead, answer: Answer, leaves_http: bool) -> anyhow::Result<Next> {
        let Answer { status, reason, mut fields, content, interim, delay } = answer;
        clock::pause(delay);
        let mut out = Vec::new();
        if interim {
            out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
        }
        let wants_close = head.minor == 0
            || field(&head.fields, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let ends_with_close = matches!(content, Content::UntilClose(_));
        match &content {
            Content::None => {}
            Content::Bytes(bytes) => fields.push(("Content-Length", bytes.len().to_string())),
            Content::Blob(bytes) => fields.push(("Content-Length", bytes.to_string())),
            Content::Chunks(_) => fields.push(("Transfer-Encoding", "chunked".to_owned())),
            Content::UntilClose(_) => {}
        }
        if wants_close || ends_with_close {
            fields.push(("Connection", "close".to_owned()));
        }
        fields.push(("Date", httpdate::fmt_http_date(clock::wall())));
        out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
        for (name, value) in &fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        let bodiless = head.method == "HEAD";
        match content {
            Content::Bytes(bytes) if !bodiless => out.extend_from_slice(&bytes),
            Content::Blob(bytes) | Content::UntilClose(bytes) if !bodiless => {
                self.writer.write_all(&out)?;
                out.clear();
                self.blob(bytes)?;
            }
            Content::Chunks(chunks) if !bodiless => {
                for chunk in chunks {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(&chunk);
                    out.extend_from_slice(b"\r\n");
                    // Each chunk is a write of its own, as from a server that streams.
                    self.writer.write_all(&out)?;
                    out.clear();
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            Content::None
            | Content::Bytes(_)
            | Content::Blob(_)
            | Content::UntilClose(_)
            | Content::Chunks(_) => {}
        }
        self.writer.write_all(&out)?;
        let accepted = status == 101 || (head.method == "CONNECT" && status == 200);
        Ok(match (leaves_http && accepted, wants_close || ends_with_close) {
            (true, _) => Next::Tunnel,
            (false, true) => Next::Close,
            (false, false) => Next::Request,
        })
    }

    fn blob(&mut self, bytes: u64) -> anyhow::Result<()> {
        let mut left = bytes;
        let mut number = 0;
        while left > 0 {
            let block = blob_block(number);
            let step = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.writer.write_all(&block[..step])?;
            left -= step as u64;
            number += 1;
        }
        Ok(())
    }

    /// Reads until the client gives up.
    fn hang(&mut self) -> anyhow::Result<Next> {
        self.reader.body(Framing::UntilClose)?;
        Ok(Next::Close)
    }

    fn tunnel(self) -> anyhow::Result<()> {
        let Self { reader, mut writer, number: _, client: _, server: _ } = self;
        let (early, mut stream) = reader.into_parts();
        writer.write_all(&early)?;
        let mut block = vec![0; ECHO_BYTES];
        loop {
            let read = stream.read(&mut block)?;
            if read == 0 {
                return Ok(());
            }
            writer.write_all(&block[..read])?;
        }
    }
}
