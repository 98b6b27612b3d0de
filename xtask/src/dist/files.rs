//! What is in the artefacts, where it comes from, and where it goes: into the package, into the archive, or into both.
//!
//! Knows no package format.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use flate2::{Compression, GzBuilder};
use xshell::{Shell, cmd};

use crate::root;

/// Everything, in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    list: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    /// Its path in the package, below the root of the system; none where it is in the archive only.
    package: Option<String>,
    /// Its path in the archive; none where it is in the package only.
    archive: Option<String>,
    bytes: Vec<u8>,
    mode: u32,
}

const DOC: &str = "usr/share/doc/understudy";

/// The folder of configuration. What the package puts there is the administrator's from then on.
const CONFIG: &str = "etc/understudy";

/// Pages at the root of the repository, which lie beside the others in the package.
const ROOT_PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// How links of pages change with the places of what they lead to: in the package, and in the archive.
const PACKAGE_LINKS: [(&str, &str); 2] = [("](docs/", "]("), ("](../deploy/config/", "](examples/")];
const ARCHIVE_LINKS: [(&str, &str); 1] = [("](../deploy/config/", "](../config/")];

/// Folders that are in the package though they are empty.
const EMPTY: [&str; 1] = ["etc/understudy/conf.d"];

// === impl Files ===

impl Files {
    /// Everything: the program, manual pages and completions from `manual`, licences, and what lies in `deploy` and `docs`.
    ///
    /// # Errors
    /// When something is not there.
    pub(super) fn collect(program: &Path, manual: &Path, licenses: &str) -> anyhow::Result<Self> {
        let mut files = Self::default();
        let deploy = root().join("deploy");
        files.put("usr/bin/understudy", "bin/understudy", fs::read(program)?, 0o755);
        for (folder, ending, package, archive) in [
            ("systemd", "service", "usr/lib/systemd/system", "systemd"),
            ("prometheus", "yml", "usr/share/understudy/prometheus", "prometheus"),
            ("grafana", "json", "usr/share/understudy/grafana", "grafana"),
            ("config", "toml", "usr/share/doc/understudy/examples", "config"),
        ] {
            files.put_all(&deploy.join(folder), ending, package, archive)?;
        }
        files.put_package(
            &format!("{CONFIG}/understudy.toml"),
            fs::read(deploy.join("config/understudy.toml"))?,
        );
        for (path, name) in list(manual, "1")? {
            files.put_package(&format!("usr/share/man/man1/{name}.gz"), gzip(&fs::read(&path)?)?);
            files.put_archive(&format!("man/man1/{name}"), fs::read(&path)?);
        }
        for (name, place) in [
            ("understudy.bash", "usr/share/bash-completion/completions/understudy"),
            ("_understudy", "usr/share/zsh/vendor-completions/_understudy"),
            ("understudy.fish", "usr/share/fish/vendor_completions.d/understudy.fish"),
        ] {
            files.put(place, &format!("completions/{name}"), fs::read(manual.join(name))?, 0o644);
        }
        let docs = root().join("docs");
        files.put_pages(&docs)?;
        files.put_all(&docs, "json", DOC, "docs")?;
        for ending in ["py", "rb"] {
            files.put_all(&docs.join("examples"), ending, &format!("{DOC}/examples"), "docs/examples")?;
        }
        files.put_package(&format!("{DOC}/copyright"), fs::read(deploy.join("debian/copyright"))?);
        files.put_package(&format!("{DOC}/changelog.gz"), gzip(&fs::read(deploy.join("debian/changelog"))?)?);
        files.put_package(&format!("{DOC}/THIRD-PARTY-LICENSES.gz"), gzip(licenses.as_bytes())?);
        files.put_archive("THIRD-PARTY-LICENSES", licenses.as_bytes().to_vec());
        for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
            files.put_archive(name, fs::read(root().join(name))?);
        }
        files.check_links()?;
        Ok(files)
    }

    /// Every link of a page leads to another file of the same artefact, or out of it by a whole address.
    fn check_links(&self) -> anyhow::Result<()> {
        let places: [fn(&File) -> Option<&String>; 2] =
            [|file| file.package.as_ref(), |file| file.archive.as_ref()];
        for place in places {
            let paths: BTreeSet<&Path> = self.list.iter().filter_map(place).map(Path::new).collect();
            for file in &self.list {
                let Some(page) = place(file).filter(|path| path.ends_with(".md")) else { continue };
                let text = String::from_utf8_lossy(&file.bytes);
                let broken = links(&text).find(|link| !paths.contains(resolved(page, link).as_path()));
                if let Some(link) = broken {
                    bail!("`{page}` has a link to `{link}`, and nothing is there");
                }
            }
        }
        Ok(())
    }

    /// The same with other bytes of one file of the package.
    ///
    /// # Errors
    /// When there is no such file.
    pub(super) fn with(mut self, package: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        let file = self.list.iter_mut().find(|file| file.package.as_deref() == Some(package));
        file.with_context(|| format!("the package has no `{package}`"))?.bytes = bytes.to_vec();
        Ok(self)
    }

    /// Writes the package's files below a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write_package(&self, folder: &Path) -> anyhow::Result<()> {
        for empty in EMPTY {
            make_folder(&folder.join(empty))?;
        }
        let files = self.list.iter().filter_map(|file| Some((file.package.as_ref()?, file)));
        files.into_iter().try_for_each(|(path, file)| file.write(&folder.join(path)))
    }

    /// Writes the archive; everything in it lies below the folder `name`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write_archive(
        &self,
        sh: &Shell,
        archive: &Path,
        name: &str,
        time: u64,
    ) -> anyhow::Result<()> {
        let above = tempfile::tempdir().context("failed to make a folder for the archive")?;
        for file in &self.list {
            if let Some(path) = &file.archive {
                file.write(&above.path().join(name).join(path))?;
            }
        }
        let (above, mtime) = (above.path(), format!("--mtime=@{time}"));
        cmd!(sh, "tar --create --file={archive} --use-compress-program")
            .arg("gzip -9n")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", &mtime, "--directory"])
            .args([above, Path::new(name)])
            .quiet()
            .run()
            .context("failed to write the archive")
    }

    /// Paths in the package, with a slash before them.
    pub(super) fn package_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> =
            self.list.iter().filter_map(|file| Some(format!("/{}", file.package.as_ref()?))).collect();
        paths.sort();
        paths
    }

    /// Those that are the administrator's: an upgrade keeps what he changed (dpkg, conffiles).
    pub(super) fn configuration(&self) -> Vec<String> {
        let in_config = |path: &String| path.starts_with("/etc/");
        self.package_paths().into_iter().filter(in_config).collect()
    }

    fn put_all(&mut self, folder: &Path, ending: &str, package: &str, archive: &str) -> anyhow::Result<()> {
        if !folder.is_dir() {
            eprintln!("dist: {} is not there and left out", folder.display());
            return Ok(());
        }
        for (path, name) in list(folder, ending)? {
            let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            self.put(&format!("{package}/{name}"), &format!("{archive}/{name}"), bytes, 0o644);
        }
        Ok(())
    }

    /// The pages of the documentation, with links that hold where they are put.
    fn put_pages(&mut self, docs: &Path) -> anyhow::Result<()> {
        let mut pages: Vec<(PathBuf, String, String)> = Vec::new();
        for (path, name) in list(docs, "md")? {
            pages.push((path, format!("docs/{name}"), name));
        }
        for name in ROOT_PAGES {
            pages.push((root().join(name), name.to_owned(), name.to_owned()));
        }
        for (path, archive, name) in pages {
            let text =
                fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            self.put_package(&format!("{DOC}/{name}"), relinked(&text, &PACKAGE_LINKS).into_bytes());
            self.put_archive(&archive, relinked(&text, &ARCHIVE_LINKS).into_bytes());
        }
        Ok(())
    }

    fn put(&mut self, package: &str, archive: &str, bytes: Vec<u8>, mode: u32) {
        let (package, archive) = (Some(package.to_owned()), Some(archive.to_owned()));
        self.list.push(File { package, archive, bytes, mode });
    }

    fn put_package(&mut self, package: &str, bytes: Vec<u8>) {
        self.list.push(File { package: Some(package.to_owned()), archive: None, bytes, mode: 0o644 });
    }

    fn put_archive(&mut self, archive: &str, bytes: Vec<u8>) {
        self.list.push(File { package: None, archive: Some(archive.to_owned()), bytes, mode: 0o644 });
    }
}

// === impl File ===

impl File {
    fn write(&self, path: &Path) -> anyhow::Result<()> {
        make_folder(path.parent().unwrap_or(path))?;
        fs::write(path, &self.bytes).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(self.mode))?)
    }
}

/// A page whose links begin otherwise.
fn relinked(text: &str, links: &[(&str, &str)]) -> String {
    links.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The files that a page of Markdown has links to, as they stand there.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let files = targets.map(|target| target.split_once('#').map_or(target, |(file, _)| file));
    files.filter(|file| !file.is_empty() && !file.contains(':'))
}

/// The path of a link of this page.
fn resolved(page: &str, link: &str) -> PathBuf {
    let mut path = Path::new(page).parent().map(Path::to_owned).unwrap_or_default();
    for part in link.split('/') {
        match part {
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

/// Files of a folder with this ending, and their names.
fn list(folder: &Path, ending: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|have| have == ending)
            && let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned)
        {
            found.push((path, name));
        }
    }
    ensure!(!found.is_empty(), "{} has no file that ends in .{ending}", folder.display());
    found.sort();
    Ok(found)
}

/// Makes a folder, and those above it, for everybody to read, whatever the umask.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    fs::create_dir(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?)
}

/// Without a time in it.
fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    out.write_all(bytes)?;
    Ok(out.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(page: &str, text: &str, expected: &[&str]) {
        let found: Vec<PathBuf> = links(text).map(|link| resolved(page, link)).collect();
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(found, expected, "{page}: {text}");
    }

    #[test]
    fn links_are_files_of_the_same_artefact() {
        check("doc/guide.md", "see [a](a.md) and [b](sub/b.md#part)", &["doc/a.md", "doc/sub/b.md"]);
        check(
            "doc/guide.md",
            "[up](../config/c.toml), [here](#part), [far](https://example.invalid/)",
            &["config/c.toml"],
        );
        check("README.md", "nothing", &[]);
    }

    #[test]
    fn links_follow_what_they_lead_to() {
        let text = "[a](docs/a.md) [b](../deploy/config/b.toml) [c](c.md)";
        assert_eq!(relinked(text, &PACKAGE_LINKS), "[a](a.md) [b](examples/b.toml) [c](c.md)");
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        let mut files = Files::default();
        files.put("usr/a.md", "a.md", b"[b](b.md)".to_vec(), 0o644);
        let message = files.check_links().unwrap_err().to_string();
        assert!(message.contains("`usr/a.md` has a link to `b.md`"), "{message}");
        files.put("usr/b.md", "b.md", b"[a](a.md#there)".to_vec(), 0o644);
        assert!(files.check_links().is_ok());
    }
}
