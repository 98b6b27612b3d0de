//! The Debian package: control data, checksums, maintainer scripts.
//!
//! Builds with dpkg-deb alone, which every Debian has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use super::files::Files;
use crate::root;

/// A package to write.
pub(super) struct Package<'a> {
    pub(super) version: String,
    pub(super) architecture: &'static str,
    pub(super) depends: String,
    pub(super) files: &'a Files,
    /// As dpkg-deb calls it.
    pub(super) compression: &'static str,
}

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// The version in Debian's order, where a release candidate comes before the release: `1.0.0~rc.1`.
pub(super) fn version(cargo: &str) -> String {
    cargo.replacen('-', "~", 1)
}

/// Debian's name of the architecture that this runs on.
pub(super) fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("there is no package for {other}"),
    }
}

// === impl Package ===

impl Package<'_> {
    /// Writes it; the same bytes for the same content and `time`.
    pub(super) fn write(&self, sh: &Shell, deb: &Path, time: u64) -> anyhow::Result<()> {
        let Self { version, architecture, depends, files, compression } = self;
        let folder = tempfile::tempdir().context("failed to make a folder for the package")?;
        let tree = folder.path().join("understudy");
        files.write_package(&tree)?;
        let sums = {
            let _in_tree = sh.push_dir(&tree);
            // What may change is nobody's to check.
            let fixed =
                files.package_paths().into_iter().filter(|path| !files.configuration().contains(path));
            let paths: Vec<String> = fixed.map(|path| path.trim_start_matches('/').to_owned()).collect();
            cmd!(sh, "md5sum -- {paths...}").quiet().read()?
        };
        let bytes = cmd!(sh, "du --summarize --apparent-size --block-size=1024 {tree}").quiet().read()?;
        let size = bytes.split_whitespace().next().unwrap_or_default().to_owned();

        let meta = tree.join("DEBIAN");
        fs::create_dir(&meta)?;
        fs::set_permissions(&meta, fs::Permissions::from_mode(0o755))?;
        let source = root().join("deploy/debian");
        let control = fs::read_to_string(source.join("control")).context("failed to read control")?;
        let control = control
            .replace("@VERSION@", version)
            .replace("@ARCHITECTURE@", architecture)
            .replace("@SIZE@", &size)
            .replace("@DEPENDS@", depends);
        write(&meta.join("control"), &control, 0o644)?;
        write(&meta.join("conffiles"), &(files.configuration().join("\n") + "\n"), 0o644)?;
        write(&meta.join("md5sums"), &(sums + "\n"), 0o644)?;
        for script in SCRIPTS {
            let text = fs::read_to_string(source.join(script))
                .with_context(|| format!("failed to read {script}"))?;
            write(&meta.join(script), &text, 0o755)?;
        }
        cmd!(sh, "dpkg-deb --root-owner-group -Z{compression} --build {tree} {deb}")
            // Times that are later become this one (dpkg-deb(1)).
            .env("SOURCE_DATE_EPOCH", time.to_string())
            .quiet()
            .ignore_stdout()
            .run()
            .context("failed to build the package")
    }
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_for_a_release_is_older_than_the_release() {
        assert_eq!(version("0.1.0"), "0.1.0");
        assert_eq!(version("1.0.0-rc.1"), "1.0.0~rc.1");
    }
}
