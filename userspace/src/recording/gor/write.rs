//! Writes a `.gor` file.
//!
//! Writes no exchange in part: one that the format cannot hold is left out and counted.

use std::io::{self, Write};

use memchr::memmem;

use super::meta::{Kind, Meta};
use super::{SEPARATOR, bodies};
use crate::model::{Exchange, Timestamp};
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
        let mut records =
            vec![(meta(Kind::Request, times.request_first, times.request_last), request_bytes(request))];
        if let Some(response) = response {
            let (first, last) = times.response.unwrap_or((times.request_last, times.request_last));
            records.push((meta(Kind::Response, first, last), response_bytes(exchange, response)));
        }
        if records.iter().any(|(_, message)| holds_separator(message)) {
            self.losses.count(Loss::NotExpressible);
            return Ok(false);
        }
        for (meta, message) in &records {
            for part in [meta.as_bytes(), message, b"\n", SEPARATOR] {
                self.out.write_all(part)?;
            }
        }
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
