//! `cargo xtask tidy`: what ARCHITECTURE.md and the style promise, and no compiler checks.
//!
//! Changes no file. Each finding says where, what, and what to do about it.

mod dependencies;
mod imports;
mod source;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::root;
use source::Source;

/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: [&str; 5] = ["target", ".git", "corpus", "artifacts", "proptest-regressions"];
/// Files that are read as text.
const TEXT_ENDINGS: [&str; 9] = ["rs", "toml", "md", "sh", "yml", "yaml", "json", "service", "html"];

/// What lies at the top. Everything else was left there by accident, and may hold a secret.
const TOP: [&str; 17] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "docs",
    "ebpf-program",
    "rustfmt.toml",
    "target",
    "tests",
    "userspace",
    "xtask",
];

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: PathBuf,
    /// From 1.
    line: usize,
    message: String,
}

/// Checks the repository.
///
/// # Errors
/// When something is not as it should be; each finding stands on its own line of the message.
pub(crate) fn run() -> anyhow::Result<()> {
    let (files, findings) = check(root())?;
    if !findings.is_empty() {
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        bail!("tidy: {} findings\n{}", lines.len(), lines.join("\n"));
    }
    eprintln!("tidy: {files} files are as they should be");
    Ok(())
}

/// The number of files, and what is wrong with them, in the order of the files.
fn check(root: &Path) -> anyhow::Result<(usize, Vec<Finding>)> {
    let mut paths = Vec::new();
    walk(root, root, &mut paths)?;
    paths.sort();
    let mut findings = top(root)?;
    let mut sources = Vec::new();
    let mut manifests = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(root.join(path))
            .with_context(|| format!("failed to read {}", path.display()))?;
        findings.extend(text::check(path, &text));
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("rs") => sources.push(Source::parse(path, &text)?),
            Some("toml") if path.ends_with("Cargo.toml") => manifests.push((path.clone(), text)),
            Some(_) | None => {}
        }
    }
    for source in &sources {
        findings.extend(source.forbidden());
        findings.extend(imports::check(source));
    }
    findings.extend(dependencies::check(&manifests, &sources)?);
    findings.sort();
    findings.dedup();
    Ok((paths.len(), findings))
}

/// Finds what does not belong at the top.
fn top(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("failed to list {}", root.display()))? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !TOP.contains(&&*name) {
            findings.push(Finding::new(
                Path::new(&*name),
                1,
                "does not belong at the top: put it elsewhere, or delete it",
            ));
        }
    }
    Ok(findings)
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_ref()) {
                walk(root, &path, paths)?;
            }
            continue;
        }
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| TEXT_ENDINGS.contains(&ending)) {
            paths.push(path.strip_prefix(root)?.to_path_buf());
        }
    }
    Ok(())
}

// === impl Finding ===

impl Finding {
    fn new(file: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_at_the_top_is_found() {
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["README.md", ".gitignore", "key"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let findings: Vec<_> = top(folder.path()).unwrap().into_iter().map(|finding| finding.file).collect();
        assert_eq!(findings, [Path::new("key")]);
    }

    #[test]
    fn the_repository_is_tidy() {
        let (files, findings) = check(root()).unwrap();
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
        assert!(files > 50, "only {files} files were found");
    }
}
