//! Opens files to read and makes files to write, for all formats here.
//!
//! Overwrites nothing, and lets nobody but the owner read what it makes: exchanges hold passwords and what people
//! wrote.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::RecordingError;

/// A file to read, or standard input.
pub type Input = BufReader<Box<dyn Read + Send>>;

/// A file to write, or standard output.
pub type Output = BufWriter<Box<dyn Write + Send>>;

/// Bytes that are read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Opens a file; `-` is standard input.
///
/// # Errors
/// Names the file.
pub fn open(path: &Path) -> Result<Input, RecordingError> {
    let input: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(stdin())
    } else {
        let opened = File::open(path);
        Box::new(opened.map_err(|source| RecordingError::Open { path: path.to_owned(), source })?)
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, input))
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
