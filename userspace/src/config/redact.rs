//! `[redact]` word by word, its check, and the file with the key.
//!
//! Shows nothing of a key, and takes none from a file that others can read.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::error::Fault;
use super::experiment::{plain, span_of};
use super::raw::set;
use super::secrets::credential;
use crate::branch::SentSecrets;
use crate::pipeline::secrets::random_key_bytes;
use crate::pipeline::settings::RedactConfig;
use crate::secret::is_exposed;
use crate::select::redact::{RedactKey, RedactKeyError, RedactLimits, RedactMode, RedactRules, Redactor};

/// `[redact]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRedact {
    mode: Option<Spanned<String>>,
    key: Option<PathBuf>,
    #[serde(default)]
    headers: Vec<Spanned<String>>,
    #[serde(default)]
    query: Vec<Spanned<String>>,
    #[serde(default)]
    form: Vec<Spanned<String>>,
    #[serde(default)]
    json: Vec<Spanned<String>>,
    #[serde(default)]
    patterns: Vec<Spanned<String>>,
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    decoded_bytes_max: Option<usize>,
    depth_max: Option<usize>,
}

/// Why the file with the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("failed to read `{}`, which `key` under [redact] names", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read or change it.
    #[error("users other than its owner can read or change `{}`, which holds a key; run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It holds too little to be one, or too much.
    #[error("`{}` is no key: `understudy config key` prints one", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RedactKeyError,
    },
    /// It holds more than a key.
    #[error("`{}` has more than {limit} bytes and so is no key: `understudy config key` prints one", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

/// Largest file with a key.
const FILE_BYTES_MAX: u64 = 4096;

/// What systemd calls the credential (`LoadCredential=redact-key:/etc/…`).
const SYSTEMD_NAME: &str = "redact-key";

/// A new key as text, as a file may hold it: 64 hexadecimal digits.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn new_key() -> io::Result<String> {
    Ok(random_key_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads the key where one is named, or the credential that systemd gives in `directory` (systemd.exec(5)) or would give.
///
/// # Errors
/// Names the file and what to do.
pub fn read_redact_key(
    config: &RedactConfig,
    directory: Option<&Path>,
) -> Result<Option<RedactKey>, KeyFileError> {
    let systemd = credential(directory, SYSTEMD_NAME);
    let Some(path) = config.key_file.as_ref().or(systemd.as_ref()) else { return Ok(None) };
    let failed = |source| KeyFileError::Read { path: path.clone(), source };
    let about = fs::metadata(path).map_err(failed)?;
    if is_exposed(path, about.mode()) {
        return Err(KeyFileError::Exposed { path: path.clone() });
    }
    if about.len() > FILE_BYTES_MAX {
        return Err(KeyFileError::TooLarge { path: path.clone(), limit: FILE_BYTES_MAX });
    }
    let bytes = fs::read(path).map_err(failed)?;
    // An editor's line end makes no other key.
    let key = RedactKey::new(bytes.trim_ascii());
    key.map(Some).map_err(|source| KeyFileError::Key { path: path.clone(), source })
}

/// `secrets = "redacted"` or `"captured"` of a candidate.
pub(super) fn sent_secrets(part: &str, given: Option<&Spanned<String>>) -> Result<SentSecrets, Fault> {
    match given.map(|given| (given.get_ref().as_str(), given.span())) {
        None => Ok(SentSecrets::ByAddress),
        Some(("captured", _)) => Ok(SentSecrets::Captured),
        Some(("redacted", _)) => Ok(SentSecrets::Redacted),
        Some((other, span)) => Err(Fault {
            key: format!("experiment.{part}.secrets"),
            span,
            problem: format!("must be \"redacted\" or \"captured\", not `{other}`"),
        }),
    }
}

// === impl RawRedact ===

impl RawRedact {
    /// The rules. `has_queue`: what is hidden or not is written between hosts.
    pub(super) fn finish(self, has_queue: bool) -> Result<RedactConfig, Fault> {
        let mode = self.mode()?;
        if mode == RedactMode::DryRun && has_queue {
            let problem = "`dry-run` hides nothing, and with [queue] secrets would be in Redis for all hosts of the fleet: \
                           try the rules with `understudy run` or a recording and a file without [queue], or look at \
                           `understudy inspect --redact`";
            let span = self.mode.as_ref().map_or(0..0, Spanned::span);
            return Err(Fault { key: "redact.mode".to_owned(), span, problem: problem.to_owned() });
        }
        let Self { mode: _, key, headers, query, form, json, patterns, allow, decoded_bytes_max, depth_max } =
            self;
        let mut limits = RedactLimits::default();
        set(&mut limits.decoded_bytes_max, decoded_bytes_max);
        set(&mut limits.depth_max, depth_max);
        let rules = RedactRules {
            mode,
            headers: plain(&headers),
            query: plain(&query),
            form: plain(&form),
            json: plain(&json),
            patterns: plain(&patterns),
            allow: plain(&allow),
            limits,
        };
        // Any key shows whether the rules can be used.
        let checked = RedactKey::new(&[0; 32]).map(|key| Redactor::new(&rules, key));
        if let Ok(Err(error)) = checked {
            let (list, entry) = error.place();
            let span: Range<usize> = span_of(entry, &[&headers, &query, &form, &json, &patterns, &allow]);
            let problem = super::experiment::with_sources(&error);
            return Err(Fault { key: format!("redact.{list}"), span, problem });
        }
        Ok(RedactConfig { rules, key_file: key, key: None })
    }

    fn mode(&self) -> Result<RedactMode, Fault> {
        let Some(given) = &self.mode else { return Ok(RedactMode::default()) };
        let known = RedactMode::ALL.into_iter().find(|mode| mode.label() == given.get_ref());
        known.ok_or_else(|| Fault {
            key: "redact.mode".to_owned(),
            span: given.span(),
            problem: format!("must be {}", RedactMode::ALL.map(RedactMode::label).join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Reads a key from a file with this text and mode: its fingerprint, or the error.
    fn read(text: &str, mode: u32) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redact-key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let named = RedactConfig { key_file: Some(path), ..RedactConfig::default() };
        let named = read_redact_key(&named, None).map_err(|error| error.to_string())?.unwrap();
        // The same file by systemd's way.
        let found = read_redact_key(&RedactConfig::default(), Some(folder.path())).unwrap().unwrap();
        assert_eq!(named.fingerprint(), found.fingerprint());
        Ok(named.fingerprint())
    }

    #[track_caller]
    fn check_refused(text: &str, mode: u32, part: &str) {
        let message = read(text, mode).unwrap_err();
        assert!(message.contains(part) && !message.contains(text.trim()), "{message}");
    }

    #[test]
    fn a_key_is_read_where_nobody_else_can() {
        let key = new_key().unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(read(&key, 0o600), read(&format!("{key}\n"), 0o400));
        assert_ne!(read(&key, 0o600), read(&new_key().unwrap(), 0o600));
        check_refused(&key, 0o640, "chmod 600");
        check_refused("hunter2", 0o600, "understudy config key");
        check_refused(&key.repeat(100), 0o600, "more than");
    }

    #[test]
    fn a_key_that_is_missing_is_named_and_none_is_none() {
        let named = RedactConfig { key_file: Some("/nowhere/key".into()), ..RedactConfig::default() };
        assert!(read_redact_key(&named, None).unwrap_err().to_string().contains("/nowhere/key"));
        assert!(read_redact_key(&RedactConfig::default(), Some(Path::new("/nowhere"))).unwrap().is_none());
    }
}
