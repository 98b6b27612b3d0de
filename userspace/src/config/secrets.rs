//! Looks at what the configuration only names: the password of Redis, certificates, programs.
//!
//! Shows no secret in an error, and takes none from a file that others can read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::branch::{CredentialSource, HttpBranchConfig};
use crate::pipeline::settings::{Config, QueueAccess};
use crate::queue::redis::RedisConfig;
use crate::queue::redis::config::{Credentials, Pem, Tls};
use crate::secret::is_exposed;

/// Why a file that the configuration names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("failed to read `{}`, which `{key}` under [queue] names", path.display())]
    Read {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read or change it.
    #[error("users other than its owner can read or change `{}`, which holds a secret; run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It says something else than user and password. What it says is not repeated.
    #[error("`{}` must hold the lines `user = \"...\"` (may be left out) and `password = \"...\"`, and nothing else", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than such a file is.
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredentials {
    user: Option<String>,
    password: String,
}

/// Largest file with a secret or certificates; a list of all authorities of a system takes a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What systemd calls the credential (`LoadCredential=redis:/etc/…`).
const SYSTEMD_NAME: &str = "redis";

/// Where systemd finds the credentials of our units (`LoadCredential=redis:understudy.redis`, systemd.exec(5)).
const CREDSTORE: &str = "/etc/credstore";

/// The file of a credential: as systemd hands it over in `directory`; or, for who types a command without systemd and may
/// read it, where systemd would find it for our units.
pub(super) fn credential(directory: Option<&Path>, name: &str) -> Option<PathBuf> {
    credential_of(directory, Path::new(CREDSTORE), name)
}

/// The same where systemd would look into `store`.
pub(super) fn credential_of(directory: Option<&Path>, store: &Path, name: &str) -> Option<PathBuf> {
    let file = match directory {
        Some(directory) => directory.join(name),
        None => store.join(format!("understudy.{name}")),
    };
    file.exists().then_some(file)
}

/// Systemd's folder of credentials for this service, if there is one.
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// A program that an experiment names and that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` of `{experiment}` names `{program}`, which is no program of this host")]
pub struct MissingProgram<'c> {
    /// The key that names it.
    pub key: &'static str,
    /// The experiment.
    pub experiment: &'c str,
    /// The program.
    pub program: &'c str,
}

/// The programs that experiments name and that are not there. Looked for as the kernel and `execvp` do, on this host and now.
pub fn missing_programs(config: &Config) -> impl Iterator<Item = MissingProgram<'_>> {
    config.experiments.iter().flat_map(|experiment| {
        let comparator = experiment.comparator.iter().map(|comparator| &comparator.command);
        let comparator = comparator.map(|command| ("experiment.compare.comparator.command", command));
        let candidate = commands("experiment.candidate.credentials.command", &experiment.candidate);
        let twin = experiment.twin.iter();
        let twin = twin.flat_map(|twin| commands("experiment.twin.credentials.command", twin));
        comparator.chain(candidate).chain(twin).filter_map(|(key, command)| {
            let program = command.first().filter(|program| !is_program(program))?;
            Some(MissingProgram { key, experiment: &experiment.name, program })
        })
    })
}

/// The commands that give this branch its credentials, with their key.
fn commands<'b>(
    key: &'static str,
    branch: &'b HttpBranchConfig,
) -> impl Iterator<Item = (&'static str, &'b Vec<String>)> {
    branch.credentials.iter().filter_map(move |credential| match &credential.source {
        CredentialSource::Command(command) => Some((key, command)),
        CredentialSource::File(_) => None,
    })
}

fn is_program(program: &str) -> bool {
    let runs = |path: &Path| fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0);
    if program.contains('/') {
        return runs(Path::new(program));
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| runs(&folder.join(program)))
}

/// Reads the files. `directory` is systemd's `$CREDENTIALS_DIRECTORY` (systemd.exec(5)), which only the service can read.
///
/// # Errors
/// Names the file and what to do.
pub fn read_access(access: &QueueAccess, directory: Option<&Path>) -> Result<RedisConfig, SecretError> {
    let QueueAccess {
        servers,
        mode,
        database,
        tls,
        credentials,
        ca,
        client,
        connect_wait_max,
        answer_wait_max,
    } = access;
    let systemd = credential(directory, SYSTEMD_NAME);
    let credentials =
        credentials.as_ref().or(systemd.as_ref()).map(|path| read_credentials(path)).transpose()?;
    let tls = match tls {
        true => Some(Tls {
            ca: ca.as_ref().map(|path| read_pem("ca", path)).transpose()?,
            client: match client {
                Some((cert, key)) => {
                    let cert = read_pem("client_cert", cert)?;
                    must_be_private("client_key", key)?;
                    Some((cert, read_pem("client_key", key)?))
                }
                None => None,
            },
        }),
        false => None,
    };
    Ok(RedisConfig {
        servers: servers.clone(),
        mode: mode.clone(),
        database: *database,
        credentials,
        tls,
        connect_wait_max: *connect_wait_max,
        answer_wait_max: *answer_wait_max,
        ..RedisConfig::default()
    })
}

fn read_credentials(path: &Path) -> Result<Credentials, SecretError> {
    must_be_private("credentials", path)?;
    let form = || SecretError::Form { path: path.to_owned() };
    let text = String::from_utf8(read("credentials", path)?).ok().ok_or_else(form)?;
    // The parser's message would repeat the line, and with it the password.
    let raw: RawCredentials = toml::from_str(&text).ok().ok_or_else(form)?;
    let RawCredentials { user, password } = raw;
    Ok(Credentials { user, password })
}

fn read_pem(key: &'static str, path: &Path) -> Result<Pem, SecretError> {
    Ok(Pem { name: path.display().to_string(), text: read(key, path)? })
}

fn must_be_private(key: &'static str, path: &Path) -> Result<(), SecretError> {
    let read = |source| SecretError::Read { key, path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(read)?.mode();
    if is_exposed(path, mode) { Err(SecretError::Exposed { path: path.to_owned() }) } else { Ok(()) }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { key, path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(SecretError::TooLarge { path: path.to_owned(), limit: FILE_BYTES_MAX });
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Reads credentials with this text and mode; the error as text.
    fn credentials(text: &str, mode: u32) -> Result<Credentials, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redis");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let access = QueueAccess { credentials: Some(path), ..QueueAccess::default() };
        let named = read_access(&access, None).map_err(|error| error.to_string())?.credentials;
        // The same file by systemd's way.
        let found = read_access(&QueueAccess::default(), Some(folder.path())).unwrap().credentials;
        assert_eq!(named, found);
        Ok(named.unwrap())
    }

    #[track_caller]
    fn check(text: &str, mode: u32, expected: Result<(Option<&str>, &str), &str>) {
        match (credentials(text, mode), expected) {
            (Ok(Credentials { user, password }), Ok(expected)) => {
                assert_eq!((user.as_deref(), password.as_str()), expected);
            }
            (Err(message), Err(part)) => {
                assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
            }
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn credentials_are_read_where_nobody_else_can() {
        check("password = \"hunter2\"", 0o600, Ok((None, "hunter2")));
        check("user = \"capture\"\npassword = \"hunter2\"", 0o400, Ok((Some("capture"), "hunter2")));
        check("password = \"hunter2\"", 0o640, Err("chmod 600"));
        check("password = \"hunter2\"", 0o604, Err("chmod 600"));
    }

    #[test]
    fn other_files_are_refused_without_being_shown() {
        check("hunter2", 0o600, Err("must hold the lines"));
        check("password = hunter2", 0o600, Err("must hold the lines"));
        check("user = \"hunter2\"", 0o600, Err("must hold the lines"));
        check(&"#hunter2\n".repeat(200_000), 0o600, Err("more than"));
    }

    #[test]
    fn a_credential_is_found_within_its_unit_and_by_who_types_a_command() {
        let (unit, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let find = |directory| credential_of(directory, store.path(), "admin-token");
        assert_eq!((find(None), find(Some(unit.path()))), (None, None));
        let (within, without) =
            (unit.path().join("admin-token"), store.path().join("understudy.admin-token"));
        fs::write(&without, "").unwrap();
        // A unit has what it was handed, and nothing else.
        assert_eq!((find(None), find(Some(unit.path()))), (Some(without.clone()), None));
        fs::write(&within, "").unwrap();
        assert_eq!((find(None), find(Some(unit.path()))), (Some(without), Some(within)));
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_key() {
        let check = |place: &str, expected: &[&str]| {
            let text = format!(
                "[[experiment]]\nname = \"e\"\n[experiment.candidate]\nurl = \"http://127.0.0.1:9\"\n{place}\n"
            );
            let config = crate::config::parse(&text, None, crate::config::Flags::default()).unwrap();
            let keys: Vec<_> = missing_programs(&config).map(|missing| missing.key).collect();
            assert_eq!(keys, expected, "{text}");
        };
        check("", &[]);
        check("[experiment.candidate.credentials]\ncommand = [\"/bin/sh\"]", &[]);
        check(
            "[experiment.candidate.credentials]\ncommand = [\"/nowhere/x\"]",
            &["experiment.candidate.credentials.command"],
        );
        check(
            "[experiment.twin]\nurl = \"http://127.0.0.1:8\"\ncredentials = { command = [\"/nowhere/x\"] }",
            &["experiment.twin.credentials.command"],
        );
        check(
            "[experiment.compare.comparator]\ncommand = [\"/nowhere/x\"]",
            &["experiment.compare.comparator.command"],
        );
    }

    #[test]
    fn a_file_that_is_missing_is_named_with_its_key() {
        let access =
            QueueAccess { credentials: Some("/nowhere/redis.toml".into()), ..QueueAccess::default() };
        let message = read_access(&access, None).unwrap_err().to_string();
        assert!(message.contains("/nowhere/redis.toml") && message.contains("`credentials`"), "{message}");
        assert_eq!(
            read_access(&QueueAccess::default(), Some(Path::new("/nowhere"))).unwrap().credentials,
            None
        );
    }
}
