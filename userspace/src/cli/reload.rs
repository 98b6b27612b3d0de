//! What `systemctl reload` needs of the commands that run: they read their file again at SIGHUP, and `config check`, which the
//! unit runs behind that signal, fails when the file says what takes a restart.
//!
//! Asks the running process nothing, which may have no admin listener: a service keeps a copy of the files that it was
//! started with among its state. What can change while it runs is left out of the comparison, so that the copy stays true.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::output;
use crate::config::{self, Flags};
use crate::pipeline::reload::{Load, Reloads, listed, restart_keys};
use crate::pipeline::settings::Config;

/// Folder of the copy, within that of the unit's state.
const FOLDER: &str = "started";

/// Reads the file again at each SIGHUP. Must be called within a runtime.
pub(super) fn at_hangup(path: PathBuf, flags: Flags) -> anyhow::Result<Reloads> {
    let load: Load = Box::new(move || Ok(config::load(Some(&path), flags.clone())?));
    Reloads::at_hangup(load).context("signals cannot be received")
}

/// Keeps a copy of the files that this configuration was read from, where systemd started this process. Without one, a
/// reload fails for what is wrong only.
pub(super) fn keep_started(path: &Path, flags: &Flags, config: &Config) {
    if variable("NOTIFY_SOCKET").is_none() {
        return;
    }
    let Some(state) = state_folder() else { return };
    let folder = state.join(FOLDER);
    let instance = flags.instance.as_deref();
    let is_true = |kept: &PathBuf| {
        let again = config::load(Some(kept), flags.clone());
        // Somebody may have written to the files since they were read.
        again.is_ok_and(|again| restart_keys(config, &again).is_empty())
    };
    match copy(path, instance, &folder) {
        Ok(kept) if is_true(&kept) => {}
        Ok(_) => {
            tracing::warn!(
                "The configuration changed while it was read; a reload may not name what takes a restart."
            );
            drop(fs::remove_dir_all(&folder));
        }
        Err(error) => tracing::warn!(
            %error,
            folder = %folder.display(),
            "The configuration cannot be kept; a reload will not name what takes a restart."
        ),
    }
}

/// Fails when this process belongs to a reload of systemd, and the running one cannot take what the file says now.
pub(super) fn check_running(path: &Path, instance: Option<&str>, new: &Config) -> anyhow::Result<()> {
    // Set for what a unit runs beside its main process (systemd.exec(5)), and so not before that is there.
    let (Some(_), Some(state)) = (variable("MAINPID"), state_folder()) else { return Ok(()) };
    let Some(name) = path.file_name() else { return Ok(()) };
    let kept = state.join(FOLDER).join(name);
    if !kept.exists() {
        return Ok(());
    }
    let flags = Flags { instance: instance.map(str::to_owned), ..Flags::default() };
    match config::load(Some(&kept), flags) {
        Ok(running) => {
            let keys = restart_keys(&running, new);
            if !keys.is_empty() {
                bail!(
                    "{} is good, but the service that runs cannot take it and keeps what it has: {} cannot change while it \
                     runs; restart it to take all of the file",
                    path.display(),
                    listed(&keys)
                );
            }
        }
        Err(error) => {
            output::complain(&format!("note: what the service was started with is not known: {error}"))
        }
    }
    Ok(())
}

/// Copies the file, and that of the instance where there is one, in the place of an older copy. Gives the copy of the first.
fn copy(path: &Path, instance: Option<&str>, folder: &Path) -> io::Result<PathBuf> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let kept = folder.join(name);
    let own = instance
        .map(|instance| (config::instance_file(path, instance), config::instance_file(&kept, instance)));
    let own = own.filter(|(own, _)| own.exists());
    for (from, to) in std::iter::once((path.to_owned(), kept.clone())).chain(own) {
        if let Some(parent) = to.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let text = fs::read(&from)?;
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?.write_all(&text)?;
    }
    Ok(kept)
}

/// The folder of the unit's state (systemd.exec(5), `StateDirectory=`); the first, where there are several.
fn state_folder() -> Option<PathBuf> {
    let folders = variable("STATE_DIRECTORY")?;
    let first = folders.to_str()?.split(':').next()?;
    Some(PathBuf::from(first)).filter(|folder| folder.is_absolute())
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_copy_is_what_was_read_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (folder.path().join("understudy.toml"), folder.path().join("state"));
        let own = config::instance_file(&host, "shop");
        fs::create_dir(own.parent().unwrap()).unwrap();
        fs::write(&host, "[capture]\nports = [80]\n").unwrap();
        fs::write(&own, "[capture]\nports = [81]\n").unwrap();
        for instance in [Some("shop"), None] {
            let kept = copy(&host, instance, &state).unwrap();
            let flags = Flags { instance: instance.map(str::to_owned), ..Flags::default() };
            let (read, again) = (config::load(Some(&host), flags.clone()), config::load(Some(&kept), flags));
            assert_eq!(read.unwrap(), again.unwrap(), "{instance:?}");
            assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
            // What another instance left behind is gone.
            assert_eq!(config::instance_file(&kept, "shop").exists(), instance.is_some());
        }
    }
}
