//! The licences of the crates that the program is linked with, with their texts: whoever gives the program away has to.
//!
//! Judges none of them; `cargo deny` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use xshell::{Shell, cmd};

/// What files with a licence begin with, in lower case.
const NAMES: [&str; 5] = ["license", "licence", "copying", "notice", "unlicense"];

/// One text that lists the crates, and each licence text once, with the crates that it is of.
///
/// # Errors
/// When cargo does not say what the program is linked with.
pub(super) fn text(sh: &Shell) -> anyhow::Result<String> {
    // Only those of the program, without tests and build scripts.
    let tree = cmd!(sh, "cargo tree --package understudy --edges normal --prefix none --format")
        .arg("{p}")
        .args(["--locked"])
        .quiet()
        .read()
        .context("failed to list the crates of the program")?;
    let linked: BTreeSet<(String, String)> = tree.lines().filter_map(linked).collect();
    let metadata = cmd!(sh, "cargo metadata --locked --format-version 1").quiet().read()?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is no JSON")?;

    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (field("name"), field("version"));
        // Without a source it is part of this repository.
        if package["source"].is_null() || !linked.contains(&(name.clone(), version.clone())) {
            continue;
        }
        list += &format!("{name} {version}: {}\n", field("license"));
        let manifest = field("manifest_path");
        for text in license_texts(Path::new(&manifest).parent().unwrap_or(Path::new("")))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let mut all = format!("understudy is linked with these crates:\n\n{list}");
    for (text, mut crates) in texts {
        crates.dedup();
        all += &format!("\n{}\n{}:\n\n{text}\n", "-".repeat(72), crates.join(", "));
    }
    Ok(all)
}

/// Name and version in a line such as `aya v0.14.0 (*)`.
fn linked(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    Some((name, words.next()?.strip_prefix('v')?.to_owned()))
}

fn license_texts(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.file_type()?.is_file() {
            texts.insert(String::from_utf8_lossy(&fs::read(entry.path())?).trim().to_owned());
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_names_a_crate() {
        let check = |line, expected: Option<(&str, &str)>| {
            assert_eq!(linked(line), expected.map(|(name, version)| (name.to_owned(), version.to_owned())));
        };
        check("aya v0.14.0 (*)", Some(("aya", "0.14.0")));
        check("understudy v0.1.0 (/somewhere)", Some(("understudy", "0.1.0")));
        check("", None);
    }
}
