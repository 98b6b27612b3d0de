//! Reads the chunked transfer coding (RFC 9112 section 7.1) byte by byte.
//!
//! Keeps no byte of it but the trailer section; chunk extensions are passed over.

use memchr::memchr_iter;

use crate::model::Headers;

use super::head;

/// A body in chunked coding that is being read.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of the size line so far.
    line_bytes: usize,
    trailer: Vec<u8>,
    /// Something was seen that readers understand in different ways.
    ambiguous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    /// White space behind the size.
    Padding {
        value: u64,
    },
    Extension {
        value: u64,
    },
    SizeLf {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailer,
    Ended,
}

/// The next thing in the coding.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkedStep<'a> {
    /// Bytes of the body.
    Data(&'a [u8]),
    /// The last chunk and the trailer section were read.
    End(Headers),
    /// This is not the chunked coding.
    Invalid,
}

/// Fields that must not stand in a trailer section, because they frame, route, modify or authenticate a message or say
/// what it holds (RFC 9110 section 6.5.1): a reader that merges them reads another message. In lower case.
const NO_TRAILERS: [&str; 28] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authorization",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];

fn is_no_trailer(name: &[u8]) -> bool {
    NO_TRAILERS.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

// === impl Chunked ===

impl Chunked {
    /// Before the first chunk.
    pub(super) fn new() -> Self {
        Self {
            state: State::Size { value: 0, digits: 0 },
            line_bytes: 0,
            trailer: Vec::new(),
            ambiguous: false,
        }
    }

    /// True when something was seen that readers understand in different ways.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Bytes of a trailer section that has come in part.
    pub(super) fn held_bytes(&self) -> usize {
        self.trailer.len()
    }

    /// Passes over `bytes` that are missing. True when the rest can still be read, because they are inside one
    /// chunk's data.
    pub(super) fn skip(&mut self, bytes: u64) -> bool {
        match self.state {
            State::Data { left } if left > bytes => {
                self.state = State::Data { left: left.saturating_sub(bytes) };
                true
            }
            State::Data { left } if left == bytes => {
                self.state = State::DataCr;
                true
            }
            State::Data { left: _ }
            | State::Size { value: _, digits: _ }
            | State::Padding { value: _ }
            | State::Extension { value: _ }
            | State::SizeLf { value: _ }
            | State::DataCr
            | State::DataLf
            | State::Trailer
            | State::Ended => false,
        }
    }

    /// Takes what it can off the front of `input`. `None` when it needs more. `line_max` bounds a size line with
    /// its extensions, and the trailer section; `room` is how many bytes more of that section can be kept.
    pub(super) fn step<'a>(
        &mut self,
        input: &mut &'a [u8],
        line_max: usize,
        room: usize,
    ) -> Option<ChunkedStep<'a>> {
        loop {
            match self.state {
                State::Data { left } => {
                    if input.is_empty() {
                        return None;
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at_checked(take)?;
                    *input = rest;
                    let left = left.saturating_sub(take as u64);
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Some(ChunkedStep::Data(data));
                }
                State::Trailer => return self.trailer(input, line_max, room),
                State::Ended => return None,
                State::Size { value: _, digits: _ }
                | State::Padding { value: _ }
                | State::Extension { value: _ }
                | State::SizeLf { value: _ }
                | State::DataCr
                | State::DataLf => {
                    let (byte, rest) = input.split_first()?;
                    *input = rest;
                    if !self.byte(*byte, line_max) {
                        self.state = State::Ended;
                        return Some(ChunkedStep::Invalid);
                    }
                }
            }
        }
    }

    /// One byte of the coding outside data. False when it must not be there.
    fn byte(&mut self, byte: u8, line_max: usize) -> bool {
        self.line_bytes = self.line_bytes.saturating_add(1);
        if self.line_bytes > line_max {
            return false;
        }
        self.state = match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if value.leading_zeros() < 4 {
                    return false;
                }
                // 16 digits hold 64 bits. Leading zeros beyond that are of the grammar, and some readers stop there.
                self.ambiguous |= digits >= 16;
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let value = (value << 4) | u64::from(digit);
                State::Size { value, digits: digits.saturating_add(1) }
            }
            // RFC 9112 has no space here; some readers pass over it.
            (State::Size { value: _, digits: 0 }, b' ' | b'\t') => {
                self.ambiguous = true;
                self.state
            }
            (State::Size { value: _, digits: 0 }, _) => return false,
            (State::Size { value, digits: _ } | State::Extension { value }, b'\r') => State::SizeLf { value },
            (
                State::Size { value, digits: _ } | State::Padding { value } | State::Extension { value },
                b'\n',
            ) => {
                self.ambiguous = true;
                self.after_size(value)
            }
            (State::Size { value, digits: _ } | State::Padding { value }, b';') => State::Extension { value },
            // White space belongs before an extension only; some servers pad the size with it, some readers refuse it.
            (State::Size { value, digits: _ } | State::Padding { value }, b' ' | b'\t') => {
                State::Padding { value }
            }
            (State::Padding { value }, b'\r') => {
                self.ambiguous = true;
                State::SizeLf { value }
            }
            (State::Padding { value }, _) => {
                self.ambiguous = true;
                State::Extension { value }
            }
            (State::Size { value: _, digits: _ }, _) => return false,
            (State::Extension { value }, _) => {
                // No octet of the grammar; readers differ in where such a line ends.
                self.ambiguous |= byte.is_ascii_control() && byte != b'\t';
                State::Extension { value }
            }
            (State::SizeLf { value }, b'\n') => self.after_size(value),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataCr, b'\n') => {
                self.ambiguous = true;
                self.next_size()
            }
            (State::DataLf, b'\n') => self.next_size(),
            (State::SizeLf { value: _ } | State::DataCr | State::DataLf, _) => return false,
            (State::Data { left: _ } | State::Trailer | State::Ended, _) => return false,
        };
        true
    }

    fn after_size(&mut self, value: u64) -> State {
        if value == 0 { State::Trailer } else { State::Data { left: value } }
    }

    fn next_size(&mut self) -> State {
        self.line_bytes = 0;
        State::Size { value: 0, digits: 0 }
    }

    /// Fields up to an empty line; most often only that line.
    fn trailer<'a>(
        &mut self,
        input: &mut &'a [u8],
        bytes_max: usize,
        room: usize,
    ) -> Option<ChunkedStep<'a>> {
        if input.is_empty() {
            return None;
        }
        // The end of the last chunk's line counts as the line before an empty one.
        let before: &[u8] = if self.trailer.is_empty() { b"\r\n" } else { &self.trailer };
        let end = head::end(before, input);
        let too_long = self.trailer.len().saturating_add(end.unwrap_or(input.len())) > bytes_max;
        if too_long || (end.is_none() && input.len() > room) {
            self.trailer = Vec::new();
            self.state = State::Ended;
            return Some(ChunkedStep::Invalid);
        }
        let end = match end {
            Some(end) => end,
            None => {
                // A lone CR would hide the line before it from the next look.
                if self.trailer.is_empty() {
                    self.trailer.extend_from_slice(b"\r\n");
                }
                self.trailer.extend_from_slice(input);
                *input = &[];
                return None;
            }
        };
        let (last, rest) = input.split_at_checked(end)?;
        *input = rest;
        self.trailer.extend_from_slice(last);
        self.state = State::Ended;
        let section = std::mem::take(&mut self.trailer);
        let fields = section.strip_prefix(b"\r\n").unwrap_or(&section);
        if fields.is_empty() {
            return Some(ChunkedStep::End(Headers::default()));
        }
        // To a reader that ends lines with CRLF only, the section goes on behind a bare LF.
        self.ambiguous |= memchr_iter(b'\n', fields)
            .any(|at| at.checked_sub(1).and_then(|before| fields.get(before)) != Some(&b'\r'));
        Some(match head::trailers(fields) {
            Some(trailers) => {
                self.ambiguous |= trailers.iter().any(|(name, _)| is_no_trailer(name));
                ChunkedStep::End(trailers)
            }
            None => ChunkedStep::Invalid,
        })
    }
}

#[cfg(test)]
mod tests;
