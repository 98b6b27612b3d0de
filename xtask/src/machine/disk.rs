//! A disk whose file system has the content of a folder.
//!
//! Mounts nothing: the file system is written by mke2fs(8), owners and modes as in the folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::{Kernel, Tree};

/// An ext4 file system in a file, which is removed on drop.
#[derive(Debug)]
pub(crate) struct Disk {
    file: PathBuf,
}

/// The part of the folder's size that the file system takes for itself, and room for what the machine writes. Holes of the
/// file take no room here.
const OVERHEAD_PERCENT: u64 = 20;
const FREE_MIB: u64 = 1024;

/// What a kernel of the distribution needs to see the disk.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// Goes over to the disk, whose own init is the first process then.
const GO_OVER: &str = "mkdir /disk\n\
    mount -t ext4 /dev/vda /disk\n\
    for name in dev proc sys; do mount --move /$name /disk/$name; done\n\
    exec switch_root /disk /sbin/init\n";

// === impl Disk ===

impl Disk {
    /// Writes the content of `folder` into a new file system in `file`.
    ///
    /// # Errors
    /// When there is no room for it, or no mke2fs.
    pub(crate) fn of_folder(sh: &Shell, folder: &Path, file: PathBuf) -> anyhow::Result<Self> {
        sh.remove_path(&file)?;
        let used = cmd!(sh, "du --summarize --block-size=1M {folder}").quiet().read()?;
        let used: u64 =
            used.split_whitespace().next().unwrap_or_default().parse().context("du says no size")?;
        let size = format!("{}M", used + used * OVERHEAD_PERCENT / 100 + FREE_MIB);
        let disk = Self { file };
        let file = disk.file();
        // Without a journal: nobody mounts it a second time.
        cmd!(sh, "mke2fs -q -F -t ext4 -O ^has_journal -d {folder} {file} {size}")
            .quiet()
            .ignore_stdout()
            .run()
            .with_context(|| format!("failed to make a file system of {}", folder.display()))?;
        Ok(disk)
    }

    /// The file system that a machine with this disk begins with; `modules` are there when the disk's own init starts.
    ///
    /// # Errors
    /// As [`Tree::add_modules`].
    pub(crate) fn initramfs(&self, sh: &Shell, kernel: &Kernel, modules: &[&str]) -> anyhow::Result<PathBuf> {
        let tree = Tree::new(sh, "disk")?;
        let modules = tree.add_modules(kernel, &[&MODULES, modules].concat())?;
        tree.finish(&modules, GO_OVER)
    }

    /// Where it is.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.file.exists() && fs::remove_file(&self.file).is_err() {
            eprintln!("vm: failed to remove {}", self.file.display());
        }
    }
}
