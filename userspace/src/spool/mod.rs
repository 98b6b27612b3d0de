//! A bounded log on disk: what cannot be handed over now waits here, in order, also for the next process.
//!
//! Knows neither Redis nor HTTP, makes nobody wait but for the disk, reads no clock. Never syncs: what was pushed survives
//! this process, however it ends; a host that loses power may lose what its kernel had not written yet, seconds as a rule
//! (`vm.dirty_expire_centisecs`). What cannot be read again is counted, and bytes from disk are trusted no more than those
//! of a network.
//!
//! Crates for the same keep frames in memory until a batch is full, have no bound in bytes, or give up a whole file for
//! one torn frame; so this one is ours.
//!
//! The folder holds segments, named by the number of their first frame: `00000000000000000000.seg`. Frames are numbered
//! without a gap, so that numbers that are missing say how many frames are lost. A segment goes when all of its frames are
//! committed; `position` says where reading stands within the oldest. It may be behind after a crash: some frames come
//! twice then, which whoever receives them tells by `producer`, `shard` and `seq`. `lock` keeps a second process out.
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

mod disk;
mod frame;
mod log;

use std::io;
use std::path::PathBuf;

pub use frame::Frame;
pub use log::Spool;

/// Where a spool lies, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The folder. Made, for its owner alone, when it is not there. Default: `understudy-spool`.
    pub path: PathBuf,
    /// Bytes of all segments. Beyond them a frame is refused. Default: 1 GiB.
    pub bytes_max: u64,
    /// Bytes that the disk must have free for others. Where a frame would leave less, it is refused. Default: 256 MiB.
    pub free_bytes_min: u64,
    /// Bytes after which the next segment begins; a quarter of `bytes_max` if that is less. Room is given back by whole
    /// segments. Default: 16 MiB.
    pub segment_bytes: u64,
    /// Bytes of one frame, which reading keeps in memory. Default: 65 MiB, an exchange of the largest size with its names.
    pub frame_bytes_max: usize,
}

/// What an earlier process left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Frames that were pushed and not committed; those that turn out to be damaged are among them.
    pub frames: u64,
    /// Bytes of their segments.
    pub bytes: u64,
    /// Bytes at the end that are no whole frame: it was being written when the process or the host went down.
    pub torn_bytes: u64,
}

/// What lies in a spool, and what was lost in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolCounts {
    /// Frames that are pushed and not committed.
    pub frames: u64,
    /// Bytes on disk. Committed frames count until their segment goes.
    pub bytes: u64,
    /// Frames that were pushed, or lay there at the start, and could not be read again. Each frame that was ever in
    /// `frames` is either committed or counted here.
    pub damaged_frames: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
}

/// Why a spool cannot be used, or a frame not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder, or a file in it, cannot be made or opened.
    #[error("failed to open the spool `{}`", path.display())]
    Open {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "another understudy uses the spool `{}`; stop it, or give this one its own folder ([spool] path)",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Others may write into it.
    #[error("users other than its owner may write into the spool `{}`; run: chmod 700 {0}", path.display())]
    Exposed {
        /// The folder.
        path: PathBuf,
    },
    /// A later program wrote it.
    #[error(
        "`{}` has version {version} of the spool, and this program reads version {}: let the understudy that wrote it drain it, or move it away",
        path.display(), disk::VERSION
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// One frame takes more bytes than allowed.
    #[error("a frame of {bytes} bytes is beyond the limit of {limit} for one in the spool")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The spool holds what it may.
    #[error("the spool is full: it holds {bytes} of {limit} bytes ([spool] bytes_max)")]
    Full {
        /// Bytes on disk.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk has little room left, which is for others.
    #[error(
        "the disk of the spool has {free} bytes free, and {limit} are left to others ([spool] free_bytes_min)"
    )]
    Scarce {
        /// Bytes free.
        free: u64,
        /// Bytes left to others.
        limit: u64,
    },
    /// The disk takes no more: it is full, a quota is reached, or it is read-only. Other reasons come so too.
    #[error("failed to write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk does not give back what it holds. The next call tries again.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A segment that is done with cannot be removed. The next commit tries again.
    #[error("failed to remove `{}`", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

// === impl SpoolConfig ===

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            path: "understudy-spool".into(),
            bytes_max: 1 << 30,
            free_bytes_min: 256 << 20,
            segment_bytes: 16 << 20,
            frame_bytes_max: 65 << 20,
        }
    }
}

// === impl SpoolError ===

impl SpoolError {
    /// A name for a metric; from a closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            SpoolError::Open { path: _, source: _ } => "open",
            SpoolError::Locked { path: _ } => "locked",
            SpoolError::Exposed { path: _ } => "exposed",
            SpoolError::Newer { path: _, version: _ } => "newer",
            SpoolError::TooLarge { bytes: _, limit: _ } => "too_large",
            SpoolError::Full { bytes: _, limit: _ } => "full",
            SpoolError::Scarce { free: _, limit: _ } => "scarce",
            SpoolError::Write { path: _, source } => {
                let kind = source.kind();
                if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                    "disk_full"
                } else if kind == io::ErrorKind::ReadOnlyFilesystem {
                    "read_only"
                } else {
                    "write"
                }
            }
            SpoolError::Read { path: _, source: _ } => "read",
            SpoolError::Remove { path: _, source: _ } => "remove",
        }
    }
}

#[cfg(test)]
mod tests;
