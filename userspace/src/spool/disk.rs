//! The files of a spool: the folder, its lock, segments and the position.
//!
//! Knows no frames, but where one begins. Follows no link, opens nothing that is no regular file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::SpoolError;

/// The version of the segments that are written; a greater one is refused.
pub(super) const VERSION: u32 = 1;

/// Bytes of a segment's header: what it begins with, the version, CRC-32 of both.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 16;

const MAGIC: [u8; 8] = *b"\x89uspool\n";

/// Bytes that are read at once, unless a frame is larger.
const READ_BYTES: usize = 256 << 10;

/// Bytes of the position: three numbers and CRC-32 of these.
const POSITION_BYTES: usize = 28;

/// The first frame that is not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the first frame of its segment.
    pub(super) segment: u64,
    /// Bytes before it in the segment.
    pub(super) offset: u64,
    /// Its own number.
    pub(super) number: u64,
}

/// The folder, which is this process's as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    position: File,
    _lock: File,
    /// Bytes that the disk still has room for.
    #[cfg(test)]
    pub(super) room: Option<u64>,
    /// Bytes that the disk says it has free.
    #[cfg(test)]
    pub(super) free: Option<u64>,
}

/// Reads one segment through a buffer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    open: Option<(u64, File)>,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    begins: u64,
}

// === impl Folder ===

impl Folder {
    /// Makes the folder where it is not there, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Open { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let mode = path.metadata().map_err(failed(path))?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(SpoolError::Exposed { path: path.to_owned() });
        }
        let open = |name| {
            let file = path.join(name);
            let options = &mut OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(&file).map_err(failed(&file))
        };
        let lock = open("lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(SpoolError::Locked { path: path.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(SpoolError::Open { path: path.to_owned(), source });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            position: open("position")?,
            _lock: lock,
            #[cfg(test)]
            room: None,
            #[cfg(test)]
            free: None,
        })
    }

    /// What the disk has free for this user (statvfs(3)); none where it does not say.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        #[cfg(test)]
        if self.free.is_some() {
            return self.free;
        }
        let disk = rustix::fs::fstatvfs(&self.position).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    pub(super) fn segment_path(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:020}.seg"))
    }

    /// Number of the first frame and size of each segment, oldest first.
    pub(super) fn segments(&self) -> Result<Vec<(u64, u64)>, SpoolError> {
        let failed = |source| SpoolError::Open { path: self.path.clone(), source };
        let mut segments = Vec::new();
        for file in self.path.read_dir().map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name();
            let Some(first) = name.to_str().and_then(segment_number) else { continue };
            let meta = file.metadata().map_err(failed)?;
            if meta.is_file() {
                self.check_version(first, meta.len())?;
                segments.push((first, meta.len()));
            }
        }
        segments.sort_unstable();
        Ok(segments)
    }

    fn check_version(&self, first: u64, bytes: u64) -> Result<(), SpoolError> {
        let path = self.segment_path(first);
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        if bytes >= SEGMENT_HEADER_BYTES {
            let read = File::open(&path).and_then(|file| file.read_exact_at(&mut header, 0));
            if let Err(source) = read {
                return Err(SpoolError::Open { path, source });
            }
        }
        // A header that is damaged says nothing; the frames behind it stand for themselves.
        let version = u32::from_le_bytes(part(&header, MAGIC.len()));
        if header == segment_header(version) && version > VERSION {
            return Err(SpoolError::Newer { path, version });
        }
        Ok(())
    }

    /// A new segment, which holds its header.
    pub(super) fn create(&mut self, first: u64) -> Result<File, SpoolError> {
        let path = self.segment_path(first);
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = created.map_err(|source| SpoolError::Write { path: path.clone(), source })?;
        match self.write(&file, &segment_header(VERSION), 0) {
            Ok(()) => Ok(file),
            Err(source) => {
                // Or the name is in the way of the next attempt.
                drop(std::fs::remove_file(&path));
                Err(SpoolError::Write { path, source })
            }
        }
    }

    /// Writes all of `bytes`, or leaves the file as it was, as far as the disk lets it.
    pub(super) fn append(
        &mut self,
        file: &File,
        first: u64,
        bytes: &[u8],
        at: u64,
    ) -> Result<(), SpoolError> {
        self.write(file, bytes, at).map_err(|source| {
            // If this fails too, the next frame is written over what is there.
            drop(file.set_len(at));
            SpoolError::Write { path: self.segment_path(first), source }
        })
    }

    fn write(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(room) = &mut self.room {
            // As a full disk does: what fits is written before the error comes.
            let fits = bytes.len().min(*room as usize);
            *room -= fits as u64;
            file.write_all_at(&bytes[..fits], at)?;
            return if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) };
        }
        file.write_all_at(bytes, at)
    }

    pub(super) fn remove(&self, first: u64) -> Result<(), SpoolError> {
        let path = self.segment_path(first);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(SpoolError::Remove { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The position as it was kept; `None` when there is none, or it is damaged.
    pub(super) fn position(&self) -> Option<Place> {
        let mut bytes = [0; POSITION_BYTES];
        self.position.read_exact_at(&mut bytes, 0).ok()?;
        let [segment, offset, number] = [0, 8, 16].map(|at| u64::from_le_bytes(part(&bytes, at)));
        let place = Place { segment, offset, number };
        (bytes == position_bytes(place)).then_some(place)
    }

    pub(super) fn keep_position(&self, place: Place) -> Result<(), SpoolError> {
        self.position
            .write_all_at(&position_bytes(place), 0)
            .map_err(|source| SpoolError::Write { path: self.path.join("position"), source })
    }
}

/// `N` bytes from `at`; zeros behind the end.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, from)| *to = *from);
    part
}

fn segment_header(version: u32) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    sealed(&[&MAGIC, &version.to_le_bytes()])
}

fn position_bytes(place: Place) -> [u8; POSITION_BYTES] {
    let Place { segment, offset, number } = place;
    sealed(&[&segment.to_le_bytes(), &offset.to_le_bytes(), &number.to_le_bytes()])
}

/// These parts with their checksum behind them.
fn sealed<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut sealed = [0; N];
    let mut to = &mut sealed[..];
    let mut checksum = crc32fast::Hasher::new();
    for part in parts {
        checksum.update(part);
        // A slice takes what fits; the lengths of the callers do.
        drop(to.write_all(part));
    }
    drop(to.write_all(&checksum.finalize().to_le_bytes()));
    sealed
}

/// The number in `00000000000000000042.seg`. Half of all numbers are ours, so that counting on never wraps.
fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().filter(|number| *number <= u64::MAX / 2)
}

// === impl Reader ===

impl Reader {
    /// `len` bytes of a segment from `at` on. `None` when they reach behind `end` or the end of the file, or the file is
    /// gone. What lies behind `end` is not looked at: it may be half of something, and be written over.
    pub(super) fn bytes(
        &mut self,
        folder: &Folder,
        segment: u64,
        end: u64,
        at: u64,
        len: usize,
    ) -> Result<Option<&[u8]>, SpoolError> {
        let path = || folder.segment_path(segment);
        if !matches!(&self.open, Some((open, _)) if *open == segment) {
            self.close();
            match File::open(path()) {
                Ok(file) => self.open = Some((segment, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(SpoolError::Read { path: path(), source }),
            }
        }
        let Some((_, file)) = &self.open else { return Ok(None) };
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        if len > left {
            return Ok(None);
        }
        if self.held(at, len).is_none() {
            self.begins = at;
            fill(file, &mut self.buffer, at, len.max(READ_BYTES).min(left))
                .map_err(|source| SpoolError::Read { path: path(), source })?;
        }
        Ok(self.held(at, len))
    }

    fn held(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.begins)?).ok()?;
        self.buffer.get(from..from.checked_add(len)?)
    }

    /// Keeps no more room than for usual frames.
    pub(super) fn shrink(&mut self) {
        if self.buffer.len() > READ_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// Closes the file of a segment that goes.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.buffer = Vec::new();
    }
}

/// Up to `len` bytes from `at`, fewer at the end of the file.
fn fill(file: &File, buffer: &mut Vec<u8>, at: u64, len: usize) -> io::Result<()> {
    buffer.clear();
    buffer.resize(len, 0);
    let mut have = 0usize;
    while let Some(room) = buffer.get_mut(have..).filter(|room| !room.is_empty()) {
        match file.read_at(room, at.saturating_add(have as u64)) {
            Ok(0) => break,
            Ok(read) => have = have.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                buffer.clear();
                return Err(error);
            }
        }
    }
    buffer.truncate(have);
    Ok(())
}
