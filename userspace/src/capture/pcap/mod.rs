//! A capture file as a source: pcap and pcapng, from a file, a pipe or standard input.
//!
//! Reads as a stream: holds one block at a time, and never believes a length before it has looked at it.
//!
//! A file that ends in the middle of a block was cut, which is a fact about it and no error; [`FileCounts::cut_at`] says
//! where. A block that contradicts itself is an error, because nothing says where the next one begins.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod format;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{CaptureError, FileCounts, FlowSample, Polled, Source, SourceCounts};
use crate::model::{FlowKey, Packet, Timestamp};

use format::{Format, Record};

pub use format::Damage;

/// Bounds of reading a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcapLimits {
    /// Bytes read at a time. Default 256 KiB.
    pub read_bytes: usize,
    /// Bytes of one block with a packet or a description in it; a longer one ends the reading with an error. Default
    /// 4 MiB, sixteen times the longest packet that tcpdump keeps.
    pub block_bytes_max: usize,
    /// Bytes of one block that is read over, such as one of names or secrets. Default 256 MiB.
    pub skipped_bytes_max: u64,
    /// Interfaces in one section of a pcapng file. Default 4,096.
    pub interfaces_max: usize,
}

/// Hands over the packets of one capture file, as fast as they are taken.
#[derive(Debug)]
pub struct PcapSource {
    name: String,
    file: File,
    limits: PcapLimits,
    format: Format,
    /// What was read from the file; `from..to` of it is not used yet.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Where in the file `from` is.
    offset: u64,
    /// Bytes that are read over.
    skip: u64,
    counts: FileCounts,
    captured_bytes: u64,
    /// Time of the packet before.
    before: Timestamp,
    ended: bool,
}

/// What a capture file is called when it is standard input.
const STANDARD_INPUT: &str = "standard input";

/// What the bytes at the start of other files than captures are known for.
const OTHER_FILES: [(&[u8], &str); 5] = [
    (&[0x1f, 0x8b], "it is compressed: `gzip -dc FILE |` and `--pcap -` read it"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "it is compressed: `zstd -dc FILE |` and `--pcap -` read it"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "it is compressed: `xz -dc FILE |` and `--pcap -` read it"),
    (b"BZh", "it is compressed: `bzip2 -dc FILE |` and `--pcap -` read it"),
    (b"PK\x03\x04", "it is an archive: unpack it first"),
];

/// What to do with any other file.
const CONVERT: &str =
    "`editcap FILE FILE.pcapng` converts other capture formats, and a recording is read with --recording";

// === impl PcapLimits ===

impl Default for PcapLimits {
    fn default() -> Self {
        Self {
            read_bytes: 256 << 10,
            block_bytes_max: 4 << 20,
            skipped_bytes_max: 256 << 20,
            interfaces_max: 4096,
        }
    }
}

// === impl PcapSource ===

impl PcapSource {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, or is no capture file.
    pub fn open(path: &Path, limits: PcapLimits) -> Result<Self, CaptureError> {
        if path.as_os_str() == "-" {
            use std::os::fd::AsFd as _;
            if io::stdin().is_terminal() {
                return Err(CaptureError::NothingPiped);
            }
            let name = STANDARD_INPUT.to_owned();
            let own = io::stdin().as_fd().try_clone_to_owned();
            let own = own.map_err(|source| CaptureError::ReadFile { file: name.clone(), source })?;
            return Self::new(name, own.into(), limits);
        }
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(name, file, limits),
            Err(source) => Err(CaptureError::ReadFile { file: name, source }),
        }
    }

    fn new(name: String, file: File, limits: PcapLimits) -> Result<Self, CaptureError> {
        let mut source = Self {
            name,
            file,
            limits,
            format: Format::Unknown,
            buffer: vec![0; limits.read_bytes.max(format::FILE_HEADER_BYTES)],
            from: 0,
            to: 0,
            offset: 0,
            skip: 0,
            counts: FileCounts::default(),
            captured_bytes: 0,
            before: Timestamp::default(),
            ended: false,
        };
        while source.to < format::FILE_HEADER_BYTES && source.fill()? > 0 {}
        let start = source.buffer.get(..source.to).unwrap_or_default();
        let Some((format, header_bytes)) = Format::recognise(start) else {
            return Err(source.not_a_capture());
        };
        source.format = format;
        source.advance(header_bytes);
        Ok(source)
    }

    /// What the file is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn not_a_capture(&self) -> CaptureError {
        let start = self.buffer.get(..self.to).unwrap_or_default();
        let hint =
            OTHER_FILES.iter().find(|(magic, _)| start.starts_with(magic)).map_or(CONVERT, |(_, hint)| hint);
        let first: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let first = if first.is_empty() { "nothing".to_owned() } else { first.join(" ") };
        CaptureError::NotACapture { file: self.name.clone(), first, hint }
    }

    /// Reads once; gives the number of bytes, zero at the end of the file.
    fn fill(&mut self) -> Result<usize, CaptureError> {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to = self.to.saturating_sub(self.from);
        self.from = 0;
        let room = self.buffer.get_mut(self.to..).unwrap_or_default();
        loop {
            match self.file.read(room) {
                Ok(count) => {
                    self.to = self.to.saturating_add(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(CaptureError::ReadFile { file: self.name.clone(), source }),
            }
        }
    }

    /// True when reading would not wait. A file never waits; a pipe does while its other end is silent.
    fn is_ready(&self, wait: Duration) -> Result<bool, CaptureError> {
        let mut watched = [PollFd::new(&self.file, PollFlags::IN)];
        let wait = Timespec::try_from(wait).unwrap_or_default();
        match poll(&mut watched, Some(&wait)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(CaptureError::Wait { source: error.into() }),
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.from = self.from.saturating_add(bytes).min(self.to);
        self.offset = self.offset.saturating_add(bytes as u64);
    }

    /// Reads over what is to be skipped, as far as it was read.
    fn advance_skip(&mut self) {
        let there = self.to.saturating_sub(self.from);
        let bytes = usize::try_from(self.skip).map_or(there, |skip| skip.min(there));
        self.skip = self.skip.saturating_sub(bytes as u64);
        self.advance(bytes);
    }

    /// Hands over the packets that were read whole. Gives their number, and how many bytes the next block needs.
    fn hand_over(&mut self, take: &mut dyn FnMut(&Packet<'_>)) -> Result<(usize, usize), CaptureError> {
        let mut packets: usize = 0;
        loop {
            if self.skip > 0 {
                self.advance_skip();
                if self.skip > 0 {
                    return Ok((packets, 1));
                }
            }
            let unread = self.buffer.get(self.from..self.to).unwrap_or_default();
            let record = self.format.next(unread, &self.limits);
            let bytes = match record {
                Ok(Record::Packet { packet, bytes }) => {
                    packets = packets.saturating_add(1);
                    self.counts.frames = self.counts.frames.saturating_add(1);
                    let is_back = packet.captured_at < self.before;
                    self.before = packet.captured_at;
                    self.counts.frames_back = self.counts.frames_back.saturating_add(u64::from(is_back));
                    let is_cut = (packet.wire_bytes as usize) > packet.bytes.len();
                    self.counts.frames_cut = self.counts.frames_cut.saturating_add(u64::from(is_cut));
                    self.captured_bytes = self.captured_bytes.saturating_add(packet.bytes.len() as u64);
                    take(&packet);
                    bytes
                }
                Ok(Record::Described { bytes }) => bytes,
                Ok(Record::Skip { bytes }) => {
                    self.skip = bytes;
                    0
                }
                Ok(Record::Needs { bytes }) => return Ok((packets, bytes)),
                Err(problem) => {
                    let (file, offset) = (self.name.clone(), self.offset);
                    return Err(CaptureError::DamagedFile { file, offset, problem });
                }
            };
            self.advance(bytes);
        }
    }
}

impl Source for PcapSource {
    fn poll(&mut self, wait: Duration, take: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        while !self.ended {
            let (packets, needed) = self.hand_over(take).inspect_err(|_| self.ended = true)?;
            if packets > 0 {
                return Ok(Polled::Open { packets });
            }
            if self.buffer.len() < needed {
                self.buffer.resize(needed, 0);
            }
            if !self.is_ready(wait)? {
                return Ok(Polled::Open { packets });
            }
            if self.fill().inspect_err(|_| self.ended = true)? == 0 {
                self.ended = true;
                let is_cut = self.to > self.from || self.skip > 0;
                self.counts.cut_at = is_cut.then_some(self.offset);
            }
        }
        Ok(Polled::Ended)
    }

    fn forget_flow(&mut self, _: &FlowKey) -> Result<(), CaptureError> {
        Ok(())
    }

    fn keep_flows(&mut self, _: FlowSample) -> Result<(), CaptureError> {
        Ok(())
    }

    fn close(&mut self) {
        self.ended = true;
    }

    fn counts(&mut self) -> Result<SourceCounts, CaptureError> {
        let frames = self.counts.frames;
        Ok(SourceCounts {
            seen: frames,
            wanted: frames,
            captured: frames,
            captured_bytes: self.captured_bytes,
            drops: Vec::new(),
            file: Some(self.counts),
        })
    }

    fn is_live(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
