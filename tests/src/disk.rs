//! A disk that is soon full.
//!
//! Lives in memory, and is gone with its guard.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// A file system of a few kilobytes.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

// === impl SmallDisk ===

impl SmallDisk {
    /// Mounts one of so many bytes, such as `512k`. Needs root.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(size: &str) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for a disk")?;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(folder.path()))?;
        Ok(Self(folder))
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last block; whoever removes the file makes room.
    ///
    /// # Errors
    /// When it does not fill up.
    pub fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.folder().join("filler");
        let mut file = std::fs::File::create(&path).context("failed to make a file")?;
        let written = std::iter::repeat_with(|| file.write_all(&[0; 4096])).take(1 << 16);
        let error = written.filter_map(Result::err).next().context("the disk does not fill up")?;
        ensure!(error.kind() == ErrorKind::StorageFull, "{error}");
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still uses it does not keep it mounted here.
        drop(run(Command::new("umount").arg("-l").arg(self.folder())));
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
