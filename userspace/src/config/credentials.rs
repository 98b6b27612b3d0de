//! `[experiment.candidate.credentials]` word by word, and its check.
//!
//! Opens no file and runs no program: whoever checks a configuration may have the right to neither.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::error::Fault;
use super::raw::{set, set_duration};
use crate::branch::credentials::may_carry_credential;
use crate::branch::{CredentialConfig, CredentialSource};

/// One credential, or several.
#[derive(Debug, Default)]
pub(super) struct RawCredentials(Vec<RawCredential>);

/// `[experiment.candidate.credentials]`, or one of `[[experiment.candidate.credentials]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    file: Option<Spanned<PathBuf>>,
    command: Option<Spanned<Vec<String>>>,
    header: Option<Spanned<String>>,
    prefix: Option<Spanned<String>>,
    always: Option<bool>,
    wait_max: Option<Spanned<String>>,
    refresh_min: Option<Spanned<String>>,
    refresh: Option<Spanned<String>>,
}

/// Reads a table as a list of one.
struct OneOrMany;

/// The field that most candidates look at.
const HEADER_DEFAULT: &str = "authorization";

/// What stands there before a token (RFC 6750 section 2.1).
const PREFIX_DEFAULT: &str = "Bearer ";

/// Fields that one candidate may need.
const CREDENTIALS_MAX: usize = 8;

// === impl RawCredentials ===

impl<'de> Deserialize<'de> for RawCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

impl RawCredentials {
    /// All of them. `part`: whose they are; `span`: where that stands.
    pub(super) fn finish(
        self,
        part: &str,
        span: &std::ops::Range<usize>,
    ) -> Result<Vec<CredentialConfig>, Fault> {
        let mut all: Vec<CredentialConfig> = Vec::new();
        for raw in self.0 {
            let config = raw.finish(part, span)?;
            let again = all.iter().any(|other| other.header.eq_ignore_ascii_case(&config.header));
            if again || all.len() >= CREDENTIALS_MAX {
                let problem = format!(
                    "must name at most {CREDENTIALS_MAX} fields, and each once, not `{}` again",
                    config.header
                );
                let key = format!("experiment.{part}.credentials");
                return Err(Fault { key, span: span.clone(), problem });
            }
            all.push(config);
        }
        Ok(all)
    }
}

// === impl RawCredential ===

impl RawCredential {
    fn finish(self, part: &str, span: &std::ops::Range<usize>) -> Result<CredentialConfig, Fault> {
        let key = |key: &str| format!("experiment.{part}.credentials{key}");
        let fault = |name: &str, span: std::ops::Range<usize>, problem: &str| Fault {
            key: key(name),
            span,
            problem: problem.to_owned(),
        };
        let source = match (self.file, self.command) {
            (Some(file), None) => CredentialSource::File(file.into_inner()),
            (None, Some(command)) => {
                if !command.get_ref().first().is_some_and(|program| program.starts_with('/')) {
                    let problem = "must be a list that begins with the absolute path of a program";
                    return Err(fault(".command", command.span(), problem));
                }
                CredentialSource::Command(command.into_inner())
            }
            (Some(_), Some(command)) => {
                return Err(fault(".command", command.span(), "give `file` or `command`, not both"));
            }
            (None, None) => {
                let problem = "needs `file`, or `command`, which says where the credential comes from";
                return Err(fault("", span.clone(), problem));
            }
        };
        let header = self.header.unwrap_or_else(|| Spanned::new(0..0, HEADER_DEFAULT.to_owned()));
        if !may_carry_credential(header.get_ref()) {
            let problem = "must be the name of a field of requests that does not belong to the connection, \
                           the framing or the address";
            return Err(fault(".header", header.span(), problem));
        }
        let header = header.into_inner().to_ascii_lowercase();
        let prefix = match self.prefix {
            Some(prefix) if !prefix.get_ref().bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
                return Err(fault(".prefix", prefix.span(), "must be printable ASCII"));
            }
            Some(prefix) => prefix.into_inner(),
            None if header == HEADER_DEFAULT => PREFIX_DEFAULT.to_owned(),
            None => String::new(),
        };
        let mut config = CredentialConfig {
            source,
            header,
            prefix,
            always: false,
            wait_max: Duration::from_secs(10),
            refresh_min: Duration::from_secs(10),
            refresh: None,
        };
        set(&mut config.always, self.always);
        set_duration(&mut config.wait_max, &key(".wait_max"), self.wait_max.as_ref())?;
        set_duration(&mut config.refresh_min, &key(".refresh_min"), self.refresh_min.as_ref())?;
        if let Some(refresh) = &self.refresh {
            let mut every = Duration::ZERO;
            set_duration(&mut every, &key(".refresh"), Some(refresh))?;
            if every < config.refresh_min {
                let problem = "must not be shorter than `refresh_min`";
                return Err(fault(".refresh", refresh.span(), problem));
            }
            config.refresh = Some(every);
        }
        Ok(config)
    }
}

// === impl OneOrMany ===

impl<'de> Visitor<'de> for OneOrMany {
    type Value = RawCredentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with `file` or `command`, or a list of such")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawCredentials, A::Error> {
        Ok(RawCredentials(vec![RawCredential::deserialize(MapAccessDeserializer::new(map))?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawCredentials, A::Error> {
        Ok(RawCredentials(Vec::deserialize(SeqAccessDeserializer::new(list))?))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Flags, parse};

    /// The credentials of a candidate with these lines, which begin at line 4; the error as text.
    fn credentials(lines: &str) -> Result<Vec<CredentialConfig>, String> {
        let text = format!(
            "[[experiment]]\nname = \"x\"\n[experiment.candidate]\n{lines}\nurl = \"http://127.0.0.1:9\"\n"
        );
        let parsed = parse(&text, Some(Path::new("u.toml")), Flags::default());
        parsed
            .map(|config| config.experiments[0].candidate.credentials.clone())
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(lines: &str, expected: Result<&[(&str, &str)], &str>) {
        match (credentials(lines), expected) {
            (Ok(all), Ok(expected)) => {
                let got: Vec<_> = all.iter().map(|one| (&one.header[..], &one.prefix[..])).collect();
                assert_eq!(got, expected, "{lines}");
            }
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}\nshould say: {part}"),
            (got, expected) => panic!("{lines}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn one_or_several_fields_come_from_files_and_programs() {
        check("", Ok(&[]));
        check("credentials = { file = \"/t\" }", Ok(&[("authorization", "Bearer ")]));
        check("credentials = { file = \"/t\", header = \"X-Api-Key\" }", Ok(&[("x-api-key", "")]));
        check(
            "credentials = { command = [\"/bin/t\", \"a\"], prefix = \"Basic \" }",
            Ok(&[("authorization", "Basic ")]),
        );
        let two =
            "credentials = [{ file = \"/t\" }, { file = \"/k\", header = \"x-api-key\", prefix = \"k:\" }]";
        check(two, Ok(&[("authorization", "Bearer "), ("x-api-key", "k:")]));
        let times = "credentials = { file = \"/t\", always = true, wait_max = \"1s\", refresh_min = \"2s\", refresh = \"1h\" }";
        let [one] = &credentials(times).unwrap()[..] else { panic!("there is one") };
        let [wait_max, refresh_min, refresh] = [1, 2, 3600].map(Duration::from_secs);
        assert!(one.always);
        assert_eq!((one.wait_max, one.refresh_min, one.refresh), (wait_max, refresh_min, Some(refresh)));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_line() {
        let at = "line 4, key `experiment.candidate.credentials";
        check("credentials = { file = \"/t\", command = [\"/c\"] }", Err(&format!("{at}.command`: give")));
        check("credentials = { command = [\"c\"] }", Err(&format!("{at}.command`: must be a list")));
        check("credentials = { command = [] }", Err(&format!("{at}.command`: must be a list")));
        for header in ["host", "content-length", "connection", "a b", "", "understudy-replay"] {
            let lines = format!("credentials = {{ file = \"/t\", header = {header:?} }}");
            check(&lines, Err(&format!("{at}.header`")));
        }
        check("credentials = { file = \"/t\", prefix = \"a\\n\" }", Err(&format!("{at}.prefix`")));
        check("credentials = { file = \"/t\", wait_max = \"soon\" }", Err(&format!("{at}.wait_max`")));
        check("credentials = { file = \"/t\", refresh = \"1s\" }", Err(&format!("{at}.refresh`")));
        check("credentials = { }", Err("credentials`: needs `file`"));
        check("credentials = [{ file = \"/t\" }, { file = \"/u\" }]", Err("each once"));
        // A secret in the configuration is none any more; it is not repeated either.
        check("credentials = { token = \"x\" }", Err("unknown field `token`"));
        check("credentials = \"x\"", Err("a table with `file` or `command`"));
    }
}
