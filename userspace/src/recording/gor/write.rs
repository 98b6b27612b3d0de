//! Writes a `.gor` file.
//!
//! Writes no exchange in part: one that the format cannot hold is left out and counted.

use std::io::{self, Write};

use memchr::memmem;

use super::meta::{Kind, Meta};
use super::{GorLimits, GorReader, SEPARATOR, bodies};
use crate::model::{Body, Exchange, Timestamp};
use crate::recording::message::{request_bytes, response_bytes};
use crate::recording::{Loss, Losses};

/// Writes exchanges one behind the other.
#[derive(Debug)]
pub struct GorWriter<W> {
    out: W,
    losses: Losses,
}

/// Nanoseconds between two times, none when they are the wrong way round.
fn between(first: Timestamp, last: Timestamp) -> u64 {
    last.0.saturating_sub(first.0)
}

/// True when a reader would see the separator in this record.
fn holds_separator(record: &[u8]) -> bool {
    let line = |at: usize| at.checked_sub(1).is_some_and(|before| record.get(before) == Some(&b'\n'));
    memmem::find_iter(record, SEPARATOR).any(line)
}

/// True when this is not whole.
fn is_part(body: &Body) -> bool {
    !body.complete || body.is_cut()
}

/// True when a reader of these records would take a part of a body for a whole one: nothing in the format says that
/// more was there but the message's own framing, and a body until the end of the connection has none.
fn seems_whole(exchange: &Exchange, records: &[u8]) -> bool {
    if !bodies(exchange).any(is_part) {
        return false;
    }
    let limits = GorLimits { record_bytes_max: records.len(), ..GorLimits::default() };
    match GorReader::begin(records, limits).next_exchange() {
        Ok(Some(back)) => {
            bodies(exchange).zip(bodies(&back)).any(|(body, back)| is_part(body) && !is_part(back))
        }
        // Nobody can read it at all then.
        Ok(None) | Err(_) => true,
    }
}

// === impl GorWriter ===

impl<W: Write> GorWriter<W> {
    /// Begins a file. It has no header.
    pub fn begin(out: W) -> Self {
        Self { out, losses: Losses::default() }
    }

    /// Writes one exchange: its request, and its response when there is one. False when the format cannot hold it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, exchange: &Exchange) -> io::Result<bool> {
        let Exchange { id, flow: _, request, response, interim, times, marks } = exchange;
        let id = id.to_string();
        let meta = |kind, first: Timestamp, last| {
            Meta { kind, id: id.as_bytes(), time_ns: first.0, duration_ns: Some(between(first, last)) }
                .to_string()
        };
        let mut messages =
            vec![(meta(Kind::Request, times.request_first, times.request_last), request_bytes(request))];
        if let Some(response) = response {
            let (first, last) = times.response.unwrap_or((times.request_last, times.request_last));
            messages.push((meta(Kind::Response, first, last), response_bytes(exchange, response)));
        }
        let parts = messages.iter().flat_map(|(meta, message)| [meta.as_bytes(), message, b"\n", SEPARATOR]);
        let parts: Vec<&[u8]> = parts.collect();
        let records = parts.concat();
        let holds_separator = messages.iter().any(|(_, message)| holds_separator(message));
        if holds_separator || seems_whole(exchange, &records) {
            self.losses.count(Loss::NotExpressible);
            return Ok(false);
        }
        self.out.write_all(&records)?;
        self.losses.count(Loss::Addresses);
        for _ in bodies(exchange).filter(|body| body.is_cut()) {
            self.losses.count(Loss::BodyCut);
        }
        if !interim.is_empty() {
            self.losses.count(Loss::Interim);
        }
        if !marks.is_empty() {
            self.losses.count(Loss::Marks);
        }
        Ok(true)
    }

    /// Ends the file, and says what it could not hold.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> io::Result<Losses> {
        self.out.flush()?;
        Ok(self.losses)
    }
}
