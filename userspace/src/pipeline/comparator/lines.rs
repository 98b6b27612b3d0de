//! Lines of a process, none longer than a bound.
//!
//! Keeps no more of a line than the bound.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// The beginning of a line that is longer than the bound; its rest was passed over only if asked for.
    TooLong(Vec<u8>),
    /// There is no more.
    End,
}

/// Reads one line of at most `bytes_max` bytes. The rest of a longer line is passed over when `skip` says so; else
/// reading stops there.
pub(super) async fn read_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    bytes_max: usize,
    skip: bool,
) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(match (line.is_empty(), too_long) {
                (_, true) => Line::TooLong(line),
                (true, false) => Line::End,
                (false, false) => Line::Whole(line),
            });
        }
        let end = available.iter().position(|b| *b == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = bytes_max.saturating_sub(line.len());
        too_long |= part.len() > room;
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if too_long && (!skip || end.is_some()) {
            return Ok(Line::TooLong(line));
        }
        if end.is_some() {
            return Ok(Line::Whole(line));
        }
    }
}
