//! GoReplay's file format, by its documentation and by what its versions write.
//!
//! Compresses nothing: `.gor.gz` is for `zcat`.
//!
//! A file is a list of records; behind each stands a line with three monkeys. A record begins with a line of what it
//! is (`1` a request, `2` its response, `3` a response of a replay), an id that a request shares with its responses, a
//! time in nanoseconds since 1970, and, from some version on, a duration in nanoseconds. Then comes the message as it was
//! on the wire. Nothing is escaped: a body that holds the separator cannot be written.
//!
//! The duration means three things: in files whose requests have none, the time from the request to the end of
//! the response; where requests have one, from the first byte of this message to its last. Responses of the oldest
//! files have that first meaning in the place of the time.

mod meta;
pub mod read;
pub mod write;

use crate::model::{Body, Exchange, Response};

pub use read::GorReader;
pub use write::GorWriter;

/// The line behind each record.
const SEPARATOR: &[u8] = "🐵🙈🙉\n".as_bytes();

/// Bounds of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GorLimits {
    /// Bytes of one record; a longer one is left out. Default: 32 MiB.
    pub record_bytes_max: usize,
    /// Bytes of records that wait for their other half. At the bound the oldest goes on without. Default: 64 MiB.
    pub waiting_bytes_max: usize,
    /// Records that wait for their other half. Default: 65,536.
    pub waiting_max: usize,
}

/// The bodies of an exchange.
fn bodies(exchange: &Exchange) -> impl Iterator<Item = &Body> {
    let response = exchange.response.as_ref().map(|response: &Response| &response.body);
    std::iter::once(&exchange.request.body).chain(response)
}

// === impl GorLimits ===

impl Default for GorLimits {
    fn default() -> Self {
        Self { record_bytes_max: 32 << 20, waiting_bytes_max: 64 << 20, waiting_max: 65_536 }
    }
}

#[cfg(test)]
mod tests;
