//! The log: pushing at its end, reading at its beginning.
//!
//! Decides nothing about frames. After any error it is usable.

use std::collections::VecDeque;
use std::fs::File;

use super::disk::{Folder, Place, Reader, SEGMENT_HEADER_BYTES};
use super::frame::{FRAME_BYTES_MIN, FrameHeader, HEADER_BYTES};
use super::{Frame, Recovered, SpoolConfig, SpoolCounts, SpoolError};

/// A bounded log on disk; see the module.
#[derive(Debug)]
pub struct Spool {
    config: SpoolConfig,
    folder: Folder,
    /// Oldest first. The last one is being written when `active` is there. Those before the head's are done with.
    segments: VecDeque<Segment>,
    active: Option<File>,
    /// Number of the next frame.
    next: u64,
    head: Place,
    /// Where the head is after each frame of the last batch.
    peeked: VecDeque<Place>,
    reader: Reader,
    scratch: Vec<u8>,
    damaged_frames: u64,
    damaged_bytes: u64,
}

/// A file of frames whose numbers are `first..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    first: u64,
    end: u64,
    bytes: u64,
}

/// What lies at a place.
enum Found {
    Frame(Frame, Place),
    /// A frame whose length is known, and no more.
    Damaged(Place),
    /// Nothing that can be relied upon, up to the end of the segment.
    Broken,
}

/// Room in bytes that is kept from one frame to the next.
const ROOM_KEPT: usize = 1 << 20;

// === impl Segment ===

impl Segment {
    fn start(&self) -> Place {
        Place { segment: self.first, offset: SEGMENT_HEADER_BYTES, number: self.first }
    }

    /// The place that was kept, if it can be one of this segment; else its start.
    fn within(&self, kept: Option<Place>) -> Place {
        let fits = |kept: &Place| {
            kept.segment == self.first
                && (self.first..=self.end).contains(&kept.number)
                && (SEGMENT_HEADER_BYTES..=self.bytes).contains(&kept.offset)
        };
        kept.filter(fits).unwrap_or(self.start())
    }
}

// === impl Spool ===

impl Spool {
    /// Opens the folder, and finds what an earlier process left.
    ///
    /// # Errors
    /// When the folder cannot be used: it cannot be made, others may write into it, another process has it, or a later
    /// program wrote it.
    pub fn open(config: SpoolConfig) -> Result<(Self, Recovered), SpoolError> {
        let folder = Folder::open(&config.path)?;
        let kept = folder.position();
        let mut spool = Self {
            segments: VecDeque::new(),
            active: None,
            next: kept.map_or(0, |place| place.number.min(u64::MAX / 2)),
            head: Place::default(),
            peeked: VecDeque::new(),
            reader: Reader::default(),
            scratch: Vec::new(),
            damaged_frames: 0,
            damaged_bytes: 0,
            config,
            folder,
        };
        let torn_bytes = spool.find_segments(kept)?;
        let Self { config: _, folder, segments, head, .. } = &mut spool;
        // What lies before the position is done with, and was to be removed.
        let done = |segment: &Segment| kept.is_some_and(|kept| segment.first < kept.segment);
        while let Some(segment) = segments.front().filter(|segment| done(segment)) {
            folder.remove(segment.first)?;
            segments.pop_front();
        }
        *head = segments.front().map_or(Place::default(), |segment| segment.within(kept));
        let SpoolCounts { frames, bytes, damaged_frames: _, damaged_bytes: _ } = spool.counts();
        Ok((spool, Recovered { frames, bytes, torn_bytes }))
    }

    /// Lists the segments, and says how many bytes at the end are no whole frame.
    fn find_segments(&mut self, kept: Option<Place>) -> Result<u64, SpoolError> {
        let files = self.folder.segments()?;
        let mut torn_bytes = 0;
        for (index, (first, bytes)) in files.iter().copied().enumerate() {
            // No more frames than fit, whatever the names say.
            let fit = bytes.saturating_sub(SEGMENT_HEADER_BYTES).div_ceil(FRAME_BYTES_MIN);
            let most = first.saturating_add(fit);
            let mut segment = Segment { first, end: most, bytes };
            match files.get(index.saturating_add(1)) {
                Some((next, _)) => segment.end = most.min(*next),
                None => torn_bytes = self.find_end(&mut segment, kept)?,
            }
            if segment.end == segment.first {
                // It holds nothing, and its name is in the way of a new one.
                self.folder.remove(first)?;
                continue;
            }
            self.next = self.next.max(segment.end);
            self.segments.push_back(segment);
        }
        self.reader.close();
        Ok(torn_bytes)
    }

    /// Counts the frames of the last segment, which no other follows.
    fn find_end(&mut self, segment: &mut Segment, kept: Option<Place>) -> Result<u64, SpoolError> {
        let mut at = segment.within(kept);
        while at.offset < segment.bytes {
            match self.find(segment, at)? {
                Found::Frame(_, behind) | Found::Damaged(behind) => at = behind,
                Found::Broken => break,
            }
        }
        let torn_bytes = segment.bytes.saturating_sub(at.offset);
        // What was being written is a frame too, which is lost.
        let lost = u64::from(torn_bytes > 0);
        segment.end = at.number.max(segment.first).saturating_add(lost);
        Ok(torn_bytes)
    }

    /// Keeps a frame. When this returns, it outlives the process.
    ///
    /// # Errors
    /// When it is too large, there is no room for it, or the disk does not take it. Nothing of it is kept then, and the
    /// next push tries anew.
    pub fn push(&mut self, frame: &Frame) -> Result<(), SpoolError> {
        self.scratch.clear();
        let (bytes, limit) = (frame.disk_bytes(), self.config.frame_bytes_max);
        let mut scratch = std::mem::take(&mut self.scratch);
        let pushed = if bytes <= limit && frame.write(self.next, &mut scratch) {
            self.push_bytes(&scratch)
        } else {
            Err(SpoolError::TooLarge { bytes, limit })
        };
        scratch.clear();
        scratch.shrink_to(ROOM_KEPT);
        self.scratch = scratch;
        pushed
    }

    fn push_bytes(&mut self, frame: &[u8]) -> Result<(), SpoolError> {
        let frame_bytes = frame.len() as u64;
        self.make_room(frame_bytes)?;
        let segment_bytes = self.segment_bytes();
        let is_done = |segment: &Segment| {
            segment.end > segment.first && segment.bytes.saturating_add(frame_bytes) > segment_bytes
        };
        if self.segments.back().is_none_or(is_done) {
            self.active = None;
        }
        let Self { folder, segments, active, next, head, .. } = self;
        let file = match active {
            Some(file) => file,
            None => {
                let file = folder.create(*next).inspect_err(|error| {
                    // Something else has the name; the next one is free.
                    let taken = matches!(error, SpoolError::Write { path: _, source }
                        if source.kind() == std::io::ErrorKind::AlreadyExists);
                    *next = next.saturating_add(u64::from(taken));
                })?;
                let segment = Segment { first: *next, end: *next, bytes: SEGMENT_HEADER_BYTES };
                if segments.is_empty() {
                    *head = segment.start();
                }
                segments.push_back(segment);
                active.insert(file)
            }
        };
        let Some(segment) = segments.back_mut() else { return Ok(()) };
        folder.append(file, segment.first, frame, segment.bytes)?;
        segment.bytes = segment.bytes.saturating_add(frame_bytes);
        *next = next.saturating_add(1);
        segment.end = *next;
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes.min(self.config.bytes_max / 4)
    }

    /// Checks the bound. A spool without frames has no bytes to spare.
    fn make_room(&mut self, frame_bytes: u64) -> Result<(), SpoolError> {
        let limit = self.config.bytes_max;
        let wanted = frame_bytes.saturating_add(SEGMENT_HEADER_BYTES);
        if self.bytes().saturating_add(wanted) > limit && self.frames() == 0 {
            self.clear()?;
        }
        let bytes = self.bytes();
        if bytes.saturating_add(wanted) > limit {
            return Err(SpoolError::Full { bytes, limit });
        }
        let limit = self.config.free_bytes_min;
        match self.folder.free_bytes() {
            Some(free) if free < limit.saturating_add(wanted) => Err(SpoolError::Scarce { free, limit }),
            // A disk that does not say what it has is filled up to `bytes_max`.
            Some(_) | None => Ok(()),
        }
    }

    /// The oldest frames that are not committed, behind what `frames` holds: at least one where there is one, and no more
    /// than `bytes_max` bytes on disk otherwise. They come again until they are committed. Frames that cannot be read are
    /// passed over and counted, once all before them are committed.
    ///
    /// # Errors
    /// When the disk does not give them back; the batch is then what was read before.
    pub fn peek_batch(&mut self, frames: &mut Vec<Frame>, bytes_max: usize) -> Result<(), SpoolError> {
        self.peeked.clear();
        self.reader.shrink();
        let mut left = bytes_max as u64;
        let mut at = self.head;
        let mut index = 0usize;
        while let Some(segment) = self.segments.get(index).copied() {
            if segment.first > at.segment {
                at = segment.start();
            }
            if segment.first < at.segment || at.number >= segment.end {
                index = index.saturating_add(1);
                continue;
            }
            match self.find(&segment, at)? {
                Found::Frame(frame, behind) => {
                    let bytes = behind.offset.saturating_sub(at.offset);
                    if !self.peeked.is_empty() && bytes > left {
                        break;
                    }
                    left = left.saturating_sub(bytes);
                    frames.push(frame);
                    self.peeked.push_back(behind);
                    at = behind;
                }
                // What comes before has to be committed first, so that each loss is counted once.
                Found::Damaged(_) | Found::Broken if !self.peeked.is_empty() => break,
                Found::Damaged(behind) => at = self.pass_over(at, behind),
                Found::Broken => {
                    let behind = Place { offset: segment.bytes, number: segment.end, ..at };
                    at = self.pass_over(at, behind);
                }
            }
        }
        Ok(())
    }

    /// Counts what lies between as lost.
    fn pass_over(&mut self, from: Place, behind: Place) -> Place {
        let frames = behind.number.saturating_sub(from.number);
        self.damaged_frames = self.damaged_frames.saturating_add(frames);
        self.damaged_bytes = self.damaged_bytes.saturating_add(behind.offset.saturating_sub(from.offset));
        self.head = behind;
        behind
    }

    /// What lies at a place before the end of a segment.
    fn find(&mut self, segment: &Segment, at: Place) -> Result<Found, SpoolError> {
        let Self { config, folder, reader, .. } = self;
        let Some(header) = reader.bytes(folder, segment.first, segment.bytes, at.offset, HEADER_BYTES)?
        else {
            return Ok(Found::Broken);
        };
        let Some(header) = FrameHeader::read(header).filter(|header| header.number == at.number) else {
            return Ok(Found::Broken);
        };
        let bytes = header.body_bytes.saturating_add(HEADER_BYTES);
        let body_at = at.offset.saturating_add(HEADER_BYTES as u64);
        let behind = Place {
            segment: at.segment,
            offset: at.offset.saturating_add(bytes as u64),
            number: at.number.saturating_add(1),
        };
        if behind.offset > segment.bytes {
            return Ok(Found::Broken);
        }
        // No more is read than a frame may take, whatever the header says.
        if bytes > config.frame_bytes_max {
            return Ok(Found::Damaged(behind));
        }
        let Some(body) = reader.bytes(folder, segment.first, segment.bytes, body_at, header.body_bytes)?
        else {
            return Ok(Found::Broken);
        };
        Ok(match Frame::read(&header, body) {
            Some(frame) => Found::Frame(frame, behind),
            None => Found::Damaged(behind),
        })
    }

    /// Lets the first frames of the last batch go; no more than it had.
    ///
    /// # Errors
    /// When the position cannot be kept, or a segment not be removed. The frames are gone from this spool all the same; a
    /// next process may see them again.
    pub fn commit(&mut self, frames: usize) -> Result<(), SpoolError> {
        let frames = frames.min(self.peeked.len());
        if let Some(head) = self.peeked.drain(..frames).next_back() {
            self.head = head;
        }
        self.folder.keep_position(self.head)?;
        self.sweep()
    }

    /// Removes segments that are done with; of those that are written, one that is half full.
    fn sweep(&mut self) -> Result<(), SpoolError> {
        while let Some(segment) = self.segments.front().copied() {
            let is_last = self.segments.len() == 1;
            let at_end = self.head.segment == segment.first && self.head.number >= segment.end;
            let is_done = at_end && (!is_last || self.active.is_none());
            let is_worn = at_end && is_last && segment.bytes > self.segment_bytes() / 2;
            if !(segment.first < self.head.segment || is_done || is_worn) {
                break;
            }
            self.remove_first(segment)?;
        }
        Ok(())
    }

    fn remove_first(&mut self, segment: Segment) -> Result<(), SpoolError> {
        if self.segments.len() == 1 {
            self.active = None;
        }
        self.reader.close();
        self.folder.remove(segment.first)?;
        self.segments.pop_front();
        if let Some(next) = self.segments.front().filter(|next| self.head.segment < next.first) {
            self.head = next.start();
        }
        Ok(())
    }

    /// Removes all segments.
    fn clear(&mut self) -> Result<(), SpoolError> {
        while let Some(segment) = self.segments.front().copied() {
            self.remove_first(segment)?;
        }
        Ok(())
    }

    /// What lies in it now, and what was lost.
    pub fn counts(&self) -> SpoolCounts {
        let Self { damaged_frames, damaged_bytes, .. } = self;
        SpoolCounts {
            frames: self.frames(),
            bytes: self.bytes(),
            damaged_frames: *damaged_frames,
            damaged_bytes: *damaged_bytes,
        }
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames() == 0
    }

    /// What the disk says it has free from now on; none: the truth.
    #[cfg(test)]
    pub(super) fn tell_free(&mut self, bytes: Option<u64>) {
        self.folder.free = bytes;
    }

    /// From now on the disk has room for so many bytes.
    #[cfg(test)]
    pub(super) fn limit_room(&mut self, bytes: Option<u64>) {
        self.folder.room = bytes;
    }

    fn frames(&self) -> u64 {
        let open = self.segments.iter().filter(|segment| segment.first >= self.head.segment);
        open.fold(0, |frames, segment| {
            let from = if segment.first == self.head.segment { self.head.number } else { segment.first };
            frames.saturating_add(segment.end.saturating_sub(from))
        })
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().fold(0, |bytes, segment| bytes.saturating_add(segment.bytes))
    }
}

impl Drop for Spool {
    /// Leaves nothing behind when nothing waits.
    fn drop(&mut self) {
        if self.is_empty() {
            // What cannot be removed is empty, and is found by the next process.
            drop(self.clear());
        }
    }
}
