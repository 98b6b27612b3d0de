//! One of several instances on a host: `conf.d/NAME.toml` above the host's file, and the port that its name may be.
//!
//! Knows of no service manager: an instance is a name that the command line gives.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::layers::Layers;

/// The folder of the instances' files, beside the host's file.
const FOLDER: &str = "conf.d";

/// Names that no instance may have: under systemd an instance keeps its state in a folder of its name, and these belong to
/// `understudy-capture.service` and `understudy-replay.service`.
const TAKEN: [&str; 2] = ["capture", "replay"];

/// Most bytes of a name: it is the name of a file, with an ending.
const NAME_BYTES_MAX: usize = 200;

/// The file of an instance of the host's configuration.
pub fn instance_file(config: &Path, name: &str) -> PathBuf {
    config.with_file_name(FOLDER).join(format!("{name}.toml"))
}

/// Puts the instance's file above the host's where there is one, and gives the port that the name is.
pub(super) fn add(
    layers: &mut Layers,
    config: Option<&Path>,
    name: &str,
) -> Result<Option<u16>, ConfigError> {
    let refuse = |problem: String| Err(ConfigError::Instance { name: name.to_owned(), problem });
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || name.contains(['/', '\0']) {
        return refuse("must be a port, or the name of a file without its ending".to_owned());
    }
    if TAKEN.contains(&name) {
        return refuse(format!(
            "would share /var/lib/understudy/{name} with understudy-{name}.service, whose folder that is: call the instance by \
             its port, or by another name, and its file accordingly"
        ));
    }
    let Some(config) = config else {
        return refuse("needs --config FILE, beside which conf.d/ lies".to_owned());
    };
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let port = name.parse::<NonZeroU16>().ok().filter(|_| digits).map(NonZeroU16::get);
    let file = instance_file(config, name);
    if file.exists() {
        layers.read(&file)?;
    } else if port.is_none() {
        return refuse(format!("is no port, and there is no file `{}`", file.display()));
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, load};

    const HOST: &str = "[capture]\nports = [80]\ncpu_max = \"1%\"\n[admin]\nlisten = \"127.0.0.1:1\"\n\
                        [[experiment]]\nname = \"host\"\ncandidate = { url = \"http://127.0.0.1:9\" }\n";

    /// The configuration of instance `name` whose own file says `own`: ports, share of CPU time, names of experiments; or the error.
    fn instance(name: &str, own: Option<&str>) -> Result<(Vec<u16>, f64, Vec<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("understudy.toml");
        std::fs::write(&host, HOST).unwrap();
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        if let Some(own) = own {
            std::fs::write(instance_file(&host, name), own).unwrap();
        }
        let flags = Flags { instance: Some(name.to_owned()), ..Flags::default() };
        let config = load(Some(&host), flags)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))?;
        let names = config.experiments.into_iter().map(|experiment| experiment.name).collect();
        Ok((config.capture.kernel.ports, config.capture.governor.cpu_max, names))
    }

    #[track_caller]
    fn check(name: &str, own: Option<&str>, ports: &[u16], cpu_max: f64, experiments: &[&str]) {
        let experiments: Vec<String> = experiments.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(instance(name, own), Ok((ports.to_vec(), cpu_max, experiments)), "{name}: {own:?}");
    }

    #[track_caller]
    fn check_refused(name: &str, own: Option<&str>, expected: &str) {
        let message = instance(name, own).unwrap_err();
        assert!(message.contains(expected), "{message}\nshould say: {expected}");
    }

    const OWN: &str = "[[experiment]]\nname = \"own\"\ncandidate = { url = \"http://127.0.0.1:8\" }\n";

    #[test]
    fn a_port_is_enough_and_the_own_file_wins() {
        check("8080", None, &[8080], 0.01, &["host"]);
        check("8080", Some(""), &[8080], 0.01, &["host"]);
        check("8080", Some("[capture]\ncpu_max = \"2%\"\n"), &[8080], 0.02, &["host"]);
        check("8080", Some("capture.ports = [81, 82]"), &[81, 82], 0.01, &["host"]);
        check("shop", Some(""), &[80], 0.01, &["host"]);
        check("shop", Some("\u{feff}[capture]\r\nports = [81]\r\n"), &[81], 0.01, &["host"]);
        // A list is one value: the host's experiments are not those of the instance.
        check("8080", Some(OWN), &[8080], 0.01, &["own"]);
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        check_refused(
            "8080",
            Some("\n[capture]\nnice = 20\n"),
            "`/conf.d/8080.toml`, line 3, key `capture.nice`",
        );
        check_refused(
            "8080",
            Some("\n[capture]\nnise = 1\n"),
            "`/conf.d/8080.toml`: TOML parse error at line 3",
        );
        check_refused("8080", Some("[capture\n"), "`/conf.d/8080.toml`: TOML parse error at line 1");
        // What is wrong below is said of the file below.
        let own = "[admin]\nlisten = \"0.0.0.0:9469\"\n";
        check_refused("8080", Some(own), "`/conf.d/8080.toml`, line 2, key `admin.listen`");
        let twice = format!("{OWN}{OWN}");
        check_refused("8080", Some(&twice), "`/conf.d/8080.toml`, line 5, key `experiment.name`");
    }

    #[test]
    fn a_value_below_that_the_upper_file_makes_wrong_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("understudy.toml");
        std::fs::write(&host, "[admin]\nobserve = true\n").unwrap();
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        std::fs::write(instance_file(&host, "shop"), "admin.listen = \"off\"").unwrap();
        let flags = Flags { instance: Some("shop".to_owned()), ..Flags::default() };
        let message = load(Some(&host), flags).unwrap_err().to_string();
        assert!(message.contains("understudy.toml`, line 2, key `admin.observe`"), "{message}");
    }

    #[test]
    fn names_that_are_no_instance_are_refused() {
        check_refused("shop", None, "is no port, and there is no file `/conf.d/shop.toml`");
        check_refused("0", None, "is no port");
        check_refused("+80", None, "is no port");
        check_refused("70000", None, "is no port");
        check_refused("../understudy", None, "must be a port");
        check_refused("", None, "must be a port");
        // A file of that name changes nothing, nor does a name that only begins like one of them.
        check_refused("capture", Some(""), "/var/lib/understudy/capture with understudy-capture.service");
        check_refused("replay", None, "/var/lib/understudy/replay with understudy-replay.service");
        check("replays", Some(""), &[80], 0.01, &["host"]);
        let flags = Flags { instance: Some("8080".to_owned()), ..Flags::default() };
        assert!(load(None, flags).unwrap_err().to_string().contains("needs --config"));
    }
}
