//! Opens files to read and makes files to write, for all formats here.
//!
//! Overwrites nothing, and lets nobody but the owner read what it makes: exchanges hold passwords and what people
//! wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write, stdin, stdout};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::RecordingError;

/// A file to read, or standard input.
pub type Input = BufReader<Stoppable>;

/// A file, or a pipe whose other end may say nothing for hours: whoever waits for it can be told to give up.
#[derive(Debug)]
pub struct Stoppable {
    file: File,
    stop: Option<Arc<AtomicBool>>,
}

/// Somebody wanted no more to be read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("reading was stopped")]
struct Stopped;

/// A file to write, or standard output.
pub type Output = BufWriter<Box<dyn Write + Send>>;

/// Bytes that are read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// How long a read waits before it looks whether it is still wanted: 50 ms.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

// === impl Stoppable ===

impl Stoppable {
    /// Reads fail from now on, within 50 ms, when `stop` is set. Without this a read waits as long as it takes.
    pub fn stop_when(&mut self, stop: Arc<AtomicBool>) {
        self.stop = Some(stop);
    }

    /// True when reading would not wait: there is something, or there will be nothing any more.
    fn is_ready(&self) -> io::Result<bool> {
        let mut watched = [PollFd::new(&self.file, PollFlags::IN)];
        match poll(&mut watched, Some(&LOOK_EVERY)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<File> for Stoppable {
    fn from(file: File) -> Self {
        Self { file, stop: None }
    }
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(stop) = &self.stop {
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Err(io::Error::other(Stopped));
                }
                if self.is_ready()? {
                    break;
                }
            }
        }
        self.file.read(buffer)
    }
}

/// Whether a read failed because no more was wanted.
pub(super) fn was_stopped(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Stopped>())
}

/// Opens a file; `-` is standard input.
///
/// # Errors
/// Names the file.
pub fn open(path: &Path) -> Result<Input, RecordingError> {
    let opened = if path == Path::new("-") {
        stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    let file = opened.map_err(|source| RecordingError::Open { path: path.to_owned(), source })?;
    Ok(BufReader::with_capacity(BUFFER_BYTES, file.into()))
}

/// Makes a new file that only its owner can read (mode 0600); `-` is standard output.
///
/// # Errors
/// Names the file, also when there is one of this name already.
pub fn make(path: &Path) -> Result<Output, RecordingError> {
    let output: Box<dyn Write + Send> = if path == Path::new("-") {
        Box::new(stdout())
    } else {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let path = path.to_owned();
        Box::new(made.map_err(|source| {
            if source.kind() == ErrorKind::AlreadyExists {
                RecordingError::Exists { path }
            } else {
                RecordingError::Make { path, source }
            }
        })?)
    };
    Ok(BufWriter::with_capacity(BUFFER_BYTES, output))
}
