//! What can be wrong with a journal, with its file and the remedy.
//!
//! Looks at nothing but the error that SQLite gives: what the disk is like now may differ from what it was like then.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file is not there.
    #[error("there is no journal at `{}`: nothing has been recorded there yet", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made.
    #[error("failed to create journal `{}`", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is there and cannot be read and written by this user.
    #[error("failed to open journal `{}`", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened, or is not a journal.
    #[error("failed to open journal `{}`: it must be an SQLite file that `understudy run` has written", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It can be read and not written.
    #[error("journal `{}` can only be read: mount its disk for writing, or name another file", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("journal `{}` has schema {found}, this program knows schemas up to {known}: use a newer understudy or another file", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// A write failed.
    #[error("failed to write {what} to journal `{}`: {trouble}", path.display())]
    Write {
        /// What was written.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        trouble: Trouble,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file has gone from its place, or another one lies there.
    #[error(
        "journal `{}` is not at its place any more: it, or its folder, was removed or replaced while it was written, and \
         nothing more is kept; put its folder back and restart",
        path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A read failed.
    #[error("failed to read {what} from journal `{}`", path.display())]
    Read {
        /// What was read.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A part that is kept as JSON does not parse, or cannot be written.
    #[error("{what} in the journal is not what this program writes")]
    Json {
        /// What it is.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The run has no such experiment.
    #[error("run {run} has no experiment `{experiment}`")]
    UnknownExperiment {
        /// The run.
        run: i64,
        /// The name.
        experiment: String,
    },
}

/// What is wrong with the file. Displayed, it is the remedy as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room on its disk, or no more than a quota allows.
    Full,
    /// It, or its disk, can only be read.
    ReadOnly,
    /// The disk fails.
    Disk,
    /// The file, or one of those beside it, cannot be opened.
    Folder,
    /// Another process holds it.
    Busy,
    /// It holds what no journal holds.
    Damaged,
    /// Something else; the source says what.
    Other,
}

// === impl JournalError ===

impl JournalError {
    pub(super) fn write(path: &Path, what: &'static str, source: rusqlite::Error) -> Self {
        Self::Write { what, path: path.to_owned(), trouble: Trouble::of(&source), source }
    }

    pub(super) fn read(connection: &Connection, what: &'static str, source: rusqlite::Error) -> Self {
        Self::Read { what, path: connection.path().unwrap_or_default().into(), source }
    }
}

// === impl Trouble ===

impl Trouble {
    /// What this error says.
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Trouble::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Trouble::ReadOnly,
            Some(ErrorCode::SystemIoFailure) => Trouble::Disk,
            Some(ErrorCode::CannotOpen) => Trouble::Folder,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
            Some(_) | None => Trouble::Other,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Full => {
                "its disk is full; make room, or restart with another file ([journal] path) or a smaller bound \
                 ([journal] comparisons_max)"
            }
            Trouble::ReadOnly => {
                "it can only be read; mount its disk for writing, or give the file and its folder back to this user, and restart"
            }
            Trouble::Disk => {
                "its disk fails or became read-only; the kernel's log (`dmesg`) says why; mend it, or name another file \
                 ([journal] path), and restart"
            }
            Trouble::Folder => {
                "it, or a file beside it, cannot be opened; put its folder back, for this user to write in, and restart"
            }
            Trouble::Busy => {
                "another process holds it; end what else writes there (`fuser` names it), or name another file for this one \
                 ([journal] path)"
            }
            Trouble::Damaged => {
                "it is damaged; move it away with the files `-wal` and `-shm` beside it, and restart"
            }
            Trouble::Other => "see below for why; another file ([journal] path) may do",
        })
    }
}
