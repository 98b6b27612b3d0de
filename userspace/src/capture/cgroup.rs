//! Finds the cgroup v2 folder that a service lives in.
//!
//! Reads only; makes no cgroup and moves no process.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{convert::Infallible, fmt, fs};

use super::CaptureError;

/// Folders that a search for a unit looks at before it gives up.
const FOLDERS_MAX: usize = 20_000;
/// Close matches that an error lists.
const CLOSE_MAX: usize = 5;

/// Which cgroup to attach to: every service of the host, or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupSelector {
    /// The root of the hierarchy: every service.
    #[default]
    Root,
    /// An absolute path, or a path under the mount point such as `system.slice/shop.service`.
    Path(PathBuf),
    /// A name without a slash: a folder right under the mount point, or a systemd unit anywhere below it.
    Unit(String),
}

// === impl CgroupSelector ===

impl CgroupSelector {
    /// The folder on this host.
    ///
    /// # Errors
    /// [`CaptureError::NoCgroup2`], [`CaptureError::UnknownCgroup`], [`CaptureError::AmbiguousCgroup`], and
    /// [`CaptureError::ReadCgroups`] when the mount table cannot be read.
    pub fn resolve(&self) -> Result<PathBuf, CaptureError> {
        let table = Path::new("/proc/self/mountinfo");
        let mounts =
            fs::read(table).map_err(|source| CaptureError::ReadCgroups { path: table.to_owned(), source })?;
        let mount = cgroup2_mount(&mounts).ok_or(CaptureError::NoCgroup2)?;
        self.resolve_under(&mount)
    }

    /// The folder, under this mount point.
    fn resolve_under(&self, mount: &Path) -> Result<PathBuf, CaptureError> {
        match self {
            Self::Root => Ok(mount.to_owned()),
            Self::Path(path) => self.by_path(path, mount),
            Self::Unit(name) => {
                let direct = mount.join(name);
                if direct.is_dir() { Ok(direct) } else { self.by_unit(name, mount) }
            }
        }
    }

    fn by_path(&self, path: &Path, mount: &Path) -> Result<PathBuf, CaptureError> {
        // `/proc/PID/cgroup` prints paths from the root of the hierarchy, with a leading slash.
        let under_mount = mount.join(path.strip_prefix("/").unwrap_or(path));
        [path, &under_mount]
            .into_iter()
            .filter_map(|candidate| fs::canonicalize(candidate).ok())
            .find(|folder| folder.is_dir() && folder.starts_with(mount))
            .ok_or_else(|| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                self.unknown(name.as_deref().unwrap_or_default(), mount, &walk(mount))
            })
    }

    fn by_unit(&self, name: &str, mount: &Path) -> Result<PathBuf, CaptureError> {
        let folders = walk(mount);
        let mut matches: Vec<&PathBuf> =
            folders.iter().filter(|folder| folder.file_name().is_some_and(|last| last == name)).collect();
        match (matches.pop(), matches.is_empty()) {
            (Some(folder), true) => Ok(folder.clone()),
            (Some(folder), false) => {
                matches.push(folder);
                Err(CaptureError::AmbiguousCgroup {
                    cgroup: name.to_owned(),
                    candidates: listed(matches.into_iter(), mount),
                })
            }
            (None, _) => Err(self.unknown(name, mount, &folders)),
        }
    }

    fn unknown(&self, name: &str, mount: &Path, folders: &[PathBuf]) -> CaptureError {
        let stem = name.split('.').next().unwrap_or(name);
        let close = folders.iter().filter(|folder| {
            let last = folder.file_name().map(|last| last.to_string_lossy()).unwrap_or_default();
            let last_stem = last.split('.').next().unwrap_or(&last);
            !stem.is_empty() && !last_stem.is_empty() && (last.contains(stem) || stem.contains(last_stem))
        });
        CaptureError::UnknownCgroup {
            cgroup: self.to_string(),
            mount: mount.to_owned(),
            close: listed(close, mount),
        }
    }
}

impl FromStr for CgroupSelector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "" | "/" => Self::Root,
            path if path.contains('/') => Self::Path(path.into()),
            name => Self::Unit(name.to_owned()),
        })
    }
}

impl fmt::Display for CgroupSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("/"),
            Self::Path(path) => path.display().fmt(f),
            Self::Unit(name) => f.write_str(name),
        }
    }
}

/// Where cgroup v2 is mounted, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). A mount that shows
/// the whole hierarchy is preferred to one that shows a part.
fn cgroup2_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    let mut part = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        // Fields: id, parent, device, root, mount point, options, optional fields, `-`, type, source, options.
        let (Some(root), Some(mount)) = (fields.nth(3), fields.next()) else { continue };
        let is_cgroup2 = fields.skip_while(|field| *field != b"-").nth(1) == Some(b"cgroup2".as_slice());
        if !is_cgroup2 {
            continue;
        }
        if root == b"/" {
            return Some(unescape(mount));
        }
        part = part.or_else(|| Some(unescape(mount)));
    }
    part
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .first_chunk::<3>()
            .filter(|_| *first == b'\\')
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// All cgroups below the mount point, breadth first, so that the bound cuts the deepest. Folders that vanish while
/// walking are left out.
fn walk(mount: &Path) -> Vec<PathBuf> {
    let mut folders = vec![mount.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if folders.len() >= FOLDERS_MAX {
                return folders;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    folders
}

/// The first few folders, as paths under the mount point.
fn listed<'a>(folders: impl Iterator<Item = &'a PathBuf>, mount: &Path) -> Vec<String> {
    let mut names: Vec<String> = folders
        .filter_map(|folder| folder.strip_prefix(mount).ok())
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| path.display().to_string())
        .take(CLOSE_MAX)
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_mount(mountinfo: &str, expected: Option<&str>) {
        assert_eq!(cgroup2_mount(mountinfo.as_bytes()), expected.map(PathBuf::from));
    }

    #[test]
    fn finds_the_unified_mount() {
        let text = "24 1 0:22 / /proc rw shared:13 - proc proc rw\n\
                    30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        check_mount(text, Some("/sys/fs/cgroup"));
    }

    #[test]
    fn finds_the_hybrid_mount_after_version_1_controllers() {
        let text = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        check_mount(text, Some("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn prefers_the_mount_of_the_whole_hierarchy() {
        let text = "30 24 0:26 /pod /part rw - cgroup2 none rw\n31 24 0:27 / /whole rw - cgroup2 none rw\n";
        check_mount(text, Some("/whole"));
        check_mount("30 24 0:26 /pod /part rw - cgroup2 none rw\n", Some("/part"));
    }

    #[test]
    fn undoes_octal_escapes() {
        check_mount("1 2 0:3 / /a\\040b\\134c rw - cgroup2 none rw", Some("/a b\\c"));
        check_mount("1 2 0:3 / /a\\04 rw - cgroup2 none rw", Some("/a\\04"));
        check_mount("1 2 0:3 / /a\\999 rw - cgroup2 none rw", Some("/a\\999"));
    }

    #[test]
    fn finds_none_in_other_text() {
        check_mount("", None);
        check_mount("1 2 3\n\ncgroup2 - cgroup2\n", None);
        check_mount("1 2 0:3 / /cgroup2 rw - tmpfs cgroup2 rw", None);
    }

    /// Resolves against folders made for the test; the result is the path under the mount, or the error.
    #[track_caller]
    fn check_resolve(folders: &[&str], selector: &str, expected: Result<&str, &str>) {
        let mount = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(mount.path().join(folder)).unwrap();
        }
        let selector: CgroupSelector = selector.parse().unwrap();
        let found = selector.resolve_under(mount.path()).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.strip_prefix(mount.path()), Ok(Path::new(expected)))
            }
            (Err(found), Err(expected)) => {
                assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
            }
            (found, expected) => panic!("{selector} gives {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn resolves_paths_and_units() {
        let folders = ["system.slice/shop.service", "user.slice"];
        check_resolve(&folders, "", Ok(""));
        check_resolve(&folders, "user.slice", Ok("user.slice"));
        check_resolve(&folders, "system.slice/shop.service", Ok("system.slice/shop.service"));
        check_resolve(&folders, "/system.slice/shop.service", Ok("system.slice/shop.service"));
        check_resolve(&folders, "shop.service", Ok("system.slice/shop.service"));
    }

    #[test]
    fn lists_close_matches_of_an_unknown_unit() {
        let folders = ["system.slice/shop.service", "system.slice/cron.service"];
        check_resolve(&folders, "shop", Err("close matches: system.slice/shop.service"));
        check_resolve(
            &folders,
            "system.slice/shops.service",
            Err("close matches: system.slice/shop.service"),
        );
        check_resolve(&folders, "zebra", Err("no cgroup `zebra`"));
    }

    #[test]
    fn refuses_a_unit_that_exists_twice() {
        let folders = ["a.slice/shop.service", "b.slice/shop.service"];
        check_resolve(&folders, "shop.service", Err("a.slice/shop.service, b.slice/shop.service"));
    }

    #[test]
    fn refuses_to_leave_the_mount() {
        check_resolve(&["a"], "../", Err("no cgroup"));
        check_resolve(&["a"], "/proc", Err("no cgroup"));
    }
}
