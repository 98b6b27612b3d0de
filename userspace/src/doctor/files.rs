//! The files and programs that a configuration names: whether they are there, and whether a secret is only its owner's.
//!
//! Shows nothing of what a file holds, and runs no program.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{Duties, Finding};
use crate::branch::CredentialSource;
use crate::config;
use crate::pipeline::settings::Config;
use crate::secret::read_private;

/// Largest file with a secret or a certificate.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where systemd puts the credentials of a unit, which nobody else sees (systemd.exec(5), *Credentials*).
const OF_UNITS: &str = "/run/credentials";

const REMEDY: &str = "mend the file, or the key that names it";

/// Everything that is named and not looked at elsewhere: what [queue] names is a matter of Redis.
pub(super) fn examine(config: &Config, duties: Duties) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        redact_key(config, config::credentials_directory().as_deref()).into_iter().collect();
    if let Some(admin) = &config.admin {
        findings.extend(admin.token.iter().map(|path| private("admin.token", path)));
        if let Some(tls) = &admin.tls {
            findings.push(readable("admin.cert", &tls.cert));
            findings.push(private("admin.key", &tls.key));
            findings.extend(tls.client_ca.iter().map(|path| readable("admin.client_ca", path)));
        }
    }
    if duties.replay {
        for experiment in &config.experiments {
            let candidate = ("experiment.candidate.credentials.file", &experiment.candidate);
            let twin = experiment.twin.iter().map(|twin| ("experiment.twin.credentials.file", twin));
            for (key, branch) in std::iter::once(candidate).chain(twin) {
                findings.extend(branch.credentials.iter().filter_map(
                    |credential| match &credential.source {
                        CredentialSource::File(path) => Some(private(key, path)),
                        CredentialSource::Command(_) => None,
                    },
                ));
            }
        }
        let missing = config::missing_programs(config).map(|missing| missing.to_string());
        findings.extend(
            missing.map(|detail| {
                Finding::failure("program", detail, "install it on this host, or mend the key")
            }),
        );
    }
    findings
}

/// The key of redaction, where there is one or should be.
fn redact_key(config: &Config, directory: Option<&Path>) -> Option<Finding> {
    match config::read_redact_key(&config.redact, directory) {
        Ok(Some(key)) => {
            let detail = format!("tokens are made with the key {}", key.fingerprint());
            Some(Finding::ok("redact-key", detail))
        }
        Ok(None) if config.queue.is_some() && config.redact.rules.mode.hides() => Some(Finding::warning(
            "redact-key",
            "there is no key, or none that this user may see: `capture` and `replay` do not start without one",
            "`understudy config key` prints one; all hosts of the fleet need the same",
        )),
        Ok(None) => None,
        Err(error) => Some(Finding::failure("redact-key", super::chain(&error), REMEDY)),
    }
}

/// A file that nobody but its owner may read.
fn private(key: &str, path: &Path) -> Finding {
    named(key, path, read_private(path, FILE_BYTES_MAX).map(drop).map_err(|error| super::chain(&error)))
}

/// A file that anybody may read.
fn readable(key: &str, path: &Path) -> Finding {
    let is_file = |file: File| match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    };
    let looked = File::open(path).and_then(is_file);
    named(key, path, looked.map_err(|error| format!("failed to read `{}`: {error}", path.display())))
}

fn named(key: &str, path: &Path, looked: Result<(), String>) -> Finding {
    match looked {
        Ok(()) => Finding::ok("file", format!("`{key}`: {} can be read", path.display())),
        Err(_) if path.starts_with(OF_UNITS) && !path.exists() => Finding::warning(
            "file",
            format!(
                "`{key}`: {} is there for its unit alone, and cannot be looked at from here",
                path.display()
            ),
            "nothing, if a drop-in of the unit hands it over (LoadCredential=)",
        ),
        Err(why) => Finding::failure("file", format!("`{key}`: {why}"), REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::State;
    use super::*;

    const REPLAY: Duties = Duties { capture: false, replay: true };

    /// Findings over a configuration, in which `FOLDER` is a folder with a file `open` that all can read and a file `own` that
    /// only its owner can.
    #[track_caller]
    fn check(text: &str, duties: Duties, expected: &[(&str, State, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("open", 0o644), ("own", 0o600)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "a secret of enough bytes: 0123456789abcdef").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let text = text.replace("FOLDER", &folder.path().display().to_string());
        let config = config::parse(&text, None, config::Flags::default()).unwrap();
        let findings = examine(&config, duties);
        let fits = |finding: &Finding, (check, state, part): &(&str, State, &str)| {
            finding.check == *check && finding.state == *state && finding.detail.contains(part)
        };
        let all = findings.len() == expected.len() && findings.iter().zip(expected).all(|(a, b)| fits(a, b));
        assert!(all, "{text}\n{findings:#?}\n{expected:?}");
    }

    #[test]
    fn the_key_of_redaction_is_looked_at() {
        check("[redact]\nkey = \"FOLDER/own\"", REPLAY, &[("redact-key", State::Ok, "the key")]);
        check("[redact]\nkey = \"FOLDER/open\"", REPLAY, &[("redact-key", State::Failure, "chmod 600")]);
        check("[redact]\nkey = \"FOLDER/none\"", REPLAY, &[("redact-key", State::Failure, "failed to read")]);
    }

    #[test]
    fn files_of_the_listener_are_looked_at() {
        let listener = "[admin]\ntoken = \"FOLDER/own\"\ncert = \"FOLDER/open\"\nkey = \"FOLDER/open\"\nclient_ca = \"FOLDER\"";
        let expected = [
            ("file", State::Ok, "`admin.token`"),
            ("file", State::Ok, "`admin.cert`"),
            ("file", State::Failure, "`admin.key`: users other than its owner"),
            ("file", State::Failure, "`admin.client_ca`"),
        ];
        check(listener, REPLAY, &expected);
        let of_unit = "[admin]\ntoken = \"/run/credentials/of-no-unit.service/token\"";
        check(of_unit, REPLAY, &[("file", State::Warning, "alone")]);
    }

    #[test]
    fn what_a_candidate_needs_is_looked_at_where_it_is_asked() {
        let text = "[[experiment]]\nname = \"e\"\n[experiment.candidate]\nurl = \"http://127.0.0.1:9\"\n\
                    [[experiment.candidate.credentials]]\nfile = \"FOLDER/none\"\n\
                    [[experiment.candidate.credentials]]\ncommand = [\"FOLDER/none\"]\nheader = \"x-key\"\n\
                    [experiment.compare.comparator]\ncommand = [\"FOLDER/none\"]";
        let expected = [
            ("file", State::Failure, "`experiment.candidate.credentials.file`"),
            ("program", State::Failure, "`experiment.compare.comparator.command`"),
            ("program", State::Failure, "`experiment.candidate.credentials.command`"),
        ];
        check(text, REPLAY, &expected);
        check(text, Duties { capture: true, replay: false }, &[]);
    }
}
