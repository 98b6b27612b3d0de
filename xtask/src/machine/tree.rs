//! The file system that a machine begins with: programs, the libraries of these, modules of the kernel, and a first process.
//!
//! Copies files of this host and of the kernel's package; there is nothing else in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use understudy_tests::prereq::find_tool;
use xshell::{Shell, cmd};

use super::{Kernel, folder};

/// A file system in the making.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    sh: &'a Shell,
    folder: PathBuf,
    archive: PathBuf,
}

// === impl Tree ===

impl<'a> Tree<'a> {
    /// One with a shell and its tools, and with places for the file systems of the kernel. Its archive has this name.
    ///
    /// # Errors
    /// When there is no busybox, or no room.
    pub(crate) fn new(sh: &'a Shell, name: &str) -> anyhow::Result<Self> {
        // Each name has its own, so that two machines can be made at a time.
        let place = |ending: &str| folder().join(format!("{name}.{ending}"));
        let tree = Self { sh, folder: place("tree"), archive: place("cpio") };
        sh.remove_path(&tree.folder)?;
        for name in ["bin", "dev", "lib/modules", "proc", "run", "sys", "tmp"] {
            sh.create_dir(tree.folder.join(name))?;
        }
        let busybox = find_tool("busybox").context("`busybox` is not on the PATH")?;
        sh.copy_file(busybox, tree.folder.join("bin/busybox"))?;
        Ok(tree)
    }

    /// Puts a program of this host into it, with the libraries that it loads.
    ///
    /// # Errors
    /// When it is not there, or is linked statically.
    pub(crate) fn add_tool(&self, tool: &str) -> anyhow::Result<()> {
        let program = find_tool(tool).with_context(|| format!("`{tool}` is not on the PATH"))?;
        self.sh.copy_file(&program, self.folder.join("bin").join(tool))?;
        self.add_libraries(&program)
    }

    /// Puts a program that was built here into it, as `/bin/NAME`.
    ///
    /// # Errors
    /// As [`Self::add_tool`].
    pub(crate) fn add_program(&self, program: &Path, name: &str) -> anyhow::Result<()> {
        // Nobody debugs there, and the machine holds the file system in memory.
        let (sh, stripped) = (self.sh, self.folder.join("bin").join(name));
        cmd!(sh, "strip --strip-debug -o {stripped} {program}").quiet().run()?;
        self.add_libraries(program)
    }

    fn add_libraries(&self, program: &Path) -> anyhow::Result<()> {
        for library in libraries_of(self.sh, program)? {
            let place = self.folder.join(library.strip_prefix("/").unwrap_or(&library));
            if let Some(folder) = place.parent() {
                self.sh.create_dir(folder)?;
            }
            self.sh.copy_file(&library, &place)?;
        }
        Ok(())
    }

    /// Puts these modules and all that they need into it, and gives their names, each before those that need it.
    ///
    /// # Errors
    /// When the kernel's package is not there and cannot be fetched.
    pub(crate) fn add_modules(&self, kernel: &Kernel, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
        kernel.fetch(self.sh)?;
        let to = self.folder.join("lib/modules");
        kernel.modules(wanted)?.iter().map(|module| copy_module(self.sh, module, &to)).collect()
    }

    /// Makes an archive of it as the kernel unpacks it (`Documentation/driver-api/early-userspace/buffer-format.rst`). Its first
    /// process mounts the file systems of the kernel, loads the modules, and goes on with `script`.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(crate) fn finish(self, modules: &[String], script: &str) -> anyhow::Result<PathBuf> {
        let Self { sh, folder, archive } = self;
        let mut init = "#!/bin/busybox sh\n\
            export PATH=/bin\n\
            busybox mount -t proc proc /proc\n\
            busybox mount -t sysfs sysfs /sys\n\
            busybox mount -t devtmpfs devtmpfs /dev\n\
            busybox --install -s /bin\n"
            .to_owned();
        for module in modules {
            init.push_str(&format!("insmod /lib/modules/{module}\n"));
        }
        init.push_str(script);
        let file = folder.join("init");
        fs::write(&file, init).context("failed to write the first process")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .context("failed to make it a program")?;

        let _there = sh.push_dir(&folder);
        let list = cmd!(sh, "find .").quiet().read()?;
        let bytes =
            cmd!(sh, "cpio --create --format=newc --owner=0:0 --quiet").stdin(list).quiet().output()?.stdout;
        fs::write(&archive, bytes).with_context(|| format!("failed to write {}", archive.display()))?;
        Ok(archive)
    }
}

/// Copies a module, unpacked, and gives its name there.
fn copy_module(sh: &Shell, module: &Path, to: &Path) -> anyhow::Result<String> {
    let name = module.file_name().context("a module has no name")?.to_string_lossy().into_owned();
    match name.strip_suffix(".xz") {
        Some(name) => {
            let bytes = cmd!(sh, "xz --decompress --stdout {module}").quiet().output()?.stdout;
            fs::write(to.join(name), bytes).with_context(|| format!("failed to write the module {name}"))?;
            Ok(name.to_owned())
        }
        None => {
            sh.copy_file(module, to.join(&name))?;
            Ok(name)
        }
    }
}

/// The libraries that a program loads, the loader itself among them.
fn libraries_of(sh: &Shell, program: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let listed = cmd!(sh, "ldd {program}")
        .quiet()
        .read()
        .with_context(|| format!("{} is static", program.display()))?;
    ensure!(!listed.contains("not found"), "{} lacks libraries: {listed}", program.display());
    Ok(paths(&listed))
}

/// The paths in the output of ldd(1).
fn paths(listed: &str) -> BTreeSet<PathBuf> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_listed_and_the_vdso_is_not() {
        let listed = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(listed), expected.into());
    }
}
