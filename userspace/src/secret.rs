//! A value that nobody may see, and the files that hold such values.
//!
//! Shows no secret in an error or a log, and takes none from a file that others can read.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Bytes that are not shown, and are overwritten when they are dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a file with a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("failed to read `{}`, which holds a secret", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a pipe or a device: to read it might never end.
    #[error("`{}` must be a file", path.display())]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// Others can read or change it.
    #[error("users other than its owner can read or change `{}`, which holds a secret; run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than such a file is.
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

/// Where systemd puts credentials, a folder for each service that nobody else can enter (systemd.exec(5), *Credentials*).
const SYSTEMD_FOLDER: &str = "/run/credentials";

/// Whether users other than its owner can read or change a file of this mode.
pub fn is_exposed(path: &Path, mode: u32) -> bool {
    // From version 255 on, systemd lets a service read its credentials by an access list, whose mask stands where other
    // files have the mode of their group (acl(5)).
    let others = if path.starts_with(SYSTEMD_FOLDER) { 0o037 } else { 0o077 };
    mode & others != 0
}

/// Reads a file that nobody but its owner can read, of at most `limit` bytes.
///
/// # Errors
/// Names the file and what to do; never what it holds.
pub fn read_private(path: &Path, limit: usize) -> Result<Secret, SecretFileError> {
    let failed = |source| SecretFileError::Read { path: path.to_owned(), source };
    // Before it is opened, since to open a pipe waits for whoever writes.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SecretFileError::NoFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if is_exposed(path, facts.mode()) {
        return Err(SecretFileError::Exposed { path: path.to_owned() });
    }
    // Room for all of it at once: a vector that grows leaves copies of its contents behind.
    let room = limit.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(u64::try_from(room).unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(SecretFileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Secret(bytes))
}

// === impl Secret ===

impl Secret {
    /// Takes these bytes, which have no other owner.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The bytes without the white space around them, which editors and `echo` leave.
    pub fn reveal_trimmed(&self) -> &[u8] {
        self.0.trim_ascii()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Reads a file with this text and mode, with room for 16 bytes; the error as text.
    #[track_caller]
    fn check(text: &str, mode: u32, expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match (read_private(&path, 16), expected) {
            (Ok(secret), Ok(expected)) => assert_eq!(secret.reveal_trimmed(), expected.as_bytes()),
            (Err(error), Err(part)) => {
                let message = error.to_string();
                assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
            }
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_secret_is_read_where_nobody_else_can() {
        check("hunter2\n", 0o600, Ok("hunter2"));
        check("hunter2", 0o400, Ok("hunter2"));
        check("hunter2", 0o640, Err("chmod 600"));
        check("hunter2", 0o602, Err("chmod 600"));
        check("hunter2 and more and", 0o600, Err("more than 16"));
    }

    #[test]
    fn what_systemd_hands_over_may_show_the_mask_of_an_access_list() {
        let check = |path: &str, mode: u32, exposed: bool| {
            assert_eq!(is_exposed(Path::new(path), mode), exposed, "{path} {mode:o}");
        };
        check("/run/credentials/understudy-capture.service/redis", 0o440, false);
        check("/run/credentials/understudy-capture.service/redis", 0o400, false);
        check("/run/credentials/understudy-capture.service/redis", 0o444, true);
        check("/run/credentials/understudy-capture.service/redis", 0o460, true);
        check("/etc/understudy/redis.toml", 0o440, true);
        check("/run/credentials-of-mine", 0o440, true);
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_private(folder.path(), 16).unwrap_err();
        assert!(matches!(error, SecretFileError::NoFile { path: _ }), "{error}");
        assert!(matches!(
            read_private(Path::new("/nowhere"), 16),
            Err(SecretFileError::Read { path: _, source: _ })
        ));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2".to_vec())), "Secret(…)");
    }
}
